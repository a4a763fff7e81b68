"""The economic interval: how many labelled batches a version is worth keeping."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING

from tasks.core.decision.evidence import Evidence

if TYPE_CHECKING:
    from tasks.core.spec import PolicySpec


DECAY, PRIOR_WEIGHT, PRIOR_SLOPE = 0.9, 2.0, 0.01
"""The staleness slope: weights of older observations, and a prior worth two of them at 1 % of the loss a batch."""


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
    best = max(1.0, math.sqrt(2 * cost / slope)) if slope > 0 and base > 0 else math.inf
    capped = best >= (math.inf if cap is None else cap)
    return Interval(cap if capped else best, slope, base, cost, capped)
