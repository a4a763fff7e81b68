"""Many models on one worker: whether their runs step on each other, and what the server and the worker take.

    python -m tests.benchmarks.many [--models 50] [--limit 3] [--database sqlite|postgresql]

A real server, one process worker that runs `--limit` runs at once, and so many small models, deployed with `ror
deploy`. All are triggered at once: first each trains its first version, then each gets a second batch. Every run must
end as its model's history says, none in an error, and `ror verify` must find every store whole. Exits with 1 when
something is wrong. Memory is the peak of the resident set: of the server, of the worker, and of the worker with its
runs, whose shared pages count in each of them.
"""

from __future__ import annotations

import argparse
import json
import sys
import tempfile
import threading
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import psutil

from tasks.core.ledger.events import Decided
from tasks.core.records import from_dict
from tests.helpers.database import postgresql
from tests.helpers.model import Model
from tests.helpers.server import ENDED, Server, running_server, started, stop, wait_for

SPEC = "[pipeline]\nparameters = { max_iter = 10 }\n"


@dataclass
class Round:
    """One trigger of every model."""

    seconds: float
    states: Counter[str]
    """Names of the states that the runs ended in."""
    problems: list[str] = field(default_factory=list)
    """Where a run and its model's history differ."""


@dataclass
class Watch:
    """Peaks of resident memory, in MB."""

    server: float = 0.0
    worker: float = 0.0
    runs: float = 0.0
    """The worker with everything it started."""


def make(root: Path, count: int) -> list[Model]:
    models = [Model(root, f"m{number:02d}") for number in range(count)]
    for model in models:
        model.write_spec(SPEC)
        model.deliver("001")
    return models


def trigger(server: Server, models: list[Model], seconds: float) -> Round:
    """Every model's deployment at once, until all have ended."""
    began = time.monotonic()
    asked = {model.name: server.start(model.name, {}) for model in models}

    def runs() -> dict[str, Any]:
        wanted = {"flow_runs": {"id": {"any_": list(asked.values())}}}
        return {run["id"]: run for run in server.call("POST", "/flow_runs/filter", wanted)}

    def done() -> dict[str, Any] | None:
        found = runs()
        return found if all(run["state_type"] in ENDED for run in found.values()) else None

    ended = wait_for(done, seconds)
    round_ = Round(time.monotonic() - began, Counter(run["state_name"] for run in ended.values()))
    for model in models:
        run, state = ended[asked[model.name]], model.workspace.ledger.head().state
        said = None
        if state.decided is not None:
            event = model.workspace.ledger.event(state.decided.seq)
            said = (event.run, from_dict(Decided, event.body).outcome.value)
        if said != (run["id"], run["state_name"]):
            message = (run["state"]["message"] or "")[:300]
            round_.problems.append(f"{model.name}: the run ended {run['state_name']} ({message}), the history: {said}")
    return round_


def verify(server: Server, root: Path) -> list[str]:
    """What `ror verify` has to say against any store."""
    done = server.command("flows.cli", "verify", "--root", str(root))
    return [] if done.returncode == 0 else [(done.stdout + done.stderr).strip()]


@contextmanager
def working(server: Server, folder: Path, limit: int) -> Iterator[psutil.Process]:
    """One process worker; what it says goes to worker.log."""
    words = ["worker", "start", "--pool", "ror", "--limit", str(limit)]
    process = started([sys.executable, "-m", "prefect", *words], server.environment, folder)
    try:
        yield psutil.Process(process.pid)
    finally:
        stop(process)


@contextmanager
def watched(server: psutil.Process, worker: psutil.Process) -> Iterator[Watch]:
    """Look at their memory every second until the block ends."""
    seen, over = Watch(), threading.Event()

    def look() -> None:
        while not over.wait(1):
            own, children = memory(worker), sum(memory(child) for child in offspring(worker))
            seen.server = max(seen.server, memory(server) + sum(memory(child) for child in offspring(server)))
            seen.worker, seen.runs = max(seen.worker, own), max(seen.runs, own + children)

    thread = threading.Thread(target=look, daemon=True)
    thread.start()
    try:
        yield seen
    finally:
        over.set()
        thread.join()


def memory(process: psutil.Process) -> float:
    try:
        return float(process.memory_info().rss) / 1e6
    except psutil.NoSuchProcess:
        return 0.0


def offspring(process: psutil.Process) -> list[psutil.Process]:
    try:
        return list(process.children(recursive=True))
    except psutil.NoSuchProcess:
        return []


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--models", type=int, default=50)
    parser.add_argument("--limit", type=int, default=3)
    parser.add_argument("--database", choices=["sqlite", "postgresql"], default="sqlite")
    asked = parser.parse_args()
    problems: list[str] = []
    with tempfile.TemporaryDirectory(prefix="many-") as name, ExitStack() as stack:
        folder, root = Path(name), Path(name) / "root"
        models = make(root, asked.models)
        database = stack.enter_context(postgresql()) if asked.database == "postgresql" else None
        settings = {"PREFECT_API_DATABASE_CONNECTION_URL": database} if database else {}
        server = stack.enter_context(running_server(folder, **settings))
        began = time.monotonic()
        done = server.command("flows.cli", "deploy", "--root", str(root), "--json")
        assert done.returncode == 0, done.stderr
        print(
            f"{len(json.loads(done.stdout))} things deployed for {len(models)} models: {time.monotonic() - began:.1f} s"
        )
        worker = stack.enter_context(working(server, folder, asked.limit))
        (listening,) = [item for item in psutil.Process().children() if "server" in item.cmdline()]
        seen = stack.enter_context(watched(listening, worker))
        for batch in ("001", "002"):
            for model in models:
                model.deliver(batch)
            found = trigger(server, models, 60 * len(models))
            states = ", ".join(f"{count} {state}" for state, count in found.states.items())
            print(
                f"batch {batch}: {found.seconds:.0f} s, {found.seconds / len(models):.1f} s a model; {states}",
                flush=True,
            )
            problems += found.problems
        began = time.monotonic()
        problems += verify(server, root)
        print(f"`ror verify` of all: {time.monotonic() - began:.1f} s")
        memory = f"server {seen.server:.0f} MB, worker {seen.worker:.0f} MB, with its runs {seen.runs:.0f} MB"
        print(f"peak memory ({asked.limit} at once, {asked.database}): {memory}")
    print("\n".join(problems) or "no run failed, every run ended as its history says, every store is whole")
    sys.exit(1 if problems else 0)


if __name__ == "__main__":
    main()
