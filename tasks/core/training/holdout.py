"""The rows that are kept out of training for the gate."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import pandas as pd

from tasks.core.data.rows import LabelledRows
from tasks.core.schema.frames import frame
from tasks.core.types import Batch

if TYPE_CHECKING:
    from tasks.core.schema.contract import Contract


HOLDOUT_EVERY = 10
"""One row in so many of the newest labelled batches is kept for the gate. The newest rows are worth most to a fit:
keeping a fifth of them cost 0.7 % of the loss on five real streams, a tenth 0.4 %."""
FIRST_HOLDOUT_EVERY = 5
"""For a first version: data are few, and none is too old yet. Its holdout contains the one of later versions."""
GATE_ROWS = 100
"""Rows that the gate needs; holdouts of earlier batches are added, newest first, until there are as many."""
GATE_BATCHES = 16
"""Batches whose holdouts are added at most."""


@dataclass(frozen=True)
class TrainingSet:
    """All labelled history, split into rows to learn from and rows kept for the gate."""

    learn: tuple[LabelledRows, ...]
    gate: tuple[LabelledRows, ...]


def split(history: Sequence[LabelledRows], every: int = HOLDOUT_EVERY) -> TrainingSet:
    """Keep one row in `every` of the newest batches for the gate, going back until there are GATE_ROWS of them."""
    learn, gate, kept = list(history), [], 0
    for index in range(len(history) - 1, max(-1, len(history) - 1 - GATE_BATCHES), -1):
        item = history[index]
        rows = holdout_rows(item.batch, item.total, every)
        gate.append(item.part(rows))
        learn[index] = item.without(rows)
        kept += len(gate[-1].rows)
        if kept >= GATE_ROWS:
            break
    return TrainingSet(tuple(learn), tuple(reversed(gate)))


def features_of(contract: Contract, parts: Sequence[LabelledRows]) -> pd.DataFrame:
    """The features of these rows, one part after another, as a pipeline takes them."""
    return pd.concat([frame(contract, part.source, part.rows) for part in parts], ignore_index=True)


def holdout_rows(batch: Batch, rows: int, every: int = HOLDOUT_EVERY) -> np.ndarray:
    """Row numbers kept for the gate: those whose blake2b(batch digest, row number) mod `every` is 0.

    Digest and numbers are those that the batch was delivered with: what is erased from it moves no other row into the
    holdout, where a version that was trained on it would be measured.
    """
    prefix = hashlib.blake2b(bytes.fromhex(batch.origin or batch.sha256), digest_size=8)
    delivered, kept = np.delete(np.arange(rows + len(batch.gone)), batch.gone), []
    for place, row in enumerate(delivered.tolist()):
        mark = prefix.copy()
        mark.update(row.to_bytes(8, "little"))
        if int.from_bytes(mark.digest(), "little") % every == 0:
            kept.append(place)
    return np.array(kept, dtype=np.int64)
