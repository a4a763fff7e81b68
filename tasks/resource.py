"""As what Prefect's events name a model, so that automations can wait for those of one model in one root."""

from __future__ import annotations

from tasks.core.workspace import Workspace

ROOT = "ror.root"
"""The label that tells models of one name apart: a server may know several roots."""


def resource_of(workspace: Workspace) -> dict[str, str]:
    """The labels of a model's events."""
    return {
        "prefect.resource.id": f"ror.model.{workspace.model}",
        "prefect.resource.name": workspace.model,
        ROOT: str(workspace.root),
    }
