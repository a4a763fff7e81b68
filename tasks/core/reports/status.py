"""What people and scripts read: the status of a model, and its history."""

from __future__ import annotations

import contextlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime

from tasks.core.data.files import arriving, in_order
from tasks.core.data.unread import unread
from tasks.core.errors import RorError
from tasks.core.ledger.events import Accepted, Cleared, Decided, Event, EventKind, Failed, Promoted, Quarantined
from tasks.core.ledger.ledger import Ledger
from tasks.core.ledger.state import State
from tasks.core.reports.wording import describe_event
from tasks.core.run.work import pending_names
from tasks.core.types import TOO_GOOD, Action, CheckKind, LossPoint, Metric, Outcome, Rule, Served, Snooze, Verdict
from tasks.core.versions.manifest import Manifest, training_digest
from tasks.core.workspace import Workspace

LEASE = (EventKind.STARTED, EventKind.RENEWED)
"""Events of the lease: nothing was decided or done."""


@dataclass(frozen=True, slots=True)
class Promotion:
    """By whom, and why, a version was put in service by hand."""

    seq: int
    """The history entry that says so."""
    actor: str
    reason: str
    was: str | None
    """What it was: `approved`, `rolled back`, `gate overridden`, `cleared` or `chosen`."""


@dataclass(frozen=True, slots=True)
class TrainedOn:
    """The data of a version."""

    rows: int
    batches: tuple[str, ...]
    sha256: str
    """One digest for all of them."""


@dataclass(frozen=True, slots=True)
class ServedBatch:
    """What users saw of one batch."""

    batch: str
    version: int
    """Which served it."""
    loss: float
    """Mean over its labelled rows; lower is better."""
    rows: int
    """Labelled rows."""
    coverage: float
    """Those rows as a share of the batch's rows, 0 to 1."""
    lag: int | None
    """Batches that had arrived after it when its labels counted."""


@dataclass(frozen=True, slots=True)
class InService:
    """The loss on each recent batch of the version that served it."""

    loss: float
    """Mean over all rows."""
    rows: int
    batches: tuple[str, ...]
    each: tuple[ServedBatch, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Status:
    """What is in service, why, and what waits; its fields are the keys of `ror status --json`, in their order."""

    model: str
    version: int | None
    since: str | None
    """When it was put in service, UTC."""
    promoted: Promotion | None
    """None where the rules put it there."""
    decision: Action | None
    """Of the newest decision, as are `reasons`, `outcome` and `next_retrain`."""
    reasons: tuple[str, ...]
    metrics: Mapping[str, Metric] = field(default_factory=dict)
    """Of the version in service, on rows that it never saw, before it was put in service."""
    trained_on: TrainedOn | None = None
    pending_batches: tuple[str, ...]
    waiting: tuple[int, ...]
    """Versions that wait for approval."""
    outcome: Outcome | None
    made_because: tuple[str, ...] = ()
    """Why the version in service was trained."""
    next_retrain: str | None
    """What the rule of the economic interval said; None where an earlier rule decided before it looked."""
    prequential: InService | None = None
    blocked: tuple[str, ...]
    """Batches that are set aside."""
    changed: tuple[str, ...]
    """Those of them that a person may accept."""
    suspect: str | None
    quarantined: tuple[str, ...]
    accepted: tuple[str, ...]
    """Batches whose changed content was accepted, and that no version has learned from yet."""
    barred: tuple[int, ...]
    """Versions that were rolled back."""
    snoozed: tuple[Snooze, ...]
    arriving: tuple[str, ...]
    """Files that may still be written, relative to the root."""
    unlabelled: tuple[str, ...]
    """Batches that were decided on and whose labels do not count yet."""
    warnings: tuple[str, ...]
    """What the newest decision remarked about keys and labels; files that no run looks at; what the model's file names
    and the newest data do not have, which the next fit refuses; and what about the version in service is too good to be
    true, until a person snoozes the column. One sentence each."""


@dataclass(frozen=True, slots=True)
class Entry:
    """One event of the history; its fields are the keys of `ror history --json`, in their order."""

    seq: int
    at: str
    """When, UTC."""
    event: str
    action: Action | None
    """What was decided, None for any other event; so is `outcome`."""
    version: int | None
    """In service from then on."""
    reasons: tuple[str, ...]
    window: tuple[str, ...]
    """Batches that were decided on."""
    run: str
    actor: str
    outcome: Outcome | None
    blocked: tuple[str, ...]
    batch: str | None
    """The one that a person acted on."""
    deed: str | None
    """What a person did, in words."""


def status(workspace: Workspace) -> Status:
    """Which version is in service, since when, why, trained on which data, justified by which metrics."""
    from tasks.core.checks.declared import problems_here

    head = workspace.ledger.head()
    state = head.state
    decided = workspace.ledger.decision(state.decided.seq) if state.decided else None
    pending = pending_names(workspace, state)
    unlabelled = [b for b, record in state.batches.items() if not record.labels and b not in state.quarantined]
    answer = Status(
        model=workspace.model,
        version=state.current.version if state.current else None,
        since=state.since,
        promoted=_promotion(workspace.ledger, state),
        decision=decided.decision.action if decided else None,
        reasons=decided.decision.reasons if decided else (),
        pending_batches=tuple(pending),
        waiting=tuple(served.version for served in state.waiting),
        outcome=decided.outcome if decided else None,
        next_retrain=_next_retrain(decided),
        blocked=tuple(in_order(set(state.blocked) & {*pending, *state.batches}, state.order)),
        changed=tuple(in_order(set(state.changed) & set(pending), state.order)),
        suspect=state.suspect,
        quarantined=state.quarantined,
        accepted=state.accepted,
        barred=state.barred,
        snoozed=_snoozed(state),
        arriving=tuple(arriving(workspace.root, workspace.spec, state.batches)),
        unlabelled=tuple(in_order(unlabelled, state.order)),
        warnings=(
            *_remarks(decided),
            *unread(workspace.root, workspace.spec),
            *problems_here(workspace.root, workspace.spec),
        ),
    )
    if state.current is None:
        return answer
    manifest = workspace.manifest_of(state.current)
    batches = tuple(file.batch for file in manifest.training)
    return replace(
        answer,
        metrics=manifest.metrics,
        trained_on=TrainedOn(manifest.rows, batches, training_digest(manifest)),
        warnings=(*answer.warnings, *_doubts(workspace.model, manifest, state), *_code(workspace, state.current)),
        made_because=manifest.reasons,
        prequential=_in_service(state),
    )


def _snoozed(state: State) -> tuple[Snooze, ...]:
    """What has not run out."""
    today = datetime.now(UTC).date().isoformat()
    return tuple(snooze for snooze in state.snoozed if snooze.until >= today)


def _remarks(decided: Decided | None) -> tuple[str, ...]:
    """Warnings about keys and labels: what did not find its place, or could not be used."""
    checks = decided.checks if decided else ()
    about = (CheckKind.KEYS, CheckKind.LABELS, CheckKind.OVERRULED)
    unusable = [problem for item in decided.blocked if not item.sha256 for problem in item.problems] if decided else []
    said = [check.summary for check in checks if check.kind in about and check.verdict is Verdict.WARN]
    return (*unusable, *said)


def _doubts(model: str, manifest: Manifest, state: State) -> list[str]:
    """What is too good to be true about a version, each with the command that says that it is right."""
    if TOO_GOOD not in manifest.gate.reason:
        return []
    from tasks.core.training.doubt import doubts_in, known_good

    command = f"`ror snooze {model} --columns ... --until 2099-12-31 --reason '...'`"
    found = doubts_in(manifest.gate.reason, known_good(state))
    return [f"{TOO_GOOD}{text}. If it is right, {command} says so, once" for text in found]


def _code(workspace: Workspace, served: Served) -> list[str]:
    """Whether the version in service brings its own modules along; what else is wrong with it, a run says."""
    with contextlib.suppress(RorError):
        if modules := workspace.registry.from_record(workspace.model, served):
            from tasks.core.versions.own_code import brings_along

            return [brings_along(served.version, modules)]
    return []


def _next_retrain(decided: Decided | None) -> str | None:
    """What the rule of the economic interval saw last; None where an earlier rule had decided before it looked."""
    found = (finding.reason for finding in decided.decision.findings if finding.rule is Rule.STALE) if decided else ()
    return next(iter(found), None)


def _promotion(ledger: Ledger, state: State) -> Promotion | None:
    """By whom, and why, the version in service was put there by hand; None when the rules did."""
    if state.promoted is None:
        return None
    event = ledger.event(state.promoted)
    return Promotion(event.seq, event.actor, event.reason, event.content_as(Promoted).was)


def _in_service(state: State) -> InService | None:
    """What users saw: the loss on each recent batch of the version that served it, with lag and coverage of its labels.

    A batch is left out when that version had been trained on its labels, or when it was served by none.
    """
    points = sorted((p for p in state.losses if _served(state, p)), key=lambda point: state.order(point.batch))
    if not points:
        return None
    each = tuple(
        ServedBatch(
            batch=point.batch,
            version=point.version,
            loss=point.mean,
            rows=point.rows,
            coverage=state.batches[point.batch].coverage,
            lag=state.batches[point.batch].lag,
        )
        for point in points
    )
    rows = sum(item.rows for item in each)
    loss = sum(item.loss * item.rows for item in each) / rows
    return InService(loss, rows, tuple(item.batch for item in each), each)


def _served(state: State, point: LossPoint) -> bool:
    record = state.batches.get(point.batch)
    return record is not None and record.version == point.version


def history(ledger: Ledger, events: Sequence[Event] | None = None) -> list[Entry]:
    """Every event, oldest first; `started` and `renewed` are the lease's and left out."""
    return [_entry(event) for event in (ledger.events() if events is None else events) if event.event not in LEASE]


def _entry(event: Event) -> Entry:
    body = event.content
    entry = Entry(
        seq=event.seq,
        at=event.at,
        event=event.event,
        action=None,
        version=event.current.version if event.current else None,
        reasons=(event.reason,) if event.reason else (),
        window=(),
        run=event.run,
        actor=event.actor,
        outcome=None,
        blocked=(),
        batch=body.batch if isinstance(body, Accepted | Quarantined | Cleared) else None,
        deed=describe_event(event),
    )
    if isinstance(body, Decided):
        return replace(
            entry,
            action=body.decision.action,
            reasons=body.decision.reasons,
            window=tuple(batch.id for batch in body.window),
            outcome=body.outcome,
            blocked=tuple(item.batch for item in body.blocked),
        )
    return replace(entry, reasons=(body.error,)) if isinstance(body, Failed) else entry
