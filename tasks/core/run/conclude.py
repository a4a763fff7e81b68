"""From a decision and what came of it to the run's single commit: outcome, version in service, `decided` event."""

from __future__ import annotations

from dataclasses import replace

from tasks.core.data.files import in_order, natural_order
from tasks.core.decision.evidence import Evidence
from tasks.core.decision.policy import POLICY_VERSION
from tasks.core.ledger.events import Decided
from tasks.core.ledger.state import State
from tasks.core.ledger.transitions import with_labels
from tasks.core.run.assess import DataFindings, Findings
from tasks.core.spec import ModelSpec
from tasks.core.text import named
from tasks.core.types import (
    NO_BATCHES,
    Action,
    Attempt,
    AttemptOutcome,
    Blocked,
    CheckKind,
    Decision,
    Outcome,
    Served,
    Verdict,
)


def conclude(
    found: State,
    now: State,
    spec: ModelSpec,
    measured: Findings,
    evidence: Evidence,
    decision: Decision,
    attempt: Attempt | None,
) -> Decided:
    """The body of the `decided` event.

    `found` is the state that was decided on, `now` the newest one: if a person promoted, barred or quarantined
    something in between, what they did is kept, and a challenger is registered but not put in service. Labels count
    for batches that are decided on, so not for those that the version now in service would not accept.

    Where the version in service does not load here and no other takes its place, batches are left for a later run: it
    could not predict them, and the version that can may be another one.
    """
    attempt = _awaited(spec, attempt)
    overtaken = now.by_hand != found.by_hand
    data, labels = measured.data, measured.labels
    stays = _effect(now, decision, attempt, overtaken)[0] == found.current
    if found.current is not None and evidence.current is None and stays:
        data = DataFindings(novel=now.novel)
    if labels.unjoined and decision.action in (Action.RELOAD, Action.HOLD):  # who waits for labels reads why
        first, *others = decision.reasons
        decision = replace(decision, reasons=("; ".join((first, *labels.unjoined)), *others))
    known = {*now.batches, *(batch.id for batch in data.valid)}
    labelled = tuple(item for item in labels.labelled if item.batch in known)
    if attempt and (overtaken or len(labelled) < len(labels.labelled)):
        # What was put in quarantine meanwhile, or is set aside since, counts no more.
        usable = with_labels(now, labelled, decision).usable
        attempt = replace(attempt, labelled=min(attempt.labelled, len(usable)))
    in_service, outcome = _effect(now, decision, attempt, overtaken)
    blocked = (*data.blocked, *labels.blocked)
    if data.nothing and now.batches:
        blocked = (*blocked, Blocked(NO_BATCHES, "", (data.nothing,)))
        if decision.action is Action.RELOAD:  # nothing was looked at that could be as expected
            decision = replace(decision, reasons=("the current version stays in service",))
    elif data.nothing:
        decision = replace(decision, reasons=(data.nothing, *decision.reasons))
    if (still := evidence.aside) and decision.action in (Action.RELOAD, Action.HOLD):  # not all is as expected
        first, *others = decision.reasons
        aside = f"{named(in_order(still, now.order))} {'stays' if len(still) == 1 else 'stay'} set aside"
        decision = replace(decision, reasons=(f"{first}; {aside}", *others))
    if data.early and in_service:
        decision = replace(decision, reasons=(*decision.reasons, data.early))
    if labels.overdue and decision.action in (Action.RELOAD, Action.HOLD):
        outcome = Outcome.LABELS_OVERDUE
        decision = replace(decision, reasons=(*decision.reasons, labels.overdue.reason))  # last: alerts quote it
    if any(not item.again for item in blocked):
        outcome = Outcome.BLOCKED
    return Decided(
        outcome=outcome,
        decision=decision,
        window=data.valid,
        window_rows=data.rows,
        blocked=blocked,
        labelled=labelled,
        losses=tuple(point for point in labels.losses if point.batch in known),
        comparisons=tuple(item for item in labels.comparisons if item.batch in known),
        checks=tuple(
            check  # passed checks of content are many and say nothing; the others are the run's measurements
            for check in (*data.checks, *labels.checks, *measured.drift.checks)
            if check.verdict is not Verdict.PASS or check.kind is not CheckKind.CONTENT
        ),
        attempt=attempt,
        in_service=in_service,
        spec=spec.digest,
        policy_version=POLICY_VERSION,
        evidence=evidence,
        label_files=labels.files,
        novel=data.novel,
        natural=now.order is natural_order,
    )


def left_in_service(
    found: State, now: State, spec: ModelSpec, decision: Decision, attempt: Attempt | None
) -> Served | None:
    """The version that a decision leaves in service: the one that predicts what it covers."""
    return _effect(now, decision, _awaited(spec, attempt), now.by_hand != found.by_hand)[0]


def _awaited(spec: ModelSpec, attempt: Attempt | None) -> Attempt | None:
    """What came of an attempt where a person approves of versions."""
    if attempt and attempt.outcome is AttemptOutcome.REGISTERED and spec.policy.promotion == "approve":
        return replace(attempt, outcome=AttemptOutcome.WAITING)
    return attempt


def _effect(now: State, decision: Decision, attempt: Attempt | None, overtaken: bool) -> tuple[Served | None, Outcome]:
    current = now.current
    match decision.action:
        case Action.RELOAD:
            return current, Outcome.RELOADED
        case Action.HOLD:
            return current, Outcome.HELD
        case Action.BLOCK:
            return current, Outcome.BLOCKED
        case Action.ROLLBACK:
            return (current, Outcome.KEPT) if overtaken else (now.predecessor, Outcome.ROLLED_BACK)
    assert attempt is not None
    if attempt.outcome is AttemptOutcome.FAILED:
        return current, Outcome.RETRAIN_FAILED
    if attempt.outcome is AttemptOutcome.REFUSED:
        return current, Outcome.KEPT if current else Outcome.HELD
    if attempt.outcome is AttemptOutcome.WAITING:
        return current, Outcome.AWAITING_APPROVAL
    if overtaken:
        return current, Outcome.KEPT
    assert attempt.version is not None and attempt.manifest is not None
    return Served(attempt.version, attempt.manifest, attempt.labelled), Outcome.RETRAINED
