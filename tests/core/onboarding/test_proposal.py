"""A model's file read off its data: what is taken for task, key, time, and what no pipeline can use."""

from __future__ import annotations

import tomllib
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest

from tasks.core.data.source import Source
from tasks.core.errors import InvalidRequest
from tasks.core.onboarding.proposal import FEW, Proposal, as_toml, propose
from tasks.core.spec import CsvSpec, parse_spec
from tests.helpers.training import put

ROWS = 300


@pytest.fixture
def data() -> pd.DataFrame:
    rng = np.random.default_rng(0)
    return pd.DataFrame(
        {
            "loan_id": np.arange(ROWS) + 7,
            "applied": pd.date_range("2026-01-01", periods=ROWS, freq="h"),
            "income": rng.normal(50, 9, ROWS),
            "branch": rng.integers(1, 9, ROWS),
            "city": rng.choice(["Oslo", "Bergen", None], ROWS),
            "defaulted": rng.integers(0, 2, ROWS),
        }
    )


def proposed(folder: Path, frame: pd.DataFrame, target: str, ending: str = "parquet") -> Proposal:
    path = folder / f"batch.{ending}"
    if ending == "parquet":
        frame.to_parquet(path, index=False)
        return propose(Source(folder, path.name), target)
    written = CsvSpec(separator=";", decimal=",")
    frame.to_csv(path, index=False, sep=";", decimal=",")
    return propose(Source(folder, path.name, written), target)


@pytest.mark.parametrize("ending", ["parquet", "csv"])
def test_what_a_plain_table_suggests(tmp_path: Path, data: pd.DataFrame, ending: str) -> None:
    """Key, time, task and possible codes are found alike in Parquet and in a CSV file of another country; the text that
    comes of it is a valid model's file."""
    found = proposed(tmp_path, data, "defaulted", ending)
    assert (found.task, found.key, found.time, found.rows) == ("binary", ("loan_id",), "applied", ROWS)
    assert (found.features, found.unused, found.codes) == (None, (), ("branch",))
    text = as_toml(found, name="loans", batches="data/loans/batches/*", origin="batch", owner='O"Neill\n\x7f')
    spec = parse_spec(tomllib.loads(text), "loans.toml")
    assert (spec.task, spec.target, spec.key, spec.time) == ("binary", "defaulted", "loan_id", "applied")
    assert (spec.owner, spec.categorical) == ('O"Neill\n\x7f', ())
    assert tomllib.loads(text.replace("# categorical", "categorical"))["categorical"] == ["branch"]


@pytest.mark.parametrize(
    ("values", "task"),
    [
        ([True, False], "binary"),
        (["yes", "no", None], "binary"),
        ([0.0, 1.0, np.nan], "binary"),
        (["low", "middle", "high"], "multiclass"),
        ([1, 2, 3, 4], "multiclass"),
        ([0.5, 1.5, 2.5], "regression"),
        (range(FEW + 1), "regression"),
    ],
)
def test_the_task_is_what_the_target_looks_like(tmp_path: Path, data: pd.DataFrame, values: Any, task: str) -> None:
    """Two values are two classes; words, and few whole numbers, are classes; other numbers are amounts."""
    data["y"] = pd.Series(list(values) * ROWS).head(ROWS)
    assert proposed(tmp_path, data, "y").task == task


def test_what_no_pipeline_can_use_is_left_out(tmp_path: Path, data: pd.DataFrame) -> None:
    """Further dates, nested values, empty columns of no type and texts of their own are named with the reason, and the
    features are listed without them."""
    data["born"] = data["applied"][::-1].to_numpy()
    data["tags"] = [["a"]] * ROWS
    data["remark"] = [f"remark {number % 290}" for number in range(ROWS)]
    data["nothing"] = None
    found = proposed(tmp_path, data, "defaulted")
    assert [name for name, _ in found.unused] == ["born", "tags", "remark", "nothing"]
    assert found.features == ("income", "branch", "city")
    text = as_toml(found, name="loans", batches="b/*", origin="batch", owner="me")
    assert parse_spec(tomllib.loads(text), "x").features == found.features
    assert "# Left out: born, a date" in text


def test_a_key_is_called_like_one(tmp_path: Path, data: pd.DataFrame) -> None:
    """A number that merely differs in every row is an amount, and a time that repeats is time all the same."""
    data = data.rename(columns={"loan_id": "balance"}).assign(applied=pd.Timestamp("2026-01-01"))
    found = proposed(tmp_path, data, "defaulted")
    assert (found.key, found.time) == ((), "applied")
    text = as_toml(found, name="loans", batches="b/*", origin="batch", owner="me")
    assert parse_spec(tomllib.loads(text), "x").key is None


@pytest.mark.parametrize(
    ("target", "words"),
    [
        ("defaultet", "Did you mean 'defaulted'?"),
        ("same", "one value only, in 300 rows"),
        ("never", "no values"),
        ("applied", "is of type day"),
        ("remark", "300 different words"),
    ],
)
def test_what_cannot_be_learned_is_refused(tmp_path: Path, data: pd.DataFrame, target: str, words: str) -> None:
    """A target that is not there, constant, empty, a date or free text: the reason is said."""
    data = data.assign(same=1, never=np.nan, remark=[f"no. {number}" for number in range(ROWS)])
    with pytest.raises(InvalidRequest, match=words.replace("?", r"\?")):
        proposed(tmp_path, data, target)


@pytest.mark.parametrize(
    ("ending", "keys", "lines"),
    [
        ("parquet", list(range(100, 140)), ['key_kind = "integer"']),
        ("csv", list(range(100, 140)), ['key_kind = "integer"']),
        ("parquet", [str(i) for i in range(100, 140)], ['key_kind = "text"']),
        ("csv", [f"A{i}" for i in range(40)], ['key_kind = "text"']),
        ("csv", [f"{i:06d}" for i in range(40)], ['key_kind = "text"', "# key_width = 6"]),
        ("parquet", [f"{i:06d}" for i in range(40)], ['key_kind = "text"', "# key_width = 6"]),
        ("csv", [f"{i:02d}" for i in range(80, 120)], ['key_kind = "integer"']),
        ("csv", [f"0{i}" for i in range(80, 120)], ['key_kind = "text"']),
    ],
    ids=["integers", "digits", "text", "names", "zeros in CSV", "zeros", "of two lengths", "zeros of two lengths"],
)
def test_the_kind_of_the_key_is_written(tmp_path: Path, ending: str, keys: list[Any], lines: list[str]) -> None:
    """What keys are stands in the file; that zeros may be restored is offered where all have one width."""
    frame = pd.DataFrame({"loan_id": keys, "x": [1.5, 2, 0, 7] * 10, "y": [0, 1] * 20})
    text = as_toml(propose(put(tmp_path, frame, f"b.{ending}"), "y"), name="m", batches="*", origin="b", owner="me")
    found = [
        line.partition("  #")[0].rstrip() for line in text.splitlines() if "key_kind" in line or "key_width" in line
    ]
    assert found == lines


def panel(first: str, times: list[Any], second: str = "month", entities: int = 30) -> pd.DataFrame:
    """The same entities at each of these times."""
    rng = np.random.default_rng(4)
    rows = pd.DataFrame([(entity, time) for time in times for entity in range(100, 100 + entities)])
    rows.columns = pd.Index([first, second])
    return rows.assign(x=rng.normal(size=len(rows)), y=rng.integers(0, 2, len(rows)))


@pytest.mark.parametrize("ending", ["parquet", "csv"])
@pytest.mark.parametrize(
    ("rows", "key", "kinds", "features"),
    [
        (panel("customer_id", ["2026-01", "2026-02", "2026-03"]), ("customer_id", "month"), ("integer", "time"), ["x"]),
        (
            panel("station_id", list(range(24)), "hour"),
            ("station_id", "hour"),
            ("integer", "integer"),
            ["hour", "x"],
        ),
        (
            panel("invoice_no", [1, 2, 3], "line_no"),
            ("invoice_no", "line_no"),
            ("integer", "integer"),
            ["line_no", "x"],
        ),
    ],
    ids=["customers by month", "stations by hour", "invoices by line"],
)
def test_two_columns_that_name_a_row_together(
    tmp_path: Path, ending: str, rows: pd.DataFrame, key: tuple[str, ...], kinds: tuple[str, ...], features: list[str]
) -> None:
    """Where a column that is called like a key comes again, the one beside which it does not is found; an hour or a
    line stays a feature."""
    found = propose(put(tmp_path, rows, f"b.{ending}"), "y")
    assert (found.key, found.key_kinds, list(found.features or [])) == (key, kinds, features)
    text = as_toml(found, name="m", batches="*", origin="b", owner="me")
    spec = parse_spec(tomllib.loads(text), "m.toml")
    assert (spec.key, spec.key_kind) == (key, kinds)


def test_a_key_that_comes_again_is_no_key(tmp_path: Path, data: pd.DataFrame) -> None:
    """Where nothing tells its rows apart but an amount, or a time that differs anyway, the file says so."""
    rows = data.assign(loan_id=np.arange(ROWS) // 2)
    found = proposed(tmp_path, rows, "defaulted")
    assert (found.key, found.comes_again) == ((), "loan_id")
    text = as_toml(found, name="m", batches="*", origin="b", owner="me")
    assert '# key = ["loan_id", "..."]      # loan_id comes again: add what tells its rows apart' in text
    assert parse_spec(tomllib.loads(text), "m.toml").key is None
