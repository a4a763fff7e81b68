"""The rows of a batch that have labels."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import pyarrow as pa

from tasks.core.data.arrow import target_values
from tasks.core.data.keys import label_errors
from tasks.core.data.labels import Labels
from tasks.core.data.source import Source
from tasks.core.types import Batch


@dataclass(frozen=True)
class LabelledRows:
    """Rows of one batch that have labels: where they are, and the labels themselves."""

    batch: Batch
    source: Source
    rows: np.ndarray
    """Row numbers, sorted; none of a row that counts elsewhere, because its key was there before."""
    target: np.ndarray
    labels: str
    """Digest of the joined labels."""
    total: int
    """Rows that the batch has."""
    elsewhere: int = 0
    """Those of them that count elsewhere."""
    far: int = 0
    """Rows that wait, because their label is too far from the others."""
    example: float = math.nan
    """One of those labels."""

    @property
    def coverage(self) -> float:
        """Labelled rows as a share of the rows that count here, 0 to 1."""
        own = self.total - self.elsewhere
        return len(self.rows) / own if own else 0.0

    def part(self, keep: np.ndarray) -> LabelledRows:
        """The rows whose number is in `keep`."""
        inside = np.isin(self.rows, keep)
        return replace(self, rows=self.rows[inside], target=self.target[inside])

    def without(self, leave_out: np.ndarray) -> LabelledRows:
        """The rows whose number is not in `leave_out`."""
        return self.part(np.setdiff1d(self.rows, leave_out))


def labelled_rows(root: Path, batch: Batch, labels: Labels, task: str) -> LabelledRows:
    """Raises DataError for labels that do not fit the task."""
    spec = labels.spec
    found = labels.of(batch)
    elsewhere = labels.identity.counted_before(batch)
    known = np.setdiff1d(np.flatnonzero(np.asarray(found.values.is_valid())), elsewhere)
    with label_errors(batch.path):
        target = target_values(found.values.take(pa.array(known)), task, private=spec.target in spec.data.private)
    return LabelledRows(
        batch,
        Source.of(root, spec, batch),
        known,
        target,
        found.digest,
        len(found.values),
        len(elsewhere),
        found.far,
        found.example,
    )


def target_of(parts: Sequence[LabelledRows]) -> np.ndarray:
    """The labels of these parts one after another, shape (rows,)."""
    return np.concatenate([part.target for part in parts])
