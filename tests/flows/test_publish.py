"""What a run shows in Prefect, read back from a real server: artifacts, tags, log and events."""

from __future__ import annotations

import json
import re
import time
from collections.abc import Callable
from datetime import UTC, datetime
from typing import Any
from uuid import UUID

import pytest
from prefect import get_client
from prefect.client.schemas.filters import (
    ArtifactFilter,
    ArtifactFilterFlowRunId,
    FlowRunFilter,
    FlowRunFilterName,
    LogFilter,
    LogFilterFlowRunId,
)
from prefect.client.schemas.objects import FlowRun
from prefect.client.schemas.sorting import ArtifactSort, FlowRunSort, LogSort

from flows.promote import promote
from flows.server import launch
from tasks import predict as predict_task
from tasks import publish as publication
from tasks import train
from tasks.core import layout
from tasks.core.errors import StoreError, Unfinished
from tasks.core.ledger.lease import Lease
from tasks.core.store import Store
from tasks.core.types import Outcome
from tests.helpers.model import Model, make_rows
from tests.helpers.ror import QUICK

pytestmark = pytest.mark.usefixtures("prefect")

APPROVE = QUICK + '[policy]\npromotion = "approve"\n'


def run(model: Model, **parameters: str) -> launch.Result:
    return launch.run(model.root, model.name, **parameters)


def last_run(name: str) -> FlowRun:
    """As the server has it."""
    with get_client(sync_client=True) as client:
        return client.read_flow_runs(
            flow_run_filter=FlowRunFilter(name=FlowRunFilterName(any_=[name])),
            sort=FlowRunSort.START_TIME_DESC,
            limit=1,
        )[0]


def artifacts(flow_run: FlowRun) -> dict[str, Any]:
    """Of that run, by key; of several under one key the newest."""
    of_run = ArtifactFilter(flow_run_id=ArtifactFilterFlowRunId(any_=[flow_run.id]))
    with get_client(sync_client=True) as client:
        found = client.read_artifacts(artifact_filter=of_run, sort=ArtifactSort.CREATED_DESC)
    return {str(artifact.key): artifact for artifact in reversed(found)}


def eventually(look: Callable[[], Any], seconds: float = 20) -> Any:
    """What `look` finds: logs and events reach the server a moment later."""
    deadline = time.monotonic() + seconds
    while not (found := look()):
        assert time.monotonic() < deadline, "it did not come in time"
        time.sleep(0.2)
    return found


def emitted(model: Model, word: str, after: str) -> list[dict[str, Any]]:
    """What the model's events of that name say, those that the server has recorded since."""
    wanted = {"filter": {"event": {"name": [f"ror.{model.name}.{word}"]}, "occurred": {"since": after}}}
    with get_client(sync_client=True) as client:
        answer = client._client.post("/events/filter", json=wanted)
    answer.raise_for_status()
    return [item["payload"] for item in answer.json()["events"]]


def reminders(model: Model, after: str) -> list[dict[str, Any]]:
    return [payload for payload in emitted(model, "awaitingapproval", after) if payload.get("reminder")]


def log_of(flow_run_id: UUID) -> list[str]:
    of_run = LogFilter(flow_run_id=LogFilterFlowRunId(any_=[flow_run_id]))
    with get_client(sync_client=True) as client:
        return [line.message for line in client.read_logs(log_filter=of_run, sort=LogSort.TIMESTAMP_ASC)]


def test_a_decided_run_shows_what_it_decided(grown: Model) -> None:
    """Card, checks, picture and page are artifacts of the run, keyed by model; tags name version, model and outcome."""
    grown.deliver("003")
    assert run(grown).outcome is Outcome.RELOADED
    made = last_run("loans · 003")
    shown = artifacts(made)
    assert set(shown) == {"loans-decision", "loans-checks", "loans-loss", "loans-page"}
    assert made.tags == ["v2", "loans", "Reloaded"]
    card = shown["loans-decision"]
    assert card.description.startswith("Reloaded — v2 in service; ")
    assert "**v2** since" in card.data and "| v1, " not in card.data.splitlines()[0]
    assert re.search(r"\| Before.it \| v1, ", card.data)
    assert "data:image/svg+xml;base64," in shown["loans-loss"].data
    table = json.loads(shown["loans-checks"].data)
    assert {"check", "verdict", "says"} < set(table[0])
    page = re.search(r"file://(\S+)/report\.html", shown["loans-page"].data)
    assert page and page[1].endswith(f"loans/runs/{grown.workspace.ledger.head().seq:08d}")


def test_a_skipped_run_is_tagged(grown: Model) -> None:
    """It has no decision to show, and can be found by model and outcome all the same."""
    grown.deliver("003")
    with Lease(grown.workspace.ledger, run="first", key="k", actor="tests", reason=""):
        assert run(grown).outcome is Outcome.SKIPPED
    made = last_run("loans · 003")
    assert (made.tags, artifacts(made)) == (["loans", "Skipped"], {})


def test_approval_by_the_form(grown: Model) -> None:
    """What the card says to fill in is what the flow takes; afterwards no card of the model tells an old version."""
    grown.write_spec(APPROVE)
    grown.deliver("003")
    assert run(grown, action="retrain", reason="try it").outcome is Outcome.AWAITING_APPROVAL
    card = artifacts(last_run("loans · 003"))["loans-approval"]
    assert card.description.startswith("v3 waits for approval since ")
    form = json.loads(re.findall(r"```json\n(.*?)```", card.data, flags=re.S)[0])

    with pytest.raises(Exception, match="reason"):  # it must be filled in
        promote(**form, root=str(grown.root))
    state = promote(**{**form, "reason": "looks right"}, root=str(grown.root), return_state=True)
    assert state.name == Outcome.PROMOTED
    assert [served.version for served in grown.workspace.ledger.head().state.served] == [1, 2, 3]
    made = last_run("loans · v3")
    shown = artifacts(made)
    assert made.tags == ["v3", "loans", "Promoted"]
    assert "v3 put in service, in place of v2 (approved): looks right" in shown["loans-decision"].data
    assert shown["loans-approval"].description == "Nothing waits for approval"
    assert "**v3** since" in shown["loans-approval"].data


@pytest.mark.slow
def test_who_waits_is_remembered_once_per_decision(grown: Model) -> None:
    """Each later decision reminds, by a line in its log and an event; a run that finds nothing new does not."""
    grown.write_spec(APPROVE)
    grown.deliver("003")
    run(grown, action="retrain", reason="try it")
    grown.deliver("004")
    start = grown.workspace.ledger.head().at or ""
    assert run(grown).outcome in (Outcome.RELOADED, Outcome.HELD)
    again = last_run("loans · 004")
    eventually(lambda: [line for line in log_of(again.id) if line.startswith("v3 waits for approval since ")])
    told = [{"seq": grown.workspace.ledger.head().seq, "version": 3, "reminder": True}]
    assert eventually(lambda: reminders(grown, start)) == told

    run(grown)
    idle = last_run("loans · no new batch")
    assert "loans-approval" in artifacts(idle)
    said = eventually(lambda: (lines := log_of(idle.id)) and any("Finished in state" in x for x in lines) and lines)
    assert not [line for line in said if line.startswith("v3 waits")]
    assert reminders(grown, start) == told


def test_an_outcome_is_an_event_once_per_decision(grown: Model) -> None:
    """Who waits for `ror.loans.retrained` must not start again because a run found nothing new; that the model was
    looked at is said by every run, for the alarm that waits for it. Such a run is named so, too."""
    start = datetime.now(UTC).isoformat()
    grown.deliver("003", make_rows(seed=3).drop(columns="age"))
    run(grown, action="retrain", reason="try it")
    run(grown, action="retrain", reason="try it")
    checked = eventually(lambda: (found := emitted(grown, "checked", start)) and len(found) == 2 and found)
    assert sorted(payload["fresh"] for payload in checked) == [False, True]
    assert {payload["outcome"] for payload in checked} == {"Blocked"}
    assert len(emitted(grown, "blocked", start)) == 1
    assert last_run("loans · no new batch").tags[1:] == ["loans", "Blocked"]


def test_an_outcome_that_could_not_be_told_is_told_by_the_next_run(
    grown: Model, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A run that fails between writing its page and telling what came of it leaves both for the next run, which goes on
    where it fails at that, too."""
    start = datetime.now(UTC).isoformat()
    grown.deliver("003")
    tag, failing = publication.tag_run, [True, True]

    def tag_run(*tags: str) -> None:
        if failing and failing.pop():
            raise RuntimeError("the server was restarted")
        tag(*tags)

    monkeypatch.setattr(publication, "tag_run", tag_run)
    assert run(grown, action="retrain", reason="try it").outcome is Outcome.RETRAINED  # which it has done
    assert emitted(grown, "retrained", start) == []
    assert run(grown, action="retrain", reason="try it").outcome is Outcome.RETRAINED
    assert len(eventually(lambda: emitted(grown, "retrained", start))) == 1


def test_batches_that_could_not_be_predicted(grown: Model, monkeypatch: pytest.MonkeyPatch) -> None:
    """A disk that is full after the decision: the error says first what was decided, and the next run predicts, shows
    and tells it, once."""
    start = datetime.now(UTC).isoformat()
    grown.deliver("003")

    def full(*_: Any, **__: Any) -> None:
        raise StoreError("Could not write 003.parquet: No space left on device.")

    with monkeypatch.context() as disk:
        disk.setattr(predict_task, "write_predictions", full)
        with pytest.raises(Unfinished, match=r"^loans · 003: Retrained — v3 in service.*stands.*No space left") as told:
            run(grown, action="retrain", reason="try it")
    assert told.value.exit_code == 1
    assert grown.workspace.state().current.version == 3
    assert emitted(grown, "retrained", start) == []
    assert run(grown, action="retrain", reason="try it").exit_code == 0
    assert (grown.root / "data/loans/predictions/003.parquet").exists()
    assert len(eventually(lambda: emitted(grown, "retrained", start))) == 1


@pytest.mark.parametrize("name", ["performance.html", "report.html", "decision.json"])
def test_a_disk_that_is_full_at_what_a_run_shows(grown: Model, monkeypatch: pytest.MonkeyPatch, name: str) -> None:
    """Whatever of it no longer fits, the run ends as it decided; its page and record are there after the next one, and
    the outcome is one event, however often it was told."""
    start = datetime.now(UTC).isoformat()
    grown.deliver("003")
    create = Store.create

    def full(self: Store, path: str, data: bytes, **how: Any) -> None:
        if path.endswith(name):
            raise StoreError(f"Could not create {path}: the disk is full.")
        create(self, path, data, **how)

    with monkeypatch.context() as disk:
        disk.setattr(Store, "create", full)
        result = run(grown, action="retrain", reason="try it")
    assert (result.outcome, result.exit_code) == (Outcome.RETRAINED, 0)
    assert (grown.root / "data/loans/predictions/003.parquet").exists()
    run(grown, action="retrain", reason="try it")
    folder = grown.root / layout.run_folder("artifacts/loans", grown.workspace.ledger.head().seq)
    assert {"report.html", "decision.json"} <= {file.name for file in folder.iterdir()}
    assert eventually(lambda: len(emitted(grown, "checked", start)) >= 2)
    assert len(emitted(grown, "retrained", start)) == 1


def test_the_log_tells_a_story(grown: Model) -> None:
    """A run with training says in at most a dozen lines what it found, decided and did, in that order."""
    grown.deliver("003")
    run(grown, action="retrain", reason="try it")
    made = last_run("loans · 003")
    lines = eventually(lambda: (found := log_of(made.id)) and "Finished in state" in found[-1] and found)
    assert len(lines) <= 12, lines
    assert not [line for line in lines if "Completed()" in line]
    starts = ["Beginning flow run", "v2 is in service", "003: 600 rows", "v2 loses", "Decision: retrain", "Training on",
              "v3 is registered", "Predicted by v", "Finished in state"]  # fmt: skip
    places = [next(place for place, line in enumerate(lines) if line.startswith(start)) for start in starts]
    assert places == sorted(places)


def test_a_long_fit_shows_its_progress(grown: Model, monkeypatch: pytest.MonkeyPatch) -> None:
    """One bar, updated in place, that ends at 100; a fit that is short has none."""
    monkeypatch.setattr(train, "LONG", 3600.0)  # on a busy machine the fit of this test is none of seconds
    grown.deliver("003")
    run(grown, action="retrain", reason="try it")
    assert "loans-training" not in artifacts(last_run("loans · 003"))
    monkeypatch.setattr(train, "LONG", 0.0)
    grown.deliver("004")
    run(grown, action="retrain", reason="again")
    bar = artifacts(last_run("loans · 004"))["loans-training"]
    assert (bar.type, float(bar.data), bar.description) == ("progress", 100.0, "v4 is registered")


def test_a_failed_fit_ends_its_bar(grown: Model, monkeypatch: pytest.MonkeyPatch) -> None:
    """Nobody waits for a fit that is over."""
    monkeypatch.setattr(train, "LONG", 0.0)
    grown.write_spec('[pipeline]\nfactory = "tests.flows.pipelines:broken"')
    grown.deliver("003")
    assert run(grown, action="retrain", reason="a new pipeline").outcome is Outcome.RETRAIN_FAILED
    bar = artifacts(last_run("loans · 003"))["loans-training"]
    assert (float(bar.data), bar.description) == (100.0, "It failed: the run says why")
