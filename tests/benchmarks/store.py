"""What verifying costs: loading, registering, and a first answer from a fresh process.

    python -m tests.benchmarks.store load [--large 200]    verified load beside joblib.load of the same file
    python -m tests.benchmarks.store register [--mlflow-python PATH]    registering beside MLflow and pins
    python -m tests.benchmarks.store fresh        import, load and predict one row, in a process of its own
    python -m tests.benchmarks.store all [--rounds 15]

Everything is repeated --rounds times, alternated, medians; the ratio is to the baseline named in the line. The rivals
run in an environment of their own, which does not outlive the benchmark:

    python -m venv rivals && rivals/bin/pip install mlflow pins scikit-learn==... numpy==... pandas==...   (those here)
"""

from __future__ import annotations

import argparse
import gc
import hashlib
import json
import os
import platform
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, replace
from functools import partial
from importlib.metadata import version as version_of
from pathlib import Path
from typing import Any
from unittest.mock import patch

import joblib
import numpy as np
import pandas as pd
from sklearn.compose import ColumnTransformer
from sklearn.ensemble import RandomForestClassifier
from sklearn.linear_model import LogisticRegression
from sklearn.neighbors import KNeighborsClassifier
from sklearn.pipeline import Pipeline
from sklearn.preprocessing import OneHotEncoder, StandardScaler

from tasks.core.data.files import find_batches
from tasks.core.data.labels import Labels
from tasks.core.data.rows import labelled_rows
from tasks.core.ledger.events import Event, Promoted
from tasks.core.ledger.ledger import Head, Ledger
from tasks.core.ledger.state import State
from tasks.core.records import from_dict, from_json
from tasks.core.schema import contract, frames, validation
from tasks.core.spec import parse_spec
from tasks.core.training import challenger, factory, proof
from tasks.core.training.fit import PROBE_ROWS
from tasks.core.types import BatchRecord, Served
from tasks.core.versions import environment, persistence, registry
from tasks.core.versions import loading as revive
from tasks.core.versions.loaded import LoadedVersion
from tasks.core.versions.manifest import Candidate, Manifest
from tasks.core.versions.registry import Registry
from tests.benchmarks.drift import NAMES, NUMBERS, window

MODEL = "model"
BATCHES = 60
"""Batches that the history knows of: they are what makes an event long."""
EVENTS = 100
WHO = {"run": "benchmark", "key": "benchmark", "actor": "benchmark", "reason": "benchmark"}
SPEC = {
    "task": "binary", "target": "y", "key": "id", "owner": "-", "purpose": "-",
    "data": {"batches": "*.parquet", "settle": 0}, "pipeline": {"parameters": {"max_iter": 60}},
}  # fmt: skip

Way = Callable[[], object]
Taken = dict[str, list[float]]


# --- measuring -----------------------------------------------------------------------------------------------


def alternate(ways: Mapping[str, Way], rounds: int) -> Taken:
    """Seconds of every way, round after round; a first round, which imports and fills caches, does not count.

    A way may tell its own seconds.
    """
    taken: Taken = {name: [] for name in ways}
    for number in range(rounds + 1):
        for name, way in ways.items():
            registry._LOADED.clear()  # what is kept would be searched by every garbage collection
            gc.collect()
            began = time.perf_counter()
            told = way()
            if number:
                taken[name].append(told if isinstance(told, float) else time.perf_counter() - began)
    return taken


def median(seconds: list[float]) -> float:
    """In milliseconds."""
    return 1e3 * float(np.median(seconds))


@contextmanager
def unchecked() -> Iterator[None]:
    """A verified load without the environment and without the known answers: history, record, digests, unpickling."""
    with ExitStack() as stack:
        for module, name in [
            (environment, "check_environment"),
            (persistence, "replay_probe"),
            (validation, "conform"),
            (revive, "read_parquet"),
        ]:
            stack.enter_context(patch.object(module, name, lambda *_, **__: ()))
        yield


# --- versions ------------------------------------------------------------------------------------------------


def rows_of(count: int, seed: int) -> pd.DataFrame:
    """15 numbers, 5 categories and a yes-or-no target that depends on some of them."""
    rng = np.random.default_rng(seed)
    rows = window(count, 0.05, rng)
    signal = rows["n0"] + rows["n1"] * rows["n2"] + (rows["c0"] == "north") + rng.logistic(size=count)
    return rows.assign(id=np.arange(count), y=(signal > 0).astype(int))


def trained(root: Path) -> Candidate:
    """A version as a run makes it, of four batches of 8,000 rows: all that stands beside the pipeline is real."""
    spec = parse_spec(SPEC, "benchmark")
    for number in range(4):
        rows_of(8_000, number).to_parquet(root / f"{number}.parquet", index=False)
    labels = Labels(root, spec)
    history = [labelled_rows(root, batch, labels, spec.task) for batch in find_batches(root, spec)]
    return challenger.train(root, spec, history, None, "retrain", ["benchmark"]).candidate


def boosting(max_iter: int, leaves: int = 31) -> Pipeline:
    return factory.tabular("binary", 0, max_iter=max_iter, max_leaf_nodes=leaves)


def forest(trees: int, leaves: int) -> Pipeline:
    columns = boosting(1).named_steps["columns"]
    model = RandomForestClassifier(trees, max_leaf_nodes=leaves, random_state=0, n_jobs=1)
    return Pipeline([("columns", columns), ("model", model)])


def linear() -> Pipeline:
    columns = [("numbers", StandardScaler(), NUMBERS), ("categories", OneHotEncoder(handle_unknown="ignore"), NAMES)]
    return Pipeline([("columns", ColumnTransformer(columns)), ("model", LogisticRegression())])


def neighbours() -> Pipeline:
    """Its training rows are its model: one large array."""
    columns = ColumnTransformer([("numbers", "passthrough", NUMBERS)])
    return Pipeline([("columns", columns), ("model", KNeighborsClassifier(algorithm="brute"))])


def pipelines(large: int) -> Iterator[tuple[str, Pipeline]]:
    """Fitted pipelines, each with its name: trees of about 0.5, 2 and 20 MB, a linear one, and one of `large` MB."""
    rows = rows_of(20_000, 9)
    features, target = rows[[*NUMBERS, *NAMES]], rows["y"]
    for name, pipeline in {
        "linear": linear(),
        "boosting, 70 trees": boosting(70),
        "boosting, 270 trees": boosting(270),
        "boosting, 640 trees": boosting(640, leaves=127),
        "forest, 50 trees": forest(50, leaves=60),
        "forest, 100 trees": forest(100, leaves=130),
        "forest, 200 trees": forest(200, leaves=650),
    }.items():
        yield name, pipeline.fit(features, target)
    if large:
        chosen = np.random.default_rng(0).integers(len(rows), size=large * 2**20 // (8 * (len(NUMBERS) + 1)))
        yield "neighbours", neighbours().fit(features.iloc[chosen], target.iloc[chosen])


@dataclass(frozen=True)
class Shelf:
    """One store with one model: a candidate whose pipeline is exchanged, and a history of some length."""

    folder: Path
    candidate: Candidate
    registry: Registry

    @classmethod
    def make(cls, folder: Path) -> Shelf:
        (folder / "data").mkdir()
        shelf = cls(folder, trained(folder / "data"), Registry(folder / "store"))
        batches = {f"2026-{number:03d}": BatchRecord("a" * 64, 8_000, "b" * 64, 8_000) for number in range(BATCHES)}
        head = Head(0, None, State(batches=batches))
        for _ in range(EVENTS):
            shelf.ledger.append(head, Promoted(Served(1, "c" * 64, 4)), **WHO)
            head = shelf.ledger.head()
        return shelf

    @property
    def ledger(self) -> Ledger:
        return self.registry.ledger(MODEL)

    def candidate_of(self, pipeline: Pipeline) -> Candidate:
        """What a run has when it registers: the bytes, the known answers, the environment."""
        probe = self.candidate.probe[self.candidate.contract.names].head(PROBE_ROWS)  # not all take the awkward ones
        saved = persistence.dump(pipeline)
        return replace(
            self.candidate,
            pipeline=saved.data,
            probe=persistence.make_probe(pipeline, probe),
            environment=environment.environment_of(saved.modules, self.folder),
        )

    def register(self, candidate: Candidate) -> Path:
        """Register and put in service; the folder of the version."""
        number, sha256 = self.registry.register(MODEL, "benchmark", candidate)
        self.ledger.append(self.ledger.head(), Promoted(Served(number, sha256, data_end=4)), **WHO)
        return self.folder / "store" / MODEL / "versions" / f"{number:08d}"

    def load(self) -> LoadedVersion:
        """The version in service, from the ledger's head on, as if it had never been loaded."""
        served = self.ledger.head().state.current
        assert served is not None
        return self.registry.load(MODEL, served, fresh=True, whole=False)


# --- load ----------------------------------------------------------------------------------------------------


def load(rounds: int, large: int) -> None:
    """Verified load beside joblib.load, then where the time goes, in milliseconds.

    `joblib` loads what joblib.dump wrote of the same pipeline, `+ sha256` reads and hashes that file first, `ours by`
    is joblib.load of the file in our store.
    """
    print(
        f"{'verified load, ms':<22}{'MB':>7}{'joblib':>9}{'+ sha256':>9}{'ours':>9}{'ratio':>7}{'to both':>8}", end=""
    )
    print(f"{'complete':>10}{'env+probe':>10}{'again':>7}")
    profile: dict[str, dict[str, float]] = {}
    with tempfile.TemporaryDirectory() as name:
        shelf = Shelf.make(Path(name))
        for what, pipeline in pipelines(large):
            stored = shelf.register(shelf.candidate_of(pipeline)) / "pipeline.joblib"
            file = shelf.folder / "baseline.joblib"
            joblib.dump(pipeline, file)
            del pipeline
            size = file.stat().st_size / 2**20
            few = rounds if size < 50 else max(3, rounds // 3)
            taken = alternate(
                {
                    "joblib": partial(joblib.load, file),
                    "and sha256": partial(_joblib_and_sha256, file),
                    "stored": partial(joblib.load, stored),
                    "ours": partial(_unchecked_load, shelf),
                    "complete": shelf.load,
                },
                few,
            )
            bare, both, same, ours, whole = (
                median(taken[way]) for way in ("joblib", "and sha256", "stored", "ours", "complete")
            )
            shelf.registry.load_current(MODEL)
            began = time.perf_counter()
            for _ in range(100):
                shelf.registry.load_current(MODEL)
            again = 1e3 * (time.perf_counter() - began) / 100
            print(
                f"{what:<22}{size:7.2f}{bare:9.2f}{both:9.2f}{same:9.2f}{ours:9.2f}{ours / bare:7.2f}{ours / both:8.2f}"
                f"{whole:10.2f}{whole - ours:10.2f}{again:7.2f}",
                flush=True,
            )
            profile[what] = {part: median(seconds) for part, seconds in alternate(parts(shelf), few).items()}
    print("\nwhere the time goes, ms (each alone)")
    for part in next(iter(profile.values())):
        print(f"  {part:<32}" + "".join(f"{times[part]:9.2f}" for times in profile.values()))


def _joblib_and_sha256(file: Path) -> None:
    hashlib.sha256(file.read_bytes()).hexdigest()
    joblib.load(file)


def _unchecked_load(shelf: Shelf) -> None:
    with unchecked():
        shelf.load()


def parts(shelf: Shelf) -> dict[str, Way]:
    """What a verified load is made of."""
    served = shelf.ledger.head().state.current
    assert served is not None
    manifest, _ = shelf.registry.manifest(MODEL, served.version, served.manifest)
    at = f"{MODEL}/versions/{served.version:08d}"
    files = {name: shelf.registry.store.read(f"{at}/{name}") for name in manifest.files}
    seq = shelf.ledger.head().seq
    head = shelf.registry.store.read(f"{MODEL}/ledger/{seq:08d}.json")
    record = shelf.registry.store.read(f"{at}/manifest.json")
    known = from_json(contract.Contract, files["contract.json"], "contract.json")
    probe = pd.read_parquet(shelf.folder / "store" / at / "probe.parquet")
    recorded = from_dict(environment.Environment, manifest.environment)
    pipeline = persistence.load(files["pipeline.joblib"])
    inputs = frames.conform(known, probe)
    whole: dict[str, Way] = {
        "ledger head": shelf.ledger.head,
        "  of it: parse the event": lambda: from_json(Event, head, "event"),
        "manifest": lambda: shelf.registry.manifest(MODEL, served.version, served.manifest),
        "  of it: parse": lambda: from_json(Manifest, record, "manifest.json"),
    }
    for name in manifest.files:
        whole[f"read + sha256 {name}"] = partial(shelf.registry.file, manifest, name)
    return {
        **whole,
        "  of it: read pipeline": lambda: shelf.registry.store.read(f"{at}/pipeline.joblib"),
        "  of it: sha256 pipeline": lambda: hashlib.sha256(files["pipeline.joblib"]).hexdigest(),
        "parse contract": lambda: from_json(contract.Contract, files["contract.json"], "contract.json"),
        "unpickle the bytes": lambda: persistence.load(files["pipeline.joblib"]),
        "environment": lambda: environment.check_environment(recorded, "it"),
        "probe: read": lambda: pd.read_parquet(shelf.folder / "store" / at / "probe.parquet"),
        "probe: conform": lambda: frames.conform(known, probe),
        "probe: predict, compare": lambda: persistence.replay_probe(pipeline, probe, inputs, "it", exact=True),
    }


# --- register ------------------------------------------------------------------------------------------------


class Rival:
    """`tests/benchmarks/rival.py`, at work in another environment."""

    def __init__(self, python: Path, folder: Path, file: Path):
        script = Path(__file__).with_name("rival.py")
        self._process = subprocess.Popen(
            [python, script, folder, file], stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL,
            text=True, env={name: value for name, value in os.environ.items() if name != "PYTHONPATH"},
        )  # fmt: skip
        self.versions: dict[str, str] = self._read()

    def ways(self, *names: str) -> dict[str, Way]:
        """Those that it can do at all; why it cannot do the others is printed."""
        able: dict[str, Way] = {}
        for name in names:
            try:
                self.ask(name)
                able[name] = partial(self.ask, name)
            except RuntimeError as error:
                print(f"  {name}: {error}")
        return able

    def ask(self, way: str) -> float:
        """Seconds, by its own clock. Raises RuntimeError with its words when it failed."""
        assert self._process.stdin is not None
        self._process.stdin.write(f"{way}\n")
        self._process.stdin.flush()
        said = self._read()
        if "error" in said:
            raise RuntimeError(said["error"])
        return float(said["seconds"])

    def close(self) -> None:
        assert self._process.stdin is not None
        self._process.stdin.close()
        self._process.wait(60)

    def _read(self) -> dict[str, Any]:
        assert self._process.stdout is not None
        line = self._process.stdout.readline()
        if not line:
            raise RuntimeError("the rivals' process ended: run tests/benchmarks/rival.py by hand to see why")
        return dict(json.loads(line))


def register(rounds: int, python: Path | None) -> None:
    """Registering a version and putting it in service, beside MLflow's log + register + alias and a pin; then loads."""
    with tempfile.TemporaryDirectory() as name, ExitStack() as stack:
        shelf = Shelf.make(Path(name))
        rows = rows_of(20_000, 9)
        pipeline = boosting(70).fit(rows[[*NUMBERS, *NAMES]], rows["y"])
        candidate, saved = shelf.candidate_of(pipeline), persistence.dump(pipeline)
        shelf.register(candidate)
        file = shelf.folder / "baseline.joblib"
        joblib.dump(pipeline, file)
        rows[[*NUMBERS, *NAMES]].head(100).to_parquet(Path(name) / "rows.parquet", index=False)
        print(f"register a pipeline of {file.stat().st_size / 2**20:.2f} MB and put it in service; load it")
        making: dict[str, Way] = {
            "ours": lambda: shelf.register(shelf.candidate_of(pipeline)),
            "ours: dump": lambda: persistence.dump(pipeline),
            "ours: known answers": lambda: persistence.make_probe(pipeline, candidate.probe[candidate.contract.names]),
            "ours: environment": lambda: environment.environment_of(saved.modules, shelf.folder),
            "ours: files, record, event": lambda: shelf.register(candidate),
            "ours: the proof, by itself": lambda: proof.prove(candidate, []),
        }
        loading: dict[str, Way] = {"joblib": partial(joblib.load, file), "ours, complete": shelf.load}
        if python:
            rival = Rival(python, Path(name), file)
            stack.callback(rival.close)
            print("  rivals: " + ", ".join(f"{what} {number}" for what, number in rival.versions.items()))
            making |= rival.ways(
                "mlflow as it comes", "mlflow pickle", "mlflow pickle, input_example",
                "mlflow pickle, requirements given", "pins",
            )  # fmt: skip
            loading |= rival.ways("joblib there", "mlflow load", "mlflow pyfunc load", "pins load")
        else:
            print("  MLflow, pins: not measured (--mlflow-python PATH)")
        for ways, baseline in ((making, "ours"), (loading, "joblib")):
            taken = alternate(ways, rounds)
            base = median(taken[baseline])
            for way, seconds in taken.items():
                ratio = median(seconds) / base
                print(f"  {way:<36}{median(seconds):10.2f} ms   it / {baseline} {ratio:8.2f}", flush=True)


# --- fresh ---------------------------------------------------------------------------------------------------

BARE = """
import json, sys
import joblib, pandas as pd
print(joblib.load(sys.argv[1]).predict(pd.DataFrame([json.loads(sys.argv[2])]))[0])
"""

VERIFIED = """
import json, sys
import pandas as pd
from tasks.core.versions.registry import Registry
print(Registry(sys.argv[1]).load_current("model").predict(pd.DataFrame([json.loads(sys.argv[2])])).values[0])
"""


def fresh(rounds: int) -> None:
    """Import, load and predict one row in a process of its own, as a service does when it starts."""
    with tempfile.TemporaryDirectory() as name:
        shelf = Shelf.make(Path(name))
        rows = rows_of(20_000, 9)
        features, target = rows[[*NUMBERS, *NAMES]], rows["y"]
        row = json.dumps(features.iloc[0].to_dict())
        print(f"{'fresh process, ms':<22}{'joblib':>9}{'ours':>9}{'ratio':>7}{'joblib':>12}{'ours':>9}{'ratio':>7}")
        for what, made in {"linear": linear(), "boosting, 70 trees": boosting(70)}.items():
            shelf.register(shelf.candidate_of(made.fit(features, target)))
            file = shelf.folder / "baseline.joblib"
            joblib.dump(made, file)
            commands = {
                "joblib": [sys.executable, "-c", BARE, str(file), row],
                "ours": [sys.executable, "-c", VERIFIED, str(shelf.folder / "store"), row],
            }
            wall: Taken = {way: [] for way in commands}
            cpu: Taken = {way: [] for way in commands}
            said = {}
            for number in range(rounds + 1):
                for way, command in commands.items():
                    seconds, worked, said[way] = timed(command)
                    if number:
                        wall[way].append(seconds)
                        cpu[way].append(worked)
            assert said["joblib"] == said["ours"], said
            print(f"{what:<22}" + "   ".join(beside(taken) for taken in (wall, cpu)), flush=True)
    print(f"{'':<22}{'wall':>25}{'':>3}{'CPU':>25}")


def timed(command: list[str]) -> tuple[float, float, str]:
    """Seconds on the clock and of the processor, and what it printed."""
    began = time.perf_counter()
    process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
    assert process.stdout is not None
    said = process.stdout.read()
    _, status, usage = os.wait4(process.pid, 0)
    seconds = time.perf_counter() - began
    process.returncode = os.waitstatus_to_exitcode(status)
    process.stdout.close()
    if process.returncode:
        raise RuntimeError(f"{command} failed")
    return seconds, usage.ru_utime + usage.ru_stime, said


def beside(taken: Taken) -> str:
    bare, ours = median(taken["joblib"]), median(taken["ours"])
    return f"{bare:9.1f}{ours:9.1f}{ours / bare:7.3f}"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("what", choices=["load", "register", "fresh", "all"])
    parser.add_argument("--rounds", type=int, default=15)
    parser.add_argument("--large", type=int, default=200, help="MB of the large arrays; 0: none")
    parser.add_argument("--mlflow-python", type=Path)
    asked = parser.parse_args()
    names = ("scikit-learn", "numpy", "pandas", "joblib", "obstore")
    versions = ", ".join(f"{name} {version_of(name)}" for name in names)
    print(f"Python {platform.python_version()}, {versions}; {os.cpu_count()} cores, load {os.getloadavg()[0]:.1f}\n")
    if asked.what in ("load", "all"):
        load(asked.rounds, asked.large)
    if asked.what in ("register", "all"):
        register(asked.rounds, asked.mlflow_python)
    if asked.what in ("fresh", "all"):
        fresh(asked.rounds)


if __name__ == "__main__":
    main()
