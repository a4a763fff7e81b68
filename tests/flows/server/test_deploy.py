"""`ror deploy` and `ror notify` where something is missing; with everything there, see test_production.py."""

from __future__ import annotations

import json
import logging
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from tasks.core.workspace import Workspace
from tasks.resource import resource_of
from tests.helpers.model import Model
from tests.helpers.ror import Ror
from tests.helpers.server import REPOSITORY


@pytest.fixture
def declared(model: Model) -> Model:
    text = (REPOSITORY / "deployments/prefect.yaml").read_text()
    (model.root / "deployments/prefect.yaml").write_text(text)
    return model


@pytest.fixture
def there(tmp_path_factory: pytest.TempPathFactory) -> Model:
    """A model of the same name in a root of its own."""
    model = Model(tmp_path_factory.mktemp("there"))
    model.write_spec()
    return model


@pytest.fixture
def other(there: Model, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> Ror:
    return Ror(there.root, capsys, monkeypatch)


@pytest.fixture
def alone(prefect: None) -> None:
    """Nothing of other tests' roots is on the server."""
    from prefect import get_client

    with get_client(sync_client=True) as client:
        for found in client.read_deployments(limit=200):
            client.delete_deployment(found.id)
        for found in client.read_automations():
            client.delete_automation(found.id)


@pytest.fixture
def nobody() -> Iterator[None]:
    """A server is configured, and nobody listens there."""
    from prefect.settings import PREFECT_API_URL, PREFECT_CLIENT_MAX_RETRIES, temporary_settings

    with temporary_settings({PREFECT_API_URL: "http://127.0.0.1:9/api", PREFECT_CLIENT_MAX_RETRIES: 0}):
        yield


@pytest.fixture
def unconfigured() -> Iterator[None]:
    """No server at all, also where other tests have left one in this process's settings."""
    from prefect.settings import PREFECT_API_URL, temporary_settings

    with temporary_settings(restore_defaults={PREFECT_API_URL}):
        yield


@pytest.mark.usefixtures("unconfigured")
def test_a_server_is_needed(declared: Model, ror: Ror) -> None:
    """Without one nothing would ever start: it is said how to start one, with exit code 2."""
    batch = str(declared.deliver("001"))
    for words in (["deploy"], ["notify", "loans", batch]):
        assert ror(*words) == 2
        assert "prefect server start" in ror.err and "PREFECT_API_URL" in ror.err


@pytest.mark.usefixtures("nobody")
def test_a_server_that_does_not_answer(declared: Model, ror: Ror) -> None:
    """Its address is named, in one line and with exit code 1: nobody may believe that it was told; a run begins
    nothing."""
    batch = str(declared.deliver("001"))
    for words in (["deploy"], ["notify", "loans", batch], ["run", "loans"]):
        assert ror(*words) == 1
        assert "127.0.0.1:9/api" in ror.err and "Is it running?" in ror.err
    assert declared.workspace.ledger.head().seq == 0


def test_what_is_wrong_in_a_file_is_said_first(declared: Model, ror: Ror) -> None:
    """The model's file, the model's name and the batch are looked at before any server."""
    assert ror("notify", "loans", str(declared.root / "none.parquet")) == 3
    assert "there is no such file" in ror.err
    assert ror("deploy", "laons") == 2
    assert "Models here: loans" in ror.err
    declared.write_spec('[schedule]\ncron = "every day"\n')
    assert ror("deploy") == 2
    assert "schedule.cron = 'every day'" in ror.err


def test_the_help_says_what_deploy_does_not(ror: Ror) -> None:
    """Who looks for the way to put a model in service is sent to `promote`."""
    assert ror("deploy", "--help") == 0
    assert "Schedules and triggers only" in " ".join(ror.out.split())
    assert "ror promote" in ror.out


HERE = {"loans", "any-model", "promote", "predict", "ror: no completed check of loans", "ror: somebody must act"}


def verdicts(ror: Ror, *words: str) -> dict[str, str]:
    found = ror.json("deploy", *words)
    for item in found:
        if item["verdict"] == "updated":
            logging.getLogger("tests").warning("%s: %s", item["name"], item["note"])  # shown when a test fails
    return {item["name"]: item["verdict"] for item in found}


def of_this_root(found: dict[str, str]) -> set[str]:
    """The verdicts on what this root declares; other tests have left deployments on the same server."""
    return {verdict for name, verdict in found.items() if name.split("/")[-1] in HERE}


@pytest.mark.slow
@pytest.mark.usefixtures("alone")
def test_adding_a_model_is_adding_its_file(declared: Model, ror: Ror, monkeypatch: pytest.MonkeyPatch) -> None:
    """A second model's deployment and alarm are created, the forms offer it, the first model's stay untouched; once its
    file is gone, what is left over is named and not deleted. A store elsewhere goes along to the worker."""
    assert verdicts(ror)["retrain-or-reload/loans"] in ("created", "updated", "unchanged")
    before = verdicts(ror)
    assert of_this_root(before) == {"unchanged"}
    assert not [name for name in before if "a batch of" in name]  # it belongs to its deployment
    other = declared.root / "deployments/second.toml"
    other.write_text((declared.root / "deployments/loans.toml").read_text())
    found = verdicts(ror, "second")
    assert found["retrain-or-reload/second"] == found["ror: no completed check of second"] == "created"
    assert found["promote/promote"] == "updated"
    assert "retrain-or-reload/loans" not in found
    assert of_this_root(verdicts(ror)) == {"unchanged"}
    other.unlink()
    again = verdicts(ror)
    assert again["retrain-or-reload/second"] == again["ror: no completed check of second"] == "left over"
    assert ror("deploy") == 0
    assert "prefect deployment delete" in " ".join(ror.out.split())
    monkeypatch.setenv("ROR_STORE", str(declared.root / "elsewhere"))
    assert verdicts(ror)["retrain-or-reload/loans"] == "updated"
    assert of_this_root(verdicts(ror)) == {"unchanged"}


@pytest.mark.usefixtures("alone")
def test_in_somebodys_checkout(
    declared: Model, ror: Ror, tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Which commit of which repository the command happens to be called in is no change of a deployment."""
    checkout = tmp_path_factory.mktemp("checkout")
    who = ("-c", "user.name=a", "-c", "user.email=a@b")
    for words in (
        ("init", "-q"),
        ("remote", "add", "origin", "https://example.invalid/a/b.git"),
        (*who, "commit", "-q", "--allow-empty", "-m", "first"),
    ):
        subprocess.run(["git", *words], cwd=checkout, check=True)
    assert verdicts(ror)["promote/promote"] in ("created", "updated", "unchanged")
    monkeypatch.chdir(checkout)
    assert of_this_root(verdicts(ror, "--root", str(declared.root))) == {"unchanged"}
    (declared.root / "deployments/prefect.yaml").write_text(
        (declared.root / "deployments/prefect.yaml")
        .read_text()
        .replace("Decides nothing, trains nothing.", "Only that.")
    )
    assert verdicts(ror, "--root", str(declared.root))["predict/predict"] == "updated"
    assert of_this_root(verdicts(ror, "--root", str(declared.root))) == {"unchanged"}


@pytest.mark.usefixtures("alone")
def test_two_roots_on_one_server(
    declared: Model, there: Model, ror: Ror, other: Ror, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What is another root's is refused by name and stays as it is, its automations wait for its own events, and
    neither root is told to delete what is the other's; a root that was moved takes its own along, whether it is
    deployed or served, as the refusal says."""
    before = verdicts(ror)
    assert {*before.values()} == {"created"}

    assert other("deploy", "--json") == 2
    found = {item["name"]: item for item in json.loads(other.out)}
    assert (found["retrain-or-reload/loans"]["verdict"], found["promote/promote"]["verdict"]) == ("refused", "refused")
    assert f"retrain-or-reload/loans is on the server already and works on {declared.root}" in other.err
    assert "`ror deploy --moved-from FOLDER`" in " ".join(other.err.split())
    assert other("serve") == 2
    assert "`ror serve --moved-from FOLDER`" in " ".join(other.err.split())
    alarm = f"ror: no completed check of loans ({there.root})"
    assert found[alarm]["verdict"] == "created"
    assert waiting("ror: no completed check of loans") == {str(declared.root)} and waiting(alarm) == {str(there.root)}
    assert of_this_root(verdicts(ror)) == {"unchanged"}
    assert "left over" not in {*verdicts(ror).values()}

    moved = verdicts(other, "--moved-from", str(declared.root))
    assert moved["retrain-or-reload/loans"] == moved["ror: no completed check of loans"] == "updated"
    assert moved[alarm] == "left over"
    assert waiting("ror: no completed check of loans") == {str(there.root)}

    served: list[str] = []
    monkeypatch.setattr("prefect.serve", lambda *made, **_: served.extend(one.name for one in made))
    assert ror("serve", "--moved-from", str(there.root)) == 0, ror.err
    assert "loans" in served
    assert waiting("ror: no completed check of loans") == {str(declared.root)}


def test_a_batch_is_told_of_with_the_root_that_is_deployed(
    declared: Model, ror: Ror, tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Through whichever link `ror notify` was called, its event has the root of the trigger that waits for it."""
    told: list[str] = []

    def emit(workspace: Workspace, file: Path) -> tuple[str, bool]:
        told.append(resource_of(workspace)["ror.root"])
        return "0" * 64, True

    monkeypatch.setattr("flows.server.notify.notify", emit)
    link = tmp_path_factory.mktemp("elsewhere") / "link"
    link.symlink_to(declared.root)
    assert ror("notify", "loans", str(declared.deliver("001")), "--root", str(link)) == 0
    assert told == [str(declared.root)]


@pytest.mark.usefixtures("alone")
def test_one_root_deployed_from_two_folders(declared: Model, there: Model, ror: Ror, other: Ror) -> None:
    """What the worker sees as one root has one alarm, from whichever checkout it is deployed; a slash at the end of
    that name makes no other root of it, and neither one at the end of where it was."""
    assert {*verdicts(ror, "--worker-root", "/app").values()} == {"created"}
    found = verdicts(other, "--worker-root", "/app/")
    assert {*found.values()} == {"unchanged", "updated"}
    assert found["promote/promote"] == "unchanged"
    assert found["ror: no completed check of loans"] == "updated"
    assert waiting("ror: no completed check of loans") == {"/app", str(there.root)}
    moved = verdicts(other, "--moved-from", "/app/")
    assert {moved["promote/promote"], moved["ror: no completed check of loans"]} == {"updated"}
    assert waiting("ror: no completed check of loans") == {str(there.root)}


@pytest.mark.usefixtures("alone")
def test_what_an_earlier_release_made_without_a_root(declared: Model, there: Model, ror: Ror, other: Ror) -> None:
    """An alarm that names no root is the one of the root whose deployment of that model is on the server: another one
    neither takes it nor is told to delete what has no root, and has one of its own."""
    alarm = "ror: no completed check of loans"
    verdicts(ror)
    forget_roots()
    assert waiting(alarm) == set()
    (there.root / "deployments/second.toml").write_text((there.root / "deployments/loans.toml").read_text())
    assert other("deploy", "--json") == 2
    found = {item["name"]: item["verdict"] for item in json.loads(other.out)}
    assert found[f"{alarm} ({there.root})"] == "created"
    assert "left over" not in {*found.values()}
    assert (waiting(alarm), waiting(f"{alarm} ({there.root})")) == (set(), {str(there.root)})
    assert verdicts(ror)[alarm] == "updated"
    assert waiting(alarm) == {str(declared.root)}


def forget_roots() -> None:
    """Make the automations on the server those of the release before roots had a label."""
    from prefect import get_client
    from prefect.automations import AutomationCore
    from prefect.events.schemas.events import ResourceSpecification

    with get_client(sync_client=True) as client:
        for found in client.read_automations():
            labels = found.trigger.match.model_dump()
            if labels.pop("ror.root", None):
                found.trigger.match = ResourceSpecification(labels)
                client.update_automation(found.id, AutomationCore(**found.model_dump(exclude={"id", "owner_resource"})))


def waiting(name: str) -> set[str]:
    """The roots that an automation on the server waits for."""
    from prefect import get_client

    with get_client(sync_client=True) as client:
        (found,) = [one for one in client.read_automations() if one.name == name]
    roots = found.trigger.match.model_dump().get("ror.root", [])
    return {*([roots] if isinstance(roots, str) else roots)}


@pytest.mark.usefixtures("alone")
def test_a_block_that_is_not_there(declared: Model, ror: Ror) -> None:
    """Alerts that would reach nobody are refused, naming the block."""
    path = declared.root / "deployments/prefect.yaml"
    path.write_text(path.read_text().replace("notify: null", "notify: slack-webhook/nobody"))
    assert ror("deploy") == 2
    assert "no block 'slack-webhook/nobody'" in ror.err


@pytest.mark.usefixtures("alone")
def test_a_file_that_no_run_will_look_at(declared: Model, ror: Ror) -> None:
    """The event is emitted, with a warning that names where batches of this model are looked for."""
    batch = declared.deliver("001")
    assert ror("notify", "loans", str(batch)) == 0
    assert (ror.err, "loans: 001.parquet arrived (sha256 " in ror.out) == ("", True)
    elsewhere = batch.rename(declared.root / "001.parquet")
    assert ror("notify", "loans", str(elsewhere)) == 0
    assert "not among the batches of loans (data/loans/batches/*)" in " ".join(ror.err.split())


@pytest.mark.slow
@pytest.mark.usefixtures("alone")
def test_schedules_of_the_file_and_of_persons(declared: Model, ror: Ror) -> None:
    """A schedule that left the file leaves the server; what a person added in the UI stays, whatever is deployed, and
    what was changed is said."""
    from prefect import get_client
    from prefect.client.schemas.schedules import CronSchedule

    def crons(name: str) -> list[tuple[str, bool]]:
        found = client.read_deployment_by_name(name)
        return sorted((one.schedule.cron, one.active) for one in found.schedules)

    declared.write_spec('[schedule]\ncron = "0 6 * * *"\n')
    name = "retrain-or-reload/loans"
    assert ror("deploy") == 0
    with get_client(sync_client=True) as client:
        assert ("0 6 * * *", True) in crons(name)
        for deployment in (name, "verify/verify"):
            identity = client.read_deployment_by_name(deployment).id
            client.create_deployment_schedules(identity, [(CronSchedule(cron="5 5 * * 0"), True)])
        assert of_this_root(verdicts(ror)) == {"unchanged"}
        paused = client.read_deployment_by_name(name).id
        client.pause_deployment(paused)
        declared.write_spec('[schedule]\ncron = "0 7 * * *"\n')
        (note,) = [item["note"] for item in ror.json("deploy") if item["name"] == name]
        assert note == "0 7 * * * UTC, changed: schedules, paused in the UI"
        assert client.read_deployment_by_name(name).paused
        client.resume_deployment(paused)
        assert crons(name) == [("0 7 * * *", True), ("5 5 * * 0", True)]
        declared.write_spec()
        (declared.root / "deployments/other.toml").write_text((declared.root / "deployments/loans.toml").read_text())
        assert verdicts(ror)["verify/verify"] == "updated"  # its form offers one more
        assert crons(name) == crons("verify/verify") == [("5 5 * * 0", True)]
        assert of_this_root(verdicts(ror)) == {"unchanged"}
