"""What about a model waits for a person: once per cause in the text, however often it is said."""

from __future__ import annotations

import shlex
from dataclasses import dataclass

from tasks.core.data.files import delivered, fingerprint, in_order, natural_order
from tasks.core.ledger.events import Decided
from tasks.core.ledger.state import State
from tasks.core.records import digest
from tasks.core.reports import wording
from tasks.core.types import NO_BATCHES, TOO_SMALL, Action, AttemptOutcome, Outcome
from tasks.core.workspace import Workspace


@dataclass(frozen=True, slots=True)
class Alert:
    """One matter, with all that a person who is alerted needs."""

    model: str
    outcome: Outcome
    """State of the runs that it ends in."""
    cause: str
    """The same for the same matter, so that it is told once a day and not once a run."""
    message: str
    """What is wrong, in words."""
    act: str
    """What to do about it."""
    owner: str
    purpose: str
    runbook: str | None


def alerts(workspace: Workspace) -> list[Alert]:
    """What is open now by the history and by what is on disk, blocked batches first; empty when nothing is.

    A matter ends when it is dealt with: a blocked batch by its repair, its acceptance or its removal, a failed fit,
    overdue and unusable labels by the next decision, a version that waits by its promotion or by a newer one.
    """
    state = workspace.state()
    found = [_alert(workspace, *matter) for matter in _blocked(workspace, state)]
    if state.decided is None:
        return found
    decided = workspace.ledger.decision(state.decided.seq)
    found += [_alert(workspace, *matter) for matter in _unsettled(decided)]
    for served in state.waiting:
        text = f"v{served.version} waits for approval: `{wording.promotion(workspace.model, served.version)}`."
        found.append(_alert(workspace, Outcome.AWAITING_APPROVAL, text, f"v{served.version}"))
    return found


def _blocked(workspace: Workspace, state: State) -> list[tuple[Outcome, str, str]]:
    """Batches that are set aside and whose files have not changed since."""
    here = delivered(workspace.root, workspace.spec, state.batches)
    matters = []
    for batch in in_order(state.blocked, state.order):
        sha256 = state.blocked[batch]
        if batch in here and fingerprint(here[batch]) == sha256:
            text = f"{batch} is set aside; `ror run {workspace.model} --batch {shlex.quote(batch)}` says why."
            matters.append((Outcome.BLOCKED, text, f"{batch} {sha256}"))
    return matters


def _unsettled(decided: Decided) -> list[tuple[Outcome, str, str]]:
    """What the newest decision says is wrong, also where a blocked batch names its outcome. What it is about stays the
    same while the matter does: the error of the label files or of the fit, the oldest batch without its labels."""
    matters = []
    for said, absent in (("The labels cannot be used", False), ("There is nothing to decide on", True)):
        found = [item for item in decided.blocked if not item.sha256 and (item.batch == NO_BATCHES) is absent]
        if broken := [problem for item in found for problem in item.problems]:
            matters.append((Outcome.BLOCKED, f"{said}: {'; '.join(broken)}", " ".join(broken)))
    if decided.attempt and decided.attempt.outcome is AttemptOutcome.FAILED:
        reason = decided.attempt.reason or "training failed"
        matters.append((Outcome.RETRAIN_FAILED, reason, reason))
    matters += [(Outcome.HELD, f"{text}.", TOO_SMALL) for text in decided.decision.reasons if TOO_SMALL in text]
    overdue = decided.evidence.labels_overdue if decided.evidence else ()
    if overdue and decided.decision.action in (Action.RELOAD, Action.HOLD):
        matters.append((Outcome.LABELS_OVERDUE, f"{decided.decision.reasons[-1]}.", min(overdue, key=natural_order)))
    return matters


def _alert(workspace: Workspace, outcome: Outcome, message: str, about: str) -> Alert:
    spec = workspace.spec
    act = (wording.BY_YOU if outcome is Outcome.HELD else wording.MUST_ACT[outcome]).removeprefix("yes: ")
    cause = f"{workspace.model}:{outcome.value}:{digest(about.encode())[:16]}"
    return Alert(workspace.model, outcome, cause, message, act, spec.owner, spec.purpose, spec.runbook)
