"""The backtest as a flow: replay a model's history under several policies, before one is trusted."""

from __future__ import annotations

from typing import Annotated, Any

from prefect import flow, get_run_logger
from prefect.artifacts import create_markdown_artifact
from prefect.states import Completed
from pydantic import Field

from tasks.core.backtest import report, run
from tasks.core.reports.cards import artifact_name
from tasks.core.workspace import Workspace
from tasks.progress import Progress
from tasks.publish import tag_run


@flow(name="backtest", flow_run_name="{model} · backtest")
def backtest(
    model: str,
    delay: Annotated[int, Field(ge=1)] | None = None,
    starts: Annotated[int, Field(ge=1, le=10)] = 3,
    cost: Annotated[float, Field(gt=0)] | None = None,
    root: str | None = None,
) -> Any:
    """Replay the model's own history under several policies and compare what each would have cost.

    Args:
        model: Name of the model: flights for deployments/flights.toml.
        delay: Batches after which labels are known. Empty: as the model's file declares, else 1.
        starts: Starting points, two batches apart.
        cost: Of one fit, as a share of one batch's loss. Empty: the policy's retrain_cost.
        root: Folder that holds deployments/, data/ and artifacts/. Empty: ROR_ROOT, else the current folder.
    """
    workspace = Workspace.open(root, model)
    log = get_run_logger()
    spec = workspace.spec if cost is None else run.at_cost(workspace.spec, cost)
    question = run.Question(run.usual_delay(spec) if delay is None else delay, starts)
    bar = Progress(artifact_name(model, "backtest-progress"))
    found = run.backtest(
        model,
        workspace.root,
        spec,
        workspace.data / "backtest" / "fits",
        question,
        lambda what, done, total: bar.at(100 * done / max(1, total), what),
        champion=workspace.in_service(),
    )
    says = report.recommendation(found)
    create_markdown_artifact(report.markdown(found), key=artifact_name(model, "backtest"), description=says)
    log.info(says)
    tag_run(model)
    return Completed(name="Backtested", message=says)
