"""What finds nothing when labels are joined: rows without a key, keys that no batch has, keys with two answers.

A label file is looked at when it is new, and again for as long as the newest decision named it.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path, PurePath

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from tasks.core.data.identity import Names
from tasks.core.data.keys import Keys
from tasks.core.data.labels import LabelFile, Labels
from tasks.core.errors import DataError
from tasks.core.run.again import another_key
from tasks.core.text import counted
from tasks.core.types import Batch, Check, CheckKind, Verdict


@dataclass(frozen=True, slots=True)
class Matching:
    """What was said about keys."""

    checks: tuple[Check, ...] = ()
    unjoined: tuple[str, ...] = ()
    """Of label files of which not one key is a key of any batch, one sentence each."""


@dataclass
class _Side:
    """A label file, and which of its keys some batch has."""

    file: LabelFile
    found: np.ndarray
    """Shape (rows,): whether a batch has the key."""
    touched: list[Batch] = field(default_factory=list)

    @property
    def keys(self) -> Keys:
        return self.file.keys()

    @property
    def left(self) -> np.ndarray:
        """Rows with a key that no batch has."""
        return np.flatnonzero(np.asarray(self.keys.values.is_valid()) & ~self.found)


def check_keys(
    labels: Labels,
    batches: Sequence[Batch],
    waiting: Sequence[Batch],
    fresh: Sequence[Path],
    before: Sequence[Check],
) -> Matching:
    """Look at the keys of the batches that wait for labels, and of label files that are `fresh` or were named before.

    `batches` are all that labels may belong to, oldest first; `waiting` are those of them without labels so far.
    `before` are the checks of the newest decision.
    """
    if labels.spec.data.labels is None:
        return Matching()
    checks = [check for batch in waiting for check in _of_batch(labels, batch)]
    again = {check.subject for check in before if check.kind is CheckKind.KEYS}
    sides: list[_Side] = []
    unjoined: list[str] = []
    for path in labels.files:
        if path in fresh or path.name in again:
            file = labels.file(path)
            if nothing := _unnamed(labels, file, batches):
                checks.append(nothing)
                unjoined.append(nothing.summary)
                continue
            checks += _of_file(labels, file)
            sides.append(_Side(file, np.zeros(len(file.values), bool)))
    _find(labels, sides, batches)
    for side in sides:
        check = _unmatched(labels, side, waiting)
        checks += [check] if check else []
        if check and not side.touched:
            unjoined.append(check.summary)
    return Matching(tuple(checks), tuple(unjoined))


def _find(labels: Labels, sides: Sequence[_Side], batches: Sequence[Batch]) -> None:
    """Note which keys of the files are keys of a batch, newest batch first, until all of them are found."""
    for batch in reversed(batches):
        open_ = [side for side in sides if len(side.left)]
        if not open_:
            return
        keys = _keys(labels, batch)
        if keys is None:
            continue
        for side in open_:
            if labels.root / side.file.path not in labels.about(batch):
                continue
            found = pc.is_in(side.file.keys(keys.kinds).values, keys.values, skip_nulls=True)
            if pc.any(found).as_py():
                side.touched.append(batch)
                side.found |= found.to_numpy(zero_copy_only=False)


def _keys(labels: Labels, batch: Batch) -> Keys | None:
    """None where they cannot be read: joining the labels of this batch says so."""
    try:
        return labels.keys(batch)
    except DataError:
        return None


# --- what is said --------------------------------------------------------------------------------------------


def _warned(subject: str, text: str, value: int) -> Check:
    return Check.of(CheckKind.KEYS, subject, Verdict.WARN, text, float(value))


def _without_key(labels: Labels, keys: Keys, where: str, so: str) -> list[Check]:
    """Rows of a batch or label file whose key is missing or not of its kind, and so find no partner."""
    rows, name, said = f"{len(keys.values):,} rows of {where}", labels.spec.key_text, []
    if keys.missing:
        either = " or no ".join(labels.spec.key_columns)
        said.append(_warned(where, f"{keys.missing:,} of {rows} have no {either}: {so}", keys.missing))
    if keys.strange:
        shown = "" if labels.spec.hides_key else f", such as {keys.example!r}"
        text = f"{keys.strange:,} of {rows} have a {name} that is not of kind {', '.join(keys.kinds)}{shown}: {so}"
        said.append(_warned(where, text, keys.strange))
    return said


def _of_batch(labels: Labels, batch: Batch) -> list[Check]:
    keys = _keys(labels, batch)
    return _without_key(labels, keys, batch.id, "they can never be labelled") if keys else []


def _of_file(labels: Labels, file: LabelFile) -> list[Check]:
    keys, spec = file.keys(), labels.spec
    said = _without_key(labels, keys, file.name, "they label nothing")
    several, row = file.contradictions()
    if several:
        last = "" if spec.target in spec.data.private else f" (it says {file.values[row].as_py()!r})"
        shown = "" if spec.hides_key else f", such as {keys.values[row].as_py()!r}{last}"
        text = (
            f"{counted(several, 'key')} in {file.name} with two different labels{shown}: the last row of a key counts"
        )
        said.append(_warned(file.name, text, several))
    return said


def _unnamed(labels: Labels, file: LabelFile, batches: Sequence[Batch]) -> Check | None:
    """A label file that is joined to no batch, because its keys name rows of several; None for any other."""
    if labels.identity.names is Names.ROW or any(labels.root / file.path in labels.about(b) for b in batches):
        return None
    spec, rows = labels.spec, len(file.values)
    text = (
        f"{file.name} labels nothing: {spec.key_text} names no row, and nothing else says which its {rows:,} rows "
        f"mean. Remedy: {another_key(spec)}"
    )
    if batches and labels.identity.names is Names.ROW_OF_BATCH and not file.is_ambiguous:
        text += f"; or call the file by the batch that it labels: {batches[-1].id}{PurePath(file.name).suffix}"
    return _warned(file.name, text, 0)


def _unmatched(labels: Labels, side: _Side, waiting: Sequence[Batch]) -> Check | None:
    """What of a label file no batch has, beside what in the batches no label file has; None where one side has
    nothing left, for then no key is written in two ways."""
    left, keys, name = side.left, side.keys, side.file.name
    if not len(left):
        return None
    there = keys.values.take(pa.array(left))
    known = len(keys.values) - keys.values.null_count
    batch, here = _left_over(labels, side.touched or [*reversed(waiting)])
    if side.touched and batch is None:
        return None
    if side.touched:
        said = f"{len(left):,} of {known:,} keys in {name} are keys of no batch"
    else:
        said = f"0 of {known:,} keys in {name} are keys of any batch"
    if batch is not None:
        ours, theirs = _alike(there, here)
        if not labels.spec.hides_key:
            said += f": {ours!r} there, {theirs!r} here"
        said += f" ({counted(len(here), 'key')} of {batch.id} without a label){_remedy(labels, ours, theirs)}"
    return _warned(name, said, known - len(left))


def _left_over(labels: Labels, batches: Sequence[Batch]) -> tuple[Batch | None, pa.Array]:
    """The first of these batches with keys that no label file has, and those keys."""
    for batch in batches:
        if _keys(labels, batch) is not None and len(found := labels.unlabelled(batch)):
            return batch, found
    return None, pa.array([], pa.string())


def _alike(there: pa.Array, here: pa.Array) -> tuple[str, str]:
    """One key of each side: two that look like the same key where there are any."""
    ours, theirs = _folded(there), _folded(here)
    where = pc.index_in(ours, value_set=theirs)
    pairs = where.drop_null()
    if not len(pairs):
        return there[0].as_py(), here[0].as_py()
    place = int(np.flatnonzero(np.asarray(where.is_valid()))[0])
    return there[place].as_py(), here[pairs[0].as_py()].as_py()


def _folded(keys: pa.Array) -> pa.Array:
    """Without what most often differs: case, zeros in front, `.0`, in each column of the key."""
    stripped = pc.replace_substring_regex(pc.utf8_lower(keys), r"(^|\|)0+", r"\1")
    return pc.replace_substring_regex(stripped, r"\.0*(\||$)", r"\1")


def _remedy(labels: Labels, ours: str, theirs: str) -> str:
    """What to do about two keys that look like the same one, by the first of their columns that differs."""
    columns = zip(ours.split("|"), theirs.split("|"), strict=False)
    ours, theirs = next((pair for pair in columns if pair[0] != pair[1]), (ours, theirs))
    if ours.lstrip("0") == theirs.lstrip("0"):
        width = max(len(ours), len(theirs))
        return f'. They differ in leading zeros: if they mean the same, write key_kind = "text" and key_width = {width}'
    if ours.lower() == theirs.lower():
        return f". They differ in case: deliver {labels.spec.key_text} alike in both"
    if ours.partition(".")[0] == theirs.partition(".")[0] and "." in ours + theirs:
        return '. If they are whole numbers, write key_kind = "integer"'
    return ""
