"""The economic interval, by hand."""

from __future__ import annotations

import math
from dataclasses import replace

import pytest

from tasks.core.decision.evidence import Evidence
from tasks.core.decision.interval import interval
from tasks.core.spec import PolicySpec
from tasks.core.types import Comparison, LossPoint


def evidence(losses: list[float], gains: list[tuple[float, int]] = ()) -> Evidence:  # type: ignore[assignment]
    """The champion's losses and the gains over its predecessor as (gain, gap), oldest first."""
    return Evidence(
        current=2,
        predecessor=1,
        losses=tuple(LossPoint(str(place), 2, 100, loss, 0.1) for place, loss in enumerate(losses)),
        comparisons=tuple(Comparison(str(place), 2, 1, 100, gain, 0.1, gap) for place, (gain, gap) in enumerate(gains)),
    )


def test_the_interval_by_hand() -> None:
    """The interval is the square root of twice the cost over the slope, older observations counting less."""
    found = interval(evidence([0.2, 0.2], [(0.01, 2), (0.03, 1)]), PolicySpec())
    # Newest first: 1 * 0.03 + 0.9 * 0.01, and the prior 2 * 0.01 * 0.2; gaps 1 * 1 + 0.9 * 2 + 2.
    assert found.slope == pytest.approx(0.043 / 4.8)
    assert found.base == pytest.approx(0.2)
    assert found.batches == pytest.approx(math.sqrt(2 * 0.05 * 0.2 * 4.8 / 0.043))
    assert found.batches == pytest.approx(1.494175, abs=1e-6)
    assert not found.capped


@pytest.mark.parametrize("loss", [0.001, 0.2, 50.0])
def test_without_comparisons_the_prior_decides(loss: float) -> None:
    """Before anything was compared the interval is the square root of ten at the default cost, whatever the loss."""
    found = interval(evidence([loss] * 3), PolicySpec())
    assert found.batches == pytest.approx(math.sqrt(10))


@pytest.mark.parametrize(("cost", "batches"), [(0.02, 2.0), (0.2, math.sqrt(40)), (0.001, 1.0)])
def test_a_dearer_retrain_waits_longer(cost: float, batches: float) -> None:
    """The interval grows with the square root of the cost and is never shorter than one batch."""
    assert interval(evidence([0.2]), PolicySpec(retrain_cost=cost)).batches == pytest.approx(batches)


def test_the_base_is_the_mean_of_the_last_four_losses() -> None:
    """What a retrain is worth is a share of the champion's recent loss, not of its whole past."""
    assert interval(evidence([9.0, 0.1, 0.2, 0.3, 0.4]), PolicySpec()).base == pytest.approx(0.25)


@pytest.mark.parametrize(
    ("losses", "gains"),
    [([0.2], [(-0.05, 1)]), ([], []), ([0.0, 0.0], [])],
    ids=["the older version was better", "nothing was measured", "the model is perfect"],
)
@pytest.mark.parametrize(("max_age", "batches"), [(16, 16.0), (3, 3.0), ("never", None)])
def test_without_staleness_the_age_limit_decides(
    losses: list[float], gains: list[tuple[float, int]], max_age: int | str, batches: float | None
) -> None:
    """Where age does not cost anything, only the age limit is left, and it is shown as such."""
    found = interval(evidence(losses, gains), PolicySpec(max_age=max_age))
    assert (found.batches, found.capped) == (batches, True)


def test_the_interval_is_capped_by_the_age_limit() -> None:
    """An interval that would be longer than the age limit is the age limit; without one it stays as it is."""
    slow = evidence([0.2], [(0.0, 100)])
    longest = interval(slow, PolicySpec(max_age="never")).batches
    assert longest == pytest.approx(math.sqrt(0.02 / (0.004 / 102)))
    assert interval(slow, PolicySpec(max_age=10)).batches == 10.0
    assert interval(slow, PolicySpec(max_age=10)).capped
    assert interval(slow, PolicySpec(max_age=23)).batches == longest


def test_an_older_version_that_was_put_back_tells_the_same() -> None:
    """Where a person went back, what the newer version is worth is read from the other side of the comparison."""
    ahead = evidence([0.2], [(0.02, 2)])
    back = Evidence(current=1, predecessor=2, losses=(LossPoint("0", 1, 100, 0.2, 0.1),),
                    comparisons=(Comparison("0", 1, 2, 100, -0.02, 0.1, 2),))  # fmt: skip
    assert interval(back, PolicySpec()) == interval(ahead, PolicySpec())


def test_costs_in_money_do_not_depend_on_the_size_of_batches() -> None:
    """Twenty units of loss pay for a retrain: with batches of 100 rows that is 0.2 a row, ten times what 1,000 take."""
    policy = PolicySpec(retrain=2.0, error=0.1)
    found = interval(evidence([0.4, 0.4], [(0.02, 1)]), policy)
    assert found.cost == pytest.approx(20 / 100)
    larger = replace(evidence([0.4, 0.4]), losses=tuple(LossPoint(b, 2, 1000, 0.4, 0.1) for b in "ab"))
    assert interval(larger, policy).cost == pytest.approx(20 / 1000)
    assert interval(larger, PolicySpec(retrain_cost=0.05)).cost == pytest.approx(0.05 * 0.4)
