"""The checks: data against the contract, performance on new labels, drift against the reference sample."""

from __future__ import annotations

from dataclasses import replace
from logging import INFO, WARNING
from pathlib import Path

from prefect import get_run_logger, task
from prefect.cache_policies import NO_CACHE

from tasks.core import text
from tasks.core.checks import drift
from tasks.core.ledger.state import State
from tasks.core.run import assess, labels
from tasks.core.run.assess import DataFindings
from tasks.core.run.labels import LabelFindings
from tasks.core.run.work import Work
from tasks.core.types import CheckKind, Verdict
from tasks.core.workspace import Workspace
from tasks.retry import READING

TOLD = (CheckKind.ARRIVALS, CheckKind.CONTENT, CheckKind.DECLARED, CheckKind.ROWS)
"""Kinds of check on data whose warnings the log says, too."""
FEW = 4
"""Losses that the log names: with two versions, of two batches."""


@task(cache_policy=NO_CACHE, task_run_name="check data", **READING)
def check_data(workspace: Workspace, state: State, work: Work) -> DataFindings:
    """Validate every pending batch; broken ones are set aside with all their reasons, the others proceed."""
    findings = assess.check_data(workspace, state, work, assess.load_versions(workspace, state))
    log = get_run_logger()
    for check in findings.checks:
        if check.kind in TOLD and check.verdict is Verdict.WARN:
            log.warning("%s.", check.summary)
    if findings.valid:
        names = text.named([batch.id for batch in findings.valid])
        log.info("%s: %s rows, as the pipeline needs them.", names, f"{sum(findings.rows):,}")
    for item in findings.blocked:
        log.error("%s is set aside: %s", item.batch, "; ".join(item.problems))
    return findings


@task(cache_policy=NO_CACHE, task_run_name="check performance", **READING)
def check_performance(workspace: Workspace, state: State, work: Work, data: DataFindings, pages: Path) -> LabelFindings:
    """Score champion and predecessor on newly labelled rows, look again where labels changed, and name batches whose
    labels are overdue; Evidently's page goes to the folder `pages`."""
    versions = assess.load_versions(workspace, state)
    before = workspace.ledger.decision(state.decided.seq).checks if state.decided else ()
    findings = labels.check_performance(
        workspace, state, work, data.valid, versions.current, versions.predecessor, before
    )
    log = get_run_logger()
    about = {item.batch: item for item in findings.labelled}
    if len(findings.losses) > FEW:
        log.info("%d losses were measured on newly labelled batches; the last are these:", len(findings.losses))
    for point in findings.losses[-FEW:]:
        item = about[point.batch]
        log.info(
            "v%d loses %s a row on %s, %s (%.0f %% of its rows, label lag %d).",
            point.version,
            text.number(point.mean),
            point.batch,
            "labelled anew" if item.corrected else "newly labelled",
            100 * item.coverage,
            item.lag or 0,
        )
    for check in findings.checks:
        if check.kind in (CheckKind.LABELS, CheckKind.KEYS, CheckKind.OVERRULED, CheckKind.PREDICTIONS):
            log.log(WARNING if check.verdict is Verdict.WARN else INFO, "%s.", check.summary)
    if findings.overdue:
        log.error("%s.", findings.overdue.reason)
    _write_page(pages / "performance.html", findings.snapshot)
    return replace(findings, snapshot=None)


@task(cache_policy=NO_CACHE, task_run_name="check drift", **READING)
def check_drift(workspace: Workspace, state: State, work: Work, data: DataFindings, pages: Path) -> drift.DriftReport:
    """Compare the pending batches with the champion's reference sample; Evidently's page goes to `pages`."""
    report = assess.check_drift(workspace, state, work, data, assess.load_versions(workspace, state))
    if report.evidence.measured:
        moved, weight = text.named(report.evidence.drifted), 100 * report.evidence.weight
        said = (
            f"Drift: {moved} moved beyond the alarm, {weight:.0f} % of the importance."
            if moved
            else "No column drifted."
        )
        get_run_logger().info(said)
    _write_page(pages / "drift.html", report.snapshot)
    return replace(report, snapshot=None)


def _write_page(path: Path, snapshot: object) -> None:
    if snapshot is not None:
        snapshot.save_html(str(path))  # type: ignore[attr-defined]  # a Path would be ignored without a word
