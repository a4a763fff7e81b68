"""Train a challenger, gate it and register it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from prefect import get_run_logger, task
from prefect.cache_policies import NO_CACHE

from tasks.core.errors import DataError, SpecError, TrainingError, UnavailablePipeline
from tasks.core.ledger.state import State
from tasks.core.ledger.transitions import with_labels
from tasks.core.reports.cards import artifact_name
from tasks.core.run import assess
from tasks.core.run.causes import trained_with
from tasks.core.run.trainable import absent, training_labels, training_rows
from tasks.core.run.work import Work
from tasks.core.text import counted, named
from tasks.core.training import proof
from tasks.core.training.challenger import train as train_challenger
from tasks.core.training.challenger import with_files
from tasks.core.training.doubt import known_good
from tasks.core.training.gate import Champion
from tasks.core.types import Attempt, AttemptOutcome, Decision, Gate, Labelled, Verdict
from tasks.core.workspace import Workspace
from tasks.progress import Progress
from tasks.retry import TRAINING

LONG = 10.0
"""Seconds from which a fit shows its progress."""
FIRST_ROWS = 10_000
"""Rows a second, guessed: nothing of the kind was fitted before."""


@task(cache_policy=NO_CACHE, task_run_name="train a challenger", **TRAINING)
def train(
    workspace: Workspace,
    state: State,
    work: Work,
    labelled: Sequence[Labelled],
    decision: Decision,
    threads: int | None = None,
) -> Attempt:
    """Fit on all usable labelled history, compare with the champion, prove that a clean process can load it, register.
    Nothing is put in service here.

    A version that this very question registered before its run was killed is adopted instead of fitted again. A failing
    fit is an attempt with the reason, not an exception: the current version stays. `threads` are those that the process
    has set, for the record.
    """
    looked = trained_with(workspace, with_labels(state, labelled, decision), work.batches)
    return replace(_train(workspace, state, work, labelled, decision, threads), looked=looked)


def _train(
    workspace: Workspace,
    state: State,
    work: Work,
    labelled: Sequence[Labelled],
    decision: Decision,
    threads: int | None,
) -> Attempt:
    log, spec = get_run_logger(), workspace.spec
    usable = with_labels(state, labelled, decision).usable
    if adopted := workspace.registry.adopt(workspace.model, work.key, newer_than=state.newest):
        version, digest = adopted
        manifest, _ = workspace.registry.manifest(workspace.model, version, digest)
        log.info("v%d was registered by an interrupted run of this very question: adopted.", version)
        return _attempt(len(usable), version, digest, manifest.gate, first=state.current is None)
    bar = None
    try:
        champion = assess.champion_of(workspace, state)
        labels = training_labels(workspace, work, champion)
        history = training_rows(workspace, work, usable, labels)
        if any(found.altered for found in labels.answers.values()):
            spec = labels.spec  # the record of the version says by which classes its labels were read
        missing = absent(spec, work, usable)
        if missing:
            log.warning("Learned without %s: the files are gone.", named(missing))
        rows = sum(len(part.rows) for part in history)
        with_threads = f", {counted(threads, 'thread')}" if threads else ""
        log.info("Training on %d labelled batches, %s rows%s.", len(history), f"{rows:,}", with_threads)
        seconds = expected_seconds(champion, rows)
        bar = Progress(artifact_name(workspace.model, "training"), shown=seconds >= LONG)
        bar.at(10, f"Fitting on {rows:,} rows: about {seconds:.0f} s, judged by the version in service")
        known = known_good(state)
        challenger = train_challenger(
            workspace.root,
            spec,
            history,
            champion,
            decision.action.value,
            decision.reasons,
            known,
            labelled=len(usable),
            missing=missing,
            threads=threads,
        )
        bar.at(80, "Fitted and compared; proving that a clean process can load it")
        code, pipeline = spec.folders(workspace.root), spec.pipeline
        asked = proof.prove(challenger.candidate, code, pipeline.types, pipeline.environment)
        candidate = with_files(challenger.candidate, workspace.root, spec, asked)
        if left := sorted({*candidate.environment.files} - {*candidate.beside}):
            log.warning("Too large to be kept with the version, which has their digests: %s.", named(left))
    except (TrainingError, DataError, SpecError, UnavailablePipeline) as error:
        log.error("%s", error)
        if bar is not None:
            bar.at(100, "It failed: the run says why")
        return Attempt(len(usable), AttemptOutcome.FAILED, reason=str(error))
    version, digest = workspace.registry.register(workspace.model, work.key, candidate)
    bar.at(100, f"v{version} is registered")
    log.info("v%d is registered; the gate says: %s.", version, challenger.gate.reason)
    return _attempt(len(usable), version, digest, challenger.gate, first=state.current is None)


def expected_seconds(champion: Champion | None, rows: int) -> float:
    """Seconds that a fit on `rows` rows will take, by the version in service; for a first version by rows alone."""
    if champion is None or not champion.manifest.rows:
        return rows / FIRST_ROWS
    return champion.manifest.duration_seconds * rows / champion.manifest.rows


def _attempt(labelled: int, version: int, digest: str, gate: Gate, *, first: bool) -> Attempt:
    """Passed, or too few rows to tell and nothing to lose: it may be put in service."""
    passed = gate.verdict is Verdict.PASS or (gate.verdict is Verdict.SKIPPED and first)
    outcome = AttemptOutcome.REGISTERED if passed else AttemptOutcome.REFUSED
    return Attempt(labelled, outcome, version, digest, gate=gate)
