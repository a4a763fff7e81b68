"""Pictures of Prefect's UI for the README, taken again: `python -m tests.screenshots FOLDER` (some minutes).

Plays the demo's year on a server of its own, then has a version approved and a batch blocked. It needs what the browser
tests need: Playwright for Python and Debian's package `chromium`.
"""

from __future__ import annotations

import sys
import tempfile
from pathlib import Path
from typing import Any

import pandas as pd

from tests.helpers.browser import Browser, browsing
from tests.helpers.model import Model
from tests.helpers.server import ended, running_server, started, stop

ROOM = 8
"""Pixels around what a picture is about."""


def main(folder: Path) -> None:
    """Write the pictures into the folder, which is made if need be."""
    folder.mkdir(parents=True, exist_ok=True)
    quiet = {"PREFECT_SERVER_UI_SHOW_PROMOTIONAL_CONTENT": "false", "PREFECT_WORKER_QUERY_SECONDS": "1"}
    with tempfile.TemporaryDirectory() as scratch, running_server(Path(scratch), ui=True, **quiet) as server:
        model = Model(Path(scratch) / "root", "flights")
        for command in ("demo", "deploy"):
            done = server.command("flows.cli", command, "--root", str(model.root))
            assert done.returncode == 0, done.stderr
        start = [sys.executable, "-m", "prefect", "worker", "start", "--pool", "ror"]
        worker = started(start, server.environment, Path(scratch))
        try:
            with browsing(server) as browser:
                take(folder, model, browser)
        finally:
            stop(worker)


def take(folder: Path, model: Model, browser: Browser) -> None:
    """In the order in which things happen: a retrain, an approval, a blocked batch, and the list of all runs."""
    server, page = browser.server, browser.page
    retrained = next(run["id"] for run in server.runs() if run["name"] == "flights · 2013-10")
    browser.go(f"/runs/flow-run/{retrained}")
    browser.shows("Decision: retrain")
    page.wait_for_timeout(2000)  # the graph is drawn, with no sign of when it is done
    page.screenshot(path=folder / "run.png", clip={"x": 256, "y": 0, "width": 1024, "height": 1000})
    browser.open_form("any-model")
    browser.choose("model", "flights")
    save(browser, folder / "form.png", page.locator("form"))

    page.set_viewport_size({"width": 1800, "height": 1200})
    artifact(browser, retrained, "flights-decision")
    top, below = page.get_by_role("heading", level=2).first, page.get_by_text("What each rule saw")
    save(browser, folder / "decision.png", top.locator(".."))
    save(browser, folder / "prefect-decision.png", top.locator(".."), until=below)
    artifact(browser, retrained, "flights-checks")
    page.set_viewport_size({"width": 1800, "height": 1000})
    save(browser, folder / "checks.png", page.get_by_role("table").locator("../.."))
    artifact(browser, retrained, "flights-loss")
    save(browser, folder / "loss.png", page.get_by_role("img", name="Loss of flights"))

    spec = model.root / "deployments" / "flights.toml"
    spec.write_text(spec.read_text().replace("[policy]", '[policy]\npromotion = "approve"'))
    asked = {"model": "flights", "action": "retrain", "reason": "before the winter timetable"}
    run = server.start("any-model", asked)
    assert ended(server, run) == "AwaitingApproval"
    artifact(browser, run, "flights-approval")
    save(browser, folder / "approval.png", page.get_by_role("heading", level=2).first.locator(".."))
    page.get_by_role("link", name="Open the form, filled in").click()
    page.set_viewport_size({"width": 1280, "height": 1000})
    page.get_by_label("reason").fill("better by the gate, and the desk agrees")
    page.get_by_label("actor").fill("dora")
    save(browser, folder / "promote.png", page.locator("form"))
    assert ended(server, browser.submit()) == "Promoted"

    batches = model.batches
    broken = pd.read_parquet(batches / "2013-12.parquet").drop(columns="carrier")
    broken.to_parquet(batches / "2014-01.parquet", index=False)
    assert ended(server, server.start("flights", {})) == "Blocked"
    page.set_viewport_size({"width": 1280, "height": 1600})
    browser.go("/runs")
    browser.shows("flights · 2013-01")
    first = page.get_by_text("flights · 2014-01", exact=True)
    last = page.get_by_text("flights · 2013-07", exact=True)
    page.wait_for_timeout(1000)
    begin, end = first.bounding_box(), last.bounding_box()
    clip = {"x": 256, "y": begin["y"] - 4 * ROOM, "width": 1024, "height": end["y"] - begin["y"] + ROOM}
    page.screenshot(path=folder / "prefect-runs.png", clip=clip, full_page=True)


def artifact(browser: Browser, run: str, key: str) -> None:
    """Open one that a run has made."""
    wanted = {"artifacts": {"flow_run_id": {"any_": [run]}, "key": {"any_": [key]}}}
    found = browser.server.call("POST", "/artifacts/filter", wanted)
    browser.go(f"/artifacts/artifact/{found[0]['id']}")
    browser.shows("Show Raw Data")
    browser.page.wait_for_timeout(500)  # pictures in it


def save(browser: Browser, path: Path, what: Any, *, until: Any = None) -> None:
    """A picture of one part of the page, down to where another one begins."""
    page, box = browser.page, what.bounding_box()
    height = until.bounding_box()["y"] - box["y"] if until else box["height"] + ROOM
    clip = {"x": box["x"] - ROOM, "y": box["y"] - ROOM, "width": box["width"] + 2 * ROOM, "height": height}
    page.screenshot(path=path, clip=clip, full_page=True)


if __name__ == "__main__":
    main(Path(sys.argv[1]))
