"""What the tests of the core share: specifications, data files, and one small version, trained once."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
from threadpoolctl import threadpool_limits

from tasks.core import performance, training
from tasks.core.batches import Labels
from tasks.core.contract import Contract, infer
from tasks.core.files import find_batches
from tasks.core.gate import LabelledRows, labelled_rows
from tasks.core.registry import LoadedVersion, Registry
from tasks.core.source import Source
from tasks.core.spec import ModelSpec, parse_spec
from tasks.core.store import Store
from tasks.core.training import Challenger
from tests.conftest import make_rows

ROWS = make_rows(200, seed=1)


def make_spec(**changes: Any) -> ModelSpec:
    """A binary model over the rows of `make_rows`; `changes` replace whole keys of its file."""
    values = {
        "task": "binary",
        "target": "y",
        "key": "id",
        "owner": "tests",
        "purpose": "tests",
        "data": {"batches": "*.parquet"},
        "pipeline": {"parameters": {"max_iter": 10}},
    }
    merged = {**values, **changes}
    return parse_spec({**merged, "data": {"settle": 0, **merged["data"]}}, "tests")  # files of tests appear whole


def put(root: Path, frame: pd.DataFrame, name: str = "batch.parquet", **options: Any) -> Source:
    """Write a data file, as CSV or Parquet by its ending, and open it."""
    write = frame.to_csv if name.endswith(".csv") else frame.to_parquet
    write(root / name, index=False, **options)
    return Source(root, name)


def make_history(root: Path, spec: ModelSpec, *frames: pd.DataFrame) -> list[LabelledRows]:
    """The labelled rows of these frames, one batch each, in the order given."""
    for number, frame in enumerate(frames, start=1):
        put(root, frame, f"{number:03d}.parquet")
    labels = Labels(root, spec)
    return [labelled_rows(root, batch, labels, spec.task) for batch in find_batches(root, spec)]


def train(
    root: Path, spec: ModelSpec, history: list[LabelledRows], champion: LoadedVersion | None = None
) -> Challenger:
    """A challenger, fitted by one thread: a team of them stalls on a busy machine."""
    with threadpool_limits(1):
        return training.train(root, spec, history, champion, "retrain", ["a test"])


@pytest.fixture(scope="package", autouse=True)
def few_resamples() -> Iterator[None]:
    """Draw the intervals of metrics from a tenth of the samples: none of these tests looks at their last digit."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(performance, "RESAMPLES", performance.RESAMPLES // 10)
        yield


@dataclass(frozen=True)
class Trained:
    """A challenger with what it was made from."""

    root: Path
    spec: ModelSpec
    history: list[LabelledRows]
    challenger: Challenger


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
