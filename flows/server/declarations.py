"""What deployments/prefect.yaml and the models' files declare, as Prefect's: for `ror serve` and `ror deploy`."""

from __future__ import annotations

import importlib
import os
import re
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from importlib import metadata
from importlib.resources import files
from pathlib import Path
from typing import Any

import yaml

from flows.server.cadence import longest_gap
from tasks.core.errors import SpecError
from tasks.core.spec import ModelSpec, ScheduleSpec, load_spec
from tasks.core.workspace import Project

UNSCHEDULED_HOURS = 24.0 * 31
"""Without a schedule a check is expected once a month."""

POOL = "ror"

OURS = "ror-"
"""How the slugs of declared schedules begin; others on the server were made by a person there."""


@dataclass(frozen=True, slots=True)
class Declared:
    """All that is to be on the server for one root."""

    deployments: tuple[Mapping[str, Any], ...]
    """As prefect.yaml writes them; each has a name and an entrypoint."""
    automations: tuple[Mapping[str, Any], ...]
    """Each with name and trigger; with subject and body for a message, or with actions."""
    notify: str | None
    """Notification block, `type/name`."""
    models: tuple[str, ...]
    """Every model of the root, also where only some are asked for."""
    roots: tuple[str, ...]
    """The root as the process that runs the flows sees it, and as this one does."""


def read_declared(root: Path, only: str | None = None, worker_root: str | None = None) -> Declared:
    """What is declared for all models. With `only`, for that one: the other models' deployments and what alerts about
    all of them are left out; what runs by hand is not, for its forms offer the models there are.

    Raises InvalidRequest for a model without a file and a root without models, SpecError when a file is wrong.
    """
    names = Project.open(root).require_models()
    declared = _read_yaml(root)
    each, written = declared.get("each_model"), declared.get("automations") or []
    deployments = [*declared["deployments"]]
    # As events name it: a slash at its end would never match.
    roots = tuple(dict.fromkeys([os.path.normpath(worker_root or root), str(root)]))
    common = [item for item in written if "<model>" not in item["name"]] if only is None else []
    automations = [_filled(item, {"root": roots}) for item in common]
    for name in names if only is None else [only]:
        spec = load_spec(root, name)
        values = {**_values(name, spec), "root": roots}
        if each:
            schedules = [spec.schedule.model_dump(include={"cron", "timezone"})] if spec.schedule else []
            deployments.append({**_filled(each, values), "schedules": schedules})
        automations += [_filled(item, values) for item in written if "<model>" in item["name"]]
    of = Counter((str(item.get("entrypoint")), item["name"]) for item in deployments)
    if twice := [name for (_, name), count in of.items() if count > 1]:
        raise SpecError(str(root / "deployments" / "prefect.yaml"), [f"two deployments are called {twice[0]!r}"])
    return Declared(tuple(deployments), tuple(automations), declared.get("notify"), tuple(names), roots)


def _read_yaml(root: Path) -> dict[str, Any]:
    """A root that has no prefect.yaml of its own has the one that comes with the package."""
    path: Any = root / "deployments" / "prefect.yaml"
    if not path.exists():
        path = files("deployments").joinpath("prefect.yaml")
    try:
        declared = yaml.safe_load(path.read_text(encoding="utf-8"))
    except yaml.YAMLError as error:
        raise SpecError(str(path), [f"not valid YAML: {error}"]) from None
    lists = isinstance(declared, dict) and all(
        isinstance(declared.get(key, []), list | None) and all("name" in item for item in declared.get(key) or [])
        for key in ("deployments", "automations")
    )
    if not lists or "deployments" not in declared:
        raise SpecError(str(path), ["it needs `deployments:`, a list of items with a name each"])
    return {**declared, "deployments": declared["deployments"] or []}


def _values(name: str, spec: ModelSpec) -> dict[str, str]:
    hours = spec.schedule.overdue_hours if spec.schedule else None
    hours = hours or _usual_hours(name, spec.schedule)
    return {
        "model": name,
        "owner": spec.owner,
        "purpose": spec.purpose,
        "runbook": spec.runbook or "none",
        "hours": f"{hours:.3g}",
        "seconds": f"{hours * 3600:.0f}",
    }


def _usual_hours(name: str, schedule: ScheduleSpec | None) -> float:
    """The longest gap of a year between two runs, and a quarter of it."""
    if schedule is None:
        return UNSCHEDULED_HOURS
    try:
        gap = longest_gap(schedule.cron, schedule.timezone, datetime.now(UTC).year)
    except ValueError as error:
        raise SpecError(f"deployments/{name}.toml", [f"schedule.cron = {schedule.cron!r}: {error}"]) from None
    return 1.25 * gap.total_seconds() / 3600


def _filled(value: Any, values: Mapping[str, Any]) -> Any:
    """`value` with every <name> replaced by its value, in texts at any depth; a text that is only that by all of its
    values, where there are several."""
    if isinstance(value, dict):
        return {key: _filled(item, values) for key, item in value.items()}
    if isinstance(value, list):
        return [_filled(item, values) for item in value]
    if not isinstance(value, str):
        return value
    if isinstance(several := values.get(value.strip("<>")), tuple) and value.startswith("<"):
        return [*several]
    return re.sub(r"<(\w+)>", lambda found: _one(values.get(found[1], found[0])), value)


def _one(value: str | tuple[str, ...]) -> str:
    return value[0] if isinstance(value, tuple) else value


# --- as Prefect's values -------------------------------------------------------------------------------------


def deployment(item: Mapping[str, Any], root: str, names: Sequence[str], store: str | None = None) -> Any:
    """A deployment to serve or to apply, whose form offers the models there are. Raises SpecError where it is wrong.

    `root` is the folder as the process that runs the flow sees it; `store` is where it finds the store, if not there.
    """
    from prefect.client.schemas.objects import ConcurrencyLimitConfig
    from prefect.events import DeploymentEventTrigger
    from prefect.types.entrypoint import EntrypointType

    limit, given = item.get("concurrency_limit"), item.get("parameters") or {}
    try:
        made: Any = _flow(item).to_deployment(
            name=item["name"],
            # Of this program. Prefect would take the commit of whatever checkout the command is called in.
            version=metadata.version("retrain-or-reload"),
            description=item.get("description"),
            tags=item.get("tags"),
            parameters={"root": root, **given},
            schedules=[_schedule(number, one) for number, one in enumerate(item.get("schedules") or [], start=1)],
            concurrency_limit=ConcurrencyLimitConfig(**limit) if isinstance(limit, dict) else limit,
            triggers=[DeploymentEventTrigger(**trigger) for trigger in item.get("triggers") or []],
            job_variables={"env": {"ROR_STORE": store}} if store else None,
            # A module path needs only the installed packages, wherever the run happens to start.
            entrypoint_type=EntrypointType.MODULE_PATH,
        )
    except (TypeError, ValueError, KeyError) as error:
        raise SpecError(f"deployment {item['name']}", [str(error)]) from None
    form = made._parameter_openapi_schema.properties
    _offer(form, given, names)
    for name, field in form.items():
        form[name] = _without_null(field)
    return made


def _flow(item: Mapping[str, Any]) -> Any:
    """The flow that a deployment names. Raises SpecError when there is none of that name."""
    module, _, name = str(item.get("entrypoint")).rpartition(".")
    try:
        return getattr(importlib.import_module(module), name)
    except (ImportError, AttributeError, ValueError) as error:
        raise SpecError(
            f"deployment {item['name']}",
            [f"entrypoint {item.get('entrypoint')!r}: {error}. Write flows.promote.promote, say"],
        ) from None


def _schedule(number: int, declared: dict[str, Any]) -> Any:
    from prefect.schedules import Cron

    others = {key: value for key, value in declared.items() if key not in ("cron", "slug")}
    slug = str(declared.get("slug", number))
    return Cron(declared["cron"], slug=slug if slug.startswith(OURS) else f"{OURS}{slug}", **others)


def _offer(form: dict[str, Any], given: Mapping[str, Any], names: Sequence[str]) -> None:
    """Let the form offer the models there are, or the only one; the server refuses others before a run exists."""
    field = form["model"]
    if "model" in given:
        field |= {"enum": [given["model"]], "readOnly": True}
    elif "anyOf" in field:
        text = next(kind for kind in field["anyOf"] if kind.get("type") == "string")
        text["enum"] = [*names]
    elif names:
        field["enum"] = [*names]


def _without_null(field: dict[str, Any]) -> dict[str, Any]:
    """What may be left empty is one box of the form, in place of a switch between a type and None with a box behind."""
    kinds = [kind for kind in field.get("anyOf", ()) if kind.get("type") != "null"]
    if len(kinds) != 1:
        return field
    return {**{key: value for key, value in field.items() if key not in ("anyOf", "default")}, **kinds[0]}


def automation(item: Mapping[str, Any], block: Any) -> Any:
    """An automation that does what is declared, notifies the block with that id, or is only seen in the UI. Raises
    SpecError where it is wrong."""
    from prefect.automations import AutomationCore, DoNothing, SendNotification

    try:
        trigger = {**item["trigger"]}
        if "within" in trigger:
            trigger["within"] = float(trigger["within"])
        actions = [*(item.get("actions") or [])]
        if not actions or "subject" in item:
            message = {"subject": item["subject"], "body": item["body"]}
            actions.append(DoNothing() if block is None else SendNotification(block_document_id=block, **message))
        return AutomationCore(
            name=item["name"], description=item.get("description", ""), trigger=trigger, actions=actions
        )
    except (TypeError, ValueError, KeyError) as error:
        raise SpecError(f"automation {item['name']}", [str(error)]) from None
