"""Train a recorded version again from its record and compare predictions: for the UI and for schedules."""

from __future__ import annotations

from typing import Annotated, Any

from prefect import flow, get_run_logger
from prefect.artifacts import create_markdown_artifact
from prefect.states import Completed, Failed
from pydantic import Field

from tasks.core.audit import reproduce as core_reproduce
from tasks.core.reports.cards import artifact_name
from tasks.core.workspace import Workspace
from tasks.publish import tag_run


@flow(name="reproduce", flow_run_name="{model} · v{version} again")
def reproduce(model: str, version: Annotated[int, Field(ge=1)], root: str | None = None) -> Any:
    """Train a version again from its record, compare its predictions, and write a receipt. Nothing else changes.

    The run completes when the predictions are identical or within 1e-9. It fails when they differ, and when training
    files or labels are not what they were; the message says which.

    Args:
        model: Name of the model: flights for deployments/flights.toml.
        version: Number of the version: 7 for v7.
        root: Folder that holds deployments/, data/ and artifacts/. Empty: ROR_ROOT, else the current folder.
    """
    receipt, path = core_reproduce.reproduce(Workspace.open(root, model), version)
    log = get_run_logger()
    log.info("%s Receipt: %s", receipt.message, path)
    lines = [
        f"## {receipt.message}",
        "",
        *(f"- {line}" for line in core_reproduce.details(receipt)),
        f"- `{path.name}`",
    ]
    create_markdown_artifact(
        "\n".join(lines) + "\n", key=artifact_name(model, "reproduce"), description=receipt.message
    )
    tag_run(f"v{version}", model)
    if receipt.same:
        return Completed(name="Reproduced", message=receipt.message)
    return Failed(name="Different", message=receipt.message)
