"""What was in service at some time: a look-up in the history by bisection, a handful of reads however long it is.

Every event carries the state after it, and neither the events' times nor the time the current version has been in
service since ever decrease, so both can be searched. The chain of digests is not checked on the way: `ror verify` does
that. Manifests are compared with the digests that the history names, as everywhere.
"""

from __future__ import annotations

from bisect import bisect_left, bisect_right
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import UTC, date, datetime, timedelta
from typing import Any

from tasks.core.errors import InvalidRequest, NotFound, VerificationError
from tasks.core.ledger.events import Decided, Event, EventKind, Promoted
from tasks.core.ledger.ledger import Ledger
from tasks.core.types import Gate, Metric, Rule, Served
from tasks.core.versions.manifest import training_digest
from tasks.core.versions.registry import Registry


@dataclass(frozen=True, slots=True)
class TimeRange:
    """A moment, or a whole day, UTC."""

    start: datetime
    end: datetime
    """The day's end, which is not part of it; of a moment, the moment itself."""

    @property
    def is_day(self) -> bool:
        """Whether it is a whole day."""
        return self.end > self.start

    def __str__(self) -> str:
        return f"on {self.start:%Y-%m-%d} (UTC)" if self.is_day else f"at {_shown(self.start)} UTC"


@dataclass(frozen=True, slots=True)
class Tenure:
    """One stretch of time for which a version was in service; a version that came back has several."""

    version: int
    manifest: str
    """sha256 of its manifest's bytes."""
    since: str
    """When it was put in service, UTC."""
    until: str | None
    """When another took its place, UTC; None: it is in service still."""
    replaced_by: int | None
    seq: int
    """The history entry that put it there."""
    event: str
    """Kind of that entry: `decided` by a run, `promoted` by a person."""
    outcome: str | None
    """How that run ended, None where a person acted."""
    rule: Rule | None
    """The rule that decided, None where a person acted."""
    was: str | None
    """What a person did: `approved`, `rolled back`, `gate overridden`, `cleared` or `chosen`."""
    actor: str
    """The person, or who started the run."""
    run: str
    reasons: tuple[str, ...]
    """Why it was put there."""
    made_because: tuple[str, ...]
    """Why it was trained."""
    rows: int
    """Rows it was trained on."""
    batches: tuple[str, ...]
    training_sha256: str
    """One digest for all of its training data, as `ror status` shows it."""
    metrics: Mapping[str, Metric]
    """On rows it never saw, before it was put in service."""
    gate: Gate

    @property
    def by(self) -> str:
        """Who put it there, in words."""
        if self.event != EventKind.DECIDED:
            return f"{self.actor} ({self.was})" if self.was else self.actor
        if self.rule is Rule.BY_HAND:
            return f"{self.actor}, who asked for it"
        return f"the rules ({self.rule}), in a run of {self.actor}"


@dataclass(frozen=True, slots=True)
class ServiceHistory:
    """What was in service then."""

    model: str
    when: TimeRange
    tenures: tuple[Tenure, ...]
    """In order; at a moment one at most, on a day every one of that day. Empty: nothing was in service."""
    first: Served | None
    """The first there ever was, where nothing was in service yet then; None also where there never was one."""
    first_since: str | None


def parse_when(text: str) -> TimeRange:
    """`2013-06-01` is that whole day; `2013-06-01T12:00` a moment, UTC unless it says its zone (`+02:00`, `Z`).

    Raises InvalidRequest for anything else.
    """
    try:
        try:
            day = datetime.combine(date.fromisoformat(text), datetime.min.time(), UTC)
        except ValueError:
            moment = _moment(text)
            return TimeRange(moment, moment)
        return TimeRange(day, day + timedelta(days=1))
    except (ValueError, OverflowError):
        examples = "use a date, 2013-06-01, or a time, 2013-06-01T12:00 or '2013-06-01 12:00+02:00' (no zone: UTC)"
        raise InvalidRequest("at", [f"{text!r} is neither a date nor a time: {examples}"]) from None


def look_back(registry: Registry, model: str, when: TimeRange, now: datetime) -> ServiceHistory:
    """Every version that was in service then, with who put it there, why, its data and its metrics.

    Raises InvalidRequest for a time that has not come, NotFound or CorruptObject where the record of a version is not
    what the history names, StoreError.
    """
    history = _History(registry.ledger(model))
    latest = max([now, *([_moment(history.event(history.last).at)] if history.last else [])])
    if when.start > latest:
        raise InvalidRequest(
            "at", [f"{when.start:%Y-%m-%d %H:%M} UTC is not known yet: it is {latest:%Y-%m-%d %H:%M} UTC now"]
        )
    newest = history.newest_by(when.start)
    seq = newest if newest and history.event(newest).current else history.change_after(_BEGINNING)
    found = []
    while seq <= history.last and (history.since(seq) <= when.start or history.since(seq) < when.end):
        following = history.change_after(history.since(seq))
        found.append(_tenure(registry, model, history, seq, following))
        seq = following
    later = history.event(seq) if not found and seq <= history.last else None
    first, since = (later.current, later.state_after.since) if later else (None, None)
    return ServiceHistory(model, when, tuple(found), first, since)


def around(registry: Registry, model: str, seq: int) -> tuple[Tenure | None, Tenure | None]:
    """The version in service after an event of the history, and the one that it took over from; None for none.

    Raises as `look_back` does. The earlier one is None also where its record is gone: nothing depends on it.
    """
    history = _History(registry.ledger(model))
    if history.event(seq).current is None:
        return None, None
    entry = history.entry(seq).seq
    current = _tenure(registry, model, history, seq, history.last + 1)
    if entry == 1 or history.event(entry - 1).current is None:
        return current, None
    try:
        return current, _tenure(registry, model, history, entry - 1, entry)
    except (NotFound, VerificationError):
        return current, None


class _History:
    """The events of a ledger, each read at most once, and searched by what never decreases along them."""

    def __init__(self, ledger: Ledger):
        self._ledger, self._known = ledger, dict[int, Event]()
        self.last = ledger.head().seq

    def event(self, seq: int) -> Event:
        if seq not in self._known:
            self._known[seq] = self._ledger.event(seq)
        return self._known[seq]

    def since(self, seq: int) -> datetime:
        """Since when the version has been in service that is after this event; the beginning of time for none."""
        since = self.event(seq).state_after.since
        return _moment(since) if since else _BEGINNING

    def newest_by(self, moment: datetime) -> int:
        """The newest event of that moment or before, 0 for none."""
        return self._search(bisect_right, moment, lambda seq: _moment(self.event(seq).at))

    def change_after(self, moment: datetime) -> int:
        """The next event after which another version is in service, and was for a while; one past the last for none.

        Where a clock was set back several events share one time: of those it is the last.
        """
        seq = self._search(bisect_right, moment, self.since) + 1
        return seq if seq > self.last else self.newest_by(self.since(seq))

    def entry(self, seq: int) -> Event:
        """The event that put the version in service that is there after this one."""
        since = self.since(seq)
        first = self._search(bisect_left, since, self.since) + 1
        for number in range(self.newest_by(since), first, -1):
            if self.event(number - 1).current != self.event(number).current:
                return self.event(number)
        return self.event(first)

    def _search(self, bisect: Any, moment: datetime, key: Callable[[int], datetime]) -> int:
        """How many events come before that moment's place."""
        return int(bisect(range(1, self.last + 1), moment, key=key))


_BEGINNING = datetime.min.replace(tzinfo=UTC)


def _tenure(registry: Registry, model: str, history: _History, seq: int, following: int) -> Tenure:
    """Of the version in service after event `seq`; `following` is where the next one is."""
    entry, after = history.entry(seq), history.event(following) if following <= history.last else None
    served, since = entry.current, entry.state_after.since
    assert served is not None and since is not None
    manifest = registry.manifest_of(model, served)
    decided = content if isinstance(content := entry.content, Decided) else None
    return Tenure(
        version=served.version,
        manifest=served.manifest,
        since=since,
        until=after.state_after.since if after else None,
        replaced_by=after.current.version if after and after.current else None,
        seq=entry.seq,
        event=entry.event,
        outcome=decided.outcome.value if decided else None,
        rule=decided.decision.rule if decided else None,
        was=content.was if isinstance(content, Promoted) else None,
        actor=entry.actor,
        run=entry.run,
        reasons=decided.decision.reasons if decided else (entry.reason,),
        made_because=manifest.reasons,
        rows=manifest.rows,
        batches=tuple(file.batch for file in manifest.training),
        training_sha256=training_digest(manifest),
        metrics=manifest.metrics,
        gate=manifest.gate,
    )


def _moment(text: str) -> datetime:
    """UTC where no zone is given. Raises ValueError, or OverflowError at the ends of time."""
    parsed = datetime.fromisoformat(text)
    return parsed.astimezone(UTC) if parsed.tzinfo else parsed.replace(tzinfo=UTC)


def _shown(moment: datetime) -> str:
    """To the second, or as exactly as it is given."""
    return moment.replace(tzinfo=None).isoformat(" ", "microseconds" if moment.microsecond else "seconds")
