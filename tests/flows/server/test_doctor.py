"""`ror doctor`: what it says of a Prefect server, its deployments, pools and workers; and that it always ends."""

from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from uuid import uuid4

import pytest

from flows.server.doctor import examine
from tasks.core.doctor.deployment import Diagnosis, Level
from tests.helpers.model import Model
from tests.helpers.ror import Ror

QUIET = {"DO_NOT_TRACK": "1", "PREFECT_SERVER_ANALYTICS_ENABLED": "false"}

DECLARED = """
deployments:
  - {{name: loans, entrypoint: flows.retrain_or_reload.retrain_or_reload, parameters: {{model: loans}},
     schedules: [{{cron: "0 6 1 * *", timezone: Europe/Oslo}}], work_pool: {{name: {pool}}}}}
  - {{name: verify, entrypoint: flows.verify.verify, work_pool: {{name: {pool}}}}}
"""


@pytest.fixture
def well(model: Model) -> Model:
    """A model with data, in which nothing is wrong."""
    model.deliver("001")
    return model


def look(model: Model) -> dict[str, Diagnosis]:
    """The findings by name; of several of one name the worst."""
    order = [Level.OK, Level.SKIPPED, Level.WARN, Level.FAIL]
    found = sorted(examine(model.root, QUIET), key=lambda finding: order.index(finding.level))
    return {finding.name: finding for finding in found}


class Prefect:
    """The session's server: a pool of a name of its own, and the deployments of `DECLARED` in it."""

    def __init__(self, client: Any, model: Model):
        self.client, self.pool, self.made = client, f"pool-{uuid4().hex[:8]}", {}
        (model.root / "deployments/prefect.yaml").write_text(DECLARED.format(pool=self.pool))

    def make_pool(self) -> None:
        from prefect.client.schemas.actions import WorkPoolCreate

        self.client.create_work_pool(WorkPoolCreate(name=self.pool, type="process"))

    def deploy(self, name: str, *, pooled: bool = True, **parameters: Any) -> None:
        from prefect.client.schemas.actions import DeploymentScheduleCreate
        from prefect.client.schemas.schedules import CronSchedule

        entrypoint = {"loans": "flows.retrain_or_reload.retrain_or_reload", "verify": "flows.verify.verify"}[name]
        cron = CronSchedule(cron="0 6 1 * *", timezone="Europe/Oslo")
        self.made[name] = self.client.create_deployment(
            self.client.create_flow_from_name(name), name, entrypoint=entrypoint, parameters=parameters,
            work_pool_name=self.pool if pooled else None,
            schedules=[DeploymentScheduleCreate(schedule=cron, active=True)] if name == "loans" else [],
        )  # fmt: skip

    def beat(self, interval: int) -> None:
        """What a worker sends."""
        body = {"name": "w1", "heartbeat_interval_seconds": interval}
        self.client.request("POST", f"/work_pools/{self.pool}/workers/heartbeat", json=body)

    def schedule(self) -> Any:
        return self.client.read_deployment(self.made["loans"]).schedules[0]


@pytest.fixture
def at_home(prefect: None, well: Model) -> Iterator[Prefect]:
    """Everything as it should be: deployments, a pool, a heartbeat."""
    from prefect import get_client

    with get_client(sync_client=True) as client:
        home = Prefect(client, well)
        home.make_pool()
        home.deploy("loans", model="loans")
        home.deploy("verify")
        home.beat(30)
        yield home
        for made in home.made.values():
            client.delete_deployment(made)
        client.delete_work_pool(home.pool)


def test_all_is_well(at_home: Prefect, well: Model, ror: Ror, monkeypatch: pytest.MonkeyPatch) -> None:
    """With everything in place every line is ok, the exit code 0, and the JSON has the same findings."""
    for name, value in QUIET.items():
        monkeypatch.setenv(name, value)
    answer = ror.json("doctor")
    assert answer["ok"]
    assert all(set(item) == {"name", "level", "text", "remedy"} for item in answer["findings"])
    said = {item["name"]: item for item in answer["findings"] if item["name"] != "libraries"}
    assert {item["level"] for item in said.values()} == {"ok"}, said
    pool = f"work pool {at_home.pool}"
    assert {
        *("program", "python", "server", "server clock", "deployments", "schedules", pool, f"{pool}: worker"),
        *("late runs", "keys", "store", "free space", "loans", "loans: batches", "loans: history"),
    } <= set(said)
    assert said["schedules"]["text"] == "active: loans (0 6 1 * * Europe/Oslo)"
    assert said[f"{pool}: worker"]["text"].startswith("w1, heard of ")
    assert ror("doctor") == 0
    assert all(line.startswith("ok ") for line in ror.out.splitlines()[:-2] if "libraries" not in line)
    assert ror.out.splitlines()[-1].startswith("All is well")


def test_what_fails_sets_the_exit_code(prefect: None, model: Model, ror: Ror) -> None:
    """A failed check is exit code 1, on the terminal and in JSON, with what to do behind it."""
    assert ror("doctor") == 1
    (line,) = [line for line in ror.out.splitlines() if "loans: batches" in line]
    assert line.startswith("fail ") and "Make it, or correct data.batches" in line
    assert ror("doctor", "--json") == 1
    assert json.loads(ror.out)["ok"] is False


def test_what_somebody_paused(at_home: Prefect, well: Model) -> None:
    """A pool, a deployment or a schedule that is switched off is why nothing runs: each is named."""
    from prefect.client.schemas.actions import WorkPoolUpdate

    pool, client = f"work pool {at_home.pool}", at_home.client
    client.update_work_pool(at_home.pool, WorkPoolUpdate(is_paused=True))
    client.pause_deployment(at_home.made["verify"])
    client.update_deployment_schedule(at_home.made["loans"], at_home.schedule().id, active=False)
    found = look(well)
    assert found[pool].level is Level.FAIL
    assert found[pool].remedy == f"`prefect work-pool resume {at_home.pool}`"
    assert (found["deployments"].level, found["schedules"].level) == (Level.FAIL, Level.FAIL)
    assert found["deployments"].text.endswith(": verify")
    assert found["schedules"].text == "that of loans is switched off"
    client.update_work_pool(at_home.pool, WorkPoolUpdate(is_paused=False))
    client.resume_deployment(at_home.made["verify"])
    client.update_deployment_schedule(at_home.made["loans"], at_home.schedule().id, active=True)
    assert {look(well)[name].level for name in (pool, "deployments", "schedules")} == {Level.OK}


def test_a_worker_that_falls_silent(at_home: Prefect, well: Model) -> None:
    """A worker that misses a heartbeat is a warning, and one that misses three is dead."""
    worker = f"work pool {at_home.pool}: worker"
    at_home.beat(1)
    time.sleep(2)
    late = look(well)[worker]
    assert late.level is Level.WARN
    until(lambda: look(well)[worker].level is Level.FAIL, 20)
    dead = look(well)[worker]
    assert (dead.level, dead.remedy) == (Level.FAIL, f"`prefect worker start --pool {at_home.pool}`")
    assert dead.text.startswith("none is alive (w1, heard of ")


def test_what_the_server_does_not_have(at_home: Prefect, well: Model) -> None:
    """A deployment, a schedule for a model, or a pool that prefect.yaml declares and the server lacks."""
    (well.root / "deployments/cars.toml").write_text((well.root / "deployments/loans.toml").read_text())
    at_home.client.delete_deployment(at_home.made.pop("verify"))
    found = look(well)
    assert (found["deployments"].level, found["deployments"].text) == (Level.WARN, "not on the server: verify")
    assert (found["schedules"].level, found["schedules"].text) == (Level.WARN, "none for cars: runs by hand only")
    at_home.client.delete_deployment(at_home.made.pop("loans"))
    at_home.client.delete_work_pool(at_home.pool)
    found = look(well)
    pool = found[f"work pool {at_home.pool}"]
    assert (found["deployments"].level, pool.level) == (Level.FAIL, Level.FAIL)
    assert f"prefect work-pool create {at_home.pool} --type process" in pool.remedy
    at_home.make_pool()
    assert look(well)[f"work pool {at_home.pool}: worker"].text == "none was ever started"


def test_served_deployments_need_no_pool(at_home: Prefect, well: Model) -> None:
    """What `ror serve` has registered is run by that process alone: no pool is asked for, and it must be alive."""
    for name in ("loans", "verify"):
        at_home.client.delete_deployment(at_home.made.pop(name))
        at_home.deploy(name, pooled=False, model="loans", root=str(well.root))
    found = look(well)
    assert not any(name.startswith("work pool") for name in found)
    assert found["serving"].level is Level.FAIL
    assert found["serving"].text == "no process runs loans, verify; last heard of never"
    ids = [str(made) for made in at_home.made.values()]
    at_home.client.request("POST", "/deployments/get_scheduled_flow_runs", json={"deployment_ids": ids})
    until(lambda: look(well)["serving"].level is Level.OK, 20)


def test_what_works_on_another_root(at_home: Prefect, well: Model) -> None:
    """A deployment of that name which works on another root is named, and is not taken for this root's own."""
    at_home.client.delete_deployment(at_home.made.pop("verify"))
    at_home.deploy("verify", model="loans", root=str(well.root / "elsewhere"))
    texts = [item.text for item in examine(well.root, QUIET) if item.name == "deployments"]
    assert texts == [f"verify works on {well.root / 'elsewhere'}, not on {well.root}", "not on the server: verify"]


def test_runs_that_nobody_picks_up(at_home: Prefect, well: Model) -> None:
    """Runs that are late are counted."""
    from prefect.client.schemas.objects import StateType
    from prefect.states import State

    late = State(type=StateType.SCHEDULED, name="Late")
    at_home.client.create_flow_run_from_deployment(at_home.made["verify"], state=late)
    assert look(well)["late runs"].text.startswith("1 should have started")


def test_a_broken_prefect_yaml(at_home: Prefect, well: Model) -> None:
    """A prefect.yaml that is none fails by itself; the other lines are there all the same."""
    path = well.root / "deployments/prefect.yaml"
    path.write_text("deployments: {")
    found = look(well)
    assert found["deployments"].level is Level.FAIL and "not valid YAML" in found["deployments"].text
    assert found["server"].level is Level.OK


def test_without_a_server(well: Model) -> None:
    """No server is a note, not a failure: runs use an embedded one."""
    from prefect.settings import PREFECT_API_URL, temporary_settings

    with temporary_settings(restore_defaults={PREFECT_API_URL}):
        found = look(well)
    assert found["server"].level is Level.WARN
    assert "deployments" not in found
    assert Level.FAIL not in {finding.level for name, finding in found.items() if name != "libraries"}


def elsewhere(url: str, well: Model) -> tuple[dict[str, Diagnosis], float]:
    from prefect.settings import PREFECT_API_URL, temporary_settings

    start = time.monotonic()
    with temporary_settings({PREFECT_API_URL: url}):
        found = look(well)
    return found, time.monotonic() - start


def test_a_server_that_does_not_answer(well: Model) -> None:
    """Nobody listens, somebody listens and says nothing, or nobody accepts: each ends in time, and says so; what only
    the server knows is skipped, and everything else was looked at. A password in the address is not shown."""
    with socket.socket() as listening:
        listening.bind(("127.0.0.1", 0))
        port = listening.getsockname()[1]
        refused, quick = elsewhere(f"http://me:secret@127.0.0.1:{port}/api", well)
        listening.listen(8)
        silent, slow = elsewhere(f"http://127.0.0.1:{port}/api", well)
    assert refused["server"].text.startswith(f"http://127.0.0.1:{port}/api cannot be reached: ")
    assert refused["server"].remedy == "Start it: `prefect server start`."
    assert silent["server"].text == f"http://127.0.0.1:{port}/api does not answer in time"
    for found, seconds in ((refused, quick), (silent, slow)):
        assert found["server"].level is Level.FAIL
        assert found["work pools"].level is Level.SKIPPED
        assert found["store"].level is found["loans: batches"].level is Level.OK
        assert seconds < 10


def test_an_address_that_is_not_the_api(prefect: None, well: Model) -> None:
    """The server's address without /api is the usual slip."""
    from flows.server.client import server_url

    found, _ = elsewhere((server_url() or "").removesuffix("/api"), well)
    assert found["server"].level is Level.FAIL
    assert found["server"].remedy == "PREFECT_API_URL ends in /api: correct it."


def test_another_release_of_the_server(prefect: None) -> None:
    """A server of another release is told apart: another minor one, and one that we do not support."""
    from flows.server.doctor import _versions

    assert _versions("url", "3.8.1").level is Level.OK
    old = _versions("url", "3.7.0")
    assert old.level is Level.FAIL
    assert "Prefect 3.7.0" in old.text and "<3.9" in old.text


def test_neither_scikit_learn_nor_evidently_is_loaded(well: Model) -> None:
    """All checks together import nothing that takes seconds to load."""
    script = (
        "import sys; from pathlib import Path; from flows.server.doctor import examine; examine(Path(sys.argv[1]), {});"
        "print(*[name for name in ('sklearn', 'evidently', 'pandas') if name in sys.modules])"
    )
    done = subprocess.run(
        [sys.executable, "-c", script, str(well.root)], capture_output=True, text=True, timeout=60, check=False
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout.split() == []


# --- a server with a password, and a worker that is killed ----------------------------------------------------


@pytest.fixture
def guarded_server(tmp_path: Path) -> Iterator[dict[str, str]]:
    """The environment of a user of a real server that wants a password."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    secret = "admin:right"
    environment = {**os.environ, **QUIET, "PREFECT_HOME": str(tmp_path / "prefect")}
    start = ["server", "start", "--host", "127.0.0.1", "--port", str(port), "--no-ui"]
    process = subprocess.Popen(
        [sys.executable, "-m", "prefect", *start], env={**environment, "PREFECT_SERVER_API_AUTH_STRING": secret},
        stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, cwd=tmp_path,
    )  # fmt: skip
    user = {**environment, "PREFECT_API_URL": f"http://127.0.0.1:{port}/api", "PREFECT_API_AUTH_STRING": secret}
    try:
        until(lambda: say(tmp_path, user)["server"]["level"] == "ok", 120)
        yield user
    finally:
        process.send_signal(signal.SIGTERM)
        try:
            process.wait(20)
        except subprocess.TimeoutExpired:
            process.kill()


def say(root: Path, environment: dict[str, str]) -> dict[str, Any]:
    """What `ror doctor --json` says in a process of its own, by name; of several the last."""
    command = [sys.executable, "-m", "flows.cli", "doctor", "--root", str(root), "--json"]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode in (0, 1), done.stderr
    return {item["name"]: item for item in json.loads(done.stdout)["findings"]}


def until(condition: Any, seconds: float) -> None:
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, f"it did not happen in {seconds} s"
        time.sleep(0.5)


@pytest.mark.slow
def test_a_password_and_a_killed_worker(guarded_server: dict[str, str], well: Model, tmp_path: Path) -> None:
    """With the right password a server answers; a wrong one, and none, are told apart. A worker that is killed with
    SIGKILL is missed."""
    (well.root / "deployments/prefect.yaml").write_text(DECLARED.format(pool="ror"))
    wrong = say(well.root, {**guarded_server, "PREFECT_API_AUTH_STRING": "admin:wrong"})
    assert wrong["server"]["text"].endswith("refuses what is set in PREFECT_API_AUTH_STRING")
    assert wrong["deployments"]["level"] == "skipped"
    none = say(well.root, {k: v for k, v in guarded_server.items() if k != "PREFECT_API_AUTH_STRING"})
    assert none["server"]["text"].endswith("wants a password")
    assert none["server"]["remedy"] == "Set PREFECT_API_AUTH_STRING=user:password."

    prefect = [sys.executable, "-m", "prefect"]
    subprocess.run(
        [*prefect, "work-pool", "create", "ror", "--type", "process"],
        env=guarded_server, check=True, capture_output=True, timeout=60,
    )  # fmt: skip
    environment = {**guarded_server, "PREFECT_WORKER_HEARTBEAT_SECONDS": "2"}
    command = [*prefect, "worker", "start", "--pool", "ror", "--name", "w1"]
    worker = subprocess.Popen(
        command, env=environment, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, cwd=tmp_path
    )
    try:
        until(lambda: say(well.root, guarded_server)["work pool ror: worker"]["level"] == "ok", 60)
    finally:
        worker.kill()
    until(lambda: say(well.root, guarded_server)["work pool ror: worker"]["level"] == "fail", 60)
