"""The gate: rows kept out of training, and the comparison on them that a challenger must survive."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, TypeAlias

import numpy as np

from tasks.core.checks import performance
from tasks.core.checks.performance import dummy
from tasks.core.data.rows import LabelledRows, target_of
from tasks.core.errors import DataError
from tasks.core.predictions import read_predictions, written_version
from tasks.core.spec import Forgetting, ModelSpec
from tasks.core.text import amount, of_loss, portion
from tasks.core.training.forgetting import remembered
from tasks.core.training.holdout import GATE_BATCHES, GATE_ROWS, HOLDOUT_EVERY, TrainingSet, features_of, split
from tasks.core.training.refusal import advice, unmeasured
from tasks.core.types import Gate, Metric, Verdict
from tasks.core.versions import persistence

if TYPE_CHECKING:
    from tasks.core.versions.loaded import LoadedVersion
    from tasks.core.versions.manifest import Manifest


@dataclass(frozen=True)
class Recorded:
    """A version in service that does not load here: what it answered is read from the predictions that it wrote."""

    manifest: Manifest
    predictions: Path
    """Their folder."""


Champion: TypeAlias = "LoadedVersion | Recorded"


@dataclass(frozen=True)
class Rival:
    """Who has to be beaten on the gate's rows."""

    version: int | None
    """None: scikit-learn's Dummy."""
    answers: persistence.Predictions
    truth: np.ndarray
    clean: np.ndarray
    """Gate rows, by position, that this rival never saw."""
    note: str = ""
    """Why it is not the version in service, though there is one."""

    @property
    def name(self) -> str:
        """How people know it: `v3`, `Dummy`."""
        return "Dummy" if self.version is None else f"v{self.version}"


def rival_of(spec: ModelSpec, training: TrainingSet, target: np.ndarray, champion: Champion | None) -> Rival | None:
    """The champion; scikit-learn's Dummy for a first version, and where nothing of the champion can be compared."""
    truth = target_of(training.gate)
    if not len(truth):
        return None
    note = ""
    if champion is not None:
        try:
            answers = _answers(champion, training.gate)
            return Rival(champion.manifest.version, answers, truth, _unseen(champion.manifest, training.gate))
        except DataError as error:
            if not isinstance(champion, Recorded):
                raise
            note = f"champion not comparable (v{champion.manifest.version} does not load here; {error})"
    return Rival(None, dummy(target, spec.task, len(truth)), truth, np.arange(len(truth)), note)


def _answers(champion: Champion, parts: Sequence[LabelledRows]) -> persistence.Predictions:
    """Raises DataError where it cannot answer."""
    if not isinstance(champion, Recorded):
        inputs = features_of(champion.contract, parts)
        return persistence.predict(champion.pipeline, inputs, contract=champion.contract)
    found = []
    for part in parts:
        path = champion.predictions / f"{part.batch.id}.parquet"
        if written_version(path) != champion.manifest.version:
            raise DataError(f"it wrote no predictions for {part.batch.id}")
        found.append(read_predictions(path, part.batch.sha256, part.total, part.rows))
    if any(answers.classes != found[0].classes for answers in found):
        raise DataError("its predictions name different classes")
    probabilities = [answers.probabilities for answers in found if answers.probabilities is not None]
    return persistence.Predictions(
        np.concatenate([answers.values for answers in found]),
        np.concatenate(probabilities) if len(probabilities) == len(found) else None,
        found[0].classes,
    )


def _unseen(manifest: Manifest, parts: Sequence[LabelledRows]) -> np.ndarray:
    """Positions, among the rows of all parts, of those that a version was not trained on."""
    seen = {file.batch: file.held_out for file in manifest.training}
    return np.flatnonzero(np.concatenate([np.full(len(part.rows), seen.get(part.batch.id, True)) for part in parts]))


def unjudged(
    history: Sequence[LabelledRows], forgetting: Forgetting, champion: Manifest
) -> tuple[int, float, int | None] | None:
    """Where the gate would have too few rows that the champion has not seen, so that no fit could be put in service:
    those rows, the labelled rows of a batch, and the further batches that would bring enough, None where none would.

    `history` is the newest of what would be trained on, GATE_BATCHES or more where there are as many.
    """
    kept = remembered(history, forgetting)[-GATE_BATCHES:]
    rows = len(_unseen(champion, split(kept).gate))
    if rows >= GATE_ROWS or not kept:
        return None
    size = sum(len(part.rows) for part in kept) / len(kept)
    most = min(GATE_BATCHES, forgetting.window or GATE_BATCHES) * size / HOLDOUT_EVERY
    return rows, size, math.ceil((GATE_ROWS - rows) * HOLDOUT_EVERY / size) if most >= GATE_ROWS else None


def compare(
    spec: ModelSpec, answers: persistence.Predictions | None, truth: np.ndarray, rival: Rival | None
) -> tuple[Gate, dict[str, Metric], dict[str, Metric]]:
    """The gate's verdict, and the metrics of both on its rows."""
    if answers is None or rival is None:
        return NOTHING_KEPT, {}, {}
    metrics = performance.metrics(answers, truth, spec.metric, spec.task, spec.seed)
    rival_metrics = performance.metrics(rival.answers, truth, spec.metric, spec.task, spec.seed)
    rows = rival.clean
    ours = performance.row_losses(answers, truth, spec.task)[rows]
    theirs = performance.row_losses(rival.answers, truth, spec.task)[rows]
    reached = metrics.get(spec.metric)
    gate = judge(spec, ours, theirs, rival.version, reached.value if reached else None)
    if spec.task != "regression" and rival.version is not None and gate.difference is not None:
        flips = float(((rival.answers.values == truth) & (answers.values != truth))[rows].mean())
        gate = replace(gate, negative_flips=flips)
    said = unmeasured(spec, answers, truth)
    if gate.verdict is Verdict.FAIL and (gate.difference or 0) > 0:
        said += advice(spec, answers, truth, reached, rival_metrics.get(spec.metric), rival.name)
    gate = replace(gate, reason="; ".join([gate.reason, *said]))
    if rival.note:
        gate = replace(gate, reason=f"{rival.note}; {gate.reason}")
    return gate, metrics, rival_metrics


def judge(spec: ModelSpec, ours: np.ndarray, theirs: np.ndarray, champion: int | None, reached: float | None) -> Gate:
    """Paired on the same rows, shape (rows,): refused when worse beyond two standard errors, or below the floor.

    `champion` is None for a first version, which must beat Dummy; `reached` is the challenger's primary metric.
    """
    against, rows = f"v{champion}" if champion is not None else "Dummy", len(ours)
    if champion is not None and rows < GATE_ROWS:
        reason = f"only {rows} rows that {against} has not seen ({GATE_ROWS} needed): it stays"
        return Gate(Verdict.SKIPPED, reason, rows, against=against)
    difference = float((ours - theirs).mean())
    error = float((ours - theirs).std(ddof=1) / math.sqrt(rows)) if rows > 1 else None
    verdict, reason = Verdict.PASS, _in_words(difference, error, float(theirs.mean()), against, rows)
    if champion is None and difference >= 0:
        verdict, reason = Verdict.FAIL, f"no better than always predicting the usual: {reason}"
    elif champion is not None and error is not None and difference > 2 * error:
        verdict, reason = Verdict.FAIL, f"{reason}, beyond two standard errors"
    elif (floor := spec.policy.metric_floor) is not None and (reached is None or reached < floor):
        shown = amount(reached, 4) if reached is not None else "undefined"
        verdict, reason = Verdict.FAIL, f"{spec.metric} is {shown}, below the floor of {floor:g}"
    return Gate(verdict, reason, rows, difference, error, against)


def _in_words(difference: float, error: float | None, theirs: float, against: str, rows: int) -> str:
    """The difference and its paired 95 % interval, both as shares of the rival's loss; no number where it may be 0."""
    on, size, half = f"on {rows:,} rows that neither has seen", abs(difference), 1.96 * (error or 0.0)
    if size <= half or not difference:
        return f"no different from {against} {on}"
    interval = f" (95 % interval {portion(size - half, theirs)} to {portion(size + half, theirs)})" if error else ""
    return f"{'better' if difference < 0 else 'worse'} than {against} by {of_loss(size, theirs)}{interval} {on}"


NOTHING_KEPT = Gate(Verdict.SKIPPED, "no rows were kept for the comparison", 0)
