"""Shared harness: a small model in a root of its own, and one embedded Prefect server for the whole session."""

from __future__ import annotations

import os
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

from tests import isolation

isolation.enter()  # Prefect reads its environment once, when it is imported
# As a server is to be started that others rely on: see `ror doctor`.
os.environ["PREFECT_SERVER_CONCURRENCY_LEASE_STORAGE"] = "prefect.server.concurrency.lease_storage.filesystem"
from flows.server import environment

environment.configure(verbose=False)

import pytest

from flows.cli import demo
from tasks.core.checks import performance
from tasks.core.training import choice, proof
from tests.helpers.model import STREAMS, Model


def pytest_configure(config: pytest.Config) -> None:
    isolation.fails = config.option.markexpr != "slow"


def pytest_xdist_auto_num_workers(config: pytest.Config) -> int | None:
    """A test or file by its name, or `-k`, is run in this process: soon there, and a debugger can stop in it."""
    alone = all("::" in argument or Path(argument).is_file() for argument in config.args)
    return 0 if alone or config.option.keyword else None


def pytest_xdist_setupnodes() -> None:
    """Workers have a core each: teams of threads would wait for one another."""
    os.environ.setdefault("OMP_NUM_THREADS", "1")


@pytest.fixture
def model(tmp_path: Path) -> Model:
    """A binary model with labels in its batches and no data yet."""
    made = Model(tmp_path)
    made.write_spec()
    return made


@pytest.fixture(autouse=True)
def unproved(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    """The clean process that proves a candidate takes two seconds: only tests that are about it, marked `proof`, do."""
    if "proof" not in request.keywords:
        monkeypatch.setattr(proof, "prove", lambda *_: frozenset())


@pytest.fixture(autouse=True)
def unchosen(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    """A choice among the default pipelines takes a second: only tests that are about it, marked `choice`, make one."""
    if "choice" not in request.keywords:
        monkeypatch.setattr(choice, "PLENTY", 0)


@pytest.fixture(scope="session", autouse=True)
def few_resamples() -> Iterator[None]:
    """The intervals of metrics are drawn from fewer samples: hardly a test looks at their last digit."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(performance, "RESAMPLES", performance.RESAMPLES // 5)
        yield


@pytest.fixture(scope="session")
def prefect() -> Iterator[None]:
    """One embedded Prefect server for every flow test of the session, without heartbeats."""
    from prefect.settings import PREFECT_FLOWS_HEARTBEAT_FREQUENCY, temporary_settings
    from prefect.testing.utilities import prefect_test_harness

    with (
        prefect_test_harness(server_startup_timeout=120),
        temporary_settings({PREFECT_FLOWS_HEARTBEAT_FREQUENCY: None}),
    ):
        yield


@pytest.fixture(scope="session")
def year() -> list[demo.Month]:
    """The demo's twelve months, with 2,500 flights sampled from each: enough for every rule, in a tenth of the time."""
    months = []
    for month in demo.load_months():
        flights = month.flights.sample(2_500, random_state=0).sort_index().reset_index(drop=True)
        labels = month.labels[month.labels[demo.KEY].isin(flights[demo.KEY])].reset_index(drop=True)
        months.append(replace(month, flights=flights, labels=labels))
    return months


@pytest.fixture
def streams() -> Path:
    if not (STREAMS / "elec2.parquet").exists():
        pytest.skip(f"the real streams are not at {STREAMS} (set ROR_STREAMS)")
    return STREAMS
