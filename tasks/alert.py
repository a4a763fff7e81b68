"""Emit what waits for a person; an automation makes one message a day of it."""

from __future__ import annotations

from dataclasses import asdict

from prefect.events import emit_event

from tasks.core.reports.alerts import Alert, alerts
from tasks.core.workspace import Workspace
from tasks.resource import resource_of


def emit_alerts(workspace: Workspace) -> list[Alert]:
    """Emit `ror.alert` for each open matter of a model. Said after every run and every day: the label `ror.cause` is
    what the automation in deployments/prefect.yaml tells repetitions by."""
    found = alerts(workspace)
    for alert in found:
        emit_event(
            event="ror.alert",
            resource={**resource_of(workspace), "ror.cause": alert.cause, "ror.outcome": alert.outcome.value},
            payload={**asdict(alert), "outcome": alert.outcome.value, "runbook": alert.runbook or "none"},
        )
    return found
