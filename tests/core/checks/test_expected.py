"""Expected change: the days of a batch, the periods they fall into, and what is excused there."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC, date, datetime
from pathlib import Path
from typing import Any

import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from tasks.core.checks import expected
from tasks.core.checks.calibration import SCORE, TARGET
from tasks.core.checks.expected import Excused, covers, excused, last_year
from tasks.core.data import dates
from tasks.core.data.dates import dates_of
from tasks.core.data.files import find_batches
from tasks.core.ledger.state import State
from tasks.core.spec import Expected, ModelSpec
from tasks.core.types import Batch, Snooze, Verdict
from tasks.core.workspace import Workspace
from tests.helpers.model import Model
from tests.helpers.training import make_spec, put

TIMED = make_spec(time="at", data={"batches": "*"})
FEATURES = ["age", "city"]
NOW = date(2026, 7, 1)


def excuse(
    workspace: Workspace, state: State, batches: Sequence[Batch], features: Sequence[str], now: date | None = None
) -> Excused:
    return excused(workspace.root, workspace.spec, state.snoozed, batches, features, now)


def batch(name: str, path: str | None = None) -> Batch:
    """A batch whose name is all there is to look at."""
    return Batch(name, path or f"{name}.parquet", name * 8)


def days(first: str, last: str | None = None) -> tuple[date, date]:
    return date.fromisoformat(first), date.fromisoformat(last or first)


def period(start: str, until: str, *columns: str) -> Expected:
    return Expected.model_validate({"name": "Christmas", "from": start, "until": until, "columns": columns})


# --- the days of a batch -------------------------------------------------------------------------------------

LATE = datetime(2013, 12, 31, 23, 30, tzinfo=UTC)


@pytest.mark.parametrize("statistics", [True, False])
@pytest.mark.parametrize(
    ("kind", "last"),
    [
        (pa.timestamp("ns"), "2013-12-31"),
        (pa.timestamp("ms"), "2013-12-31"),
        (pa.timestamp("us", "America/New_York"), "2013-12-31"),
        (pa.timestamp("us", "+05:00"), "2014-01-01"),
        (pa.date32(), "2013-12-31"),
    ],
)
def test_days_of_a_time_column(tmp_path: Path, kind: pa.DataType, last: str, statistics: bool) -> None:
    """First and last day of the time column, in its own time zone, with or without the file's statistics."""
    values = [datetime(2013, 12, 24, 12, tzinfo=UTC), None, LATE]
    table = pa.table({"at": pa.array(values, pa.timestamp("us", "UTC")).cast(kind)})
    pq.write_table(table, tmp_path / "a.parquet", write_statistics=statistics, row_group_size=1)
    (found,) = find_batches(tmp_path, TIMED)
    assert dates_of(tmp_path, TIMED, found) == days("2013-12-24", last)
    assert (dates._recorded(tmp_path / found.path, found.sha256, "at") is not None) is statistics


@pytest.mark.parametrize("name", ["a.csv", "a.parquet"])
def test_days_of_text(tmp_path: Path, name: str) -> None:
    """ISO dates and times as text are understood; what is none, or no day of any year, says nothing."""
    values = ["2013-12-31T23:30:00Z", "2013-12-24", "2013-12-28 10:00", None, "soon", "2013-02-30", "1999-01-01x"]
    put(tmp_path, pd.DataFrame({"at": values}), name)
    (found,) = find_batches(tmp_path, TIMED)
    assert dates_of(tmp_path, TIMED, found) == days("2013-12-24", "2013-12-31")


@pytest.mark.parametrize("name", ["a.csv", "a.parquet"])
def test_one_date_decides_nothing(tmp_path: Path, name: str) -> None:
    """The days of a batch lie between the 1st and the 99th percentile of its rows, however few there are; where the
    file's statistics say years, its rows are asked at a glance, too."""
    inside = [datetime(2013, 12, 24 + number % 7) for number in range(28)]
    strays = [datetime(2062, 1, 1), datetime(1970, 1, 1)]
    put(tmp_path, pd.DataFrame({"at": pd.Series([*inside, *strays]).astype("datetime64[us]")}), name)
    (found,) = find_batches(tmp_path, TIMED)
    assert dates_of(tmp_path, TIMED, found) == days("2013-12-24", "2013-12-30")
    assert dates.dates_at_a_glance(tmp_path, TIMED, found) == days("2013-12-24", "2013-12-30")


@pytest.mark.parametrize(
    ("values", "found"),
    [
        (["31.12.2013", "24.12.2013"], days("2013-12-24", "2013-12-31")),
        (["12/31/2013 08:00", "12/24/2013 09:00"], days("2013-12-24", "2013-12-31")),
        ([20131231, 20131224], days("2013-12-24", "2013-12-31")),
        ([1_387_843_200, 1_388_448_000], days("2013-12-24", "2013-12-31")),
        (["01/02/2013", "03/04/2013"], None),
    ],
    ids=["points", "month first", "compact", "seconds since 1970", "ambiguous"],
)
def test_days_in_other_notations(tmp_path: Path, values: Any, found: Any) -> None:
    """A time column in any notation says its days, unless day and month cannot be told apart."""
    put(tmp_path, pd.DataFrame({"at": values}), "a.csv")
    (batch_,) = find_batches(tmp_path, TIMED)
    assert dates_of(tmp_path, TIMED, batch_) == found


def test_days_of_a_folder(tmp_path: Path) -> None:
    """A folder has the days of all its files."""
    (tmp_path / "a").mkdir()
    for name, day in (("1", "2013-12-24"), ("2", "2013-12-30")):
        put(tmp_path / "a", pd.DataFrame({"at": pd.to_datetime([day])}), f"{name}.parquet")
    (found,) = find_batches(tmp_path, TIMED)
    assert dates_of(tmp_path, TIMED, found) == days("2013-12-24", "2013-12-30")


@pytest.mark.parametrize("values", [[1, 2], ["x", "y"], pd.to_datetime([None, None])])
def test_a_time_column_without_dates_leaves_the_name(tmp_path: Path, values: Any) -> None:
    """A counter, other text or nothing at all are no dates: the batch's name is believed instead."""
    put(tmp_path, pd.DataFrame({"at": values}), "2013-12.parquet")
    (found,) = find_batches(tmp_path, TIMED)
    assert dates_of(tmp_path, TIMED, found) == days("2013-12-01", "2013-12-31")


@pytest.mark.parametrize(
    ("name", "found"),
    [
        ("2013-12-24", days("2013-12-24")),
        ("20131224", days("2013-12-24")),
        ("2013-12", days("2013-12-01", "2013-12-31")),
        ("flights-2012-02", days("2012-02-01", "2012-02-29")),
        ("2013-12-24T10_part-1", days("2013-12-24")),
        ("2013-12_final", days("2013-12-01", "2013-12-31")),
        ("2013-W51", days("2013-12-16", "2013-12-22")),
        ("eu_2013W51", days("2013-12-16", "2013-12-22")),
        ("2013-12-01_2013-12-15", days("2013-12-01", "2013-12-15")),
        ("001", None),
        ("00000042", None),
        ("12345678", None),
        ("2013-13", None),
        ("2013-02-30", None),
        ("2013-12-1", None),
        ("12013-12", None),
        ("between 2013-12-24 and now", None),
    ],
)
def test_days_of_a_name(tmp_path: Path, name: str, found: Any) -> None:
    """A name says its day, week or month where it begins or ends; numbers and days that do not exist say nothing."""
    assert dates_of(tmp_path, make_spec(), batch(name)) == found


def test_a_broken_file_is_no_obstacle(tmp_path: Path) -> None:
    """A file that cannot be read is named by other checks: here its name is all there is."""
    (tmp_path / "2013-12.parquet").write_bytes(b"PAR1 and no more")
    (found,) = find_batches(tmp_path, TIMED)
    assert dates_of(tmp_path, TIMED, found) == days("2013-12-01", "2013-12-31")


# --- periods -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("start", "until", "inside", "outside"),
    [
        ("2013-12-20", "2014-01-06", ["2013-12-20", "2014-01-06"], ["2013-12-19", "2014-01-07", "2014-12-25"]),
        ("12-20", "01-06", ["2013-12-20", "2014-01-06", "2031-01-01"], ["2013-12-19", "2014-01-07", "2014-06-01"]),
        ("07-01", "07-31", ["2013-07-01", "2020-07-31"], ["2013-06-30", "2013-08-01"]),
        ("11-27", "11-27", ["2026-11-27"], ["2026-11-26", "2026-11-28"]),
        ("02-29", "03-01", ["2024-02-29", "2025-02-28"], ["2024-02-28", "2025-03-02"]),
    ],
)
def test_which_days_a_period_covers(start: str, until: str, inside: list[str], outside: list[str]) -> None:
    """Both ends count; yearly periods come every year and may wrap around New Year."""
    one = period(start, until)
    assert [covers(one, days(day)) for day in inside] == [True] * len(inside)
    assert [covers(one, days(day)) for day in outside] == [False] * len(outside)


@pytest.mark.parametrize(
    ("span", "found"),
    [
        (("2013-12-01", "2013-12-31"), True),
        (("2014-01-06", "2014-01-31"), True),
        (("2013-01-07", "2013-12-19"), False),
        (("2013-01-07", "2015-01-01"), True),
        (("0001-01-01", "0001-12-31"), True),
        (("2026-01-01", "9999-12-31"), True),
    ],
)
def test_a_period_applies_to_a_batch_that_overlaps_it(span: tuple[str, str], found: bool) -> None:
    """One common day is enough; the ends of the calendar, which stand for unknown days in some files, do no harm."""
    assert covers(period("12-20", "01-06"), days(*span)) is found


# --- what is excused -----------------------------------------------------------------------------------------


def at(root: Path, **changes: Any) -> Workspace:
    """A model whose file says this."""
    workspace = Model(root).workspace
    workspace.__dict__["spec"] = make_spec(**changes)
    return workspace


def christmas(*columns: str) -> dict[str, Any]:
    return {"expected": [{"name": "Christmas", "from": "12-20", "until": "01-06", "columns": list(columns)}]}


def snooze(*columns: str, until: str = "2026-12-31") -> State:
    return State(snoozed=(Snooze(columns, until, "promotion week", "anna", "2026-06-01"),))


def test_nothing_is_looked_at_without_a_reason(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Who declares and snoozes nothing pays nothing."""
    monkeypatch.setattr(expected, "dates_of", lambda *_: pytest.fail("looked"))
    assert excuse(at(tmp_path), State(), [batch("2013-12")], FEATURES) == Excused({})
    assert excuse(at(tmp_path, **christmas()), snooze("age"), [], FEATURES) == Excused({})


def test_a_period_excuses_its_columns(tmp_path: Path) -> None:
    """In a period the columns it lists are excused, by default all of them, the prediction and the target."""
    reason = "expected: Christmas, 12-20 to 01-06"
    everything = excuse(at(tmp_path, **christmas()), State(), [batch("2013-11"), batch("2013-12")], FEATURES)
    assert everything == Excused(dict.fromkeys((*FEATURES, SCORE, TARGET), reason))
    some = excuse(at(tmp_path, **christmas("city", "y")), State(), [batch("2013-12")], FEATURES)
    assert some == Excused({"city": reason, TARGET: reason})
    assert excuse(at(tmp_path, **christmas()), State(), [batch("2013-11")], FEATURES) == Excused({})


def test_one_day_is_written_once(tmp_path: Path) -> None:
    """A period of one day is not said to run from it to itself."""
    one = {"expected": [{"name": "Black Friday", "from": date(2026, 11, 27), "until": "2026-11-27"}]}
    found = excuse(at(tmp_path, **one), State(), [batch("2026-11")], FEATURES)
    assert set(found.columns.values()) == {"expected: Black Friday, 2026-11-27"}


@pytest.mark.parametrize(
    ("name", "applies"),
    [("2026-12", True), ("2026-11", True), ("2027-01", False), ("2026-12-31", True), ("001", True)],
)
def test_a_snooze_is_about_data_up_to_its_last_day(tmp_path: Path, name: str, applies: bool) -> None:
    """The days of the batch count, whenever it arrives; today's date counts where they are not known."""
    found = excuse(at(tmp_path), snooze("age", "prediction"), [batch(name)], FEATURES, NOW)
    reason = "snoozed until 2026-12-31 by anna: promotion week"
    assert found == Excused({"age": reason, SCORE: reason} if applies else {})


def test_a_snooze_of_a_batch_without_dates_runs_out(tmp_path: Path) -> None:
    """On its last day it holds, on the next it is over, and nobody has to end it."""
    state = snooze("age", until="2026-07-01")
    assert excuse(at(tmp_path), state, [batch("001")], FEATURES, NOW).columns.keys() == {"age"}
    assert excuse(at(tmp_path), state, [batch("001")], FEATURES, date(2026, 7, 2)) == Excused({})


def test_a_snoozed_column_that_is_gone_is_nobodys_business(tmp_path: Path) -> None:
    """A version may have lost a column since it was snoozed."""
    assert excuse(at(tmp_path), snooze("gone"), [batch("001")], FEATURES, NOW) == Excused({})


def test_both_reasons_are_told(tmp_path: Path) -> None:
    """A column that is snoozed in an expected period has two reasons."""
    found = excuse(at(tmp_path, **christmas("age")), snooze("age"), [batch("2026-12")], FEATURES, NOW)
    assert found.columns == {
        "age": "expected: Christmas, 12-20 to 01-06; snoozed until 2026-12-31 by anna: promotion week"
    }


def test_unknown_dates_are_told_once(tmp_path: Path) -> None:
    """Where periods are declared and the dates of batches are not known, one warning says so and what to do."""
    found = excuse(at(tmp_path, **christmas()), State(), [batch("001"), batch("002"), batch("2013-12")], FEATURES)
    (check,) = found.checks
    assert (check.name, check.verdict) == ("expected", Verdict.WARN)
    assert "the dates of 001, 002 are not known (`time` is not set)" in check.summary
    assert "set `time` to a column of dates, or name batches by date" in check.summary
    assert found.columns.keys() == {*FEATURES, SCORE, TARGET}, "the batch whose date is known counts all the same"
    assert excuse(at(tmp_path), snooze("age"), [batch("001")], FEATURES, NOW).checks == ()


def test_an_unknown_column_is_told(tmp_path: Path) -> None:
    """A period that lists a column that the version does not have is a warning, before it is needed."""
    (check,) = excuse(at(tmp_path, **christmas("agge", "city")), State(), [batch("2013-07")], FEATURES).checks
    assert "'Christmas' of [[expected]] lists 'agge'" in check.summary
    assert "did you mean age?" in check.summary


def test_a_feature_may_be_called_prediction(tmp_path: Path) -> None:
    """Then the word means both."""
    found = excuse(at(tmp_path), snooze("prediction"), [batch("001")], ["prediction"], NOW)
    assert found.columns.keys() == {"prediction", SCORE}


# --- last year -----------------------------------------------------------------------------------------------


def test_the_same_period_of_last_year(tmp_path: Path) -> None:
    """The batches whose days overlap the window's a year earlier, in order; none where nothing is that old."""
    known = [batch(name) for name in ("2011-12", "2012-11", "2012-12", "2013-01", "2013-11", "2013-12", "001")]
    window = [batch("2013-12-20_2014-01-06")]
    spec = make_spec()
    assert [found.id for found in last_year(tmp_path, spec, window, known)] == ["2012-12", "2013-01"]
    assert last_year(tmp_path, spec, [batch("2012-01")], known) == ()
    assert last_year(tmp_path, spec, [batch("001")], known) == ()
    assert [found.id for found in last_year(tmp_path, spec, [batch("2012-02-29")], [batch("2011-02")])] == ["2011-02"]


def test_looking_back_a_year_reads_no_rows_it_need_not(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Statistics and names come first: only a batch that neither speaks for is read."""
    for name, day in (("a", "2012-12-24"), ("b", "2012-06-01")):
        put(tmp_path, pd.DataFrame({"at": pd.to_datetime([day])}), f"{name}.parquet")
    put(tmp_path, pd.DataFrame({"at": ["2011-01-01"]}), "2012-12.csv")
    put(tmp_path, pd.DataFrame({"at": ["2012-12-26"]}), "z.csv")
    read: list[str] = []
    in_rows = dates._in_rows
    monkeypatch.setattr(dates, "_in_rows", lambda *a: (read.append(a[2].id), in_rows(*a))[1])
    spec: ModelSpec = TIMED
    known = find_batches(tmp_path, spec)
    window = [batch("2013-12", "2013-12.parquet")]
    monkeypatch.setattr(expected, "dates_of", lambda *_: days("2013-12-20", "2013-12-31"))
    assert [found.id for found in last_year(tmp_path, spec, window, known)] == ["2012-12", "a", "z"]
    assert read == ["z"]


@pytest.mark.parametrize(
    ("values", "known"),
    [
        (pa.array([10**13], pa.timestamp("s")), False),
        (pa.array([10**8], pa.date32()), False),
        (pa.array([0], pa.timestamp("us", "Mars/Phobos")), False),
        (pa.array(["2013-12-24"], pa.string_view()), True),
    ],
    ids=["far seconds", "far days", "unknown zone", "string view"],
)
def test_odd_times_leave_the_name(tmp_path: Path, values: pa.Array, known: bool) -> None:
    """Days beyond the calendar and zones that nobody knows are no dates, and no error; statistics or none."""
    for statistics in (True, False):
        pq.write_table(pa.table({"at": values}), tmp_path / "2013-11.parquet", write_statistics=statistics)
        (found,) = find_batches(tmp_path, TIMED)
        assert dates_of(tmp_path, TIMED, found) == (days("2013-12-24") if known else days("2013-11-01", "2013-11-30"))
