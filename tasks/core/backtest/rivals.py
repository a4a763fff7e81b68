"""The policies that the configured one is held against: fixed intervals, a drift alarm, a performance alarm, hindsight.

They retrain on all labelled rows, keep none for a gate, and put every version in service. None decides at the first
scored batch: nothing has been learned since the first version then.
"""

from __future__ import annotations

from collections.abc import Callable, Collection
from dataclasses import dataclass

import numpy as np

from tasks.core.backtest.compute import Plan
from tasks.core.backtest.fits import Fit, FitOf
from tasks.core.backtest.history import History
from tasks.core.backtest.replay import Step

DROP = 1.1
"""A performance alarm: the newest loss over the version's own mean before it."""


@dataclass(frozen=True, slots=True)
class Seen:
    """What a simple policy may look at."""

    news: int
    """Batches labelled since the first version was trained."""
    losses: tuple[float, ...]
    """Of the version in service on the batches that were labelled since it serves, oldest first."""
    end: int
    """Batches that the version in service was trained on."""
    place: int
    """The batch that has just arrived."""


Rule = Callable[[Seen], bool]
Price = Callable[[float], float]
"""What one fit is worth, in loss per row of one batch, by how much a batch usually loses."""


def never(_: Seen) -> bool:
    """Keep the first version."""
    return False


def always(_: Seen) -> bool:
    """Retrain at every batch."""
    return True


def every(batches: int) -> Rule:
    """Retrain at fixed intervals of labelled batches."""
    return lambda seen: (seen.news + 1) % batches == 0


def performance_drop(seen: Seen) -> bool:
    """Retrain when the newest loss is more than DROP times the mean of those before it."""
    return len(seen.losses) > 1 and seen.losses[-1] > DROP * float(np.mean(seen.losses[:-1]))


def when(places: Collection[int]) -> Rule:
    """Retrain at these places."""
    return lambda seen: seen.place in places


def _upto(fits: FitOf, end: int) -> Fit:
    """The fit on all labelled rows of the first `end` batches. Raises Missing."""
    return fits(Plan(tuple(range(end)), gated=False))


def run(history: History, fits: FitOf, rule: Rule, start: int, delay: int) -> list[Step]:
    """One step a batch from `start` on. Raises Missing for a fit that is not there yet."""
    end, steps = start, []
    losses: list[float] = []
    for place in range(start, len(history)):
        fit = _upto(fits, end)
        newest = place - delay
        if newest >= end and place > start:
            losses.append(float(fit.means[newest]))
        retrain = place > start and rule(Seen(newest + 1 - start, tuple(losses), end, place))
        if retrain:
            end, losses = max(end, newest + 1), []
            fit = _upto(fits, end)
        loss, error = float(fit.means[place]), float(fit.errors[place])
        steps.append(Step(history.batches[place].id, loss, retrain, retrain, error))
    return steps


def hindsight(losses: np.ndarray, price: float) -> list[int]:
    """When to retrain had one known it all, by dynamic programming.

    `losses` has shape (decisions, versions): loss at each step under the version that could have been trained there
    (column = step) or the first one (column 0); NaN before a version exists. `price` is one fit's, in the same unit.
    Returns the version in service at each step.
    """
    steps = len(losses)
    best = np.full((steps, steps), np.inf)
    came = np.zeros((steps, steps), dtype=int)
    best[0, 0] = losses[0, 0]
    for step in range(1, steps):
        keep = best[step - 1]
        best[step, :step] = keep[:step] + losses[step, :step]
        came[step, :step] = np.arange(step)
        cheapest = int(np.argmin(keep[:step]))
        best[step, step] = keep[cheapest] + losses[step, step] + price
        came[step, step] = cheapest
    version = int(np.argmin(best[-1]))
    path = [version]
    for step in range(steps - 1, 0, -1):
        version = int(came[step, version])
        path.append(version)
    return path[::-1]


@dataclass(frozen=True)
class HindsightTable:
    """What could have been had from one starting point: every version on every batch."""

    batches: tuple[str, ...]
    losses: np.ndarray
    """Shape (decisions, versions), as `hindsight` takes them; infinite where a version cannot predict."""
    errors: np.ndarray

    def best(self, price: Price, measure: str) -> list[Step]:
        """The least loss plus cost that any choice of retrains could have had, knowing the future."""
        table = self.errors if measure == "error" else self.losses
        usual = float(np.mean(np.diagonal(table)[np.isfinite(np.diagonal(table))]))
        steps = []
        for step, version in enumerate(hindsight(table, price(usual))):
            new = version == step and step > 0
            loss, error = float(self.losses[step, version]), float(self.errors[step, version])
            steps.append(Step(self.batches[step], loss, new, new, error))
        return steps


def possible(history: History, fits: FitOf, start: int, delay: int) -> HindsightTable:
    """Raises Missing for a fit that is not there yet."""
    places = range(start, len(history))
    ends = [start, *(max(start, place - delay + 1) for place in places[1:])]
    opened = [_upto(fits, end) for end in ends]

    def table(name: str) -> np.ndarray:
        values = np.array([[getattr(fit, name)[place] for fit in opened] for place in places])
        return np.where(np.isnan(values), np.inf, values)

    return HindsightTable(tuple(history.batches[place].id for place in places), table("means"), table("errors"))
