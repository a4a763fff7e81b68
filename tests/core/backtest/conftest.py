"""A small labelled history, and the fits made from it: each is computed once for all tests of this folder."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from threadpoolctl import threadpool_limits

from tasks.core.backtest.fits import Fits
from tasks.core.backtest.history import History, read_history
from tests.helpers.model import make_rows
from tests.helpers.training import make_spec, put

BATCHES, ROWS = 10, 200


def lay_out(root: Path, batches: int = BATCHES) -> History:
    """`batches` small batches; from the seventh on the relation is another one, so that retraining pays."""
    for number in range(batches):
        put(root, make_rows(ROWS, seed=number, flip=0.0 if number < 6 else 0.8), f"{number:03d}.parquet")
    return read_history(root, make_spec())


@pytest.fixture(scope="package", autouse=True)
def one_thread() -> Iterator[None]:
    """A team of threads stalls on a busy machine."""
    with threadpool_limits(1):
        yield


@pytest.fixture(scope="package")
def history(tmp_path_factory: pytest.TempPathFactory) -> History:
    return lay_out(tmp_path_factory.mktemp("history"))


@pytest.fixture(scope="package")
def fits(history: History, tmp_path_factory: pytest.TempPathFactory) -> Fits:
    return Fits(history, tmp_path_factory.mktemp("fits"))
