"""The gate: rows kept out of training, and the comparison on them that a challenger must survive."""

from __future__ import annotations

import hashlib
import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, TypeAlias

import numpy as np
import pandas as pd
import pyarrow as pa

from tasks.core import performance, persistence
from tasks.core.batches import Labels, legible
from tasks.core.columns import target_values
from tasks.core.errors import DataError
from tasks.core.predictions import read_predictions, written_version
from tasks.core.source import Source
from tasks.core.spec import ModelSpec
from tasks.core.types import Batch, Gate, Metric, Verdict
from tasks.core.validation import frame

if TYPE_CHECKING:
    from tasks.core.contract import Contract
    from tasks.core.manifest import Manifest
    from tasks.core.registry import LoadedVersion

FOLD = 10
"""One row in FOLD of the newest labelled batches is kept for the gate. The newest rows are worth most to a fit: keeping
a fifth of them cost 0.7 % of the loss on five real streams, a tenth 0.4 %."""
FIRST_FOLD = 5
"""For a first version: data are few, and none is too old yet. Its fold contains the one of later versions."""
GATE_ROWS = 100
"""Rows that the gate needs; folds of earlier batches are added, newest first, until there are as many."""
GATE_BATCHES = 16


@dataclass(frozen=True)
class LabelledRows:
    """Rows of one batch that have labels: where they are, and the labels themselves."""

    batch: Batch
    source: Source
    rows: np.ndarray
    """Row numbers, sorted."""
    target: np.ndarray
    labels: str
    """Digest of the joined labels."""
    total: int

    @property
    def coverage(self) -> float:
        """Labelled rows as a share of the batch's rows, 0 to 1."""
        return len(self.rows) / self.total if self.total else 0.0

    def part(self, keep: np.ndarray) -> LabelledRows:
        """The rows whose number is in `keep`."""
        inside = np.isin(self.rows, keep)
        return LabelledRows(self.batch, self.source, self.rows[inside], self.target[inside], self.labels, self.total)

    def without(self, leave_out: np.ndarray) -> LabelledRows:
        return self.part(np.setdiff1d(self.rows, leave_out))


def labelled_rows(root: Path, batch: Batch, labels: Labels, task: str) -> LabelledRows:
    """Raises DataError for labels that do not fit the task."""
    spec = labels.spec
    found = labels.of(batch)
    known = np.flatnonzero(np.asarray(found.values.is_valid()))
    with legible(batch.path):
        target = target_values(found.values.take(pa.array(known)), task, private=spec.target in spec.data.private)
    return LabelledRows(batch, Source(root, batch.path, spec.data.csv), known, target, found.digest, len(found.values))


@dataclass(frozen=True)
class TrainingSet:
    """All labelled history, split into rows to learn from and rows kept for the gate."""

    learn: tuple[LabelledRows, ...]
    gate: tuple[LabelledRows, ...]


def split(history: Sequence[LabelledRows], fold: int = FOLD) -> TrainingSet:
    """Keep one row in `fold` of the newest batches for the gate, going back until there are GATE_ROWS of them."""
    learn, gate, kept = list(history), [], 0
    for index in range(len(history) - 1, max(-1, len(history) - 1 - GATE_BATCHES), -1):
        item = history[index]
        rows = fold_rows(item.batch, item.total, fold)
        gate.append(item.part(rows))
        learn[index] = item.without(rows)
        kept += len(gate[-1].rows)
        if kept >= GATE_ROWS:
            break
    return TrainingSet(tuple(learn), tuple(reversed(gate)))


def features_of(contract: Contract, parts: Sequence[LabelledRows]) -> pd.DataFrame:
    return pd.concat([frame(contract, part.source, part.rows) for part in parts], ignore_index=True)


def target_of(parts: Sequence[LabelledRows]) -> np.ndarray:
    return np.concatenate([part.target for part in parts])


def fold_rows(batch: Batch, rows: int, fold: int = FOLD) -> np.ndarray:
    """Row numbers kept for the gate: blake2b(batch digest, row number) mod `fold` is 0, so anybody can derive them.

    Digest and numbers are those that the batch was delivered with: what is erased from it moves no other row into the
    fold, where a version that was trained on it would be measured.
    """
    prefix = hashlib.blake2b(bytes.fromhex(batch.origin or batch.sha256), digest_size=8)
    delivered, kept = np.delete(np.arange(rows + len(batch.gone)), batch.gone), []
    for place, row in enumerate(delivered.tolist()):
        mark = prefix.copy()
        mark.update(row.to_bytes(8, "little"))
        if int.from_bytes(mark.digest(), "little") % fold == 0:
            kept.append(place)
    return np.array(kept, dtype=np.int64)


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
        return persistence.predict(champion.pipeline, inputs, private=champion.contract.private)
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


def dummy(target: np.ndarray, task: str, rows: int) -> persistence.Predictions:
    """What always predicting the usual would answer: class shares, or the median."""
    from sklearn.dummy import DummyClassifier, DummyRegressor

    model = DummyRegressor(strategy="median") if task == "regression" else DummyClassifier(strategy="prior")
    return persistence.predict(model.fit(np.zeros((len(target), 1)), target), np.zeros((rows, 1)))


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
    better = "better" if difference < 0 else "worse"
    reason = f"{better} than {against} by {abs(difference):.4g} a row on {rows:,} rows that neither has seen"
    verdict, reason = Verdict.PASS, f"{reason}{_interval(difference, error)}"
    if champion is None and difference >= 0:
        verdict, reason = Verdict.FAIL, f"loses {difference:.4g} a row more than always predicting the usual"
    elif champion is not None and error is not None and difference > 2 * error:
        verdict, reason = Verdict.FAIL, f"{reason}, beyond two standard errors"
    elif (floor := spec.policy.metric_floor) is not None and (reached is None or reached < floor):
        shown = f"{reached:.4g}" if reached is not None else "undefined"
        verdict, reason = Verdict.FAIL, f"{spec.metric} is {shown}, below the floor of {floor:g}"
    return Gate(verdict, reason, rows, difference, error, against)


def _interval(difference: float, error: float | None) -> str:
    """The difference's paired 95 % interval, for people."""
    if error is None:
        return ""
    return f" (95 % interval of the difference {difference - 1.96 * error:+.4g} to {difference + 1.96 * error:+.4g})"


NOTHING_KEPT = Gate(Verdict.SKIPPED, "no rows were kept for the comparison", 0)
