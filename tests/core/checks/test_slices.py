"""Slices: which are measured, which are named, and what is said of those that cannot be."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from tasks.core.checks import slices
from tasks.core.checks.slices import BatchLosses, check_slices
from tasks.core.data.rows import LabelledRows
from tasks.core.data.source import Source
from tasks.core.spec import ModelSpec
from tasks.core.types import Batch, Check, Verdict
from tests.helpers.training import make_spec, put

ROWS = 900
CITY = make_spec(slices=["city"])


def lost(
    root: Path, values: Any, losses: Any, *, column: str = "city", name: str = "new.parquet", rows: Any = None
) -> BatchLosses:
    """A batch with these values in a column, and what each of the labelled `rows` (all) loses."""
    source: Source = put(root, pd.DataFrame({column: values}), name)
    rows = np.arange(len(losses)) if rows is None else rows
    part = LabelledRows(Batch(name, name, "d"), source, rows, np.zeros(len(rows)), "l", len(values))
    return BatchLosses(part, np.asarray(losses, dtype=float))


def noise(means: Any, seed: int = 0) -> np.ndarray:
    """Losses that scatter around these means."""
    return np.asarray(means) * np.random.default_rng(seed).exponential(1, len(means))


def cities(**shares: int) -> np.ndarray:
    return np.repeat(list(shares), list(shares.values()))


def verdicts(checks: tuple[Check, ...]) -> dict[str, Verdict]:
    return {check.name: check.verdict for check in checks}


def test_a_slice_that_got_worse_is_named(tmp_path: Path) -> None:
    """The one slice that loses more than before is named, with its rows and what the others lose; those pass."""
    where = cities(Oslo=300, Bergen=300, Bodø=300)
    before = [lost(tmp_path, where, noise(np.full(ROWS, 0.2), seed), name=f"{seed}.parquet") for seed in (1, 2)]
    now = lost(tmp_path, where, noise(np.where(where == "Bergen", 0.5, 0.2)))
    found = check_slices(CITY, now, before)
    assert verdicts(found) == {
        "slice:city=Bergen": Verdict.FAIL,
        "slice:city=Bodø": Verdict.PASS,
        "slice:city=Oslo": Verdict.PASS,
    }
    check = next(check for check in found if check.verdict is Verdict.FAIL)
    now_lost, then_lost = now.losses[where == "Bergen"].mean(), np.mean([b.losses[where == "Bergen"] for b in before])
    assert (
        f"loss {now_lost:.3g} where city is Bergen (300 rows), {then_lost:.3g} on the batches before" in check.summary
    )
    assert f"other rows: {now.losses[where != 'Bergen'].mean():.3g}, " in check.summary
    assert check.value == pytest.approx(now_lost) and check.threshold is not None and check.value > check.threshold


def test_a_bad_batch_for_all_is_no_slices_fault(tmp_path: Path) -> None:
    """Where all rows lose more, a slice is named only if its loss rose by more than that of the others."""
    where = cities(Oslo=300, Bergen=300, Bodø=300)
    before = [lost(tmp_path, where, noise(np.full(ROWS, 0.2), 1), name="1.parquet")]
    alike = check_slices(CITY, lost(tmp_path, where, noise(np.full(ROWS, 0.4), 2)), before)
    assert set(verdicts(alike).values()) == {Verdict.PASS}
    more = check_slices(CITY, lost(tmp_path, where, noise(np.where(where == "Oslo", 1.5, 0.4), 2)), before)
    assert [check.name for check in more if check.verdict is Verdict.FAIL] == ["slice:city=Oslo"]


@pytest.mark.parametrize("oslo", [800, 900])
def test_a_large_slice_is_named_too(tmp_path: Path, oslo: int) -> None:
    """A slice that is most of the batch is measured beside the rest of it; one that is all of it beside nothing."""
    where = cities(Oslo=oslo, Bergen=ROWS - oslo)
    before = [lost(tmp_path, where, noise(np.full(ROWS, 0.2), 1), name="1.parquet")]
    found = check_slices(CITY, lost(tmp_path, where, noise(np.where(where == "Oslo", 0.4, 0.2), 2)), before)
    assert verdicts(found)["slice:city=Oslo"] is (Verdict.FAIL if oslo < ROWS else Verdict.PASS)
    assert ("it is all there is" in found[-1].summary) is (oslo == ROWS)


def test_a_slice_is_not_named_for_what_it_always_lost(tmp_path: Path) -> None:
    """A slice that is hard to predict is compared with itself; a small rise is not worth a name however sure it is."""
    where = cities(Oslo=30_000, Bergen=30_000)
    before = [lost(tmp_path, where, noise(np.where(where == "Oslo", 0.5, 0.1), 1), name="1.parquet")]
    now = lost(tmp_path, where, noise(np.where(where == "Oslo", 0.535, 0.1), 2))
    assert set(verdicts(check_slices(CITY, now, before)).values()) == {Verdict.PASS}


def test_chance_names_few(tmp_path: Path) -> None:
    """Where nothing changed, hardly any of many slices is named in many tries."""
    where, named = np.repeat([f"c{number:02d}" for number in range(20)], 100), 0
    for seed in range(20):
        before = [lost(tmp_path, where, noise(np.full(2000, 0.2), 2 * seed), name="1.parquet")]
        found = check_slices(CITY, lost(tmp_path, where, noise(np.full(2000, 0.2), 2 * seed + 1)), before)
        named += sum(check.verdict is Verdict.FAIL for check in found)
    assert named <= 2


def test_few_rows_say_nothing(tmp_path: Path) -> None:
    """A slice with too few labelled rows on either side, or new ones, is counted, not judged."""
    before = [lost(tmp_path, cities(Oslo=200, Bergen=99), np.full(299, 0.1), name="1.parquet")]
    now = lost(tmp_path, cities(Oslo=200, Bergen=200, Bodø=200), np.full(600, 0.9))
    found = check_slices(CITY, now, before)
    assert list(verdicts(found)) == ["slice:city=Oslo", "slices"]
    assert found[1].verdict is Verdict.SKIPPED
    assert "2 slices have fewer than 100 labelled rows, now or on the batches before" in found[1].summary
    some = make_spec(slices=["city"], checks={"slice_rows": 99})
    assert list(verdicts(check_slices(some, now, before))) == ["slice:city=Bergen", "slice:city=Oslo", "slices"]


def test_only_labelled_rows_count(tmp_path: Path) -> None:
    """Losses belong to the rows that have labels, wherever these stand in the file."""
    where = np.tile(["Oslo", "Bergen"], 300)
    before = [lost(tmp_path, where, np.full(600, 0.1), name="1.parquet")]
    now = lost(tmp_path, where, np.full(300, 0.1), rows=np.arange(1, 600, 2))
    found = check_slices(CITY, now, before)
    assert list(verdicts(found)) == ["slice:city=Bergen"]
    assert "(300 rows)" in found[0].summary


def test_the_largest_slices_are_measured(tmp_path: Path) -> None:
    """However many values data bring, the history gets the largest of a column, and how many others there were."""
    where = np.concatenate([np.full(200 + number, f"c{number:02d}") for number in range(25)])
    both = [lost(tmp_path, where, np.full(len(where), 0.1), name=name) for name in ("1.parquet", "new.parquet")]
    found = check_slices(CITY, both[1], both[:1])
    assert len(found) == slices.LARGEST + 1
    assert found[0].name == "slice:city=c24"
    assert "5 smaller ones are beyond the 20 largest" in found[-1].summary


@pytest.mark.parametrize("name", ["new.parquet", "new.csv"])
@pytest.mark.parametrize(
    ("values", "names"),
    [
        ([True, False], ["true", "false"]),
        ([7, 8], ["7", "8"]),
        ([7.0, None], ["7", "(missing)"]),
        ([0.5, 1.0], ["0.5", "1"]),
        (["a b", "<b>|"], ["a b", "<b>|"]),
        (["x" * 70, None], ["x" * 59 + "…", "(missing)"]),
    ],
)
def test_values_have_one_name_in_every_format(tmp_path: Path, name: str, values: list[Any], names: list[str]) -> None:
    """Booleans, numbers, text and missing values are slices, called alike in CSV and Parquet files."""
    column = [value for value in values for _ in range(150)]
    now = lost(tmp_path, column, np.full(300, 0.1), name=name)
    before = lost(tmp_path, column, np.full(300, 0.1), name="before.parquet")
    assert sorted(verdicts(check_slices(CITY, now, [before]))) == sorted(f"slice:city={value}" for value in names)


@pytest.mark.parametrize("name", ["new.parquet", "new.csv"])
def test_a_measurement_is_refused(tmp_path: Path, name: str) -> None:
    """Numbers of many values are no slices, and what to do is said; codes that are declared as such are."""
    now = lost(tmp_path, np.arange(300) % 60, np.full(300, 0.1), name=name)
    (check,) = check_slices(CITY, now, [now])
    assert (check.name, check.verdict) == ("slice:city", Verdict.SKIPPED)
    assert "60 different numbers" in check.summary and "`categorical`" in check.summary
    codes = make_spec(slices=["city"], categorical=["city"])
    assert list(verdicts(check_slices(codes, now, [now]))) == ["slices"]
    hours = lost(tmp_path, np.arange(4800) % 24, np.full(4800, 0.1), name=name)
    assert len(check_slices(CITY, hours, [hours])) == slices.LARGEST + 1


def test_a_column_that_is_not_there(tmp_path: Path) -> None:
    """A slice column that the newest batch lacks is a skipped check; one that older batches lack has no past."""
    now = lost(tmp_path, cities(Oslo=300), np.full(300, 0.1))
    old = lost(tmp_path, cities(Oslo=300), np.full(300, 0.1), column="town", name="1.parquet")
    (check,) = check_slices(CITY, old, [now])
    assert (check.name, check.verdict) == ("slice:city", Verdict.SKIPPED)
    assert "1.parquet has no column 'city'" in check.summary
    assert list(verdicts(check_slices(CITY, now, [old]))) == ["slices"]
    assert list(verdicts(check_slices(CITY, now, [old, now]))) == ["slice:city=Oslo"]


def test_a_nested_column_is_refused(tmp_path: Path) -> None:
    """Lists are no slices."""
    now = lost(tmp_path, [[1], [2]] * 100, np.full(200, 0.1))
    (check,) = check_slices(CITY, now, [now])
    assert (check.verdict, "list" in check.summary) == (Verdict.SKIPPED, True)


def test_nothing_to_compare_with(tmp_path: Path) -> None:
    """Before there is an earlier labelled batch, one check says so; without slices nothing is said."""
    now = lost(tmp_path, cities(Oslo=300), np.full(300, 0.1))
    (check,) = check_slices(CITY, now, [])
    assert (check.name, check.verdict) == ("slices", Verdict.SKIPPED)
    plain: ModelSpec = make_spec()
    assert check_slices(plain, now, [now]) == ()


def test_no_spread_is_no_alarm(tmp_path: Path) -> None:
    """Slices that always lose the same are compared without a warning of any library."""
    now = lost(tmp_path, cities(Oslo=300), np.full(300, 0.0))
    found = check_slices(CITY, now, [now])
    assert verdicts(found) == {"slice:city=Oslo": Verdict.PASS}


@pytest.mark.parametrize(
    "values",
    [
        pa.array([bytes([n % 251]) * 16 for n in range(ROWS)], pa.binary(16)),
        pa.array([b"\xff\xfe"] * ROWS).view(pa.string()),
        pa.array([0] * ROWS, pa.timestamp("us", "Mars/Phobos")),
    ],
    ids=["bytes", "not UTF-8", "unknown zone"],
)
def test_what_cannot_be_named_stops_nothing(tmp_path: Path, values: pa.Array) -> None:
    """Slices are for people: a column that cannot be read as names is skipped with the reason; no run ends of it."""
    made = []
    for name in ("new.parquet", "old.parquet"):
        pq.write_table(pa.table({"city": values}), tmp_path / name)
        rows = np.arange(ROWS)
        part = LabelledRows(Batch(name, name, "d"), Source(tmp_path, name), rows, np.zeros(ROWS), "l", ROWS)
        made.append(BatchLosses(part, noise(np.full(ROWS, 0.2))))
    (check,) = check_slices(CITY, made[0], made[1:])
    assert check.verdict is Verdict.SKIPPED
    assert "take it out of `slices`" in check.summary
