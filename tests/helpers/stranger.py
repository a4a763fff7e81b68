"""Keys for tests, and what somebody can do who may write to the store and has no key."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

import obstore
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from tasks.core.ledger.events import Event
from tasks.core.ledger.keys import key_id
from tasks.core.ledger.ledger import FORMAT_VERSION, Ledger
from tasks.core.ledger.signing import Trust
from tasks.core.ledger.state import State
from tasks.core.records import digest, to_json
from tasks.core.store import Store

OURS, THEIRS = Ed25519PrivateKey.generate(), Ed25519PrivateKey.generate()
"""The key of the deployment, and that of a stranger."""


def public(*keys: Ed25519PrivateKey) -> dict[str, bytes]:
    """The public halves by id."""
    raw = [key.public_key().public_bytes_raw() for key in keys]
    return {key_id(data): data for data in raw}


SIGNER = Trust(public(OURS), True, OURS)
"""A machine that makes versions."""
READER = Trust(public(OURS), True)
"""One that only loads them: it has the public half."""
LENIENT = Trust(public(OURS), False)
"""One in transition: what is not signed is still accepted."""
NONE = Trust()
"""Who checks and signs nothing: also a stranger with this very program."""
STRANGER = Trust({}, False, THEIRS)
"""One who signs with a key of their own."""


def overwrite(store: Store, path: str, data: bytes) -> None:
    """What the store itself never does."""
    obstore.put(store._backend, path, data)


def remove(store: Store, path: str) -> None:
    """An object, or all below a folder."""
    for found in [path] if store.exists(path) else [item.path for item in store.objects(path)]:
        obstore.delete(store._backend, found)


def alter(store: Store, path: str, change: Callable[[bytes], bytes]) -> None:
    before = store.read(path)
    after = change(before)
    assert after != before
    overwrite(store, path, after)


def event_path(seq: int, model: str = "loans") -> str:
    return f"{model}/ledger/{seq:08d}.json"


def forge(store: Store, kind: str, body: Any, state: State | None = None, trust: Trust = NONE, **changes: Any) -> Event:
    """Append an event as this program would for somebody without our key; with `state`, one that no release makes."""
    ledger = Ledger(store, "loans", NONE)
    head = ledger.head()
    who = {"run": "r", "key": "k", "actor": "mallory", "reason": "", **changes}
    if state is None:
        return Ledger(store, "loans", trust).append(head, kind, body=body, **who)
    event = Event(
        FORMAT_VERSION, head.seq + 1, head.digest, head.at or "", kind, current=state.current, body=body,
        state_after=state, **who,
    )  # fmt: skip
    event, data = trust.sign_event("loans", event)
    store.create(event_path(event.seq), data)
    return event


def rechain(store: Store, first: int) -> None:
    """Make the events from this one on follow from each other again, as a stranger would after altering one."""
    for seq in range(first, Ledger(store, "loans", NONE).last() + 1):
        record = json.loads(store.read(event_path(seq)))
        record["prev"] = digest(store.read(event_path(seq - 1)))
        overwrite(store, event_path(seq), to_json(record))
