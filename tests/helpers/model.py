"""A small model in a root of its own: deliver files, then run."""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from tasks.core.workspace import Workspace

STREAMS = Path(os.environ.get("ROR_STREAMS", Path(__file__).resolve().parents[3] / "shared" / "streams"))
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


def moved_away(batch: str) -> pd.DataFrame:
    """A batch in which half of the rows come from a city that was never seen."""
    rows = make_rows(seed=int(batch))
    rows.loc[rows.index % 2 == 0, "city"] = "Stavanger"
    return rows
