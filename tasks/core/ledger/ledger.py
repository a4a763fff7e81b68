"""The ledger: append-only, hash-chained, compare-and-swap.

Event *n* is the object `<model>/ledger/<n>.json`, created if absent: of two writers one gets the number, the other
raises LedgerConflict, reads again and reconsiders. Every event carries the state after it, so a reader needs one.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from typing import Any

from tasks.core import layout
from tasks.core.errors import (
    AlreadyExists,
    CorruptObject,
    LedgerConflict,
    NewerFormat,
    NotFound,
)
from tasks.core.ledger.events import Body, Decided, Event
from tasks.core.ledger.signing import UNSIGNED_KINDS, SignatureState, SignatureStatus, Trust, check_unsigned
from tasks.core.ledger.state import State
from tasks.core.ledger.transitions import transition
from tasks.core.records import digest, from_json, installed_release, to_dict
from tasks.core.store import Store
from tasks.core.types import Served

FORMAT_VERSION = 2
"""The format of events and of the state that they carry. A release that finds a higher number reads on, as far as it
understands, and writes nothing: `append` refuses, naming the release that wrote it.

When to raise it: an event carries the whole state after it, and a field that a release does not know is dropped by the
next event that this release appends. So a new field of the state raises the number, and one of `Event` or of an event's
body where an older release would decide otherwise without it; so do a new kind of event, and a field that is renamed,
removed or means something else. A new field that only tells people something needs no new number.

How to make the next format:

1. Give the new field a default that is true of every event written before, so that those still parse, and state in
   `transition` what each kind of event does to it. Nothing stored is ever rewritten: older formats are read for ever.
2. Raise this number, and say in CHANGELOG.md that older releases will not write to a store once this one did.
3. Run `tests/formats`: stores frozen by every earlier release must read, decide and reproduce as they did.
4. Freeze stores of the new format beside them: `python -m tests.formats.write v2`. Give its stories every event and
   field that is new. What is frozen is never written again.
"""


@dataclass(frozen=True, slots=True)
class Head:
    """The newest event and the digest of its bytes; an empty ledger has seq 0 and an empty state."""

    seq: int
    digest: str | None
    state: State
    at: str | None = None
    format_version: int = FORMAT_VERSION
    release: str | None = None
    """Of this program, which wrote it."""


class Ledger:
    """The history of one model; `trust` says which signatures count, by default as the environment does."""

    def __init__(self, store: Store, model: str, trust: Trust | None = None):
        self.store, self.model = store, model
        self.trust = Trust.from_environment() if trust is None else trust

    def head(self) -> Head:
        """The newest event. Raises CorruptObject when it is torn or not what its name says, and SignatureError when
        what it says is not vouched for by a trusted key, where there are any."""
        seq = self.last()
        if seq == 0:
            return Head(0, None, State())
        try:
            event, data = self._read(seq)
        except CorruptObject as error:
            raise CorruptObject(f"{error} If a power cut tore it: `ror verify {self.model} --repair`.") from None
        if self.trust.keys:
            self._check_newest(event, data)
        check_whole(event, data, self._path(seq))
        return Head(seq, digest(data), event.state_after, event.at, event.format_version, event.release)

    def event(self, seq: int) -> Event:
        """One event. Raises NotFound, CorruptObject and SignatureError as `head` does."""
        event, data = self._read(seq)
        if self.trust.keys:
            self._check_older(event, data)
        return event

    def decision(self, seq: int) -> Decided:
        """What a run decided. Raises as `event` does, and CorruptObject for an event that is no decision."""
        return self.event(seq).content_as(Decided)

    def events(self) -> list[Event]:
        """Every event, oldest first, with the chain and the signatures checked. Raises CorruptObject where the chain
        breaks or an entry is missing, and SignatureError as `head` does and for every signature that is wrong."""
        events: list[Event] = []
        unsigned: list[tuple[Event, SignatureStatus, State]] = []  # since the newest signed one
        previous, state = None, State()
        for seq in range(1, self.last() + 1):
            try:
                event, data = self._read(seq)
            except NotFound:
                raise CorruptObject(
                    f"{self._path(seq)} is missing: the history has a hole. Restore it from a backup; "
                    f"`ror verify {self.model}` lists what else is missing."
                ) from None
            self._check_follows(event, previous)
            if self.trust.keys:
                status = self._status(event, data)
                unsigned = [] if status.state is SignatureState.SIGNED else [*unsigned, (event, status, state)]
            events.append(event)
            previous, state = digest(data), event.state_after
        for event, status, before in unsigned:
            self._check_unsigned(event, status, before)
        if events:
            check_whole(events[-1], data, self._path(len(events)))
        return events

    def named(self, version: int) -> Served | None:
        """A version as the history names it: in service, with what was accepted for it, waiting, or as it was made.

        None for one that it does not know: its run is at work or was killed, or whoever may write to the store put it
        there. Raises as `head` and `event` do.
        """
        head = self.head()
        for served in (*reversed(head.state.served), *head.state.waiting):
            if served.version == version:
                return served
        for seq in range(head.seq, 0, -1):
            event = self.event(seq)
            if event.current and event.current.version == version:  # long ago: the state remembers the newest ones
                return event.current
            attempt = event.state_after.attempt
            if attempt and attempt.version == version and attempt.manifest is not None:
                return Served(version, attempt.manifest, attempt.labelled)
        return None

    def append(self, after: Head, body: Body, *, run: str, key: str, actor: str, reason: str) -> Event:
        """Append one event, signed when there is a key. Raises LedgerConflict when somebody else appended after
        `after`, VerificationError when it would have to be signed and there is none, NewerFormat when `after` has a
        format that this release does not know: what it does not know of the state would be lost."""
        self.check_may_append(body.kind)
        _refuse_newer(after.format_version, after.release, self._path(after.seq))
        now = datetime.now(UTC).isoformat(timespec="microseconds")
        event = Event(
            format_version=FORMAT_VERSION,
            seq=after.seq + 1,
            prev=after.digest,
            at=max(now, after.at or now),
            event=body.kind.value,
            run=run,
            key=key,
            actor=actor,
            reason=reason,
            current=None,
            body=to_dict(body),
            state_after=after.state,
            release=installed_release(),
        )
        state = transition(after.state, event)
        event = replace(event, state_after=state, current=state.current)
        event, data = self.trust.sign_event(self.model, replace(event, sha256=_content(to_dict(event))))
        try:
            self.store.create(self._path(event.seq), data, durable=True)
        except AlreadyExists:
            raise LedgerConflict(f"Somebody else wrote {self._path(event.seq)} first.") from None
        return event

    def check_may_append(self, kind: str) -> None:
        """Raises VerificationError when such an event would have to be signed, and this process has no key."""
        if kind not in UNSIGNED_KINDS:
            self.trust.check_may_sign(f"A {str(kind)!r} event of {self.model}")

    def signature_status(self, seq: int) -> tuple[Event, SignatureStatus]:
        """An event and what its signature is worth here; nothing is refused for it. Raises NotFound, CorruptObject."""
        event, data = self._read(seq)
        return event, self.trust.of_event(self.model, event, data)

    def _path(self, seq: int) -> str:
        return layout.event_path(self.model, seq)

    def _read(self, seq: int) -> tuple[Event, bytes]:
        path = self._path(seq)
        data = self.store.read(path)
        event = from_json(Event, data, path)
        if event.seq != seq:
            raise CorruptObject(f"{path} says it is event {event.seq}. Restore the ledger from a backup.")
        return event, data

    def _check_follows(self, event: Event, previous: str | None) -> None:
        if event.prev != previous:
            raise CorruptObject(
                f"{self._path(event.seq)} does not follow from {self._path(event.seq - 1)}: the history was altered. "
                "Restore the ledger from a backup."
            )

    # --- signatures: what a signed event names is as good as signed, and so on back to the first ---

    def _check_newest(self, event: Event, data: bytes) -> None:
        """From the head back to the newest signed event, usually the head itself."""
        while (status := self._status(event, data)).state is not SignatureState.SIGNED:
            if status.state is SignatureState.UNSIGNED and not self.trust.required:
                return
            before, its_data = self._read(event.seq - 1) if event.seq > 1 else (None, None)
            self._check_follows(event, digest(its_data) if its_data else None)
            self._check_unsigned(event, status, before.state_after if before else State())
            if before is None or its_data is None:
                return
            event, data = before, its_data

    def _check_older(self, event: Event, data: bytes) -> None:
        """An event that no trusted key signed counts when a later one leads back to it that is signed; the newest ones
        are judged with the head."""
        status, seq = self._status(event, data), event.seq
        if status.state is SignatureState.UNSIGNED and not self.trust.required:
            return
        state = status.state
        while state is not SignatureState.SIGNED:
            seq, previous = seq + 1, digest(data)
            try:
                later, data = self._read(seq)
            except NotFound:
                self._check_key(event, status)
                self.head()
                return
            self._check_follows(later, previous)
            state = self._status(later, data).state

    def _status(self, event: Event, data: bytes) -> SignatureStatus:
        """Raises SignatureError for a signature that is wrong."""
        status = self.trust.of_event(self.model, event, data)
        if status.state is SignatureState.WRONG:
            self.trust.refuse(status, self._path(event.seq), "")
        return status

    def _check_unsigned(self, event: Event, status: SignatureStatus, before: State) -> None:
        self._check_key(event, status)
        if self.trust.required:
            check_unsigned(self._path(event.seq), event, before)

    def _check_key(self, event: Event, status: SignatureStatus) -> None:
        """Raises SignatureError for a key that is not trusted."""
        if status.state is SignatureState.UNKNOWN_KEY:
            self.trust.refuse(status, self._path(event.seq), "")

    def last(self) -> int:
        """The highest number, found by galloping: events are contiguous, so about 2 log2(n) look-ups suffice."""
        low, high = 0, 1
        while self.store.exists(self._path(high)):
            low, high = high, high * 2
        while high - low > 1:
            middle = (low + high) // 2
            low, high = (middle, high) if self.store.exists(self._path(middle)) else (low, middle)
        return low


def _refuse_newer(format_version: int, release: str | None, path: str) -> None:
    """Raises NewerFormat for a format that this release does not know."""
    if format_version > FORMAT_VERSION:
        raise NewerFormat(
            f"{path} has format {format_version}, written by {f'release {release}' if release else 'a newer release'}; "
            f"this release writes format {FORMAT_VERSION}. Nothing was written: install that release or a later one."
        )


def check_whole(event: Event, data: bytes, path: str) -> None:
    """Raises CorruptObject when an event's file is not what was written. That of any but the newest event the next one
    tells, which names the digest of its bytes."""
    if event.sha256 is not None and event.sha256 != _content(json.loads(data)):
        raise CorruptObject(f"{path} is damaged or was altered. Restore the ledger from a backup.")


def _content(record: Mapping[str, Any]) -> str:
    """sha256 of an event's file as plain values, without its own; fields of later releases count as they stand."""
    rest = {name: value for name, value in record.items() if name not in ("sha256", "signature")}
    return digest(json.dumps(rest, sort_keys=True).encode())


def pruned(ledger: Ledger, state: State, version: int) -> str | None:
    """Why a version cannot be loaded any more, and what is left to do; None when its payload was not pruned."""
    seq = state.pruned.get(version)
    if seq is None:
        return None
    event = ledger.event(seq)
    return (
        f"v{version} of {ledger.model} was pruned by {event.actor} on {event.at[:10]} (entry {seq}): "
        f"{event.reason.rstrip('.')}. It cannot be loaded any more; its record is kept."
    )
