"""Fits on disk: what one fit loses on every later batch, row by row, so that any policy can be replayed from them.

A fit is computed once, in a process of its own, and kept under a name made from everything it depends on: data, labels,
pipeline, fold, seed and library versions. An interrupted backtest finds what it had finished.
"""

from __future__ import annotations

import hashlib
import importlib.metadata
import json
import uuid
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from joblib import Parallel, delayed

from tasks.core import drift, performance, persistence
from tasks.core.backtest.history import History, history_of
from tasks.core.calibration import LABEL, SCORE
from tasks.core.columns import sample_rows
from tasks.core.contract import infer
from tasks.core.errors import DataError, TrainingError
from tasks.core.evidence import DriftEvidence
from tasks.core.expected import excused
from tasks.core.forgetting import remembered
from tasks.core.gate import LabelledRows, dummy, target_of
from tasks.core.records import from_dict, to_dict
from tasks.core.sources import digests_of, make_importable, text_here, texts_of
from tasks.core.spec import Forgetting, ModelSpec
from tasks.core.training import Fitted, Learned, fit, learn
from tasks.core.types import Batch, Verdict
from tasks.core.validation import frame, validate


@dataclass(frozen=True, slots=True)
class Plan:
    """What one fit learns from."""

    train: tuple[int, ...]
    """Positions of batches in the history."""
    gated: bool
    """The gate's rows are kept out, and the checks on later data are measured too; else it learns from all rows."""
    forgetting: Forgetting = field(default_factory=Forgetting)
    first: bool = False
    """As a first version, whose fold is larger."""


@dataclass(frozen=True, slots=True)
class Alarms:
    """When the tutorials' rule retrains: Evidently's defaults call half of the columns drifted, against the data that
    the version in service was trained on."""

    start: int
    delay: int
    share: float = 0.5


@dataclass(frozen=True, slots=True)
class Sight:
    """What a version's checks say of a later batch."""

    problems: tuple[str, ...] = ()
    changes: tuple[str, ...] = ()
    drift: DriftEvidence = field(default_factory=DriftEvidence)
    dummy_loss: float | None = None


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
        """Batches it learned from; those in `held_out` but for the gate's fold."""
        self.held_out: tuple[int, ...] = tuple(about["held_out"])
        self.first: bool = about["first"]
        self.reached: float | None = about["reached"]
        """The primary metric on the gate's rows."""
        self._sights = about["sights"]

    def losses(self, place: int) -> np.ndarray:
        """Loss of each labelled row of a later batch, or of the gate's fold of a batch that was held out."""
        with np.load(self._path) as arrays:
            return np.asarray(arrays[str(place)])

    def sight(self, place: int) -> Sight:
        return from_dict(Sight, self._sights[str(place)])


class Missing(Exception):
    """A replay needs a fit that is not there yet."""

    def __init__(self, job: Plan | Alarms):
        self.job = job


FitOf = Callable[[Plan], Fit]


class Fits:
    """The finished fits of one history in a folder."""

    def __init__(self, history: History, folder: Path, spec: ModelSpec | None = None):
        self.history, self.folder = history, folder
        self.spec = spec or history.spec
        self._open: dict[Plan, Fit] = {}
        self._data = [f"{part.batch.sha256} {part.labels}" for part in history.parts]
        self._common = _common(self.spec)

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
        depends = [self._common, self._data, type(job).__name__, to_dict(job)]
        name = hashlib.sha256(json.dumps(depends).encode()).hexdigest()[:32]
        return self.folder / f"{name}.{'npz' if isinstance(job, Plan) else 'json'}"

    def compute(self, jobs: Iterable[Plan | Alarms], done: Callable[[], None], workers: int = -1) -> None:
        """Compute what is missing, in parallel; `done` is called after each."""
        missing = [job for job in dict.fromkeys(jobs) if not self.path(job).exists()]
        if not missing:
            return
        self.folder.mkdir(parents=True, exist_ok=True)
        spec = self.spec.model_dump_json()
        batches = self.history.batches
        work = (delayed(_compute)(self.history.root, spec, batches, job, self.path(job)) for job in missing)
        for _ in Parallel(n_jobs=workers, return_as="generator_unordered")(work):
            done()


def _common(spec: ModelSpec) -> list[Any]:
    """What every fit of a specification depends on, beside its data."""
    ours = [
        f"tasks.core.{name}"
        for name in ("calibration", "columns", "contract", "drift", "examine", "forgetting", "gate", "performance")
    ]
    ours += [f"tasks.core.{name}" for name in ("source", "training", "validation", "backtest.fits")]
    versions = {name: importlib.metadata.version(name) for name in ("scikit-learn", "numpy", "scipy", "pandas")}
    parts = spec.model_dump(mode="json", exclude={"owner", "purpose", "policy", "slices"})
    own = digests_of(texts_of([spec.pipeline.factory.partition(":")[0]]))
    return [parts, versions, [digests_of({name: text_here(name) or ""}) for name in ours], own]


# --- in a worker process -------------------------------------------------------------------------------------


def _compute(root: Path, spec_json: str, batches: tuple[Batch, ...], job: Plan | Alarms, path: Path) -> None:
    history = history_of(root, spec_json, batches)
    make_importable(history.spec.folders(root))
    temporary = path.with_name(f".{uuid.uuid4().hex}{path.suffix}")  # appears whole or not at all
    if isinstance(job, Plan):
        found = _fitted(history, job)
        np.savez(temporary, about=np.array(json.dumps(found.about)), **found.arrays)  # type: ignore[arg-type]
    else:
        temporary.write_text(json.dumps(_alarms(history, job)))
    temporary.replace(path)


def _alarms(history: History, alarms: Alarms) -> list[int]:
    spec, end, places = history.spec, alarms.start, []
    contract = infer([part.source for part in history.parts], spec)
    numeric = {column.name: column.kind != "category" for column in contract.features}
    rows = max(1, spec.checks.sample_rows)

    def sample(parts: Sequence[LabelledRows], limit: int) -> pd.DataFrame:
        return pd.concat(
            [frame(contract, p.source, sample_rows(p.total, max(1, limit), spec.seed)) for p in parts],
            ignore_index=True,
        )

    reference = sample(history.parts[:end], rows // end)
    for place in range(alarms.start + 1, len(history)):
        current = sample(history.parts[place : place + 1], rows)
        if drift.preset_share(reference, current, numeric) >= alarms.share:
            places.append(place)
            end = max(end, place - alarms.delay + 1)
            reference = sample(history.parts[:end], rows // end)
    return places


def _fitted(history: History, plan: Plan) -> _Found:
    policy = history.spec.policy.model_copy(update={"forgetting": plan.forgetting})
    spec, root = history.spec.model_copy(update={"policy": policy}), history.root
    parts = [history.parts[place] for place in plan.train]
    try:
        learned: Learned = (
            fit(root, spec, parts, first=plan.first) if plan.gated else learn(spec, remembered(parts, plan.forgetting))
        )
    except (TrainingError, DataError) as error:
        return _Found(len(history), failed=str(error))
    found = _Found(len(history), learned=plan.train[len(plan.train) - len(remembered(parts, plan.forgetting)) :])
    found.about["first"] = plan.first
    if isinstance(learned, Fitted):
        found.gate(history, learned, spec)
    for place in range(plan.train[0] + 1, len(history)):
        if place not in plan.train:
            found.later(place, root, history.parts[place], learned, spec)
    return found


class _Found:
    """What is known of one fit, as it is measured."""

    def __init__(self, batches: int, failed: str | None = None, learned: Sequence[int] = ()):
        self.arrays: dict[str, np.ndarray] = {
            "means": np.full(batches, np.nan),
            "errors": np.full(batches, np.nan),
            "dummy": np.array([]),
        }
        self.about: dict[str, Any] = {
            "failed": failed, "learned": list(learned), "held_out": [], "reached": None, "sights": {}, "first": False,
        }  # fmt: skip

    def gate(self, history: History, fitted: Fitted, spec: ModelSpec) -> None:
        """The gate's rows: this fit's losses on them, and Dummy's for a first version."""
        truth = target_of(fitted.training.gate)
        if fitted.answers is None or not len(truth):
            return
        losses = performance.row_losses(fitted.answers, truth, spec.task)
        usual = dummy(fitted.target, spec.task, len(truth))
        self.arrays["dummy"] = performance.row_losses(usual, truth, spec.task)
        start = 0
        for part in fitted.training.gate:
            place, rows = history.position[part.batch.id], len(part.rows)
            self.arrays[str(place)] = losses[start : start + rows]
            self.about["held_out"].append(place)
            start += rows
        # Whether or not a floor is set: the policy is no part of a fit's name.
        self.about["reached"] = performance.value_of(spec.metric, fitted.answers, truth, spec.task)

    def later(
        self,
        place: int,
        root: Path,
        part: LabelledRows,
        learned: Learned,
        spec: ModelSpec,
    ) -> None:
        """Losses on a batch that this fit has not seen; and what its checks say, for a gated one."""
        problems: tuple[str, ...] = ()
        try:
            found, excuses = None, dict[str, str]()
            if isinstance(learned, Fitted):
                weights = {name: column.weight for name, column in learned.calibration.items()}
                excuses = dict(excused(root, spec, (), [part.batch], learned.contract.names).columns)
                found = validate(learned.contract, part.source, spec, excused=excuses, weights=weights)
            problems = found.problems if found else ()
            data = pd.DataFrame() if problems else frame(learned.contract, part.source)
            hidden = learned.contract.private
            answers = None if problems else persistence.predict(learned.pipeline, data, private=hidden)
        except DataError as error:
            problems, answers, found = (str(error),), None, None
        if answers is None:
            self.about["sights"][str(place)] = to_dict(Sight(problems))
            return
        labelled = performance.take(answers, part.rows)
        losses = performance.row_losses(labelled, part.target, spec.task)
        self.arrays["means"][place] = losses.mean()
        self.arrays["errors"][place] = performance.hard_losses(labelled, part.target, spec.task).mean()
        if isinstance(learned, Fitted) and found is not None:
            self.arrays[str(place)] = losses
            changes = tuple(check.summary for check in found.changes if check.verdict is Verdict.FAIL)
            chosen = sample_rows(part.total, spec.checks.sample_rows, spec.seed)
            window = data.iloc[chosen].assign(**{SCORE: answers.score[chosen]})
            moved = drift.drift_evidence(learned.reference, window, learned.calibration, excuses)
            usual = dummy(learned.reference[LABEL].to_numpy(), spec.task, len(part.rows))
            expected = float(performance.row_losses(usual, part.target, spec.task).mean())
            changes = tuple(f"{part.batch.id}: {change}" for change in changes)
            self.about["sights"][str(place)] = to_dict(Sight((), changes, moved, expected))
