"""Predictions for any file with the version in service: batch scoring, for the UI and for schedules."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

from prefect import flow, get_run_logger
from prefect.runtime import flow_run
from prefect.states import Completed, Failed
from pydantic import Field

from tasks.core.data.files import batch_name
from tasks.core.errors import DataError
from tasks.core.predictions import predict_file
from tasks.core.types import Outcome
from tasks.core.workspace import Workspace


def run_name() -> str:
    """`flights · predict new.parquet`: the model and the file."""
    asked = flow_run.parameters
    return f"{asked['model']} · predict {Path(asked['file']).name}"


@flow(name="predict", flow_run_name=run_name)
def predict(
    model: str,
    file: Annotated[str, Field(min_length=1)],
    output: str | None = None,
    root: str | None = None,
) -> Any:
    """Predict a file with the version in service, after it was loaded and verified. Decides nothing, trains nothing.

    The run completes when the predictions are there, also when they were there already. It ends Blocked when the file
    is not what the input schema asks for; the message names every problem.

    Args:
        model: Name of the model: flights for deployments/flights.toml.
        file: Parquet or CSV file, or a folder of them, with the model's input columns. Relative to the root.
        output: Parquet or CSV file to write, never overwritten. Relative to the root; empty:
            data/MODEL/predictions/by-hand/FILE.parquet.
        root: Folder that holds deployments/, data/ and artifacts/. Empty: ROR_ROOT, else the current folder.
    """
    workspace = Workspace.open(root, model)
    source = workspace.root / file
    by_hand = workspace.data / "predictions" / "by-hand" / f"{batch_name(source)}.parquet"
    target = workspace.root / output if output else by_hand
    try:
        version, there = predict_file(workspace, source, target, str(flow_run.id))
    except DataError as error:
        return Failed(name=Outcome.BLOCKED, message=f"{model} · {error}")
    kept = "; it was there already" if there else ""
    message = f"{model} · {source.name}: predicted by v{version}, in {target}{kept}"
    get_run_logger().info(message)
    return Completed(name="Predicted", message=message)
