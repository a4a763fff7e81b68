"""The ledger, read for an audit: entry by entry, past whatever is damaged, with everything that is wrong in it listed.

`tasks.core.ledger.ledger` stops at the first damage, because nothing may be decided on it. Here nothing is decided.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field

from tasks.core import layout
from tasks.core.errors import CorruptObject, RorError, StoreError, VerificationError
from tasks.core.ledger.events import Body, Event, last_state
from tasks.core.ledger.lease import ends, is_alive
from tasks.core.ledger.ledger import check_whole
from tasks.core.ledger.state import State
from tasks.core.ledger.transitions import transition
from tasks.core.records import digest, from_json, to_dict
from tasks.core.store import Store


@dataclass(frozen=True, slots=True)
class AuditFinding:
    """What is to be said of one object."""

    path: str
    """Below the store's root."""
    text: str
    """What is wrong, or worth knowing, and what to do; no name in it: that is the path."""
    damage: bool = True
    """False for what is harmless."""


@dataclass(frozen=True, slots=True)
class LedgerReading:
    """What could be read of a ledger, and what is wrong with it."""

    events: Mapping[int, Event] = field(default_factory=dict)
    """Those that parse, by number."""
    digests: Mapping[int, str] = field(default_factory=dict)
    """sha256 of the bytes of every entry that could be read."""
    last: int = 0
    """The highest number."""
    torn: bool = False
    """The highest one is empty or cut off, as a power cut leaves it."""
    bytes: int = 0
    remarks: tuple[AuditFinding, ...] = ()

    @property
    def head(self) -> str | None:
        """`42:<sha256>`; None before the first entry, and where the newest one cannot be read."""
        return f"{self.last}:{self.digests[self.last]}" if self.last in self.digests and not self.torn else None

    @property
    def state(self) -> State:
        """After the newest entry that parses."""
        return last_state(self.events)


def read(store: Store, model: str, paths: Iterable[str]) -> LedgerReading:
    """Read every entry among these paths of a model's objects. Raises nothing for what is damaged."""
    numbers = _numbers(paths)
    last = numbers[-1] if numbers else 0
    events: dict[int, Event] = {}
    digests: dict[int, str] = {}
    remarks: list[AuditFinding] = []
    total, torn = 0, False
    for seq in range(1, last + 1):
        path = layout.event_path(model, seq)
        if seq not in numbers:
            remarks.append(AuditFinding(path, "missing: a reader of the history may stop before it. Restore it"))
            continue
        try:
            data = store.read(path)
        except StoreError as error:
            remarks.append(AuditFinding(path, f"cannot be read: {error}"))
            continue
        total += len(data)
        digests[seq] = digest(data)
        if seq == last and is_torn(data):
            torn = True
            remarks.append(AuditFinding(path, _TORN.format(size=len(data), model=model)))
            continue
        try:
            event = from_json(Event, data, path)
        except CorruptObject as error:
            remarks.append(AuditFinding(path, str(error).removeprefix(f"{path} ")))
            continue
        if seq == last:
            try:
                check_whole(event, data, path)
            except CorruptObject:
                remarks.append(AuditFinding(path, _ALTERED))
        remarks += [AuditFinding(path, text) for text in _wrong(seq, event, events.get(seq - 1), digests.get(seq - 1))]
        events[seq] = event
    return LedgerReading(events, digests, last, torn, total, tuple(remarks))


_ALTERED = "is damaged or was altered: it is not what its own digest says. Restore it"
_TORN = (
    "the newest entry is empty or cut off ({size:,} bytes), as a power cut leaves it: nothing is decided on it. "
    "`ror verify {model} --repair` moves it aside"
)


def is_torn(data: bytes) -> bool:
    """Whether these bytes are not JSON. An entry that is JSON, but not a valid entry, was altered, not torn."""
    try:
        json.loads(data)
    except ValueError:
        return True
    return False


def _wrong(seq: int, event: Event, before: Event | None, prev: str | None) -> Iterator[str]:
    """What is wrong with one entry, by itself and after the one before it, where that could be read."""
    if event.seq != seq:
        yield f"says it is entry {event.seq}: it was moved or copied here"
    if seq == 1 and event.prev is not None:
        yield "names an entry before it, and is the first: the history's beginning was cut off or altered"
    if prev is not None and event.prev != prev:
        yield f"does not follow from entry {seq - 1} as it is now: one of the two was altered. Restore the history"
    if event.current != event.state_after.current:
        yield "contradicts itself about the version in service"
    if seq > 1 and before is None:
        return
    if before is not None and event.at < before.at:
        yield f"is dated {event.at}, before the entry before it ({before.at})"
    state = before.state_after if before else State()
    try:
        after = transition(state, event)
    except RorError as error:
        yield str(error)
        return
    except Exception as error:  # noqa: BLE001 - a body that was altered can fail anywhere
        yield f"its content cannot be followed ({type(error).__name__}): it was altered"
        return
    if after != event.state_after and (changed := _changed(after, event.state_after)):
        yield f"its state does not follow from the entry before it and its own content: {changed} differ"


def _changed(one: State, other: State) -> str:
    """Fields in which two states differ as records: numbers that JSON does not know are equal there."""
    ours, theirs = to_dict(one), to_dict(other)
    return ", ".join(name for name in ours if ours[name] != theirs[name])


def content(event: Event) -> Body | None:
    """What an event says; None for an unknown kind, and where it cannot be parsed: it excuses nothing."""
    try:
        return event.content
    except CorruptObject:
        return None


# --- repair --------------------------------------------------------------------------------------------------


def repair(store: Store, model: str) -> AuditFinding | None:
    """Move the newest entry aside when it is torn; None when it is whole.

    Only one that is not JSON, has the highest number, and follows a readable entry by which no run is at work.
    Raises VerificationError where the history needs a backup instead, StoreError.
    """
    numbers = _numbers(item.path for item in store.objects(layout.folder(model, layout.LEDGER)))
    if not numbers:
        return None
    seq = numbers[-1]
    path = layout.event_path(model, seq)
    data = store.read(path)
    if not is_torn(data):
        return None
    if seq > 1:
        previous = layout.event_path(model, seq - 1)
        try:
            lease = from_json(Event, store.read(previous), previous).state_after.lease
        except RorError as error:
            raise VerificationError(
                f"{path} is cut off, and so may be what it follows: {error} Nothing was moved."
            ) from None
        if lease and is_alive(lease):
            raise VerificationError(
                f"Run {lease.run} (process {lease.pid} on {lease.host}) may be at work on {model}: nothing was moved. "
                f"Wait {ends(lease)}."
            )
    aside = layout.aside_path(model, seq, data)
    store.move_aside(path, aside)
    return AuditFinding(path, f"was cut off ({len(data):,} bytes) and is moved aside, to {aside}", damage=False)


def _numbers(paths: Iterable[str]) -> list[int]:
    """Of the events among these objects, sorted."""
    parsed = map(layout.parse, paths)
    return sorted(path.number for path in parsed if path.kind == layout.LEDGER and path.number is not None)
