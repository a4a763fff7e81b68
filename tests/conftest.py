"""Shared harness: a small model in a root of its own, and one embedded Prefect server for the whole session."""

from __future__ import annotations

import os
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from tests import isolation

isolation.enter()  # Prefect reads its environment once, when it is imported
# As a server is to be started that others rely on: see `ror doctor`.
os.environ["PREFECT_SERVER_CONCURRENCY_LEASE_STORAGE"] = "prefect.server.concurrency.lease_storage.filesystem"
from flows import launch

launch.configure(verbose=False)

import numpy as np
import pandas as pd
import pytest

from flows import demo
from tasks.core import proof
from tasks.core.workspace import Workspace

STREAMS = Path(os.environ.get("ROR_STREAMS", Path(__file__).resolve().parents[2] / "shared" / "streams"))
"""Real streams, where they are at hand; tests that need them say so and skip elsewhere."""


@dataclass
class Model:
    """A small binary model in a root of its own: deliver files, then run."""

    root: Path
    name: str = "loans"

    @property
    def workspace(self) -> Workspace:
        return Workspace.open(self.root, self.name)

    @property
    def batches(self) -> Path:
        return self.root / "data" / self.name / "batches"

    @property
    def labels(self) -> Path:
        return self.root / "data" / self.name / "labels"

    def write_spec(self, extra: str = "", *, late_labels: bool = False, task: str = "binary") -> None:
        labels = f'labels = "data/{self.name}/labels/*"' if late_labels else ""
        text = (
            f'task = "{task}"\ntarget = "y"\nkey = "id"\nowner = "tests"\npurpose = "tests"\n'
            f'[data]\nbatches = "data/{self.name}/batches/*"\nsettle = 0\n{labels}\n{extra}\n'
        )
        path = self.root / "deployments" / f"{self.name}.toml"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)

    def deliver(self, batch: str, frame: pd.DataFrame | None = None, *, rows: int = 600, **changes: Any) -> Path:
        """Put a batch in place; `changes` go to `make_rows`."""
        self.batches.mkdir(parents=True, exist_ok=True)
        frame = make_rows(rows, seed=int(batch), **changes) if frame is None else frame
        path = self.batches / f"{batch}.parquet"
        frame.to_parquet(path, index=False)
        return path

    def deliver_while_training(self, batch: str) -> None:
        """From now on a batch arrives while a pipeline is made, which is no good one."""
        self.deliver(batch).rename(self.root / f"{batch}.parquet")
        (self.root / "src").mkdir()
        (self.root / "src/courier.py").write_text(
            "import os\nfrom sklearn.dummy import DummyClassifier\n"
            "def build():\n"
            f"    if os.path.exists({str(self.root / f'{batch}.parquet')!r}):\n"
            f"        os.rename({str(self.root / f'{batch}.parquet')!r}, {str(self.batches / f'{batch}.parquet')!r})\n"
            "    return DummyClassifier(strategy='most_frequent')\n"
        )
        path = self.root / "deployments" / f"{self.name}.toml"
        lines = path.read_text().replace("[pipeline]\nparameters = { max_iter = 10 }\n", "")
        path.write_text(f'code = ["src"]\n{lines}\n[pipeline]\nfactory = "courier:build"\n')


def make_rows(rows: int = 600, seed: int = 0, *, shift: float = 0.0, flip: float = 0.0) -> pd.DataFrame:
    """A mixed, learnable problem: `shift` moves a feature, `flip` inverts the relation for that share of rows."""
    rng = np.random.default_rng(seed)
    income = rng.normal(shift, 1.0, rows)
    age = rng.integers(18, 80, rows)
    city = rng.choice(["Oslo", "Bergen", "Tromsø"], rows, p=[0.6, 0.3, 0.1])
    signal = 1.5 * income + 0.03 * (age - 45) + (city == "Bergen")
    answer = signal + rng.logistic(0, 1, rows) > 0
    answer ^= rng.random(rows) < flip
    income[rng.random(rows) < 0.05] = np.nan
    return pd.DataFrame(
        {
            "id": [f"{seed}-{row}" for row in range(rows)],
            "income": income,
            "age": age,
            "city": city,
            "member": rng.random(rows) < 0.5,
            "y": answer.astype(int),
        }
    )


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
        monkeypatch.setattr(proof, "prove", lambda *_: None)


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
