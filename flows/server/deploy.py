"""`ror deploy` and `ror notify`: what the server is to know of schedules, triggers and alerts, and of a batch."""

from __future__ import annotations

import os
from collections.abc import Collection, Mapping
from contextlib import suppress
from dataclasses import dataclass
from fnmatch import fnmatchcase
from pathlib import Path
from typing import Any

from flows.server import environment
from flows.server.client import all_pages, connected, read_deployment, require_server
from flows.server.declarations import OURS, POOL, Declared, automation, deployment, read_declared
from tasks.core.errors import SpecError
from tasks.resource import ID, ROOT

REFUSED = "refused"
UNSENT = "seen in the UI only: `notify:` in prefect.yaml names no block"


@dataclass(frozen=True, slots=True)
class Applied:
    """One thing that the server knows now."""

    kind: str
    """work pool, deployment, automation."""
    name: str
    verdict: str
    """created, updated, unchanged; left over: on the server and declared no more; refused: it is another root's."""
    note: str = ""
    """When it runs, what was changed, what to do; of what is refused, the root that it works on."""


def deploy_all(
    root: Path, model: str | None = None, *, worker_root: str | None = None, moved_from: str | None = None
) -> list[Applied]:
    """Tell the server what is declared, for all models or one; doing it twice changes nothing.

    `worker_root` is the folder as the worker sees it, where that is another; `moved_from` is the one that this root was
    until now. What has a name that is declared here and works on any other root is refused and left as it is: a server
    may know several. Raises SpecError when a file is wrong or no server is configured, RorError when the server does
    not answer or refuses.
    """
    declared = read_declared(root, model, worker_root)
    ours = owned(declared, moved_from)
    environment.configure(verbose=False)
    require_server("ror deploy")
    # A worker without this would find no history below its root, and begin another one.
    where = (declared.roots[0], declared.models, os.environ.get("ROR_STORE"))
    made = [(item, deployment(item, *where)) for item in declared.deployments]
    with connected() as client:
        pools = {item.get("work_pool", {}).get("name", POOL) for item, _ in made}
        done = [pool for name in sorted(pools) if (pool := _pool(client, name))]
        refused = set()
        for item, one in made:
            done.append(_apply(client, one, item.get("work_pool", {}).get("name", POOL), ours))
            if done[-1].verdict == REFUSED:
                refused.add(one.parameters.get("model"))
        applied = apply_automations(client, declared, ours, refused - {None})
        done += applied
        if model is None:
            done += _left_over(client, {one.full_name for _, one in made}, ours)
            done += _forgotten(client, {item.name for item in applied}, ours)
    return done


def owned(declared: Declared, moved_from: str | None) -> set[str]:
    """The roots whose deployments and automations are those of what is declared."""
    return {*declared.roots, *([os.path.abspath(moved_from)] if moved_from else [])}  # noqa: PTH100 - links stay


def roots_of(found: Any, made: Any) -> set[str]:
    """The root that a deployment on the server works on, where that is not the one it is to work on here."""
    return _works_on(found) - _works_on(made)


def refuse(others: Mapping[str, str], command: str = "ror deploy") -> None:
    """Raises SpecError naming deployments that are another root's, with that root, and what to call instead."""
    if others:
        roots = " or ".join(sorted({*others.values()}))
        raise SpecError(
            "deployments/prefect.yaml",
            [
                *(f"{name} is on the server already and works on {root}" for name, root in sorted(others.items())),
                f"give this root's other names; if this root was {roots} until now: `{command} --moved-from FOLDER`",
            ],
        )


def apply_automations(client: Any, declared: Declared, ours: set[str], refused: Collection[str] = ()) -> list[Applied]:
    """Create and update what is declared, by name; what is as declared stays untouched, with what it has counted. Where
    the name is another root's, that of this one has the root behind it. `refused` are the models of this root whose
    deployment is another root's: what an earlier release made for them, without a root, is not taken from that one."""
    done = []
    block, known = _block(client, declared.notify), _automations(client)
    for item in declared.automations:
        wanted = automation(item, block)
        if any(one.name == wanted.name and _is_anothers(one, wanted, ours, refused) for one in known):
            wanted = wanted.model_copy(update={"name": f"{wanted.name} ({declared.roots[0]})"})
        found = next((one for one in known if one.name == wanted.name), None)
        changed = _differences(found, wanted) if found else []
        if found is None:
            client.create_automation(wanted)
        elif changed:
            client.update_automation(found.id, wanted.model_copy(update={"enabled": found.enabled}))
        notes = [*_changes(changed), *([UNSENT] if not block and "subject" in item else [])]
        done.append(Applied("automation", wanted.name, _verdict(found, changed), ", ".join(notes)))
    return done


# --- the server ----------------------------------------------------------------------------------------------


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


def _works_on(item: Any) -> set[str]:
    """The root that a deployment works on; none where it names none. Earlier releases kept a slash at its end."""
    root = item.parameters.get("root")
    return {os.path.normpath(root)} if root else set()


def _label(item: Any, name: str) -> set[str]:
    """The values of a label that an automation waits for; none where any will do."""
    match = getattr(item.trigger, "match", None)
    values = match.model_dump().get(name, []) if match else []
    return {values} if isinstance(values, str) else {*values}


def _waits_for(item: Any) -> set[str]:
    """The roots whose events an automation waits for; none where it waits for those of all."""
    return {os.path.normpath(root) for root in _label(item, ROOT)}


def _is_anothers(found: Any, wanted: Any, ours: set[str], refused: Collection[str]) -> bool:
    """Whether an automation on the server that has a declared one's name is another root's. Roots that are deployed
    from several folders have the worker's in common."""
    if roots := _waits_for(found):
        return roots.isdisjoint(ours)
    models = _label(wanted, ID) if _waits_for(wanted) else set()
    return any(fnmatchcase(f"ror.model.{model}", pattern) for model in refused for pattern in models)


def _apply(client: Any, made: Any, pool: str, ours: set[str]) -> Applied:
    found = read_deployment(client, made.full_name)
    if found and (other := roots_of(found, made) - ours):
        return Applied("deployment", made.full_name, REFUSED, other.pop())
    when = [_words(schedule.schedule) for schedule in made.schedules or []]
    paused = preserve_manual_changes(made, found) if found else False
    changed = _changed(client, made, pool, found) if found else []
    # To apply it without need would throw away the runs that are scheduled.
    if found is None or changed:
        made.apply(work_pool_name=pool)
    if "schedules" in changed:
        forget_schedules(client, made, found)
    notes = [*when, *_changes(changed), *(["paused in the UI"] if paused else [])]
    return Applied("deployment", made.full_name, _verdict(found, changed), ", ".join(notes))


def preserve_manual_changes(made: Any, found: Any) -> bool:
    """Keep what people did in the UI: a deployment or declared schedule that they paused stays paused, and schedules
    that they added stay. Prefect would resume the first and replace the others. Returns whether anything is paused."""
    from prefect.client.schemas.actions import DeploymentScheduleCreate

    paused = {one.slug for one in found.schedules if not one.active}
    declared = list(made.schedules or [])
    for schedule in declared:
        if schedule.slug in paused:
            schedule.active = False
    fields = ("schedule", "active", "slug", "parameters", "max_scheduled_runs")
    added = [one for one in found.schedules if not str(one.slug).startswith(OURS)]
    made.schedules = declared + [
        DeploymentScheduleCreate(**{name: getattr(one, name) for name in fields}) for one in added
    ]
    made.paused = found.paused
    return bool(found.paused) or any(schedule.active is False for schedule in declared)


def forget_schedules(client: Any, made: Any, found: Any) -> None:
    """Remove what was declared once: Prefect leaves a schedule that an update does not mention, and it would go on."""
    from prefect.exceptions import ObjectNotFound

    declared = {schedule.slug for schedule in made.schedules}
    for one in found.schedules:
        if str(one.slug).startswith(OURS) and one.slug not in declared:
            with suppress(ObjectNotFound):  # the update has replaced them all
                client.delete_deployment_schedule(found.id, one.id)


def _changed(client: Any, made: Any, pool: str, found: Any) -> list[str]:
    """Which parts of a declared deployment differ on the server."""
    limit = found.global_concurrency_limit.limit if found.global_concurrency_limit else None
    for trigger in made.triggers:
        trigger.set_deployment_id(found.id)
    triggers = [trigger.as_automation() for trigger in made.triggers]
    known = client.read_resource_related_automations(f"prefect.deployment.{found.id}") if triggers else []
    pairs = {
        "work pool": (found.work_pool_name, pool),
        "form": (found.parameter_openapi_schema, made._parameter_openapi_schema.model_dump(exclude_unset=True)),
        "concurrency limit": (limit, made.concurrency_limit),
        "schedules": ({_when(one) for one in found.schedules}, {_when(one) for one in made.schedules}),
        **{
            field.replace("_", " "): (_plain(getattr(found, field)), _plain(getattr(made, field)))
            for field in (
                *("description", "tags", "parameters", "entrypoint", "version"),
                *("concurrency_options", "job_variables"),
            )
        },
    }
    changed = [name for name, (has, wanted) in pairs.items() if has != wanted]
    for wanted in triggers:
        same_name = [one for one in known if one.name == wanted.name]
        if not any(not _differences(one, wanted) for one in same_name):
            changed.append("trigger" if same_name else "trigger missing")
    return changed


def _verdict(found: Any, changed: list[str]) -> str:
    return "created" if not found else "updated" if changed else "unchanged"


def _changes(changed: list[str]) -> list[str]:
    return [f"changed: {', '.join(changed)}"] if changed else []


def _when(schedule: Any) -> tuple[Any, ...]:
    words = schedule.schedule.model_dump_json(exclude={"anchor_date"})
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


def _differences(found: Any, wanted: Any) -> list[str]:
    """Which parts of a declared automation differ on the server, apart from the ids it gives itself."""
    fields = ("description", "trigger", "actions")
    return [field for field in fields if _plain(getattr(found, field)) != _plain(getattr(wanted, field))]


def _plain(value: Any) -> Any:
    if isinstance(value, list):
        return [_plain(item) for item in value]
    return value.model_dump(exclude={"id"}) if hasattr(value, "model_dump") else value


def _left_over(client: Any, declared: set[str], ours: set[str]) -> list[Applied]:
    """What an earlier `ror deploy` of this root made and no file declares now; nothing is deleted without a person."""
    from prefect.client.schemas.filters import DeploymentFilter, DeploymentFilterTags

    wanted = DeploymentFilter(tags=DeploymentFilterTags(all_=["ror"]))
    made = [item for item in all_pages(client.read_deployments, deployment_filter=wanted) if _works_on(item) <= ours]
    flows = {item.flow_id: client.read_flow(item.flow_id).name for item in made}
    names = sorted(f"{flows[item.flow_id]}/{item.name}" for item in made)
    return [
        Applied("deployment", name, "left over", f"no file declares it: `prefect deployment delete '{name}'`")
        for name in names
        if name not in declared
    ]


def _forgotten(client: Any, declared: set[str], ours: set[str]) -> list[Applied]:
    """Automations that an earlier `ror deploy` made and no file declares now; those that start a deployment, which go
    with it, are left out, and so are those that name no root of ours: they may be another's."""
    known = [one for one in _automations(client) if not _waits_for(one).isdisjoint(ours)]
    starts = {one.name for one in known if any(action.type == "run-deployment" for action in one.actions)}
    found = [one.name for one in known if one.name.startswith("ror: ") and one.name not in starts]
    return [
        Applied("automation", name, "left over", f"no file declares it: `prefect automation delete '{name}'`")
        for name in sorted({*found} - declared)
    ]


def _automations(client: Any) -> list[Any]:
    """Every one: a filter by name that a newer client sends is refused by an older server of the same minor release."""
    return all_pages(client.read_automations)
