"""The ledger: append-only, hash-chained, compare-and-swap; and the lease, which is two kinds of entry in it.

Event *n* is the object `<model>/ledger/<n>.json`, created if absent: of two writers one gets the number, the other
raises LedgerConflict, reads again and reconsiders. Every event carries the state after it, so a reader needs one.
"""

from __future__ import annotations

import contextlib
import os
import socket
import threading
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from functools import cache
from pathlib import Path
from types import TracebackType
from typing import Any

from tasks.core.errors import AlreadyExists, CorruptObject, LeaseHeld, LedgerConflict, StoreError
from tasks.core.records import digest, from_dict, from_json, to_dict, to_json
from tasks.core.state import Decided, Event, LastDecision, LeaseRecord, State
from tasks.core.store import Store
from tasks.core.types import Action, Attempt, BatchRecord, Comparison, Decision, Labelled, LossPoint, Served

FORMAT_VERSION = 1
LEASE_TTL = timedelta(minutes=10)
KEEP_LOSSES, KEEP_COMPARISONS, KEEP_SERVED = 32, 16, 8


@dataclass(frozen=True, slots=True)
class Head:
    """The newest event and the digest of its bytes; an empty ledger has seq 0 and an empty state."""

    seq: int
    digest: str | None
    state: State
    at: str | None = None


class Ledger:
    """The history of one model."""

    def __init__(self, store: Store, model: str):
        self.store, self.model = store, model

    def head(self) -> Head:
        """The newest event. Raises CorruptObject when it is torn or not what its name says."""
        seq = self._last()
        if seq == 0:
            return Head(0, None, State())
        data = self.store.read(self._path(seq))
        event = self._parse(seq, data)
        return Head(seq, digest(data), event.state_after, event.at)

    def event(self, seq: int) -> Event:
        return self._parse(seq, self.store.read(self._path(seq)))

    def events(self) -> list[Event]:
        """Every event, oldest first, with the chain checked. Raises CorruptObject where it breaks."""
        events, previous = [], None
        for seq in range(1, self._last() + 1):
            data = self.store.read(self._path(seq))
            event = self._parse(seq, data)
            if event.prev != previous:
                raise CorruptObject(
                    f"{self._path(seq)} does not follow from {self._path(seq - 1)}: the history was altered. "
                    "Restore the ledger from a backup."
                )
            events.append(event)
            previous = digest(data)
        return events

    def append(
        self, after: Head, kind: str, *, run: str, key: str, actor: str, reason: str, body: Mapping[str, Any]
    ) -> Event:
        """Append one event, or raise LedgerConflict when somebody else appended after `after`."""
        now = datetime.now(UTC).isoformat(timespec="microseconds")
        event = Event(
            format_version=FORMAT_VERSION,
            seq=after.seq + 1,
            prev=after.digest,
            at=max(now, after.at or now),
            event=kind,
            run=run,
            key=key,
            actor=actor,
            reason=reason,
            current=None,
            body=body,
            state_after=after.state,
        )
        state = fold(after.state, event)
        event = replace(event, state_after=state, current=state.current)
        try:
            self.store.create(self._path(event.seq), to_json(event), durable=True)
        except AlreadyExists:
            raise LedgerConflict(f"Somebody else wrote {self._path(event.seq)} first.") from None
        return event

    def _path(self, seq: int) -> str:
        return f"{self.model}/ledger/{seq:08d}.json"

    def _parse(self, seq: int, data: bytes) -> Event:
        path = self._path(seq)
        event = from_json(Event, data, path)
        if event.seq != seq:
            raise CorruptObject(f"{path} says it is event {event.seq}. Restore the ledger from a backup.")
        return event

    def _last(self) -> int:
        """The highest number, found by galloping: events are contiguous, so about 2 log2(n) look-ups suffice."""
        low, high = 0, 1
        while self.store.exists(self._path(high)):
            low, high = high, high * 2
        while high - low > 1:
            middle = (low + high) // 2
            low, high = (middle, high) if self.store.exists(self._path(middle)) else (low, middle)
        return low


def fold(state: State, event: Event) -> State:
    """The state after an event: pure, so that `verify` can replay a whole history and compare."""
    body = event.body
    match event.event:
        case "started":
            return replace(state, lease=from_dict(LeaseRecord, {**body["lease"], "token": event.seq}))
        case "renewed":
            return replace(state, lease=replace(state.lease, expires=body["expires"])) if state.lease else state
        case "failed":
            return replace(state, lease=None)
        case "decided":
            return after_decision(state, from_dict(Decided, body), LastDecision(event.key, event.seq), event.at)
        case "promoted" | "accepted" | "quarantined" | "cleared":
            return replace(_after_hand(state, event), by_hand=event.seq)
    raise CorruptObject(f"Ledger event {event.seq} has the unknown kind {event.event!r}; a newer release wrote it.")


def _after_hand(state: State, event: Event) -> State:
    batch, version = event.body.get("batch"), event.body.get("version")
    released = None if state.suspect == batch else state.suspect
    match event.event:
        case "promoted":
            return _after_promotion(state, from_dict(Served, event.body["served"]), event)
        case "accepted":
            return replace(
                state,
                accepted=(*state.accepted, str(batch)),
                blocked={b: sha256 for b, sha256 in state.blocked.items() if b != batch},  # pending again
                changed=tuple(b for b in state.changed if b != batch),
            )
        case "quarantined":
            attempt = _moved(state.attempt, -1 if event.body.get("learned") else 0)
            quarantined = (*state.quarantined, str(batch))
            return _uncounted(replace(state, quarantined=quarantined, suspect=released, attempt=attempt))
        case _:
            return replace(
                state,
                quarantined=tuple(b for b in state.quarantined if b != batch),
                suspect=released,
                barred=tuple(v for v in state.barred if v != version),
                attempt=_moved(state.attempt, 1 if event.body.get("learned") else 0),
            )


def _after_promotion(state: State, served: Served, event: Event) -> State:
    """A person put this version in service. The one it replaces becomes its predecessor and is not barred.

    Both are compared on the labels to come, and the rules may go back on that evidence, but not on what the person
    knew: earlier comparisons of the two, with this one as the newer, are forgotten. Challengers older than it need no
    approval any more.
    """
    replaced = state.current.version if state.current else None
    return replace(
        state,
        served=(*state.served, served)[-KEEP_SERVED:],
        since=event.at,
        promoted=event.seq,
        waiting=tuple(w for w in state.waiting if w.version > served.version),
        barred=tuple(v for v in state.barred if v != served.version),
        comparisons=tuple(c for c in state.comparisons if (c.version, c.predecessor) != (served.version, replaced)),
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

    Where a person spoke about one meanwhile, the person's word stands.
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
    known = {(point.batch, point.version): point for point in points}
    return tuple((known | {(point.batch, point.version): point for point in new}).values())


def with_comparisons(items: Sequence[Comparison], new: Iterable[Comparison]) -> tuple[Comparison, ...]:
    """Comparisons in the order they were first made; a new one of the same versions on a batch supersedes."""
    known = {(item.batch, item.version, item.predecessor): item for item in items}
    return tuple((known | {(item.batch, item.version, item.predecessor): item for item in new}).values())


def after_decision(state: State, decided: Decided, mark: LastDecision, at: str) -> State:
    """The state after one decision, `at` being when it was taken; a backtest folds with it too."""
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
    after = replace(
        with_labels(recorded, decided.labelled, decision),
        blocked=blocked,
        changed=tuple(changed),
        losses=with_losses(state.losses, decided.losses)[-KEEP_LOSSES:],
        comparisons=with_comparisons(state.comparisons, decided.comparisons)[-KEEP_COMPARISONS:],
        cooldown=max(0, state.cooldown - len(fresh)),
        novel=(*state.novel, *decided.novel),
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
            after = replace(
                after, served=state.served[:-1], barred=(*state.barred, state.current.version), cooldown=wait
            )
        else:
            assert decided.in_service is not None
            new = decided.in_service
            newer = tuple(w for w in state.waiting if w.version > new.version)
            after = replace(after, served=(*state.served, new)[-KEEP_SERVED:], waiting=newer)
    if (attempt := decided.attempt) and attempt.outcome != "failed":
        unlearned = {*after.accepted, *after.novel} - set(after.usable)
        after = replace(
            after,
            accepted=tuple(b for b in after.accepted if b in unlearned),
            novel=tuple(b for b in after.novel if b in unlearned),
        )
    if attempt and attempt.outcome == "waiting":
        assert attempt.version is not None and attempt.manifest is not None
        after = replace(after, waiting=(*state.waiting, Served(attempt.version, attempt.manifest, attempt.labelled)))
    return _uncounted(after)


def known_lags(fresh: Sequence[Labelled], window: Collection[str]) -> list[int]:
    """How many batches labels took at least.

    Batches of one window piled up between two runs: all but one of them may have come after the labels and are taken
    off. Labels that were there when their batch was decided on say nothing.
    """
    piled_up = max(0, len(window) - 1)
    return [item.lag - piled_up for item in fresh if item.lag is not None and item.batch not in window]


# --- the lease -----------------------------------------------------------------------------------------------


class Lease:
    """The right to decide for one model, held while the `with` block runs.

    A `started` event takes it and its number is the fencing token; `renewed` events keep it alive from a thread;
    `decided` or `failed` gives it back. Nobody is ever locked out for longer than the time to live, and a dead process
    on this host is noticed at once. Clock skew may cost time, never safety: every append is compare-and-swap.
    """

    def __init__(self, ledger: Ledger, *, run: str, key: str, actor: str, reason: str, ttl: timedelta = LEASE_TTL):
        self._ledger, self._ttl = ledger, ttl
        self._common = {"run": run, "key": key, "actor": actor, "reason": reason}
        self._write = threading.Lock()
        self._stop = threading.Event()
        self._released = False
        self.token = 0
        self.state = State()
        """The state this run decides on: the one it found when it took the lease."""

    def __enter__(self) -> Lease:
        """Raises LeaseHeld, naming the other run, while that one is alive."""
        while True:
            head = self._ledger.head()
            if head.state.lease and _alive(head.state.lease):
                other = head.state.lease
                raise LeaseHeld(f"Run {other.run} (process {other.pid} on {other.host}) is at work on this model.")
            try:
                event = self._ledger.append(head, "started", body={"lease": to_dict(self._mine())}, **self._common)
                break
            except LedgerConflict:
                continue
        self.token, self.state = event.seq, event.state_after
        threading.Thread(target=self._renew, name="lease", daemon=True).start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._stop.set()
        if not self._released:
            reason = f"{kind.__name__}: {error}" if kind else "the run ended without a decision"
            # Fenced off: a later run holds the lease, there is nothing to give back.
            with contextlib.suppress(LeaseHeld):
                self._append("failed", {"error": reason[:2000]})

    def commit(self, build: Any) -> Event:
        """Append the run's `decided` event: `build(state)` gives its body for the newest state.

        It is called again when somebody else (a promotion by hand, say) appended in between, so that the run
        reconsiders instead of overruling. Raises LeaseHeld when a later run has fenced this one off.
        """
        event = self._append("decided", build)
        self._released = True
        self._stop.set()
        return event

    def _append(self, kind: str, body: Any) -> Event:
        with self._write:
            while True:
                head = self._ledger.head()
                lease = head.state.lease
                if lease is None or lease.token != self.token:
                    other = lease.run if lease else "a later run"
                    raise LeaseHeld(f"This run lost its lease to {other} and stops without a decision.")
                try:
                    content = to_dict(body(head.state)) if callable(body) else body
                    return self._ledger.append(head, kind, body=content, **self._common)
                except LedgerConflict:
                    continue

    def _renew(self) -> None:
        while not self._stop.wait(self._ttl.total_seconds() / 4):
            expires = (datetime.now(UTC) + self._ttl).isoformat(timespec="seconds")
            try:
                self._append("renewed", {"expires": expires})
            except LeaseHeld:
                return
            except StoreError:
                continue  # the store may answer again before the lease runs out

    def _mine(self) -> LeaseRecord:
        import psutil

        return LeaseRecord(
            token=0,
            run=self._common["run"],
            expires=(datetime.now(UTC) + self._ttl).isoformat(timespec="seconds"),
            host=socket.gethostname(),
            boot=_boot(),
            pid=os.getpid(),
            process_started=psutil.Process().create_time(),
        )


@cache
def _boot() -> str:
    """Identifies this boot of this machine, so that a process number from before a restart means nothing."""
    linux = Path("/proc/sys/kernel/random/boot_id")
    if linux.exists():
        return linux.read_text().strip()
    import psutil

    return str(int(psutil.boot_time()))


def _alive(lease: LeaseRecord) -> bool:
    if datetime.fromisoformat(lease.expires) < datetime.now(UTC):
        return False
    if lease.host != socket.gethostname():
        return True
    if lease.boot != _boot():
        return False
    import psutil

    try:
        return abs(psutil.Process(lease.pid).create_time() - lease.process_started) < 1
    except psutil.NoSuchProcess:
        return False
