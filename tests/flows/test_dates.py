"""The factory for dates that the guide shows: dates that are listed reach it, and it makes parts and ages of them."""

from __future__ import annotations

import re
import sys
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from flows.server import launch
from tasks.core.types import Outcome
from tests.helpers.model import Model

REPOSITORY = Path(__file__).resolve().parents[2]
GUIDE = (REPOSITORY / "deployments/README.md").read_text(encoding="utf-8")
SECTION = GUIDE.partition("\n### Dates\n")[2].partition("\n### ")[0]
(KEYS,), (FACTORY,) = (re.findall(rf"```{language}\n(.*?)```", SECTION, flags=re.S) for language in ("toml", "python"))


def loans(number: int, rows: int = 600) -> pd.DataFrame:
    """Loans whose answer is whether somebody was older than 40 when they applied."""
    rng = np.random.default_rng(number)
    applied = pd.Timestamp(f"2026-{number:02d}-01") + pd.to_timedelta(rng.integers(0, 28 * 24, rows), unit="h")
    age = rng.uniform(20, 60, rows)
    born = (applied - pd.to_timedelta((age * 365.25).round(), unit="D")).floor("D")
    ids = [f"{number}-{row}" for row in range(rows)]
    columns = {"applied_at": applied, "born": born, "income": rng.normal(size=rows), "y": (age > 40).astype(int)}
    return pd.DataFrame({"id": ids, **columns})


@pytest.fixture
def dated(model: Model, monkeypatch: pytest.MonkeyPatch) -> Iterator[Model]:
    """A model with the file and the factory of the guide."""
    monkeypatch.setattr(sys, "path", [*sys.path])
    (model.root / "src").mkdir()
    (model.root / "src/dated.py").write_text(FACTORY)
    top, section, rest = KEYS.partition("[pipeline]")
    model.write_spec(section + rest)
    path = model.root / "deployments/loans.toml"
    path.write_text(top + path.read_text())
    yield model
    sys.modules.pop("dated", None)


@pytest.mark.usefixtures("prefect")
@pytest.mark.parametrize("ending", ["parquet", "csv"])
def test_dates_are_learned_from(dated: Model, ending: str) -> None:
    """Dates of Parquet files and of text are turned into ages, which tell the answer; the next month's dates, all of
    them new, are no change."""
    dated.batches.mkdir(parents=True)
    for number, outcome in ((1, Outcome.RETRAINED), (2, Outcome.RELOADED)):
        frame, path = loans(number), dated.batches / f"2026-0{number}.{ending}"
        frame.to_parquet(path, index=False) if ending == "parquet" else frame.to_csv(path, index=False)
        result = launch.run(dated.root, "loans")
        assert result.outcome is outcome, result.message
    predicted = pd.read_parquet(dated.root / "data/loans/predictions/2026-02.parquet")
    assert ((predicted["probability"] > 0.5) == loans(2)["y"]).mean() > 0.95
    decided = dated.workspace.ledger.decision(dated.workspace.state().decided.seq)  # type: ignore[union-attr]
    assert not [check.summary for check in decided.checks if "not seen in training" in check.summary]
