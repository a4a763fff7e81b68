"""Load the version in service, verified, before anything is decided on it."""

from __future__ import annotations

from prefect import get_run_logger, task
from prefect.cache_policies import NO_CACHE

from tasks.core import assess
from tasks.core.state import State
from tasks.core.workspace import Workspace


@task(cache_policy=NO_CACHE, task_run_name="load current version")
def load_current(workspace: Workspace, state: State) -> int | None:
    """Number of the version in service, None before the first.

    Its bytes, environment and known answers are checked here; later tasks get it from the process's cache. Raises
    VerificationError: no other version is loaded instead.
    """
    versions = assess.load_versions(workspace, state)
    log = get_run_logger()
    if versions.note:
        log.warning(versions.note)
    if versions.current is None:
        log.info("No version is in service yet.")
        return None
    manifest = versions.current.manifest
    log.info(
        "v%d is in service, trained on %s rows; it gives its known answers.",
        manifest.version,
        f"{manifest.rows:,}",
    )
    return manifest.version
