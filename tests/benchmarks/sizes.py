"""Which default pipeline is chosen on the beginnings of real streams, and what that is worth:

    python -m tests.benchmarks.sizes [--rows 300 600 1000] [--starts 0 0.25 0.5]

For each stream, size and starting point (a share of its rows), the loss on the following rows of the three candidates
and of the one that is chosen, as a multiple of what Dummy loses there. The streams are found through ROR_STREAMS.
"""

from __future__ import annotations

import argparse
import json
import math
import tempfile
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from tasks.core.backtest.history import read_history
from tasks.core.checks.performance import dummy, row_losses
from tasks.core.data.rows import LabelledRows, target_of
from tasks.core.spec import ModelSpec, PipelineSpec, load_spec
from tasks.core.training.choice import choose
from tasks.core.training.factory import BOOSTER, ESTIMATORS
from tasks.core.training.fit import learn
from tasks.core.training.holdout import FIRST_HOLDOUT_EVERY, features_of, split
from tasks.core.versions.persistence import predict
from tests.benchmarks.streams import STREAMS, lay_out

ASKED = 1_000
"""Following rows that are asked, and at least half as many as are learned."""


@dataclass(frozen=True)
class Trial:
    """One beginning: what each candidate loses on the rows after it, as a multiple of Dummy's loss."""

    stream: str
    rows: int
    start: float
    losses: dict[str, float]
    chosen: str
    seconds: float
    """That the choice took."""

    @property
    def avoidable(self) -> bool:
        """The choice is worse than Dummy, and another was not."""
        return self.losses[self.chosen] > 1 >= min(self.losses.values())


def section(parts: Sequence[LabelledRows], start: int, end: int) -> list[LabelledRows]:
    """The labelled rows from number `start` to `end` of all parts together."""
    found, before = [], 0
    for part in parts:
        rows = part.rows[max(0, start - before) : max(0, end - before)]
        before += len(part.rows)
        found += [part.part(rows)] if len(rows) else []
    return found


def trial(stream: str, spec: ModelSpec, parts: Sequence[LabelledRows], rows: int, start: float) -> Trial | None:
    total = sum(len(part.rows) for part in parts)
    batches = np.cumsum([0, *(len(part.rows) for part in parts)])
    first = int(batches[np.searchsorted(batches, start * total)])
    if first + rows + ASKED > total:
        return None
    seen, asked = (
        section(parts, first, first + rows),
        section(parts, first + rows, first + rows + max(ASKED, rows // 2)),
    )
    began = time.perf_counter()
    choice = choose(spec, seen)
    seconds = time.perf_counter() - began
    learned, truth, losses = split(seen, FIRST_HOLDOUT_EVERY).learn, target_of(asked), {}
    guessed = row_losses(dummy(target_of(learned), spec.task, len(truth)), truth, spec.task).mean()
    for estimator in ESTIMATORS:
        pipeline = PipelineSpec(parameters={"estimator": estimator})
        fitted = learn(spec.model_copy(update={"pipeline": pipeline}), learned)
        answers = predict(fitted.pipeline, features_of(fitted.contract, asked))
        losses[estimator] = float(row_losses(answers, truth, spec.task).mean() / guessed)
    return Trial(stream, rows, start, losses, choice.estimator if choice else BOOSTER, seconds)


def show(trials: Sequence[Trial]) -> None:
    print(f"{'stream':8} {'rows':>6} {'start':>5}  {'  '.join(f'{name:>13}' for name in ESTIMATORS)}  chosen")
    for one in trials:
        losses = "  ".join(f"{one.losses[name]:13.3f}" for name in ESTIMATORS)
        mark = "  worse than Dummy, and another is not" if one.avoidable else ""
        print(f"{one.stream:8} {one.rows:6,} {one.start:5.2f}  {losses}  {one.chosen} in {one.seconds:.1f} s{mark}")
    print("\ngeometric means")
    for rows in sorted({one.rows for one in trials}):
        some = [one for one in trials if one.rows == rows]
        columns = [[one.losses[name] for one in some] for name in ESTIMATORS]
        columns += [[one.losses[one.chosen] for one in some], [min(one.losses.values()) for one in some]]
        means = [math.exp(float(np.mean(np.log(column)))) for column in columns]
        names = [*ESTIMATORS, "chosen", "best in hindsight"]
        print(f"{rows:8,} rows: " + ", ".join(f"{name} {mean:.3f}" for name, mean in zip(names, means, strict=True)))
    print(f"worse than Dummy where another is not: {sum(one.avoidable for one in trials)} of {len(trials)}")


def main() -> None:
    arguments = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    arguments.add_argument("--rows", type=int, nargs="+", default=[300, 600, 1_000])
    arguments.add_argument("--starts", type=float, nargs="+", default=[0.0, 0.25, 0.5])
    asked = arguments.parse_args()
    trials = []
    with tempfile.TemporaryDirectory() as folder:
        for stream in json.loads((STREAMS / "streams.json").read_text()):
            root = lay_out(Path(folder), stream)
            spec = load_spec(root, stream).model_copy(update={"pipeline": PipelineSpec()})
            parts = read_history(root, spec).parts
            found = (trial(stream, spec, parts, rows, start) for rows in asked.rows for start in asked.starts)
            trials += [one for one in found if one]
    show(trials)


if __name__ == "__main__":
    main()
