"""What was removed on record, by whom and why: for whoever misses it. Light: loading a version imports it."""

from __future__ import annotations

from tasks.core.ledger import Ledger
from tasks.core.state import State


def pruned(ledger: Ledger, state: State, version: int) -> str | None:
    """Why a version cannot be loaded any more, and what is left to do; None when its payload was not pruned."""
    seq = state.pruned.get(version)
    if seq is None:
        return None
    return (
        f"v{version} of {ledger.model} was pruned {_by(ledger, seq)}. It cannot be loaded any more; its record is kept."
    )


def _by(ledger: Ledger, seq: int) -> str:
    event = ledger.event(seq)
    return f"by {event.actor} on {event.at[:10]} (entry {seq}): {event.reason.rstrip('.')}"
