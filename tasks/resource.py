"""As what Prefect's events name a model, so that automations can wait for those of one model in one root."""

from __future__ import annotations

from tasks.core.workspace import Workspace

ID = "prefect.resource.id"

ROOT = "ror.root"
"""The label that tells models of one name apart, a server may know several roots: the root as it was asked for. Who
deploys knows it only by that name, and not where its links lead on the worker."""


def resource_of(workspace: Workspace) -> dict[str, str]:
    """The labels of a model's events."""
    return {
        ID: f"ror.model.{workspace.model}",
        "prefect.resource.name": workspace.model,
        ROOT: workspace.project.asked or str(workspace.root),
    }
