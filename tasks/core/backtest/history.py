"""What a backtest replays: the labelled batches of a model, in time order."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property, lru_cache
from pathlib import Path

import numpy as np

from tasks.core.data.files import find_batches, label_files
from tasks.core.data.known_classes import with_classes
from tasks.core.data.labels import Labels
from tasks.core.data.rows import LabelledRows, labelled_rows
from tasks.core.errors import DataError, SpecError
from tasks.core.ledger.state import State
from tasks.core.run.labels import counts
from tasks.core.run.work import repeats_of
from tasks.core.spec import ModelSpec
from tasks.core.training.holdout import FIRST_HOLDOUT_EVERY, holdout_rows
from tasks.core.types import Batch, Labelled

FEWEST = 6
"""Labelled batches that a backtest needs: four to train the first version on, two to decide about."""


@dataclass(frozen=True)
class History:
    """Labelled batches in time order; everything else refers to them by position."""

    root: Path
    spec: ModelSpec
    parts: tuple[LabelledRows, ...]
    left_out: Mapping[str, str]
    """Batches that cannot be replayed, and why."""

    def __len__(self) -> int:
        return len(self.parts)

    @property
    def batches(self) -> tuple[Batch, ...]:
        """The batches, in time order."""
        return tuple(part.batch for part in self.parts)

    @cached_property
    def holdouts(self) -> tuple[np.ndarray, ...]:
        """For each batch: which of its labelled rows belong to the gate's holdout, shape (rows,)."""
        return tuple(np.isin(part.rows, holdout_rows(part.batch, part.total)) for part in self.parts)

    @cached_property
    def first_holdouts(self) -> tuple[np.ndarray, ...]:
        """For each batch: which of its labelled rows belong to a first version's holdout, shape (rows,)."""
        return tuple(
            np.isin(part.rows, holdout_rows(part.batch, part.total, FIRST_HOLDOUT_EVERY)) for part in self.parts
        )

    @cached_property
    def position(self) -> dict[str, int]:
        """The place of each batch, by its name."""
        return {part.batch.id: place for place, part in enumerate(self.parts)}


def read_history(root: Path, spec: ModelSpec) -> History:
    """Every batch on disk with enough labels. Raises SpecError when there are too few to replay."""
    batches, parts = find_batches(root, spec), []
    left_out = {batch: f"it has the same bytes as {owner}" for batch, owner in repeats_of(batches, State()).items()}
    files = label_files(root, spec)
    owners = [batch for batch in batches if batch.id not in left_out]
    labels = Labels(root, with_classes(root, spec, None, batches, files), files, batches=owners)
    for later, batch in zip(range(len(batches) - 1, -1, -1), batches, strict=True):
        if batch.id in left_out:
            continue
        try:
            part = labelled_rows(root, batch, labels, spec.task)
        except DataError as error:
            left_out[batch.id] = str(error)
            continue
        if not counts(spec.data, Labelled(batch.id, part.labels, len(part.rows), part.coverage, lag=later)):
            left_out[batch.id] = f"labels for {part.coverage:.0%} of its rows only"
            continue
        parts.append(part)
    if len(parts) < FEWEST:
        why = "; ".join(f"{batch}: {reason}" for batch, reason in left_out.items()) or "no others were found"
        raise SpecError(
            spec.data.batches, [f"a backtest needs {FEWEST} labelled batches, and there are {len(parts)} ({why})"]
        )
    return History(root, spec, tuple(parts), left_out)


@lru_cache(maxsize=2)
def history_of(root: Path, spec_json: str, batches: tuple[Batch, ...]) -> History:
    """`read_history` once per worker process. Raises DataError when it is no longer what the backtest began with."""
    history = read_history(root, ModelSpec.model_validate_json(spec_json))
    if history.batches != batches:
        raise DataError("The batches on disk changed while they were replayed. Run the backtest again.")
    return history
