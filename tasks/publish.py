"""Show a decision: objects of the run in the store; artifacts, tags and an event in Prefect.

The store's objects are the record and written once; what Prefect shows is a view, and may be shown again.
"""

from __future__ import annotations

import contextlib
import json
from pathlib import Path
from typing import Any
from urllib.parse import quote
from uuid import NAMESPACE_OID, UUID, uuid5

from prefect import get_client, get_run_logger, task
from prefect.artifacts import create_link_artifact, create_markdown_artifact, create_table_artifact
from prefect.cache_policies import NO_CACHE
from prefect.events import emit_event
from prefect.exceptions import ObjectNotFound
from prefect.runtime import flow_run

from tasks.core import layout
from tasks.core.errors import AlreadyExists, NotFound, StoreError, VerificationError
from tasks.core.ledger.events import Decided, Event
from tasks.core.records import to_json
from tasks.core.reports import cards, page, service_history, wording
from tasks.core.reports.cards import CardContext, artifact_name
from tasks.core.run.assess import Findings
from tasks.core.text import minute
from tasks.core.types import Action, Outcome
from tasks.core.workspace import Workspace
from tasks.resource import resource_of

PROMOTE = "promote/promote"
"""The deployment whose form approves."""


@task(cache_policy=NO_CACHE, task_run_name="publish the decision")
def publish(workspace: Workspace, event: Event, measured: Findings | None, pages: Path | None) -> None:
    """Write what is missing: a run that was killed after its decision completes its effects when it is run again.

    Evidently's pages, in the folder `pages`, are megabytes each: they are kept for retrains and blocked batches, and
    where the disk has no room for them, all the rest is done.
    """
    model, decided = workspace.model, event.content_as(Decided)
    context = context_of(workspace, event)
    links = []
    if pages and (decided.decision.action is Action.RETRAIN or decided.outcome is Outcome.BLOCKED):
        for file in sorted(pages.glob("*.html")):
            try:
                _create(workspace, layout.run_path(model, event.seq, file.name), file.read_bytes())
                links.append(file.name)
            except (StoreError, OSError) as error:
                get_run_logger().warning("Evidently's page %s of this run is not kept: %s", file.stem, error)
    report = page.render(event, decided, model, measured, context.made, links=links).encode()
    _create(workspace, layout.run_path(model, event.seq, layout.REPORT), report)
    fresh = not is_published(workspace, event)

    # Lists have what is newest first: what people look for first is made last.
    show_page(context)
    show_losses(context)
    if decided.checks:
        create_table_artifact(
            cards.check_rows(decided.checks),
            key=artifact_name(model, "checks"),
            description=cards.checks_in_short(decided.checks),
        )
    card = cards.decision_card(decided, context)
    create_markdown_artifact(card, key=artifact_name(model, "decision"), description=cards.in_short(decided))
    show_approval(workspace, context, remind=fresh)  # not again by every run that finds nothing new
    version = f"v{decided.in_service.version}" if decided.in_service else "no-version"
    tag_run(version, model, decided.outcome.value)
    what: dict[str, Any] = {
        "seq": event.seq,
        "outcome": decided.outcome.value,
        "action": decided.decision.action.value,
        "version": decided.in_service.version if decided.in_service else None,
        "reasons": list(decided.decision.reasons),
    }
    if fresh:  # once per decision: what waits for it must not happen again because nothing happened
        emit_model_event(workspace, decided.outcome.value, once=_announcement(event), **what)
    emit_model_event(workspace, "checked", fresh=fresh, **what)
    if fresh:  # last: a run that is killed before, or whose disk is full, says all of it again
        _create(workspace, _record(workspace, event), to_json(decided))


def _create(workspace: Workspace, path: str, data: bytes) -> None:
    """Write an object, unless it is there. Raises StoreError."""
    if path in workspace.state().replaced:
        return  # it is there, without what was erased from it
    with contextlib.suppress(AlreadyExists):
        workspace.registry.store.create(path, data)


def _announcement(event: Event) -> UUID:
    """The same for the same decision: a server keeps only the first event of an id. What its triggers have seen they
    remember for half an hour, so that they may act on one again that is told later than that."""
    return uuid5(NAMESPACE_OID, f"{event.run} {event.seq}")


def is_published(workspace: Workspace, event: Event) -> bool:
    """Whether the last step of `publish` was done for a decision, and so all of them."""
    record = _record(workspace, event)
    return workspace.registry.store.exists(record) or record in workspace.state().replaced


def _record(workspace: Workspace, event: Event) -> str:
    return layout.run_path(workspace.model, event.seq, layout.DECISION)


def context_of(workspace: Workspace, event: Event) -> CardContext:
    """What surrounds an entry of the history. Raises NotFound or VerificationError where the record of the version in
    service is not what the history names."""
    registry, model = workspace.registry, workspace.model
    current, previous = service_history.around(registry, model, event.seq)
    made = workspace.manifest_of(event.current) if event.current else None
    waiting = []
    for served in event.state_after.waiting:
        with contextlib.suppress(NotFound, VerificationError):
            waiting.append(workspace.manifest_of(served))
    store = registry.store
    address = f"{store.folder.as_uri() if store.folder else store.location.rstrip('/')}/{page_path(workspace, event)}"
    decision = isinstance(event.content, Decided)
    return CardContext(model, event, current, previous, made, tuple(waiting), address if decision else None)


def show_losses(context: CardContext) -> None:
    """The loss of what was served, over its batches, as a picture."""
    if picture := cards.picture_card(context):
        create_markdown_artifact(
            picture,
            key=artifact_name(context.model, "loss"),
            description="Loss over the batches, as they were served",
        )


def show_page(context: CardContext) -> None:
    """Where the run's whole page is. No browser follows a link from Prefect to a file: its address can be copied."""
    if context.page:
        create_link_artifact(
            context.page,
            context.page,
            key=artifact_name(context.model, "page"),
            description=f"The whole page of this run: `ror report {context.model} {context.event.seq}`",
        )


def show_approval(workspace: Workspace, context: CardContext, *, remind: bool) -> None:
    """A card as long as something waits for approval, and a reminder; that it is settled, once nothing does."""
    name = artifact_name(context.model, "approval")
    if not context.waiting:
        before = workspace.ledger.event(context.event.seq - 1) if context.event.seq > 1 else None
        if before and before.state_after.waiting:
            create_markdown_artifact(cards.settled_card(context), key=name, description="Nothing waits for approval")
        return
    made = context.waiting[-1]
    text = f"v{made.version} waits for approval since {minute(made.created)} UTC"
    form = form_address(PROMOTE, workspace.root, cards.approval_form(context))
    create_markdown_artifact(cards.approval_card(context, form), key=name, description=text)
    decided = context.event.content
    attempt = decided.attempt if isinstance(decided, Decided) else None
    if remind and (attempt is None or attempt.version != made.version):  # the run that made it says so itself
        get_run_logger().warning("%s: %s.", text, wording.promotion(context.model, made.version))
        emit_model_event(
            workspace, Outcome.AWAITING_APPROVAL.value, seq=context.event.seq, version=made.version, reminder=True
        )


def form_address(deployment: str, root: Path, parameters: dict[str, Any]) -> str | None:
    """Where the UI has the form of a deployment, filled in; None where this root has none of that name.

    It is relative to the page of an artifact: a server knows not by which names people reach it.
    """
    with get_client(sync_client=True) as client:
        try:
            found = client.read_deployment_by_name(deployment)
        except ObjectNotFound:
            return None
    if found.parameters.get("root", str(root)) != str(root):
        return None
    known = {name: value for name, value in parameters.items() if value != ""}
    filled = quote(json.dumps({**found.parameters, **known}))
    return f"../../deployments/deployment/{found.id}/run?parameters={filled}"


def tag_run(*tags: str) -> None:
    """Add tags to this run, to filter lists of runs by; where room is short, the first one shows."""
    if flow_run.id:
        with get_client(sync_client=True) as client:
            client.update_flow_run(flow_run.id, tags=list(dict.fromkeys([*tags, *flow_run.tags])))


def emit_model_event(workspace: Workspace, word: str, *, once: UUID | None = None, **what: Any) -> None:
    """Emit `ror.<model>.<word>`, which automations can wait for: an outcome, once per decision; `checked`, every run
    that came to one or found nothing new. `once` is an id that only this event has, however often it is emitted."""
    emit_event(
        id=once,
        event=f"ror.{workspace.model}.{word.lower()}",
        resource=resource_of(workspace),
        payload=what,
    )


def page_path(workspace: Workspace, event: Event) -> str:
    """Where the page of a decision is, or would be, in the store."""
    return layout.run_path(workspace.model, event.seq, layout.REPORT)
