"""Run a backtest: every policy on one history, from several starting points, and what each would have cost."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from tasks.core.backtest import rivals
from tasks.core.backtest.compute import Alarms, Plan
from tasks.core.backtest.fits import Fits, Missing
from tasks.core.backtest.history import History, read_history
from tasks.core.backtest.replay import Replay, Step
from tasks.core.errors import InvalidRequest, SpecError
from tasks.core.spec import Forgetting, ModelSpec, PolicySpec, parse_spec
from tasks.core.training.choice import settle
from tasks.core.versions.manifest import Manifest

CONFIGURED, OPTIMUM, WINDOWS = "configured", "hindsight optimum", (4, 8, 16)


@dataclass(frozen=True, slots=True)
class Score:
    """What a policy would have cost, as means over the starting points."""

    name: str
    loss: float
    """Mean over batches of the batch's mean loss."""
    retrains: float
    """Versions put in service."""
    fits: float
    """Attempts to train, as a share of the decisions."""
    loss_vs_always: float
    """Loss as a multiple of always retraining's."""
    captured: float | None
    """Share of the gain from never to always retraining; None where always gains nothing."""
    cost: float
    """`loss_vs_always` + the price of a fit x `fits`."""


@dataclass(frozen=True)
class Backtest:
    """A finished backtest."""

    model: str
    batches: int
    decisions: int
    """Scored batches from the first starting point on."""
    delay: int
    cost: float
    """Price of a fit, as a share of what a batch loses under always retraining."""
    measure: str
    """What `loss` is: the product's own per-row loss, or `error`."""
    scores: tuple[Score, ...]
    paths: Mapping[str, tuple[tuple[Step, ...], ...]]
    """For each policy the steps from each starting point."""
    possible: tuple[rivals.HindsightTable, ...]
    """For each starting point, what any choice of retrains could have had."""
    left_out: Mapping[str, str]

    def score(self, name: str) -> Score:
        """What a policy of this name would have cost."""
        return next(score for score in self.scores if score.name == name)


@dataclass(frozen=True, slots=True)
class Question:
    """What to replay."""

    delay: int = 1
    """Batches after which labels are known."""
    starts: int = 3
    """Starting points, two batches apart."""
    measure: str = "loss"
    """`loss`, the one that rules and gate use, or `error`: 0/1 error for classes."""


Progress = Callable[[str, int, int], None]
"""Called with what is being done, how much of it is done, and how much there is."""


def backtest(
    model: str,
    root: Path,
    spec: ModelSpec,
    folder: Path,
    question: Question,
    progress: Progress,
    others: Mapping[str, PolicySpec] | None = None,
    workers: int = -1,
    champion: Manifest | None = None,
) -> Backtest:
    """Replay every policy, and `others` by name like the configured one. Fits are kept in `folder`; an interrupted
    backtest goes on from what is there.

    The default pipeline is that of the version in service, `champion`; without one it is chosen once, as production
    would at the first starting point.

    Raises InvalidRequest for a delay below 1 and for more starting points than the history has room for, SpecError when
    there is too little history for any question, DataError where its beginning contradicts itself.
    """
    if question.delay < 1:
        raise InvalidRequest(
            "delay", ["must be at least 1: a batch cannot be scored by a version that knows its labels"]
        )
    history = read_history(root, spec)
    starts = starting_points(len(history), question)
    spec, _ = settle(spec, history.parts[: starts[0]], champion)
    history = replace(history, spec=spec)
    fits = Fits(history, folder)
    _fit_all(fits, starts, question, progress, workers)
    runs = _policies(history, fits, spec, question, others or {})
    paths = _replay(fits, runs, starts, progress, workers)
    price, measure = price_of(spec, history), question.measure
    usual = float(np.nanmean([getattr(step, measure) for step in paths["always"][0]]))
    return Backtest(
        model=model,
        batches=len(history),
        decisions=len(history) - starts[0],
        delay=question.delay,
        cost=price(usual) / usual if usual else 0.0,
        measure=measure,
        scores=tuple(scores(paths, price, measure)),
        paths=paths,
        possible=tuple(rivals.possible(history, fits, start, question.delay) for start in starts),
        left_out=history.left_out,
    )


def price_of(spec: ModelSpec, history: History) -> rivals.Price:
    """The policy's price of a fit, for batches of this history's size."""
    rows = float(np.mean([len(part.rows) for part in history.parts]))
    return lambda loss: spec.policy.price(loss, rows)


def at_cost(spec: ModelSpec, cost: float) -> ModelSpec:
    """The specification with another retrain_cost, for its decisions and for the table. Raises InvalidRequest."""
    policy = {**spec.policy.model_dump(), "retrain_cost": cost, "retrain": None, "error": None}
    try:
        return parse_spec({**spec.model_dump(), "policy": policy}, "cost")
    except SpecError as error:
        raise InvalidRequest("cost", error.problems) from None


def usual_delay(spec: ModelSpec) -> int:
    """Batches after which labels are known, as far as the model's file says; 1 where it does not."""
    return max(1, spec.data.label_delay or 1)


def starting_points(batches: int, question: Question) -> list[int]:
    """The first max(4, 15 %) batches train the first version; later starts are two batches further each."""
    first = max(4, math.ceil(0.15 * batches))
    starts = [first + 2 * number for number in range(question.starts)]
    if starts[-1] > batches - 2:
        raise InvalidRequest(
            "starts", [f"{batches} labelled batches are too few for {question.starts} starting points: try 1"]
        )
    return starts


Policy = Callable[[int], list[Step]]
"""The steps of a policy from a starting point on; raises Missing."""


def _policies(
    history: History, fits: Fits, spec: ModelSpec, question: Question, others: Mapping[str, PolicySpec]
) -> dict[str, Policy]:
    delay, price = question.delay, price_of(spec, history)

    def simple(rule: rivals.Rule) -> Policy:
        return lambda start: rivals.run(history, fits, rule, start, delay)

    def tutorial(start: int) -> list[Step]:
        return rivals.run(history, fits, rivals.when(fits.alarms(Alarms(start, delay))), start, delay)

    def configured(policy: ModelSpec) -> Policy:
        return lambda start: Replay(history, fits, policy, delay, start).run()

    return {
        CONFIGURED: configured(spec),
        **{name: configured(spec.model_copy(update={"policy": policy})) for name, policy in others.items()},
        "never": simple(rivals.never),
        "always": simple(rivals.always),
        **{f"every-{batches}": simple(rivals.every(batches)) for batches in (2, 4, 8, 16)},
        **{f"window-{batches}": configured(_window(spec, batches)) for batches in WINDOWS},
        "drift-share": tutorial,
        "performance-drop": simple(rivals.performance_drop),
        OPTIMUM: lambda start: rivals.possible(history, fits, start, delay).best(price, question.measure),
    }


def _window(spec: ModelSpec, batches: int) -> ModelSpec:
    policy = spec.policy.model_copy(update={"forgetting": Forgetting(window=batches)})
    return spec.model_copy(update={"policy": policy})


def _fit_all(fits: Fits, starts: Sequence[int], question: Question, progress: Progress, workers: int) -> None:
    """One fit per batch end: all that the fixed policies and hindsight need."""
    ends = range(starts[0], max(starts[-1], len(fits.history) - question.delay) + 1)
    jobs: list[Plan | Alarms] = [Plan(tuple(range(end)), gated=False) for end in ends]
    jobs += [Alarms(start, question.delay) for start in starts]
    done = sum(fits.path(job).exists() for job in jobs)

    def count(finished: int = 1) -> None:
        nonlocal done
        done += finished
        progress("one fit per batch", done, len(jobs))

    count(0)
    fits.compute(jobs, count, workers)


def _replay(
    fits: Fits, runs: Mapping[str, Policy], starts: Sequence[int], progress: Progress, workers: int
) -> dict[str, tuple[tuple[Step, ...], ...]]:
    """Replay until no fit is missing: each round computes what every replay waits for, in parallel."""
    finished: dict[tuple[str, int], tuple[Step, ...]] = {}
    everything = [(name, start) for name in runs for start in starts]
    while True:
        missing: list[Plan | Alarms] = []
        for name, start in everything:
            if (name, start) in finished:
                continue
            try:
                finished[name, start] = tuple(runs[name](start))
            except Missing as needed:
                missing.append(needed.job)
        progress("policies replayed", len(finished), len(everything))
        if not missing:
            return {name: tuple(finished[name, start] for start in starts) for name in runs}
        fits.compute(missing, lambda: None, workers)


# --- scores --------------------------------------------------------------------------------------------------


def scores(paths: Mapping[str, Sequence[Sequence[Step]]], price: rivals.Price, measure: str = "loss") -> list[Score]:
    """One score a policy, on the batches that every policy predicted."""
    rows = {name: [] for name in paths}  # type: dict[str, list[tuple[float, ...]]]
    for number in range(len(paths["always"])):
        losses = {name: np.array([getattr(step, measure) for step in paths[name][number]]) for name in paths}
        common = ~np.isnan(np.array(list(losses.values()))).any(axis=0)
        means = {name: float(values[common].mean()) for name, values in losses.items()}
        for name, steps in paths.items():
            run = steps[number]
            gain = means["never"] - means["always"]
            rows[name].append(
                (
                    means[name],
                    sum(step.served for step in run),
                    sum(step.fitted for step in run) / len(run),
                    means[name] / means["always"] if means["always"] else np.nan,
                    (means["never"] - means[name]) / gain if gain > 0 else np.nan,
                    price(means["always"]) / means["always"] if means["always"] else np.nan,
                )
            )
    found = []
    for name, values in rows.items():
        loss, retrains, fits, relative = np.mean([row[:4] for row in values], axis=0)
        cost = float(np.mean([row[5] for row in values]))
        captured = [row[4] for row in values if not np.isnan(row[4])]
        found.append(
            Score(
                name=name,
                loss=float(loss),
                retrains=float(retrains),
                fits=float(fits),
                loss_vs_always=float(relative),
                captured=float(np.mean(captured)) if captured else None,
                cost=float(relative + cost * fits),
            )
        )
    return found
