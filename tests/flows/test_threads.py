"""How many threads of numerical libraries a run uses."""

from __future__ import annotations

import joblib
import pytest

from flows import retrain_or_reload as flow_module
from tests.helpers.model import Model


def test_threads_of_a_run(model: Model, monkeypatch: pytest.MonkeyPatch) -> None:
    """By hand it may use all cores; started by a deployment, its part of them, as if every model ran at once. What the
    model's file says counts for both."""
    used: list[int] = []
    monkeypatch.setattr("flows.retrain_or_reload.use", used.append)
    monkeypatch.delenv("OMP_NUM_THREADS", raising=False)
    monkeypatch.setattr(joblib, "cpu_count", lambda: 8)
    own_threads = flow_module.own_threads
    Model(model.root, "others").write_spec()
    assert own_threads(model.workspace) == 8
    monkeypatch.setenv("PREFECT__RUNTIME__DEPLOYMENT__ID", "nightly")
    assert own_threads(model.workspace) == 4
    model.write_spec("[training]\nthreads = 3\n")
    assert own_threads(model.workspace) == 3
    assert used == [8, 4, 3]
