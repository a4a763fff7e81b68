"""Say once more what waits for a person: blocked data, a failed fit, overdue labels, a version to approve."""

from __future__ import annotations

from typing import Any

from prefect import flow, get_run_logger
from prefect.states import Completed, Failed

from tasks.alert import emit_alerts
from tasks.core.errors import RorError
from tasks.core.workspace import Project


@flow(name="remind", flow_run_name="what waits for a person")
def remind(model: str | None = None, root: str | None = None) -> Any:
    """Emit an alert for everything that waits for a person, by the history of each model. Changes nothing.

    A model that cannot be read fails the run, after the others had their turn.

    Args:
        model: Name of the model: flights for deployments/flights.toml. Empty: all models.
        root: Folder that holds deployments/, data/ and artifacts/. Empty: ROR_ROOT, else the current folder.
    """
    log, said, broken = get_run_logger(), 0, []
    project = Project.open(root)
    for name in [model] if model else project.models:
        try:
            for alert in emit_alerts(project.workspace(name)):
                said += 1
                log.warning("%s · %s: %s To do: %s.", name, alert.outcome.value, alert.message, alert.act)
        except RorError as error:
            broken.append(name)
            log.error("%s: %s", name, error)
    if broken:
        return Failed(name="Unreadable", message=f"These models cannot be read: {', '.join(broken)}. The log says why.")
    what = f"{said} {'matter waits' if said == 1 else 'matters wait'} for a person." if said else "Nothing is open."
    return Completed(name="Reminded", message=what)
