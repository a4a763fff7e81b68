"""What the rules may look at, and the economic interval that follows from it."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from tasks.core.types import Comparison, LossPoint, Request

if TYPE_CHECKING:
    from tasks.core.spec import PolicySpec

HISTORY = 9
"""Earlier batches that the usual loss is averaged over."""
DECAY, PRIOR_WEIGHT, PRIOR_SLOPE = 0.9, 2.0, 0.01
"""The staleness slope: weights of older observations, and a prior worth two of them at 1 % of the loss a batch."""


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
    labels_overdue: tuple[str, ...] = ()
    """Decided batches whose labels should have come by now, oldest first. No rule asks; the run's end does."""

    def losses_of(self, version: int | None) -> list[LossPoint]:
        return [point for point in self.losses if point.version == version]

    def newest_loss(self, version: int | None) -> LossPoint | None:
        """A version's loss on the newest labelled batch, if this run brought its labels."""
        points = self.losses_of(version)
        return points[-1] if points and points[-1].batch == self.newest else None

    def usual_loss(self, version: int | None, leave_out: int = 1) -> tuple[float, float] | None:
        """Mean loss over a version's earlier batches and that mean's own variance; None before there are two."""
        return _mean(self.losses_of(version)[:-leave_out][-HISTORY:])

    def usual_in_service(self, leave_out: int = 1) -> tuple[float, float] | None:
        """The same over the newest batches, whoever was champion then: it is the first that is measured on a batch."""
        by_batch: dict[str, LossPoint] = {}
        for point in self.losses:
            by_batch.setdefault(point.batch, point)
        return _mean(list(by_batch.values())[:-leave_out][-HISTORY:])


def _mean(points: Sequence[LossPoint]) -> tuple[float, float] | None:
    if len(points) < 2:
        return None
    mean = sum(point.mean for point in points) / len(points)
    return mean, sum(point.variance / point.rows for point in points) / len(points) ** 2


@dataclass(frozen=True, slots=True)
class Interval:
    """The economic interval between retrains."""

    batches: float | None
    """Labelled batches; None: never."""
    slope: float
    """Loss that one more batch of age adds to every later batch."""
    base: float
    """Mean loss of the champion over its last few batches."""
    cost: float
    """What a retrain is worth, in loss per row of one batch."""
    rows: float
    """Rows of one of those batches, on average."""
    capped: bool
    """`max_age` decided, not evidence of staleness."""


def interval(evidence: Evidence, policy: PolicySpec) -> Interval:
    """k* = sqrt(2 C / s): least cost per batch of C/k for retraining plus s k/2 for being stale.

    C is the policy's price of a retrain; s is the staleness slope, from paired losses of champion and predecessor on
    the same rows, shrunk towards PRIOR_SLOPE x base. (The economic order quantity, Harris 1913, with staleness as the
    holding cost.)
    """
    recent = (evidence.losses_of(evidence.current) or list(evidence.losses))[-4:]
    base = sum(point.mean for point in recent) / len(recent) if recent else 0.0
    rows = sum(point.rows for point in recent) / len(recent) if recent else 0.0
    cost = policy.price(base, rows)
    weighted = [(DECAY**i, item) for i, item in enumerate(reversed(evidence.comparisons))]
    # What the newer one is worth: it is the predecessor where a person put an older version back in service.
    newer = sum(w * (item.gain if item.version > item.predecessor else -item.gain) for w, item in weighted)
    gains = newer + PRIOR_WEIGHT * PRIOR_SLOPE * base
    gaps = sum(w * item.gap for w, item in weighted) + PRIOR_WEIGHT
    slope = gains / gaps
    cap = None if policy.max_age == "never" else float(policy.max_age)
    if slope <= 0 or base <= 0:
        return Interval(cap, slope, base, cost, rows, capped=True)
    best = max(1.0, math.sqrt(2 * cost / slope))
    if cap is not None and best >= cap:
        return Interval(cap, slope, base, cost, rows, capped=True)
    return Interval(best, slope, base, cost, rows, capped=False)
