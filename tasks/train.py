"""Train a challenger, gate it and register it."""

from __future__ import annotations

from collections.abc import Sequence

from prefect import get_run_logger, task
from prefect.cache_policies import NO_CACHE

from tasks.core import assess, proof, training
from tasks.core.errors import DataError, TrainingError
from tasks.core.fold import with_labels
from tasks.core.state import State
from tasks.core.types import Attempt, Decision, Gate, Labelled, Verdict
from tasks.core.work import Work
from tasks.core.workspace import Workspace


@task(cache_policy=NO_CACHE, task_run_name="train a challenger")
def train(workspace: Workspace, state: State, work: Work, labelled: Sequence[Labelled], decision: Decision) -> Attempt:
    """Fit on all usable labelled history, compare with the champion, prove that a clean process can load it, register.
    Nothing is put in service here.

    A version that this very question registered before its run was killed is adopted instead of fitted again. A failing
    fit is an attempt with the reason, not an exception: the current version stays.
    """
    log, spec = get_run_logger(), workspace.spec
    usable = with_labels(state, labelled, decision).usable
    if adopted := workspace.registry.adopt(workspace.model, work.key, newer_than=state.newest):
        version, digest = adopted
        manifest, _ = workspace.registry.manifest(workspace.model, version, digest)
        log.info("v%d was registered by an interrupted run of this very question: adopted.", version)
        return _attempt(len(usable), version, digest, manifest.gate, first=state.current is None)
    try:
        history = assess.history(workspace, work, usable)
        champion = assess.champion_of(workspace, state)
        log.info(
            "Training on %d labelled batches, %s rows.",
            len(history),
            f"{sum(len(h.rows) for h in history):,}",
        )
        challenger = training.train(workspace.root, spec, history, champion, decision.action.value, decision.reasons)
        proof.prove(challenger.candidate, spec.folders(workspace.root), spec.pipeline.types)
    except (TrainingError, DataError) as error:
        log.error("%s", error)
        return Attempt(len(usable), "failed", reason=str(error))
    version, digest = workspace.registry.register(workspace.model, work.key, challenger.candidate)
    log.info("v%d is registered; the gate says: %s.", version, challenger.gate.reason)
    return _attempt(len(usable), version, digest, challenger.gate, first=state.current is None)


def _attempt(labelled: int, version: int, digest: str, gate: Gate, *, first: bool) -> Attempt:
    """Passed, or too few rows to tell and nothing to lose: it may be put in service."""
    passed = gate.verdict is Verdict.PASS or (gate.verdict is Verdict.SKIPPED and first)
    return Attempt(labelled, "registered" if passed else "refused", version, digest, gate=gate)
