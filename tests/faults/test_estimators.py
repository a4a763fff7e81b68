"""Every classifier and regressor of scikit-learn, and two boosters beside it: registered here, loaded elsewhere."""

from __future__ import annotations

import importlib.metadata
import warnings
from concurrent.futures import ProcessPoolExecutor
from functools import cache
from multiprocessing import get_context
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from tasks.core.schema import frames
from tasks.core.versions import persistence
from tasks.core.versions.manifest import Candidate
from tasks.core.versions.registry import Registry
from tests.faults import estimators
from tests.helpers.model import make_rows
from tests.helpers.training import make_history, make_spec, train

LEAST = 85
"""Estimators that are expected to work, of all releases of scikit-learn that are supported."""


def rows_of(task: str, seed: int) -> pd.DataFrame:
    """A small mixed frame with nulls; the target of a regression is positive, as some regressors ask."""
    frame = make_rows(200, seed)
    if task == "regression":
        noise = np.random.default_rng(seed).normal(0, 0.1, len(frame))
        frame["y"] = np.exp(0.3 * frame["income"].fillna(0) + 0.01 * frame["age"] + noise)
    return frame


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore")
def test_every_estimator(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Each that can be fitted is registered, and in a new process it gives its known answers, and the same for new
    rows; each that cannot is one that is expected not to."""
    distributions = importlib.metadata.packages_distributions
    monkeypatch.setattr(importlib.metadata, "packages_distributions", cache(distributions))
    registry, refused, candidates = Registry(tmp_path / "artifacts"), {}, dict[str, Candidate]()
    history = {}
    for task in ("binary", "regression"):
        root = tmp_path / task
        root.mkdir()
        history[task] = make_history(root, make_spec(task=task), *(rows_of(task, seed) for seed in (1, 2)))
    for name, task in estimators.names().items():
        spec = make_spec(
            task=task, pipeline={"factory": "tests.faults.estimators:pipeline", "parameters": {"name": name}}
        )
        try:
            with warnings.catch_warnings(action="ignore"):
                candidates[name] = train(tmp_path / task, spec, history[task]).candidate
        except Exception as error:  # noqa: BLE001 - all that fail are told at once
            refused[name] = str(error)
            continue
        assert registry.register(name, "key", candidates[name])[0] == 1
    assert {name: why for name, why in refused.items() if name not in estimators.EXCLUDED} == {}
    assert set(refused) == set(estimators.EXCLUDED) & set(estimators.names())
    print(f"\n{len(candidates)} estimators; not: {sorted(refused)}")
    assert len(candidates) >= LEAST

    new = make_rows(100, seed=9)
    new.to_parquet(tmp_path / "new.parquet")
    with ProcessPoolExecutor(1, mp_context=get_context("spawn")) as elsewhere:
        asked = elsewhere.submit(estimators.answers, tmp_path / "artifacts", list(candidates), tmp_path / "new.parquet")
        found = asked.result(timeout=120)
    assert {name: answer for name, answer in found.items() if isinstance(answer, str)} == {}
    for name, candidate in candidates.items():
        conformed = frames.conform(candidate.contract, new)
        expected = persistence.predict(persistence.load(candidate.pipeline), conformed)
        values, probabilities = found[name]
        assert np.array_equal(values, expected.values), name
        assert (probabilities is None) == (expected.probabilities is None), name
        assert probabilities is None or np.array_equal(probabilities, expected.probabilities), name
        assert values.shape == (len(new),), name
    for name, (package, _) in estimators.OTHERS.items():
        assert any(package in recorded for recorded in candidates[name].environment.distributions), name
