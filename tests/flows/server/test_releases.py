"""Both ends of the range of Prefect's releases that is supported, and what doctor says of a server beyond it."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import prefect
import pytest

from tasks.core.doctor.deployment import supported
from tests.helpers.model import Model
from tests.helpers.server import Server, running_server, started, stop, wait_for

pytestmark = pytest.mark.slow


def lowest() -> str:
    """The lowest release that pyproject.toml allows: `>=3.8` is 3.8.0."""
    (least,) = re.findall(r">=([\d.]+)", str(supported("prefect")))
    return ".".join([*least.split("."), "0", "0"][:3])


def release(folder: Path, version: str) -> Path:
    """A folder with that release of Prefect (`3.7.*`: the newest such) and nothing else: its needs are those of the one
    that is installed."""
    command = [sys.executable, "-m", "pip", "install", "--quiet", "--no-deps", "--target", str(folder)]
    done = subprocess.run([*command, f"prefect=={version}"], capture_output=True, text=True, check=False)
    if done.returncode:
        pytest.skip(f"prefect {version} cannot be installed here: {done.stderr.strip().splitlines()[-1:]}")
    return folder


@pytest.fixture(scope="module")
def old(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return release(tmp_path_factory.mktemp("old"), lowest())


def path(*folders: Path) -> dict[str, str]:
    given = filter(None, [*map(str, folders), os.environ.get("PYTHONPATH")])
    return {"PYTHONPATH": os.pathsep.join(given)}


@contextmanager
def worker(server: Server, folder: Path) -> Iterator[None]:
    command = [sys.executable, "-m", "prefect", "worker", "start", "--pool", "ror", "--type", "process"]
    working = started(command, {**server.environment, "PREFECT_WORKER_QUERY_SECONDS": "1"}, folder)
    try:
        yield
    finally:
        stop(working)


def findings(server: Server, model: Model) -> dict[str, Any]:
    """What doctor says, by name, of several the last."""
    done = server.command("flows.cli", "doctor", "--json", "--root", str(model.root))
    assert done.returncode in (0, 1), done.stderr
    return {item["name"]: item for item in json.loads(done.stdout)["findings"]}


@pytest.mark.parametrize("older", ["server", "client"])
def test_lowest_and_installed_release_work_together(model: Model, old: Path, tmp_path: Path, older: str) -> None:
    """The lowest supported server with clients of the installed release, and the other way round: deployments are told,
    doctor finds all well and names both releases, and a run by the worker and one by hand end in their states."""
    model.write_spec('[pipeline]\nparameters = { max_iter = 10 }\n[schedule]\ncron = "0 0 1 1 *"\n')
    model.deliver("001")
    theirs, ours = (path(old), path()) if older == "server" else (path(), path(old))
    names = {"server": (lowest(), prefect.__version__), "client": (prefect.__version__, lowest())}
    with running_server(tmp_path, **theirs) as server:
        server.environment.update(ours)
        done = server.command("flows.cli", "deploy", "--root", str(model.root))
        assert done.returncode == 0, done.stderr
        with worker(server, tmp_path):
            run = server.start("any-model", {"model": "loans"})
            assert wait_for(lambda: server.finished(run), 120) == "Retrained"
            found = findings(server, model)
            assert "answers, Prefect {}; client {}".format(*names[older]) in found["server"]["text"]
            found.pop("evidently")  # a busy machine does not import it in time
            assert {item["level"] for item in found.values()} == {"ok"}, [*found.values()]
        model.deliver("002")
        done = server.command("flows.cli", "run", "loans", "--json", "--root", str(model.root))
        assert done.returncode == 0, done.stderr
        assert json.loads(done.stdout)["outcome"] == "Reloaded"
        assert server.runs()[0]["state"]["name"] in ("Reloaded", "Scheduled")


def test_a_server_beyond_the_range(model: Model, tmp_path: Path) -> None:
    """Doctor fails for a real server of the minor release before, says what is supported, and what to do; the other
    lines about that server are there all the same."""
    major, minor, _ = lowest().split(".")
    before = f"{major}.{int(minor) - 1}"
    model.deliver("001")
    with running_server(tmp_path, **path(release(tmp_path / "before", f"{before}.*"))) as server:
        server.environment.update(path())
        found = findings(server, model)
    assert found["server"]["level"] == "fail"
    said = rf"Prefect {before}\.\d+; client {prefect.__version__}; {re.escape(str(supported('prefect')))} is supported"
    assert re.search(said, found["server"]["text"])
    assert found["server"]["remedy"] == f"Bring both to the same release: pip install 'prefect=={prefect.__version__}'"
    assert (found["server telemetry"]["level"], found["server clock"]["level"]) == ("ok", "ok")
    assert found["deployments"]["level"] in ("warn", "fail")
