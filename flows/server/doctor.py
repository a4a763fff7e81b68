"""`ror doctor`: what is well with a deployment, and what to do about what is not. The core's checks, and Prefect's."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Iterator, Mapping, Sequence
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from functools import partial
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from flows.server.client import all_pages, public, refusal, server_url
from flows.server.environment import configure
from tasks.core.doctor import deployment
from tasks.core.doctor import models as model_checks
from tasks.core.doctor.deployment import Diagnosis, DoctorCheck, Level, as_diagnoses, one_line
from tasks.core.spec import models
from tasks.core.text import ago
from tasks.core.workspace import Project

SECONDS = 7.0
"""All checks together end in this time, whatever does not answer (and one second to import Prefect)."""

TIMEOUT = (1.0, 3.0, 3.0, 3.0)
"""Seconds to connect, read, write and wait for a connection. Prefect's client tries to connect four times."""

PAGES = 10
"""How often the server is asked for more deployments, at most."""


def examine(root: Path, environment: Mapping[str, str]) -> tuple[Diagnosis, ...]:
    """The findings of every check. `environment` is what the process was started with: what is set in it later, to run
    flows quietly, does not reach a worker."""
    configure(verbose=False)
    with contextlib.suppress(Exception):  # the check that needs it says what is wrong
        import prefect.client.orchestration  # noqa: F401
    project = Project.open(root)
    location = project.store_location
    checks: dict[str, DoctorCheck] = {
        "program": deployment.program,
        "evidently": partial(deployment.evidently, SECONDS - 1),
        "server": partial(server, root),
        "telemetry": partial(deployment.telemetry, environment),
        "keys": partial(deployment.keys, location),
        "store": partial(deployment.store, location),
        **model_checks.checks(project),
    }
    return deployment.gather(checks, SECONDS)


# --- Prefect -------------------------------------------------------------------------------------------------

DEPENDENT = ("server clock", "deployments", "schedules", "work pools")
"""What only a server that answers can tell."""


def server(root: Path) -> Iterator[Diagnosis]:
    """The Prefect server that is configured, and what it knows about the deployments of prefect.yaml."""
    from prefect import get_client
    from prefect.settings import PREFECT_CLIENT_MAX_RETRIES, temporary_settings

    url = server_url()
    if not url:
        text = "none is configured: every run uses one of its own, embedded in its process, and no schedule fires"
        yield Diagnosis(
            "server", Level.WARN, text, "For schedules and the UI: `prefect server start`; set PREFECT_API_URL."
        )
        return
    settings: dict[str, Any] = {"timeout": TIMEOUT}
    with (
        temporary_settings({PREFECT_CLIENT_MAX_RETRIES: 0}),
        get_client(sync_client=True, httpx_settings=settings) as client,
    ):
        found = list(as_diagnoses("server", partial(_reach, client, public(url))))
        yield from found
        if not any(finding.name == "server clock" for finding in found):
            yield from (Diagnosis(name, Level.SKIPPED, "not looked at: see the server") for name in DEPENDENT)
            return
        yield from as_diagnoses("server telemetry", partial(_settings, client))
        yield from as_diagnoses("deployments", partial(_deployments, client, root))


OUTDATED = "Bring both to the same release: pip install 'prefect=={}'"


def _reach(client: Any, url: str) -> Iterator[Diagnosis]:
    """Whether the server answers, lets us in, is of our release, and has our time."""
    import httpx

    try:
        asked = time.time()
        answer = client.hello()
        middle = (asked + time.time()) / 2
        version = client.api_version()
    except httpx.HTTPStatusError as error:
        yield _refused(error.response.status_code, url)
        return
    except httpx.TimeoutException:
        yield Diagnosis(
            "server", Level.FAIL, f"{url} does not answer in time", "Is it running, and reachable from here?"
        )
        return
    except httpx.TransportError as error:
        yield Diagnosis("server", Level.FAIL, f"{url} cannot be reached: {one_line(error)}", _where(url))
        return
    except ValueError:  # the answer is not JSON: of the UI, for example
        yield _refused(404, url)
        return
    yield _versions(url, str(version))
    yield _clock(answer.headers.get("date"), middle)


def _clock(date: str | None, now: float) -> Diagnosis:
    if date is None:
        return Diagnosis("server clock", Level.SKIPPED, "the server's answers carry no date")
    # Whole seconds, cut off: half a second is added.
    return deployment.clocks("server clock", now - parsedate_to_datetime(date).timestamp() - 0.5, "the server's")


def _where(url: str) -> str:
    local = urlsplit(url).hostname in ("127.0.0.1", "localhost", "::1")
    return "Start it: `prefect server start`." if local else "Is PREFECT_API_URL right, and the server running?"


def _refused(status: int, url: str) -> Diagnosis:
    what, remedy = refusal(status)
    return Diagnosis("server", Level.FAIL, f"{url} {what}", remedy)


def _versions(url: str, theirs: str) -> Diagnosis:
    import prefect
    from packaging.version import Version

    ours = prefect.__version__
    text = f"{url} answers, Prefect {theirs}; client {ours}"
    supported = deployment.supported("prefect")
    if supported and not supported.contains(theirs, prereleases=True):
        return Diagnosis("server", Level.FAIL, f"{text}; {supported} is supported", OUTDATED.format(ours))
    if Version(theirs).release[:2] != Version(ours).release[:2]:
        return Diagnosis("server", Level.WARN, f"{text}: not the same minor release", OUTDATED.format(ours))
    return Diagnosis("server", Level.OK, text)


def _settings(client: Any) -> Iterator[Diagnosis]:
    """Whether the server reports its use, and forgets who is at work when it is restarted; Prefect Cloud does not
    say."""
    from prefect.client.base import ServerType

    if client.server_type is ServerType.CLOUD:
        return
    told = client.request("GET", "/admin/settings").json().get("server", {})
    if told.get("analytics_enabled"):
        remedy = "Start it with PREFECT_SERVER_ANALYTICS_ENABLED=false."
        yield Diagnosis("server telemetry", Level.WARN, "the server reports its use to Prefect", remedy)
    else:
        yield Diagnosis("server telemetry", Level.OK, "off")
    kept = told.get("concurrency", {}).get("lease_storage")
    if kept == IN_MEMORY:
        text = "kept in the server's memory: a restart of it ends every scheduled run at work within four minutes"
        remedy = f"Start it with PREFECT_SERVER_CONCURRENCY_LEASE_STORAGE={IN_MEMORY.replace('memory', 'filesystem')}."
        yield Diagnosis("server slots", Level.WARN, text, remedy)
    else:
        yield Diagnosis("server slots", Level.OK, "survive a restart of the server")


IN_MEMORY = "prefect.server.concurrency.lease_storage.memory"
"""Prefect's default. What a run must renew is gone after a restart, and Prefect then ends the run."""


# --- deployments and workers ---------------------------------------------------------------------------------


ON_ITS_PAGE = "Switch it on again, on the deployment's page in the UI"


def _deployments(client: Any, root: Path) -> Iterator[Diagnosis]:
    """What prefect.yaml declares compared with what the server has, and which process would run it."""
    from flows.server.declarations import read_declared

    declared = read_declared(root).deployments
    entrypoints = {item.get("entrypoint") for item in declared}
    known = [item for item in all_pages(client.read_deployments, PAGES) if item.entrypoint in entrypoints]
    ours = [item for item in known if _root_of(item) in (None, root)]  # a server may serve several roots
    yield from _elsewhere(root, declared, ours, known)
    yield from _missing(declared, ours)
    yield from as_diagnoses("schedules", partial(_schedules, root, ours))
    served = [item for item in ours if item.work_pool_name is None]
    if served:
        yield from as_diagnoses("serving", partial(_served, served))
    pools = {item.work_pool_name for item in ours if item.work_pool_name}
    if not served:
        pools |= {name for item in declared if (name := _pool_of(item))}
    for pool in sorted(pools):
        yield from as_diagnoses(f"work pool {pool}", partial(_work_pool, client, pool))
    yield from as_diagnoses("late runs", partial(_late, client, ours))


def _root_of(item: Any) -> Path | None:
    """The folder that a deployment works on; None where the worker's environment says it."""
    given = item.parameters.get("root")
    return Path(given).resolve() if given else None


def _elsewhere(
    root: Path, declared: Sequence[Mapping[str, Any]], ours: Sequence[Any], known: Sequence[Any]
) -> Iterator[Diagnosis]:
    """Deployments of these names that work on another root, and that this one has not."""
    here = {(item.name, item.entrypoint) for item in ours}
    wanted = {(item.get("name"), item.get("entrypoint")) for item in declared} - here
    for item in known:
        if (item.name, item.entrypoint) in wanted:
            text = f"{item.name} works on {_root_of(item)}, not on {root}"
            yield Diagnosis(
                "deployments",
                Level.WARN,
                text,
                "Give this root's another name. If this root was there until now: `ror deploy --moved-from FOLDER`.",
            )


def _pool_of(declared: Mapping[str, Any]) -> str | None:
    return (declared.get("work_pool") or {}).get("name")


def _missing(declared: Sequence[Mapping[str, Any]], ours: Sequence[Any]) -> Iterator[Diagnosis]:
    """Those of prefect.yaml that the server does not have, and those that are paused."""
    known = {(item.name, item.entrypoint) for item in ours}
    missing = [item for item in declared if (item.get("name"), item.get("entrypoint")) not in known]
    paused = sorted(item.name for item in ours if item.paused)
    if missing:
        names = ", ".join(str(item.get("name")) for item in missing)
        level = Level.FAIL if any(item.get("schedules") for item in missing) else Level.WARN
        remedy = "Register them: `ror deploy`, or `ror serve`."
        yield Diagnosis("deployments", level, f"not on the server: {names}", remedy)
    if paused:
        text = f"paused, so that nothing starts them by itself: {', '.join(paused)}"
        yield Diagnosis("deployments", Level.FAIL, text, f"{ON_ITS_PAGE}.")
    if not missing and not paused:
        yield Diagnosis(
            "deployments", Level.OK, f"all {len(declared)} that are declared are registered, none is paused"
        )


def _schedules(root: Path, ours: Sequence[Any]) -> Iterator[Diagnosis]:
    """Which schedules fire, and which models have none."""
    active = {item.name: [one for one in item.schedules if one.active] for item in ours if item.schedules}
    for name in sorted(name for name, schedules in active.items() if not schedules):
        yield Diagnosis("schedules", Level.FAIL, f"that of {name} is switched off", f"{ON_ITS_PAGE}.")
    firing = sorted(f"{name} ({_times(schedules)})" for name, schedules in active.items() if schedules)
    if firing:
        yield Diagnosis("schedules", Level.OK, f"active: {', '.join(firing)}")
    planned = {item.parameters.get("model") for item in ours if item.schedules}
    if without := [name for name in models(root) if name not in planned]:
        remedy = "Declare one in the model's file ([schedule]), then `ror deploy`."
        yield Diagnosis("schedules", Level.WARN, f"none for {', '.join(without)}: runs by hand only", remedy)


def _times(schedules: Sequence[Any]) -> str:
    words = []
    for one in schedules:
        rule = one.schedule
        text = getattr(rule, "cron", None) or getattr(rule, "rrule", None) or f"every {getattr(rule, 'interval', '?')}"
        words.append(f"{text} {getattr(rule, 'timezone', None) or 'UTC'}")
    return "; ".join(words)


def _served(served: Sequence[Any]) -> Iterator[Diagnosis]:
    """Whether the process is alive that registered these and runs them itself."""
    from prefect.client.schemas.objects import DeploymentStatus

    dead = [item for item in served if item.status is not DeploymentStatus.READY]
    heard = max((item.last_polled for item in served if item.last_polled), default=None)
    if dead:
        names = ", ".join(sorted(item.name for item in dead))
        yield Diagnosis(
            "serving", Level.FAIL, f"no process runs {names}; last heard of {ago(heard)}", "Start `ror serve`."
        )
    else:
        yield Diagnosis("serving", Level.OK, f"`ror serve` runs {len(served)} deployments, heard of {ago(heard)}")


def _work_pool(client: Any, pool: str) -> Iterator[Diagnosis]:
    """Whether a work pool is there and not paused, and whether a worker asks it for work."""
    from prefect.client.schemas.objects import WorkerStatus
    from prefect.exceptions import ObjectNotFound

    name, start = f"work pool {pool}", f"prefect worker start --pool {pool}"
    try:
        found = client.read_work_pool(pool)
    except ObjectNotFound:
        remedy = f"`prefect work-pool create {pool} --type process`, then `{start}`; or `ror serve`, which needs none."
        yield Diagnosis(name, Level.FAIL, "the server has no such pool", remedy)
        return
    paused = sorted(queue.name for queue in client.read_work_queues(work_pool_name=pool) if queue.is_paused)
    if found.is_paused:
        yield Diagnosis(name, Level.FAIL, "it is paused: no run of it starts", f"`prefect work-pool resume {pool}`")
    elif paused:
        remedy = f"`prefect work-queue resume NAME --pool {pool}`"
        yield Diagnosis(name, Level.WARN, f"paused queues: {', '.join(paused)}", remedy)
    else:
        yield Diagnosis(name, Level.OK, f"there, of type {found.type}, not paused")
    if found.is_push_pool or found.is_managed_pool:
        return
    workers = client.read_workers_for_work_pool(pool)
    alive = [worker for worker in workers if worker.status is WorkerStatus.ONLINE and _missed(worker) < 3]
    shown = "; ".join(f"{worker.name}, heard of {ago(worker.last_heartbeat_time)}" for worker in alive or workers)
    if alive and all(_missed(worker) > 1.5 for worker in alive):
        text = f"{shown}: longer ago than it should be, so it may have died"
        yield Diagnosis(f"{name}: worker", Level.WARN, text, f"Look at it, and ask again in a minute; else `{start}`")
    elif alive:
        yield Diagnosis(f"{name}: worker", Level.OK, shown)
    else:
        text = f"none is alive ({shown})" if workers else "none was ever started"
        yield Diagnosis(f"{name}: worker", Level.FAIL, text, f"`{start}`")


def _missed(worker: Any) -> float:
    """How many of its intervals ago a worker was heard of. After three it counts as dead, as the server says, too; but
    after a change of the interval the server was seen to say so late."""
    age = (datetime.now(UTC) - worker.last_heartbeat_time).total_seconds()
    return float(age / (worker.heartbeat_interval_seconds or 30))


def _late(client: Any, ours: Sequence[Any]) -> Iterator[Diagnosis]:
    """Runs that should have started and that no worker has picked up."""
    from prefect.client.schemas.filters import DeploymentFilter, FlowRunFilter

    if not ours:
        return
    late = client.count_flow_runs(
        flow_run_filter=FlowRunFilter.model_validate({"state": {"name": {"any_": ["Late"]}}}),
        deployment_filter=DeploymentFilter.model_validate({"id": {"any_": [item.id for item in ours]}}),
    )
    if late:
        remedy = "See work pool and worker; on the server: `prefect flow-run ls --state Late`."
        yield Diagnosis(
            "late runs", Level.WARN, f"{late} should have started, and no worker has picked them up", remedy
        )
    else:
        yield Diagnosis("late runs", Level.OK, "none")
