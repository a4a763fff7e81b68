"""What the safeguards are worth on real streams when something goes wrong:

    python -m tests.benchmarks.faults broken         one broken fit, with and without gate and rollback
    python -m tests.benchmarks.faults corrupted      one corrupted batch, with and without contract and suspicion
    python -m tests.benchmarks.faults alternating    a world that alternates: does the rollback flap?
    python -m tests.benchmarks.faults abrupt         a world that changes for good: how long until it is learned?

Losses are 0/1 or absolute error, against always retraining on the same or the clean data; means over three starts.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd

from tasks.core.backtest import rivals
from tasks.core.backtest.compute import Plan
from tasks.core.backtest.fits import Fit, Fits, Missing
from tasks.core.backtest.replay import Replay, Step
from tasks.core.run.assess import DataFindings
from tasks.core.run.labels import LabelFindings
from tasks.core.spec import load_spec
from tasks.core.types import Gate, Verdict
from tests.benchmarks.streams import STREAMS, World, lay_out, write_spec

Change = Callable[[pd.DataFrame], pd.DataFrame]
Steps = Sequence[Step]

# --- the product with a safeguard taken away -----------------------------------------------------------------


class Unguarded(Replay):
    """No gate and no rollback: every fit is put in service and stays."""

    def _gate(self, challenger: Fit) -> Gate:
        return Gate(Verdict.PASS, "not asked", 0)

    def _data(self, place: int) -> DataFindings:
        return replace(super()._data(place), predecessor_ready=False)


class Uncontracted(Replay):
    """Content of the data is not compared with training."""

    def _data(self, place: int) -> DataFindings:
        return replace(super()._data(place), changes=(), novel=())


class Unsuspecting(Replay):
    """Labels are never doubted."""

    def _labels(self, place: int) -> LabelFindings:
        return replace(super()._labels(place), dummy_loss=None)


class Trusting(Uncontracted, Unsuspecting):
    """Neither compared nor doubted."""


# --- broken fits ---------------------------------------------------------------------------------------------


def broken(work: Path, names: Sequence[str]) -> None:
    """The second or the fourth retrain gives a constant predictor, or has learned the newest batch only."""
    print(f"{'stream':<8}{'broken fit':<14}{'unguarded':>10}{'gate+rollback':>15}{'healthy':>9}")
    for name in names:
        root = lay_out(work, name, labels_only=True)
        about = json.loads((STREAMS / "streams.json").read_text())[name]
        write_spec(root, f"{name}-constant", about, factory="constant", batches=name, labels_only=True)
        world = World.open(root, name)
        dumb = Fits(world.history, world.fits.folder, load_spec(root, f"{name}-constant"))
        ways: dict[str, Callable[[Plan], Fit]] = {
            "constant": dumb,
            "newest batch": lambda plan, world=world: world.fits(Plan(plan.train[-1:], gated=True)),  # type: ignore[misc]
        }
        healthy = world.play({"ours": world.product(), "always": world.fixed(rivals.always)}, world.starts())
        for way, fit in ways.items():
            cells = []
            for kind in (Unguarded, Replay):
                paths = [_break(world, kind, start, number, fit, dumb) for number in (2, 4) for start in world.starts()]
                cells.append(_ratio(paths, [*healthy["always"], *healthy["always"]]))
            fine = _ratio(healthy["ours"], healthy["always"])
            print(f"{name:<8}{way:<14}{cells[0]:10.3f}{cells[1]:15.3f}{fine:9.3f}")


def _break(
    world: World, kind: type[Replay], start: int, number: int, fit: Callable[[Plan], Fit], other: Fits
) -> list[Step]:
    """The steps of one start whose `number`-th retrain is the broken one."""
    while True:
        asked: list[Plan] = []

        def fits(plan: Plan, asked: list[Plan] = asked) -> Fit:
            asked.append(plan)
            return fit(plan) if len(asked) == number + 1 else world.fits(plan)  # the first one is v1

        try:
            return kind(world.history, fits, world.spec, 1, start).run()
        except Missing as needed:
            for known in (world.fits, other):
                known.compute([needed.job], lambda: None)


def _ratio(paths: Sequence[Steps], references: Sequence[Steps]) -> float:
    """Mean over starts of a path's mean loss as a multiple of its reference's."""
    pairs = zip(paths, references, strict=True)
    return float(np.mean([_loss(path) / _loss(reference) for path, reference in pairs]))


def _loss(path: Steps) -> float:
    return float(np.nanmean([step.loss for step in path]))


# --- corrupted data ------------------------------------------------------------------------------------------


def shuffled(batch: pd.DataFrame) -> pd.DataFrame:
    return batch.assign(y=np.random.default_rng(0).permutation(batch["y"].to_numpy()))


def inverted(batch: pd.DataFrame) -> pd.DataFrame:
    return batch.assign(y=1 - batch["y"])


def target_x100(batch: pd.DataFrame) -> pd.DataFrame:
    return batch.assign(y=batch["y"] * 100)


def columns_x100(batch: pd.DataFrame) -> pd.DataFrame:
    numbers = [name for name in batch.columns if name not in ("y", "batch") and batch[name].dtype.kind in "fi"][:3]
    return batch.assign(**{name: batch[name] * 100 for name in numbers})


def corrupted(work: Path, names: Sequence[str]) -> None:
    """One batch in the middle, never repaired: loss on all other batches, against always retraining on clean data."""
    kinds = {"all on": Replay, "no contract": Uncontracted, "no suspicion": Unsuspecting, "neither": Trusting}
    print(
        f"{'stream':<8}{'corruption':<14}" + "".join(f"{title:>14}" for title in kinds) + "   rules from that batch on"
    )
    for name in names:
        clean = World.open(lay_out(work, name, labels_only=True), name)
        starts, middle = clean.starts(), len(clean.history) // 2
        base = clean.play({"always": clean.fixed(rivals.always), "ours": clean.product()}, starts)
        references = [_without(path, middle - start) for path, start in zip(base["always"], starts, strict=True)]
        fine = [_without(path, middle - start) for path, start in zip(base["ours"], starts, strict=True)]
        print(f"{name:<8}{'none':<14}{_ratio(fine, references):14.3f}")
        labels = (shuffled, target_x100) if clean.spec.task == "regression" else (shuffled, inverted)
        for change in (*labels, columns_x100):
            world = _changed(work, f"{name}-{change.__name__}", change, [middle])
            paths = world.play({title: world.product(kind=kind) for title, kind in kinds.items()}, starts)
            cells = [
                _ratio([_without(path, middle - start) for path, start in zip(found, starts, strict=True)], references)
                for found in paths.values()
            ]
            rules = [
                step.decided.decision.rule for step in paths["all on"][0][middle - starts[0] :][:3] if step.decided
            ]
            print(
                f"{name:<8}{change.__name__:<14}"
                + "".join(f"{cell:14.3f}" for cell in cells)
                + f"   {', '.join(rules)}"
            )


def _without(path: Steps, place: int) -> list[Step]:
    return [step for index, step in enumerate(path) if index != place]


def _changed(work: Path, name: str, change: Change, places: Sequence[int]) -> World:
    """The stream with some of its batches changed."""

    def alter(batches: list[pd.DataFrame]) -> None:
        for place in places:
            batches[place] = change(batches[place])

    return World.open(lay_out(work, name, change=alter, labels_only=True), name)


# --- worlds that change --------------------------------------------------------------------------------------


def alternating(work: Path, names: Sequence[str]) -> None:
    """Labels are inverted in every other block of batches."""
    for name in names:
        batches = len(World.open(lay_out(work, name, labels_only=True), name).history)
        for block in (1, 2, 4, 8):
            places = [place for place in range(batches) if place // block % 2]
            world = _changed(work, f"{name}-alternating{block}", inverted, places)
            start = world.starts()[0]
            paths = world.play({"ours": world.product(), "always": world.fixed(rivals.always)}, [start])
            ours, always = paths["ours"][0], paths["always"][0]
            letters = _letters(ours)
            print(f"{name}, blocks of {block}: loss {_loss(ours):.3f} (always {_loss(always):.3f}), "
                  f"rolled back {letters.count('R')} times in {len(letters)} batches\n  {letters}")  # fmt: skip
    print("t trained, x refused, R rolled back, h held, . reloaded")


def abrupt(work: Path, names: Sequence[str]) -> None:
    """From the middle on every label is inverted, for good."""
    for name in names:
        batches = len(World.open(lay_out(work, name, labels_only=True), name).history)
        middle = batches // 2
        world = _changed(work, f"{name}-abrupt", inverted, range(middle, batches))
        runs = {"all on": world.product(), "no suspicion": world.product(kind=Unsuspecting)}
        paths = world.play(runs | {"always": world.fixed(rivals.always)}, world.starts())
        for title, found in paths.items():
            after = [path[middle - start :] for path, start in zip(found, world.starts(), strict=True)]
            loss = np.mean([_loss(path[:12]) for path in after])
            waits = (
                ""
                if title == "always"
                else f"; one that learned it serves {[_wait(p, middle) for p in after]} batches on"
            )
            print(f"{name:<8}{title:<14}loss of the 12 batches after the shift {loss:.3f}{waits}")
        print(f"  {_letters(paths['all on'][0][middle - world.starts()[0] - 3 :])} (from three batches before it on)")


def _wait(path: Steps, middle: int) -> int:
    """Batches after the shift until a version is in service that was trained on some of what came after it."""
    learned = (step.decided.attempt.labelled if step.decided and step.decided.attempt else 0 for step in path)
    return next(
        index for index, (step, count) in enumerate(zip(path, learned, strict=True)) if step.served and count > middle
    )


def _letters(path: Steps) -> str:
    signs = {"rollback": "R", "hold": "h", "block": "b"}
    return "".join(
        ("t" if step.served else "x") if step.fitted else signs.get(step.decided.decision.action.value, ".")
        for step in path
        if step.decided
    )


def main() -> None:
    chores = {chore.__name__: chore for chore in (broken, corrupted, alternating, abrupt)}
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("what", choices=chores)
    parser.add_argument("--work", type=Path, default=Path("build/streams"))
    parser.add_argument("--streams", default="elec2,bike")
    asked = parser.parse_args()
    chores[asked.what](asked.work.resolve(), asked.streams.split(","))


if __name__ == "__main__":
    main()
