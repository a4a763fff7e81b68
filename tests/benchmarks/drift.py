"""Do the drift checks cry wolf, do they sleep, and what do they cost?

    python -m tests.benchmarks.drift alarms     false alarms and power by simulation, beside Evidently's defaults
    python -m tests.benchmarks.drift cost [--rows N]     a whole check of N x 50 rows beside Evidently's own

`alarms`: 20 columns (15 numbers, 5 categories), a version trained on 12 batches, windows of the same size afterwards.
An alarm is any column beyond its threshold (ours), half of the columns (preset share), any column (preset any, PSI).
"""

from __future__ import annotations

import argparse
import subprocess
import sys
import tempfile
import time
import warnings
from collections.abc import Callable, Mapping
from functools import partial
from pathlib import Path

import joblib
import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq

from tasks.core.checks import drift, evidently_adapter
from tasks.core.checks.calibration import SCORE, TARGET, calibrate, reference_of
from tasks.core.data.arrow import sample_rows
from tasks.core.data.source import Source
from tasks.core.schema.contract import Contract, infer
from tasks.core.schema.frames import frame
from tasks.core.schema.validation import validate
from tasks.core.spec import parse_spec
from tasks.core.types import Verdict

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
        self.sample = pd.concat(parts, ignore_index=True)
        self.reference = reference_of(self.sample, self.calibration, SAMPLE, seed=0)

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


# --- cost ----------------------------------------------------------------------------------------------------


WIDE = [f"x{place}" for place in range(50)]


def cost(rows: int, rounds: int, memory: list[int]) -> None:
    """Seconds of one check of a Parquet file, alternated with Evidently's own on the same rows; then peak memory."""
    spec = parse_spec(SPEC, "benchmark")
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        write_rows(folder / "training.parquet", 200_000, seed=1)
        source = Source(folder, "training.parquet")
        contract = infer([source], spec)
        sample = frame(contract, source, sample_rows(200_000, SAMPLE, 0))
        parts = [
            part.assign(**{TARGET: 0.0, SCORE: 0.0}) for _, part in sample.groupby(np.arange(SAMPLE) * 10 // SAMPLE)
        ]
        calibration = calibrate(parts, contract, dict.fromkeys(WIDE, 0.02), np.array([]), 0.1, seed=0)
        reference = reference_of(pd.concat(parts, ignore_index=True), calibration, SAMPLE, seed=0)
        joblib.dump((contract, calibration, reference), folder / "version.joblib")
        write_rows(folder / "now.parquet", rows, seed=2)
        now = pd.read_parquet(folder / "now.parquet")
        ways: dict[str, Callable[[], object]] = {
            "ours": lambda: check_file(folder, "now.parquet", rows),
            "DriftedColumnsCount": partial(evidently, sample, now, "DriftedColumnsCount"),
            "DataDriftPreset": partial(evidently, sample, now, "DataDriftPreset"),
        }
        check_file(folder, "now.parquet", rows)  # imports
        taken: dict[str, list[float]] = {}
        for _ in range(rounds):
            for way, run in ways.items():
                began = time.perf_counter()
                run()
                taken.setdefault(way, []).append(time.perf_counter() - began)
        ours = float(np.median(taken["ours"]))
        print(f"{rows:,} x {len(WIDE)} rows, median of {rounds} alternated rounds")
        for way, seconds in taken.items():
            print(f"  {way:<22}{np.median(seconds):8.2f} s   ours / it {ours / np.median(seconds):.3f}", flush=True)
        del now
        for many in memory:
            write_rows(folder / "many.parquet", many, seed=3)
            done = subprocess.run(
                [sys.executable, "-m", "tests.benchmarks.drift", "one", "--folder", name, "--rows", str(many)],
                capture_output=True, text=True, check=True,
            )  # fmt: skip
            print(f"  {many:>12,} rows: {done.stdout.strip()}", flush=True)


def write_rows(path: Path, rows: int, seed: int) -> None:
    """Normal numbers, written in parts, so that writing is no matter of memory either."""
    rng, schema = np.random.default_rng(seed), pa.schema([(name, pa.float64()) for name in WIDE])
    with pq.ParquetWriter(path, schema, compression="none") as writer:
        for start in range(0, rows, 100_000):
            size = min(100_000, rows - start)
            columns = [pa.array(rng.normal(size=size)) for _ in WIDE]
            writer.write_table(pa.Table.from_arrays(columns, schema=schema))


def check_file(folder: Path, name: str, rows: int) -> drift.DriftReport:
    """What a run does with a file: validate every row, sample, compare every column, draw those that matter."""
    contract, calibration, reference = joblib.load(folder / "version.joblib")
    source, spec = Source(folder, name), parse_spec(SPEC, "benchmark")
    assert not validate(contract, source, spec).problems
    window = frame(contract, source, sample_rows(rows, SAMPLE, 0)).assign(**{SCORE: 0.0})
    return drift.check_drift(reference, window, calibration)


def evidently(then: pd.DataFrame, now: pd.DataFrame, what: str) -> object:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        from evidently import Dataset, Report
        from evidently.metrics import DriftedColumnsCount
        from evidently.presets import DataDriftPreset

        described = evidently_adapter.definition(WIDE, [])
        metric = {"DriftedColumnsCount": DriftedColumnsCount, "DataDriftPreset": DataDriftPreset}[what]()
        return Report([metric]).run(Dataset.from_pandas(now, described), Dataset.from_pandas(then, described))


def one(folder: Path, rows: int) -> None:
    """One check in a process of its own: what it takes beyond the libraries that a run has loaded anyway."""

    def peak() -> float:
        """MB; of Linux's own record, because the one of getrusage begins with the peak of the parent process."""
        lines = Path("/proc/self/status").read_text().splitlines()
        return int(next(line for line in lines if line.startswith("VmHWM")).split()[1]) / 2**10

    before, began = peak(), time.perf_counter()
    check_file(folder, "many.parquet", rows)
    print(
        f"{peak() - before:.0f} MB more at its peak, Evidently's import included; {time.perf_counter() - began:.1f} s"
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("what", choices=["alarms", "cost", "one"])
    parser.add_argument("--batches", type=int, default=12)
    parser.add_argument("--replicates", type=int, default=20)
    parser.add_argument("--windows", type=int, default=10)
    parser.add_argument("--sizes", default="100,500,2000,10000")
    parser.add_argument("--rows", type=int, default=1_000_000)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--memory", default="100000,1000000,10000000")
    parser.add_argument("--folder", type=Path)
    asked = parser.parse_args()
    if asked.what == "alarms":
        alarms(asked.batches, asked.replicates, asked.windows, [int(size) for size in asked.sizes.split(",")])
    elif asked.what == "cost":
        cost(asked.rows, asked.rounds, [int(rows) for rows in asked.memory.split(",") if rows])
    else:
        one(asked.folder, asked.rows)


if __name__ == "__main__":
    main()
