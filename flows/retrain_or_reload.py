"""The main flow: load -> check -> decide -> reload | retrain -> predict -> publish."""

from __future__ import annotations

import tempfile
import time
from datetime import UTC, datetime, timedelta
from functools import partial
from pathlib import Path
from typing import Any, Literal
from uuid import UUID

from prefect import flow, get_run_logger
from prefect.deployments import run_deployment
from prefect.runtime import deployment, flow_run
from prefect.states import Completed, Failed

from flows.run_support import OutOfTime, carry_on, concluded, quiet_task_log, raise_when_over, started_by, time_limit
from tasks.alert import emit_alerts
from tasks.check import check_data, check_drift, check_performance
from tasks.core import text
from tasks.core.data.files import arriving, is_unchanged
from tasks.core.data.unread import unread
from tasks.core.decision.policy import decide
from tasks.core.errors import (
    LeaseHeld,
    NotFound,
    RorError,
    RunTimedOut,
    Unfinished,
    UnpredictableData,
    VerificationError,
)
from tasks.core.ledger.events import Decided, Event
from tasks.core.ledger.lease import Lease
from tasks.core.ledger.state import State
from tasks.core.predictions import predictions_path
from tasks.core.records import digest
from tasks.core.reports import wording
from tasks.core.run.assess import NOT_HERE, Findings, collect, recheck
from tasks.core.run.conclude import conclude, left_in_service
from tasks.core.run.trainable import judgeable
from tasks.core.run.work import Work, arrived_since, check_request, find_work, fresh_names
from tasks.core.types import Action, Outcome, Request
from tasks.core.versions.threads import fair, use
from tasks.core.workspace import Workspace
from tasks.find import find_arrived
from tasks.load import load_current
from tasks.predict import predict_batch
from tasks.publish import is_published, publish, tag_run
from tasks.train import train

FOLLOWS_AFTER = 30
"""Seconds: by then the server knows that this run has ended, and does not cancel the next one for its sake. Workers
take runs ten seconds ahead."""


def run_name() -> str:
    """`flights · 2013-07`: the model and the newest batch to decide on."""
    asked = flow_run.parameters
    workspace = Workspace.open(asked["root"], asked["model"])
    try:
        fresh = fresh_names(workspace, workspace.state())
    except (OSError, RorError):  # what is wrong, the run itself says
        return str(asked["model"])
    window = asked["batch"] or (fresh[-1] if fresh else "no new batch")
    return f"{asked['model']} · {window}"


@flow(name="retrain-or-reload", flow_run_name=run_name)
def retrain_or_reload(
    model: str,
    action: Literal["auto", "reload", "retrain"] = "auto",
    batch: str | None = None,
    reason: str | None = None,
    actor: str | None = None,
    root: str | None = None,
) -> Any:
    """Decide whether the model's current version is reloaded or a new one is trained, and carry it out.

    Args:
        model: Name of the model: flights for deployments/flights.toml.
        action: auto lets the rules decide. The others are carried out, and recorded, as asked by hand.
        batch: Decide on this batch only. Empty: on every pending one.
        reason: Why you ask, for the history. Needed unless the action is auto.
        actor: Who asks, for the history. Empty: as Prefect knows it.
        root: Folder that holds deployments/, data/ and artifacts/. Empty: ROR_ROOT, else the current folder.
    """
    workspace = Workspace.open(root, model)
    request = Request(action, reason or None, actor or started_by(), batch or None)  # the form has empty texts
    check_request(request)
    with time_limit(workspace.spec.timeout_minutes), quiet_task_log():
        return check_and_act(workspace, request)


def check_and_act(workspace: Workspace, request: Request) -> Any:
    """One run, from what has arrived to the state that it ends in."""
    threads = own_threads(workspace)
    wait_for_arrivals(workspace)
    state = workspace.state()
    work = find_arrived(workspace, request, state)
    if state.decided is not None:
        complete(workspace, workspace.ledger.event(state.decided.seq), request)
    with tempfile.TemporaryDirectory(prefix="ror-") as folder:
        pages, measured = Path(folder), None
        if work.decided is not None:
            event = workspace.ledger.event(work.decided)
            when = text.minute(event.at)
            get_run_logger().info("This very question was decided on %s; nothing new has arrived since.", when)
            load_current(workspace, state, request)  # what is said to be in service is ready to be served
            predict(workspace, event)
        else:
            try:
                event, measured = _decide(workspace, request, work, pages, threads)
            except LeaseHeld as other:
                concluded(Outcome.SKIPPED, str(other))
                carry_on(partial(tag_run, workspace.model, Outcome.SKIPPED.value))
                return Completed(name=Outcome.SKIPPED, message=str(other))
            try:
                predict(workspace, event)
            except (Exception, OutOfTime) as error:
                reason = RunTimedOut(str(error)) if isinstance(error, OutOfTime) else error
                raise Unfinished(in_words(workspace, event), reason) from error
        decided, message = event.content_as(Decided), in_words(workspace, event)
        concluded(decided.outcome, message)
        carry_on(partial(publish, workspace, event, measured, pages))
    carry_on(partial(emit_alerts, workspace))
    carry_on(partial(follow_up, workspace, work))
    final = Failed if decided.outcome.failed else Completed
    return final(name=decided.outcome, message=message)  # Prefect logs both


def in_words(workspace: Workspace, event: Event) -> str:
    """What was decided, and what lies beside the batches and is none."""
    decided = event.content_as(Decided)
    beside = [f"{found}." for found in unread(workspace.root, workspace.spec)]
    return " ".join([wording.headline(decided, workspace.model), *wording.also(decided), *beside])


def wait_for_arrivals(workspace: Workspace) -> None:
    """Wait until files that may still be written have settled, but no longer than one that is left alone takes."""
    settle = workspace.spec.data.settle
    seconds = 0.0 if settle == "marker" else float(settle)
    deadline = time.monotonic() + seconds
    known = workspace.state().batches
    files = arriving(workspace.root, workspace.spec, known)
    if files and seconds:
        get_run_logger().info("Waiting up to %g s for files that may still be written: %s.", seconds, ", ".join(files))
    while files and time.monotonic() < deadline:
        time.sleep(min(0.2, seconds / 10))
        files = arriving(workspace.root, workspace.spec, known)
    if files:
        get_run_logger().warning("Not counted, for they may still be written: %s.", ", ".join(files))


def follow_up(workspace: Workspace, work: Work) -> None:
    """Let another run of this deployment look at what arrived while this one was at work: a run that was asked for
    then was refused for its sake."""
    now = find_work(workspace, Request(), workspace.state())
    arrived = arrived_since(workspace.root, work, now)
    if not arrived:
        return
    log, names = get_run_logger(), text.named(arrived)
    if deployment.id is None:
        log.info("Arrived meanwhile, for the next run: %s.", names)
        return
    asked = flow_run.parameters
    run_deployment(
        UUID(deployment.id),
        parameters={name: asked[name] for name in ("model", "root")},
        scheduled_time=datetime.now(UTC) + timedelta(seconds=FOLLOWS_AFTER),
        timeout=0,
        as_subflow=False,
        idempotency_key=digest(f"{flow_run.id} {now.key}".encode()),
    )
    log.info("Arrived meanwhile: %s. Another run looks at it in %d s.", names, FOLLOWS_AFTER)


def complete(workspace: Workspace, event: Event, request: Request) -> None:
    """What a run that was killed after deciding left undone: predictions, and a page, of what the history keeps.

    A version that cannot be loaded any more holds up nothing once another one is in service; nor a retrain by hand,
    where it is only this machine that cannot load it.
    """
    state = workspace.state()
    try:
        predict(workspace, event)
    except (VerificationError, NotFound) as error:
        led_out = request.action == "retrain" and isinstance(error, NOT_HERE)
        if not led_out and _still_served(state, event):
            raise
        get_run_logger().error("What was decided as entry %d stays without predictions: %s", event.seq, error)
    if not is_published(workspace, event):
        carry_on(partial(publish, workspace, event, None, None))


def _still_served(state: State, event: Event) -> bool:
    left = event.current
    return left is not None and state.current is not None and state.current.version == left.version


def predict(workspace: Workspace, event: Event) -> None:
    """Predict what a decision covers and is not predicted yet, with the version that it left in service."""
    decided, log, done = event.content_as(Decided), get_run_logger(), []
    for batch in decided.window:
        if not decided.in_service or predictions_path(workspace, batch).exists():
            continue
        if is_unchanged(workspace.root, batch):
            # As the history has it now: a person may have accepted another environment for it since.
            served = workspace.state().as_known(decided.in_service)
            try:
                predict_batch(workspace, batch, served, event.run)
            except UnpredictableData as error:  # it answered when it was asked: the others proceed
                log.error("%s stays without predictions: %s", batch.id, error)
            else:
                done.append(batch.id)
        else:
            log.error("%s cannot be predicted: it changed or is gone since it was decided on.", batch.id)
    if decided.in_service and done:
        log.info("Predicted by v%d: %s.", decided.in_service.version, text.named(done))


def own_threads(workspace: Workspace) -> int:
    """The threads of numerical libraries that this process uses from now on: as the model's file says, else its fair
    part. A model has one run at a time, and those that deployments start may all be at work at once."""
    runs = max(1, len(workspace.project.models)) if deployment.id else 1
    number = workspace.spec.training.threads or fair(runs)
    use(number)
    return number


def _decide(workspace: Workspace, request: Request, work: Work, pages: Path, threads: int) -> tuple[Event, Findings]:
    """Measure, judge and act under the lease; the `decided` event is the run's single commit.

    Raises LeaseHeld when another run of this model is at work, or has just answered the same question.
    """
    who, why = request.actor, request.reason or ""
    with Lease(workspace.ledger, run=str(flow_run.id), key=work.key, actor=who, reason=why) as lease:
        state = lease.state
        work = find_work(workspace, request, state)
        if work.decided is not None:
            raise LeaseHeld("Another run has just decided this very question.")
        known = load_current(workspace, state, request)
        data = check_data(workspace, known, work)
        work = work.without({item.batch for item in data.blocked})
        labels = check_performance(workspace, known, work, data, pages)
        drift = check_drift(workspace, known, work, data, pages)

        found = Findings(data, labels, drift)
        evidence = collect(request, known, found)
        decision = decide(evidence, workspace.spec.policy)
        decision = judgeable(workspace, state, work, labels.labelled, decision)
        get_run_logger().info(
            "Decision: %s, by the rule %r: %s.", decision.action.value, decision.rule.value, "; ".join(decision.reasons)
        )

        attempt = None
        if decision.action is Action.RETRAIN:
            attempt = train(workspace, state, work, labels.labelled, decision, threads)

        # Before the commit, which holds up the lease's renewals: to ask a version about whole batches takes a while.
        asked = left_in_service(state, state, workspace.spec, decision, attempt)
        measured = recheck(workspace, work, state, state, found, asked)

        def body(now: State) -> Decided:
            nonlocal asked, measured
            raise_when_over()  # whatever became of the interruption: a failed fit of a run out of time is no attempt
            left = left_in_service(state, now, workspace.spec, decision, attempt)
            if now.current != state.current or left != asked:
                asked, measured = left, recheck(workspace, work, state, now, found, left)
            return conclude(state, now, workspace.spec, measured, evidence, decision, attempt)

        return lease.commit(body), measured
