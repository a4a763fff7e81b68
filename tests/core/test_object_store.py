"""An object store that fails for a while: what helps is tried again, and nothing is done or decided twice."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import timedelta

import pytest

from tasks.core import store as stores
from tasks.core.errors import AlreadyExists, NotFound, StoreError
from tasks.core.ledger.lease import Lease
from tasks.core.ledger.ledger import Ledger
from tasks.core.store import Store
from tasks.core.versions.registry import Registry
from tests.helpers.s3 import Bucket, bucket
from tests.helpers.training import Trained


@pytest.fixture
def remote(monkeypatch: pytest.MonkeyPatch) -> Iterator[Bucket]:
    with bucket() as made:
        for name, value in {
            "AWS_ENDPOINT": made.address,
            "AWS_ALLOW_HTTP": "true",
            "AWS_REGION": "nowhere",
            "AWS_ACCESS_KEY_ID": "tests",
            "AWS_SECRET_ACCESS_KEY": "tests",
        }.items():
            monkeypatch.setenv(name, value)
        yield made


@pytest.fixture
def store(remote: Bucket) -> Store:
    return Store("s3://bucket/prefix")


def test_it_keeps_the_store_s_promises(store: Store) -> None:
    """Created once, read back, listed; never overwritten."""
    store.create("loans/a.bin", b"one", durable=True)
    assert (store.read("loans/a.bin"), store.exists("loans/a.bin"), store.exists("loans/b")) == (b"one", True, False)
    assert [item.path for item in store.objects("loans")] == ["loans/a.bin"]
    assert store.folders("") == ["loans"]
    with pytest.raises(AlreadyExists):
        store.create("loans/a.bin", b"two")
    with pytest.raises(NotFound):
        store.read("loans/b")
    assert store.read("loans/a.bin") == b"one"


def test_a_store_that_answers_503_for_a_while_is_asked_again(store: Store, remote: Bucket) -> None:
    """Two refusals of each kind of request are not noticed."""
    remote.refuse = {"PUT": 2, "GET": 2, "HEAD": 2}
    store.create("loans/a.bin", b"one")
    assert store.read("loans/a.bin") == b"one"
    assert store.exists("loans/a.bin")
    assert {method: remote.asked.count(method) for method in ("PUT", "GET", "HEAD")} == dict.fromkeys(remote.refuse, 3)


def test_a_store_that_stays_away_is_given_up(store: Store, remote: Bucket, monkeypatch: pytest.MonkeyPatch) -> None:
    """Retries are bounded, within what a lease lives; then it is one line."""
    assert stores.RETRIES["retry_timeout"] < timedelta(minutes=2)
    monkeypatch.setattr(stores, "RETRIES", {**stores.RETRIES, "max_retries": 2})
    remote.refuse = {"GET": 100}
    with pytest.raises(StoreError, match="503"):
        store.read("loans/a.bin")
    assert len(remote.asked) == 3


def test_a_write_whose_answer_was_lost_was_done_once(store: Store, remote: Bucket) -> None:
    """It took effect, the answer said 503, and the second attempt finds the path taken: by itself. What another writer
    put there is still refused."""
    remote.lose = 1
    store.create("loans/a.bin", b"one")
    assert remote.asked.count("PUT") == 2
    with pytest.raises(AlreadyExists):
        store.create("loans/a.bin", b"two")


def test_a_decision_whose_answer_was_lost_is_the_run_s_own(store: Store, remote: Bucket) -> None:
    """The run that decided does not take its own entry for that of another one, which would make it end as Skipped."""
    ledger = Ledger(store, "loans")
    with Lease(ledger, run="r", key="k", actor="tests", reason="") as lease:
        remote.lose = 1
        lease.record("renewed", {"expires": "2030-01-01T00:00:00+00:00"})
    assert [event.event for event in ledger.events()] == ["started", "renewed", "failed"]


def test_a_version_is_registered_through_lost_answers(store: Store, remote: Bucket, trained: Trained) -> None:
    """Every second write is lost on the way back: there is one version, and it loads."""
    registry = Registry(store)
    remote.lose = 100
    number, digest = registry.register("loans", "key", trained.challenger.candidate)
    assert registry.versions("loans") == [number] == [1]
    remote.lose = 0
    assert registry.adopt("loans", "key", newer_than=0) == (1, digest)
    assert registry.load("loans", 1).manifest.run_key == "key"


def test_no_two_claims_are_taken_for_one(store: Store) -> None:
    """Two claims of one run in the same second have bytes of their own, so that neither gets the other's number."""
    registry = Registry(store)
    assert [registry.claim("loans", "key") for _ in range(3)] == [1, 2, 3]
