"""The simple policies, and the best that hindsight can do."""

from __future__ import annotations

import itertools
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

from tasks.core.backtest import rivals
from tasks.core.backtest.compute import Plan

BATCHES = 12


class World:
    """A history of twelve batches in which a version loses one more for every batch of its age."""

    batches = tuple(SimpleNamespace(id=f"{number:02d}") for number in range(BATCHES))

    def __len__(self) -> int:
        return BATCHES

    @staticmethod
    def fits(plan: Plan) -> Any:
        ages = np.arange(BATCHES) - len(plan.train)
        return SimpleNamespace(means=np.where(ages < 0, np.nan, 10.0 + ages), errors=np.zeros(BATCHES))


def marks(rule: rivals.Rule, delay: int = 1) -> str:
    steps = rivals.run(World(), World.fits, rule, 4, delay)  # type: ignore[arg-type]
    return "".join("x" if step.fitted else "." for step in steps)


@pytest.mark.parametrize(
    ("rule", "delay", "expected"),
    [
        (rivals.never, 1, "........"),
        (rivals.always, 1, ".xxxxxxx"),
        (rivals.every(2), 1, ".x.x.x.x"),
        (rivals.every(4), 1, "...x...x"),
        (rivals.every(2), 3, ".x.x.x.x"),
        (rivals.when({6, 9}), 1, "..x..x.."),
    ],
)
def test_fixed_policies_retrain_when_they_say(rule: rivals.Rule, delay: int, expected: str) -> None:
    """Nobody retrains at the first scored batch; every k-th counts labelled batches since the first version."""
    assert marks(rule, delay) == expected


def test_a_retrain_learns_what_is_labelled_by_then() -> None:
    """With labels three batches late a version is two batches old when it starts, and has learned no less than v1."""
    losses = [step.loss for step in rivals.run(World(), World.fits, rivals.always, 4, 3)]  # type: ignore[arg-type]
    assert losses == [10, 11, 12, 12, 12, 12, 12, 12]


def test_a_performance_alarm_looks_at_the_version_in_service() -> None:
    """Losses of 10 and 11 are no alarm; 12 is 14 % over their mean: the alarm retrains, and starts over."""
    assert marks(rivals.performance_drop) == "...x..x."


@pytest.mark.parametrize("price", [0.0, 0.3, 1.0, 5.0])
@pytest.mark.parametrize("seed", range(5))
def test_hindsight_is_the_least_of_all_choices(seed: int, price: float) -> None:
    """Dynamic programming finds what trying every set of retrains finds."""
    steps = 7
    losses = np.random.default_rng(seed).uniform(0, 2, (steps, steps))
    losses[np.triu_indices(steps, 1)] = np.inf  # a version does not exist before its step

    def total(versions: list[int]) -> float:
        fits = sum(version == step and step > 0 for step, version in enumerate(versions))
        return float(sum(losses[step, version] for step, version in enumerate(versions)) + price * fits)

    tried = []
    for choice in itertools.product([False, True], repeat=steps - 1):
        versions, current = [0], 0
        for step, retrain in enumerate(choice, start=1):
            current = step if retrain else current
            versions.append(current)
        tried.append(total(versions))
    assert total(rivals.hindsight(losses, price)) == pytest.approx(min(tried))


def test_hindsight_never_costs_more_than_any_policy() -> None:
    """On the same fits no simple policy beats the optimum, whatever a fit costs."""
    world: Any = World()
    for price in (0.1, 0.5, 2.0):
        best = rivals.possible(world, World.fits, 4, 1).best(lambda _, price=price: price, "loss")
        least = sum(step.loss + price * step.fitted for step in best)
        for rule in (rivals.never, rivals.always, rivals.every(2), rivals.every(4)):
            steps = rivals.run(world, World.fits, rule, 4, 1)
            assert least <= sum(step.loss + price * step.fitted for step in steps) + 1e-9
