"""What of a file came before: its rows beside those of all batches that are there."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pyarrow.compute as pc

from tasks.core.data.keys import Keys
from tasks.core.data.labels import Labels
from tasks.core.data.row_numbers import beyond, row_numbers
from tasks.core.data.source import Source
from tasks.core.errors import DataError
from tasks.core.spec import ModelSpec
from tasks.core.types import Batch

AGAIN = 0.05
"""Share of a file's keys that come again within it beyond which its key names no row."""
LARGE = 0.1
"""Share of a file's rows that came before which is worth a word, beyond what is usual."""


@dataclass(frozen=True)
class Compared:
    """The rows of a file, compared with earlier ones."""

    known: np.ndarray
    """Whether each row came before: booleans, shape (rows,)."""
    by_key: bool
    """Rows were told apart by the model's key; else by all that the model reads of them."""
    restated: int = 0
    """Rows that are known by their key, with other values now."""
    usual: float = 0.0
    """Share of rows that came before which says nothing, 0 to 1: rows without a key may be alike by chance."""

    @property
    def count(self) -> int:
        """Rows that came before."""
        return int(np.count_nonzero(self.known))

    @property
    def overlaps(self) -> bool:
        """Whether so many came before that somebody should know."""
        rows = len(self.known)
        return bool(rows) and (self.count - self.restated) / rows > LARGE + 2 * self.usual


def compare(root: Path, spec: ModelSpec, file: Path, batches: Sequence[Batch]) -> Compared:
    """The rows of any file beside those of these batches, in time order; batches that cannot be read are passed over.

    A row is its key, where the model has one that names rows: not one that comes again within the file, or whose known
    ones have mostly other values. Else, and for rows without a key, it is all that the model reads of it but for the
    target, and a row that is there once more than before is new. Raises DataError for a file that cannot be read.
    """
    given = Batch(file.name, str(file), "")
    source = Source.of(root, spec, given)
    sources = _readable(root, spec, batches)
    columns = _columns(spec, source, [one for _, one in sources])
    if not columns:
        return Compared(np.zeros(sum(len(chunk) for chunk in source.stream()), bool), by_key=False)
    rows = row_numbers(source, columns)
    each = [row_numbers(one, columns) for _, one in sources]
    before = np.concatenate([np.array([], np.uint64), *each])
    labels = Labels(root, spec, [])
    by_key = bool(spec.key) and {*spec.key_columns} <= {*source.names}
    keys = labels.keys(given) if by_key else None
    whole = ~beyond(rows, before)
    if keys is None or not _names_rows(keys):
        return Compared(whole, by_key=False, usual=_usual(rows, each))
    known = _found(keys, labels, [batch for batch, _ in sources])
    restated = int(np.count_nonzero(known & ~np.isin(rows, before)))
    if 2 * restated > np.count_nonzero(known):
        return Compared(whole, by_key=False, usual=_usual(rows, each))
    without = ~np.asarray(keys.values.is_valid())
    return Compared(np.where(without, whole, known), by_key=True, restated=restated)


LOOK_BACK, MOST = 24, 100_000
"""Batches that a new one is compared with, and rows of them: a growing file or an overlapping export repeats the newest
ones."""


@dataclass(frozen=True)
class Overlap:
    """Rows of a batch, without a key, that earlier batches have."""

    count: int
    at_least: bool
    """There are more earlier rows than were looked at."""
    usual: float
    """Share that is alike by chance, 0 to 1."""
    among: str
    """The earlier batch with most of them."""


def overlaps(root: Path, spec: ModelSpec, batches: Sequence[Batch], earlier: Sequence[Batch]) -> dict[str, Overlap]:
    """Of those of these batches, in the order of their arrival, that have clearly more rows of earlier ones than is
    usual; by all that the model reads of a row but the target."""
    if not batches:
        return {}
    sources = dict(_readable(root, spec, [*earlier[-LOOK_BACK:], *batches]))
    columns = _columns(spec, next(iter(sources.values())), [*sources.values()]) if sources else []
    before: list[tuple[Batch, np.ndarray]] = []
    for batch in reversed(earlier[-LOOK_BACK:] if columns else ()):
        left = MOST - sum(len(rows) for _, rows in before)
        if batch in sources and left > 0:
            with suppress(DataError):  # a run names what cannot be read
                before.insert(0, (batch, row_numbers(sources[batch], columns, left)))
    found = {}
    for batch in batches if columns else ():
        if batch not in sources:
            continue
        rows = row_numbers(sources[batch], columns)
        if before and (overlap := _overlap(rows, before)):
            found[batch.id] = overlap
        before = _newest([*before, (batch, rows[:MOST])])
    return found


def _newest(before: Sequence[tuple[Batch, np.ndarray]]) -> list[tuple[Batch, np.ndarray]]:
    """The last of them, as many as have MOST rows together, or the last one."""
    kept, rows = list(before[-LOOK_BACK:]), sum(len(numbers) for _, numbers in before[-LOOK_BACK:])
    while rows > MOST and len(kept) > 1:
        rows -= len(kept.pop(0)[1])
    return kept


def _overlap(rows: np.ndarray, before: Sequence[tuple[Batch, np.ndarray]]) -> Overlap | None:
    each = [numbers for _, numbers in before]
    known = np.concatenate(each)
    count, usual = int(np.count_nonzero(~beyond(rows, known))), _usual(rows, each)
    if not min(len(rows), len(known)) or count / min(len(rows), len(known)) <= LARGE + 2 * usual:
        return None
    most = max(before, key=lambda item: np.count_nonzero(np.isin(rows, item[1])))
    return Overlap(count, len(known) >= MOST, usual, most[0].id)


def _readable(root: Path, spec: ModelSpec, batches: Sequence[Batch]) -> list[tuple[Batch, Source]]:
    found = []
    for batch in batches:
        try:
            found.append((batch, Source.of(root, spec, batch)))
        except DataError:
            continue  # a run sets it aside, and says why
    return found


def _columns(spec: ModelSpec, source: Source, sources: Sequence[Source]) -> list[str]:
    """What the model reads but the target, of what all of these have."""
    read = [*(spec.features or source.names), *([spec.time] if spec.time else [])]
    shared = [name for name in dict.fromkeys(read) if name in source.names and name != spec.target]
    return [name for name in shared if all(name in one.names for one in sources)]


def _names_rows(keys: Keys) -> bool:
    present = keys.values.drop_null()
    return bool(len(present)) and len(present) - pc.count_distinct(present).as_py() <= AGAIN * len(present)


def _found(keys: Keys, labels: Labels, batches: Sequence[Batch]) -> np.ndarray:
    """Which of these keys some batch has: booleans, shape (rows,)."""
    found = np.zeros(len(keys.values), bool)
    for batch in batches:
        try:
            theirs = labels.keys(batch).values
        except DataError:
            continue  # a batch without usable keys knows none
        found |= pc.is_in(keys.values, value_set=theirs, skip_nulls=True).to_numpy(zero_copy_only=False)
    return found


def _usual(rows: np.ndarray, each: Sequence[np.ndarray]) -> float:
    """What of the newest batch was there before it came; before the second, what of the file is there twice."""
    if len(each) < 2:
        return 1 - len(np.unique(rows)) / len(rows) if len(rows) else 0.0
    newest = each[-1]
    return 1 - float(beyond(newest, np.concatenate(each[:-1])).mean()) if len(newest) else 0.0
