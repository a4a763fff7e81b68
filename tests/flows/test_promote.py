"""Promotion by hand through its flow, and what the main flow makes of it and of a person's other deeds."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pandas as pd
import pytest

from flows import retrain_or_reload
from flows.server import environment, launch
from tasks.core import overrides
from tasks.core.errors import CorruptObject, InvalidRequest, LedgerConflict
from tasks.core.ledger.events import Decided
from tasks.core.ledger.state import State
from tasks.core.types import Outcome
from tests.helpers.model import Model, make_rows, moved_away
from tests.helpers.ror import QUICK

pytestmark = pytest.mark.usefixtures("prefect")

APPROVE, BLOCK = f'{QUICK}[policy]\npromotion = "approve"', f'{QUICK}[policy]\non_change = "block"'


def run(model: Model, **parameters: str) -> launch.Result:
    return launch.run(model.root, model.name, **parameters)


def promote(model: Model, version: int, **parameters: Any) -> launch.Result:
    return launch.promote(model.root, model.name, version=version, reason="a test", **parameters)


def state(model: Model) -> State:
    return model.workspace.ledger.head().state


def served(model: Model) -> list[int]:
    return [item.version for item in state(model).served]


def decided(model: Model) -> Decided:
    last = state(model).decided
    assert last is not None
    return model.workspace.ledger.decision(last.seq)


def predicted_by(model: Model, batch: str) -> set[int]:
    path = model.root / f"data/loans/predictions/{batch}.parquet"
    return set(pd.read_parquet(path)["version"]) if path.exists() else set()


# --- approval -------------------------------------------------------------------------------------------------


def test_approval(grown: Model) -> None:
    """A challenger waits and the run names the command; later runs train no other; approved, it is compared with v2."""
    grown.write_spec(APPROVE)
    grown.deliver("003")
    result = run(grown, action="retrain", reason="try it")
    assert result.outcome is Outcome.AWAITING_APPROVAL
    assert "v3 waits for: ror promote loans v3 --reason '...'" in result.message
    assert served(grown) == [1, 2]

    grown.deliver("004")
    result = run(grown)
    assert result.outcome in (Outcome.RELOADED, Outcome.HELD)
    assert "v3 waits for: ror promote loans v3" in result.message
    assert grown.workspace.registry.versions("loans") == [1, 2, 3]

    result = promote(grown, 3, expected=2)
    assert (result.outcome, result.exit_code) == (Outcome.PROMOTED, 0)
    assert result.message == "loans · v3 put in service, in place of v2 (approved): a test"
    assert (served(grown), state(grown).waiting) == ([1, 2, 3], ())
    event = grown.workspace.ledger.event(state(grown).by_hand)
    assert (event.event, event.actor, event.reason) == ("promoted", environment.actor(), "a test")

    grown.deliver("005")
    assert run(grown).outcome is Outcome.RELOADED
    assert predicted_by(grown, "005") == {3}
    assert [(item.version, item.predecessor) for item in decided(grown).comparisons] == [(3, 2)]


# --- going back -----------------------------------------------------------------------------------------------


def test_going_back_and_on(grown: Model) -> None:
    """Rolled back by hand, v1 serves, v2 is compared and not barred; the rules go on from there."""
    promote(grown, 1, expected=2)
    assert (served(grown), state(grown).barred) == ([1, 2, 1], ())
    grown.deliver("003")
    assert run(grown).outcome is Outcome.RELOADED
    assert predicted_by(grown, "003") == {1}
    (compared,) = decided(grown).comparisons
    assert (compared.version, compared.predecessor, compared.gap) == (1, 2, 1)

    run(grown, action="retrain", reason="go on")
    assert served(grown) == [1, 2, 1, 3]


@pytest.mark.parametrize(
    ("version", "parameters", "error", "said"),
    [
        (2, {}, InvalidRequest, "^version:\n  - v2 is in service already"),
        (9, {}, InvalidRequest, "^version:\n.*Versions: v1, v2"),
        (1, {"expected": 1}, LedgerConflict, "v2 of loans is in service, not v1"),
        (1, {"expected": 0}, LedgerConflict, "not no version"),
    ],
)
def test_refused(grown: Model, version: int, parameters: dict[str, int], error: type[Exception], said: str) -> None:
    """What cannot be promoted is refused with the reason, as a failed run, and nothing is recorded."""
    head = grown.workspace.ledger.head()
    with pytest.raises(error, match=said):
        promote(grown, version, **parameters)
    assert grown.workspace.ledger.head() == head


def test_a_damaged_version_is_not_promoted(grown: Model) -> None:
    """One flipped byte in the older version's file: exit code 4, and the current version stays."""
    path = grown.root / "artifacts/loans/versions/00000001/pipeline.joblib"
    data = bytearray(path.read_bytes())
    data[len(data) // 2] ^= 1
    path.write_bytes(data)
    head = grown.workspace.ledger.head()
    with pytest.raises(CorruptObject, match=r"pipeline\.joblib is damaged") as caught:
        promote(grown, 1)
    assert caught.value.exit_code == 4
    assert grown.workspace.ledger.head() == head


# --- while a run is at work -----------------------------------------------------------------------------------


@pytest.fixture
def interfere(grown: Model, monkeypatch: pytest.MonkeyPatch) -> Callable[[str, int], None]:
    """Lets a person promote a version when the next run has done this step."""

    def prepare(step: str, version: int) -> None:
        task = getattr(retrain_or_reload, step)

        def interfered(*arguments: Any) -> Any:
            monkeypatch.undo()
            made = task(*arguments)
            overrides.promote(grown.workspace, version, reason="I know better", actor="ann")
            return made

        monkeypatch.setattr(retrain_or_reload, step, interfered)

    return prepare


def test_during_a_run_the_persons_choice_stands(grown: Model, interfere: Callable[[str, int], None]) -> None:
    """Promoted while a run trains: the run ends Kept, registers its challenger, predicts with the person's version."""
    interfere("train", 1)
    grown.deliver("003")
    result = run(grown, action="retrain", reason="try it")
    assert result.outcome is Outcome.KEPT
    assert "v3 waits for: ror promote loans v3" in result.message
    assert served(grown) == [1, 2, 1]
    assert grown.workspace.registry.versions("loans") == [1, 2, 3]
    assert predicted_by(grown, "003") == {1}


def test_during_a_run_data_are_checked_again(grown: Model, interfere: Callable[[str, int], None]) -> None:
    """A batch that the version promoted meanwhile cannot predict on is set aside; the next run is not held up by it."""
    spec = grown.root / "deployments/loans.toml"
    spec.write_text(spec.read_text().replace('key = "id"', 'key = "id"\nfeatures = ["income", "city"]'))
    run(grown, action="retrain", reason="age is not needed")
    assert served(grown) == [1, 2, 3]

    interfere("check_drift", 2)
    grown.deliver("003", make_rows(seed=3).drop(columns="age"))
    result = run(grown)
    assert result.outcome is Outcome.BLOCKED
    assert "003 is set aside: column 'age' is missing" in result.message
    assert "003" not in state(grown).batches
    assert predicted_by(grown, "003") == set()
    grown.deliver("004")
    assert run(grown).outcome is Outcome.RELOADED
    assert predicted_by(grown, "004") == {2}


# --- content that changed -------------------------------------------------------------------------------------


def test_changed_content_waits_for_a_person(grown: Model) -> None:
    """With on_change = "block" a changed batch is set aside, not predicted and not learned, and the others go on."""
    grown.write_spec(BLOCK)
    grown.deliver("003", moved_away("003"))
    result = run(grown)
    assert (result.outcome, result.exit_code) == (Outcome.BLOCKED, 3)
    assert "003 is set aside: city: 50% in categories not seen in training" in result.message
    assert "`ror accept loans 003 --reason '...'`" in decided(grown).blocked[0].problems[-1]
    grown.deliver("004")
    assert run(grown).outcome is Outcome.RELOADED
    assert (predicted_by(grown, "003"), predicted_by(grown, "004")) == (set(), {2})
    assert "003" not in state(grown).batches
    assert (list(state(grown).blocked), state(grown).changed) == (["003"], ("003",))


def test_accepted_content_is_learned(grown: Model) -> None:
    """Once accepted, the next run predicts the batch and trains on it; the same content is no news any more."""
    grown.write_spec(BLOCK)
    grown.deliver("003", moved_away("003"))
    run(grown)
    overrides.accept(grown.workspace, "003", reason="we opened an office there", actor="ann")
    result = run(grown)
    assert result.outcome is Outcome.RETRAINED
    assert decided(grown).decision.rule == "assumptions changed"
    assert (served(grown), predicted_by(grown, "003")) == ([1, 2, 3], {3})
    assert (state(grown).accepted, state(grown).changed, state(grown).blocked) == ((), (), {})
    grown.deliver("004", moved_away("004"))
    assert run(grown).outcome is Outcome.RELOADED


def test_accepted_content_waits_for_its_labels(model: Model) -> None:
    """Accepted before its labels are there, a batch is predicted and the run holds; with its labels it is learned."""
    model.write_spec(BLOCK, late_labels=True)
    model.labels.mkdir(parents=True)

    def deliver(batch: str, rows: pd.DataFrame, *, labels: bool) -> None:
        model.deliver(batch, rows.drop(columns="y"))
        if labels:
            rows[["id", "y"]].to_parquet(model.labels / f"{batch}.parquet")

    deliver("001", make_rows(seed=1), labels=True)
    assert run(model).outcome is Outcome.RETRAINED
    deliver("002", moved_away("002"), labels=False)
    assert run(model).outcome is Outcome.BLOCKED
    overrides.accept(model.workspace, "002", reason="it is so", actor="ann")
    result = run(model)
    assert result.outcome is Outcome.HELD
    assert "the content of 002 was accepted; its labels must arrive first" in result.message
    assert predicted_by(model, "002") == {1}
    deliver("003", make_rows(seed=3), labels=True)
    result = run(model)
    assert result.outcome is Outcome.HELD
    assert "the changed content of 002 waits for its labels" in result.message
    moved_away("002")[["id", "y"]].to_parquet(model.labels / "002.parquet")
    assert run(model).outcome is Outcome.RETRAINED
    manifest, _ = model.workspace.registry.manifest("loans", 2)
    assert "002" in [file.batch for file in manifest.training]


# --- quarantine -----------------------------------------------------------------------------------------------


def test_quarantined_labels_are_not_trained_on(grown: Model) -> None:
    """The next version is trained without the batch, the one in service stays; released, it is trained on again."""
    event = overrides.quarantine(grown.workspace, "002", reason="a wrong export", actor="ann")
    assert event.body["trained"] == [2]
    assert served(grown) == [1, 2]
    grown.deliver("003")
    assert run(grown, action="retrain", reason="without 002").outcome in (Outcome.RETRAINED, Outcome.KEPT)
    overrides.release(grown.workspace, "002", reason="it was right", actor="ann")
    grown.deliver("004")
    run(grown, action="retrain", reason="with 002")
    trained = [grown.workspace.registry.manifest("loans", version)[0].training for version in (3, 4)]
    assert [[file.batch for file in files] for files in trained] == [["001", "003"], ["001", "002", "003", "004"]]


def test_rows_in_quarantine_may_be_delivered_again(grown: Model) -> None:
    """What is delivered in the place of a batch in quarantine, under another name, owns the rows, which count."""
    wrong = make_rows(seed=2)
    overrides.quarantine(grown.workspace, "002", reason="a wrong export", actor="ann")
    grown.deliver("003", wrong.assign(income=wrong["income"] * 1.01, y=1 - wrong["y"]))
    assert run(grown).outcome is not Outcome.BLOCKED
    assert grown.workspace.state().batches["003"].labelled_rows == len(wrong)
    assert not [check for check in decided(grown).checks if "002" in check.summary]


def test_labels_in_quarantine_are_not_measured(grown: Model) -> None:
    """A batch that is in quarantine when its labels arrive is predicted, and counts in no loss and no comparison."""
    grown.deliver("003", flip=1.0)
    overrides.quarantine(grown.workspace, "003", reason="they swapped the labels", actor="ann")
    assert run(grown).outcome is Outcome.RELOADED
    assert predicted_by(grown, "003") == {2}
    assert "003" not in {point.batch for point in state(grown).losses}
    assert state(grown).usable == ("001", "002")


# --- the form -------------------------------------------------------------------------------------------------


def test_form_explains_every_parameter() -> None:
    """The UI builds its form from the flow's parameters: each is described, and three are required."""
    from prefect.utilities.callables import parameter_schema

    from flows.promote import promote

    schema = parameter_schema(promote).model_dump()
    assert schema["required"] == ["model", "version", "reason"]
    assert all(item["description"] for item in schema["properties"].values())
    assert schema["properties"]["version"]["type"] == "integer"
