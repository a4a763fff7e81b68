"""What one fit loses on every later batch, row by row, and what its checks say of it: the work of one process.

A finished fit is kept under a name made from the source of this module and of all that it imports, see `fits.py`: what
no fit needs is not imported here.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from tasks.core.checks import drift, evidently_adapter, performance
from tasks.core.checks.calibration import LABEL, SCORE
from tasks.core.checks.expected import excused
from tasks.core.checks.performance import dummy
from tasks.core.data.arrow import sample_rows
from tasks.core.data.rows import LabelledRows, target_of
from tasks.core.decision.evidence import DriftEvidence
from tasks.core.errors import DataError, TrainingError
from tasks.core.records import to_dict
from tasks.core.schema.contract import infer
from tasks.core.schema.frames import frame
from tasks.core.schema.validation import validate
from tasks.core.spec import Forgetting, ModelSpec
from tasks.core.training.fit import CalibratedFit, FittedPipeline, fit, learn
from tasks.core.training.forgetting import remembered
from tasks.core.types import Verdict
from tasks.core.versions import persistence


@dataclass(frozen=True, slots=True)
class Plan:
    """What one fit learns from."""

    train: tuple[int, ...]
    """Positions of batches in the history."""
    gated: bool
    """The gate's rows are kept out, and the checks on later data are measured too; else it learns from all rows."""
    forgetting: Forgetting = field(default_factory=Forgetting)
    first: bool = False
    """As a first version, whose holdout is larger."""


@dataclass(frozen=True, slots=True)
class Alarms:
    """When the tutorials' rule retrains: Evidently's defaults call half of the columns drifted, against the data that
    the version in service was trained on."""

    start: int
    delay: int
    share: float = 0.5


@dataclass(frozen=True, slots=True)
class FitChecks:
    """What a version's checks say of a later batch."""

    problems: tuple[str, ...] = ()
    changes: tuple[str, ...] = ()
    drift: DriftEvidence = field(default_factory=DriftEvidence)
    dummy_loss: float | None = None


def compute(root: Path, spec: ModelSpec, parts: Sequence[LabelledRows], job: Plan | Alarms, path: Path) -> None:
    """Do a job on the history's batches, and write what is found of it: arrays for a Plan, JSON for Alarms.

    No more is known of the model here than `relevant` leaves of its specification.
    """
    spec = relevant(spec)
    if isinstance(job, Plan):
        found = _fitted(root, spec, parts, job)
        np.savez(path, about=np.array(json.dumps(found.about)), **found.arrays)  # type: ignore[arg-type]
    else:
        path.write_text(json.dumps(_alarms(spec, parts, job)))


def relevant(spec: ModelSpec) -> ModelSpec:
    """The specification as far as a fit depends on it: all else is blank.

    Left out is who reads what and when runs start, how versions are saved, what is shown of their performance, when to
    retrain (the Plan says what is forgotten), and how batches and labels are found, for they are named one by one. An
    option that is new here counts until it is left out.
    """
    kept = spec.model_dump(
        exclude={
            **dict.fromkeys(("owner", "purpose", "runbook", "slices", "policy", "schedule"), True),
            "data": {"batches", "labels", "min_coverage", "label_delay", "overdue", "settle"},
            "pipeline": {"format", "types"},
            "checks": {"slice_rows"},
        }
    )
    return ModelSpec.model_validate({**kept, "owner": "", "purpose": "", "data": {**kept["data"], "batches": "*"}})


def _alarms(spec: ModelSpec, parts: Sequence[LabelledRows], alarms: Alarms) -> list[int]:
    end, places = alarms.start, []
    contract = infer([part.source for part in parts], spec)
    numeric = {column.name: column.kind != "category" for column in contract.features}
    rows = max(1, spec.checks.sample_rows)

    def sample(parts: Sequence[LabelledRows], limit: int) -> pd.DataFrame:
        return pd.concat(
            [frame(contract, p.source, sample_rows(p.total, max(1, limit), spec.seed)) for p in parts],
            ignore_index=True,
        )

    reference = sample(parts[:end], rows // end)
    for place in range(alarms.start + 1, len(parts)):
        current = sample(parts[place : place + 1], rows)
        if evidently_adapter.preset_share(reference, current, numeric) >= alarms.share:
            places.append(place)
            end = max(end, place - alarms.delay + 1)
            reference = sample(parts[:end], rows // end)
    return places


def _fitted(root: Path, spec: ModelSpec, history: Sequence[LabelledRows], plan: Plan) -> _Found:
    policy = spec.policy.model_copy(update={"forgetting": plan.forgetting})
    spec = spec.model_copy(update={"policy": policy})
    parts = [history[place] for place in plan.train]
    try:
        learned: FittedPipeline = (
            fit(spec, parts, first=plan.first) if plan.gated else learn(spec, remembered(parts, plan.forgetting))
        )
    except (TrainingError, DataError) as error:
        return _Found(len(history), failed=str(error))
    found = _Found(len(history), learned=plan.train[len(plan.train) - len(remembered(parts, plan.forgetting)) :])
    found.about["first"] = plan.first
    if isinstance(learned, CalibratedFit):
        found.gate({part.batch.id: place for place, part in enumerate(history)}, learned, spec)
    for place in range(plan.train[0] + 1, len(history)):
        if place not in plan.train:
            found.later(place, root, history[place], learned, spec)
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
            "failed": failed, "learned": list(learned), "held_out": [], "reached": None, "checks": {}, "first": False,
        }  # fmt: skip

    def gate(self, position: Mapping[str, int], fitted: CalibratedFit, spec: ModelSpec) -> None:
        """The gate's rows: this fit's losses on them, and Dummy's for a first version."""
        truth = target_of(fitted.training.gate)
        if fitted.answers is None or not len(truth):
            return
        losses = performance.row_losses(fitted.answers, truth, spec.task)
        usual = dummy(fitted.target, spec.task, len(truth))
        self.arrays["dummy"] = performance.row_losses(usual, truth, spec.task)
        start = 0
        for part in fitted.training.gate:
            place, rows = position[part.batch.id], len(part.rows)
            self.arrays[str(place)] = losses[start : start + rows]
            self.about["held_out"].append(place)
            start += rows
        # Whether or not a floor is set: the policy is no part of a fit's name.
        self.about["reached"] = performance.value_of(spec.metric, fitted.answers, truth, spec.task)

    def later(self, place: int, root: Path, part: LabelledRows, learned: FittedPipeline, spec: ModelSpec) -> None:
        """Losses on a batch that this fit has not seen; and what its checks say, for a gated one."""
        problems: tuple[str, ...] = ()
        try:
            found, excuses = None, dict[str, str]()
            if isinstance(learned, CalibratedFit):
                weights = {name: column.weight for name, column in learned.calibration.items()}
                excuses = dict(excused(root, spec, (), [part.batch], learned.contract.names).columns)
                found = validate(learned.contract, part.source, spec, excused=excuses, weights=weights)
            problems = found.problems if found else ()
            data = pd.DataFrame() if problems else frame(learned.contract, part.source)
            answers = None if problems else persistence.predict(learned.pipeline, data, contract=learned.contract)
            labelled = performance.take(answers, part.rows) if answers else None
            losses = performance.row_losses(labelled, part.target, spec.task) if labelled else None
        except DataError as error:
            problems, answers, labelled, losses, found = (str(error),), None, None, None, None
        if answers is None or labelled is None or losses is None:
            self.about["checks"][str(place)] = to_dict(FitChecks(problems))
            return
        self.arrays["means"][place] = losses.mean()
        self.arrays["errors"][place] = performance.hard_losses(labelled, part.target, spec.task).mean()
        if isinstance(learned, CalibratedFit) and found is not None:
            self.arrays[str(place)] = losses
            failed = [check.summary for check in found.changes if check.verdict is Verdict.FAIL]
            changes = tuple(f"{part.batch.id}: {change}" for change in failed)
            chosen = sample_rows(part.total, spec.checks.sample_rows, spec.seed)
            window = data.iloc[chosen].assign(**{SCORE: answers.score[chosen]})
            moved = drift.drift_evidence(learned.reference, window, learned.calibration, excuses)
            usual = dummy(learned.reference[LABEL].to_numpy(), spec.task, len(part.rows))
            expected = float(performance.row_losses(usual, part.target, spec.task).mean())
            self.about["checks"][str(place)] = to_dict(FitChecks((), changes, moved, expected))
