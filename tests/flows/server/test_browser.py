"""Prefect's own UI, used by a real browser: runs started, refused, approved and cancelled there."""

from __future__ import annotations

import re
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from tests.helpers.browser import CHROMIUM, Browser, browsing
from tests.helpers.model import Model
from tests.helpers.server import Server, agree, ended, running_server, started, stop, wait_for

pytest.importorskip("playwright", reason="Playwright for Python is not installed")

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(CHROMIUM is None, reason="no Chromium here: install the Debian package `chromium`"),
]

QUIET = {
    "DO_NOT_TRACK": "1",
    "PREFECT_SERVER_ANALYTICS_ENABLED": "false",
    "PREFECT_SERVER_UI_V2_ENABLED": "false",  # see test_which_pages_ask_elsewhere
    "PREFECT_WORKER_QUERY_SECONDS": "1",
}
QUICK = "[pipeline]\nparameters = { max_iter = 10 }\n"
ENDLESS = "[pipeline]\nparameters = { max_iter = 10_000_000 }\n"
APPROVE = QUICK + '[policy]\npromotion = "approve"\n'


@dataclass
class Production:
    """One root with several models, its deployments on a server, and a worker."""

    root: Path
    server: Server

    def model(self, name: str) -> Model:
        return Model(self.root, name)


@pytest.fixture(scope="module")
def production(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Production]:
    folder = tmp_path_factory.mktemp("browser")
    root = folder / "root"
    for name, spec in (("loans", QUICK), ("careful", QUICK), ("endless", QUICK)):
        made = Model(root, name)
        made.write_spec(spec)
        made.deliver("001")
    with running_server(folder, ui=True, **QUIET) as server:
        done = server.command("flows.cli", "deploy", "--root", str(root))
        assert done.returncode == 0, done.stderr
        command = [sys.executable, "-m", "prefect", "worker", "start", "--pool", "ror"]
        worker = started(command, server.environment, folder)
        try:
            yield Production(root, server)
        finally:
            stop(worker)


@pytest.fixture
def browser(production: Production) -> Iterator[Browser]:
    with browsing(production.server) as used:
        yield used


def test_a_run_from_the_form(production: Production, browser: Browser) -> None:
    """Custom Run offers the models there are; the run ends in the state that the ledger names, and the UI shows it."""
    browser.open_form("any-model")
    assert sorted(browser.choose("model", "loans")) == ["careful", "endless", "loans"]
    run = browser.submit()
    agree(production.server, production.model("loans"), run, "Retrained")
    browser.go(f"/runs/flow-run/{run}")
    browser.shows("loans · 001")
    browser.shows("Retrained", exact=True)

    # Emptied boxes are as good as those that nobody touched.
    browser.open_form("any-model")
    browser.choose("model", "loans")
    for box in ("batch", "reason", "actor"):
        browser.page.get_by_label(box).fill("x")
        browser.page.get_by_label(box).fill("")
    production.model("loans").deliver("002")
    agree(production.server, production.model("loans"), browser.submit(), "Reloaded")


def test_wrong_input_is_refused_by_the_form(production: Production, browser: Browser) -> None:
    """What is missing or impossible is said beside its box, and no run comes of it."""
    before = {run["id"] for run in production.server.runs()}
    browser.open_form("promote")
    submit, box = browser.page.get_by_role("button", name="Submit"), browser.page.get_by_label
    box("version").fill("0")
    submit.click()
    said = box("version").evaluate("box => box.validationMessage")
    assert re.search("greater than or equal to 1", said)

    box("version").fill("1")
    submit.click()
    browser.shows("'model' is a required property")
    browser.shows("'reason' is a required property")
    box("reason").fill("x")
    box("expected").fill("-1")
    submit.click()
    assert "greater than or equal to 0" in box("expected").evaluate("box => box.validationMessage")
    assert {run["id"] for run in production.server.runs()} == before


def test_approval_in_the_browser(production: Production, browser: Browser) -> None:
    """The card of what waits opens the form with all but the reason filled in; the version is then in service, and the
    ledger knows who put it there and why."""
    server, model = production.server, production.model("careful")
    agree(server, model, server.start("any-model", {"model": "careful"}), "Retrained")
    model.write_spec(APPROVE)
    model.deliver("002")
    asked = {"model": "careful", "action": "retrain", "reason": "two months are better than one"}
    run = server.start("any-model", asked)
    agree(server, model, run, "AwaitingApproval")

    browser.go(f"/runs/flow-run/{run}")
    browser.shows("AwaitingApproval", exact=True)
    browser.page.get_by_role("tab", name="Artifacts").click()
    browser.page.get_by_role("link", name="careful-approval").click()
    browser.page.get_by_role("link", name=re.compile("^[0-9a-f]{8}$")).click()  # the only one of that name so far
    browser.shows("careful · v2 waits for approval")
    browser.shows("decide whether v2 is put in service; until then v1 goes on serving")
    browser.page.get_by_role("link", name="Open the form, filled in").click()
    box = browser.page.get_by_label
    box("reason").fill("it is better by the gate")
    box("actor").fill("dora")
    assert [box(name).input_value() for name in ("version", "expected")] == ["2", "1"]
    assert box("Select model").inner_text() == "careful"
    assert ended(server, browser.submit()) == "Promoted"

    head = model.workspace.ledger.head()
    assert head.state.current is not None and head.state.current.version == 2
    event = model.workspace.ledger.event(head.state.promoted)
    assert (event.actor, event.reason) == ("dora", "it is better by the gate")


def test_cancel_in_the_middle_of_a_fit(production: Production, browser: Browser) -> None:
    """Cancelled in the UI, a run leaves the store as it was, and the next one finds the way free."""
    server, model = production.server, production.model("endless")
    agree(server, model, server.start("any-model", {"model": "endless"}), "Retrained")
    before = model.workspace.ledger.head().state
    model.write_spec(ENDLESS)
    model.deliver("002")
    asked = {"model": "endless", "action": "retrain", "reason": "a very thorough one"}
    run = server.start("any-model", asked)
    wait_for(lambda: is_fitting(server, run), 60)

    browser.go(f"/runs/flow-run/{run}")
    browser.shows("endless · 002")
    browser.page.get_by_role("button", name="Open menu").first.click()
    browser.page.get_by_role("menuitem", name="Cancel").click()
    browser.page.get_by_role("alertdialog").get_by_role("button", name="Cancel Flow Run").click()
    assert ended(server, run) == "Cancelled"
    browser.shows("Cancelled", exact=True)
    assert model.workspace.ledger.head().state.served == before.served
    assert len(model.workspace.registry.versions("endless")) == 1

    model.write_spec(QUICK)
    # Skipped, while the cancelled run held its lease: ten minutes, where nobody gives it back.
    agree(server, model, server.start("any-model", {**asked, "reason": "a quick one"}), "Retrained")
    assert len(model.workspace.registry.versions("endless")) == 2


def is_fitting(server: Server, run: str) -> bool:
    wanted = {"flow_runs": {"id": {"any_": [run]}}, "task_runs": {"state": {"type": {"any_": ["RUNNING"]}}}}
    return any(task["name"].startswith("train") for task in server.call("POST", "/task_runs/filter", wanted))


PAGES = ("/", "/runs", "/deployments", "/artifacts", "/events")


def test_which_pages_ask_elsewhere(browser: Browser) -> None:
    """The older UI asks nothing but the server. The newer one asks Amplitude for its settings at every page, whatever
    the server is told about telemetry: who wants it quiet sets PREFECT_SERVER_UI_V2_ENABLED=false, as here."""
    for browser.ui in ("", "/v2"):
        browser.asked.clear()
        for page in PAGES:
            browser.go(page)
            browser.page.wait_for_load_state("networkidle")
            assert ("/v2/" in browser.page.url) == bool(browser.ui)
        hosts = {".".join(host.split(".")[-2:]) for host in browser.asked}
        assert hosts <= ({"amplitude.com"} if browser.ui else set())
