"""Many models on one worker; `python -m tests.benchmarks.many` plays the same with fifty."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.benchmarks.many import make, trigger, verify, working
from tests.helpers.server import running_server


@pytest.mark.slow
def test_models_do_not_step_on_each_other(tmp_path: Path) -> None:
    """Four models that are triggered at once on one worker: each run ends as its model's history says, none in an
    error, and every store is whole."""
    models = make(tmp_path / "root", 4)
    with running_server(tmp_path) as server:
        deployed = server.command("flows.cli", "deploy", "--root", str(tmp_path / "root"))
        assert deployed.returncode == 0, deployed.stderr
        with working(server, tmp_path, limit=4):
            found = trigger(server, models, 300)
        assert (found.states, found.problems) == ({"Retrained": 4}, [])
        assert verify(server, tmp_path / "root") == []
