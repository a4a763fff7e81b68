"""Columns of first data as a person sees them: row numbers, ids, clocks and dates are no features, and why."""

from __future__ import annotations

import tomllib
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest

from tasks.core.errors import InvalidRequest
from tasks.core.onboarding.proposal import Proposal, as_toml, propose
from tasks.core.spec import ModelSpec, parse_spec
from tests.helpers.training import put

ROWS = 200
DAYS = pd.date_range("2026-01-01", periods=ROWS, freq="D")


def seen(folder: Path, ending: str = "csv", **columns: Any) -> Proposal:
    """What is proposed for a plain table with these columns beside others."""
    rng = np.random.default_rng(0)
    plain = {"x": rng.normal(size=ROWS), "city": rng.choice(["Oslo", "Bergen"], ROWS), "y": rng.integers(0, 2, ROWS)}
    return propose(put(folder, pd.DataFrame({**columns, **plain}), f"b.{ending}"), "y")


def text_of(found: Proposal) -> str:
    return as_toml(found, name="m", batches="*", origin="b", owner="me")


def spec_of(found: Proposal) -> ModelSpec:
    """Whatever is proposed is a valid model's file."""
    return parse_spec(tomllib.loads(text_of(found)), "m.toml")


@pytest.mark.parametrize("ending", ["csv", "parquet"])
@pytest.mark.parametrize(
    ("name", "values", "why"),
    [
        ("Unnamed: 0", range(ROWS), "the row numbers of a table"),
        ("index", [f"r{row}" for row in range(ROWS)], "the row numbers of a table"),
        ("", range(7, 7 + ROWS), "a column without a name"),
        ("instant", range(1, ROWS + 1), "counts the rows from 1"),
        ("sequence", range(ROWS), "counts the rows from 0"),
        ("ticket_no", np.random.default_rng(1).permutation(ROWS) * 7, "an id: every row has its own"),
        ("shuffled", np.random.default_rng(1).permutation(ROWS), "an id: every row has its own"),
        ("customer_id", np.arange(ROWS) // 3 * 11, "an id: 67 different numbers"),
        ("remark", [f"said {row}" for row in range(ROWS)], "text that nearly every row has of its own"),
        ("timestamp", 1_767_225_600 + np.arange(ROWS)[::-1] * 3600, "a clock, seconds since 1970"),
        ("born", DAYS[::-1].strftime("%d.%m.%Y"), "a date, written like 31.12.2026"),
        ("due", DAYS[::-1].strftime("%m/%d/%Y"), "a date, written like 12/31/2026"),
        ("datekey", DAYS[::-1].strftime("%Y%m%d").astype(int), "a date, written like 20261231"),
        ("seen", DAYS[::-1].strftime("%b %d, %Y"), "a date, written like Dec 31, 2026"),
        ("called", [f"{row % 24}:{row % 60:02d}" for row in range(ROWS)], "a time of day: derive the hour"),
        ("either", [f"0{row % 9 + 1}/0{row % 7 + 1}/2026" for row in range(ROWS)], "dates whose day and month cannot"),
    ],
)
def test_what_is_no_feature(tmp_path: Path, ending: str, name: str, values: Any, why: str) -> None:
    """It is left out with the reason, which the file says as well; all else stays a feature."""
    first = {"id": [f"k{row}" for row in range(ROWS)], "at": DAYS}
    found = seen(tmp_path, ending, **first, **{name: values})
    assert [column for column, _ in found.unused] == [name] and dict(found.unused)[name].startswith(why)
    assert spec_of(found).features == ("x", "city") and f"# Left out: {name or repr(name)}, {why}" in text_of(found)


@pytest.mark.parametrize(
    ("name", "values"),
    [
        ("balance", np.random.default_rng(1).permutation(ROWS) * 97),
        ("year", np.arange(ROWS) % 30 + 1990),
        ("branch_id", np.arange(ROWS) % 15),
        ("population", 1_000_000_000 + np.random.default_rng(1).integers(0, 10**9, ROWS)),
        ("hour", [f"{row % 24:02d}:00" for row in range(ROWS)]),
        ("version", [f"{row % 3}.{row % 5}" for row in range(ROWS)]),
    ],
)
def test_what_only_looks_so(tmp_path: Path, name: str, values: Any) -> None:
    """Amounts that differ in every row, years, codes, large numbers and the hours of a day are features."""
    found = seen(tmp_path, id=[f"k{row}" for row in range(ROWS)], **{name: values})
    assert found.unused == () and found.key == ("id",)


def test_zeros_in_front_make_names(tmp_path: Path) -> None:
    """Digits of a CSV file that begin with zeros are read as text; possible codes are offered beside them."""
    codes = [f"{row % 9:03d}" for row in range(ROWS)]
    found = seen(tmp_path, zip=codes, branch_id=np.arange(ROWS) % 15)
    assert (found.padded, found.codes, spec_of(found).categorical) == (("zip",), ("branch_id",), ("zip",))
    assert '# categorical = ["zip", "branch_id"]' in text_of(found)
    assert spec_of(seen(tmp_path, "parquet", zip=codes)).categorical == ()  # text already


def test_what_is_unsure_is_said(tmp_path: Path) -> None:
    """A key that counts the rows or is not called like one, and one of two times, are chosen with a remark."""
    for columns, about, words in (
        ({"PassengerId": range(1, ROWS + 1)}, "key", "PassengerId counts the rows from 1"),
        ({"Name": [f"Mr. {row}" for row in range(ROWS)]}, "key", "Name was taken because every row has its own"),
        ({"at": DAYS, "born": DAYS[::-1]}, "time", "born may be meant"),
    ):
        found = seen(tmp_path, **columns)
        assert [key for key, _ in found.unsure] == [about]
        assert f"# {about}: {words}" in text_of(found)
    assert seen(tmp_path, loan_id=np.arange(ROWS) + 70, at=DAYS).unsure == ()


@pytest.mark.parametrize(
    ("columns", "time"),
    [
        ({"born": DAYS[::-1], "at": DAYS}, "at"),
        ({"born": DAYS[::-1], "event_time": np.roll(DAYS, 9)}, "event_time"),
        ({"at": DAYS.strftime("%d.%m.%Y")}, "at"),
        ({"ts": 1_767_225_600 + np.arange(ROWS) * 3600}, "ts"),
        ({"at": ["01/02/2026"] * ROWS}, None),
        ({"born": DAYS[::-1]}, "born"),
    ],
)
def test_time_is_what_says_when_for_sure(tmp_path: Path, columns: Any, time: str | None) -> None:
    """What never goes back comes first, in any notation, then what is called so; ambiguous dates are never taken."""
    assert seen(tmp_path, **columns).time == time


def test_nothing_is_left(tmp_path: Path) -> None:
    """Where all columns are ids and dates there is nothing to learn from."""
    frame = pd.DataFrame({"id": range(ROWS), "at": DAYS, "y": [0, 1] * (ROWS // 2)})
    with pytest.raises(InvalidRequest, match="no column other than the target"):
        propose(put(tmp_path, frame, "b.csv"), "y")


# --- labels in files of their own ----------------------------------------------------------------------------


def test_the_target_is_in_the_labels(tmp_path: Path) -> None:
    """Task and classes are read off the label file, the key is what both files have and names a row."""
    rows = pd.DataFrame({"loan_id": np.arange(ROWS) + 70, "branch_id": np.arange(ROWS) % 9, "x": np.arange(ROWS) % 7})
    batch = put(tmp_path, rows, "b.csv")
    answers = rows[["branch_id", "loan_id"]].assign(y=["no", "yes"] * (ROWS // 2))
    found = propose(batch, "y", put(tmp_path, answers, "l.csv"))
    assert (found.task, found.key, found.key_kinds, found.unsure) == ("binary", ("loan_id",), ("integer",), ())
    shared = propose(batch, "y", put(tmp_path, answers.drop(columns="loan_id"), "l.csv"))
    assert shared.key == ("branch_id",) and "branch_id is no row's own" in dict(shared.unsure)["key"]
    with pytest.raises(InvalidRequest, match="no column in common"):
        propose(batch, "y", put(tmp_path, answers[["y"]].assign(other=1), "l.csv"))
    with pytest.raises(InvalidRequest, match=r"l\.csv has no column 'z'"):
        propose(batch, "z", put(tmp_path, answers, "l.csv"))
    with pytest.raises(InvalidRequest, match="--labels FILE"):
        propose(batch, "defaulted", None)
