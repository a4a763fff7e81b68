"""The contract: what is inferred from training data, whatever they look like."""

from __future__ import annotations

import string
import tempfile
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
from hypothesis import Phase, given, settings
from hypothesis import strategies as st
from hypothesis.extra import pandas as frames_of

from tasks.core.errors import DataError
from tasks.core.schema.contract import Contract, infer
from tasks.core.schema.frames import frame
from tasks.core.schema.validation import validate
from tests.helpers.training import ROWS, make_spec, put


def test_the_contract_describes_the_training_data(contract: Contract) -> None:
    """Kind, type, missing share, range and categories are those of the training rows; target and key are set aside."""
    income, age, city, member = contract.features
    assert [column.kind for column in contract.features] == ["number", "number", "category", "boolean"]
    assert (contract.rows, contract.ignored) == (200, ("id", "y"))
    assert income.null_rate == income.null_peak == ROWS["income"].isna().mean()
    assert (age.low, age.high, age.type) == (ROWS["age"].min(), ROWS["age"].max(), "int64")
    assert city.categories == tuple(ROWS["city"].value_counts().index)
    assert (member.low, member.high) == (0.0, 1.0)


def test_many_categories_are_capped(tmp_path: Path) -> None:
    """A contract lists at most 200 categories and remembers what share of the rows the others were."""
    many = ROWS.assign(city=[f"town {row // 2}" if row < 100 else f"village {row}" for row in range(200)])
    more = many.assign(city="village " + many.index.astype(str))
    (city,) = infer(
        [put(tmp_path, many, "1.parquet"), put(tmp_path, more, "2.parquet")], make_spec(features=["city"])
    ).features
    assert city.categories is not None
    assert len(city.categories) == 200
    assert city.other_share == pytest.approx(50 / 400)


def test_dates_are_text_where_they_are_listed(tmp_path: Path) -> None:
    """A pipeline may make numbers of them; without a list of features they are set aside, as nobody asked for them."""
    days = pd.date_range("2026-01-01", periods=200, freq="h")
    source = put(tmp_path, ROWS.assign(at=days))
    assert "at" in infer([source], make_spec()).ignored
    contract = infer([source], make_spec(features=["age", "at"]))
    assert contract.features[1].kind == "category"
    seen = frame(contract, source)["at"]
    assert pd.to_datetime(seen).tolist() == days.tolist()
    missing = put(tmp_path, ROWS.assign(at=days.where(days.hour > 0)), "2.parquet")
    assert frame(contract, missing)["at"].isna().sum() == 9
    found = validate(contract, missing, make_spec(features=["age", "at"], growing=["at"]))
    assert found.problems == () and not [check for check in found.changes if "not seen" in check.summary]
    words = put(tmp_path, ROWS.assign(at="a"), "3.parquet")
    days_for_words = validate(infer([words], make_spec(features=["at"])), source, make_spec(features=["at"]))
    assert "200 of 200 values are not a category" in days_for_words.problems[0]


@pytest.mark.parametrize("value", [pd.Timedelta("1h"), [1, 2], {"a": 1}, b"bytes"])
def test_values_that_no_pipeline_can_use_are_no_features(tmp_path: Path, value: Any) -> None:
    """Durations and nested values are set aside, and refused with advice where they are listed as features."""
    source = put(tmp_path, ROWS.assign(odd=[value] * 200))
    contract = infer([source], make_spec())
    assert ("odd" in contract.names, "odd" in contract.ignored) == (False, True)
    with pytest.raises(DataError, match=r"column 'odd' is .*leave it out"):
        infer([source], make_spec(features=["age", "odd"]))


@pytest.mark.parametrize("other", [ROWS.assign(extra=1), ROWS.drop(columns="city")])
def test_features_are_the_columns_of_every_batch(tmp_path: Path, other: pd.DataFrame) -> None:
    """A column that some batches have and others lack is set aside: it must not break the next training."""
    sources = [put(tmp_path, ROWS, "1.parquet"), put(tmp_path, other, "2.parquet")]
    shared = [name for name in ROWS if name in other and name not in ("id", "y")]
    for batches in (sources, sources[::-1]):
        contract = infer(batches, make_spec())
        assert contract.names == shared
        assert set(contract.ignored) == {*ROWS, *other} - set(shared)
        assert [validate(contract, source, make_spec()).problems for source in batches] == [(), ()]


@pytest.mark.parametrize(
    ("rows", "changes", "message"),
    [
        (ROWS, {"categorical": ["colour"]}, r"categorical names \['colour'\]"),
        (ROWS, {"features": ["colour"]}, "column 'colour' is missing"),
        (ROWS[["id", "y"]], {}, "no feature columns"),
    ],
)
def test_training_data_without_a_contract(
    tmp_path: Path, rows: pd.DataFrame, changes: dict[str, Any], message: str
) -> None:
    """Data that no contract can be made of are refused with the column and the reason."""
    with pytest.raises(DataError, match=message):
        infer([put(tmp_path, rows)], make_spec(**changes))


LETTERS = st.characters(exclude_characters="\r", exclude_categories=["Cs"])
"""pandas writes a carriage return without quotes, which ends the line for whoever reads it."""

COLUMNS = st.sampled_from(
    [
        frames_of.column("n", elements=st.floats(allow_subnormal=False) | st.none(), dtype=float),
        frames_of.column("i", elements=st.integers(1 - 2**53, 2**53 - 1), dtype="int64"),
        frames_of.column("u", elements=st.integers(0, 255), dtype="uint8"),
        frames_of.column("b", elements=st.booleans(), dtype=bool),
        frames_of.column("m", elements=st.none() | st.booleans(), dtype=object),
        frames_of.column("t", elements=st.none() | st.text(LETTERS, max_size=6), dtype=object),
        frames_of.column("w", elements=st.none() | st.sampled_from(["1", "2.5", "true", "x"]), dtype=object),
        frames_of.column("e", elements=st.none(), dtype=object),
    ]
)
TABLES = st.lists(COLUMNS, min_size=1, unique_by=lambda column: column.name).flatmap(
    lambda columns: frames_of.data_frames(columns, index=frames_of.range_indexes(min_size=1, max_size=30))
)


@settings(max_examples=60, deadline=None, derandomize=True, phases=[Phase.generate])
@given(TABLES, st.sampled_from(["parquet", "csv"]), st.sets(st.sampled_from("niubmtwe")))
def test_training_data_satisfy_their_own_contract(rows: pd.DataFrame, ending: str, categorical: set[str]) -> None:
    """Whatever the data, the contract that is inferred from them accepts them, and gives one value per cell."""
    spec = make_spec(key=None, categorical=sorted(categorical & set(rows.columns)))
    with tempfile.TemporaryDirectory() as folder:
        source = put(Path(folder), rows, f"rows.{ending}")
        contract = infer([source], spec)
        found = validate(contract, source, spec)
        assert found.problems == ()
        assert found.rows == len(frame(contract, source)) == len(rows)
        assert not [item.summary for item in found.changes if "not seen" in item.summary]


def is_free(name: str) -> bool:
    """Not blank, and not one of those that are refused as ours."""
    return bool(name.strip()) and not name.startswith("ror:")


@settings(max_examples=40, deadline=None, derandomize=True)
@given(st.lists(st.text(string.printable, min_size=1, max_size=5).filter(is_free), min_size=1, unique=True))
def test_column_names_do_not_matter(names: list[str]) -> None:
    """A column may have any name: brackets, dots, quotes or line breaks in it change nothing."""
    rows = pd.DataFrame({name: [float(place), 1.0] for place, name in enumerate(names)})
    spec = make_spec(key=None, target="the answer")
    with tempfile.TemporaryDirectory() as folder:
        source = put(Path(folder), rows, "rows.parquet")
        contract = infer([source], spec)
        assert validate(contract, source, spec).problems == ()
        pd.testing.assert_frame_equal(frame(contract, source), rows)


@pytest.mark.parametrize("name", ["ror:score", "ror:prediction", "the prediction", "the target"])
def test_names_of_ours_are_no_features(tmp_path: Path, name: str) -> None:
    """A feature that is called like something of ours would stand for it: it is refused by name, or left out."""
    source = put(tmp_path, ROWS.assign(**{name: 1.0}))
    with pytest.raises(DataError, match=rf"\['{name}'\] are called like something of ours: rename"):
        infer([source], make_spec())
    assert infer([source], make_spec(features=["age"])).names == ["age"]
