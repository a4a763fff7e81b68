"""The state after each event, pure: a whole history can be replayed and compared, and a backtest uses it too."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Sequence
from dataclasses import replace

from tasks.core.errors import CorruptObject
from tasks.core.ledger.events import (
    Accepted,
    Cleared,
    Decided,
    Erased,
    Event,
    Failed,
    Promoted,
    Pruned,
    Quarantined,
    Renewed,
    Snoozed,
    Started,
)
from tasks.core.ledger.state import Cause, LastDecision, Replacement, State
from tasks.core.records import digest, from_dict, to_dict
from tasks.core.types import (
    Action,
    Attempt,
    AttemptOutcome,
    BatchRecord,
    Comparison,
    Decision,
    Labelled,
    LossPoint,
    Served,
    Snooze,
)

KEEP_LOSSES, KEEP_COMPARISONS, KEEP_SERVED = 32, 16, 8


def transition(state: State, event: Event) -> State:
    """The state after an event: pure, so that `verify` can replay a whole history and compare. Raises CorruptObject for
    an event whose kind or content is none that this release knows."""
    match body := event.content:
        case Started():
            return replace(state, lease=replace(body.lease, token=event.seq))
        case Renewed():
            return replace(state, lease=replace(state.lease, expires=body.expires)) if state.lease else state
        case Failed():
            return replace(state, lease=None)
        case Decided():
            return after_decision(state, body, LastDecision(event.key, event.seq), event.at)
        case Promoted():
            after = _after_promotion(state, body.served, event)
        case Accepted():
            after = _after_acceptance(state, body)
        case Quarantined():
            after = _after_quarantine(state, body)
        case Cleared():
            after = _after_release(state, body)
        case Snoozed():
            after = _after_snooze(state, body, event)
        case Pruned():  # the question that a run asks is the same as before: `by_hand` stays
            return replace(state, pruned={**state.pruned, **dict.fromkeys(body.versions, event.seq)})
        case Erased():
            return _after_erasure(state, body, event.seq)
        case None:
            raise CorruptObject(
                f"Ledger event {event.seq} has the unknown kind {event.event!r}; a newer release wrote it."
            )
    return replace(after, by_hand=event.seq)


def _after_acceptance(state: State, body: Accepted) -> State:
    batch = body.batch
    if body.labels:
        return replace(state, trusted=(*state.trusted, batch))
    return replace(
        state,
        accepted=(*state.accepted, batch),
        blocked={b: sha256 for b, sha256 in state.blocked.items() if b != batch},  # pending again
        changed=tuple(b for b in state.changed if b != batch),
    )


def _after_quarantine(state: State, body: Quarantined) -> State:
    return _uncounted(
        replace(
            state,
            quarantined=(*state.quarantined, body.batch),
            suspect=_unless(state.suspect, body.batch),
            attempt=_moved(state.attempt, -1 if body.learned else 0),
        )
    )


def _after_release(state: State, body: Cleared) -> State:
    return replace(
        state,
        quarantined=tuple(b for b in state.quarantined if b != body.batch),
        suspect=_unless(state.suspect, body.batch),
        barred=tuple(v for v in state.barred if v != body.version),
        attempt=_moved(state.attempt, 1 if body.learned else 0),
    )


def _unless(suspect: str | None, batch: str | None) -> str | None:
    """The suspect batch, unless a person spoke about that one."""
    return None if suspect == batch else suspect


def _after_erasure(state: State, body: Erased, seq: int) -> State:
    """What was decided stays: batches and labels are what they were, less some rows, and count as unchanged."""
    batches = {
        batch: from_dict(BatchRecord, {**to_dict(state.batches[batch]), **fields, "erased": seq})
        for batch, fields in body.batches.items()
        if batch in state.batches
    }
    replaced = {path: Replacement(new.path, new.sha256, new.size, seq) for path, new in body.replaced.items()}
    return replace(
        state,
        batches={**state.batches, **batches},
        blocked={**state.blocked, **body.blocked},
        label_files=body.label_files or state.label_files,
        decided=replace(state.decided, key=body.key) if state.decided and body.key else state.decided,
        replaced={**state.replaced, **replaced},
    )


def _after_promotion(state: State, served: Served, event: Event) -> State:
    """A person put this version in service. The one it replaces becomes its predecessor and is not barred.

    Both are compared on the labels to come, and the rules may go back on that evidence, but not on what the person
    knew: earlier comparisons of the two, with this one as the newer, are forgotten. Challengers older than it need no
    approval any more.
    """
    replaced = state.current.version if state.current else None
    if replaced == served.version:  # for another environment
        return replace(state, served=(*state.served[:-1], served), promoted=event.seq)
    return replace(
        state,
        served=(*state.served, served)[-KEEP_SERVED:],
        since=event.at,
        promoted=event.seq,
        waiting=tuple(w for w in state.waiting if w.version > served.version),
        barred=tuple(v for v in state.barred if v != served.version),
        comparisons=tuple(c for c in state.comparisons if (c.version, c.predecessor) != (served.version, replaced)),
    )


def _after_snooze(state: State, body: Snoozed, event: Event) -> State:
    """A person expects drift of these columns until a day, or (None) no longer; what was said of them before is over.

    Batches that are set aside for their content are looked at again: it may be just what is expected now.
    """
    others = [(snooze, tuple(name for name in snooze.columns if name not in body.columns)) for snooze in state.snoozed]
    kept = tuple(replace(snooze, columns=left) for snooze, left in others if left)
    if body.until is None:
        return replace(state, snoozed=kept)
    return replace(
        state,
        snoozed=(*kept, Snooze(body.columns, body.until, event.reason, event.actor, event.at)),
        blocked={b: sha256 for b, sha256 in state.blocked.items() if b not in state.changed},
        changed=(),
    )


def _moved(attempt: Attempt | None, by: int) -> Attempt | None:
    """The data end is a count of usable batches: it moves when one that was learned from leaves them or comes back."""
    return replace(attempt, labelled=attempt.labelled + by) if attempt else None


def _uncounted(state: State) -> State:
    """What was measured on labels in quarantine must not shape what counts as usual; nothing is learned from them."""
    out = state.quarantined
    return replace(
        state,
        losses=tuple(point for point in state.losses if point.batch not in out),
        comparisons=tuple(item for item in state.comparisons if item.batch not in out),
        accepted=tuple(batch for batch in state.accepted if batch not in out),
        novel=tuple(batch for batch in state.novel if batch not in out),
    )


def with_labels(state: State, labelled: Sequence[Labelled], decision: Decision | None = None) -> State:
    """The state once these labels count, and the decision has spoken about suspect batches.

    What a person said about one meanwhile counts.
    """
    batches = dict(state.batches)
    for item in labelled:
        known = batches.get(item.batch, BatchRecord("", item.rows))  # in this run's window: recorded when it commits
        lag = known.lag if item.corrected else item.lag
        batches[item.batch] = replace(known, labels=item.labels, labelled_rows=item.rows, lag=lag)
    state = replace(state, batches=batches)
    if decision is None:
        return state
    kept = None if state.suspect in (decision.cleared, decision.quarantined) else state.suspect
    judged = (state.suspect,) if state.suspect and state.suspect == decision.quarantined else ()
    suspect = decision.suspect if decision.suspect not in state.quarantined else None
    return replace(state, suspect=suspect or kept, quarantined=(*state.quarantined, *judged))


def with_losses(points: Sequence[LossPoint], new: Iterable[LossPoint]) -> tuple[LossPoint, ...]:
    """Losses in the order they were first measured; a new one for the same batch and version supersedes."""
    return tuple({(point.batch, point.version): point for point in (*points, *new)}.values())


def with_comparisons(items: Sequence[Comparison], new: Iterable[Comparison]) -> tuple[Comparison, ...]:
    """Comparisons in the order they were first made; a new one of the same versions on a batch supersedes."""
    return tuple({(item.batch, item.version, item.predecessor): item for item in (*items, *new)}.values())


def after_decision(state: State, decided: Decided, mark: LastDecision, at: str) -> State:
    """The state after one decision, `at` being when it was taken; a backtest uses it too."""
    decision = decided.decision
    version = decided.in_service.version if decided.in_service else None
    window = {
        batch.id: BatchRecord(batch.sha256, rows, version=version)
        for batch, rows in zip(decided.window, decided.window_rows, strict=True)
    }
    fresh = [item for item in decided.labelled if not item.corrected]
    recorded = replace(state, batches={**state.batches, **window})
    blocked = {b: sha256 for b, sha256 in state.blocked.items() if b not in recorded.batches}
    blocked.update({b.batch: b.sha256 for b in decided.blocked if b.sha256})
    found = {b.batch: b.changed for b in decided.blocked}
    changed = [b for b in blocked if found.get(b, b in state.changed)]
    causes = {b.batch: Cause(b.looked, found_wrong(b.problems)) for b in decided.blocked if b.sha256 and b.looked}
    after = replace(
        with_labels(recorded, decided.labelled, decision),
        blocked=blocked,
        changed=tuple(changed),
        causes={b: cause for b, cause in {**state.causes, **causes}.items() if b in blocked},
        natural=decided.natural or state.natural,
        losses=with_losses(state.losses, decided.losses)[-KEEP_LOSSES:],
        comparisons=with_comparisons(state.comparisons, decided.comparisons)[-KEEP_COMPARISONS:],
        cooldown=max(0, state.cooldown - len(fresh)),
        novel=decided.novel,
        attempt=decided.attempt or state.attempt,
        decided=mark,
        lease=None,
        label_files=decided.label_files or state.label_files,
        label_lag=max([state.label_lag, *known_lags(fresh, window)]),
    )
    if decided.in_service != state.current:
        after = replace(after, since=at, promoted=None)
        if decision.action is Action.ROLLBACK:
            assert state.current is not None
            wait = max(2, round(decision.interval)) if decision.interval else 2
            bad = state.current.version
            after = replace(
                after,
                served=state.served[:-1],
                barred=(*state.barred, bad),
                cooldown=wait,
                comparisons=tuple(item for item in after.comparisons if item.version != bad),
            )
        else:
            assert decided.in_service is not None
            new = decided.in_service
            newer = tuple(w for w in state.waiting if w.version > new.version)
            after = replace(after, served=(*state.served, new)[-KEEP_SERVED:], waiting=newer)
    if (attempt := decided.attempt) and attempt.outcome is not AttemptOutcome.FAILED:
        unlearned = {*after.accepted, *after.novel} - set(after.usable)
        after = replace(
            after,
            accepted=tuple(b for b in after.accepted if b in unlearned),
            novel=tuple(b for b in after.novel if b in unlearned),
        )
    if attempt and attempt.outcome is AttemptOutcome.WAITING:
        assert attempt.version is not None and attempt.manifest is not None
        after = replace(after, waiting=(*state.waiting, Served(attempt.version, attempt.manifest, attempt.labelled)))
    return _uncounted(after)


def found_wrong(problems: Sequence[str]) -> str:
    """One digest for all that is wrong with a batch."""
    return digest("\n".join(problems).encode())


def known_lags(fresh: Sequence[Labelled], window: Collection[str]) -> list[int]:
    """How many batches labels took at least.

    Batches of one window piled up between two runs: all but one of them may have come after the labels and are taken
    off. Labels that were there when their batch was decided on say nothing.
    """
    piled_up = max(0, len(window) - 1)
    return [item.lag - piled_up for item in fresh if item.lag is not None and item.batch not in window]
