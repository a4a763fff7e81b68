"""The state after each event."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from tasks.core.data.files import Order, natural_order, text_order
from tasks.core.errors import CorruptObject
from tasks.core.ledger.events import Decided, Event
from tasks.core.ledger.state import State
from tasks.core.ledger.transitions import KEEP_LOSSES, transition
from tasks.core.records import from_dict, to_dict
from tasks.core.types import (
    Action,
    Attempt,
    AttemptOutcome,
    Batch,
    BatchRecord,
    Blocked,
    Comparison,
    Labelled,
    LossPoint,
    Outcome,
    Served,
    Snooze,
)
from tests.helpers.events import V1, V2, arrived, decided

WHO: dict[str, Any] = {"run": "run-1", "key": "key-1", "actor": "ann", "reason": "because"}


def after(state: State, kind: str, body: Any, seq: int = 7) -> State:
    """The state after one event."""
    event = Event(1, seq, None, "2026-01-01", kind, "run", "key", "ann", "why", None, body, State())
    return transition(state, event)


def after_decision(state: State, record: Decided) -> State:
    return after(state, "decided", to_dict(record))


def test_an_unknown_kind_is_refused() -> None:
    """An event of a kind that this release does not know is refused, not ignored."""
    with pytest.raises(CorruptObject, match="'forgotten'; a newer release wrote it"):
        after(State(), "forgotten", {})


NINE, TEN = BatchRecord("9" * 8, 10), BatchRecord("a" * 8, 10)


@pytest.mark.parametrize(
    ("state", "order"),
    [
        (State(), natural_order),
        (State(batches={"2026-09": NINE, "2026-10": TEN}), natural_order),
        (State(batches={"2026-9": NINE, "2026-10": TEN}), text_order),
        (State(batches={"2026-9": NINE, "2026-10": TEN}, natural=True), natural_order),
    ],
)
def test_what_an_earlier_release_decided_keeps_its_places(state: State, order: Order) -> None:
    """Names are in natural order, unless batches that were decided on in the order of text would change places; the
    first decision in natural order settles it."""
    assert state.order is order
    assert after_decision(state, decided(natural=state.order is natural_order)).order is order


def test_what_led_to_a_batch_set_aside_is_kept() -> None:
    """Beside the batch for as long as it is set aside; looked at again, it is what led to that."""
    broken = Blocked("b", "b" * 64, ("no 'age'",), looked="one")
    state = after_decision(State(), decided(blocked=(broken,)))
    assert state.causes["b"].looked == "one"
    again = after_decision(state, decided(blocked=(replace(broken, looked="two"),)))
    assert (again.causes["b"].looked, again.causes["b"].found) == ("two", state.causes["b"].found)
    other = after_decision(state, decided(blocked=(replace(broken, problems=("no 'city'",)),)))
    assert other.causes["b"].found != state.causes["b"].found
    assert after_decision(state, decided(**arrived("b"))).causes == {}
    assert after_decision(state, decided(**arrived("c"))).causes == state.causes


def test_a_retrain_puts_its_version_in_service() -> None:
    """After a retrain the new version is current, the old one its predecessor, and the age starts again."""
    state = after_decision(State(served=(V1,)), decided(**arrived("a")))
    assert (state.age, state.since) == (1, None)
    state = after_decision(
        state, decided(Action.RETRAIN, in_service=V2, attempt=Attempt(2, AttemptOutcome.REGISTERED, 2, "m"))
    )
    assert (state.current, state.predecessor, state.since) == (V2, V1, "2026-01-01")
    state = after_decision(state, decided(in_service=V2, **arrived("b")))
    state = after_decision(state, decided(in_service=V2, **arrived("c")))
    assert state.age == 1


def test_a_rollback_bars_the_version_and_waits() -> None:
    """A rollback puts the predecessor back, bars the version, and waits the interval, at least two labelled batches."""
    before = State(served=(V1, V2))
    state = after_decision(before, decided(Action.ROLLBACK, in_service=V1, decision={"interval": 3.2}))
    assert (state.served, state.barred, state.cooldown) == ((V1,), (2,), 3)
    state = after_decision(state, decided(**arrived("a", labels=False)))
    assert state.cooldown == 3
    state = after_decision(state, decided(**arrived("b")))
    assert state.cooldown == 2
    for interval in (1.0, None):
        waiting = after_decision(before, decided(Action.ROLLBACK, in_service=V1, decision={"interval": interval}))
        assert waiting.cooldown == 2


def test_a_promotion_by_hand_clears_the_version() -> None:
    """A version that a person promotes is current, no longer barred and no longer waiting."""
    before = State(served=(V1,), barred=(2, 3), waiting=(V2,))
    state = after(before, "promoted", {"served": to_dict(V2)})
    assert (state.served, state.barred, state.waiting, state.by_hand) == ((V1, V2), (3,), (), 7)


def test_a_version_that_awaits_approval_is_not_in_service() -> None:
    """With promotion by approval the challenger is kept as waiting and the current version stays."""
    attempt = Attempt(4, AttemptOutcome.WAITING, 2, V2.manifest)
    record = decided(Action.RETRAIN, attempt=attempt, outcome=Outcome.AWAITING_APPROVAL)
    state = after_decision(State(served=(V1,)), record)
    assert state.current == V1
    assert state.waiting == (Served(2, V2.manifest, 4),)


def test_a_suspect_batch_is_held_out_until_judged() -> None:
    """A suspect batch counts for nothing until it is cleared; a quarantined one never counts again."""
    state = after_decision(State(served=(V1,)), decided(decision={"suspect": "a"}, **arrived("a")))
    assert (state.suspect, state.usable) == ("a", ())
    cleared = after_decision(state, decided(decision={"cleared": "a"}, **arrived("b")))
    assert (cleared.suspect, cleared.usable) == (None, ("a", "b"))
    quarantined = after_decision(state, decided(decision={"quarantined": "a"}, **arrived("b")))
    assert (quarantined.suspect, quarantined.quarantined, quarantined.usable) == (None, ("a",), ("b",))
    by_hand = after(state, "quarantined", {"batch": "a"})
    assert (by_hand.suspect, by_hand.quarantined) == (None, ("a",))
    assert after(by_hand, "cleared", {"batch": "a"}).usable == ("a",)


def test_an_accepted_change_waits_for_a_version_that_learned_it() -> None:
    """An acceptance stays open until an attempt to train that worked has learned from that very batch."""
    state = after(State(served=(V1,)), "accepted", {"batch": "a"})
    attempt = Attempt(2, AttemptOutcome.REFUSED, 2, "m")
    state = after_decision(state, decided(Action.RETRAIN, attempt=attempt, **arrived("a", labels=False)))
    assert state.accepted == ("a",)
    labelled = {"labelled": arrived("a")["labelled"]}
    state = after_decision(
        state, decided(Action.RETRAIN, attempt=Attempt(2, AttemptOutcome.FAILED, reason="no"), **labelled)
    )
    assert state.accepted == ("a",)
    state = after_decision(state, decided(Action.RETRAIN, attempt=attempt))
    assert state.accepted == ()


def test_changed_content_is_remembered_until_a_version_learned_it() -> None:
    """A batch whose content changed waits for its labels, and then for the attempt that trains on them; quarantine ends
    the wait."""
    seen = decided(**arrived("a", labels=False), novel=("a",))
    state = after_decision(State(served=(V1,)), seen)
    assert state.novel == ("a",)
    attempt = Attempt(2, AttemptOutcome.REFUSED, 2, "m")
    state = after_decision(state, decided(Action.RETRAIN, attempt=attempt, novel=("a",)))
    assert state.novel == ("a",)
    state = after_decision(state, decided(labelled=arrived("a")["labelled"], novel=("a",)))
    assert state.novel == ("a",)
    assert after(state, "quarantined", {"batch": "a"}).novel == ()
    assert after_decision(state, decided(Action.RETRAIN, attempt=attempt, novel=("a",))).novel == ()
    assert after_decision(state, decided()).novel == (), "the version now in service knows such content from others"


def test_a_blocked_batch_is_remembered_until_it_is_repaired() -> None:
    """A batch that was set aside is known by its digest until it is delivered again and decided on."""
    state = after_decision(State(), decided(Action.BLOCK, blocked=(Blocked("a", "d1", ("broken",)),)))
    assert state.blocked == {"a": "d1"}
    state = after_decision(state, decided(**arrived("a")))
    assert state.blocked == {}
    assert state.batches["a"].rows == 100


def test_old_losses_are_dropped() -> None:
    """The state keeps the newest losses only, so that an event never grows without bound."""
    state = State()
    for number in range(KEEP_LOSSES + 3):
        state = after_decision(state, decided(losses=(LossPoint(str(number), 1, 10, 0.1, 0.0),)))
    assert [point.batch for point in state.losses] == [str(number) for number in range(3, KEEP_LOSSES + 3)]


def test_a_quarantined_batch_leaves_no_trace_in_what_is_usual() -> None:
    """Losses and comparisons that were measured on doubtful labels are forgotten once the batch is quarantined."""
    points = tuple(LossPoint(batch, 1, 100, loss, 0.1) for batch, loss in (("a", 0.2), ("b", 9.0)))
    pair = Comparison("b", 1, 0, 100, 1.0, 0.1, 1)
    state = State(served=(V1,), losses=points, comparisons=(pair,), suspect="b")
    judged = after_decision(state, decided(decision={"quarantined": "b"}, **arrived("c")))
    assert [point.batch for point in judged.losses] == ["a"]
    assert judged.comparisons == ()


def test_a_batch_remembers_who_served_it_and_when_its_labels_came() -> None:
    """The version that a decision left in service is the one its batches were predicted by; the lag stays the first."""
    state = after_decision(State(), decided(in_service=None, **arrived("a", labels=False)))
    state = after_decision(replace(state, served=(V1,)), decided(**arrived("b", labels=False)))
    assert (state.batches["a"].version, state.batches["b"].version) == (None, 1)
    state = after_decision(state, decided(labelled=(Labelled("b", "l", 90, 0.9, lag=3),)))
    again = after_decision(state, decided(labelled=(Labelled("b", "m", 95, 0.95, lag=7, corrected=True),)))
    record = again.batches["b"]
    assert (record.labels, record.labelled_rows, record.lag, record.version) == ("m", 95, 3, 1)
    assert again.label_lag == 3


def test_corrections_supersede_and_count_for_nothing_else() -> None:
    """A loss or comparison of the same versions on the same batch takes the place of the earlier one."""
    points = tuple(LossPoint(batch, 1, 10, mean, 0.0) for batch, mean in (("a", 0.1), ("b", 0.2)))
    pairs = tuple(Comparison(batch, 2, 1, 10, 0.1, 0.0, 1) for batch in ("a", "b"))
    before = State(served=(V1,), losses=points, comparisons=pairs, cooldown=2)
    correction = decided(
        labelled=(Labelled("a", "l", 10, 1.0, corrected=True),),
        losses=(LossPoint("a", 1, 12, 0.5, 0.0), LossPoint("a", 2, 12, 0.4, 0.0)),
        comparisons=(Comparison("a", 2, 1, 12, 0.9, 0.0, 1),),
    )
    state = after_decision(before, correction)
    assert [(p.batch, p.version, p.mean) for p in state.losses] == [("a", 1, 0.5), ("b", 1, 0.2), ("a", 2, 0.4)]
    assert [item.gain for item in state.comparisons] == [0.9, 0.1]
    assert state.cooldown == 2


def test_label_files_are_as_of_the_last_decision_that_could_read_them() -> None:
    """A decision with labels that could not be used leaves the digest, so that the next run looks again."""
    state = after_decision(State(served=(V1,)), decided(label_files="one"))
    assert after_decision(state, decided(label_files=None)).label_files == "one"
    assert after_decision(state, decided(label_files="two")).label_files == "two"


@pytest.mark.parametrize(("window", "seen"), [((), 6), (("x",), 6), (("x", "y", "z"), 4), (("a", "x"), 0)])
def test_the_lag_is_counted_without_what_piled_up(window: tuple[str, ...], seen: int) -> None:
    """Batches that arrived together may have come after the labels; labels that were there at once say nothing."""
    state = State(served=(V1,), batches={} if "a" in window else {"a": BatchRecord("d", 100)})
    record = decided(
        window=tuple(Batch(name, name, "d") for name in window),
        window_rows=(100,) * len(window),
        labelled=(Labelled("a", "l", 90, 0.9, lag=6),),
    )
    assert after_decision(state, record).label_lag == seen


def test_a_snooze_replaces_what_was_said_of_its_columns() -> None:
    """Each column is snoozed once, by the newest word; `until` None ends it, and the others stay as they were."""
    state = after(State(served=(V1,)), "snoozed", {"columns": ["a", "b"], "until": "2026-12-31"})
    assert state.snoozed == (Snooze(("a", "b"), "2026-12-31", "why", "ann", "2026-01-01"),)
    assert state.by_hand == 7
    state = after(state, "snoozed", {"columns": ["b", "c"], "until": "2027-01-31"}, seq=8)
    assert [(snooze.columns, snooze.until) for snooze in state.snoozed] == [
        (("a",), "2026-12-31"),
        (("b", "c"), "2027-01-31"),
    ]
    assert after_decision(state, decided()).snoozed == state.snoozed
    state = after(state, "snoozed", {"columns": ["a", "c"], "until": None}, seq=9)
    assert [(snooze.columns, snooze.until) for snooze in state.snoozed] == [(("b",), "2027-01-31")]
    assert state.by_hand == 9


def test_a_snooze_has_changed_content_looked_at_again() -> None:
    """A batch set aside for its content may hold just what is expected now; a broken one stays broken."""
    aside = (Blocked("a", "d1", ("broken",)), Blocked("b", "d2", ("changed",), changed=True))
    state = after_decision(State(served=(V1,)), decided(Action.BLOCK, blocked=aside))
    state = after(state, "snoozed", {"columns": ["x"], "until": "2026-12-31"})
    assert (state.blocked, state.changed) == ({"a": "d1"}, ())


def test_a_state_of_an_earlier_release_is_readable() -> None:
    """Batches and states that know nothing of lags, versions and label files are read, with nothing in their place."""
    old = {"batches": {"a": {"sha256": "d", "rows": 100, "labels": "l", "labelled_rows": 90}}}
    state = from_dict(State, old)
    record = state.batches["a"]
    assert (record.lag, record.version, state.label_files, state.label_lag) == (None, None, None, 0)
    assert state.snoozed == ()
    assert after_decision(replace(state, served=(V1,)), decided()).batches["a"] == record
