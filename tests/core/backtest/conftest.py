"""A small labelled history, and the fits made from it: each is computed once for all tests of this folder."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from threadpoolctl import threadpool_limits

from tasks.core.backtest.fits import Fits
from tasks.core.backtest.history import History
from tests.helpers.backtest import lay_out


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
