"""Do the drift checks cry wolf, do they sleep, and what do they cost?

    python -m tests.benchmarks.drift alarms     false alarms and power by simulation, beside Evidently's defaults
    python -m tests.benchmarks.drift cost [--rows N]     a whole check of N x 50 rows beside Evidently's own

`alarms`: 20 columns (15 numbers, 5 categories), a version trained on 12 batches, windows of the same size afterwards.
An alarm is any column beyond its threshold (ours), half of the columns (preset share), any column (preset any, PSI).
"""

from __future__ import annotations

import argparse
import tempfile
import warnings
from collections.abc import Callable, Mapping
from pathlib import Path

import numpy as np
import pandas as pd

from tasks.core import drift
from tasks.core.batches import Source
from tasks.core.calibration import SCORE, TARGET, calibrate, reference_of
from tasks.core.columns import sample_rows
from tasks.core.contract import Contract, infer
from tasks.core.spec import parse_spec
from tasks.core.types import Verdict
from tasks.core.validation import validate

NUMBERS = [f"n{place}" for place in range(15)]
NAMES = [f"c{place}" for place in range(5)]
LEVELS = np.array(["north", "east", "south", "west", "centre"])
SHARES = np.log([0.4, 0.25, 0.15, 0.12, 0.08])
SAMPLE = 20_000
SPEC = {"task": "regression", "target": "y", "owner": "-", "purpose": "-", "data": {"batches": "*"}}

Change = Callable[[pd.DataFrame, np.random.Generator], pd.DataFrame]


def window(rows: int, wobble: float, rng: np.random.Generator) -> pd.DataFrame:
    """Standard normal numbers whose means wobble from window to window, and categories whose log-odds do."""
    columns: dict[str, np.ndarray] = {
        name: rng.normal(size=rows) + rng.normal(scale=wobble) if wobble else rng.normal(size=rows) for name in NUMBERS
    }
    for name in NAMES:
        odds = np.exp(SHARES + rng.normal(size=len(LEVELS)) * wobble)
        columns[name] = rng.choice(LEVELS, rows, p=odds / odds.sum())
    return pd.DataFrame(columns)


def _shift(names: list[str], by: float) -> Change:
    return lambda frame, _: frame.assign(**{name: frame[name] + by for name in names})


def _new_category(frame: pd.DataFrame, rng: np.random.Generator) -> pd.DataFrame:
    return frame.assign(c0=np.where(rng.random(len(frame)) < 0.02, "abroad", frame["c0"]))


def _outlier(frame: pd.DataFrame, _: np.random.Generator) -> pd.DataFrame:
    return frame.assign(n0=np.concatenate([[1e9], frame["n0"].to_numpy()[1:]]))


CHANGES: Mapping[str, tuple[Change, list[str]]] = {
    "0.25 sd in one": (_shift(["n0"], 0.25), ["n0"]),
    "0.1 sd in five": (_shift(NUMBERS[:5], 0.1), NUMBERS[:5]),
    "sd x 1.3 in one": (lambda frame, _: frame.assign(n0=frame["n0"] * 1.3), ["n0"]),
    "new category 2 %": (_new_category, ["c0"]),
    "outlier of 1e9": (_outlier, ["n0"]),
}
"""What happens to a window, and to which of its columns."""


class Trained:
    """What a version keeps of its training batches: schema, calibration and reference; and the data, for the others."""

    def __init__(self, folder: Path, batches: int, rows: int, wobble: float, rng: np.random.Generator):
        self.folder, self.spec = folder, parse_spec(SPEC, "benchmark")
        whole = [window(rows, wobble, rng) for _ in range(batches)]
        self.contract: Contract = infer([self._put(frame) for frame in whole], self.spec)
        limit = SAMPLE // batches
        parts = [frame.iloc[sample_rows(rows, limit, 0)].assign(**{TARGET: 0.0, SCORE: 0.0}) for frame in whole]
        weights = dict.fromkeys(self.contract.names, 1 / len(self.contract.names))
        self.calibration = calibrate(parts, self.contract, weights, np.array([]), 0.1, seed=0)
        self.reference = reference_of(parts, self.calibration, SAMPLE, seed=0)
        self.sample = pd.concat(parts, ignore_index=True)

    def _put(self, frame: pd.DataFrame) -> Source:
        path = self.folder / f"{np.random.default_rng().integers(2**62)}.parquet"
        frame.to_parquet(path, index=False)
        return Source(self.folder, path.name)

    def alarms(self, frame: pd.DataFrame) -> set[str]:
        """Columns that drifted, or whose content changed."""
        sample = frame.iloc[sample_rows(len(frame), SAMPLE, 0)]
        found = set(drift.drift_evidence(self.reference, sample, self.calibration).drifted)
        source = self._put(frame)
        changes = validate(self.contract, source, self.spec).changes
        (self.folder / source.path).unlink()
        return found | {c.name.removeprefix("content:") for c in changes if c.verdict is Verdict.FAIL}

    def preset(self, frame: pd.DataFrame, method: str | None = None) -> set[str]:
        """Columns that Evidently calls drifted: by its own choice of test, or by PSI, at its defaults."""
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            from evidently.legacy.calculations.stattests import get_stattest, psi_stat_test
            from evidently.legacy.core import ColumnType

            found = set()
            for name in frame.columns:
                kind = ColumnType.Categorical if name in NAMES else ColumnType.Numerical
                then, now = self.sample[name], frame[name]
                test = psi_stat_test if method == "psi" else get_stattest(then, now, kind, None)
                if test(then, now, kind, None).drifted:
                    found.add(name)
        return found


def alarms(batches: int, replicates: int, windows: int, sizes: list[int]) -> None:
    """Share of windows with an alarm, quiet and changed ones. The baselines see every fourth window only: they are
    slow."""
    print(f"{batches} training batches; {replicates} versions x {windows} windows a line; alarms, per cent of windows")
    print(f"{'rows':>6} {'wobble':>6}  {'':<18}{'ours':>7}{'share':>7}{'any':>7}{'PSI':>7}")
    for rows in sizes:
        for wobble in (0.0, 0.05, 0.1):
            found: dict[str, dict[str, list[bool]]] = {}
            for replicate in range(replicates):
                rng = np.random.default_rng([rows, int(wobble * 100), replicate])
                with tempfile.TemporaryDirectory() as folder:
                    trained = Trained(Path(folder), batches, rows, wobble, rng)
                    for number in range(windows):
                        for what, verdicts in _one(trained, window(rows, wobble, rng), rng, number % 4 == 0).items():
                            for who, verdict in verdicts.items():
                                found.setdefault(what, {}).setdefault(who, []).append(verdict)
            for what, verdicts in found.items():
                cells = "".join(f"{100 * np.mean(verdicts[who]):7.1f}" for who in ("ours", "share", "any", "PSI"))
                print(f"{rows:>6} {wobble:>6}  {what:<18}{cells}", flush=True)


def _one(trained: Trained, quiet: pd.DataFrame, rng: np.random.Generator, beside: bool) -> dict[str, dict[str, bool]]:
    """Verdicts on one window as it is, and on what becomes of it; alarms on other columns than the changed ones are
    false also there, and do not count as power."""
    ours = trained.alarms(quiet)
    preset, psi = (trained.preset(quiet), trained.preset(quiet, "psi")) if beside else (set(), set())
    found = {"quiet": _verdicts(bool(ours), len(preset), bool(preset), bool(psi), beside)}
    for what, (change, names) in CHANGES.items():
        changed = change(quiet, rng)
        hit = bool(trained.alarms(changed) & set(names))
        if beside:
            part = changed[names]
            now, by_psi = trained.preset(part), trained.preset(part, "psi")
            count = len((preset - set(names)) | now)
            found[what] = _verdicts(hit, count, bool(now), bool(by_psi), beside)
        else:
            found[what] = {"ours": hit}
    return found


def _verdicts(ours: bool, count: int, preset_any: bool, psi: bool, beside: bool) -> dict[str, bool]:
    if not beside:
        return {"ours": ours}
    return {"ours": ours, "share": count >= 0.5 * (len(NUMBERS) + len(NAMES)), "any": preset_any, "PSI": psi}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("what", choices=["alarms"])
    parser.add_argument("--batches", type=int, default=12)
    parser.add_argument("--replicates", type=int, default=20)
    parser.add_argument("--windows", type=int, default=10)
    parser.add_argument("--sizes", default="100,500,2000,10000")
    asked = parser.parse_args()
    alarms(asked.batches, asked.replicates, asked.windows, [int(size) for size in asked.sizes.split(",")])


if __name__ == "__main__":
    main()
