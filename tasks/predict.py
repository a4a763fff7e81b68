"""Predict a batch with the version that the decision left in service."""

from __future__ import annotations

from prefect import task
from prefect.cache_policies import NO_CACHE

from tasks.core.predictions import predictions_path, write_predictions
from tasks.core.types import Batch, Served
from tasks.core.workspace import Workspace
from tasks.retry import READING


@task(cache_policy=NO_CACHE, task_run_name="predict {batch.id}", **READING)
def predict_batch(workspace: Workspace, batch: Batch, served: Served, run: str) -> str:
    """Path of the predictions, relative to the root. They are written once: a second call keeps the first's file."""
    version = workspace.registry.load(workspace.model, served)
    output = predictions_path(workspace, batch)
    write_predictions(workspace.root, batch.path, output, version, workspace.spec, run)
    return output.relative_to(workspace.root).as_posix()
