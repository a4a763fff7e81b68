"""What differs between two versions, as values: `a` is what the first one has, `b` the second; None: it has not."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from tasks.core.types import Gate, Metric


@dataclass(frozen=True, slots=True)
class Change:
    """One thing that both versions may have, and that is another in each."""

    name: str
    """Dotted where it is inside of another: `policy.max_age`."""
    a: Any
    b: Any


@dataclass(frozen=True, slots=True)
class TrainedBatch:
    """A batch that one of them was trained on."""

    batch: str
    rows: int
    sha256: str
    labels: str
    """Digest of the labels joined to it."""


@dataclass(frozen=True, slots=True)
class ChangedBatch:
    """A batch that both were trained on, and not alike."""

    batch: str
    changes: tuple[Change, ...]
    """Of `sha256`, `labels`, `rows`, or `held_out` (a share of it was kept for the gate)."""


@dataclass(frozen=True, slots=True)
class DataDifference:
    """What they were trained on."""

    rows: tuple[int, int]
    digests: tuple[str, str]
    """One for all the data of each, as `ror status` shows it."""
    added: tuple[TrainedBatch, ...]
    """Batches of the second one only."""
    removed: tuple[TrainedBatch, ...]
    """Batches of the first one only."""
    changed: tuple[ChangedBatch, ...]
    same: int
    """Batches that both were trained on, alike."""

    @property
    def identical(self) -> bool:
        """Whether both were trained on the same data."""
        return not (self.added or self.removed or self.changed)


@dataclass(frozen=True, slots=True)
class ColumnSummary:
    """A column that only one of them has."""

    name: str
    kind: str
    type: str
    null_rate: float


@dataclass(frozen=True, slots=True)
class ColumnDifference:
    """A column that both have, and that is not the same in each."""

    name: str
    private: bool
    """Its range and categories are left out of what follows; how many categories came and went is told."""
    changes: tuple[Change, ...]
    """Of the fields of a contract's column."""
    added: tuple[str, ...]
    """Categories listed by the second one only."""
    removed: tuple[str, ...]
    new: int
    """How many were added."""
    gone: int
    """How many were removed."""
    capped: bool
    """The list of one of them is full: a category can come and go by its rank alone."""
    hidden: bool = False
    """Its range differs, and is not shown."""


@dataclass(frozen=True, slots=True)
class SchemaDifference:
    """Which inputs they accept."""

    added: tuple[ColumnSummary, ...]
    removed: tuple[ColumnSummary, ...]
    changed: tuple[ColumnDifference, ...]
    same: int
    """Columns that are the same in both."""
    now_ignored: tuple[str, ...]
    """Columns of the data that are no inputs, and that the first one did not list as such."""
    no_longer_ignored: tuple[str, ...]

    @property
    def identical(self) -> bool:
        """Whether both accept the same inputs."""
        return not (self.added or self.removed or self.changed or self.now_ignored or self.no_longer_ignored)


@dataclass(frozen=True, slots=True)
class MetricPair:
    """One metric of both."""

    name: str
    a: Metric | None
    b: Metric | None


@dataclass(frozen=True, slots=True)
class MetricsDifference:
    """How well they did before they were put in service."""

    each: tuple[MetricPair, ...]
    """Each on the rows that were kept for its own gate."""
    same_rows: bool
    """Those are the very same rows. Where not, the numbers differ by the rows, too."""
    compared: tuple[MetricPair, ...]
    """Both on the rows of the newer one's gate, where that was against the other; empty otherwise."""
    seen: int
    """How many of those rows the older one had been trained on."""
    gates: tuple[Gate, Gate]

    @property
    def identical(self) -> bool:
        """Whether the numbers are the same, on the same rows."""
        return self.same_rows and all(pair.a == pair.b for pair in self.each) and self.gates[0] == self.gates[1]


@dataclass(frozen=True, slots=True)
class CodeChange:
    """A module of the pipeline's own, which belongs to no package, that is another in each or of one of them only."""

    module: str
    added: int
    """Lines."""
    removed: int
    lines: tuple[str, ...]
    """A unified diff."""


@dataclass(frozen=True, slots=True)
class Differences:
    """Everything in which the second version differs from the first."""

    model: str
    a: int
    b: int
    made: tuple[Change, ...]
    """When, why and at what cost: created, parent, action, reasons, duration_seconds, peak_memory_mb."""
    data: DataDifference
    schema: SchemaDifference | None
    """None: the input schema of one of them is no longer in the store."""
    specification: tuple[Change, ...]
    """Of the model's file as it was used, parameters of the pipeline included."""
    environment: tuple[Change, ...]
    code: tuple[CodeChange, ...] | None
    """None: the text of one of them is no longer in the store."""
    importance: tuple[Change, ...] | None
    """Columns whose share of the importance is another, the largest change first; None: no longer in the store."""
    metrics: MetricsDifference
    files: tuple[Change, ...]
    """Sizes in bytes, of files whose bytes differ."""
