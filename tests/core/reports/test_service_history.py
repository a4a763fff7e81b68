"""What was in service at some time, looked up in the history."""

from __future__ import annotations

import random
from collections.abc import Sequence
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from tasks.core.errors import CorruptObject, InvalidRequest, NotFound
from tasks.core.ledger.events import Event
from tasks.core.ledger.ledger import FORMAT_VERSION
from tasks.core.ledger.transitions import transition
from tasks.core.records import digest, to_dict, to_json
from tasks.core.reports import service_history
from tasks.core.reports.service_history import ServiceHistory, look_back, parse_when
from tasks.core.store import Store
from tasks.core.types import Action, Outcome, Rule, Served
from tasks.core.versions.manifest import training_digest
from tasks.core.versions.registry import Registry
from tests.helpers.events import decided
from tests.helpers.training import Trained

NOW = datetime(2013, 7, 1, tzinfo=UTC)


class Past2013:
    """A history written at times of our own, in a store that counts what is read of it."""

    def __init__(self, folder: Path, trained: Trained, versions: int):
        self.store = CountingStore(folder)
        self.registry = Registry(self.store)
        self.events: list[Event] = []
        self.served = [
            Served(*self.registry.register("loans", f"run {number}", trained.challenger.candidate), number)
            for number in range(1, versions + 1)
        ]

    def write(self, at: datetime, kind: str, body: Any, actor: str = "ann", reason: str = "because") -> Event:
        """One event after the newest, linked to it as the ledger does."""
        ledger = self.registry.ledger("loans")
        head = ledger.head()
        text = at.isoformat(timespec="microseconds")
        event = Event(
            FORMAT_VERSION, head.seq + 1, head.digest, text, kind, "run", "key", actor, reason, None, body, head.state
        )
        state = transition(head.state, event)
        event = replace(event, state_after=state, current=state.current)
        self.store.create(f"loans/ledger/{event.seq:08d}.json", to_json(event))
        self.events.append(event)
        return event

    def decide(self, at: datetime, version: int, action: Action = Action.RETRAIN, **words: Any) -> Event:
        """A run that leaves this version in service, 0 for none."""
        record = decided(action, in_service=self.served[version - 1] if version else None, outcome=Outcome.RETRAINED)
        return self.write(at, "decided", to_dict(record), **words)

    def promote(self, at: datetime, version: int, **words: Any) -> Event:
        body = {"served": to_dict(self.served[version - 1]), "was": "gate overridden", "replaced": None}
        return self.write(at, "promoted", body, **words)

    def ask(self, text: str) -> ServiceHistory:
        return look_back(self.registry, "loans", parse_when(text), NOW)


class CountingStore(Store):
    """A store that counts reads."""

    reads = 0

    def read(self, path: str) -> bytes:
        self.reads += 1
        return super().read(path)


def june(day: int, hour: int = 0, minute: int = 0) -> datetime:
    return datetime(2013, 6, day, hour, minute, tzinfo=UTC)


@pytest.fixture
def loans(tmp_path: Path, trained: Trained) -> Past2013:
    """v1 from the 2nd, v2 at noon of the 5th, rolled back to v1 at six, v3 by hand at midnight before the 7th."""
    made = Past2013(tmp_path / "store", trained, 3)
    made.decide(june(1, 8), 0, Action.HOLD)
    made.decide(june(2, 9), 1, actor="schedule")
    made.write(june(3), "accepted", {"batch": "002"})
    made.decide(june(5, 12), 2)
    made.decide(june(5, 18), 1, Action.ROLLBACK)
    made.write(june(6), "failed", {"error": "a test"})
    made.promote(june(7), 3, actor="bob", reason="the floor was too high")
    return made


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("2013-06-02T09:00", [(1, 2)]),
        ("2013-06-04 00:00", [(1, 2)]),
        ("2013-06-05T11:59:59.999999", [(1, 2)]),
        ("2013-06-05T12:00", [(2, 4)]),
        ("2013-06-05T17:59:59Z", [(2, 4)]),
        ("2013-06-05T18:00", [(1, 5)]),
        ("2013-06-05 20:00+02:00", [(1, 5)]),
        ("2013-06-05 19:59+02:00", [(2, 4)]),
        ("2013-06-30T23:59", [(3, 7)]),
        ("2013-06-02", [(1, 2)]),
        ("2013-06-03", [(1, 2)]),
        ("2013-06-05", [(1, 2), (2, 4), (1, 5)]),
        ("2013-06-06", [(1, 5)]),
        ("2013-06-07", [(3, 7)]),
        ("20130620", [(3, 7)]),
        ("2013-07-01", [(3, 7)]),
    ],
)
def test_what_was_in_service(loans: Past2013, text: str, expected: list[tuple[int, int]]) -> None:
    """A moment has one version, from the very time it was put there; a day has all of its versions, in order, and not
    the one that came at its end."""
    assert [(tenure.version, tenure.seq) for tenure in loans.ask(text).tenures] == expected


def test_a_tenure_answers_every_question(loans: Past2013) -> None:
    """Since when and until when, which entry, by whom, why, on which data, justified by which metrics."""
    (tenure,) = loans.ask("2013-06-04T00:00").tenures
    manifest, sha256 = loans.registry.manifest("loans", 1)
    assert (tenure.since, tenure.until) == ("2013-06-02T09:00:00.000000+00:00", "2013-06-05T12:00:00.000000+00:00")
    assert (tenure.replaced_by, tenure.event, tenure.outcome, tenure.rule) == (2, "decided", "Retrained", "otherwise")
    assert (tenure.reasons, tenure.made_because, tenure.was) == (("a test",), manifest.reasons, None)
    assert tenure.by == "the rules (otherwise), in a run of schedule"
    assert (tenure.rows, tenure.batches) == (manifest.rows, ("001", "002", "003"))
    assert (tenure.manifest, tenure.training_sha256) == (sha256, training_digest(manifest))
    assert tenure.metrics == manifest.metrics and tenure.metrics["loss"].rows > 0
    assert tenure.gate == manifest.gate


def test_a_person_is_named(loans: Past2013) -> None:
    """What a person put in service says who, why and what it was; nothing has replaced it."""
    (tenure,) = loans.ask("2013-06-08").tenures
    assert (tenure.by, tenure.reasons) == ("bob (gate overridden)", ("the floor was too high",))
    assert (tenure.event, tenure.rule, tenure.outcome) == ("promoted", None, None)
    assert (tenure.until, tenure.replaced_by) == (None, None)


def test_who_asked_is_named(loans: Past2013) -> None:
    """A retrain that a person asked for is not called the rules'."""
    record = decided(Action.RETRAIN, in_service=loans.served[1], outcome=Outcome.RETRAINED)
    record = replace(record, decision=replace(record.decision, rule=Rule.BY_HAND))
    loans.write(june(9), "decided", to_dict(record), actor="eve")
    assert loans.ask("2013-06-10").tenures[0].by == "eve, who asked for it"


def test_before_the_first(loans: Past2013) -> None:
    """Where nothing was in service yet, it is told since when there was a version; an hour later on that day it was."""
    for text in ("2012-01-01", "2013-06-01", "2013-06-02T08:59"):
        found = loans.ask(text)
        assert found.tenures == ()
        assert (found.first, found.first_since) == (loans.served[0], "2013-06-02T09:00:00.000000+00:00")
    assert loans.ask("2013-06-02").first is None


def test_the_version_in_service_and_the_one_before(tmp_path: Path, trained: Trained) -> None:
    """After any entry: who is in service and whom it took over from, with times and persons; none before the first."""
    made = Past2013(tmp_path, trained, versions=2)
    start = datetime(2013, 1, 1, tzinfo=UTC)
    for day, version in enumerate([0, 1, 1, 2, 2]):
        made.decide(start + timedelta(days=day), version)
    made.promote(start + timedelta(days=5), 1, actor="bea", reason="as before")

    seen = [service_history.around(made.registry, "loans", seq) for seq in range(1, 7)]
    versions = [tuple(found.version if found else None for found in pair) for pair in seen]
    assert versions == [(None, None), (1, None), (1, None), (2, 1), (2, 1), (1, 2)]
    now, was = seen[-1]
    assert now is not None and was is not None
    assert (now.by, now.reasons, now.seq) == ("bea (gate overridden)", ("as before",), 6)
    assert (was.since[:10], (was.until or "")[:10]) == ("2013-01-04", "2013-01-06")


@pytest.mark.parametrize("held", [0, 3])
def test_there_never_was_one(tmp_path: Path, trained: Trained, held: int) -> None:
    """An empty history, or one of runs that held, has nothing and no first."""
    empty = Past2013(tmp_path, trained, 0)
    for day in range(1, held + 1):
        empty.decide(june(day), 0, Action.HOLD)
    found = empty.ask("2013-06-02")
    assert (found.tenures, found.first, found.first_since) == ((), None, None)


@pytest.mark.parametrize("text", ["2013-07-02", "2013-07-01T00:00:01", "2013-07-01 01:00-01:00", "9999-12-30"])
def test_the_future_is_not_known(loans: Past2013, text: str) -> None:
    """A time that has not come is refused, with the time it is now."""
    with pytest.raises(InvalidRequest, match="is not known yet: it is 2013-07-01 00:00 UTC now"):
        loans.ask(text)


def test_a_history_ahead_of_this_clock(loans: Past2013) -> None:
    """What another machine's clock wrote is known, though this one's has not come there."""
    loans.promote(NOW + timedelta(hours=1), 1)
    assert loans.ask("2013-07-01T01:00").tenures[0].version == 1
    with pytest.raises(InvalidRequest, match="it is 2013-07-01 01:00 UTC now"):
        loans.ask("2013-07-01T01:00:01")


@pytest.mark.parametrize(
    "text", ["", "yesterday", "2013-13-01", "2013-06-01T25:00", "9999-12-31", "0001-01-01T00:00+05:00", "v3", "1"]
)
def test_what_is_no_time_is_refused(text: str) -> None:
    """The error repeats what was written and shows how to write it."""
    with pytest.raises(InvalidRequest, match="is neither a date nor a time: use a date, 2013-06-01, or a time"):
        parse_when(text)


def test_times_are_shown_in_utc() -> None:
    """A day is called a day; a moment is shown in UTC, as exactly as it was given."""
    assert str(parse_when("2013-06-01")) == "on 2013-06-01 (UTC)"
    assert str(parse_when("2013-06-01 01:30+02:00")) == "at 2013-05-31 23:30:00 UTC"
    assert str(parse_when("2013-06-01T12:00:00.5")) == "at 2013-06-01 12:00:00.500000 UTC"


def test_a_handful_of_reads(tmp_path: Path, trained: Trained) -> None:
    """In a history of 600 entries a moment takes some thirty reads, not 600."""
    long = Past2013(tmp_path, trained, 2)
    long.decide(june(1), 1)
    for number in range(598):
        if number == 300:
            long.decide(june(2), 2)
        long.write(june(1 + (number >= 300), 1), "accepted", {"batch": f"b{number}"})
    long.store.reads = 0
    assert [tenure.version for tenure in long.ask("2013-06-01T12:00").tenures] == [1]
    assert long.store.reads <= 40
    long.store.reads = 0
    assert [tenure.version for tenure in long.ask("2013-06-02").tenures] == [2]
    assert long.store.reads <= 40


@pytest.mark.parametrize("seed", range(4))
def test_any_history_agrees_with_reading_it_all(tmp_path: Path, trained: Trained, seed: int) -> None:
    """Whatever was done when, also at one and the same time, every moment and every day between answers what a reader
    of all entries finds."""
    chance = random.Random(seed)
    made, at = Past2013(tmp_path, trained, 3), june(1)
    for _ in range(50):
        at += chance.choice([timedelta(0), timedelta(0), timedelta(hours=7), timedelta(days=1, seconds=1)])
        current = made.events[-1].current.version if made.events and made.events[-1].current else 0
        others = [number for number in (1, 2, 3) if number != current]
        match chance.randrange(4):
            case 0:
                made.promote(at, chance.choice(others))
            case 1:
                made.decide(at, chance.choice(others))
            case 2:
                made.decide(at, current, Action.RELOAD)
            case _:
                made.write(at, "failed", {"error": "a test"})
    spans = in_service(made.events)
    moments = [june(1) + timedelta(hours=step) for step in range(0, 24 * 31, 5)]
    for moment in (*moments, *(datetime.fromisoformat(event.at) for event in made.events)):
        if moment <= max(NOW, at):
            expected = [span[2:] for span in spans if span[0] <= moment < span[1]]
            assert told(made.ask(moment.isoformat())) == expected
    for day in range(1, 31):
        start, end = june(day), june(day) + timedelta(days=1)
        expected = [span[2:] for span in spans if span[0] < end and span[1] > start]
        assert told(made.ask(start.date().isoformat())) == expected


def told(found: ServiceHistory) -> list[tuple[int, int, int | None]]:
    return [(tenure.version, tenure.seq, tenure.replaced_by) for tenure in found.tenures]


def in_service(events: Sequence[Event]) -> list[tuple[datetime, datetime, int, int, int | None]]:
    """From, until, version, entry and successor of all that was in service for some time."""
    changes, before = [], None
    for event in events:
        if event.current != before and event.current is not None:
            changes.append((datetime.fromisoformat(event.at), event.current.version, event.seq))
        before = event.current
    end = datetime.max.replace(tzinfo=UTC)
    following = [*((at, version) for at, version, _ in changes[1:]), (end, None)]
    lasting = [change for change, (until, _) in zip(changes, following, strict=True) if change[0] < until]
    successors = [*((at, version) for at, version, _ in lasting[1:]), (end, None)]
    return [(at, until, v, seq, new) for (at, v, seq), (until, new) in zip(lasting, successors, strict=True)]


def test_a_record_that_was_altered(loans: Past2013, tmp_path: Path) -> None:
    """A manifest that is not the one that the history names is refused, one that is gone is missed."""
    path = tmp_path / "store" / "loans" / "versions" / "00000003" / "manifest.json"
    assert digest(path.read_bytes()) == loans.served[2].manifest
    path.write_bytes(path.read_bytes() + b"\n")
    with pytest.raises(CorruptObject, match="is not the manifest that the history names"):
        loans.ask("2013-06-08")
    path.unlink()
    with pytest.raises(NotFound):
        loans.ask("2013-06-08")
    assert loans.ask("2013-06-04").tenures[0].version == 1
