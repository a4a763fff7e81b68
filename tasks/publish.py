"""Show a decision: objects of the run in the store, artifacts and an event in Prefect."""

from __future__ import annotations

import contextlib
from pathlib import Path

from prefect import task
from prefect.artifacts import create_markdown_artifact, create_table_artifact
from prefect.cache_policies import NO_CACHE
from prefect.events import emit_event

from tasks.core import page, views
from tasks.core.assess import Findings
from tasks.core.errors import AlreadyExists
from tasks.core.records import from_dict, to_json
from tasks.core.state import Decided, Event
from tasks.core.types import Action, Outcome
from tasks.core.workspace import Workspace


@task(cache_policy=NO_CACHE, task_run_name="publish the decision")
def publish(workspace: Workspace, event: Event, measured: Findings | None, pages: Path | None) -> None:
    """Write what is missing: a run that was killed after its decision completes its effects when it is run again.

    Evidently's pages, in the folder `pages`, are megabytes each: they are kept for retrains and blocked batches.
    """
    decided, service, manifest = from_dict(Decided, event.body), event.current, None
    if service is not None:
        manifest, _ = workspace.registry.manifest(workspace.model, service.version, service.manifest)
    objects = {"decision.json": to_json(decided)}
    if pages and (decided.decision.action is Action.RETRAIN or decided.outcome is Outcome.BLOCKED):
        objects |= {file.name: file.read_bytes() for file in sorted(pages.glob("*.html"))}
    links = [name for name in objects if name.endswith(".html")]
    objects[views.REPORT] = page.render(event, decided, workspace.model, measured, manifest, links).encode()
    replaced = workspace.ledger.head().state.replaced
    for name, data in objects.items():
        if f"{folder(workspace, event)}/{name}" in replaced:
            continue  # it is there, without what was erased from it
        with contextlib.suppress(AlreadyExists):
            workspace.registry.store.create(f"{folder(workspace, event)}/{name}", data)

    key = f"{workspace.model.replace('_', '-')}-decision"
    create_markdown_artifact(
        views.card(decided, workspace.model, dict(manifest.metrics) if manifest else {}),
        key=key,
        description=views.headline(decided, workspace.model),
    )
    if decided.checks:
        create_table_artifact(
            [
                {
                    "check": c.name,
                    "verdict": c.verdict.value,
                    "value": c.value,
                    "alarm at": c.threshold,
                    "": c.summary,
                }
                for c in decided.checks
            ],
            key=f"{workspace.model.replace('_', '-')}-checks",
            description="What was measured, and how far it was from its alarm",
        )
    emit_event(
        event=f"ror.{workspace.model}.{decided.outcome.value.lower()}",
        resource={"prefect.resource.id": f"ror.model.{workspace.model}"},
        payload={
            "seq": event.seq,
            "action": decided.decision.action.value,
            "version": decided.in_service.version if decided.in_service else None,
            "reasons": list(decided.decision.reasons),
        },
    )


def page_path(workspace: Workspace, event: Event) -> str:
    """Where the page of a decision is, or would be, in the store."""
    return f"{folder(workspace, event)}/{views.REPORT}"


def folder(workspace: Workspace, event: Event) -> str:
    return f"{workspace.model}/runs/{event.seq:08d}"
