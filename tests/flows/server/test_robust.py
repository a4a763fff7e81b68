"""Runs that are killed, cancelled or hang, on a real server with a real worker: what was in service stays, and the next
run goes on."""

from __future__ import annotations

import json
import shutil
import sys
import textwrap
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from subprocess import Popen
from typing import Any

import psutil
import pytest

from flows.server.doctor import IN_MEMORY
from tests.helpers.model import Model
from tests.helpers.server import REPOSITORY, Server, running_server, started, stop, wait_for

pytestmark = pytest.mark.slow

SETTINGS = {
    "PREFECT_SERVER_SERVICES_SCHEDULER_LOOP_SECONDS": "5",
    "PREFECT_SERVER_EVENTS_PROACTIVE_GRANULARITY": "PT2S",
    "PREFECT_WORKER_QUERY_SECONDS": "1",
    "PREFECT_FLOWS_HEARTBEAT_FREQUENCY": "30",
}
"""Prefect's loops, quicker, and the least time between heartbeats that Prefect allows."""

PATIENT = """
    import os
    import time
    from pathlib import Path
    from sklearn.base import BaseEstimator, TransformerMixin
    from sklearn.pipeline import make_pipeline
    from tasks.core.training.factory import tabular


    class Patient(TransformerMixin, BaseEstimator):
        # Fitted once nobody tells it to wait any more.

        def __init__(self, folder):
            self.folder = folder

        def fit(self, X, y=None):
            Path(self.folder, f"fitting-{os.getpid()}").touch()
            while Path(self.folder, "wait").exists():
                time.sleep(0.05)
            return self

        def transform(self, X):
            return X


    def patient(task, seed, folder):
        return make_pipeline(Patient(folder), tabular(task, seed, max_iter=10))
"""


@dataclass
class Site:
    """A server, what is deployed on it, and a worker that may be killed."""

    model: Model
    folder: Path
    server: Server
    worker: Popen[Any] | None = None
    began: float = field(default_factory=time.monotonic)

    def note(self, words: str) -> None:
        print(f"{time.monotonic() - self.began:6.1f} s  {words}", flush=True)

    def start_worker(self) -> Popen[Any]:
        words = ["worker", "start", "--pool", "ror"]
        self.worker = started([sys.executable, "-m", "prefect", *words], self.server.environment, self.folder)
        return self.worker

    def kill_worker(self) -> None:
        assert self.worker is not None
        self.worker.kill()
        self.worker.wait()

    def fired(self) -> set[str]:
        """Names of the automations that acted."""
        wanted = {"filter": {"event": {"name": ["prefect.automation.triggered"]}}}
        found = self.server.call("POST", "/events/filter", wanted)["events"]
        return {str(event["resource"].get("prefect.resource.name")) for event in found}

    def crashed(self) -> int:
        return sum(run["state_type"] == "CRASHED" for run in self.server.runs())

    def ror(self, *words: str) -> str:
        done = self.server.command("flows.cli", *words, "--root", str(self.model.root))
        assert done.returncode == 0, done.stdout + done.stderr
        return done.stdout

    def hold(self) -> None:
        """Fits wait from now on."""
        (self.folder / "wait").touch()

    def let_go(self) -> None:
        (self.folder / "wait").unlink()

    def retrain(self, reason: str, deployment: str = "loans") -> str:
        """Ask for a version by hand; the same reason again would be the same question."""
        return self.server.start(deployment, {"model": "loans", "action": "retrain", "reason": reason})

    def fitting(self, run: str) -> psutil.Process:
        """The process of a run, once it is in the middle of its fit."""

        def found() -> psutil.Process | None:
            lease = self.model.workspace.ledger.head().state.lease
            if lease is None or lease.run != run or not (self.folder / f"fitting-{lease.pid}").exists():
                return None
            return psutil.Process(lease.pid)

        return wait_for(found, 90)

    def ended(self, run: str, seconds: float = 180) -> str:
        """Name of the state that the run ends in; where it does not end, what Prefect knows of it is printed."""
        try:
            return str(wait_for(lambda: self.server.finished(run), seconds))
        except AssertionError:
            self.note(f"did not end: {self.server.call('GET', f'/flow_runs/{run}')['state']}")
            for line in self.server.call("POST", "/logs/filter", {"sort": "TIMESTAMP_ASC"}):
                print(line["timestamp"], line["flow_run_id"], line["message"])
            raise

    def message(self, run: str) -> str:
        return str(self.server.call("GET", f"/flow_runs/{run}")["state"]["message"])

    def slots(self) -> int:
        """How many slots of the deployment are taken, by the server."""
        return int(self.server.deployments()["loans"]["global_concurrency_limit"]["active_slots"])

    @property
    def in_service(self) -> int | None:
        current = self.model.workspace.ledger.head().state.current
        return current.version if current else None

    def objects(self) -> set[str]:
        """What is in the model's store."""
        folder = self.model.root / "artifacts/loans"
        return {path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_file()}

    def intact(self, version: int) -> None:
        """`ror verify` finds nothing wrong, and this version is in service."""
        assert self.in_service == version
        found = json.loads(self.ror("verify", "loans", "--json"))
        assert found["ok"] and not [remark for remark in found["remarks"] if remark["damage"]], found
        self.note(f"v{version} is in service; verify: {found['events']} entries, {found['objects']} objects, all well")


def prepare(model: Model, folder: Path, within: int = 540) -> None:
    """A model whose fits wait where they are told to, and `within` seconds after which a run is no longer heard of."""
    (model.root / "src").mkdir()
    (model.root / "src/patient.py").write_text(textwrap.dedent(PATIENT))
    yaml = (REPOSITORY / "deployments/prefect.yaml").read_text()
    assert "within: 540" in yaml
    (model.root / "deployments/prefect.yaml").write_text(yaml.replace("within: 540", f"within: {within}"))
    path = model.root / "deployments/loans.toml"
    pipeline = f'[pipeline]\nfactory = "patient:patient"\nparameters = {{ folder = "{folder}" }}\n'
    path.write_text('code = ["src"]\n' + path.read_text() + pipeline)
    model.deliver("001", rows=2_000)
    (folder / "tmp").mkdir()


@contextmanager
def site(model: Model, folder: Path, **settings: str) -> Iterator[Site]:
    """A server on which the model is deployed, and a worker."""
    with running_server(folder, **{**SETTINGS, **settings}, TMPDIR=str(folder / "tmp")) as server:
        made = Site(model, folder, server)
        made.ror("deploy")
        made.start_worker()
        try:
            yield made
        finally:
            stop(made.worker)


def test_killed(model: Model, tmp_path: Path) -> None:
    """SIGKILL in the middle of a fit, of the run, the worker or both: the store is intact and the next run proceeds; a
    run that nobody ends is marked as crashed."""
    prepare(model, tmp_path, within=45)
    with site(model, tmp_path) as here:
        assert here.ended(here.server.start("loans", {"model": "loans"})) == "Retrained"

        here.note("only the run's process is killed")
        here.hold()
        run = here.retrain("first")
        here.fitting(run).kill()
        assert here.ended(run) == "Crashed"
        assert "SIGKILL" in here.message(run)
        assert here.slots() == 0
        here.intact(1)

        here.note("only the worker is killed: the run goes on without it")
        run = here.retrain("second")
        here.fitting(run)
        here.kill_worker()
        here.start_worker()
        here.let_go()
        assert here.ended(run) == "Retrained"
        assert here.slots() == 0
        here.intact(2)

        here.note("both are killed")
        here.hold()
        run = here.retrain("third")
        process = here.fitting(run)
        here.kill_worker()
        process.kill()
        killed = time.monotonic()
        here.let_go()
        here.intact(2)
        here.start_worker()
        # Prefect cannot know yet, and keeps the deployment's slot; the history does, for whoever needs none.
        other = here.retrain("fourth")
        assert here.ended(other) == "Cancelled"
        assert "concurrency limit" in here.message(other)
        again = here.retrain("fifth", "any-model")
        assert here.ended(again) == "Retrained"
        here.note(f"the next run of any-model ended {time.monotonic() - killed:.0f} s after the kill")
        here.intact(3)
        # Then the run is missed, and the deployment's next one proceeds.
        assert here.ended(run, 120) == "Crashed"
        here.note(f"missed {time.monotonic() - killed:.0f} s after the kill: {here.message(run)}")
        assert "no longer heard of" in here.message(run)
        wait_for(lambda: "ror: a run broke off" in here.fired(), 30)
        assert here.slots() == 0
        assert here.ended(here.retrain("sixth")) == "Retrained"
        here.intact(4)
        # Of the runs that ended by themselves none was taken for a dead one.
        assert here.crashed() == 2


def test_cancelled_and_prefect_s_database_lost(model: Model, tmp_path: Path) -> None:
    """Cancelled in the middle of a fit, as the button of the UI does it: the process ends, the store is as before, no
    file of its own is left in the temporary folder, and the next run proceeds at once. Without Prefect's database, lost
    then, the history is what it was, and runs go on."""
    prepare(model, tmp_path)
    with site(model, tmp_path) as here:
        assert here.ended(here.server.start("loans", {"model": "loans"})) == "Retrained"
        before = here.objects()
        here.hold()
        run = here.retrain("first")
        process = here.fitting(run)
        assert [path.name for path in (tmp_path / "tmp").glob("ror-*")]
        began = time.monotonic()
        here.server.call("POST", f"/flow_runs/{run}/set_state", {"state": {"type": "CANCELLING", "name": "Cancelling"}})
        assert here.ended(run) == "Cancelled"
        here.note(f"cancelled after {time.monotonic() - began:.1f} s: {here.message(run)}")
        assert not psutil.wait_procs([process], 30)[1]
        assert not [*(tmp_path / "tmp").glob("ror-*")]
        head = model.workspace.ledger.head()
        assert head.state.lease is None  # given back, not taken over
        event = model.workspace.ledger.event(head.seq)
        assert (event.event, event.run) == ("failed", run)
        assert "from outside" in event.body["error"]
        assert here.objects() - before == {f"ledger/{head.seq - 1:08d}.json", f"ledger/{head.seq:08d}.json"}
        assert here.slots() == 0
        here.intact(1)
        here.let_go()
        assert here.ended(here.retrain("second")) == "Retrained"
        here.intact(2)

    here.note("Prefect's database is lost")
    before = here.ror("history", "loans", "--json")
    shutil.rmtree(tmp_path / "prefect")
    memory = {"PREFECT_SERVER_CONCURRENCY_LEASE_STORAGE": IN_MEMORY}  # the default, which doctor warns of
    with site(model, tmp_path, **memory) as here:
        assert here.ror("history", "loans", "--json") == before
        model.deliver("002")
        assert here.ended(here.server.start("loans", {"model": "loans"})) == "Reloaded"
        told = here.server.command("flows.cli", "doctor", "--root", str(model.root), "--json")
        findings = {item["name"]: item for item in json.loads(told.stdout)["findings"]}
        assert findings["server slots"]["level"] == "warn"
        assert "lease_storage.filesystem" in findings["server slots"]["remedy"]
        here.intact(2)
        after = json.loads(here.ror("history", "loans", "--json"))
        assert after[: len(json.loads(before))] == json.loads(before)
