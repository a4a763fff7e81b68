"""Validation: what blocks a batch, what counts as a change, and what a pipeline gets to see."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from decimal import Decimal
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from tasks.core.data import source as sources
from tasks.core.data.source import Source
from tasks.core.errors import UnreadableData
from tasks.core.schema import frames
from tasks.core.schema.contract import Contract, infer
from tasks.core.schema.frames import conform, frame
from tasks.core.schema.validation import Validation, validate
from tasks.core.spec import ModelSpec
from tasks.core.types import Check, Verdict
from tests.helpers.training import ROWS, make_spec, put


def check(contract: Contract | None, source: Source, spec: ModelSpec | None = None) -> Validation:
    return validate(contract, source, spec or make_spec())


def change(found: Validation, column: str) -> Check:
    """The check of one column's content."""
    return next(item for item in found.changes if item.name == f"content:{column}")


def spoilt(column: str, values: Any) -> pd.DataFrame:
    """The training rows with the first values of one column replaced."""
    changed = ROWS[column].astype(object)
    changed.iloc[: len(values)] = values
    return ROWS.assign(**{column: changed})


# --- violations that block -----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("frame", "name", "expected"),
    [
        (ROWS.drop(columns="income"), "b.parquet", "column 'income' is missing (expected double)"),
        (ROWS.drop(columns="id"), "b.parquet", "b.parquet: column 'id' is missing"),
        (
            ROWS.assign(age=["old", *["41"] * 199]),
            "b.parquet",
            "column 'age': 200 of 200 values are not a number, for example 'old' (expected int64)",
        ),
        (
            spoilt("age", ["old", "n.a.", "12,5"]),
            "b.csv",
            "column 'age': 3 of 200 values are not a number, for example 'old' (expected int64)",
        ),
        (
            ROWS.assign(age=pd.Timestamp("2026-01-01")),
            "b.parquet",
            "column 'age': 200 of 200 values are not a number, for example datetime.datetime(2026, 1, 1, 0, 0) "
            "(expected int64)",
        ),
        (ROWS.head(0), "b.parquet", "the file has no rows"),
        (ROWS.head(0), "b.csv", "the file has no rows"),
        (ROWS.assign(age=None), "b.parquet", "column 'age': all 200 values are missing (in training 0% were)"),
        (ROWS.assign(age=np.nan), "b.csv", "column 'age': all 200 values are missing (in training 0% were)"),
        (ROWS.assign(city=None), "b.parquet", "column 'city': all 200 values are missing (in training 0% were)"),
        (
            ROWS.rename(columns={"age": ""}),
            "b.parquet",
            "b.parquet: a column has no name; name it, or remove it: column 3",
        ),
        (ROWS.rename(columns={"age": " "}), "b.csv", "b.csv: a column has no name; name it, or remove it: column 3"),
        (ROWS.rename(columns={"age": "city"}), "b.csv", "b.csv: column 'city' is there twice; rename one"),
    ],
)
def test_a_broken_structure_blocks(
    contract: Contract, tmp_path: Path, frame: pd.DataFrame, name: str, expected: str
) -> None:
    """Each kind of structural violation is found and explained, with the column, a count and an example."""
    assert expected in check(contract, put(tmp_path, frame, name)).problems


def test_duplicate_columns_in_parquet_block(contract: Contract, tmp_path: Path) -> None:
    """A Parquet file with two columns of one name is refused: nobody can say which one is meant."""
    table = pa.Table.from_pandas(ROWS, preserve_index=False)
    pq.write_table(table.append_column("city", table.column("age")), tmp_path / "b.parquet")
    assert check(contract, Source(tmp_path, "b.parquet")).problems == (
        "b.parquet: column 'city' is there twice; rename one",
    )


def test_all_violations_are_reported_together(contract: Contract, tmp_path: Path) -> None:
    """Whoever has to repair a file sees everything that is wrong with it at once."""
    broken = spoilt("age", ["old"]).drop(columns="income").assign(member="maybe", city=None)
    problems = check(contract, put(tmp_path, broken, "b.csv")).problems
    assert [problem.split("'")[1] for problem in problems[:-1]] == ["income", "age", "city", "member"]
    assert problems[-1] == "b.csv: if 'old' in 'age' means missing, set `missing = [\"old\"]` under [data.csv]"


def test_without_a_contract_the_plain_violations_are_seen(tmp_path: Path) -> None:
    """Before the first version a file is still refused for what needs no contract to be seen."""
    assert check(None, put(tmp_path, ROWS, "a.parquet")) == Validation(200, (), ())
    assert check(None, put(tmp_path, ROWS.head(0), "b.parquet")).problems == ("the file has no rows",)
    assert "'id' is missing" in check(None, put(tmp_path, ROWS.drop(columns="id"), "c.csv")).problems[0]


def cut(data: bytes, kind: str) -> bytes:
    """The beginning of a file: half of it, all but its last character, or nothing."""
    return {"half": data[: len(data) // 2], "last field": data[:-2], "nothing": b""}[kind]


@pytest.mark.parametrize("kind", ["half", "last field", "nothing"])
@pytest.mark.parametrize("name", ["b.parquet", "b.csv"])
def test_a_cut_file_is_unreadable(contract: Contract, tmp_path: Path, name: str, kind: str) -> None:
    """A file that was cut short, wherever, is refused as a whole; what is left of it is never taken for the data."""
    put(tmp_path, ROWS, name)
    (tmp_path / name).write_bytes(cut((tmp_path / name).read_bytes(), kind))
    with pytest.raises(UnreadableData, match=name) as caught:
        check(contract, Source(tmp_path, name))
    assert caught.value.exit_code == 3


def test_a_csv_line_with_too_few_fields_is_unreadable(contract: Contract, tmp_path: Path) -> None:
    """A line that lacks fields is refused by its number, without showing what is in it."""
    put(tmp_path, ROWS, "b.csv")
    with (tmp_path / "b.csv").open("a") as file:
        file.write("7-secret,0.5\n")
    with pytest.raises(UnreadableData, match="malformed") as caught:
        check(contract, Source(tmp_path, "b.csv"))
    assert "secret" not in str(caught.value)


def test_a_file_of_another_kind_is_unreadable(contract: Contract, tmp_path: Path) -> None:
    """A file whose name says Parquet and whose bytes do not is refused."""
    (tmp_path / "b.parquet").write_text("id,income\n1,2\n")
    with pytest.raises(UnreadableData, match="not Parquet"):
        check(contract, Source(tmp_path, "b.parquet"))


def test_a_column_that_training_hardly_had_may_be_missing(tmp_path: Path) -> None:
    """A column that was mostly missing in training does not block when it is missing wholly."""
    sparse = ROWS.assign(income=[1.0, 2.0, *[np.nan] * 198])
    contract = infer([put(tmp_path, sparse, "training.parquet")], make_spec())
    found = check(contract, put(tmp_path, ROWS.assign(income=np.nan)))
    assert found.problems == ()
    assert change(found, "income").verdict is Verdict.PASS


def test_private_columns_show_no_example(contract: Contract, tmp_path: Path) -> None:
    """Values of a private column never appear in a message, neither in violations nor in changes of content."""
    private = make_spec(data={"batches": "*", "private": ["age", "city"]})
    broken = spoilt("age", ["secret one"]).assign(city="secret town")
    found = check(contract, put(tmp_path, broken, "b.csv"), private)
    assert found.problems == ("column 'age': 1 of 200 values are not a number (expected int64)",)
    assert change(found, "city").verdict is Verdict.FAIL
    assert "secret" not in repr(found)
    assert "secret" in repr(check(contract, Source(tmp_path, "b.csv")))


# --- changes of content --------------------------------------------------------------------------------------


def test_infinities_are_counted_and_read_as_missing(contract: Contract, tmp_path: Path) -> None:
    """Infinite values do not block: they are reported, and a pipeline sees them as missing."""
    source = put(tmp_path, ROWS.assign(income=[np.inf, -np.inf, *[0.5] * 198]))
    found = check(contract, source)
    assert found.problems == ()
    assert change(found, "income").verdict is Verdict.WARN
    assert "2 infinite values" in change(found, "income").summary
    assert frame(contract, source)["income"].isna().tolist() == [True, True, *[False] * 198]


@pytest.mark.parametrize("ending", ["parquet", "csv"])
@pytest.mark.parametrize("far", [1e258, -1e6])
def test_one_value_far_from_all_others(contract: Contract, tmp_path: Path, far: float, ending: str) -> None:
    """A single number of another order is said, with its value, unless the column is private or grows."""
    source = put(tmp_path, ROWS.assign(income=[far, *[0.5] * 199]), f"b.{ending}")
    found = check(contract, source)
    assert found.problems == ()
    assert change(found, "income").verdict is Verdict.WARN
    said = "1 value is more than 1,000 times the width of training's range away from it"
    assert said in change(found, "income").summary and "for example" in change(found, "income").summary
    private = check(contract, source, make_spec(data={"batches": "*", "private": ["income"]}))
    assert said in change(private, "income").summary and "for example" not in change(private, "income").summary
    assert change(check(contract, source, make_spec(growing=["income"])), "income").verdict is Verdict.PASS


@pytest.mark.parametrize(("missing", "verdict"), [(20, Verdict.PASS), (60, Verdict.FAIL)])
def test_more_missing_values_are_a_change(contract: Contract, tmp_path: Path, missing: int, verdict: Verdict) -> None:
    """A share of missing values far beyond training's is a change, a little more is not, and neither blocks."""
    found = check(contract, put(tmp_path, spoilt("city", [None] * missing)))
    assert found.problems == ()
    assert change(found, "city").verdict is verdict


@pytest.mark.parametrize(("usual", "verdict"), [(0, Verdict.FAIL), (30, Verdict.PASS)])
def test_new_categories_are_tolerated_as_far_as_training_brought_them(
    tmp_path: Path, usual: int, verdict: Verdict
) -> None:
    """Where each training batch brought new categories, so may the next one; elsewhere they are a change."""
    batches = [
        put(tmp_path, spoilt("city", [f"{number}-{i}" for i in range(usual)]), f"{number}.parquet")
        for number in range(3)
    ]
    contract = infer(batches, make_spec())
    found = check(contract, put(tmp_path, spoilt("city", ["Hamar"] * 25)))
    assert found.problems == ()
    assert change(found, "city").verdict is verdict
    assert ("such as 'Hamar'" in change(found, "city").summary) is (verdict is Verdict.FAIL)


OUTSIDE = ROWS.assign(age=[1000] * 60 + ROWS["age"].tolist()[60:])


@pytest.mark.parametrize(
    ("changes", "options", "verdict", "ending"),
    [
        ({}, {}, Verdict.FAIL, "30% outside the training range 18 to 79"),
        ({"growing": ["age"]}, {}, Verdict.PASS, "0.0% missing"),
        ({"checks": {"range_floor": 0.4}}, {}, Verdict.PASS, "0.0% missing; 30.0% outside the training range"),
        ({"data": {"batches": "*", "private": ["age"]}}, {}, Verdict.FAIL, "30% outside the training range"),
        ({}, {"excused": {"age": "expected: Christmas"}}, Verdict.WARN, "18 to 79, but expected: Christmas"),
        ({}, {"excused": {"city": "expected: Christmas"}}, Verdict.FAIL, "18 to 79"),
        ({}, {"weights": {"age": 0.009}}, Verdict.WARN, "18 to 79, but the model hardly uses it"),
        ({}, {"weights": {"age": 0.01, "city": 0.0}}, Verdict.FAIL, "18 to 79"),
    ],
)
def test_values_out_of_range(
    contract: Contract,
    tmp_path: Path,
    changes: dict[str, Any],
    options: dict[str, Any],
    verdict: Verdict,
    ending: str,
) -> None:
    """Many values beyond those of training are a change that blocks nothing, unless the column grows, a floor or a
    person says that it was to be expected, or the model hardly uses it."""
    found = validate(contract, put(tmp_path, OUTSIDE), make_spec(**changes), **options)
    assert found.problems == ()
    assert change(found, "age").verdict is verdict
    assert change(found, "age").summary.startswith("age: ")
    assert change(found, "age").summary.endswith(ending)


def test_missing_values_are_never_excused(contract: Contract, tmp_path: Path) -> None:
    """That something was expected explains other values, not their absence: both are said, and one of them alarms."""
    changed = spoilt("city", [None] * 80)
    changed.loc[100:, "city"] = "Hamar"
    found = validate(contract, put(tmp_path, changed), make_spec(), excused={"city": "expected: Christmas"})
    check = change(found, "city")
    assert check.verdict is Verdict.FAIL
    assert check.summary == (
        "city: 40% missing, in training at most 0%; 83% in categories not seen in training such as 'Hamar', "
        "but expected: Christmas"
    )


@pytest.mark.parametrize("column", ["income", "age", "city"])
@pytest.mark.parametrize(("rows", "verdict"), [(1, Verdict.PASS), (2, Verdict.PASS), (200, Verdict.FAIL)])
def test_a_few_rows_are_no_evidence(
    contract: Contract, tmp_path: Path, column: str, rows: int, verdict: Verdict
) -> None:
    """What a single row brings may be chance, at any rate; the same share of many rows is not."""
    odd = {"income": None, "age": 15, "city": "Hamar"}[column]
    every = ROWS.assign(**{column: [odd, *ROWS[column].tolist()[1:]]}) if rows < 3 else spoilt(column, [odd] * 120)
    found = check(contract, put(tmp_path, every.head(rows)))
    assert found.problems == ()
    assert change(found, column).verdict is verdict
    assert ("may be chance" in change(found, column).summary) is (rows < 3)


def test_thresholds_follow_the_number_of_rows(tmp_path: Path) -> None:
    """A rate a little beyond its limit alarms when thousands of rows show it, and not when a hundred do; the check
    holds the aspect that is nearest its alarm."""
    contract = infer([put(tmp_path, ROWS, "1.parquet")], make_spec())
    few = spoilt("city", [None] * 24)
    many = pd.concat([few] * 50, ignore_index=True)
    for rows, verdict in ((few, Verdict.PASS), (many, Verdict.FAIL)):
        found = change(check(contract, put(tmp_path, rows, "b.parquet")), "city")
        assert (found.verdict, found.value, found.threshold) == (verdict, 0.12, 0.1)


def test_the_range_of_earlier_releases_is_not_judged(contract: Contract, tmp_path: Path) -> None:
    """A version that did not record how far its training batches went beyond each other has no limit to hold to."""
    old = replace(contract, features=tuple(replace(column, outside_peak=None) for column in contract.features))
    assert change(check(old, put(tmp_path, OUTSIDE)), "age").verdict is Verdict.PASS


# --- what a pipeline sees ------------------------------------------------------------------------------------


def arrow(column: str, kind: pa.DataType) -> Callable[[pd.DataFrame], pa.Table]:
    """The rows with one column written as another Arrow type."""

    def convert(rows: pd.DataFrame) -> pa.Table:
        table = pa.Table.from_pandas(rows, preserve_index=False)
        place = table.column_names.index(column)
        return table.set_column(place, column, table.column(column).cast(kind))

    return convert


LOSSLESS: dict[str, Callable[[pd.DataFrame], Any]] = {
    "nullable integers": lambda rows: rows.astype({"age": "Int64"}),
    "small integers": lambda rows: rows.astype({"age": "uint8"}),
    "integers as floats": lambda rows: rows.astype({"age": float}),
    "decimals": lambda rows: rows.assign(age=[Decimal(str(age)) for age in rows["age"]]),
    "nullable booleans": lambda rows: rows.astype({"member": "boolean"}),
    "booleans as integers": lambda rows: rows.astype({"member": int}),
    "categories": lambda rows: rows.astype({"city": "category"}),
    "pandas strings": lambda rows: rows.astype({"city": "string"}),
    "large strings": arrow("city", pa.large_string()),
    "string views": arrow("city", pa.string_view()),
    "other order": lambda rows: rows[rows.columns[::-1]],
    "one more column": lambda rows: rows.assign(extra="x"),
}


@pytest.mark.parametrize("kind", LOSSLESS)
def test_lossless_types_give_the_same_frame(contract: Contract, tmp_path: Path, kind: str) -> None:
    """Whatever type a file holds its values in, if nothing is lost a pipeline sees what it saw in training."""
    rows = ROWS.assign(income=ROWS["income"].astype("float32").astype(float))
    expected = frame(contract, put(tmp_path, rows, "a.parquet"))
    made = LOSSLESS[kind](rows)
    table = made if isinstance(made, pa.Table) else pa.Table.from_pandas(made, preserve_index=False)
    pq.write_table(table, tmp_path / "b.parquet")
    source = Source(tmp_path, "b.parquet")
    assert check(contract, source).problems == ()
    pd.testing.assert_frame_equal(frame(contract, source), expected)
    if isinstance(made, pd.DataFrame):
        pd.testing.assert_frame_equal(conform(contract, made), expected)
    trained_on_it = infer([source], make_spec(features=contract.names))
    pd.testing.assert_frame_equal(frame(trained_on_it, source), expected)


def test_short_floats_are_widened(contract: Contract, tmp_path: Path) -> None:
    """Single precision is read as the same numbers in double precision, and the change of type is reported."""
    short = ROWS.astype({"income": "float32"})
    source = put(tmp_path, short)
    found = check(contract, source)
    assert found.problems == ()
    assert found.coercions == ("income: float read as number",)
    assert frame(contract, source)["income"].tolist() == pytest.approx(
        short["income"].astype(float).tolist(), rel=0, nan_ok=True
    )


def test_integers_that_became_floats_stay_the_same_codes(tmp_path: Path) -> None:
    """A code column in which one value is missing holds 7.0 instead of 7, and both are the category 7."""
    spec = make_spec(categorical=["age"])
    contract = infer([put(tmp_path, ROWS, "training.parquet")], spec)
    expected = ROWS["age"].astype(str).tolist()
    for name in ("b.parquet", "b.csv"):
        source = put(tmp_path, ROWS.assign(age=[np.nan, *ROWS["age"][1:]]), name)
        assert validate(contract, source, spec).problems == ()
        assert frame(contract, source)["age"].tolist()[1:] == expected[1:], name
        assert frame(contract, source)["age"].isna()[0]


@pytest.mark.parametrize("column", ["age", "member", "city"])
@pytest.mark.parametrize("first", ["a.parquet", "a.csv"])
def test_csv_and_parquet_give_the_same_frame(tmp_path: Path, first: str, column: str) -> None:
    """A model trained on one format reads the other one alike, also for columns that are declared to be names."""
    spec = make_spec(categorical=[column])
    sources = [put(tmp_path, ROWS, "a.parquet"), put(tmp_path, ROWS, "a.csv")]
    contract = infer([source for source in sources if source.path == first], spec)
    assert [validate(contract, source, spec).problems for source in sources] == [(), ()]
    parquet, csv = (frame(contract, source) for source in sources)
    pd.testing.assert_frame_equal(parquet, csv)


@pytest.mark.parametrize("text", ["+5", "5.", ".5", "5e-1", "1E+5", " 5 ", "inf", "-Infinity"])
def test_numbers_in_text_files(contract: Contract, tmp_path: Path, text: str) -> None:
    """Every common way to write a number in a text file is read as that number."""
    source = put(tmp_path, spoilt("income", [text]), "b.csv")
    assert check(contract, source).problems == ()
    expected = float(text) if np.isfinite(float(text)) else np.nan
    assert frame(contract, source)["income"].iloc[0] == pytest.approx(expected, rel=0, nan_ok=True)


@pytest.mark.parametrize("number", [2**53 + 1, 2**60])
@pytest.mark.parametrize("name", ["b.parquet", "b.csv"])
def test_numbers_that_would_lose_digits_are_refused(contract: Contract, tmp_path: Path, name: str, number: int) -> None:
    """An integer that a pipeline's floats cannot hold is refused instead of being rounded."""
    (problem,) = check(contract, put(tmp_path, ROWS.assign(age=[number, *ROWS["age"][1:]]), name)).problems
    shown = number if name.endswith("parquet") else repr(str(number))
    assert problem == (
        f"column 'age': 1 of 200 values have more digits than a number keeps, for example {shown} (expected int64); "
        "declare it under `categorical` if it is a name"
    )


def test_only_chosen_rows_are_converted(contract: Contract, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Of a large batch no more values are made than were asked for."""
    made: list[int] = []
    convert = frames.canonical
    monkeypatch.setattr(frames, "canonical", lambda *a: made.append(len(a[1])) or convert(*a))
    monkeypatch.setattr(sources, "CHUNK_ROWS", 50)
    frame(contract, put(tmp_path, ROWS), np.array([3, 7, 199]))
    assert sum(made) == 3 * len(contract.names)


@pytest.mark.parametrize("rows", [[], [0], [3, 7, 199]])
def test_single_rows_of_a_batch(contract: Contract, tmp_path: Path, rows: list[int]) -> None:
    """A frame of chosen rows holds exactly those."""
    source = put(tmp_path, ROWS)
    whole, part = frame(contract, source), frame(contract, source, np.array(rows, dtype=int))
    pd.testing.assert_frame_equal(part, whole.iloc[rows].reset_index(drop=True))
