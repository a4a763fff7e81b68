"""Which of the default pipelines suits the data: decided once, at a model's first version, and kept from then on."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from itertools import pairwise

import numpy as np

from tasks.core.checks.performance import row_losses
from tasks.core.data.rows import LabelledRows
from tasks.core.errors import DataError, TrainingError
from tasks.core.spec import ModelSpec
from tasks.core.training.factory import ESTIMATORS, is_default
from tasks.core.training.fit import Rows, fit_on, rows_of
from tasks.core.training.forgetting import remembered
from tasks.core.training.holdout import FIRST_HOLDOUT_EVERY, split
from tasks.core.versions.manifest import Manifest, PipelineChoice
from tasks.core.versions.persistence import predict
from tasks.core.versions.threads import single_openmp

PLENTY = 10_000
"""Labelled rows from which on the large booster is taken untried. On eight real streams the choice lost 3 % less than
that one at 4,000 rows, 2 % more at 8,000 and as much at 16,000."""
FOLDS = 4
"""Each but the last of FOLDS + 1 equal parts in time order, with all before it, is learned, and the next one asked. The
least mean loss chooses. On the streams, to take the simplest within a standard error of it lost as much, as did other
numbers of folds; parts that end where batches do lost 1 % more."""


def settle(
    spec: ModelSpec, history: Sequence[LabelledRows], champion: Manifest | None
) -> tuple[ModelSpec, PipelineChoice | None]:
    """The specification with the default pipeline that suits the data, and the choice; both as they were where there
    is none to make: the model's file says which, the rows are many, or the version in service was made without one.

    The choice of the version in service counts; without one in service it is made on the history, but for the gate's
    rows. Raises DataError where the data contradict each other.
    """
    if not is_default(spec) or spec.pipeline.parameters:
        return spec, None
    choice = champion.choice if champion else choose(spec, history)
    return (_with(spec, choice.estimator), choice) if choice else (spec, None)


def choose(spec: ModelSpec, history: Sequence[LabelledRows]) -> PipelineChoice | None:
    """The default pipeline that loses least on later rows, by the loss that the rules use.

    None where there are PLENTY of rows, or none can be tried. Raises DataError as `settle` does.
    """
    parts = remembered(history, spec.policy.forgetting)
    if sum(len(part.rows) for part in parts) >= PLENTY:
        return None
    rows, losses = rows_of(spec, split(parts, FIRST_HOLDOUT_EVERY).learn), dict[str, np.ndarray]()
    with single_openmp():  # for few rows a team of threads costs more than it brings
        for estimator in ESTIMATORS:
            try:
                found = [_losses(_with(spec, estimator), rows, start, end) for start, end in _folds(spec, rows)]
            except (TrainingError, DataError):
                continue  # what cannot be fitted on these rows is none of those to choose from
            losses |= {estimator: np.concatenate(found)} if found else {}
    if not losses:
        return None
    means = {estimator: float(each.mean()) for estimator, each in losses.items()}
    best = min(means, key=means.__getitem__)
    return PipelineChoice(best, means, len(losses[best]))


def _with(spec: ModelSpec, estimator: str) -> ModelSpec:
    pipeline = spec.pipeline.model_copy(update={"parameters": {"estimator": estimator}})
    return spec.model_copy(update={"pipeline": pipeline})


def _folds(spec: ModelSpec, rows: Rows) -> Iterator[tuple[int, int]]:
    """Where what is learned ends, and where what is asked does; left out where there is nothing to tell apart yet."""
    cuts = np.linspace(0, len(rows.target), FOLDS + 2).round().astype(int)[1:].tolist()
    for start, end in pairwise(cuts):
        if 0 < start < end and (spec.task == "regression" or len(np.unique(rows.target[:start])) > 1):
            yield start, end


def _losses(spec: ModelSpec, rows: Rows, start: int, end: int) -> np.ndarray:
    pipeline, asked = fit_on(spec, rows[:start]), rows[start:end]
    answers = predict(pipeline, asked.features, contract=rows.contract)
    return row_losses(answers, asked.target, spec.task)
