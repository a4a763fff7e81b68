"""What the rules may look at, and the economic interval that follows from it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

from tasks.core.types import Comparison, LossPoint, Request

HISTORY = 9
"""Earlier batches that the usual loss is averaged over."""


@dataclass(frozen=True, slots=True)
class DriftEvidence:
    """What moved, and how much of the model rests on it."""

    drifted: tuple[str, ...] = ()
    """Columns beyond their thresholds, most important first."""
    weight: float = 0.0
    """Their share of the measured importance, 0 to 1."""
    prediction: bool = False
    """The distribution of the predictions moved beyond its threshold."""
    measured: bool = False
    stirred: float = 0.0
    """Share of the importance of columns beyond what each of them does in 95 of 100 windows: no alarm for people, for
    of many columns some always are, but reason enough not to wait for long with a retrain that is half due."""
    stirred_prediction: bool = False


@dataclass(frozen=True, slots=True)
class Evidence:
    """Everything the rules may look at. Counts are of usable labelled batches unless they say rows."""

    request: Request = field(default_factory=Request)
    pending: int = 0
    """Batches to decide on, broken ones left out."""
    blocked: tuple[str, ...] = ()
    """Batches set aside as structurally broken."""
    aside: tuple[str, ...] = ()
    """Batches that were set aside before, and still are for the same reasons."""
    current: int | None = None
    predecessor: int | None = None
    predecessor_ready: bool = False
    """It is not barred, loads, and accepts the data."""
    labelled_rows: int = 0
    new_batches: int = 0
    """Labelled since the data end of the last attempt: the age."""
    new_rows: int = 0
    cooldown: int = 0
    losses: tuple[LossPoint, ...] = ()
    """Of champion and predecessor on batches they had not been trained on, oldest first."""
    comparisons: tuple[Comparison, ...] = ()
    newest: str | None = None
    """The newest labelled batch, if this run brought its labels."""
    dummy_loss: float | None = None
    """On that batch, of always predicting what was usual in training."""
    suspect: str | None = None
    """A batch held out by an earlier run."""
    changes: tuple[str, ...] = ()
    """What about the content goes beyond its calibrated tolerance, one sentence each."""
    accepted: tuple[str, ...] = ()
    """Batches whose changed content a person accepted, and no attempt to train has learned from yet."""
    novel: tuple[str, ...] = ()
    """Batches whose content is new to the version in service, and no attempt to train has learned from yet."""
    unlearnable: tuple[str, ...] = ()
    """Those of both that have no usable labels yet."""
    waiting: int | None = None
    """The version that the last attempt to train made, while it waits for approval."""
    drift: DriftEvidence = field(default_factory=DriftEvidence)
    label_delay: int | None = None
    """Batches that labels may take: as declared, else the most that they are known to have taken."""
    mended: bool = False
    """The last attempt to train failed or was refused, and what it depended on, beside labels, has changed since."""
    labels_overdue: tuple[str, ...] = ()
    """Decided batches whose labels should have come by now, oldest first. No rule asks; the run's end does."""

    def losses_of(self, version: int | None) -> list[LossPoint]:
        """A version's losses, oldest batch first."""
        return [point for point in self.losses if point.version == version]

    def newest_loss(self, version: int | None) -> LossPoint | None:
        """A version's loss on the newest labelled batch, if this run brought its labels."""
        points = self.losses_of(version)
        return points[-1] if points and points[-1].batch == self.newest else None

    def usual_loss(self, version: int | None, leave_out: int = 1) -> tuple[float, float] | None:
        """Mean loss over a version's earlier batches and that mean's own variance; None before there are two."""
        return _mean(self.losses_of(version)[:-leave_out][-HISTORY:])

    def usual_in_service(self, leave_out: int = 1) -> tuple[float, float] | None:
        """Mean loss over the earlier batches, each under the champion of its time (the version that was measured on it
        first), and that mean's own variance; None before there are two."""
        by_batch: dict[str, LossPoint] = {}
        for point in self.losses:
            by_batch.setdefault(point.batch, point)
        return _mean(list(by_batch.values())[:-leave_out][-HISTORY:])


def _mean(points: Sequence[LossPoint]) -> tuple[float, float] | None:
    if len(points) < 2:
        return None
    mean = sum(point.mean for point in points) / len(points)
    return mean, sum(point.variance / point.rows for point in points) / len(points) ** 2
