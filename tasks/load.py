"""Load the version in service, verified, before anything is decided on it."""

from __future__ import annotations

from dataclasses import replace

from prefect import get_run_logger, task
from prefect.cache_policies import NO_CACHE

from tasks.core.ledger.state import State
from tasks.core.run import assess
from tasks.core.types import Request
from tasks.core.versions.own_code import brings_along
from tasks.core.workspace import Workspace
from tasks.retry import READING


@task(cache_policy=NO_CACHE, task_run_name="load current version", **READING)
def load_current(workspace: Workspace, state: State, request: Request) -> State:
    """The state to measure with: this one, once the version in service was verified.

    Its bytes, environment and known answers are checked here; later tasks get it from the process's cache. Raises
    VerificationError: no other version is loaded instead. Where it is only this machine that cannot load it, as after
    an upgrade, a retrain asked for by hand goes on without it: it is the way out.
    """
    log = get_run_logger()
    try:
        versions = assess.load_versions(workspace, state)
    except assess.NOT_HERE as error:
        if request.action != "retrain":
            raise
        log.warning("Nothing is measured on the version in service: %s", error)
        return replace(state, served=())
    if versions.note:
        log.warning(versions.note)
    if versions.current is None:
        log.info("No version is in service yet.")
        return state
    manifest = versions.current.manifest
    log.info(
        "v%d is in service, trained on %s rows; it gives its known answers.",
        manifest.version,
        f"{manifest.rows:,}",
    )
    if versions.current.notes:
        log.warning("It was made with %s.", "; ".join(versions.current.notes))
    if versions.current.from_record:
        log.warning(brings_along(manifest.version, versions.current.from_record))
    return state
