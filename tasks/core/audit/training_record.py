"""What a version was trained on, from its record: its training files, and the labels that were joined to them then."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from tasks.core.audit import removals
from tasks.core.audit.entries import content
from tasks.core.data.files import delivered, find_batches, is_unchanged, label_digest, label_files
from tasks.core.data.labels import Labels
from tasks.core.data.rows import LabelledRows, labelled_rows
from tasks.core.errors import DataError, NotFound, VerificationError
from tasks.core.ledger.events import Decided, Event, last_state, named_manifests
from tasks.core.ledger.state import State
from tasks.core.run.work import owners_of, with_origin
from tasks.core.spec import ModelSpec
from tasks.core.training.holdout import FIRST_HOLDOUT_EVERY, HOLDOUT_EVERY, split
from tasks.core.types import Batch
from tasks.core.versions.manifest import Manifest
from tasks.core.workspace import Workspace


def recorded_manifest(workspace: Workspace, version: int, events: Mapping[int, Event]) -> tuple[Manifest, str]:
    """The record of a version, as the history names it. Raises InvalidRequest, CorruptObject."""
    named = next(iter(named_manifests(events).get(version, {})), None)
    try:
        return workspace.registry.manifest(workspace.model, version, named)
    except NotFound:
        raise workspace.registry.unknown(workspace.model, version) from None


def recorded_training_rows(
    workspace: Workspace, spec: ModelSpec, manifest: Manifest, events: Mapping[int, Event]
) -> tuple[list[LabelledRows], list[str]]:
    """The batches a version was trained on, in order, with the labels that they had then; and what is worth knowing.

    Labels that came or were corrected later are left out again where the label files of then are still there: digests
    prove it. Rows whose key came before, and labels that waited, are left out as they were then; an earlier release
    left out none. Raises VerificationError naming every file that is missing or changed, and every batch whose labels
    cannot be put together again.
    """
    history, problems, notes = _put_together(_Then(workspace, spec, manifest.version, events), manifest, events)
    if problems or not _adds_up(manifest, history):
        earlier = _Then(workspace, spec, manifest.version, events, owned=False)
        other = _put_together(earlier, manifest, events)
        if not other[1] and _adds_up(manifest, other[0]):
            history, problems, notes = other
    if problems:
        raise VerificationError(cannot(workspace, manifest.version, problems))
    return history, notes


def _put_together(
    then: _Then, manifest: Manifest, events: Mapping[int, Event]
) -> tuple[list[LabelledRows], list[str], list[str]]:
    """The rows, why some cannot be put together, and what is worth knowing."""
    erased = removals.erased_rows(events)
    known = last_state(events).batches
    now_at = delivered(then.root, then.spec, known)
    history, problems, notes = [], [], []
    for file in manifest.training:
        path = file.path
        if not (then.root / path).exists() and file.batch in now_at:  # it was renamed
            path = now_at[file.batch].relative_to(then.root).as_posix()
        batch = with_origin(Batch(file.batch, path, file.sha256), known.get(file.batch))
        if not (then.root / path).exists():
            problems.append(f"{file.path} is missing (sha256 {file.sha256[:12]})")
            continue
        if not is_unchanged(then.root, batch):
            why = f": {erased[file.batch]}" if file.batch in erased else ""
            problems.append(f"{file.path} has changed since (recorded sha256 {file.sha256[:12]}){why}")
            continue
        try:
            part, note = then.of(batch, file.labels)
        except DataError as error:
            problems.append(f"the labels of {file.batch} cannot be read: {error}")
            continue
        if part is None:
            here = f"none of the {len(then.files):,} label files here, oldest first, gives those of then"
            problems.append(f"the labels of {file.batch} were changed since, and {here}")
            continue
        history.append(part)
        notes += [note] if note else []
    return history, problems, notes


def _adds_up(manifest: Manifest, history: Sequence[LabelledRows]) -> bool:
    try:
        recorded_holdout(manifest, history)
    except DataError:
        return False
    return True


class _Then:
    """Labels of batches as they were when a version was trained."""

    def __init__(
        self,
        workspace: Workspace,
        spec: ModelSpec,
        version: int,
        events: Mapping[int, Event],
        *,
        owned: bool = True,
    ):
        """Where rows were not `owned`, every one of them counted, and every label."""
        self.root, self.spec = workspace.root, spec
        then = _state_of(version, events)
        here = find_batches(workspace.root, spec, then.batches, then.order) if owned else ()
        now = last_state(events).batches
        decided = {name: now[name] for name in then.batches if name in now}
        self._how: dict[str, Any] = {
            "batches": owners_of(here, (), decided, then.quarantined),
            "trusted": then.trusted if owned else None,
        }
        self.files = label_files(workspace.root, spec, last_state(events).order)
        self._now = Labels(workspace.root, spec, self.files, **self._how)
        self._known: dict[int, Labels] = {len(self.files): self._now}
        self._alone = [Labels(workspace.root, spec, [path], **self._how) for path in self.files]
        self._seen = self._count(version, events)

    def of(self, batch: Batch, sha256: str) -> tuple[LabelledRows | None, str | None]:
        """With what changed since; None when no label files that are here give labels of this digest.

        Raises DataError when they cannot be read.
        """
        for count in self._candidates(batch):
            part = labelled_rows(self.root, batch, self._labels(count), self.spec.task)
            if part.labels != sha256:
                continue
            if count == len(self.files):
                return part, None
            places = range(count, len(self.files))
            later = [self.files[place].name for place in places if self._alone[place].touch(batch)]
            cause = f"by {', '.join(later)}" if later else "in how they are written, not in what they say"
            return part, f"the labels of {batch.id} were changed since {cause}; those of then are used"
        return None, None

    def _candidates(self, batch: Batch) -> Iterator[int]:
        """How many of the label files, oldest first, may have been there: all, those that the history says, and those
        up to or before each one that has to do with this batch."""
        yield len(self.files)
        if self._seen is not None:
            yield self._seen
        for count in range(len(self.files), 0, -1):
            if self._alone[count - 1].touch(batch):
                yield from (count, count - 1)

    def _labels(self, count: int) -> Labels:
        if count not in self._known:
            self._known[count] = Labels(self.root, self.spec, self.files[:count], **self._how)
        return self._known[count]

    def _count(self, version: int, events: Mapping[int, Event]) -> int | None:
        """How many label files the decision saw that made this version, if those are still the first ones here."""
        decisions = (body for event in events.values() if isinstance(body := content(event), Decided))
        made = (body for body in decisions if body.attempt and body.attempt.version == version)
        seen = next((body.label_files for body in made), None)
        counts = range(len(self.files) - 1, -1, -1)
        return next((count for count in counts if label_digest(self.files[:count]) == seen), None)


def _state_of(version: int, events: Mapping[int, Event]) -> State:
    """The state after the decision that made a version; the newest where none is recorded."""
    made = (
        event.state_after
        for event in events.values()
        if isinstance(body := content(event), Decided) and body.attempt and body.attempt.version == version
    )
    return next(made, last_state(events))


def recorded_holdout(manifest: Manifest, history: Sequence[LabelledRows]) -> int:
    """The share that was kept for the gate: the one by which as many rows of every batch are left as were recorded.

    A first version keeps more than later ones; an older release may have kept another share. Raises DataError where
    neither fits.
    """
    recorded = [(file.rows, file.held_out) for file in manifest.training]
    likely = FIRST_HOLDOUT_EVERY if manifest.parent is None else HOLDOUT_EVERY
    for holdout in (likely, *({FIRST_HOLDOUT_EVERY, HOLDOUT_EVERY} - {likely})):
        training = split(history, holdout)
        kept = {part.batch.id for part in training.gate}
        if [(len(part.rows), part.batch.id in kept) for part in training.learn] == recorded:
            return holdout
    raise DataError("its rows cannot be divided into those trained on and those kept for the gate as they were")


def cannot(workspace: Workspace, version: int, problems: Sequence[str]) -> str:
    """The message for a version that cannot be reproduced: all its problems, one line each, and what to do."""
    lines = "\n".join(f"  - {problem}" for problem in problems)
    then = "Where that can be restored, restore it and run it again."
    return f"{workspace.model} v{version} cannot be reproduced:\n{lines}\n{then}"
