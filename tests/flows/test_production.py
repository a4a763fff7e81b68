"""Production, with real parts: a server, a process worker, schedules, triggers and alerts, on loopback."""

from __future__ import annotations

import json
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path
from typing import Any

import pytest

from tests.conftest import Model, make_rows
from tests.flows.server import (
    ENDED,
    REPOSITORY,
    Server,
    agree,
    decided,
    ended,
    newest,
    running_server,
    started,
    stop,
    wait_for,
)

pytestmark = pytest.mark.slow

QUICK = {
    "PREFECT_SERVER_SERVICES_SCHEDULER_LOOP_SECONDS": "5",
    "PREFECT_SERVER_EVENTS_PROACTIVE_GRANULARITY": "PT2S",
    "PREFECT_WORKER_QUERY_SECONDS": "1",
}
"""Prefect's loops, quicker: waiting for them is no part of what is tested."""

SPEC = """runbook = "https://wiki.example/loans"
[pipeline]
parameters = { max_iter = 10 }
[schedule]
cron = "* * * * *"
"""


@dataclass
class Mailbox:
    """A webhook that keeps what was posted to it."""

    url: str
    messages: list[dict[str, str]] = field(default_factory=list)

    def about(self, subject: str) -> list[str]:
        return [message["body"] for message in self.messages if message["subject"] == subject]


@contextmanager
def mailbox() -> Iterator[Mailbox]:
    box = Mailbox("")

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            box.messages.append(json.loads(self.rfile.read(int(self.headers["Content-Length"]))))
            self.send_response(200)
            self.end_headers()

        def log_message(self, *words: Any) -> None:
            pass

    with HTTPServer(("127.0.0.1", 0), Handler) as listening:
        box.url = f"http://127.0.0.1:{listening.server_port}/"
        threading.Thread(target=listening.serve_forever, daemon=True).start()
        yield box
        listening.shutdown()


def make_block(server: Server, url: str) -> None:
    script = (
        "from prefect.blocks.notifications import CustomWebhookNotificationBlock as Block\n"
        "text = {'subject': '{{subject}}', 'body': '{{body}}'}\n"
        f"Block(name='alerts', url={url!r}, json_data=text).save('alerts')\n"
    )
    path = Path(server.environment["PREFECT_HOME"]) / "block.py"
    path.write_text(script)
    subprocess.run([sys.executable, str(path)], env=server.environment, check=True, timeout=60)


def pause(server: Server, name: str) -> None:
    found = server.deployments()[name]
    for schedule in found["schedules"]:
        server.call("PATCH", f"/deployments/{found['id']}/schedules/{schedule['id']}", {"active": False})


def test_production(model: Model, tmp_path: Path) -> None:
    """A schedule, the command line, REST and events start runs whose states are what the ledger says; of three at once
    one trains; who must act is told once; doing `ror deploy` again changes nothing."""
    yaml = (REPOSITORY / "deployments/prefect.yaml").read_text()
    (model.root / "deployments/prefect.yaml").write_text(yaml.replace("notify: null", "notify: custom-webhook/alerts"))
    text = (model.root / "deployments/loans.toml").read_text().replace("[data]", f"{SPEC}[data]")
    (model.root / "deployments/loans.toml").write_text(text)
    silent = text.replace('"* * * * *"', '"0 0 1 1 *"\noverdue_hours = 0.005').replace("/loans/", "/silent/")
    (model.root / "deployments/silent.toml").write_text(silent)
    model.deliver("001")

    def ror(*words: str) -> str:
        done = server.command("flows.cli", *words, "--root", str(model.root))
        assert done.returncode == 0, done.stderr
        return done.stdout

    notes = {}

    def deploy() -> dict[str, str]:
        found = json.loads(ror("deploy", "--json"))
        notes.update({item["name"]: item["note"] for item in found})
        return {item["name"]: item["verdict"] for item in found}

    with mailbox() as box, running_server(tmp_path, **QUICK) as server:
        make_block(server, box.url)
        first = deploy()
        assert {*first.values()} == {"created"}
        assert {"ror", "retrain-or-reload/loans", "promote/promote", "ror: no completed check of silent"} <= {*first}
        worker = started(
            [sys.executable, "-m", "prefect", "worker", "start", "--pool", "ror"], server.environment, tmp_path
        )
        try:
            # A schedule fires by itself.
            done = wait_for(lambda: [run for run in server.runs() if run["state_type"] in ENDED], 150)[-1]
            assert done["auto_scheduled"]
            agree(server, model, done["id"], "Retrained")
            # What a person paused stays paused, and nothing else changes.
            pause(server, "loans")
            again = deploy()
            assert {again.pop("retrain-or-reload/loans")} <= {"updated", "unchanged"}
            assert again == dict.fromkeys(again, "unchanged"), notes
            assert not any(schedule["active"] for schedule in server.deployments()["loans"]["schedules"])
            wait_for(lambda: all(run["state_type"] in ENDED for run in server.runs() if is_due(run)), 60)

            # By the command line.
            model.deliver("002")
            words = ("deployment", "run", "retrain-or-reload/any-model", "-p", "model=loans", "--watch")
            done = server.command("prefect", *words)
            assert done.returncode == 0, done.stdout + done.stderr
            assert decided(model)[1].outcome == "Reloaded"
            agree(server, model, newest(server, "any-model")["id"], "Reloaded")

            # By REST, delivered twice with one key: one run. It is blocked, and somebody is told.
            model.deliver("003", make_rows(seed=3).drop(columns="age"))
            runs = {server.start("any-model", {"model": "loans"}, "003 arrived") for _ in range(2)}
            assert len(runs) == 1
            agree(server, model, *runs, "Blocked")
            (told,) = wait_for(lambda: box.about("loans: Blocked"), 30)
            assert "003 is set aside" in told
            for known in ("Owner: tests", "Purpose: tests", "Runbook: https://wiki.example/loans"):
                assert known in told

            # By an event.
            before = len(server.runs())
            assert "004 arrived" in ror("notify", "loans", str(model.deliver("004"))).replace(".parquet", "")
            wait_for(lambda: len(server.runs()) > before, 30)
            agree(server, model, newest(server, "loans")["id"], "Reloaded")

            # Three at once: one trains.
            versions = model.workspace.registry.versions("loans")
            asked = {"model": "loans", "action": "retrain", "reason": "three at once"}
            three = [server.start("loans", asked) for _ in range(3)]
            states = sorted(ended(server, run) for run in three)
            assert len(model.workspace.registry.versions("loans")) == len(versions) + 1
            assert [state for state in states if state not in ("Cancelled", "Skipped")] == ["Retrained"]

            # What arrives while a run is at work, so that the run it asks for is refused, is looked at after it.
            model.deliver_while_training("005")
            runs = len(server.runs())
            run = server.start("loans", {"action": "retrain", "reason": "with another pipeline"})
            agree(server, model, run, "Kept")
            wait_for(lambda: len(server.runs()) > runs + 1, 30)
            agree(server, model, newest(server, "loans")["id"], "Reloaded")
            assert [batch.id for batch in decided(model)[1].window] == ["005"]

            # The matter of 003 is open: it was said by each run since, and told once.
            remind = server.start("remind", {})
            assert ended(server, remind) == "Reminded"
            assert len(box.about("loans: Blocked")) == 1
            # A model of which nobody hears anything is an alarm of its own.
            assert wait_for(lambda: box.about("silent: no completed check within 0.005 hours"), 30)
        finally:
            stop(worker)


def is_due(run: dict[str, Any]) -> bool:
    """Not one that the scheduler has planned for later."""
    return bool(run["state_name"] != "Scheduled")
