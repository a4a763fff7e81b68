"""`ror serve`: every deployment of deployments/prefect.yaml in this one process, with no work pool."""

from __future__ import annotations

import importlib
from pathlib import Path
from typing import Any

from flows import launch
from tasks.core.errors import SpecError


def read_deployments(root: Path) -> list[dict[str, Any]]:
    """The deployments that prefect.yaml declares. Raises SpecError when there is no such file or it is not YAML."""
    import yaml

    path = root / "deployments" / "prefect.yaml"
    try:
        return list(yaml.safe_load(path.read_text(encoding="utf-8"))["deployments"])
    except FileNotFoundError:
        raise SpecError(str(path), ["there is no such file. Is --root right?"]) from None
    except (yaml.YAMLError, KeyError, TypeError) as error:
        raise SpecError(str(path), [f"not a list of deployments: {error}"]) from None


def serve_all(root: Path) -> None:
    """Serve until Ctrl-C. Runs happen in processes of their own; the schedules go on with the next start.

    Raises SpecError when no Prefect server is configured: on an embedded one no schedule would ever fire.
    """
    declared = read_deployments(root)
    launch.configure(verbose=True)
    if not launch.server_url():
        raise SpecError(
            "ror serve",
            [
                "no Prefect server is configured. Start one with `prefect server start` and set "
                "PREFECT_API_URL=http://127.0.0.1:4200/api"
            ],
        )
    from prefect import serve

    serve(*(_deployment(item, root) for item in declared), pause_on_shutdown=False)


def _deployment(item: dict[str, Any], root: Path) -> Any:
    from prefect.client.schemas.objects import ConcurrencyLimitConfig
    from prefect.deployments.runner import EntrypointType

    limit = item.get("concurrency_limit")
    return _flow(item).to_deployment(
        name=item["name"],
        description=item.get("description"),
        tags=item.get("tags"),
        parameters={"root": str(root), **item.get("parameters", {})},
        schedules=[_schedule(schedule) for schedule in item.get("schedules", [])],
        concurrency_limit=ConcurrencyLimitConfig(**limit) if isinstance(limit, dict) else limit,
        # A module path needs only the installed packages, wherever the run happens to start.
        entrypoint_type=EntrypointType.MODULE_PATH,
    )


def _flow(item: dict[str, Any]) -> Any:
    """The flow that a deployment names. Raises SpecError when there is none of that name."""
    module, _, name = str(item.get("entrypoint")).rpartition(".")
    try:
        return getattr(importlib.import_module(module), name)
    except (ImportError, AttributeError, ValueError) as error:
        raise SpecError(
            f"deployment {item['name']}",
            [f"entrypoint {item.get('entrypoint')!r}: {error}. Write flows.promote.promote, say"],
        ) from None


def _schedule(declared: dict[str, Any]) -> Any:
    from prefect.schedules import Cron

    return Cron(declared["cron"], **{key: value for key, value in declared.items() if key != "cron"})
