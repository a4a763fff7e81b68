"""Losses of champion and predecessor on newly labelled batches."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace

import numpy as np

from tasks.core.checks import performance
from tasks.core.data.rows import LabelledRows
from tasks.core.errors import DataError, NotFound, VerificationError
from tasks.core.ledger.state import State
from tasks.core.predictions import predictions_path, read_predictions, written_version
from tasks.core.schema.frames import frame
from tasks.core.schema.validation import validate
from tasks.core.types import Batch, Check, CheckKind, Comparison, LossPoint, Verdict
from tasks.core.versions import persistence
from tasks.core.versions.loaded import LoadedVersion
from tasks.core.workspace import Workspace


class Scores:
    """What versions lose on labelled rows. Their answers are those that were written at the time, where they are on
    file; else the version is asked again."""

    def __init__(
        self,
        workspace: Workspace,
        state: State,
        current: LoadedVersion | None,
        predecessor: LoadedVersion | None,
    ):
        self.current, self.predecessor = current, predecessor
        self.losses: list[LossPoint] = []
        self.comparisons: list[Comparison] = []
        self.checks: list[Check] = []
        self.newest: tuple[LabelledRows, persistence.Predictions] | None = None
        """The batch that was added last, and the champion's answers."""
        self._workspace, self._state = workspace, state
        self._loaded = {version.version: version for version in (current, predecessor) if version}

    def add(self, part: LabelledRows) -> None:
        """On a newly labelled batch: champion, predecessor, and the version that served it if that was another one."""
        record = self._state.batches.get(part.batch.id)
        versions = [version.version for version in (self.current, self.predecessor) if version]
        if record and record.version is not None and record.version not in versions:
            versions.append(record.version)
        answers = self._ask(part, versions)
        lost = self._measure(part, answers)
        if self.current and self.current.version in lost:
            self.newest = part, answers[self.current.version]
        now, before = self._state.current, self._state.predecessor
        if now and before and {now.version, before.version} <= set(lost):
            ours, theirs = lost[now.version], lost[before.version]
            self.comparisons.append(performance.comparison(part.batch.id, now, before, ours, theirs))

    def again(self, part: LabelledRows) -> None:
        """Once more for every version and every pair that was measured on this batch with other labels."""
        batch = part.batch.id
        versions = [point.version for point in self._state.losses if point.batch == batch]
        lost = self._measure(part, self._ask(part, versions))
        self.comparisons += [
            _compared(item, lost)
            for item in self._state.comparisons
            if item.batch == batch and {item.version, item.predecessor} <= set(lost)
        ]

    def _measure(self, part: LabelledRows, answers: Mapping[int, persistence.Predictions]) -> dict[int, np.ndarray]:
        """The loss of every row, by version; their means are kept."""
        lost = {}
        for version, answer in answers.items():
            try:
                lost[version] = performance.row_losses(answer, part.target, self._workspace.spec.task)
            except DataError as error:
                self._unmeasured(version, part.batch, error)
        self.losses += [performance.loss_point(part.batch.id, version, losses) for version, losses in lost.items()]
        return lost

    def _ask(self, part: LabelledRows, versions: Sequence[int]) -> dict[int, persistence.Predictions]:
        """Answers for the labelled rows of a batch, by version. Where one cannot answer, a check says why."""
        return {version: found for version in versions if (found := self._answers(version, part)) is not None}

    def _answers(self, version: int, part: LabelledRows) -> persistence.Predictions | None:
        """None for a version that does not load here, or could not predict the batch: versions may differ in the
        columns that they need."""
        if (written := self._written(version, part)) is not None:
            return written
        try:
            loaded = self._loaded.get(version) or self._workspace.registry.load(self._workspace.model, version)
            if problems := validate(loaded.contract, part.source, self._workspace.spec).problems:
                raise DataError("; ".join(problems))
            together = loaded.manifest.together  # its answers are those of whole batches
            inputs = frame(loaded.contract, part.source, None if together else part.rows)
            answers = persistence.predict(loaded.pipeline, inputs, contract=loaded.contract)
            return performance.take(answers, part.rows) if together else answers
        except (DataError, NotFound, VerificationError) as error:
            self._unmeasured(version, part.batch, error)
            return None

    def _written(self, version: int, part: LabelledRows) -> persistence.Predictions | None:
        """What this version answered at the time; None where it did not, or where that is not to be relied on."""
        path, record = predictions_path(self._workspace, part.batch), self._state.batches.get(part.batch.id)
        by = written_version(path)
        if version != (by if record is None or record.version is None else record.version):
            return None
        try:
            if not path.exists():
                raise DataError(f"{path.name} is not there")
            if by not in (version, None):
                raise DataError(f"{path.name} was written by v{by}")
            return read_predictions(path, part.batch.sha256, part.total, part.rows)
        except DataError as error:
            self._note(part.batch, f"v{version} was asked again about {part.batch.id}: among the predictions {error}")
            return None

    def _unmeasured(self, version: int, batch: Batch, error: Exception) -> None:
        self._note(batch, f"v{version} was not measured on {batch.id}: {str(error).rstrip('.')}")

    def _note(self, batch: Batch, text: str) -> None:
        note = Check.of(CheckKind.PREDICTIONS, batch.id, Verdict.WARN, text)
        if note not in self.checks:
            self.checks.append(note)


def _compared(item: Comparison, lost: dict[int, np.ndarray]) -> Comparison:
    """The pair's comparison on its batch, from the losses of both on the same rows."""
    gains = lost[item.predecessor] - lost[item.version]
    return replace(item, rows=len(gains), gain=float(gains.mean()), variance=float(gains.var()))
