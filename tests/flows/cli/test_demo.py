"""The demo: real flights, the real flow, and a timeline that follows from the data."""

from __future__ import annotations

import dataclasses
import os
import subprocess
import sys
import urllib.request
from pathlib import Path

import pandas as pd
import pytest

from flows.cli import demo
from flows.server import client, environment
from tasks.core.types import Outcome
from tasks.core.workspace import Workspace
from tests.helpers.quiet import Watch
from tests.helpers.ror import play
from tests.helpers.server import Server, free_port, started, stop, wait_for

pytestmark = pytest.mark.usefixtures("prefect")


def test_months_hold_only_what_is_known_before_departure(year: list[demo.Month]) -> None:
    """Twelve months in time order; no column tells how the flight went, and labels are joined by a unique key."""
    assert [month.name for month in year] == [f"2013-{number:02d}" for number in range(1, 13)]
    for month in year:
        assert not {"dep_time", "dep_delay", "arr_time", "arr_delay", "air_time"} & set(month.flights.columns)
        assert month.flights[demo.KEY].is_unique
        assert set(month.labels[demo.TARGET]) == {0, 1}
        assert set(month.labels[demo.KEY]) <= set(month.flights[demo.KEY])


@pytest.mark.slow
def test_timeline_follows_from_the_data(tmp_path: Path, year: list[demo.Month], played_year: Path) -> None:
    """January waits, February trains v1, later months do both; swapping two months' contents changes the timeline."""
    rows = demo.timeline(Workspace.open(played_year, demo.MODEL), year)
    outcomes = [row["outcome"] for row in rows]
    assert outcomes[:2] == [Outcome.HELD, Outcome.RETRAINED]
    assert {Outcome.RELOADED, Outcome.RETRAINED} <= set(outcomes[2:])
    assert rows[0]["auc"] is None and rows[-1]["auc"] is None
    assert all(row["auc"] > 0.5 for row in rows[1:-1])

    swapped = list(year)
    swapped[2] = dataclasses.replace(year[6], name=year[2].name)
    swapped[6] = dataclasses.replace(year[2], name=year[6].name)
    other = play(tmp_path / "swapped", swapped[:8])
    assert [(row["outcome"], row["why"]) for row in other] != [(row["outcome"], row["why"]) for row in rows[:8]]


def test_second_time_is_a_no_op(
    tmp_path: Path, year: list[demo.Month], monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """The demo goes on where it was stopped, and run again says that nothing was left to do."""
    monkeypatch.setattr(demo, "load_months", lambda: year[:3])
    play(tmp_path, year[:2])
    demo.run_demo(tmp_path)
    assert "2 months are decided on already" in capsys.readouterr().out
    ledger = Workspace.open(tmp_path, demo.MODEL).ledger
    seq, picture = ledger.head().seq, tmp_path / "data/flights/timeline.png"
    assert picture.read_bytes().startswith(b"\x89PNG")

    demo.run_demo(tmp_path)
    assert "nothing was run again" in capsys.readouterr().out
    assert ledger.head().seq == seq


def test_what_is_there_is_not_written_again(tmp_path: Path) -> None:
    """A file that was laid out is left alone, so that the digest which a version recorded stays true."""
    path = tmp_path / "batches" / "2013-01.parquet"
    demo._write(pd.DataFrame({"a": [1]}), path)
    before = path.read_bytes()
    demo._write(pd.DataFrame({"a": [2]}), path)
    assert path.read_bytes() == before
    assert list(path.parent.iterdir()) == [path]


SHORT = """
import sys
from dataclasses import replace
from pathlib import Path
from flows.cli import demo
months = [replace(month, flights=month.flights[:2000]) for month in demo.load_months()[:2]]
demo.load_months = lambda: months
demo.run_demo(Path(sys.argv[1]))
"""


@pytest.mark.slow
def test_its_runs_are_its_own_and_can_be_looked_at(tmp_path: Path) -> None:
    """The demo records its runs below its own folder, not in the user's Prefect; the command that it ends with starts a
    server that shows them. Neither the demo nor that server reaches for another machine."""
    root, watch, port = tmp_path / "year", Watch(tmp_path), free_port()
    names = ("PREFECT_HOME", "PREFECT_API_URL", "PREFECT_PROFILE", *environment.QUIET, "PYTHONPATH")
    user = {name: value for name, value in os.environ.items() if name not in names}
    user |= {"HOME": str(tmp_path / "user"), **watch.environment(os.environ.get("PYTHONPATH", ""))}
    command = [sys.executable, "-c", SHORT, str(root)]
    done = subprocess.run(command, env=user, cwd=tmp_path, capture_output=True, text=True, timeout=240, check=False)
    assert done.returncode == 0, done.stderr
    assert f"runs are recorded in {root}/data/flights/prefect" in done.stdout
    assert not (tmp_path / "user/.prefect").exists()

    words, _, page = done.stdout.splitlines()[-1].removeprefix("Its runs in Prefect's UI: ").partition(", then ")
    assert page == "http://127.0.0.1:4200/runs"
    programs = {"PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}"}
    server = started(["bash", "-c", f"exec env {words} --port {port}"], {**user, **programs}, tmp_path)
    try:
        shown = Server(f"http://127.0.0.1:{port}/api", user)
        wait_for(lambda: shown.call("GET", "/health") is True, 120)
        runs = {run["name"]: run["state"]["name"] for run in shown.runs()}
        assert runs == {"flights · 2013-01": "Held", "flights · 2013-02": "Retrained"}
        with urllib.request.urlopen(f"http://127.0.0.1:{port}/", timeout=30) as answer:
            assert b"<html" in answer.read()
    finally:
        stop(server)
    assert watch.hosts() <= {"127.0.0.1", "unix", "localhost"} and "127.0.0.1" in watch.hosts()


def test_a_server_of_the_user_is_named(prefect: None) -> None:
    """Where a server is configured, the runs are there, and so is the address that the demo ends with."""
    url = client.server_url()
    assert url and demo._how_to_see() == url.replace("/api", "/runs")
