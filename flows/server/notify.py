"""`ror notify`: tell the server that a batch arrived."""

from __future__ import annotations

from pathlib import Path

from flows.server import environment
from flows.server.client import connected, require_server
from tasks.core.data.files import batch_name, find, fingerprint
from tasks.core.errors import UnreadableData
from tasks.core.workspace import Workspace
from tasks.resource import resource_of


def notify(workspace: Workspace, file: Path) -> tuple[str, bool]:
    """Emit `ror.batch.arrived` for a file or folder; its digest, and whether it is among the model's batches.

    Raises UnreadableData when there is no such file, SpecError when no server is configured, RorError when it does not
    answer.
    """
    if not file.exists():
        raise UnreadableData(str(file), "there is no such file.")
    environment.configure(verbose=False)
    require_server("ror notify")
    from prefect.events import Event

    path, sha256 = file.resolve(), fingerprint(file)
    known = path in [found.resolve() for found in find(workspace.root, workspace.spec.data.batches)]
    inside = path.is_relative_to(workspace.root)
    event = Event(
        event="ror.batch.arrived",
        resource=resource_of(workspace),
        payload={
            "model": workspace.model,
            "batch": batch_name(path),
            "file": (path.relative_to(workspace.root) if inside else path).as_posix(),
            "sha256": sha256,
            "actor": environment.actor(),
        },
    )
    # Posted, not queued: a caller that delivers files must hear when the server did not take it.
    with connected() as client:
        client.request("POST", "/events", json=[event.model_dump(mode="json")]).raise_for_status()
    return sha256, known
