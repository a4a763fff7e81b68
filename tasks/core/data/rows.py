"""The rows of a batch that have labels."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pyarrow as pa

from tasks.core.data.arrow import target_values
from tasks.core.data.labels import Labels, label_errors
from tasks.core.data.source import Source
from tasks.core.types import Batch


@dataclass(frozen=True)
class LabelledRows:
    """Rows of one batch that have labels: where they are, and the labels themselves."""

    batch: Batch
    source: Source
    rows: np.ndarray
    """Row numbers, sorted."""
    target: np.ndarray
    labels: str
    """Digest of the joined labels."""
    total: int

    @property
    def coverage(self) -> float:
        """Labelled rows as a share of the batch's rows, 0 to 1."""
        return len(self.rows) / self.total if self.total else 0.0

    def part(self, keep: np.ndarray) -> LabelledRows:
        """The rows whose number is in `keep`."""
        inside = np.isin(self.rows, keep)
        return LabelledRows(self.batch, self.source, self.rows[inside], self.target[inside], self.labels, self.total)

    def without(self, leave_out: np.ndarray) -> LabelledRows:
        """The rows whose number is not in `leave_out`."""
        return self.part(np.setdiff1d(self.rows, leave_out))


def labelled_rows(root: Path, batch: Batch, labels: Labels, task: str) -> LabelledRows:
    """Raises DataError for labels that do not fit the task."""
    spec = labels.spec
    found = labels.of(batch)
    known = np.flatnonzero(np.asarray(found.values.is_valid()))
    with label_errors(batch.path):
        target = target_values(found.values.take(pa.array(known)), task, private=spec.target in spec.data.private)
    return LabelledRows(batch, Source.of(root, spec, batch), known, target, found.digest, len(found.values))


def target_of(parts: Sequence[LabelledRows]) -> np.ndarray:
    """The labels of these parts one after another, shape (rows,)."""
    return np.concatenate([part.target for part in parts])
