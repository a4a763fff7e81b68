"""Schedules, the UI's create-run and the command line all end in the same flow, on a real Prefect server."""

from __future__ import annotations

import subprocess
import sys
import urllib.error
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from uuid import UUID

import pytest

from flows.server.declarations import automation, deployment, read_declared
from tasks.core.errors import InvalidRequest, SpecError
from tasks.core.ledger.events import Decided
from tasks.core.records import from_dict
from tasks.core.types import Outcome
from tasks.core.workspace import Workspace
from tasks.resource import resource_of
from tests.helpers.model import Model, make_rows
from tests.helpers.server import REPOSITORY, Server, running_server, started, stop, wait_for

NAMES = ["any-model", "promote", "predict", "backtest", "verify", "reproduce", "remind", "flights"]
"""The deployments of this project."""


@pytest.fixture
def server(tmp_path: Path) -> Iterator[Server]:
    with running_server(tmp_path) as running:
        yield running


@pytest.mark.slow
def test_schedule_cli_and_rest_end_in_named_states(model: Model, server: Server, tmp_path: Path) -> None:
    """A run by its schedule, by `prefect deployment run` and by REST: each final state is what the ledger says."""
    declare(model)
    model.write_spec('[schedule]\ncron = "* * * * *"\n')
    model.deliver("001")

    command = [sys.executable, "-m", "flows.cli", "serve", "--root", str(model.root)]
    serving = started(command, server.environment, tmp_path)
    try:
        first = wait_for(lambda: [run for run in server.runs() if run["state"]["type"] == "COMPLETED"], 180)
        assert first[0]["state"]["name"] == "Retrained"
        assert outcome(model) == "Retrained"
        # From here on nothing runs by itself.
        deployments = {item["name"]: item for item in server.call("POST", "/deployments/filter", {})}
        for schedule in deployments["loans"]["schedules"]:
            path = f"/deployments/{deployments['loans']['id']}/schedules/{schedule['id']}"
            server.call("PATCH", path, {"active": False})

        model.deliver("002")
        run = [sys.executable, "-m", "prefect", "deployment", "run", "retrain-or-reload/any-model"]
        done = subprocess.run(
            [*run, "-p", "model=loans", "--watch", "--watch-timeout", "120"],
            env=server.environment, capture_output=True, text=True, timeout=180, check=False,
        )  # fmt: skip
        assert done.returncode == 0, done.stdout + done.stderr
        assert outcome(model) == "Reloaded"
        latest = [item for item in server.runs() if item["deployment_id"] == deployments["any-model"]["id"]]
        assert latest[0]["state"]["name"] == "Reloaded"
        assert latest[0]["name"] == "loans · 002"

        model.deliver("003", make_rows(seed=3).drop(columns="age"))
        created = server.call(
            "POST",
            f"/deployments/{deployments['any-model']['id']}/create_flow_run",
            {"parameters": {"model": "loans"}, "idempotency_key": "003 arrived"},
        )
        assert wait_for(lambda: server.finished(created["id"]), 120) == "Blocked"
        assert outcome(model) == "Blocked"
        wrong = {"parameters": {"model": "loans", "action": "dance"}}
        with pytest.raises(urllib.error.HTTPError, match=r"409|422"):
            server.call("POST", f"/deployments/{deployments['any-model']['id']}/create_flow_run", wrong)
    finally:
        stop(serving)


def outcome(model: Model) -> str:
    state = model.workspace.ledger.head().state
    assert state.decided is not None
    return from_dict(Decided, model.workspace.ledger.event(state.decided.seq).body).outcome.value


def test_serve_needs_a_server(model: Model) -> None:
    """Without a configured server no schedule would ever fire: `ror serve` says so instead of pretending."""
    declare(model)
    command = [sys.executable, "-m", "flows.cli", "serve", "--root", str(model.root)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == 2
    assert "prefect server start" in done.stderr


def declare(model: Model) -> None:
    (model.root / "deployments/prefect.yaml").write_text((REPOSITORY / "deployments/prefect.yaml").read_text())


def test_what_is_declared_is_read_from_the_files(model: Model, tmp_path_factory: pytest.TempPathFactory) -> None:
    """deployments/prefect.yaml, by default the one of the package, and the models' files say what there is; what is
    broken, and a root without models, is said."""
    assert [item["name"] for item in read_declared(REPOSITORY).deployments] == NAMES
    assert [item["name"] for item in read_declared(model.root).deployments] == [*NAMES[:-1], "loans"]
    with pytest.raises(InvalidRequest, match="no models in"):
        read_declared(tmp_path_factory.mktemp("elsewhere"))
    for text, problem in (("deployments: {", "not valid YAML"), ("each_model: {}", "needs `deployments:`")):
        (model.root / "deployments/prefect.yaml").write_text(text)
        with pytest.raises(SpecError, match=problem):
            read_declared(model.root)


def test_one_deployment_per_model_file(model: Model) -> None:
    """Adding a model is adding its file: its deployment has its name, schedule, owner, trigger and one run at most."""
    declare(model)
    model.write_spec('[schedule]\ncron = "0 6 * * 1"\ntimezone = "Europe/Oslo"\n')
    (model.root / "deployments/other.toml").write_text((model.root / "deployments/loans.toml").read_text())
    declared = read_declared(model.root)
    assert [item["name"] for item in declared.deployments[-2:]] == ["loans", "other"]
    made = deployment(declared.deployments[-2], "/srv/ror", declared.models)
    assert made.parameters == {"root": "/srv/ror", "model": "loans"}
    assert (made.schedules[0].schedule.cron, made.schedules[0].schedule.timezone) == ("0 6 * * 1", "Europe/Oslo")
    assert made.concurrency_limit == 1
    assert made.concurrency_options.collision_strategy.value == "CANCEL_NEW"
    labels = {"prefect.resource.id": "ror.model.loans", "ror.root": [str(model.root)]}
    assert made.triggers[0].match.model_dump() == labels
    assert "Owner: tests" in made.description and "loans" in made.tags
    one = read_declared(model.root, "loans")
    assert [item["name"] for item in one.automations] == ["ror: no completed check of loans"]
    assert "other" not in [item["name"] for item in one.deployments]


@pytest.mark.parametrize("worker_root", [None, "{link}", "{link}/"])
def test_events_name_the_root_as_deployments_do(
    model: Model, tmp_path_factory: pytest.TempPathFactory, worker_root: str | None
) -> None:
    """What a deployed run emits is what alerts wait for, also where the root is a link on the worker, or was written
    with a slash at its end."""
    declare(model)
    link = tmp_path_factory.mktemp("worker") / "link"
    link.symlink_to(model.root)
    declared = read_declared(model.root, "loans", worker_root and worker_root.format(link=link))
    made = deployment(declared.deployments[-1], declared.roots[0], declared.models)
    emitted = resource_of(Workspace.open(made.parameters["root"], "loans"))["ror.root"]
    assert emitted == str(link if worker_root else model.root)
    for waiting in (automation(declared.automations[0], None).trigger, made.triggers[0]):
        assert emitted in waiting.match.model_dump()["ror.root"]


def test_silence_is_an_alarm_after_what_the_schedule_suggests(model: Model) -> None:
    """No completed check within the longest gap between two runs, and a quarter of it; or as the model's file says."""
    declare(model)
    hours = {'cron = "0 6 * * *"': 30, 'cron = "0 6 * * 1"': 210, 'cron = "0 6 * * *"\noverdue_hours = 2': 2}
    hours['cron = "*/5 8-18 * * 1-5"'] = 1.25 * (61 + 5 / 60)  # whatever day and hour it is now
    for schedule, expected in hours.items():
        model.write_spec(f"[schedule]\n{schedule}\n")
        silent = automation(read_declared(model.root, "loans").automations[0], None)
        assert silent.trigger.within.total_seconds() == pytest.approx(expected * 3600, rel=0.005)
        assert silent.trigger.posture.value == "Proactive"
    model.write_spec('[schedule]\ncron = "0 25 * * *"\n')
    with pytest.raises(SpecError, match=r"schedule.cron = '0 25 \* \* \*'"):
        read_declared(model.root)


def test_a_run_that_is_missed_is_marked_as_crashed() -> None:
    """After three heartbeats missed, at the rate that is Prefect's default; whatever a run ends as is heard, too, for
    our states have names of their own. It has an action of its own, with a block for messages or without."""
    from prefect.server.events.schemas.automations import EventTrigger as ServerTrigger
    from prefect.settings import PREFECT_FLOWS_HEARTBEAT_FREQUENCY

    item = next(each for each in read_declared(REPOSITORY).automations if "no longer heard of" in each["name"])
    for block in (None, UUID(int=1)):
        made = automation(item, block)
        assert [(action.type, action.state.value) for action in made.actions] == [("change-flow-run-state", "CRASHED")]
    server_s = ServerTrigger.model_validate({**made.trigger.model_dump(mode="json"), "id": UUID(int=2)})
    assert all(server_s.expects(f"prefect.flow-run.{name}") for name in [*Outcome, "heartbeat", "TimedOut"])
    assert made.trigger.within.total_seconds() == 3 * PREFECT_FLOWS_HEARTBEAT_FREQUENCY.default()


def test_each_deployment_starts_the_flow_it_names() -> None:
    """The flow that the yaml's entrypoint names is served and deployed; it is said when there is none."""
    made = [deployment(item, ".", ["flights"]) for item in read_declared(REPOSITORY).deployments]
    assert [item.flow_name for item in made] == ["retrain-or-reload", *NAMES[1:-1], "retrain-or-reload"]
    for entrypoint in ("flows.promote.demote", "flows.nothing.promote", "promote", None):
        with pytest.raises(SpecError, match=r"deployment x:\n.*entrypoint"):
            deployment({"name": "x", "entrypoint": entrypoint}, ".", [])


def test_two_deployments_of_one_name_are_refused(model: Model) -> None:
    """A model that is called like a deployment of the same flow would replace it: its name is refused."""
    declare(model)
    spec = (model.root / "deployments/loans.toml").read_text()
    (model.root / "deployments/any-model.toml").write_text(spec)
    with pytest.raises(SpecError, match="two deployments are called 'any-model'"):
        read_declared(model.root)


@pytest.mark.parametrize("name", NAMES)
def test_form_explains_every_parameter(name: str) -> None:
    """The UI builds its form from what is deployed: every field is described, the models there are can be chosen, and
    what is required comes first."""
    declared = read_declared(REPOSITORY)
    item = next(item for item in declared.deployments if item["name"] == name)
    schema: Any = deployment(item, ".", ["flights", "loans"])._parameter_openapi_schema.model_dump()
    fields = schema["properties"]
    assert all(len(field["description"]) > 15 for field in fields.values())
    assert not [field for field in fields.values() if "anyOf" in field]  # else a switch between it and None, and a box
    assert fields["model"]["enum"] == (["flights"] if name == "flights" else ["flights", "loans"])
    in_order = sorted(fields, key=lambda each: fields[each]["position"])
    assert in_order[: len(schema["required"])] == schema["required"]
    assert in_order[-1] == "root"  # known already
    if name == "any-model":
        assert fields["action"]["enum"] == ["auto", "reload", "retrain"]
