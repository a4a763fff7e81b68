"""Production, with real parts: a server, a process worker, schedules, triggers and alerts, on loopback."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

from tests.helpers.database import postgresql
from tests.helpers.http import Quiet, listening
from tests.helpers.model import Model, make_rows
from tests.helpers.server import (
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

QUICK_FIT = "[pipeline]\nparameters = { max_iter = 10 }\n"

SPEC = f"""runbook = "https://wiki.example/loans"
{QUICK_FIT}[schedule]
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

    class Handler(Quiet):
        def do_POST(self) -> None:
            box.messages.append(json.loads(self.rfile.read(int(self.headers["Content-Length"]))))
            self.send_response(200)
            self.end_headers()

    with listening(Handler) as address:
        box.url = f"{address}/"
        yield box


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


@dataclass
class Production:
    """A server with its webhook; the worker comes once something is deployed."""

    server: Server
    box: Mailbox
    folder: Path
    stack: ExitStack
    working: bool = False
    root: Path | None = None
    """What is deployed works on it."""

    def ror(self, model: Model, *words: str) -> str:
        done = self.server.command("flows.cli", *words, "--root", str(model.root))
        assert done.returncode == 0, done.stderr
        return done.stdout

    def deploy(self, model: Model) -> dict[str, str]:
        """The verdict on each item; of what was updated with what was changed."""
        moved = ["--moved-from", str(self.root)] if self.root not in (None, model.root) else []
        done = json.loads(self.ror(model, "deploy", "--json", *moved))
        self.root = model.root
        return {
            item["name"]: f"updated: {item['note']}" if item["verdict"] == "updated" else item["verdict"]
            for item in done
        }

    def work(self) -> None:
        """Start the worker, once."""
        if not self.working:
            command = [sys.executable, "-m", "prefect", "worker", "start", "--pool", "ror"]
            self.stack.callback(stop, started(command, self.server.environment, self.folder))
            self.working = True


PASSWORD = "ror:correct horse"


@pytest.fixture(scope="module")
def production(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Production]:
    """As for a server that others reach: on PostgreSQL, with a password (`test_robust` has SQLite, open to all)."""
    folder = tmp_path_factory.mktemp("production")
    with ExitStack() as stack:
        database = {"PREFECT_API_DATABASE_CONNECTION_URL": stack.enter_context(postgresql())}
        server = stack.enter_context(running_server(folder, PASSWORD, **QUICK, **database))
        box = stack.enter_context(mailbox())
        make_block(server, box.url)
        yield Production(server, box, folder, stack)


def declare(model: Model) -> None:
    yaml = (REPOSITORY / "deployments/prefect.yaml").read_text()
    (model.root / "deployments/prefect.yaml").write_text(yaml.replace("notify: null", "notify: custom-webhook/alerts"))


def test_production(model: Model, production: Production) -> None:
    """A schedule, the command line, REST and events start runs whose states are what the ledger says; of three at once
    one trains; who must act is told once; doing `ror deploy` again changes nothing."""
    server, box = production.server, production.box
    declare(model)
    text = (model.root / "deployments/loans.toml").read_text().replace("[data]", f"{SPEC}[data]")
    (model.root / "deployments/loans.toml").write_text(text)
    silent = text.replace('"* * * * *"', '"0 0 1 1 *"\noverdue_hours = 0.005').replace("/loans/", "/silent/")
    (model.root / "deployments/silent.toml").write_text(silent)
    model.deliver("001")

    first = production.deploy(model)
    assert {*first.values()} == {"created"}
    assert {"ror", "retrain-or-reload/loans", "promote/promote", "ror: no completed check of silent"} <= {*first}
    production.work()
    # A schedule fires by itself.
    done = wait_for(lambda: [run for run in server.runs() if run["state_type"] in ENDED], 150)[-1]
    assert done["auto_scheduled"]
    agree(server, model, done["id"], "Retrained")
    # What a person paused stays paused, and nothing else changes.
    pause(server, "loans")
    again = production.deploy(model)
    assert again.pop("retrain-or-reload/loans").split(":")[0] in ("updated", "unchanged")
    assert again == dict.fromkeys(again, "unchanged")
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
    assert "004 arrived" in production.ror(model, "notify", "loans", str(model.deliver("004"))).replace(".parquet", "")
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


def is_due(run: dict[str, Any]) -> bool:
    """Not one that the scheduler has planned for later."""
    return bool(run["state_name"] != "Scheduled")


ALERTS = {
    "fails": "[pipeline]\nparameters = { max_iter = -1 }\n",
    "late": f"label_delay = 0\noverdue = 0\n{QUICK_FIT}",
    "approves": f'{QUICK_FIT}[policy]\npromotion = "approve"\n',
    "dies": '[pipeline]\nfactory = "dying:pipeline"\n',
}
"""Models that end, each in its own way, in something that a person must do."""

DYING = """
import os, signal
from sklearn.dummy import DummyClassifier
from sklearn.pipeline import Pipeline

class Dying(DummyClassifier):
    def fit(self, X, y):
        os.kill(os.getpid(), signal.SIGKILL)  # as the kernel does when memory runs out

def pipeline():
    return Pipeline([("model", Dying())])
"""


def test_alerts(production: Production, tmp_path: Path) -> None:
    """A failed fit, overdue labels, a version to approve and a run that broke off are told once each, with owner,
    purpose and runbook, however often they are said."""
    server, box = production.server, production.box
    (tmp_path / "src").mkdir()
    (tmp_path / "src/dying.py").write_text(DYING)
    made = {name: Model(tmp_path, name) for name in ALERTS}
    for name, model in made.items():
        model.write_spec(ALERTS[name], late_labels=name == "late")
        spec = tmp_path / f"deployments/{name}.toml"
        code = 'code = ["src"]\n' if name == "dies" else ""
        spec.write_text(f'{code}runbook = "https://wiki.example/{name}"\n{spec.read_text()}')
        model.deliver("001")
    late = made["late"]
    late.deliver("002")
    late.labels.mkdir(parents=True)
    make_rows(seed=1)[["id", "y"]].to_csv(late.labels / "001.csv", index=False)
    declare(made["late"])
    production.deploy(made["late"])
    production.work()

    def ends(*names: str) -> dict[str, str]:
        runs = {name: server.start(name, {}) for name in names}
        return {name: ended(server, run) for name, run in runs.items()}

    first = ends(*made)
    assert first == {"fails": "RetrainFailed", "late": "Retrained", "approves": "AwaitingApproval", "dies": "Crashed"}
    late.deliver("003")
    assert ends(*made) == {**first, "late": "LabelsOverdue"}
    late.deliver("004")
    assert ends("late") == {"late": "LabelsOverdue"}
    version = late.workspace.ledger.head().state.current
    assert version is not None
    path = tmp_path / f"artifacts/late/versions/{version.version:08d}/pipeline.joblib"
    path.chmod(0o644)
    path.write_bytes(path.read_bytes()[:-1])
    late.deliver("005")
    assert ends("late") == {"late": "Failed"}
    assert ended(server, server.start("remind", {})) == "Reminded"
    # What comes last, so that all before it were told.
    (made["approves"].batches / "002.parquet").write_text("no parquet")
    assert ends("approves") == {"approves": "Blocked"}
    wait_for(lambda: box.about("approves: Blocked"), 60)

    ours = [message["subject"] for message in box.messages if message["subject"].split(":")[0].split(" ")[0] in made]
    assert sorted(ours) == sorted(
        [
            *("fails: RetrainFailed", "late: LabelsOverdue", "approves: AwaitingApproval", "approves: Blocked"),
            *("dies · 001 broke off", "late · 005 broke off"),
        ]
    )
    for subject, words in {
        "fails: RetrainFailed": "max_iter",
        "late: LabelsOverdue": "labels are overdue for 002",
        "approves: AwaitingApproval": "ror promote approves v1",
    }.items():
        (told,) = box.about(subject)
        for known in (
            words,
            "To do: ",
            "Owner: tests",
            "Purpose: tests",
            f"https://wiki.example/{subject.split(':')[0]}",
        ):
            assert known in told, told
    for subject, words in {"dies · 001 broke off": "Crashed: ", "late · 005 broke off": "Failed: "}.items():
        (told,) = box.about(subject)
        for known in (words, "Nothing else", "Owner: tests", f"https://wiki.example/{subject.split(' ')[0]}"):
            assert known in told, told


def test_a_wrong_password_is_one_line(production: Production, model: Model) -> None:
    """Every command that talks to the server names the setting to correct, and does nothing."""
    declare(model)
    batch = str(model.deliver("001"))
    wrong = "refuses what is set in PREFECT_API_AUTH_STRING. Correct PREFECT_API_AUTH_STRING."
    missing = "wants a password. Set PREFECT_API_AUTH_STRING=user:password."
    cases = [("deploy",), ("notify", "loans", batch), ("serve",), ("run", "loans")]
    for words, given, said in [*((words, "ror:wrong", wrong) for words in cases), (("run", "loans"), "", missing)]:
        done = production.server.command("flows.cli", *words, "--root", str(model.root), PREFECT_API_AUTH_STRING=given)
        assert done.returncode == 1
        assert " ".join(done.stderr.split()) == f"error: The Prefect server at {production.server.url} {said}"
    assert model.workspace.ledger.head().seq == 0
    doctor = production.server.command("flows.cli", "doctor", "--root", str(model.root), PREFECT_API_AUTH_STRING="a:b")
    assert doctor.returncode == 1
    (line,) = [line for line in doctor.stdout.splitlines() if line.startswith("fail") and " server " in line]
    assert "PREFECT_API_AUTH_STRING" in line
    assert "a:b" not in doctor.stdout + doctor.stderr
    # The right one: not the server's doing that this model is not deployed there.
    doctor = production.server.command("flows.cli", "doctor", "--root", str(model.root))
    (line,) = [line for line in doctor.stdout.splitlines() if " server  " in line]
    assert line.startswith("ok") and "answers" in line
