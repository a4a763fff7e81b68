"""Find what there is to decide on; every batch and label file is read for its fingerprint."""

from __future__ import annotations

from prefect import task
from prefect.cache_policies import NO_CACHE

from tasks.core.ledger.state import State
from tasks.core.run.work import Work, find_work
from tasks.core.types import Request
from tasks.core.workspace import Workspace
from tasks.retry import READING


@task(cache_policy=NO_CACHE, task_run_name="find what arrived", **READING)
def find_arrived(workspace: Workspace, request: Request, state: State) -> Work:
    """Batches and labels on disk that the history does not know. Raises SpecError when the requested batch does not
    exist, UnavailableData when a file cannot be read."""
    return find_work(workspace, request, state)
