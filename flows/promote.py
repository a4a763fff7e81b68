"""Put a version in service by hand: approve a challenger, go back to an earlier version, overrule the gate."""

from __future__ import annotations

from typing import Annotated, Any

from prefect import flow, get_run_logger
from prefect.events import emit_event
from prefect.runtime import flow_run
from prefect.states import Completed
from pydantic import Field

from flows.retrain_or_reload import started_by
from tasks.core import hands, views
from tasks.core.types import Outcome
from tasks.core.workspace import Workspace


def run_name() -> str:
    """`flights · v7`: the model and the version to put in service."""
    asked = flow_run.parameters
    return f"{asked['model']} · v{asked['version']}"


@flow(name="promote", flow_run_name=run_name)
def promote(
    model: str,
    version: Annotated[int, Field(ge=1)],
    reason: Annotated[str, Field(min_length=1)],
    actor: str | None = None,
    expected: Annotated[int, Field(ge=0)] | None = None,
    accept_environment: bool = False,
    root: str | None = None,
) -> Any:
    """Put a version in service by hand, after it was loaded and verified. The one it replaces is kept.

    Args:
        model: Name of the model, that of its file deployments/<model>.toml.
        version: Number of the version: 7 for v7. One that waits for approval, an earlier one, or one the gate refused.
        reason: Why, for the history.
        actor: Who asks, for the history. Empty: as Prefect knows it.
        expected: Promote only if this version is in service now, 0 for none. Empty: whichever is.
        accept_environment: Serve it although it was made with other libraries than are here, if it gives its known
            answers. The history names every difference that was accepted.
        root: Folder that holds deployments/, data/ and artifacts/. Empty: ROR_ROOT, else the current folder.
    """
    workspace = Workspace.open(root, model)
    who = actor or started_by()
    event = hands.promote(
        workspace,
        version,
        reason=reason,
        actor=who,
        expected=expected,
        accept_environment=accept_environment,
        run=str(flow_run.id),
    )
    message = f"{model} · {views.deed(event)}: {reason}"
    get_run_logger().info(message)
    emit_event(
        event=f"ror.{model}.promoted",
        resource={"prefect.resource.id": f"ror.model.{model}"},
        payload={"seq": event.seq, "version": version, "replaced": event.body["replaced"], "reasons": [reason]},
    )
    return Completed(name=Outcome.PROMOTED, message=message)
