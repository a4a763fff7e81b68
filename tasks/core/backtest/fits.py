"""Fits on disk: what one fit loses on every later batch, row by row, so that any policy can be replayed from them.

A fit is computed once, in a process of its own, and kept under a name made from everything it depends on: data, labels,
specification, what it does (`compute.py`, all that it imports, and the user's own code), Python and libraries. An
interrupted backtest finds what it had finished, and a backtest after an upgrade nothing that an older release computed
otherwise.
"""

from __future__ import annotations

import hashlib
import importlib.metadata
import json
import sys
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from joblib import Parallel, delayed

from tasks.core.backtest import compute
from tasks.core.backtest.compute import Alarms, FitChecks, Plan
from tasks.core.backtest.history import History, history_of
from tasks.core.data.files import atomic_write
from tasks.core.errors import SpecError
from tasks.core.records import ITSELF, from_dict, to_dict
from tasks.core.spec import ModelSpec
from tasks.core.types import Batch
from tasks.core.versions import namespaces, own_code

USED = ("scikit-learn", "numpy", "scipy", "pandas")
"""By every fit."""
UNMOVED = frozenset({"joblib", "pydantic", "skops", "threadpoolctl"})
"""Libraries whose releases change no result: they check, save, or share out work. Every other one counts that the
modules of a fit or the user's own code import."""
OF_ALARMS = "evidently"
"""Its own defaults decide in Alarms, and nothing of it in a Plan: another release of it leaves fits as they are."""


class Fit:
    """A finished fit. Losses by row stay in its file until they are asked for: they are most of it."""

    def __init__(self, path: Path):
        self._path = path
        with np.load(path) as arrays:
            about = json.loads(str(arrays["about"]))
            self.means, self.errors, self.dummy = arrays["means"], arrays["errors"], arrays["dummy"]
        self.failed: str | None = about["failed"]
        """Why there is no such version, where the fit failed."""
        self.learned: tuple[int, ...] = tuple(about["learned"])
        """Batches it learned from; those in `held_out` but for the gate's holdout."""
        self.held_out: tuple[int, ...] = tuple(about["held_out"])
        self.first: bool = about["first"]
        self.reached: float | None = about["reached"]
        """The primary metric on the gate's rows."""
        self._checks = about["checks"]

    def losses(self, place: int) -> np.ndarray:
        """Loss of each labelled row of a later batch, or of the holdout of a batch that the gate kept some of."""
        with np.load(self._path) as arrays:
            return np.asarray(arrays[str(place)])

    def checks(self, place: int) -> FitChecks:
        """What the checks of this version say of a later batch."""
        return from_dict(FitChecks, self._checks[str(place)])


class Missing(Exception):
    """A replay needs a fit that is not there yet."""

    def __init__(self, job: Plan | Alarms):
        self.job = job


FitOf = Callable[[Plan], Fit]


class Fits:
    """The finished fits of one history in a folder.

    Raises SpecError where the source of the pipeline's factory is not found, RorError where that of a module of this
    program is not: fits of other code could not be told apart.
    """

    def __init__(self, history: History, folder: Path, spec: ModelSpec | None = None):
        self.history, self.folder = history, folder
        self.spec = spec or history.spec
        self._open: dict[Plan, Fit] = {}
        own_code.make_importable(self.spec.folders(history.root))
        data = [[to_dict(part.batch), part.labels] for part in history.parts]
        self._common = _digest([data, _depends(self.spec, self.spec.folders(history.root))])

    def __call__(self, plan: Plan) -> Fit:
        """Raises Missing when it has to be computed first."""
        if plan not in self._open:
            path = self.path(plan)
            if not path.exists():
                raise Missing(plan)
            self._open[plan] = Fit(path)
        return self._open[plan]

    def alarms(self, alarms: Alarms) -> frozenset[int]:
        """Places where that rule retrains. Raises Missing when they have to be computed first."""
        if not self.path(alarms).exists():
            raise Missing(alarms)
        return frozenset(json.loads(self.path(alarms).read_text()))

    def path(self, job: Plan | Alarms) -> Path:
        """The file of a job's result, whether it is there or not."""
        depends = [self._common, type(job).__name__, to_dict(job)]
        if isinstance(job, Alarms):
            depends.append(importlib.metadata.version(OF_ALARMS))
        return self.folder / f"{_digest(depends)[:32]}.{'npz' if isinstance(job, Plan) else 'json'}"

    def compute(self, jobs: Iterable[Plan | Alarms], done: Callable[[], None], workers: int = -1) -> None:
        """Compute what is missing, in parallel; `done` is called after each."""
        missing = [job for job in dict.fromkeys(jobs) if not self.path(job).exists()]
        if not missing:
            return
        spec = self.spec.model_dump_json()
        batches = self.history.batches
        work = (delayed(_compute)(self.history.root, spec, batches, job, self.path(job)) for job in missing)
        for _ in Parallel(n_jobs=workers, return_as="generator_unordered")(work):
            done()


def _compute(root: Path, spec_json: str, batches: tuple[Batch, ...], job: Plan | Alarms, path: Path) -> None:
    """In a worker process."""
    history = history_of(root, spec_json, batches)
    spec = history.spec
    with (
        namespaces.at_work(spec.folders(root), spec.pipeline.factory),
        atomic_write(path, replace=True) as temporary,
    ):
        compute.compute(root, spec, history.parts, job, temporary)


def _depends(spec: ModelSpec, folders: Sequence[Path]) -> dict[str, Any]:
    """What every fit of a specification depends on, apart from its data."""
    factory = spec.pipeline.factory.partition(":")[0]
    code = own_code.texts_with_program([compute.__name__, factory], folders)
    if own_code.is_own(factory) and factory not in code:
        raise SpecError(
            "pipeline.factory",
            [
                f"the source of {factory!r} is not found. It must live in an installed module, or in a folder that the "
                'model\'s file names: code = ["src"]'
            ],
        )
    libraries = own_code.libraries_of(code) | own_code.distributions_of([factory])
    counting = {*USED, *libraries} - {*UNMOVED, OF_ALARMS, ITSELF}
    return {
        "specification": compute.relevant(spec).canonical(),
        "code": own_code.digests_of(code),
        "python": sys.version_info[:2],
        "libraries": {name: importlib.metadata.version(name) for name in sorted(counting)},
    }


def _digest(value: Any) -> str:
    return hashlib.sha256(json.dumps(value, sort_keys=True).encode()).hexdigest()
