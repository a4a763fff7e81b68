"""The five real streams as models, and the policies replayed on them:

    python -m tests.benchmarks.streams policies [--delay 4]      every policy, beside the published baselines
    python -m tests.benchmarks.streams max-age                   max_age 8, 16 and never; the modes of the drift rule
    python -m tests.benchmarks.streams alarms                    batches with an alarm, ours and Evidently's defaults

`--streams flights` replays the demo's flights by week. The other streams are found through ROR_STREAMS. Fits are kept
in --work, so that a second call takes seconds.
"""

from __future__ import annotations

import argparse
import json
import os
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd

from flows.cli.demo import KEY, TARGET, TIME, load_months
from tasks.core.backtest import rivals
from tasks.core.backtest.compute import Alarms, Plan
from tasks.core.backtest.fits import FitOf, Fits, Missing
from tasks.core.backtest.history import History, read_history
from tasks.core.backtest.replay import Replay, Step
from tasks.core.backtest.run import Policy, Question, Score, backtest, scores, starting_points
from tasks.core.checks import evidently_adapter
from tasks.core.data.arrow import sample_rows
from tasks.core.schema.contract import infer
from tasks.core.schema.frames import frame
from tasks.core.spec import ModelSpec, PolicySpec, load_spec

STREAMS = Path(os.environ.get("ROR_STREAMS", Path(__file__).resolve().parents[3] / "shared" / "streams"))
NAMES = ("elec2", "bike", "bank", "pm25", "acs_ma")
COST = 0.05
SMALLEST = 50
"""Batches with fewer rows join the one before."""

BASELINES = {
    1: {
        "never": (1.154, 0.000), "always": (1.000, 0.981), "every-2": (1.015, 0.495), "every-4": (1.038, 0.244),
        "every-8": (1.067, 0.116), "drift-share": (1.004, 0.706), "hindsight optimum": (0.993, 0.281),
    },
    4: {
        "never": (1.076, 0.000), "always": (1.000, 0.980), "every-2": (1.006, 0.495), "every-4": (1.013, 0.243),
        "every-8": (1.023, 0.117), "drift-share": (1.003, 0.746), "hindsight optimum": (0.980, 0.113),
    },
}  # fmt: skip
"""Loss against always retraining and fits per decision, mean of five streams, by an independent harness."""


def lay_out(
    work: Path, name: str, *, change: Callable[[list[pd.DataFrame]], None] | None = None, **pipeline: object
) -> Path:
    """A root that holds the stream as a model, one file a batch; `change` may alter the batches first."""
    root, stream_name = work / name, name.split("-")[0]
    about = {"task": "clf", "categorical": []}
    if stream_name == "flights":
        stream = flights_by_week()
    else:
        about = json.loads((STREAMS / "streams.json").read_text())[stream_name]
        stream = pd.read_parquet(STREAMS / f"{stream_name}.parquet")
    batches: list[pd.DataFrame] = []
    for _, part in stream.groupby("batch", sort=True):
        if batches and len(part) < SMALLEST:
            batches[-1] = pd.concat([batches[-1], part])
        else:
            batches.append(part)
    if change:
        change(batches)
    folder = root / "data" / name / "batches"
    folder.mkdir(parents=True, exist_ok=True)
    for number, part in enumerate(batches):
        part.drop(columns="batch").to_parquet(folder / f"{number:03d}.parquet", index=False)
    write_spec(root, name, about, **pipeline)
    return root


def flights_by_week() -> pd.DataFrame:
    """New York, 2013: late by more than 15 minutes? At most 2,500 flights a week, in time order, 52 weeks."""
    months = load_months()
    known = pd.concat([month.flights for month in months], ignore_index=True)
    known = known.merge(pd.concat([month.labels for month in months]), on=KEY).sort_values([TIME, KEY])
    week = np.minimum(known[TIME].dt.dayofyear // 7, 51)
    known = known.drop(columns=[KEY, TIME]).rename(columns={TARGET: "y"}).assign(batch=week)
    parts = [part.sample(min(len(part), 2_500), random_state=0).sort_index() for _, part in known.groupby("batch")]
    return pd.concat(parts)


def write_spec(
    root: Path,
    name: str,
    about: Mapping[str, object],
    factory: str = "boosting",
    batches: str | None = None,
    **parameters: object,
) -> None:
    task = "binary" if about["task"] == "clf" else "regression"
    settings = ", ".join(f"{key} = {json.dumps(value)}" for key, value in parameters.items())
    (root / "deployments").mkdir(exist_ok=True)
    (root / "deployments" / f"{name}.toml").write_text(
        f'task = "{task}"\ntarget = "y"\nowner = "benchmark"\npurpose = "benchmark"\n'
        f"categorical = {json.dumps(about['categorical'])}\n"
        f'[data]\nbatches = "data/{batches or name}/batches/*"\nsettle = 0\n'
        f'[pipeline]\nfactory = "tests.benchmarks.pipelines:{factory}"\nparameters = {{ {settings} }}\n'
    )


@dataclass(frozen=True)
class World:
    """One stream as a history, with the folder of its fits."""

    name: str
    spec: ModelSpec
    history: History
    fits: Fits

    @classmethod
    def open(cls, root: Path, name: str) -> World:
        spec = load_spec(root, name)
        history = read_history(root, spec)
        return cls(name, spec, history, Fits(history, root / "data" / name / "backtest" / "fits"))

    def starts(self) -> list[int]:
        return starting_points(len(self.history), Question())

    def play(self, policies: Mapping[str, Policy], starts: Sequence[int]) -> dict[str, tuple[tuple[Step, ...], ...]]:
        """Steps of every policy from every start, with fits made as they are asked for."""
        done: dict[tuple[str, int], tuple[Step, ...]] = {}
        while True:
            missing: list[Plan | Alarms] = []
            for name, policy in policies.items():
                for start in starts:
                    if (name, start) not in done:
                        try:
                            done[name, start] = tuple(policy(start))
                        except Missing as needed:
                            missing.append(needed.job)
            if not missing:
                return {name: tuple(done[name, start] for start in starts) for name in policies}
            self.fits.compute(missing, lambda: None)

    def fixed(self, rule: rivals.Rule, delay: int = 1) -> Policy:
        return lambda start: rivals.run(self.history, self.fits, rule, start, delay)

    def product(
        self, delay: int = 1, kind: type[Replay] = Replay, fits: FitOf | None = None, **policy: object
    ) -> Policy:
        """The product with its default policy, or with these settings of it."""
        spec = self.spec.model_copy(update={"policy": PolicySpec.model_validate(policy)})
        return lambda start: kind(self.history, fits or self.fits, spec, delay, start).run()


def show(rows: Mapping[str, Sequence[Score]], baselines: Mapping[str, tuple[float, float]] | None = None) -> None:
    """Mean over streams; a baseline's numbers stand behind ours where there are some."""
    print(
        f"{'policy':<24}{'loss':>7}{'worst':>7}{'fits':>7}{'capt.':>7}{'c(.05)':>8}{'c(.1)':>8}   baseline loss, fits"
    )
    for name, found in rows.items():
        loss, fits = np.mean([s.loss_vs_always for s in found]), np.mean([s.fits for s in found])
        worst = max(s.loss_vs_always for s in found)
        captured = np.mean([s.captured for s in found if s.captured is not None] or [np.nan])
        beside = "   {:.3f}, {:.3f}".format(*baselines[name]) if baselines and name in baselines else ""
        costs = "".join(f"{loss + cost * fits:8.3f}" for cost in (0.05, 0.1))
        print(f"{name:<24}{loss:7.3f}{worst:7.3f}{fits:7.3f}{captured:7.3f}{costs}{beside}")


def policies(work: Path, names: Sequence[str], delay: int, measure: str) -> None:
    """Every policy of `ror backtest` on every stream."""
    rows: dict[str, list[Score]] = {}
    for name in names:
        root, began = lay_out(work, name, labels_only=measure == "loss"), time.monotonic()
        spec = load_spec(root, name)
        folder = root / "data" / name / "backtest" / "fits"
        found = backtest(name, root, spec, folder, Question(delay=delay, measure=measure), lambda *_: None)
        print(f"\n{name}: {found.batches} batches, {time.monotonic() - began:.1f} s")
        show({score.name: [score] for score in found.scores})
        for score in found.scores:
            rows.setdefault(score.name, []).append(score)
    print(f"\nmean of {len(names)} streams, labels {delay} late, {measure}")
    show(rows, BASELINES.get(delay))


def max_age(work: Path, names: Sequence[str], delay: int) -> None:
    """How much the cap on the interval matters, and what the modes of the drift rule do."""
    rows: dict[str, list[Score]] = {}
    for name in names:
        world = World.open(lay_out(work, name, labels_only=True), name)
        runs = {f"max_age {age}": world.product(delay, max_age=age) for age in (8, 16, "never")}
        runs |= {f"drift {mode}": world.product(delay, drift=mode) for mode in ("report", "early-warning", "trigger")}
        runs |= {"never": world.fixed(rivals.never, delay), "always": world.fixed(rivals.always, delay)}
        paths = world.play(runs, starting_points(len(world.history), Question(delay=delay)))
        for score in scores(paths, lambda loss: COST * loss):
            rows.setdefault(score.name, []).append(score)
    show(rows)


def alarms(work: Path, names: Sequence[str], every: int = 4) -> None:
    """Share of batches with an alarm: a version is trained on all batches before every fourth one, and looks at that
    one and the next three; beside it Evidently's defaults, on the same training data and batches."""
    print(f"{'':<9}{'batches':>8}{'drift':>8}{'content':>9}{'rule 9':>8}   preset: {'half':>6}{'any':>7}")
    for name in names:
        world = World.open(lay_out(work, name, labels_only=True), name)
        parts, spec = world.history.parts, world.spec
        starts = range(max(every, len(parts) // 4), len(parts), every)
        plans = {start: Plan(tuple(range(start)), gated=True) for start in starts}
        world.fits.compute(plans.values(), lambda: None)
        contract = infer([part.source for part in parts], spec)
        numeric = {column.name: column.kind != "category" for column in contract.features}
        found = []
        for start, plan in plans.items():
            limit = max(1, spec.checks.sample_rows // start)
            reference = pd.concat(
                [frame(contract, p.source, sample_rows(p.total, limit, spec.seed)) for p in parts[:start]],
                ignore_index=True,
            )
            for place in range(start, min(start + every, len(parts))):
                sight = world.fits(plan).checks(place)
                share = evidently_adapter.preset_share(reference, frame(contract, parts[place].source), numeric)
                seen = sight.drift
                by_rule = seen.weight >= spec.policy.drift_weight or seen.prediction
                moved = bool(seen.drifted) or seen.prediction
                found.append((moved, bool(sight.changes), by_rule, share >= 0.5, share > 0))
        cells = [f"{100 * value:.0f} %" for value in np.mean(found, axis=0)]
        print(
            f"{name:<9}{len(found):>8}{cells[0]:>8}{cells[1]:>9}{cells[2]:>8}{'':>11}{cells[3]:>6}{cells[4]:>7}",
            flush=True,
        )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("what", choices=["policies", "max-age", "alarms"])
    parser.add_argument("--work", type=Path, default=Path("build/streams"))
    parser.add_argument("--streams", default=",".join(NAMES))
    parser.add_argument("--delay", type=int, default=1)
    parser.add_argument("--measure", choices=["loss", "error"], default="loss")
    asked = parser.parse_args()
    names, work = asked.streams.split(","), asked.work.resolve()
    if asked.what == "policies":
        policies(work, names, asked.delay, asked.measure)
    elif asked.what == "alarms":
        alarms(work, names)
    else:
        max_age(work, names, asked.delay)


if __name__ == "__main__":
    main()
