"""Check every object in the store, and the history, against what was recorded: for the UI and for schedules."""

from __future__ import annotations

from typing import Any

from prefect import flow, get_run_logger
from prefect.artifacts import create_markdown_artifact
from prefect.runtime import flow_run
from prefect.states import Completed, Failed

from tasks.core.audit import verify as core_verify
from tasks.core.audit.report import markdown, summary, verdict
from tasks.core.errors import InvalidRequest
from tasks.core.reports.cards import artifact_name
from tasks.publish import tag_run


def run_name() -> str:
    """`verify · flights`: the model, or all of them."""
    return f"verify · {flow_run.parameters['model'] or 'all models'}"


@flow(name="verify", flow_run_name=run_name)
def verify(
    model: str | None = None,
    load: bool = False,
    expect_head: str | None = None,
    root: str | None = None,
) -> Any:
    """Check every object of a model against its record, and the history's chain. Changes nothing.

    The run completes when all is well, also with notes; it fails when anything is damaged or missing.

    Args:
        model: Name of the model: flights for deployments/flights.toml. Empty: all models of the store.
        load: Also load every version in this environment, as before an upgrade.
        expect_head: Number and digest of an entry that the history must still hold, as an earlier run ended with.
        root: Folder that holds deployments/, data/ and artifacts/. Empty: ROR_ROOT, else the current folder.
    """
    expected = core_verify.expectation(expect_head) if expect_head else None
    if expected and model is None:
        raise InvalidRequest("model", ["name one: the entry that is expected is of one history"])
    log, reports = get_run_logger(), []
    for workspace in core_verify.workspaces(root, model):
        registry = core_verify.registry_of(workspace, load=load)
        report = core_verify.audit(registry, workspace.model, expected=expected, load=load)
        reports.append(report)
        for remark in report.remarks:
            (log.error if remark.damage else log.info)("%s %s", remark.path, remark.text)
        log.info("%s Newest entry of the history: %s.", verdict(report), report.head or "none")
        create_markdown_artifact(
            markdown(report),
            key=artifact_name(workspace.model, "verify"),
            description=verdict(report),
        )
    tag_run(*(report.model for report in reports))
    bad = [report for report in reports if not report.ok]
    message = " ".join(summary(report) for report in bad or reports)
    return Failed(name="Damaged", message=message) if bad else Completed(name="Verified", message=message)
