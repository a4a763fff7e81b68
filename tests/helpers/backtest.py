"""A small labelled history to replay."""

from __future__ import annotations

from pathlib import Path

from tasks.core.backtest.history import History, read_history
from tests.helpers.model import make_rows
from tests.helpers.training import make_spec, put

BATCHES, ROWS = 10, 200


def lay_out(root: Path, batches: int = BATCHES) -> History:
    """`batches` small batches; from the seventh on the relation is another one, so that retraining pays."""
    for number in range(batches):
        put(root, make_rows(ROWS, seed=number, flip=0.0 if number < 6 else 0.8), f"{number:03d}.parquet")
    return read_history(root, make_spec())
