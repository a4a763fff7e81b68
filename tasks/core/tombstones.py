"""What was removed on record, by whom and why: for whoever misses it. Light: loading a version imports it."""

from __future__ import annotations

from typing import TYPE_CHECKING

from tasks.core.ledger import Ledger
from tasks.core.state import State

if TYPE_CHECKING:
    from tasks.core.manifest import Manifest


def pruned(ledger: Ledger, state: State, version: int) -> str | None:
    """Why a version cannot be loaded any more, and what is left to do; None when its payload was not pruned."""
    seq = state.pruned.get(version)
    if seq is None:
        return None
    return (
        f"v{version} of {ledger.model} was pruned {_by(ledger, seq)}. It cannot be loaded any more; its record is kept."
    )


def erased(ledger: Ledger, state: State, batch: str) -> str | None:
    """By whom rows of a batch were erased last; None when none were."""
    record = state.batches.get(batch)
    if record is None or record.erased is None:
        return None
    return f"rows of {batch} were erased {_by(ledger, record.erased)}"


def erased_from(ledger: Ledger, state: State, manifest: Manifest) -> list[str]:
    """What a version was trained on and is not there any more, a sentence for each batch that rows were erased from."""
    now = {batch: record.sha256 for batch, record in state.batches.items()}
    told = (erased(ledger, state, file.batch) for file in manifest.training if now.get(file.batch) != file.sha256)
    return [sentence for sentence in told if sentence]


def replaced(ledger: Ledger, state: State, path: str) -> str | None:
    """Why an object of the store is gone, and what stands for it; None when no rows were erased from it."""
    new = state.replaced.get(path)
    return None if new is None else f"{path} was replaced by {new.path}, for a key was erased {_by(ledger, new.seq)}"


def _by(ledger: Ledger, seq: int) -> str:
    event = ledger.event(seq)
    return f"by {event.actor} on {event.at[:10]} (entry {seq}): {event.reason.rstrip('.')}"
