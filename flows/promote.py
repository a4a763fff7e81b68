"""Put a version in service by hand: approve a challenger, go back to an earlier version, overrule the gate."""

from __future__ import annotations

from functools import partial
from typing import Annotated, Any

from prefect import flow, get_run_logger
from prefect.artifacts import create_markdown_artifact
from prefect.runtime import flow_run
from prefect.states import Completed
from pydantic import Field

from flows.run_support import carry_on, concluded, started_by
from tasks.core import overrides, text
from tasks.core.ledger.events import Event, Promoted
from tasks.core.reports import cards
from tasks.core.types import Outcome
from tasks.core.workspace import Workspace
from tasks.publish import context_of, emit_model_event, show_approval, show_losses, tag_run


@flow(name="promote", flow_run_name="{model} · v{version}")
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
        model: Name of the model: flights for deployments/flights.toml.
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
    event = overrides.promote(
        workspace,
        version,
        reason=reason,
        actor=who,
        expected=expected,
        accept_environment=accept_environment,
        run=str(flow_run.id),
    )
    message = cards.promotion_line(model, event)
    concluded(Outcome.PROMOTED, message)
    get_run_logger().info(message)
    carry_on(partial(show, workspace, event))
    emit_model_event(
        workspace,
        Outcome.PROMOTED.value,
        seq=event.seq,
        version=version,
        replaced=event.content_as(Promoted).replaced,
        reasons=[reason],
    )
    return Completed(name=Outcome.PROMOTED, message=message)


def show(workspace: Workspace, event: Event) -> None:
    """The model's cards tell of this version from now on: what it replaced, and that it waits no more."""
    context, model = context_of(workspace, event), workspace.model
    create_markdown_artifact(
        cards.promotion_card(context),
        key=cards.artifact_name(model, "decision"),
        description=text.cell(cards.promotion_line(model, event)),
    )
    show_losses(context)
    show_approval(workspace, context, remind=True)
    tag_run(f"v{event.content_as(Promoted).served.version}", model, Outcome.PROMOTED.value)
