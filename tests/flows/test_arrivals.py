"""Files and labels that arrive late, out of order, half written or not at all, through the real flow."""

from __future__ import annotations

import gzip
import threading
from typing import Any

import pandas as pd
import pytest

from flows import retrain_or_reload as main
from tasks.core.errors import Unfinished
from tasks.core.reports import status
from tasks.core.types import CheckKind, Outcome, Verdict
from tests.helpers.model import Model, make_rows
from tests.helpers.runs import decided, run, serving, words

pytestmark = pytest.mark.usefixtures("prefect")


@pytest.fixture
def late(model: Model) -> Model:
    """A model whose labels come in files of their own."""
    model.write_spec(late_labels=True)
    model.labels.mkdir(parents=True)
    return model


def deliver(model: Model, *names: str) -> None:
    for name in names:
        model.deliver(name, make_rows(seed=int(name)).drop(columns="y"))


def label(model: Model, *names: str) -> None:
    for name in names:
        make_rows(seed=int(name))[["id", "y"]].to_parquet(model.labels / f"{name}.parquet", index=False)


def predicted(model: Model) -> dict[str, bytes]:
    folder = model.root / "data/loans/predictions"
    return {path.stem: path.read_bytes() for path in sorted(folder.glob("*.parquet"))}


def warned(model: Model, name: str) -> str:
    return "\n".join(c.summary for c in decided(model).checks if c.name == name and c.verdict is Verdict.WARN)


def test_files_that_no_run_looks_at_are_said(model: Model) -> None:
    """By the run that decides, by one that finds nothing new, and by status, until the file is read or put aside."""
    model.deliver("001")
    packed = model.batches / "002.csv.gz"
    packed.write_bytes(gzip.compress(make_rows(seed=2).to_csv(index=False).encode()))
    first, again = run(model), run(model)
    said = "data/loans/batches/002.csv.gz is not looked at: it is packed. Unpack it"
    assert said in warned(model, "arrivals")
    assert said in first.message and said in again.message
    assert [said in one for one in status.status(model.workspace).warnings] == [True]
    packed.with_suffix("").write_bytes(gzip.decompress(packed.read_bytes()))
    packed.unlink()
    assert "not looked at" not in run(model).message
    assert [batch.id for batch in decided(model).window] == ["002"]


def test_one_run_catches_up(late: Model, monkeypatch: pytest.MonkeyPatch) -> None:
    """After downtime one decision covers all that piled up; what a kill left undone follows, and what was broken is
    looked at with the version that is in service now."""
    deliver(late, "001")
    run(late)
    deliver(late, "002", "003", "004", "005")
    (late.batches / "004.parquet").write_bytes(b"PAR1 and no more")
    label(late, "001", "002", "003")
    predict, left = main.predict_batch, [2]

    def killed(*arguments: Any) -> str:
        left[0] -= 1
        if left[0] < 0:
            raise RuntimeError("killed")
        return predict(*arguments)

    with monkeypatch.context() as patch:
        patch.setattr(main, "predict_batch", killed)
        with pytest.raises(Unfinished, match=r"This stands, .* killed"):
            run(late)
    record, before = decided(late), predicted(late)
    assert [batch.id for batch in record.window] == ["002", "003", "005"]
    assert [item.batch for item in record.labelled] == ["001", "002", "003"]
    assert (serving(late), record.outcome, list(before)) == (1, Outcome.BLOCKED, ["002", "003"])

    again = run(late)
    assert again.outcome is Outcome.RELOADED and "004 stays set aside" in again.message
    assert decided(late).blocked[0].again
    assert predicted(late) == before | {"005": predicted(late)["005"]}

    deliver(late, "004")
    assert run(late).outcome is Outcome.RELOADED
    assert [batch.id for batch in decided(late).window] == ["004"]
    assert "004 comes before" in warned(late, "arrivals")
    assert set(pd.read_parquet(late.root / "data/loans/predictions/004.parquet")["version"]) == {1}

    make_rows(seed=1)[["id", "y"]].head(50).assign(y=1).to_parquet(late.labels / "006.parquet")
    assert run(late).outcome is Outcome.RELOADED
    assert "corrected" in warned(late, "labels:001")
    assert [item.corrected for item in decided(late).labelled] == [True]


def test_overdue_labels_fail_the_run_and_nothing_else(late: Model) -> None:
    """Labels that do not come end the run LabelsOverdue with exit code 1, also before v1; all else of it happens."""
    late.write_spec("label_delay = 0\noverdue = 0", late_labels=True)
    deliver(late, "001")
    assert run(late).outcome is Outcome.HELD
    deliver(late, "002")
    result = run(late)
    assert (result.outcome, result.exit_code) == (Outcome.LABELS_OVERDUE, 1)
    assert "labels are overdue for 001" in result.message and "data/loans/labels/*" in result.message
    assert status.status(late.workspace).unlabelled == ("001", "002")

    label(late, "001")
    deliver(late, "003")
    assert run(late).outcome is Outcome.RETRAINED
    deliver(late, "004")
    assert run(late).outcome is Outcome.LABELS_OVERDUE
    assert decided(late).evidence.labels_overdue == ("002", "003")
    assert list(predicted(late)) == ["003", "004"]
    label(late, "002", "003")
    assert run(late).outcome is Outcome.RELOADED
    seen = status.status(late.workspace).prequential
    assert [(each.batch, each.version, each.lag) for each in seen.each] == [("003", 1, 1)]


def test_a_file_that_is_being_written_is_waited_for(trained: Model) -> None:
    """A run waits for a young file to settle; one that goes on growing is named, not counted, and the run goes on."""
    spec = trained.root / "deployments/loans.toml"
    spec.write_text(spec.read_text().replace("settle = 0", "settle = 0.5"))
    trained.deliver("002")
    growing, done = trained.deliver("003"), threading.Event()

    def grow() -> None:
        while not done.wait(0.05):
            growing.touch()

    writer = threading.Thread(target=grow)
    writer.start()
    try:
        assert run(trained).outcome is Outcome.RELOADED
    finally:
        done.set()
        writer.join()
    assert [batch.id for batch in decided(trained).window] == ["002"]
    assert "003.parquet may still be written" in warned(trained, "arrivals")
    assert run(trained).outcome in (Outcome.RELOADED, Outcome.RETRAINED)
    assert list(predicted(trained)) == ["001", "002", "003"]


def test_an_altered_batch_stops_no_other(trained: Model) -> None:
    """A decided batch that changed is an alarm in every new run; others are predicted, it is never predicted anew."""
    original = (trained.batches / "001.parquet").read_bytes()
    (trained.root / "data/loans/predictions/001.parquet").unlink()
    make_rows(seed=99).to_parquet(trained.batches / "001.parquet")
    for name in ("002", "003"):
        trained.deliver(name)
        assert run(trained).outcome is Outcome.BLOCKED
        assert "001 is set aside: it was decided on with other bytes" in words(trained)
    assert list(predicted(trained)) == ["002", "003"]
    assert status.status(trained.workspace).blocked == ("001",)

    (trained.batches / "001.parquet").write_bytes(original)
    assert not run(trained).outcome.failed
    assert status.status(trained.workspace).blocked == ()


def test_what_follows_a_decision_cannot_fail_it(trained: Model, monkeypatch: pytest.MonkeyPatch) -> None:
    """Once decided, a share that is gone or a server that refuses is a warning: the run ends as its decision says."""

    def follow_up(*_: Any) -> None:
        raise OSError("the share is gone")

    monkeypatch.setattr(main, "follow_up", follow_up)
    trained.deliver("002")
    assert run(trained).outcome is Outcome.RELOADED


def test_what_arrives_during_a_run(trained: Model, caplog: pytest.LogCaptureFixture) -> None:
    """A batch that is delivered while a run trains is named at its end: without a deployment the next run looks at it;
    a run that found everything says nothing."""
    assert "Arrived meanwhile" not in caplog.text
    trained.deliver_while_training("002")
    run(trained, action="retrain", reason="by hand")
    assert "Arrived meanwhile, for the next run: data/loans/batches/002.parquet." in caplog.text
    assert [batch.id for batch in decided(trained).window] == []
    run(trained)
    assert [batch.id for batch in decided(trained).window] == ["002"]
    assert caplog.text.count("Arrived meanwhile") == 1


def test_half_a_month(model: Model) -> None:
    """A batch that ends in the middle of its period is predicted, with a warning that says which days it covers."""
    path = model.root / "deployments/loans.toml"
    path.write_text('time = "at"\n' + path.read_text())

    def month(number: int, days: int) -> pd.DataFrame:
        rows = make_rows(20 * days, seed=number)
        return rows.assign(at=pd.date_range(f"2026-{number:02d}-01", periods=len(rows), freq="72min"))

    for number in (1, 2, 3, 4):
        model.deliver(f"20260{number}", month(number, 28))
    assert run(model).outcome is Outcome.RETRAINED
    model.deliver("202605", month(5, 17))
    assert run(model).outcome is Outcome.RELOADED
    (said,) = (check.summary for check in decided(model).checks if check.kind is CheckKind.ROWS)
    assert said.startswith("202605 covers 17 days, 2026-05-01 to 2026-05-17, where 28 are usual")
