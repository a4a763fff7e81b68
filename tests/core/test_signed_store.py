"""A store that strangers may write to, and whose deployment has a key: what they try, and what becomes of it."""

from __future__ import annotations

import json
import pickle
import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest

from tasks.core.errors import AlreadyExists, CorruptObject, RorError, SignatureError, VerificationError
from tasks.core.ledger.events import Accepted, Decided, Promoted
from tasks.core.ledger.lease import Lease
from tasks.core.ledger.ledger import Ledger
from tasks.core.ledger.signing import SignatureState, Trust
from tasks.core.ledger.state import State
from tasks.core.records import digest, to_dict, to_json
from tasks.core.store import Store
from tasks.core.types import Action, Attempt, AttemptOutcome, Served
from tasks.core.versions.manifest import Candidate
from tasks.core.versions.registry import Registry
from tests.helpers.events import arrived, decided
from tests.helpers.stranger import (
    LENIENT,
    NONE,
    OURS,
    READER,
    SIGNER,
    STRANGER,
    THEIRS,
    alter,
    event_path,
    forge,
    overwrite,
    public,
    rechain,
    remove,
)
from tests.helpers.training import Trained
from tests.helpers.versions import Payload

MOVING = Trust(public(OURS), False, OURS)
"""The machine that makes versions, in transition."""

WHO: dict[str, Any] = {"run": "run-1", "key": "key-1", "actor": "ann", "reason": "because"}


def decide(ledger: Ledger, record: Decided) -> None:
    with Lease(ledger, **WHO) as lease:
        lease.commit(lambda _: record)


def retrain(registry: Registry, candidate: Candidate, batch: str) -> Served:
    """Register a version and put it in service, as a run does."""
    version, sha256 = registry.register("loans", f"run of {batch}", candidate)
    served = Served(version, sha256, data_end=version)
    attempt = Attempt(version, AttemptOutcome.REGISTERED, version, sha256)
    decide(registry.ledger("loans"), decided(Action.RETRAIN, in_service=served, attempt=attempt, **arrived(batch)))
    return served


def accept(registry: Registry, batch: str = "b") -> None:
    ledger = registry.ledger("loans")
    ledger.append(ledger.head(), Accepted(batch), **WHO)


@pytest.fixture
def candidate(trained: Trained) -> Candidate:
    return trained.challenger.candidate


@pytest.fixture
def malicious(candidate: Candidate, tmp_path: Path) -> Candidate:
    """One whose pipeline writes a file when it is unpickled."""
    return replace(candidate, pipeline=pickle.dumps(Payload(tmp_path / "marker")))


@pytest.fixture
def marker(tmp_path: Path) -> Path:
    return tmp_path / "marker"


@dataclass
class Site:
    """A store with v1 and v2, both signed; v2 is in service, by entries 1 to 4, the decisions being 2 and 4."""

    store: Store
    signer: Registry
    reader: Registry
    v1: Served
    v2: Served

    @property
    def ledger(self) -> Ledger:
        return self.reader.ledger("loans")

    def refused(self, match: str, error: type[RorError] = SignatureError) -> None:
        """Neither a service, nor a person who looks, nor a run takes what the history says now; a run adds nothing."""
        before = Ledger(self.store, "loans", NONE).last()
        with pytest.raises(error, match=match):
            self.reader.load_current("loans")
        with pytest.raises(error, match=match):
            self.ledger.events()
        with pytest.raises(error, match=match):
            Lease(self.signer.ledger("loans"), **WHO).__enter__()
        assert Ledger(self.store, "loans", NONE).last() == before


@pytest.fixture
def site(store: Store, candidate: Candidate) -> Site:
    signer = Registry(store, SIGNER)
    v1, v2 = (retrain(signer, candidate, batch) for batch in ("a", "b"))
    return Site(store, signer, Registry(store, READER), v1, v2)


# --- what is signed works ------------------------------------------------------------------------------------


def test_what_is_signed_is_used(site: Site) -> None:
    """Versions and decisions made with the key are read, loaded and rolled back where only its public half is."""
    assert site.reader.load_current("loans").version == 2
    assert {site.reader.signature_status("loans", version).state for version in (1, 2)} == {SignatureState.SIGNED}
    assert [site.ledger.signature_status(event.seq)[1].key for event in site.ledger.events()] == [SIGNER.signing] * 4
    assert site.reader.contract("loans", site.v1).names == site.reader.load("loans", 1).contract.names
    ledger = site.signer.ledger("loans")
    ledger.append(ledger.head(), Promoted(site.v1), **WHO)
    assert site.reader.load_current("loans").version == 1


def test_a_claim_with_a_signature_alone_is_no_version(site: Site, candidate: Candidate) -> None:
    """The signature is there before the manifest: a run that dies in between leaves nothing that is seen."""
    names = [info.path for info in site.store.objects("loans/versions/00000002")]
    assert {"manifest.json", "manifest.sig"} <= {name.rsplit("/", 1)[-1] for name in names}
    remove(site.store, "loans/versions/00000002/manifest.json")
    assert site.reader.versions("loans") == [1]
    assert site.signer.register("loans", "next", candidate)[0] == 3


def test_the_head_costs_one_read(site: Site, monkeypatch: pytest.MonkeyPatch) -> None:
    """Normally the newest event is signed, and it is the only one that is read."""
    reads: list[str] = []
    read = Store.read
    monkeypatch.setattr(Store, "read", lambda store, path: (reads.append(path), read(store, path))[1])
    assert site.ledger.head().seq == 4
    assert reads == [event_path(4)]
    for number in range(3):
        accept(site.reader, f"c{number}")
    reads.clear()
    assert site.ledger.head().seq == 7
    assert reads == [event_path(seq) for seq in (7, 6, 5, 4)]


def test_a_lease_is_renewed_with_the_key(store: Store) -> None:
    """What the renewing thread appends is signed like the rest."""
    ledger = Ledger(store, "loans", SIGNER)
    with Lease(ledger, ttl=timedelta(seconds=0.4), **WHO) as lease:
        deadline = time.monotonic() + 10
        while ledger.head().seq < 3 and time.monotonic() < deadline:
            time.sleep(0.02)
        lease.commit(lambda _: decided())
    kinds = [
        (event.event, ledger.signature_status(event.seq)[1].state) for event in Ledger(store, "loans", READER).events()
    ]
    assert kinds.count(("renewed", SignatureState.SIGNED)) >= 2
    assert {mark for _, mark in kinds} == {SignatureState.SIGNED}


# --- versions ------------------------------------------------------------------------------------------------


def test_an_unsigned_version_is_never_unpickled(site: Site, malicious: Candidate, marker: Path) -> None:
    """A version that somebody without the key puts in the store is refused before anything of it is unpickled."""
    version, sha256 = Registry(site.store, NONE).register("loans", "mine", malicious)
    remedy = r"00000003/manifest\.json is not signed.*`ror store keys loans --sign v3`"
    for use in (
        lambda: site.reader.load("loans", version),
        lambda: site.reader.manifest("loans", version, sha256),
        lambda: site.reader.contract("loans", Served(version, sha256, 1)),
    ):
        with pytest.raises(SignatureError, match=remedy):
            use()
    assert not marker.exists()
    with pytest.raises(VerificationError):
        Registry(site.store, NONE).load("loans", version)
    assert marker.exists(), "the payload would have run"


def test_a_version_signed_with_another_key_is_refused(site: Site, malicious: Candidate, marker: Path) -> None:
    """A stranger's own key is no help to them, also where signatures are not required."""
    version, _ = Registry(site.store, STRANGER).register("loans", "mine", malicious)
    for trust in (READER, LENIENT):
        with pytest.raises(SignatureError, match=f"signed with the key {STRANGER.signing}, which is not trusted here"):
            Registry(site.store, trust).load("loans", version)
    assert not marker.exists()


@pytest.mark.parametrize("trust", [READER, LENIENT])
@pytest.mark.parametrize("name", ["manifest.json", "manifest.sig"])
def test_one_flipped_bit_is_refused(site: Site, trust: Trust, name: str) -> None:
    """A manifest or a signature that differs by one bit is refused, wherever that bit is."""
    path = f"loans/versions/00000001/{name}"
    good = site.store.read(path)
    for position in range(0, len(good), max(1, len(good) // 40)):
        overwrite(site.store, path, bytes([*good[:position], good[position] ^ 1, *good[position + 1 :]]))
        with pytest.raises(SignatureError, match=r"00000001/manifest\.json"):
            Registry(site.store, trust).manifest("loans", 1)
        with pytest.raises(VerificationError, match=r"00000001/manifest\.json"):
            Registry(site.store, trust).load("loans", 1)
    overwrite(site.store, path, good)
    assert Registry(site.store, trust).load("loans", 1).version == 1


@pytest.mark.parametrize(("model", "version"), [("loans", 3), ("flights", 1)])
def test_a_signed_version_in_another_place_is_refused(site: Site, model: str, version: int) -> None:
    """A version with its good signature is no version of another number or another model."""
    for info in site.store.objects("loans/versions/00000001"):
        name = info.path.rsplit("/", 1)[-1]
        site.store.create(f"{model}/versions/{version:08d}/{name}", site.store.read(info.path))
    with pytest.raises(CorruptObject, match="says it is loans v1: it was moved or copied"):
        site.reader.load(model, version)


def test_the_signature_of_another_version_is_wrong(site: Site) -> None:
    """A good signature beside another manifest is a wrong one."""
    overwrite(
        site.store, "loans/versions/00000002/manifest.sig", site.store.read("loans/versions/00000001/manifest.sig")
    )
    with pytest.raises(SignatureError, match="wrong signature"):
        site.reader.load_current("loans")


def test_a_version_loaded_without_trust_is_no_loophole(site: Site, candidate: Candidate) -> None:
    """What this process loaded before, without checking signatures, is refused when they are checked."""
    version, _ = Registry(site.store, NONE).register("loans", "mine", candidate)
    assert Registry(site.store, NONE).load("loans", version).version == version
    with pytest.raises(SignatureError):
        site.reader.load("loans", version)


def test_a_service_goes_on_checking_when_it_refreshes(site: Site) -> None:
    """A version that was loaded without checking signatures before is no way round them for one that refreshes."""
    assert Registry(site.store, NONE).load_current("loans").version == 2
    loaded = site.reader.load_current("loans")
    forge(site.store, "promoted", {"served": to_dict(site.v1)})
    with pytest.raises(SignatureError, match="'promoted' and not signed"):
        loaded.refresh()


def test_a_planted_version_is_not_adopted(site: Site, malicious: Candidate) -> None:
    """A run does not take an unsigned version for its own, whatever run it says it is of."""
    ours, sha256 = site.signer.register("loans", "this question", malicious)
    Registry(site.store, NONE).register("loans", "this question", malicious)
    assert site.signer.adopt("loans", "this question", newer_than=2) == (ours, sha256)
    assert Registry(site.store, NONE).adopt("loans", "this question", newer_than=2) != (ours, sha256)


# --- the history ---------------------------------------------------------------------------------------------


def test_a_rewritten_store_is_refused(site: Site, malicious: Candidate, marker: Path) -> None:
    """Somebody who writes everything anew, a version with code in it and a history that fits, gets nothing to run."""
    for trust in (NONE, STRANGER):
        remove(site.store, "loans")
        planted = retrain(Registry(site.store, trust), malicious, "a")
        site.refused("not signed: only the holder of the key|which is not trusted here")
        with pytest.raises(SignatureError):
            site.reader.load("loans", planted)
    with pytest.raises(SignatureError):
        Registry(site.store, LENIENT).load_current("loans")
    assert not marker.exists()


@pytest.mark.parametrize("kind", ["promoted", "decided"])
def test_an_old_version_put_back_without_the_key_is_refused(site: Site, kind: str) -> None:
    """An earlier version, properly signed, is not in service because an unsigned event says so; and no run signs on
    top of that event."""
    body = {
        "promoted": {"served": to_dict(site.v1)},
        "decided": to_dict(decided(Action.ROLLBACK, in_service=site.v1)),
    }[kind]
    forge(site.store, kind, body)
    assert Registry(site.store, NONE).load_current("loans").version == 1, "this is what it is for"
    site.refused(f"00000005.json is {kind!r} and not signed: only the holder of the key")


def test_an_old_version_put_back_with_another_key_is_refused(site: Site) -> None:
    """Nor because an event says so that a stranger signed, also where signatures are not required."""
    forge(site.store, "promoted", {"served": to_dict(site.v1)}, trust=STRANGER)
    site.refused("which is not trusted here")
    with pytest.raises(SignatureError, match="which is not trusted here"):
        Registry(site.store, LENIENT).load_current("loans")


def test_a_forged_event_does_not_hide_behind_later_ones(site: Site) -> None:
    """However many harmless events come after it, a forged one is found."""
    forge(site.store, "promoted", {"served": to_dict(site.v1)})
    for number in range(3):
        forge(site.store, "accepted", {"batch": f"c{number}"})
    site.refused("00000005.json is 'promoted' and not signed")


HARMLESS: dict[str, dict[str, Any]] = {
    "accepted": {"batch": "c"},
    "quarantined": {"batch": "a"},
    "cleared": {"batch": "a"},
    "snoozed": {"columns": ["age"], "until": "2026-12-31"},
    "failed": {"error": "none"},
    "renewed": {"expires": "2999-01-01T00:00:00+00:00"},
}
"""Bodies of events that may be appended without the key."""


@pytest.mark.parametrize("kind", HARMLESS)
def test_what_needs_no_key(site: Site, kind: str) -> None:
    """Events that put nothing in service may be appended without the key, and a signed one may follow."""
    forge(site.store, kind, HARMLESS[kind])
    assert site.reader.load_current("loans").version == 2
    assert site.ledger.event(5).event == kind
    decide(site.signer.ledger("loans"), decided(in_service=site.v2))
    assert [event.event for event in site.ledger.events()][4:] == [kind, "started", "decided"]


@pytest.mark.parametrize("kind", HARMLESS)
@pytest.mark.parametrize(
    "change",
    [
        pytest.param(lambda state, v1: replace(state, served=(v1,)), id="in service"),
        pytest.param(lambda state, v1: replace(state, served=()), id="nothing in service"),
        pytest.param(lambda state, v1: replace(state, waiting=(v1,)), id="waiting"),
        pytest.param(lambda state, v1: replace(state, accepted=("z",)), id="something else"),
    ],
)
def test_a_state_that_does_not_follow_is_refused(site: Site, kind: str, change: Callable[..., State]) -> None:
    """An event without signature that carries another state than follows from the one before is refused."""
    state = Ledger(site.store, "loans", NONE).head().state
    forge(site.store, kind, HARMLESS[kind], change(state, site.v1))
    site.refused("its state does not follow from the event before")


def test_a_barred_version_is_cleared_by_the_holder_of_the_key(site: Site) -> None:
    """That a version was rolled back cannot be taken back without the key, although the state would follow."""
    decide(site.signer.ledger("loans"), decided(Action.ROLLBACK, in_service=site.v1))
    forge(site.store, "cleared", {"version": 2})
    site.refused("not signed and changes barred: only the holder of the key")


@pytest.mark.parametrize("body", [{}, {"lease": 1}, {"lease": "x", "expires": []}, {"columns": 1, "until": 1}])
@pytest.mark.parametrize("kind", ["started", "renewed", "snoozed", "erased", "of a later release"])
def test_a_body_of_rubbish_is_refused(site: Site, kind: str, body: dict[str, Any]) -> None:
    """An unsigned event that no command writes is refused like any other forgery, without a crash."""
    state = Ledger(site.store, "loans", NONE).head().state
    forge(site.store, kind, body, replace(state, by_hand=5))
    site.refused("does not follow|only the holder of the key")


def test_an_old_event_under_a_new_number_is_refused(site: Site) -> None:
    """A decision of the past, with its good signature, cannot be played again: its number is signed with it."""
    data = site.store.read(event_path(2))
    site.store.create(event_path(5), data)
    site.refused("says it is event 2", CorruptObject)
    record = json.loads(data)
    record |= {"seq": 5, "prev": digest(site.store.read(event_path(4)))}
    overwrite(site.store, event_path(5), to_json(record))
    site.refused("wrong signature")


def test_an_event_of_another_model_is_refused(site: Site, candidate: Candidate) -> None:
    """The history of one model, signed as it is, is none of another model."""
    for info in site.store.objects("loans/ledger"):
        site.store.create(info.path.replace("loans/", "flights/"), site.store.read(info.path))
    with pytest.raises(SignatureError, match=r"flights/ledger/00000004\.json has a wrong signature"):
        site.reader.load_current("flights")


def test_a_cut_history_with_a_forged_end_is_refused(site: Site) -> None:
    """Who cuts off the newest events cannot go on from there."""
    for seq in (3, 4):
        remove(site.store, event_path(seq))
    forge(site.store, "promoted", {"served": to_dict(site.v2)})
    site.refused("00000003.json is 'promoted' and not signed")


def test_cutting_off_the_newest_events_is_not_noticed(site: Site) -> None:
    """A limit, said openly: a history that was cut short is a true history of an earlier day."""
    for seq in (3, 4):
        remove(site.store, event_path(seq))
    assert site.reader.load_current("loans").version == 1


def test_a_forged_chain_between_signed_events_is_refused(site: Site) -> None:
    """An event that was altered breaks the chain; and mending the chain breaks the signatures."""
    alter(site.store, event_path(3), lambda data: data.replace(b'"ann"', b'"eve"'))
    with pytest.raises(SignatureError, match=r"00000003\.json has a wrong signature"):
        site.ledger.events()
    rechain(site.store, 4)
    site.refused("has a wrong signature")


def test_a_decision_of_the_past_is_checked_when_it_is_read(site: Site) -> None:
    """A run completes what an earlier decision says: that event is checked too, not only the newest one."""
    assert site.ledger.event(2).body["in_service"]["version"] == 1
    alter(site.store, event_path(2), lambda data: data.replace(b'"version": 1', b'"version": 2'))
    assert site.ledger.head().seq == 4, "the newest one is as it was"
    with pytest.raises(SignatureError, match=r"00000002\.json has a wrong signature"):
        site.ledger.event(2)


def test_a_signature_taken_away_is_noticed(site: Site) -> None:
    """Without its signature a decision is not one, at the head or before it."""

    def bare(data: bytes) -> bytes:
        record = json.loads(data)
        del record["signature"]
        return to_json(record)

    alter(site.store, event_path(2), bare)
    with pytest.raises(CorruptObject, match=r"00000003\.json does not follow"):
        site.ledger.event(2)
    alter(site.store, event_path(4), bare)
    with pytest.raises(SignatureError, match=r"00000004\.json is 'decided' and not signed"):
        site.ledger.head()


def test_unsigned_events_follow_from_each_other(site: Site) -> None:
    """What was appended without the key still names the event before it: a reason cannot be altered unseen."""
    for batch in ("c", "d"):
        accept(site.reader, batch)
    alter(site.store, event_path(5), lambda data: data.replace(b'"because"', b'"perhaps"'))
    site.refused(r"00000006\.json does not follow from", CorruptObject)


def test_a_forged_event_is_refused_when_it_alone_is_read(site: Site) -> None:
    """Also the event of a given number is checked, with nothing signed after it."""
    forge(site.store, "promoted", {"served": to_dict(site.v1)})
    forge(site.store, "accepted", {"batch": "c"})
    with pytest.raises(SignatureError, match=r"00000005\.json is 'promoted' and not signed"):
        site.ledger.event(5)
    forge(site.store, "accepted", {"batch": "d"}, trust=STRANGER)
    forge(site.store, "accepted", {"batch": "e"})
    for trust in (READER, LENIENT):
        with pytest.raises(SignatureError, match=r"00000007\.json is signed with the key .* not trusted"):
            Ledger(site.store, "loans", trust).event(7)


def test_an_empty_history_is_fine(store: Store) -> None:
    """Before the first version nothing needs to be signed, and nothing is in service."""
    ledger = Ledger(store, "loans", READER)
    assert ledger.head().seq == 0
    for batch in ("a", "b"):
        forge(store, "accepted", {"batch": batch})
    assert ledger.head().state.accepted == ("a", "b")
    assert ledger.event(1).event == "accepted"
    remove(store, event_path(1))
    remove(store, event_path(2))
    forge(store, "accepted", {"batch": "a"}, State(served=(Served(1, "a" * 64, 1),)))
    with pytest.raises(SignatureError, match="does not follow"):
        ledger.head()


# --- a machine without the key -------------------------------------------------------------------------------


def test_a_machine_without_the_key_puts_nothing_in_service(site: Site, candidate: Candidate) -> None:
    """Where the key is not, a run, a promotion and a registration are refused at once, and nothing is written."""
    before = site.store.objects("loans")
    ledger = site.reader.ledger("loans")
    with pytest.raises(VerificationError, match="'decided' event of loans must be signed"), Lease(ledger, **WHO):
        pass
    with pytest.raises(VerificationError, match="'promoted' event of loans must be signed"):
        ledger.append(ledger.head(), Promoted(site.v1), **WHO)
    with pytest.raises(VerificationError, match="A version of loans must be signed"):
        site.reader.register("loans", "k", candidate)
    assert site.store.objects("loans") == before
    accept(site.reader)
    assert site.ledger.head().state.accepted == ("b",)


# --- transition ----------------------------------------------------------------------------------------------


@pytest.fixture
def old(store: Store, candidate: Candidate) -> Store:
    """A store from before there were keys: v1 in service, nothing signed."""
    retrain(Registry(store, NONE), candidate, "a")
    return store


def test_in_transition_the_unsigned_is_accepted_and_the_wrong_is_not(old: Store) -> None:
    """Where signatures are checked and not yet required, an old store works; a wrong signature never does."""
    lenient = Registry(old, LENIENT)
    assert lenient.load_current("loans").version == 1
    assert len(lenient.ledger("loans").events()) == 2
    assert lenient.ledger("loans").event(2).signature is None
    Registry(old, MOVING).sign("loans", 1)
    alter(old, "loans/versions/00000001/manifest.sig", lambda data: data.replace(b"==", b"A="))
    with pytest.raises(SignatureError, match="wrong signature"):
        lenient.load_current("loans")
    forge(old, "accepted", {"batch": "b"}, trust=STRANGER)
    for use in (lenient.ledger("loans").head, lenient.ledger("loans").events, lambda: lenient.ledger("loans").event(3)):
        with pytest.raises(SignatureError, match="which is not trusted here"):
            use()


def test_an_old_store_becomes_a_signed_one(old: Store) -> None:
    """The holder of the key signs what is in service and one entry of the history; from then on all can be required:
    what that entry names is as good as signed, back to the first."""
    reader, moving = Registry(old, READER), Registry(old, MOVING)
    with pytest.raises(SignatureError, match="ROR_REQUIRE_SIGNATURE=0, `ror run loans --action reload"):
        reader.load_current("loans")
    served = moving.ledger("loans").head().state.current
    decide(moving.ledger("loans"), decided(in_service=served))
    with pytest.raises(SignatureError, match="`ror store keys loans --sign v1`"):
        reader.load_current("loans")
    assert moving.sign("loans", 1) == SIGNER.signing
    assert reader.load_current("loans").version == 1
    assert [event.signature is None for event in reader.ledger("loans").events()] == [True, True, False, False]
    assert reader.ledger("loans").event(2).event == "decided"
    alter(old, event_path(2), lambda data: data.replace(b'"ann"', b'"eve"'))
    with pytest.raises(CorruptObject, match=r"00000003\.json does not follow"):
        reader.ledger("loans").event(2)


def test_only_what_is_as_recorded_can_be_signed(old: Store, candidate: Candidate) -> None:
    """A version is not signed when a file of it differs, when the history names another manifest, twice, or without
    a key."""
    moving = Registry(old, MOVING)
    with pytest.raises(VerificationError, match="no key to sign with"):
        Registry(old, LENIENT).sign("loans", 1)
    version, _ = moving.register("loans", "k", candidate)
    with pytest.raises(AlreadyExists):
        moving.sign("loans", version)
    path = "loans/versions/00000001/contract.json"
    good = old.read(path)
    overwrite(old, path, good[:-1] + b" }")
    with pytest.raises(CorruptObject, match="damaged or was replaced"):
        moving.sign("loans", 1)
    overwrite(old, path, good)
    alter(old, "loans/versions/00000001/manifest.json", lambda data: data.replace(b'"a test"', b'"a tale"'))
    with pytest.raises(CorruptObject, match="not the manifest that the history names"):
        moving.sign("loans", 1)
    assert moving.signature_status("loans", 1).state is SignatureState.UNSIGNED


def test_a_version_that_only_an_old_entry_names_is_signed_as_it_says(old: Store, candidate: Candidate) -> None:
    """What the gate refused long ago is named by no state any more; altered since, it is not signed either."""
    lenient = Registry(old, LENIENT)
    version, sha256 = lenient.register("loans", "k", candidate)
    served = lenient.ledger("loans").head().state.current
    for attempt in (
        Attempt(1, AttemptOutcome.REFUSED, version, sha256),
        Attempt(2, AttemptOutcome.FAILED, reason="later"),
    ):
        decide(lenient.ledger("loans"), decided(Action.RETRAIN, in_service=served, attempt=attempt))
    moving, path = Registry(old, MOVING), f"loans/versions/{version:08d}/manifest.json"
    good = old.read(path)
    alter(old, path, lambda data: data.replace(b'"a test"', b'"a tale"'))
    assert old.read(path) != good
    with pytest.raises(CorruptObject, match="not the manifest that the history names"):
        moving.sign("loans", version)
    overwrite(old, path, good)
    assert moving.sign("loans", version) == SIGNER.signing


def test_a_key_is_replaced_by_another(site: Site, candidate: Candidate) -> None:
    """While both keys are trusted the new one takes over; then the old one is no longer needed for the history, only
    for the versions that it signed."""
    both = Trust(public(OURS, THEIRS), True, THEIRS)
    retrain(Registry(site.store, both), candidate, "c")
    new = Registry(site.store, Trust(public(THEIRS), True))
    assert new.load_current("loans").version == 3
    assert len(new.ledger("loans").events()) == 6
    assert new.ledger("loans").event(2).event == "decided"
    with pytest.raises(SignatureError, match=f"signed with the key {SIGNER.signing}"):
        new.load("loans", 2)
