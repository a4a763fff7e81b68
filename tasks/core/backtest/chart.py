"""Pictures for people, drawn by matplotlib: imported when something is drawn, never before."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np

from tasks.core.backtest.report import FIXED, title
from tasks.core.backtest.run import CONFIGURED, OPTIMUM, Backtest
from tasks.core.data.files import atomic_write

COSTS = np.geomspace(0.01, 0.5, 40)
SHOWN = {
    CONFIGURED: "#1f4e8c",
    "never": "#9a9a9a",
    "always": "#c2410c",
    "drift-share": "#8a6d1d",
    OPTIMUM: "#2f7d4f",
}
"""Policies that are drawn, with the best fixed interval."""


def draw_backtest(found: Backtest, path: Path) -> None:
    """Loss over time, when each policy retrained, and what each costs at other prices of a retrain."""
    import matplotlib

    matplotlib.use("Agg")
    import matplotlib.pyplot as plt

    best = min(FIXED, key=lambda name: found.score(name).cost)
    colours = {**SHOWN, best: "#7c4d9e"}
    figure, (over_time, marks, costs) = plt.subplots(
        3, 1, figsize=(10, 9.5), dpi=120, layout="constrained", height_ratios=[3, 1.5, 3]
    )
    _over_time(over_time, found, colours)
    _marks(marks, found, colours)
    _costs(costs, found, colours)
    for axes in (over_time, marks, costs):
        for side in ("top", "right"):
            axes.spines[side].set_visible(False)
    steps = found.paths[CONFIGURED][0]
    marked = range(0, len(steps), max(1, len(steps) // 10))
    for axes in (over_time, marks):
        axes.set_xlim(-0.5, len(steps) - 0.5)
        axes.set_xticks(marked, [steps[place].batch for place in marked], fontsize=8)
    figure.suptitle(title(found), x=0.01, ha="left")
    with atomic_write(path, replace=True) as temporary:
        figure.savefig(temporary)
    plt.close(figure)


def _losses(found: Backtest, name: str) -> np.ndarray:
    return np.array([getattr(step, found.measure) for step in found.paths[name][0]])


def _over_time(axes: Any, found: Backtest, colours: dict[str, str]) -> None:
    usual = _losses(found, "always")
    for name, colour in colours.items():
        if name in ("always", OPTIMUM):
            continue
        excess = _losses(found, name) - usual
        axes.plot(np.nancumsum(excess) / np.nanmean(usual), color=colour, label=name, lw=1.8)
    axes.axhline(0, color=colours["always"], lw=1.2, label="always")
    axes.set_ylabel("loss more than always retraining,\nadded up, in batches' worth")
    axes.legend(frameon=False, fontsize=8, ncols=3)


def _marks(axes: Any, found: Backtest, colours: dict[str, str]) -> None:
    names = [name for name in colours if name not in ("never", "always")]
    for row, name in enumerate(names):
        steps = found.paths[name][0]
        fitted = [index for index, step in enumerate(steps) if step.fitted]
        refused = [index for index, step in enumerate(steps) if step.fitted and not step.served]
        axes.plot(fitted, [row] * len(fitted), "|", color=colours[name], ms=11, mew=2)
        axes.plot(refused, [row] * len(refused), "x", color="black", ms=4)
    axes.set_yticks(range(len(names)), names, fontsize=8)
    axes.set_ylim(-0.6, len(names) - 0.4)
    axes.set_title("when each trained (x: refused by the gate)", loc="left", fontsize=9)


def _costs(axes: Any, found: Backtest, colours: dict[str, str]) -> None:
    for name, colour in colours.items():
        if name == OPTIMUM:
            continue
        score = found.score(name)
        axes.plot(COSTS, score.loss_vs_always + COSTS * score.fits, color=colour, label=name, lw=1.8)
    axes.plot(
        COSTS, [_best_in_hindsight(found, cost) for cost in COSTS], color=colours[OPTIMUM], ls="--", label=OPTIMUM
    )
    axes.axvline(found.cost, color="#bbbbbb", lw=1)
    axes.set_xscale("log")
    axes.set_xticks([0.01, 0.02, 0.05, 0.1, 0.2, 0.5], ["0.01", "0.02", "0.05", "0.1", "0.2", "0.5"])
    axes.set_ylim(top=max(1.25, found.score(CONFIGURED).loss_vs_always + 0.2))
    axes.set_xlabel("cost of a fit, as a share of one batch's loss (each policy's decisions as they were)")
    axes.set_ylabel("loss + cost,\nalways retraining's loss = 1")
    axes.legend(frameon=False, fontsize=8, ncols=3)


def _best_in_hindsight(found: Backtest, cost: float) -> float:
    """Loss + cost of the best choice of retrains at this price, always retraining's loss being 1."""
    costs = []
    for possible, always in zip(found.possible, found.paths["always"], strict=True):
        steps = possible.best(lambda usual: cost * usual, found.measure)
        usual = np.nanmean([getattr(step, found.measure) for step in always])
        loss = np.nanmean([getattr(step, found.measure) for step in steps])
        costs.append(loss / usual + cost * sum(step.fitted for step in steps) / len(steps))
    return float(np.mean(costs))
