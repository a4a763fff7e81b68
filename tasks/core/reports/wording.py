"""One decision in words, for card, page and terminal alike."""

from __future__ import annotations

from collections.abc import Sequence

from tasks.core.ledger.events import Accepted, Cleared, Decided, Erased, Event, Promoted, Pruned, Quarantined, Snoozed
from tasks.core.text import named, number, span
from tasks.core.types import NO_BATCHES, TOO_SMALL, AttemptOutcome, Blocked, CheckKind, Outcome, Verdict
from tasks.core.versions.manifest import PipelineChoice

MUST_ACT = {
    Outcome.RELOADED: "no",
    Outcome.RETRAINED: "no",
    Outcome.ROLLED_BACK: "yes: find out why the newer version was worse; it stays barred",
    Outcome.KEPT: "no",
    Outcome.AWAITING_APPROVAL: "yes: look at the challenger, and put it in service or leave it",
    Outcome.PROMOTED: "no",
    Outcome.HELD: "no, unless it repeats: the reason says what is missing",
    Outcome.SKIPPED: "no: another run is at work",
    Outcome.BLOCKED: "yes: repair the data and deliver them again, or accept what changed",
    Outcome.RETRAIN_FAILED: "yes: read why training failed; the current version was kept",
    Outcome.LABELS_OVERDUE: "yes: find out where the labels are",
}

TOLD = (CheckKind.DECLARED, CheckKind.ROWS)
"""Kinds of check whose warnings stand beside the reasons: nobody should have to look for them."""


OTHERS = 5
"""Further things that are wrong with a batch which stand beside its headline."""

BY_YOU = "yes: nothing can be put in service without you; the reason says how"
"""Where batches are too small to judge a new version by."""


def must_act(decided: Decided) -> str:
    """Whether a person must act, and on what."""
    if any(TOO_SMALL in reason for reason in decided.decision.reasons):
        return BY_YOU
    return MUST_ACT[decided.outcome]


def describe_event(event: Event) -> str | None:
    """What a person did, in a few words; None for what a run did."""
    match body := event.content:
        case Promoted(served, was, replaced):
            if served.accepts:
                was = f"{was}, accepted: {'; '.join(served.accepts)}"
            place = f", in place of v{replaced}" if replaced else ""
            return f"v{served.version} put in service{place}" + (f" ({was})" if was else "")
        case Accepted():
            return f"{'labels' if body.labels else 'changed content'} of {body.batch} accepted"
        case Quarantined():
            learned = _versions(body.trained)
            return f"labels of {body.batch} kept out of training" + (f" ({learned} learned them)" if learned else "")
        case Cleared():
            return f"labels of {body.batch} may be trained on again"
        case Snoozed(columns, until):
            drift = f"drift of {', '.join(columns)}"
            return f"{drift} expected until {until}" if until else f"{drift} no longer expected"
        case Pruned():
            return f"payload of {_versions(body.versions)} removed" if body.versions else "pages of old runs removed"
        case Erased():
            kept = f" ({_versions(body.versions)} learned from it)" if body.versions else ""
            files, objects = len(body.files), len(body.replaced)
            return f"a key erased: {body.rows} rows of {files} data files, {objects} objects{kept}"
        case _:
            return None


def _versions(numbers: Sequence[int]) -> str:
    return ", ".join(f"v{number}" for number in numbers)


def headline(decided: Decided, model: str) -> str:
    """The decision and its cause in one line: the message of the run's final state."""
    text = f"{title(decided, model)}; {_cause(decided)}"
    if ready := ready_to_promote(decided):
        text += f" v{ready} waits for: {promotion(model, ready)}"
    return text


def also(decided: Decided) -> list[str]:
    """What else is wrong with the batch that a headline says to be set aside, in one sentence if there is anything: who
    mends it wants to do so once."""
    others = [problem.rstrip(".") for problem in decided.blocked[0].problems[1:]] if decided.blocked else []
    return [f"Also: {named(others, OTHERS, '; ')}."] if others else []


def title(decided: Decided, model: str) -> str:
    """What was decided on, and how it ended: `flights · 2013-07: Reloaded — v3 in service`."""
    names = [batch.id for batch in decided.window] or [item.batch for item in decided.blocked if not item.again]
    return f"{model} · {span(names, 'no new batch')}: {_ending(decided)}"


def short(decided: Decided) -> str:
    """How it ended, and its cause, in one line whose first words say most."""
    return f"{_ending(decided)}; {_cause(decided)}"


def promotion(model: str, version: int) -> str:
    """The command that puts a version in service."""
    return f"ror promote {model} v{version} --reason '...'"


def ready_to_promote(decided: Decided) -> int | None:
    """A version that passed the gate, and that only a person puts in service now."""
    attempt, service = decided.attempt, decided.in_service
    if attempt is None:
        return decided.evidence.waiting if decided.evidence else None
    passed = attempt.outcome in (AttemptOutcome.REGISTERED, AttemptOutcome.WAITING)
    return attempt.version if passed and (service is None or service.version != attempt.version) else None


def reasons(decided: Decided) -> list[str]:
    """Why it ended so, the cause first, one line each."""
    return [_cause(decided), *sentences(decided)]


def sentences(decided: Decided) -> list[str]:
    """What else a person must know, one line each."""
    return [line for line in _facts(decided) if line != _cause(decided)]


def _ending(decided: Decided) -> str:
    """How it ended, in a few words."""
    version = f"v{decided.in_service.version}" if decided.in_service else "no version"
    return f"{decided.outcome.value} — {version} in service"


def _cause(decided: Decided) -> str:
    """What made the run end as it did: the broken data or the failed attempt, where there is one, else the decision."""
    facts = _facts(decided)
    if any(not item.again for item in decided.blocked):
        return facts[0]
    if decided.attempt and decided.attempt.outcome in (AttemptOutcome.REFUSED, AttemptOutcome.FAILED):
        return facts[-1]
    if decided.outcome is Outcome.LABELS_OVERDUE:
        return f"{decided.decision.reasons[-1]}."
    return f"{decided.decision.reasons[0]}."


def chosen(choice: PipelineChoice) -> str:
    """Which default pipeline a model has, and what each of them lost when it was chosen."""
    losses = ", ".join(f"{estimator} {number(loss)}" for estimator, loss in choice.losses.items())
    return f"{choice.estimator}, chosen at the first version by the loss on {choice.rows:,} later rows: {losses}"


def _facts(decided: Decided) -> list[str]:
    lines = []
    news = [item for item in decided.blocked if not item.again]
    for item in news:
        lines += [f"{_set_aside(item)}: {problem.rstrip('.')}." for problem in item.problems]
    lines += [f"{reason}." for reason in decided.decision.reasons]
    for item in decided.blocked:
        lines += [f"{item.batch} is still set aside: {p.rstrip('.')}." for p in item.problems if item.again]
    lines += [f"{check.summary}." for check in decided.checks if check.kind in TOLD and check.verdict is Verdict.WARN]
    attempt, service = decided.attempt, decided.in_service
    if attempt and attempt.gate:
        lines.append(f"v{attempt.version} {attempt.outcome}: {attempt.gate.reason}.")
        if attempt.outcome is AttemptOutcome.REGISTERED and (service is None or service.version != attempt.version):
            lines.append("A person chose a version during this run, so this one is not put in service.")
    elif attempt:
        lines.append(f"{attempt.reason.rstrip('.')}.")
    return lines


def _set_aside(item: Blocked) -> str:
    if item.sha256:
        return f"{item.batch} is set aside"
    return "nothing is there to decide on" if item.batch == NO_BATCHES else "the labels cannot be used"
