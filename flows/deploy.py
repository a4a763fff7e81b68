"""`ror deploy` and `ror notify`: what the server is to know of schedules, triggers and alerts, and of a batch."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from flows import launch
from flows.declared import POOL, Declared, automation, deployment, read_declared
from tasks.core.errors import SpecError, UnreadableData
from tasks.core.files import find, fingerprint
from tasks.core.workspace import Workspace

PAGE = 200
"""What the server gives at once, at most."""


@dataclass(frozen=True, slots=True)
class Applied:
    """One thing that the server knows now."""

    kind: str
    """work pool, deployment, automation."""
    name: str
    verdict: str
    """created, updated, unchanged, left over: the last are on the server and declared no more."""
    note: str = ""


def require_server(command: str) -> None:
    """Raises SpecError when no Prefect server is configured."""
    if not launch.server_url():
        raise SpecError(
            command,
            [
                "no Prefect server is configured. Start one with `prefect server start` and set "
                "PREFECT_API_URL=http://127.0.0.1:4200/api"
            ],
        )


def deploy_all(root: Path, model: str | None = None, *, worker_root: str | None = None) -> list[Applied]:
    """Tell the server what is declared, for all models or one; doing it twice changes nothing.

    `worker_root` is the folder as the worker sees it, where that is another. Raises SpecError when a file is wrong or
    no server is configured, RorError when the server does not answer or refuses.
    """
    declared = read_declared(root, model)
    launch.configure(verbose=False)
    require_server("ror deploy")
    # A worker without this would find no history beside the root, and begin another one.
    where = (worker_root or str(root), declared.models, os.environ.get("ROR_STORE"))
    made = [(item, deployment(item, *where)) for item in declared.deployments]
    with launch.answered(), _client() as client:
        pools = {item.get("work_pool", {}).get("name", POOL) for item, _ in made}
        done = [pool for name in sorted(pools) if (pool := _pool(client, name))]
        for item, one in made:
            done.append(_apply(client, one, item.get("work_pool", {}).get("name", POOL)))
        done += apply_automations(declared)
        if model is None:
            done += _left_over(client, {one.full_name for _, one in made})
            done += _forgotten(client, {item["name"] for item in declared.automations})
    return done


def apply_automations(declared: Declared) -> list[Applied]:
    """Create and update what is declared, by name; what is as declared stays untouched, with what it has counted."""
    done = []
    with launch.answered(), _client() as client:
        block, known = _block(client, declared.notify), _automations(client)
        for item in declared.automations:
            wanted = automation(item, block)
            found = [one for one in known if one.name == wanted.name]
            if not found:
                client.create_automation(wanted)
                verdict = "created"
            elif _same(found[0], wanted):
                verdict = "unchanged"
            else:
                client.update_automation(found[0].id, wanted.model_copy(update={"enabled": found[0].enabled}))
                verdict = "updated"
            done.append(Applied("automation", wanted.name, verdict, _seen(block)))
    return done


def notify(workspace: Workspace, file: Path) -> tuple[str, bool]:
    """Emit `ror.batch.arrived` for a file or folder; its digest, and whether it is among the model's batches.

    Raises UnreadableData when there is no such file, SpecError when no server is configured, RorError when it does not
    answer.
    """
    if not file.exists():
        raise UnreadableData(str(file), "there is no such file.")
    launch.configure(verbose=False)
    require_server("ror notify")
    from prefect.events import Event

    path, sha256 = file.resolve(), fingerprint(file)
    known = path in [found.resolve() for found in find(workspace.root, workspace.spec.data.batches)]
    inside = path.is_relative_to(workspace.root)
    event = Event(
        event="ror.batch.arrived",
        resource={
            "prefect.resource.id": f"ror.model.{workspace.model}",
            "prefect.resource.name": workspace.model,
        },
        payload={
            "model": workspace.model,
            "batch": path.stem,
            "file": (path.relative_to(workspace.root) if inside else path).as_posix(),
            "sha256": sha256,
            "actor": launch.actor(),
        },
    )
    # Posted, not queued: who delivers files must hear when nobody listened.
    with launch.answered(), _client() as client:
        client.request("POST", "/events", json=[event.model_dump(mode="json")]).raise_for_status()
    return sha256, known


# --- the server ----------------------------------------------------------------------------------------------


@contextmanager
def _client() -> Iterator[Any]:
    from prefect import get_client

    with get_client(sync_client=True) as client:
        yield client


def _pool(client: Any, name: str) -> Applied | None:
    """Create the work pool where it is missing: a process pool, whose worker runs where it was started."""
    from prefect.client.schemas.actions import WorkPoolCreate
    from prefect.exceptions import ObjectNotFound

    try:
        client.read_work_pool(name)
        return None
    except ObjectNotFound:
        client.create_work_pool(WorkPoolCreate(name=name, type="process"))
        return Applied("work pool", name, "created", f"start a worker: `prefect worker start --pool {name}`")


def _apply(client: Any, made: Any, pool: str) -> Applied:
    """A schedule that a person paused stays paused."""
    found = _deployment(client, made.full_name)
    paused = {one.slug for one in found.schedules if not one.active} if found else set()
    for schedule in made.schedules or []:
        if schedule.slug in paused:
            schedule.active = False
    if found is not None and _unchanged(client, made, pool, found):
        verdict = "unchanged"
    else:
        verdict = "updated" if found else "created"
        made.apply(work_pool_name=pool)
    when = [_words(schedule.schedule) for schedule in made.schedules or []]
    notes = [*when, *(["paused, as somebody left it"] if paused else [])]
    return Applied("deployment", made.full_name, verdict, ", ".join(notes))


def _unchanged(client: Any, made: Any, pool: str, found: Any) -> bool:
    """Whether the server has all that is declared: to apply it again would throw away the runs it has scheduled."""
    fields = ("description", "tags", "parameters", "entrypoint", "version", "concurrency_options", "job_variables")
    form = made._parameter_openapi_schema.model_dump(exclude_unset=True)
    if found.work_pool_name != pool or found.parameter_openapi_schema != form:
        return False
    limit = found.global_concurrency_limit.limit if found.global_concurrency_limit else None
    if limit != made.concurrency_limit or any(_plain(getattr(found, k)) != _plain(getattr(made, k)) for k in fields):
        return False
    if [_when(one) for one in found.schedules] != [_when(one) for one in made.schedules or []]:
        return False
    for trigger in made.triggers:
        trigger.set_deployment_id(found.id)
    wanted = {one.name: one for one in (trigger.as_automation() for trigger in made.triggers)}
    known = {one.name: one for one in client.read_resource_related_automations(f"prefect.deployment.{found.id}")}
    return {*known} >= {*wanted} and all(_same(known[name], one) for name, one in wanted.items())


def _when(schedule: Any) -> tuple[Any, ...]:
    words = schedule.schedule.model_dump(exclude={"anchor_date"})
    return (schedule.slug, schedule.active is not False, words)


def _words(schedule: Any) -> str:
    return f"{getattr(schedule, 'cron', schedule)} {getattr(schedule, 'timezone', None) or 'UTC'}"


def _block(client: Any, notify: str | None) -> Any:
    """Id of the notification block; None when alerts are not sent anywhere."""
    from prefect.exceptions import ObjectNotFound

    if not notify:
        return None
    kind, _, name = notify.partition("/")
    try:
        return client.read_block_document_by_name(name, kind).id
    except ObjectNotFound:
        raise SpecError(
            "deployments/prefect.yaml",
            [f"notify: the server has no block {notify!r}. Make it under Blocks in the UI, or name another"],
        ) from None


def _seen(block: Any) -> str:
    return "" if block else "seen in the UI only: `notify:` in prefect.yaml names no block"


def _same(found: Any, wanted: Any) -> bool:
    """Whether the server has what is declared, beside what it numbers itself."""
    return all(
        _plain(getattr(found, key)) == _plain(getattr(wanted, key)) for key in ("description", "trigger", "actions")
    )


def _plain(value: Any) -> Any:
    if isinstance(value, list):
        return [_plain(item) for item in value]
    return value.model_dump(exclude={"id"}) if hasattr(value, "model_dump") else value


def _deployment(client: Any, full_name: str) -> Any:
    from prefect.exceptions import ObjectNotFound

    try:
        return client.read_deployment_by_name(full_name)
    except ObjectNotFound:
        return None


def _left_over(client: Any, declared: set[str]) -> list[Applied]:
    """What an earlier `ror deploy` made and no file declares now; nothing is deleted without a person."""
    from prefect.client.schemas.filters import DeploymentFilter, DeploymentFilterTags

    wanted = DeploymentFilter(tags=DeploymentFilterTags(all_=["ror"]))
    ours = _all(lambda start: client.read_deployments(deployment_filter=wanted, limit=PAGE, offset=start))
    flows = {item.flow_id: client.read_flow(item.flow_id).name for item in ours}
    names = sorted(f"{flows[item.flow_id]}/{item.name}" for item in ours)
    return [
        Applied("deployment", name, "left over", f"no file declares it: `prefect deployment delete '{name}'`")
        for name in names
        if name not in declared
    ]


def _forgotten(client: Any, declared: set[str]) -> list[Applied]:
    """Likewise automations; those that start a deployment go with it."""
    known = _automations(client)
    starts = {one.name for one in known if any(action.type == "run-deployment" for action in one.actions)}
    found = [one.name for one in known if one.name.startswith("ror: ") and one.name not in starts]
    return [
        Applied("automation", name, "left over", f"no file declares it: `prefect automation delete '{name}'`")
        for name in sorted({*found} - declared)
    ]


def _automations(client: Any) -> list[Any]:
    """Every one: a filter by name that a newer client sends is refused by an older server of the same minor release."""
    return _all(lambda start: client.read_automations(limit=PAGE, offset=start))


def _all(read: Callable[[int], list[Any]]) -> list[Any]:
    """What the server gives a page at a time."""
    found: list[Any] = []
    while page := read(len(found)):
        found += page
    return found
