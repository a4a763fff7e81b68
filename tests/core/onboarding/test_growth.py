"""One file that grows, files that overlap, and a history that is cut: no row comes twice or is lost in silence."""

from __future__ import annotations

import shutil
from pathlib import Path

import pandas as pd
import pytest

from tasks.core.data.source import Source
from tasks.core.errors import AlreadyExists, DataError, InvalidRequest, UnreadableData
from tasks.core.onboarding.delivery import deliver
from tasks.core.onboarding.growth import deliver_new_rows
from tasks.core.onboarding.intake import Begun, begin
from tasks.core.onboarding.proposal import propose
from tasks.core.spec import CsvSpec
from tests.helpers.model import Model, make_rows

ONE, TWO, THREE = (make_rows(seed=number) for number in (1, 2, 3))


def without_key(model: Model) -> None:
    path = model.root / "deployments/loans.toml"
    path.write_text(path.read_text().replace('key = "id"\n', ""))


def written(folder: Path, name: str, *parts: pd.DataFrame) -> Path:
    path = folder / name
    frame = pd.concat(parts, ignore_index=True)
    frame.to_csv(path, index=False) if path.suffix == ".csv" else frame.to_parquet(path, index=False)
    return path


def ids(model: Model, batch: str) -> list[str]:
    path = model.batches / batch
    frame = pd.read_csv(path) if path.suffix == ".csv" else pd.read_parquet(path)
    return frame["id"].tolist()


@pytest.fixture
def outside(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("elsewhere")


# --- what is new of a growing file ---------------------------------------------------------------------------


@pytest.mark.parametrize("ending", ["csv", "parquet"])
@pytest.mark.parametrize("keyed", [True, False], ids=["by key", "whole rows"])
def test_a_file_that_grows(model: Model, outside: Path, ending: str, keyed: bool) -> None:
    """What it has more than all batches becomes a batch that sorts last, again and again; then nothing is new.
    What `add` says about the name that is taken leads here."""
    if not keyed:
        without_key(model)
    file = written(outside, f"history.{ending}", ONE)
    deliver(model.workspace, file)
    written(outside, file.name, ONE, TWO)
    with pytest.raises(AlreadyExists, match=r"`ror add loans .*--new-rows`") as refused:
        deliver(model.workspace, file)
    assert "another name" not in str(refused.value)
    done = deliver_new_rows(model.workspace, file)
    assert (done.path, done.rows, done.known) == (f"data/loans/batches/history-0002.{ending}", 600, 600)
    assert ids(model, f"history-0002.{ending}") == TWO["id"].tolist()
    written(outside, file.name, TWO, THREE, ONE)  # in another order
    done = deliver_new_rows(model.workspace, file)
    assert (done.path, done.rows, done.known) == (f"data/loans/batches/history-0003.{ending}", 600, 1200)
    again = deliver_new_rows(model.workspace, file)
    assert (again.path, again.rows, again.known, again.was_there) == (None, 0, 1800, True)
    assert len(list(model.batches.iterdir())) == 3


def test_the_new_batch_sorts_last(model: Model, outside: Path) -> None:
    """A file's own name is kept where it sorts after all batches, so that no correction of the past comes of it."""
    deliver(model.workspace, written(outside, "2026-03.csv", ONE))
    for seed, wanted, name in ((2, "all", "all"), (3, "2026-04", "all-0002"), (4, "all", "all-0003")):
        file = written(outside, f"{wanted}.csv", make_rows(seed=seed))
        assert deliver_new_rows(model.workspace, file).path == f"data/loans/batches/{name}.csv"
    deliver(model.workspace, written(outside, "zebra-9999.csv", make_rows(seed=5)))
    done = deliver_new_rows(model.workspace, written(outside, "all.csv", make_rows(seed=6)))
    assert done.path == "data/loans/batches/zebra-10000.csv"


def test_rows_that_are_equal_are_counted(model: Model, outside: Path) -> None:
    """Without a key a row that is there once more than before is new."""
    without_key(model)
    deliver(model.workspace, written(outside, "a.csv", ONE, ONE[:10]))
    done = deliver_new_rows(model.workspace, written(outside, "b.csv", ONE, ONE[:10], ONE[:7]))
    assert (done.rows, done.known) == (7, 610)


def test_known_rows_with_other_values_stay_as_they_are(model: Model, outside: Path) -> None:
    """A key that is known brings no second row; how many came with other values is said."""
    deliver(model.workspace, written(outside, "a.csv", ONE))
    restated = ONE.assign(age=ONE["age"].where(ONE.index >= 25, 99))
    done = deliver_new_rows(model.workspace, written(outside, "b.csv", restated, TWO))
    assert (done.rows, done.known) == (600, 600)
    assert "25 rows known by id came with other values: the first ones stay" in done.notes


def test_a_key_that_names_a_customer_names_no_row(model: Model, outside: Path) -> None:
    """Where a key comes again in other rows, in the file or since, whole rows are compared, and it is said."""
    customers = [f"c{row}" for row in range(600)]
    january, february, march = (frame.assign(id=customers) for frame in (ONE, TWO, THREE))
    deliver(model.workspace, written(outside, "2026-01.csv", january))
    both = written(outside, "2026-02.csv", january, february)
    for file, known in ((both, 600), (written(outside, "2026-03.csv", march), 0)):
        done = deliver_new_rows(model.workspace, file)
        assert (done.rows, done.known) == (600, known)
        assert not known or "id comes again in other rows, so that whole rows were compared" in done.notes


def test_new_rows_are_checked_as_any_batch(model: Model, outside: Path) -> None:
    """New rows without their labels are refused, and nothing appears; a missing file is said."""
    deliver(model.workspace, written(outside, "a.csv", ONE))
    with pytest.raises(DataError, match="'y' is missing"):
        deliver_new_rows(model.workspace, written(outside, "b.csv", TWO.drop(columns="y")))
    with pytest.raises(UnreadableData, match="no such file"):
        deliver_new_rows(model.workspace, outside / "none.csv")
    assert [path.name for path in model.batches.iterdir()] == ["a.csv"]


def test_new_rows_are_written_as_the_models_file_says(model: Model, outside: Path) -> None:
    """Encoding, separator, decimal comma and words with both in them are as in the file that grows."""
    model.write_spec('[data.csv]\nencoding = "latin-1"\nseparator = ";"\ndecimal = ","\n')
    for name, parts in (("a.csv", [ONE]), ("b.csv", [ONE, TWO.assign(city='Tromsø; "N"')])):
        pd.concat(parts).to_csv(outside / name, index=False, sep=";", decimal=",", encoding="latin-1")
    deliver(model.workspace, outside / "a.csv")
    assert deliver_new_rows(model.workspace, outside / "b.csv").rows == 600
    made = pd.read_csv(model.batches / "b.csv", sep=";", decimal=",", encoding="latin-1")
    pd.testing.assert_frame_equal(made, TWO.assign(city='Tromsø; "N"'))


# --- files that overlap --------------------------------------------------------------------------------------


def test_an_overlap_is_said_and_its_remedy_works(model: Model, outside: Path) -> None:
    """A file that brings rows again is counted and said; what is said, done, leaves each row there once."""
    deliver(model.workspace, written(outside, "2026-01.csv", ONE))
    file = written(outside, "2026-02.csv", ONE[300:], TWO[:300])
    (note,) = deliver(model.workspace, file).notes
    assert note.startswith("300 of its 600 rows are in earlier batches already")
    assert f"remove data/loans/batches/2026-02.csv, then `ror add loans {file} --new-rows`" in note
    (model.batches / "2026-02.csv").unlink()
    done = deliver_new_rows(model.workspace, file)
    assert (done.path, done.rows, done.known) == ("data/loans/batches/2026-02.csv", 300, 300)


def test_rows_that_are_alike_by_chance_are_no_overlap(model: Model, outside: Path) -> None:
    """Without a key, batches of a few categories are full of equal rows, which says nothing; customers who come again
    say nothing either."""
    without_key(model)
    for number in (1, 2, 3):
        few = make_rows(seed=number)[["city", "member", "y"]]
        assert deliver(model.workspace, written(outside, f"{number}.csv", few)).notes == ()
    shutil.rmtree(model.batches)
    model.write_spec()
    for number in (1, 2):
        frame = make_rows(seed=number).assign(id=[f"c{row}" for row in range(600)])
        assert deliver(model.workspace, written(outside, f"{number}.csv", frame)).notes == ()


def test_an_overlap_without_a_key(model: Model, outside: Path) -> None:
    """Rows with many values are not equal by chance."""
    without_key(model)
    deliver(model.workspace, written(outside, "1.csv", ONE))
    (note,) = deliver(model.workspace, written(outside, "2.csv", ONE[300:], TWO[:300])).notes
    assert note.startswith("300 of its 600 rows")


# --- one history, cut ----------------------------------------------------------------------------------------


def history(rows: int = 2_400, last: str = "2026-04-10") -> pd.DataFrame:
    frame = make_rows(rows).rename(columns={"id": "loan_id"})
    return frame.assign(at=pd.date_range("2026-01-01", last, periods=rows).floor("s"))


def cut_up(model: Model, file: Path, every: str = "month") -> Begun:
    return begin(model.root, file, "y", "cut", owner="me", written=CsvSpec(), every=every)  # type: ignore[arg-type]


@pytest.mark.parametrize("ending", ["csv", "parquet"])
def test_a_history_is_cut_into_months(model: Model, outside: Path, ending: str) -> None:
    """Each month that is over is a batch; the last one waits, and comes with the command that is named, in full."""
    whole = history()
    file = written(outside, f"history.{ending}", whole)
    begun = cut_up(model, file)
    cut = Model(model.root, "cut")
    assert sorted(path.name for path in cut.batches.iterdir()) == [f"2026-0{month}.{ending}" for month in (1, 2, 3)]
    parts = [Source(cut.batches, f"2026-0{month}.{ending}").read(["loan_id"]).column(0) for month in (1, 2, 3)]
    waiting = whole[whole["at"] >= "2026-04"]
    assert [one for part in parts for one in part.to_pylist()] == whole["loan_id"][: -len(waiting)].tolist()
    first, waits = begun.notes
    assert first == f"3 batches by month of at: 2026-01 to 2026-03, {len(whole) - len(waiting):,} rows"
    assert waits.startswith(f"2026-04 is not over and waits: {len(waiting)} rows are in no batch")
    assert f"`ror add cut {file} --new-rows`" in waits
    grown = history(3_000, "2026-05-06")
    grown = pd.concat([whole, grown[grown["at"] > whole["at"].max()].assign(loan_id=lambda f: "n" + f["loan_id"])])
    done = deliver_new_rows(cut.workspace, written(outside, file.name, grown))
    assert done.path == f"data/cut/batches/history.{ending}" and done.rows == len(grown) - len(whole) + len(waiting)


def test_rows_of_no_period_are_named(model: Model, outside: Path) -> None:
    """Rows without a time, and single ones far from all others, are counted and named by number."""
    whole = history()
    whole.loc[[3, 7], "at"] = pd.NaT
    whole.loc[9, "at"] = pd.Timestamp("2062-01-01")
    notes = cut_up(model, written(outside, "history.csv", whole)).notes
    assert "In no batch: 2 rows without at, number 4, 8 of the file" in notes
    assert "In no batch: 1 row whose at is far from all others, number 10 of the file" in notes


def test_what_cannot_be_cut(model: Model, outside: Path) -> None:
    """Without dates, with ambiguous ones, and before the first period is over nothing is written."""
    whole = history()
    for frame, words in (
        (whole.drop(columns="at"), "no column of dates"),
        (whole.assign(at=[f"0{row % 9 + 1}/0{row % 7 + 1}/2026" for row in range(len(whole))]), "no column of dates"),
        (whole[whole["at"] < "2026-01-20"], "only 2026-01, which is not over"),
    ):
        with pytest.raises(InvalidRequest, match=words):
            cut_up(model, written(outside, "history.csv", frame))
        assert not (model.root / "deployments/cut.toml").exists()


def test_the_time_of_a_history_may_be_written_anyhow(model: Model, outside: Path) -> None:
    """Weeks are cut by dates as people write them; the model's file says which column it was."""
    whole = history().assign(at=lambda f: f["at"].dt.strftime("%d/%m/%Y"))
    file = written(outside, "history.csv", whole)
    assert propose(Source(outside, file.name), "y").time == "at"
    cut_up(model, file, "week")
    names = sorted(path.stem for path in Model(model.root, "cut").batches.iterdir())
    assert names == [f"2026-W{week:02d}" for week in range(1, 15)]
