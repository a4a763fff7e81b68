"""What there is to decide on: the batches and labels on disk, compared with what the ledger knows."""

from __future__ import annotations

import json
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

from tasks.core.data.files import (
    arriving,
    batch_names,
    find_batches,
    fingerprint,
    label_digest,
    label_files,
)
from tasks.core.decision.policy import POLICY_VERSION
from tasks.core.errors import InvalidRequest
from tasks.core.ledger.state import State
from tasks.core.records import digest
from tasks.core.run.causes import is_mended, settled
from tasks.core.types import Batch, BatchRecord, Outcome, Request
from tasks.core.workspace import Workspace


@dataclass(frozen=True, slots=True)
class Work:
    """One question to decide, and its key: the same question has the same key."""

    key: str
    batches: tuple[Batch, ...]
    """Every batch on disk that counts, in time order."""
    pending: tuple[Batch, ...]
    """Not decided on yet: new, or set aside and then delivered again or due to be looked at with something else."""
    altered: tuple[Batch, ...]
    """Decided on earlier, with other bytes than now."""
    decided: int | None
    """Sequence number of the event that answered this very question already."""
    labels: tuple[Path, ...] = ()
    """Label files that count, oldest first by name."""
    label_digest: str = ""
    """Of those files: the same digest, the same labels."""
    arriving: tuple[str, ...] = ()
    """Files that may still be written and do not count yet, relative to the root."""
    latecomers: tuple[str, ...] = ()
    """Pending batches that come before one that was decided on already."""
    repeats: Mapping[str, str] = field(default_factory=dict)
    """Batches with the very bytes of another one, with the name of that one, which owns the rows."""
    owners: tuple[Batch, ...] = ()
    """Batches in the order in which they own the rows that they bring: as they were decided on, then those pending."""
    mended: bool = False
    """The last attempt to train failed or was refused, and what it depended on is something else now."""
    asked: bool = False
    """A person asked for this one batch."""
    aside: tuple[str, ...] = ()
    """Batches that stay set aside, and would be again: nothing that led to it has changed."""

    trusted: tuple[str, ...] = ()
    """Batches all of whose labels count, because a person accepted them."""

    def without(self, blocked: Collection[str]) -> Work:
        """Once it is known which batches are set aside: they own nothing."""
        return replace(self, owners=tuple(batch for batch in self.owners if batch.id not in blocked))


def check_request(request: Request) -> None:
    """Raises InvalidRequest for an action that is asked for without a reason: the history says why."""
    if request.action != "auto" and not (request.reason or "").strip():
        raise InvalidRequest("reason", [f"give one: the history keeps why you asked to {request.action}"])


def find_work(workspace: Workspace, request: Request, state: State) -> Work:
    """Raises InvalidRequest when the requested batch does not exist."""
    unsettled = arriving(workspace.root, workspace.spec, state.batches)
    found = find_batches(workspace.root, workspace.spec, state.batches, state.order)
    batches = [with_origin(batch, state.batches.get(batch.id)) for batch in found]
    labels = label_files(workspace.root, workspace.spec, state.order)
    labels_now = label_digest(labels)
    if request.batch is not None and request.batch not in {batch.id for batch in batches}:
        known = ", ".join(batch.id for batch in batches[-5:]) or "none"
        raise InvalidRequest(
            "batch",
            [f"there is no batch {request.batch!r} in {workspace.spec.data.batches}. The newest here: {known}"],
        )
    chosen = [batch for batch in batches if request.batch in (None, batch.id)]

    def question(asked: Request) -> str:
        return question_key(workspace, asked, state, [batch.sha256 for batch in batches], labels_now)

    aside = {b.id for b in batches if b.id not in state.batches and state.blocked.get(b.id) == b.sha256}
    stay = aside & settled(workspace, state) - {request.batch}
    pending = tuple(b for b in chosen if b.id not in state.batches and b.id not in stay)
    altered = tuple(b for b in chosen if b.id in state.batches and state.batches[b.id].sha256 != b.sha256)
    mended = is_mended(workspace, state, batches)
    looks_again = not aside.isdisjoint(batch.id for batch in pending)
    news = bool(pending or altered)
    decided = None if looks_again else _answer(workspace, request, state, question, news=news, mended=mended)
    newest = max(map(state.order, state.batches), default=state.order(""))
    return Work(
        key=question(request),
        batches=tuple(batches),
        pending=pending,
        altered=altered,
        decided=decided,
        labels=tuple(labels),
        label_digest=labels_now,
        arriving=tuple(unsettled),
        latecomers=tuple(batch.id for batch in pending if state.order(batch.id) < newest),
        repeats=repeats_of(batches, state),
        owners=owners_of(batches, pending, state.batches, state.quarantined),
        trusted=state.trusted,
        mended=mended,
        asked=request.batch is not None,
        aside=tuple(b.id for b in batches if b.id in stay),
    )


def repeats_of(batches: Iterable[Batch], state: State) -> dict[str, str]:
    """Batches with the bytes of another one that was decided on before them, or else comes before them in time."""
    owners: dict[str, str] = {}
    found = {}
    rank = {name: place for place, name in enumerate(state.batches)}
    for batch in sorted(batches, key=lambda batch: (rank.get(batch.id, len(rank)), state.order(batch.id))):
        owner = owners.setdefault(batch.sha256, batch.id)
        if owner != batch.id:
            found[batch.id] = owner
    return found


def owners_of(
    batches: Iterable[Batch],
    pending: Iterable[Batch],
    decided: Mapping[str, BatchRecord],
    quarantined: Collection[str],
) -> tuple[Batch, ...]:
    """Those of these batches that were decided on with the bytes that they have, in the order of the decisions, and
    the pending ones. One in quarantine owns nothing: its rows may be delivered again, corrected, and count then."""
    here = {batch.id: batch for batch in batches if batch.id not in quarantined}
    settled = [here[name] for name, record in decided.items() if name in here and here[name].sha256 == record.sha256]
    return (*settled, *pending)


def arrived_since(root: Path, before: Work, now: Work) -> list[str]:
    """Batches and label files that count now, or are being written, and did or were not before, or had other bytes;
    relative to the root."""
    had = {(batch.path, batch.sha256) for batch in before.batches}
    batches = {batch.path for batch in now.batches if (batch.path, batch.sha256) not in had}
    labels = {path.relative_to(root).as_posix() for path in {*now.labels} - {*before.labels}}
    if now.label_digest != before.label_digest and not labels:
        labels = {"labels that were delivered again"}
    return sorted(batches | labels | ({*now.arriving} - {*before.arriving}))


def _answer(
    workspace: Workspace,
    request: Request,
    state: State,
    question: Callable[[Request], str],
    *,
    news: bool,
    mended: bool,
) -> int | None:
    """The decision that answered this question, whose key `question` gives. A training that failed answers nothing for
    a person who asks again, nor once what it failed for may be mended: the question does not show that. A reload that a
    person asked for is also the answer for who asks for nothing in particular, until something new arrives."""
    if state.decided is None:
        return None
    seq, key = state.decided.seq, state.decided.key
    if question(request) != key:
        if request.action != "auto" or request.batch or news:
            return None
        evidence = workspace.ledger.decision(seq).evidence
        by_hand = evidence.request if evidence and evidence.request.action == "reload" else None
        return seq if by_hand and by_hand.batch is None and question(by_hand) == key else None
    if request.action == "retrain" and workspace.ledger.decision(seq).outcome is Outcome.RETRAIN_FAILED:
        return None
    if mended and not ((evidence := workspace.ledger.decision(seq).evidence) and evidence.mended):
        return None
    return seq


def with_origin(batch: Batch, record: BatchRecord | None) -> Batch:
    """A batch that rows were erased from, with what it was before."""
    if record is None or record.origin is None or record.sha256 != batch.sha256:
        return batch
    return replace(batch, origin=record.origin, gone=record.gone)


def question_key(
    workspace: Workspace, request: Request, state: State, batches: Sequence[str], label_digest: str
) -> str:
    """The key of a question about batches with these digests, in time order, and the label files of that digest."""
    question = [
        list(batches),
        label_digest,
        workspace.spec.digest,
        POLICY_VERSION,
        [request.action, request.batch, *([request.actor, request.reason] if request.action != "auto" else [])],
        state.by_hand,
    ]
    return digest(json.dumps(question).encode())


def fresh_names(workspace: Workspace, state: State) -> list[str]:
    """Those among the pending ones that the next run decides on: not those that are set aside, as they were then."""
    found = batch_names(workspace.root, workspace.spec, state.batches, state.order)
    pending = [(name, path) for name, path in found if name not in state.batches]
    stay = settled(workspace, state) & set(state.blocked)
    return [name for name, path in pending if name not in stay or fingerprint(path) != state.blocked[name]]


def pending_names(workspace: Workspace, state: State) -> list[str]:
    """Names of the batches that no run has decided on, without reading a file: for `ror status`."""
    found = batch_names(workspace.root, workspace.spec, state.batches, state.order)
    return [name for name, _ in found if name not in state.batches]
