"""What the tests of the core share: specifications, data files, and one small version, trained once."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from tasks.core.schema.contract import Contract, infer
from tasks.core.store import Store
from tasks.core.versions.loaded import LoadedVersion
from tasks.core.versions.registry import Registry
from tests.helpers.model import make_rows
from tests.helpers.training import ROWS, Trained, make_history, make_spec, put, train


@pytest.fixture(scope="session")
def trained(tmp_path_factory: pytest.TempPathFactory) -> Trained:
    """A first version, trained on three batches of 600 rows."""
    root, spec = tmp_path_factory.mktemp("trained"), make_spec()
    history = make_history(root, spec, *(make_rows(600, seed) for seed in (1, 2, 3)))
    return Trained(root, spec, history, train(root, spec, history))


@pytest.fixture(scope="session")
def champion(trained: Trained, tmp_path_factory: pytest.TempPathFactory) -> LoadedVersion:
    """That first version, registered and loaded; its store is not to be changed."""
    registry = Registry(tmp_path_factory.mktemp("champion"))
    version, _ = registry.register("loans", "key", trained.challenger.candidate)
    return registry.load("loans", version)


@pytest.fixture
def contract(tmp_path: Path) -> Contract:
    """The contract of `ROWS` in a Parquet file."""
    return infer([put(tmp_path, ROWS, "training.parquet")], make_spec())


@pytest.fixture(params=["folder", "memory"])
def open_store(request: pytest.FixtureRequest, tmp_path: Path) -> Callable[[], Store]:
    """Opens a new, empty store: once over a local folder, once in memory."""
    return lambda: Store(tmp_path / "store" if request.param == "folder" else "memory://")


@pytest.fixture
def store(open_store: Callable[[], Store]) -> Store:
    """An empty store: once over a local folder, once in memory."""
    return open_store()
