"""What there is to decide on: the batches and labels on disk beside what the ledger knows."""

from __future__ import annotations

import json
from dataclasses import dataclass

from tasks.core.errors import SpecError
from tasks.core.files import find, find_batches, label_digest
from tasks.core.policy import POLICY_VERSION
from tasks.core.records import digest
from tasks.core.state import State
from tasks.core.types import Batch, Request
from tasks.core.workspace import Workspace


@dataclass(frozen=True, slots=True)
class Work:
    """One question to decide, and its key: the same question has the same key."""

    key: str
    batches: tuple[Batch, ...]
    """Every batch on disk, in time order."""
    pending: tuple[Batch, ...]
    """Not decided on yet, or delivered again after it was set aside."""
    altered: tuple[Batch, ...]
    """Decided on earlier, with other bytes than now."""
    decided: int | None
    """Sequence number of the event that answered this very question already."""


def check_request(request: Request) -> None:
    """Raises SpecError for an action that is asked for without a reason: the history says why."""
    if request.action != "auto" and not (request.reason or "").strip():
        raise SpecError(f"action {request.action}", ["it needs a reason, for the history: --reason '...'"])


def find_work(workspace: Workspace, request: Request, state: State) -> Work:
    """Raises SpecError when the requested batch does not exist."""
    batches = find_batches(workspace.root, workspace.spec)
    if request.batch is not None and request.batch not in {batch.id for batch in batches}:
        known = ", ".join(batch.id for batch in batches[-5:]) or "none"
        raise SpecError(workspace.spec.data.batches, [f"there is no batch {request.batch!r}. The newest here: {known}"])
    chosen = [batch for batch in batches if request.batch in (None, batch.id)]
    question = [
        [batch.sha256 for batch in batches],
        label_digest(workspace.root, workspace.spec),
        workspace.spec.digest,
        POLICY_VERSION,
        [
            request.action,
            request.batch,
            *([request.actor, request.reason] if request.action != "auto" else []),
        ],
        state.by_hand,
    ]
    key = digest(json.dumps(question).encode())
    return Work(
        key=key,
        batches=tuple(batches),
        pending=tuple(b for b in chosen if b.id not in state.batches and state.blocked.get(b.id) != b.sha256),
        altered=tuple(b for b in chosen if b.id in state.batches and state.batches[b.id].sha256 != b.sha256),
        decided=state.decided.seq if state.decided and state.decided.key == key else None,
    )


def pending_names(workspace: Workspace, state: State) -> list[str]:
    """Names of the batches that no run has decided on, without reading a file: for `ror status`."""
    paths = find(workspace.root, workspace.spec.data.batches)
    return [path.stem for path in paths if path.stem not in state.batches]
