"""A real Prefect server on loopback, and what tests ask of it by REST."""

from __future__ import annotations

import base64
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
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tasks.core.ledger.events import Decided
from tests.helpers.model import Model

REPOSITORY = Path(__file__).resolve().parents[2]

ENDED = ("COMPLETED", "FAILED", "CRASHED", "CANCELLED")


@dataclass
class Server:
    """A real server on loopback and its REST interface."""

    url: str
    environment: dict[str, str]
    """Of a client: it knows the server's address and password."""

    def call(self, method: str, path: str, body: Any = None) -> Any:
        """Ask again where the server says 503: its SQLite is busy, and Prefect's own clients do the same."""
        data = json.dumps(body).encode() if body is not None else None
        headers = {"Content-Type": "application/json"}
        if password := self.environment.get("PREFECT_API_AUTH_STRING"):
            headers["Authorization"] = f"Basic {base64.b64encode(password.encode()).decode()}"
        request = urllib.request.Request(self.url + path, data, headers, method=method)
        for _ in range(20):
            try:
                with urllib.request.urlopen(request, timeout=30) as answer:
                    return json.loads(answer.read() or "null")
            except urllib.error.HTTPError as error:
                if error.code != 503:
                    raise
                time.sleep(1)
        raise AssertionError(f"{method} {path}: still 503")

    def deployments(self) -> dict[str, Any]:
        return {item["name"]: item for item in self.call("POST", "/deployments/filter", {})}

    def runs(self) -> list[Any]:
        return list(self.call("POST", "/flow_runs/filter", {"sort": "EXPECTED_START_TIME_DESC"}))

    def start(self, deployment: str, parameters: dict[str, Any], key: str | None = None) -> str:
        """Create a run as the form of the UI does; its id."""
        body = {"parameters": parameters, **({"idempotency_key": key} if key else {})}
        found = self.deployments()[deployment]["id"]
        return str(self.call("POST", f"/deployments/{found}/create_flow_run", body)["id"])

    def finished(self, run: str) -> str | None:
        """Name of the state that a run ended in, None before."""
        state = self.call("GET", f"/flow_runs/{run}")["state"]
        return str(state["name"]) if state["type"] in ENDED else None

    def command(self, *words: str, **settings: str) -> subprocess.CompletedProcess[str]:
        """`python -m ...` with this server configured; `settings` go to its environment."""
        return subprocess.run(
            [sys.executable, "-m", *words],
            env={**self.environment, **settings}, capture_output=True, text=True, timeout=180, check=False,
        )  # fmt: skip


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


@contextmanager
def running_server(folder: Path, password: str | None = None, *, ui: bool = False, **settings: str) -> Iterator[Server]:
    """A server with a database of its own below `folder`, until the block ends, with Prefect's UI or without. With a
    password (`user:secret`) only who knows it is let in; `settings` go to its environment."""
    port = free_port()
    # A worker that is killed leaves its temporary files where they go with the folder.
    environment = {**os.environ, "PREFECT_HOME": str(folder / "prefect"), "TMPDIR": str(folder), **settings}
    start = ["server", "start", "--host", "127.0.0.1", "--port", str(port)]
    url = f"http://127.0.0.1:{port}/api"
    if ui:  # which looks for the API at port 4200, unless told
        environment["PREFECT_SERVER_UI_API_URL"] = url
    else:
        start.append("--no-ui")
    theirs = {**environment, **({"PREFECT_SERVER_API_AUTH_STRING": password} if password else {})}
    process = started([sys.executable, "-m", "prefect", *start], theirs, folder)
    ours = {**environment, "PREFECT_API_URL": url, **({"PREFECT_API_AUTH_STRING": password} if password else {})}
    ours.pop("PREFECT_API_DATABASE_CONNECTION_URL", None)  # the server's alone
    running = Server(url, ours)
    try:
        wait_for(lambda: running.call("GET", "/health") is True, 300)
        yield running
    finally:
        stop(process)


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


# --- a run, and what the ledger says of it ---------------------------------------------------------------------


def ended(server: Server, run: str) -> str:
    """Name of the state that the run ends in."""
    return str(wait_for(lambda: server.finished(run), 300))


def newest(server: Server, deployment: str) -> dict[str, Any]:
    """The latest run of a deployment."""
    found = server.deployments()[deployment]["id"]
    return dict(next(run for run in server.runs() if run["deployment_id"] == found))


def decided(model: Model) -> tuple[str, Decided]:
    """Flow run and body of the newest decision, by the ledger."""
    state = model.workspace.ledger.head().state
    assert state.decided is not None
    event = model.workspace.ledger.event(state.decided.seq)
    return event.run, event.content_as(Decided)


def agree(server: Server, model: Model, run: str, outcome: str) -> None:
    """The run ended in that state, and the ledger says the same of the same run."""
    assert ended(server, run) == outcome
    key, decision = decided(model)
    assert (key, decision.outcome.value) == (run, outcome)
