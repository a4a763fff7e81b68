"""Schedules, the UI's create-run and the command line all end in the same flow, on a real Prefect server."""

from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import yaml

from flows.serve import _deployment, read_deployments
from tasks.core.errors import SpecError
from tasks.core.records import from_dict
from tasks.core.state import Decided
from tests.conftest import Model, make_rows

REPOSITORY = Path(__file__).resolve().parents[2]

NAMES = ["flights", "any-model", "promote", "backtest", "verify", "reproduce"]
"""The deployments of this project."""


@dataclass
class Server:
    """A real server on loopback and its REST interface."""

    url: str
    environment: dict[str, str]

    def call(self, method: str, path: str, body: Any = None) -> Any:
        """Ask again where the server says 503: its SQLite is busy, and Prefect's own clients do the same."""
        data = json.dumps(body).encode() if body is not None else None
        request = urllib.request.Request(self.url + path, data, {"Content-Type": "application/json"}, method=method)
        for _ in range(20):
            try:
                with urllib.request.urlopen(request, timeout=30) as answer:
                    return json.loads(answer.read() or "null")
            except urllib.error.HTTPError as error:
                if error.code != 503:
                    raise
                time.sleep(1)
        raise AssertionError(f"{method} {path}: still 503")

    def runs(self) -> list[Any]:
        return list(self.call("POST", "/flow_runs/filter", {"sort": "EXPECTED_START_TIME_DESC"}))

    def finished(self, run: str) -> str | None:
        state = self.call("GET", f"/flow_runs/{run}")["state"]
        return str(state["name"]) if state["type"] in ("COMPLETED", "FAILED", "CRASHED", "CANCELLED") else None


def wait_for(condition: Callable[[], Any], seconds: float) -> Any:
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline:
        try:
            if found := condition():
                return found
        except OSError:
            pass  # not listening yet
        time.sleep(0.5)
    raise AssertionError(f"it did not happen in {seconds} s")


def started(command: list[str], environment: dict[str, str], folder: Path) -> subprocess.Popen[Any]:
    quiet = subprocess.DEVNULL
    return subprocess.Popen(command, env=environment, stdout=quiet, stderr=quiet, cwd=folder)


def stop(process: subprocess.Popen[Any]) -> None:
    process.send_signal(signal.SIGTERM)
    try:
        process.wait(20)
    except subprocess.TimeoutExpired:
        process.kill()


@pytest.fixture
def server(tmp_path: Path) -> Iterator[Server]:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    home = tmp_path / "prefect"
    environment = {**os.environ, "PREFECT_HOME": str(home)}
    start = ["server", "start", "--host", "127.0.0.1", "--port", str(port), "--no-ui"]
    process = started([sys.executable, "-m", "prefect", *start], environment, tmp_path)
    url = f"http://127.0.0.1:{port}/api"
    running = Server(url, {**environment, "PREFECT_API_URL": url})
    try:
        wait_for(lambda: running.call("GET", "/health") is True, 120)
        yield running
    finally:
        stop(process)


@pytest.mark.slow
def test_schedule_cli_and_rest_end_in_named_states(model: Model, server: Server, tmp_path: Path) -> None:
    """A run by its schedule, by `prefect deployment run` and by REST: each final state is what the ledger says."""
    declared = yaml.safe_load((REPOSITORY / "deployments/prefect.yaml").read_text())
    scheduled, by_hand, *_ = declared["deployments"]
    scheduled |= {"name": "loans", "parameters": {"model": "loans"}}
    scheduled["schedules"][0]["cron"] = "* * * * *"
    (model.root / "deployments/prefect.yaml").write_text(yaml.safe_dump(declared))
    model.deliver("001")

    command = [sys.executable, "-m", "flows.cli", "serve", "--root", str(model.root)]
    serving = started(command, server.environment, tmp_path)
    try:
        first = wait_for(lambda: [run for run in server.runs() if run["state"]["type"] == "COMPLETED"], 180)
        assert first[0]["state"]["name"] == "Retrained"
        assert outcome(model) == "Retrained"
        # From here on nothing runs by itself.
        deployments = {item["name"]: item for item in server.call("POST", "/deployments/filter", {})}
        for schedule in deployments["loans"]["schedules"]:
            path = f"/deployments/{deployments['loans']['id']}/schedules/{schedule['id']}"
            server.call("PATCH", path, {"active": False})

        model.deliver("002")
        run = [sys.executable, "-m", "prefect", "deployment", "run", f"retrain-or-reload/{by_hand['name']}"]
        done = subprocess.run(
            [*run, "-p", "model=loans", "--watch", "--watch-timeout", "120"],
            env=server.environment, capture_output=True, text=True, timeout=180, check=False,
        )  # fmt: skip
        assert done.returncode == 0, done.stdout + done.stderr
        assert outcome(model) == "Reloaded"
        latest = [item for item in server.runs() if item["deployment_id"] == deployments["any-model"]["id"]]
        assert latest[0]["state"]["name"] == "Reloaded"
        assert latest[0]["name"] == "loans · 002"

        model.deliver("003", make_rows(seed=3).drop(columns="age"))
        created = server.call(
            "POST",
            f"/deployments/{deployments['any-model']['id']}/create_flow_run",
            {"parameters": {"model": "loans"}, "idempotency_key": "003 arrived"},
        )
        assert wait_for(lambda: server.finished(created["id"]), 120) == "Blocked"
        assert outcome(model) == "Blocked"
        wrong = {"parameters": {"model": "loans", "action": "dance"}}
        with pytest.raises(urllib.error.HTTPError, match=r"409|422"):
            server.call("POST", f"/deployments/{deployments['any-model']['id']}/create_flow_run", wrong)
    finally:
        stop(serving)


def outcome(model: Model) -> str:
    state = model.workspace.ledger.head().state
    assert state.decided is not None
    return from_dict(Decided, model.workspace.ledger.event(state.decided.seq).body).outcome.value


def test_serve_needs_a_server(model: Model) -> None:
    """Without a configured server no schedule would ever fire: `ror serve` says so instead of pretending."""
    (model.root / "deployments/prefect.yaml").write_text((REPOSITORY / "deployments/prefect.yaml").read_text())
    command = [sys.executable, "-m", "flows.cli", "serve", "--root", str(model.root)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == 2
    assert "prefect server start" in done.stderr


def test_deployments_are_read_from_the_yaml(tmp_path: Path) -> None:
    """The one place that says when and where is deployments/prefect.yaml; a missing or broken one is said."""
    assert [item["name"] for item in read_deployments(REPOSITORY)] == NAMES
    with pytest.raises(SpecError, match="no such file"):
        read_deployments(tmp_path)
    (tmp_path / "deployments").mkdir()
    (tmp_path / "deployments/prefect.yaml").write_text("deployments: {")
    with pytest.raises(SpecError, match="not a list of deployments"):
        read_deployments(tmp_path)


def test_each_deployment_starts_the_flow_it_names() -> None:
    """`ror serve` serves the flow that the yaml's entrypoint names, and says so when there is none."""
    made = [_deployment(item, REPOSITORY) for item in read_deployments(REPOSITORY)]
    assert [item.flow_name for item in made] == ["retrain-or-reload", "retrain-or-reload", *NAMES[2:]]
    for entrypoint in ("flows.promote.demote", "flows.nothing.promote", "promote", None):
        with pytest.raises(SpecError, match=r"deployment x:\n.*entrypoint"):
            _deployment({"name": "x", "entrypoint": entrypoint}, REPOSITORY)


def test_form_explains_every_parameter() -> None:
    """The UI builds its form from the flow's parameters: each is described, and only the model is required."""
    from prefect.utilities.callables import parameter_schema

    from flows.retrain_or_reload import retrain_or_reload

    schema = parameter_schema(retrain_or_reload).model_dump()
    assert schema["required"] == ["model"]
    assert all(item["description"] for item in schema["properties"].values())
    assert schema["properties"]["action"]["enum"] == ["auto", "reload", "retrain"]
