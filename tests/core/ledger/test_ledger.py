"""The ledger: its chain, and the lease."""

from __future__ import annotations

import json
import multiprocessing
import socket
import time
from collections.abc import Callable
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import psutil
import pytest

from tasks.core.errors import CorruptObject, LeaseHeld, LedgerConflict, NewerFormat, StoreError
from tasks.core.ledger import ledger as ledgers
from tasks.core.ledger.events import (
    Accepted,
    Body,
    Cleared,
    Decided,
    Erased,
    Event,
    EventKind,
    Failed,
    Promoted,
    Pruned,
    Quarantined,
    Snoozed,
    Started,
)
from tasks.core.ledger.lease import Lease, is_alive
from tasks.core.ledger.ledger import Head, Ledger
from tasks.core.ledger.state import LeaseRecord, State, Substitute
from tasks.core.ledger.transitions import transition
from tasks.core.records import digest, installed_release
from tasks.core.store import Store
from tasks.core.types import Action, Attempt, AttemptOutcome, Blocked, LossPoint, Served
from tests.helpers.events import arrived, decided

WHO: dict[str, Any] = {"run": "run-1", "key": "key-1", "actor": "ann", "reason": "because"}
LONG_AGO = "2020-01-01T00:00:00+00:00"
ON_LINUX = pytest.mark.skipif(not psutil.LINUX, reason="only Linux has namespaces, and counts seconds after the boot")
V1, V2 = Served(1, "a" * 64, data_end=1), Served(2, "b" * 64, data_end=3)


@pytest.fixture
def ledger(store: Store) -> Ledger:
    """An empty ledger, over a folder and in memory."""
    return Ledger(store, "loans")


@pytest.fixture
def on_disk(tmp_path: Path) -> tuple[Ledger, Path]:
    """A ledger of five events, and the folder that holds their files."""
    ledger = Ledger(Store(tmp_path), "loans")
    accept(ledger, 5)
    return ledger, tmp_path / "loans" / "ledger"


@pytest.fixture
def mine(tmp_path: Path) -> LeaseRecord:
    """A lease of this very process, as it is recorded."""
    with lease(Ledger(Store(tmp_path / "other"), "loans")) as taken:
        assert taken.state.lease is not None
        return taken.state.lease


def accept(ledger: Ledger, times: int) -> None:
    """Append events by hand, each accepting a batch."""
    for number in range(times):
        ledger.append(ledger.head(), Accepted(f"b{number}"), **WHO)


def start(ledger: Ledger, record: LeaseRecord) -> Event:
    """Take the lease as another process would."""
    return ledger.append(ledger.head(), Started(record), **{**WHO, "run": record.run})


def lease(ledger: Ledger, run: str = "run-1", ttl: timedelta = timedelta(minutes=10)) -> Lease:
    return Lease(ledger, ttl=ttl, **{**WHO, "run": run})


# --- the chain -----------------------------------------------------------------------------------------------


def test_each_event_names_the_one_before(on_disk: tuple[Ledger, Path]) -> None:
    """Every event holds the digest of its predecessor's bytes, the first one none."""
    ledger, folder = on_disk
    digests = [digest((folder / f"{seq:08d}.json").read_bytes()) for seq in range(1, 6)]
    assert [event.prev for event in ledger.events()] == [None, *digests[:-1]]
    assert ledger.head().digest == digests[-1]


@pytest.mark.parametrize("count", [0, 1, 2, 3, 5, 17])
def test_head_is_the_newest_event(ledger: Ledger, count: int) -> None:
    """However many events there are, the head is the last one and carries its state."""
    accept(ledger, count)
    head = ledger.head()
    assert head.seq == count
    assert head.state.accepted == tuple(f"b{number}" for number in range(count))
    assert [event.seq for event in ledger.events()] == list(range(1, count + 1))


def test_a_missing_event_is_noticed(on_disk: tuple[Ledger, Path]) -> None:
    """A hole in the history is damage, named by the entry that is missing, and not merely something not found."""
    ledger, folder = on_disk
    (folder / "00000003.json").unlink()
    with pytest.raises(CorruptObject, match=r"loans/ledger/00000003\.json is missing.*`ror verify loans`"):
        ledger.events()


def test_an_altered_event_is_noticed(on_disk: tuple[Ledger, Path]) -> None:
    """An event that was changed after the fact breaks the chain, and the error names where."""
    ledger, folder = on_disk
    event = folder / "00000003.json"
    event.write_text(event.read_text().replace('"ann"', '"eve"'))
    with pytest.raises(CorruptObject, match=r"loans/ledger/00000004\.json does not follow"):
        ledger.events()


def test_an_event_in_another_place_is_noticed(on_disk: tuple[Ledger, Path]) -> None:
    """An event that says it has another number than its name is refused."""
    ledger, folder = on_disk
    (folder / "00000006.json").write_bytes((folder / "00000005.json").read_bytes())
    with pytest.raises(CorruptObject, match=r"00000006\.json says it is event 5"):
        ledger.head()


@pytest.mark.parametrize("keep", [0, 1, 100])
def test_a_torn_head_is_refused(on_disk: tuple[Ledger, Path], keep: int) -> None:
    """A last event that was cut short is refused as corrupt, by name, and never skipped."""
    ledger, folder = on_disk
    newest = folder / "00000005.json"
    newest.write_bytes(newest.read_bytes()[:keep])
    with pytest.raises(CorruptObject, match=r"loans/ledger/00000005\.json") as caught:
        ledger.head()
    assert caught.value.exit_code == 4


@pytest.mark.parametrize(
    ("before", "after"), [('"ann"', '"eve"'), ('"served"', '"servad"'), ('"accepted": [', '"accepted_": [')]
)
def test_a_damaged_head_is_refused(on_disk: tuple[Ledger, Path], before: str, after: str) -> None:
    """A last event whose text changed is refused by name, though no later event holds its digest yet."""
    ledger, folder = on_disk
    newest = folder / "00000005.json"
    newest.write_text(newest.read_text().replace(before, after))
    for read in (ledger.head, ledger.events):
        with pytest.raises(CorruptObject, match=r"loans/ledger/00000005\.json is damaged"):
            read()


def test_events_of_older_releases_are_read(on_disk: tuple[Ledger, Path]) -> None:
    """An event that was written before events held their own digest is read as it was, and followed."""
    ledger, folder = on_disk
    head = ledger.head()
    newest = folder / "00000005.json"
    record = json.loads(newest.read_text())
    del record["sha256"]
    newest.write_text(json.dumps(record))
    assert ledger.head().state == head.state
    ledger.append(ledger.head(), Accepted("b"), **WHO)
    assert len(ledger.events()) == 6


# --- appending -----------------------------------------------------------------------------------------------


def append_ten(location: str) -> None:
    """What each of several processes does: append ten events, reading again whenever another was first."""
    ledger = Ledger(Store(location), "loans")
    for _ in range(10):
        while True:
            try:
                ledger.append(ledger.head(), Accepted("b"), **WHO)
                break
            except LedgerConflict:
                continue


def test_of_four_writers_nothing_is_lost(tmp_path: Path) -> None:
    """Four processes that append at once, each ten times, leave forty events in one unbroken chain."""
    spawn = multiprocessing.get_context("spawn")
    processes = [spawn.Process(target=append_ten, args=(str(tmp_path),)) for _ in range(4)]
    for process in processes:
        process.start()
    for process in processes:
        process.join(timeout=30)
    assert [process.exitcode for process in processes] == [0, 0, 0, 0]
    events = Ledger(Store(tmp_path), "loans").events()
    assert [event.seq for event in events] == list(range(1, 41))
    assert len(events[-1].state_after.accepted) == 40


def test_appending_after_an_older_event_is_refused(ledger: Ledger) -> None:
    """Whoever appends after an event that is no longer the newest is told so, and writes nothing."""
    head = ledger.head()
    accept(ledger, 1)
    with pytest.raises(LedgerConflict, match=r"wrote loans/ledger/00000001\.json first"):
        ledger.append(head, Accepted("late"), **WHO)
    assert ledger.head().state.accepted == ("b0",)


def test_time_never_goes_backwards(ledger: Ledger) -> None:
    """When the clock stands before the newest event, the next event takes that event's time."""
    future = "2999-01-01T00:00:00.000000+00:00"
    first = ledger.append(Head(0, None, State(), at=future), Accepted("b"), **WHO)
    second = ledger.append(ledger.head(), Accepted("c"), **WHO)
    assert first.at == second.at == future


# --- the state -----------------------------------------------------------------------------------------------


def test_replaying_the_events_gives_their_states(ledger: Ledger) -> None:
    """Following the events one after another gives the state that each of them carries, for every kind of event."""
    trained = Attempt(1, AttemptOutcome.REGISTERED, 1, V1.manifest)
    again = Attempt(3, AttemptOutcome.REGISTERED, 2, V2.manifest)
    losses = (LossPoint("b", 1, 90, 0.1 + 0.2, 1 / 3),)
    story: list[Body] = [
        decided(Action.RETRAIN, attempt=trained, **arrived("a")),
        decided(losses=losses, decision={"suspect": "b"}, **arrived("b")),
        decided(Action.RETRAIN, in_service=V2, attempt=again, decision={"cleared": "b"}, **arrived("c")),
        decided(Action.ROLLBACK, decision={"interval": 3.2}, **arrived("d")),
        decided(Action.BLOCK, blocked=(Blocked("e", "e" * 64, ("broken",)),)),
        Accepted("d"),
        Quarantined("c"),
        Cleared("c"),
        Promoted(V2),
        Snoozed(("age",), "2026-12-31"),
        Pruned((1,)),
        Erased(batches={"a": {"rows": 99}}, replaced={"old": Substitute("new", "f" * 64, 1)}),
    ]
    for body in story:
        if isinstance(body, Decided):
            with lease(ledger) as taken:
                taken.commit(lambda _, body=body: body)
        else:
            ledger.append(ledger.head(), body, **WHO)
    with pytest.raises(ZeroDivisionError), lease(ledger):
        _ = 1 / 0

    state = State()
    events = ledger.events()
    for event in events:
        state = transition(state, event)
        assert event.state_after == state
        assert event.current == state.current
    assert {event.event for event in events} == {*EventKind} - {EventKind.RENEWED}
    assert state.served == (V1, V2)
    assert state.lease is None


# --- the lease -----------------------------------------------------------------------------------------------


def test_a_second_run_is_refused_while_the_first_lives(ledger: Ledger) -> None:
    """A run that finds a live lease ends at once, with the first one's name and exit code 0."""
    with lease(ledger, "first") as first:
        with pytest.raises(LeaseHeld, match="Run first") as caught, lease(ledger, "second"):
            pass
        assert caught.value.exit_code == 0
        first.commit(lambda _: decided())
    with lease(ledger, "second") as second:
        assert second.token > first.token


@pytest.mark.parametrize(
    "gone",
    [
        pytest.param({"pid": 2**22 + 1}, id="no such process"),
        pytest.param({"process_started": 1.0}, id="its number belongs to another process now"),
        pytest.param({"pid": 2**22 + 1, "host": "a-name-it-had-before"}, id="the machine has another name now"),
        pytest.param({"boot": "an earlier one", "expires": LONG_AGO}, id="the machine was restarted, and it expired"),
    ],
)
def test_the_lease_of_a_dead_process_is_taken_over(ledger: Ledger, mine: LeaseRecord, gone: dict[str, Any]) -> None:
    """A lease whose process is gone from this host does not have to expire first."""
    started = start(ledger, replace(mine, run="dead", **gone))
    with lease(ledger) as taken:
        assert taken.token == started.seq + 1


@pytest.mark.parametrize(
    "written",
    [
        pytest.param({}, id="not altered"),
        pytest.param({"expires": LONG_AGO}, id="too busy to renew it"),
        pytest.param({"host": "a-name-it-had-before"}, id="the machine has another name now"),
    ],
)
def test_the_lease_of_a_process_that_is_seen_alive_stands(
    ledger: Ledger, mine: LeaseRecord, written: dict[str, Any]
) -> None:
    """Where the process can be looked at it decides, whatever the expiry: compiled code may hold it for hours."""
    start(ledger, replace(mine, run="alive", **written))
    with pytest.raises(LeaseHeld, match="Run alive"), lease(ledger):
        pass


@pytest.mark.parametrize("host", ["another-host", socket.gethostname()], ids=["another name", "the same name"])
@pytest.mark.parametrize(
    "boot",
    [
        pytest.param("another boot", id="another boot"),
        pytest.param("{this} pid:[1]", id="another namespace"),
        pytest.param("{this}", id="no namespace named", marks=ON_LINUX),
    ],
)
def test_a_lease_of_another_host_has_to_expire(ledger: Ledger, mine: LeaseRecord, boot: str, host: str) -> None:
    """Nothing is known of processes elsewhere, in another container of this machine, say, which may share its name:
    their lease is respected until it expires, then taken over. Earlier releases did not name the container."""
    this = mine.boot.split()[0]
    elsewhere = replace(mine, run="far", host=host, pid=2**22 + 1, boot=boot.format(this=this))
    start(ledger, elsewhere)
    with pytest.raises(LeaseHeld, match="Run far"), lease(ledger):
        pass
    past = (datetime.now(UTC) - timedelta(seconds=2)).isoformat(timespec="seconds")
    start(ledger, replace(elsewhere, expires=past))
    with lease(ledger) as taken:
        assert taken.state.lease is not None
        assert taken.state.lease.run == "run-1"


def test_a_process_that_may_not_be_looked_at(
    ledger: Ledger, mine: LeaseRecord, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Of another user's process, on a system that hides it, only the expiry is known."""

    def denied(process: psutil.Process) -> float:
        raise psutil.AccessDenied(process.pid)

    monkeypatch.setattr(psutil.Process, "create_time", denied)
    assert is_alive(mine)
    assert not is_alive(replace(mine, expires=LONG_AGO))


@ON_LINUX
def test_setting_the_clock_ends_no_lease(ledger: Ledger, mine: LeaseRecord, monkeypatch: pytest.MonkeyPatch) -> None:
    """A clock that is set by an hour while a run is at work does not make another process of its own."""
    started = psutil.boot_time()
    monkeypatch.setattr(psutil, "boot_time", lambda: started + 3600)
    monkeypatch.setattr(psutil._pslinux, "boot_time", lambda: started + 3600)
    assert psutil.Process().create_time() - started > 3600
    start(ledger, replace(mine, run="alive"))
    with pytest.raises(LeaseHeld, match="Run alive"), lease(ledger):
        pass


def test_a_lease_that_the_store_did_not_take_back_is_given_back_later(
    ledger: Ledger, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A notebook lives on after its run: what the store could not note at the end is noted once it can."""
    append, refused = ledger.append, []

    def append_later(head: Head, body: Body, **who: Any) -> Event:
        if isinstance(body, Failed) and not refused:
            refused.append(body)
            raise StoreError("the disk is full")
        return append(head, body, **who)

    monkeypatch.setattr(ledger, "append", append_later)
    with pytest.raises(ValueError, match="no such column"), lease(ledger, ttl=timedelta(seconds=0.4)):
        raise ValueError("no such column")
    assert ledger.head().state.lease is not None
    deadline = time.monotonic() + 10
    while ledger.head().state.lease and time.monotonic() < deadline:
        time.sleep(0.02)
    assert ledger.events()[-1].body == {"error": "ValueError: no such column"}


def test_a_run_that_was_fenced_off_cannot_commit(ledger: Ledger, mine: LeaseRecord) -> None:
    """A run that lost its lease to a later one stops without a decision, and does not end the later one's lease."""
    with pytest.raises(LeaseHeld, match="lost its lease to later"), lease(ledger, "slow") as slow:
        start(ledger, replace(mine, run="later"))
        slow.commit(lambda _: decided())
    state = ledger.head().state
    assert state.decided is None
    assert state.lease is not None
    assert state.lease.run == "later"


def test_an_error_of_a_run_that_was_fenced_off_is_its_own(ledger: Ledger, mine: LeaseRecord) -> None:
    """A run that fails after it lost its lease fails with its own error, and leaves the later run alone."""
    with pytest.raises(ValueError, match="no such column"), lease(ledger, "slow"):
        start(ledger, replace(mine, run="later"))
        raise ValueError("no such column")
    assert [event.event for event in ledger.events()] == ["started", "started"]


def test_an_error_frees_the_lease_and_is_recorded(ledger: Ledger) -> None:
    """A run that fails leaves its reason in the history and the model free for the next run."""
    with pytest.raises(ValueError, match="no such column"), lease(ledger):
        raise ValueError("no such column")
    event = ledger.events()[-1]
    assert (event.event, event.body) == ("failed", {"error": "ValueError: no such column"})
    assert ledger.head().state.lease is None


def test_a_run_without_a_decision_is_recorded_as_failed(ledger: Ledger) -> None:
    """Leaving the lease without a decision is on record, too."""
    with lease(ledger):
        pass
    assert ledger.events()[-1].body == {"error": "the run ended without a decision"}


def test_a_commit_is_the_last_event_of_its_run(ledger: Ledger) -> None:
    """A decision gives the lease back, and nothing is appended after it."""
    with lease(ledger) as taken:
        event = taken.commit(lambda _: decided())
    assert [e.event for e in ledger.events()] == ["started", "decided"]
    assert ledger.head().seq == event.seq
    assert event.state_after.lease is None


def test_a_commit_reconsiders_what_a_person_did_meanwhile(ledger: Ledger) -> None:
    """When somebody appends between reading and writing, the decision is built again on the newer state."""
    seen: list[State] = []

    def build(state: State) -> Decided:
        if not seen:
            ledger.append(ledger.head(), Promoted(V2), **WHO)
        seen.append(state)
        return decided(in_service=state.current)

    with lease(ledger) as taken:
        taken.commit(build)
    assert [state.current for state in seen] == [None, V2]
    assert ledger.head().state.current == V2


def test_a_long_run_renews_its_lease(open_store: Callable[[], Store]) -> None:
    """While a run is at work its lease is prolonged, long before it expires."""
    ledger = Ledger(open_store(), "loans")
    with lease(ledger, ttl=timedelta(seconds=0.4)) as taken:
        deadline = time.monotonic() + 10
        while ledger.head().seq < 3 and time.monotonic() < deadline:
            time.sleep(0.02)
        taken.commit(lambda _: decided())
    renewed = [event for event in ledger.events() if event.event == "renewed"]
    assert len(renewed) >= 2
    for event in renewed:
        assert event.state_after.lease is not None
        assert event.state_after.lease.expires == event.body["expires"]
        assert event.state_after.lease.token == taken.token


def test_a_lease_that_was_given_back_is_not_renewed(ledger: Ledger, monkeypatch: pytest.MonkeyPatch) -> None:
    """A renewal that waits for its turn while the lease is given back must not bring it to life again."""
    taken = lease(ledger, ttl=timedelta(seconds=2)).__enter__()
    with taken._write:
        time.sleep(0.7)  # the thread that renews it wants to write now
        taken._stop.set()
    taken.give_back()
    time.sleep(0.2)
    head = ledger.head().state.lease
    assert head is not None and not is_alive(head)
    assert datetime.fromisoformat(ledger.events()[-1].body["expires"]) < datetime.now(UTC)


def test_events_are_readable_json(on_disk: tuple[Ledger, Path]) -> None:
    """An event is a JSON object that names its format, so that other tools can read the history."""
    event = json.loads((on_disk[1] / "00000001.json").read_text())
    assert (event["format_version"], event["seq"], event["event"]) == (2, 1, "accepted")


@pytest.fixture
def from_the_future(on_disk: tuple[Ledger, Path], monkeypatch: pytest.MonkeyPatch) -> tuple[Ledger, Path]:
    """A ledger whose newest event a later release wrote, in the next format."""
    with monkeypatch.context() as future:
        future.setattr(ledgers, "FORMAT_VERSION", ledgers.FORMAT_VERSION + 1)
        future.setattr(ledgers, "installed_release", lambda: "98.7.6")
        accept(on_disk[0], 1)
    return on_disk


def test_a_newer_format_is_read(from_the_future: tuple[Ledger, Path]) -> None:
    """What a later release wrote is read as far as this one understands it: looking, and serving, go on."""
    ledger, _ = from_the_future
    assert ledger.head().state.accepted == ("b0", "b1", "b2", "b3", "b4", "b0")
    assert [event.format_version for event in ledger.events()] == [
        *[ledgers.FORMAT_VERSION] * 5,
        ledgers.FORMAT_VERSION + 1,
    ]


@pytest.mark.parametrize("write", [lambda it: accept(it, 1), lambda it: lease(it).__enter__()], ids=["hand", "run"])
def test_a_newer_format_is_not_written_to(
    from_the_future: tuple[Ledger, Path], write: Callable[[Ledger], None]
) -> None:
    """Neither a person nor a run appends to a format that this release does not know, and that release is named."""
    ledger, folder = from_the_future
    before, ours = sorted(folder.iterdir()), ledgers.FORMAT_VERSION
    said = rf"00000006\.json has format {ours + 1}, written by release 98\.7\.6; this release writes format {ours}\."
    with pytest.raises(NewerFormat, match=said):
        write(ledger)
    assert sorted(folder.iterdir()) == before


def test_an_event_names_the_release_that_wrote_it(on_disk: tuple[Ledger, Path]) -> None:
    """Every event says by which release of this program it was written."""
    ledger, _ = on_disk
    assert ledger.head().release == installed_release() is not None
