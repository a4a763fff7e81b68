"""Labels, which arrive late: which batches count from now on, what versions lose on them, corrections, what is overdue.

A batch counts as labelled once `data.min_coverage` of its rows have a label, or once its labels are complete: when
`data.label_delay` later batches have arrived, and label files have brought MATURED_ROWS of its labels or more.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from tasks.core.checks import drift, performance
from tasks.core.checks.calibration import LABEL, TARGET, calibration_of
from tasks.core.checks.expected import excused
from tasks.core.checks.histograms import Picture
from tasks.core.checks.performance import dummy
from tasks.core.checks.slices import BatchLosses, check_slices, earlier
from tasks.core.data.files import seen_files
from tasks.core.data.known_classes import with_classes
from tasks.core.data.labels import FAR, Labels
from tasks.core.data.rows import LabelledRows, labelled_rows
from tasks.core.errors import DataError
from tasks.core.ledger.state import State
from tasks.core.ledger.transitions import known_lags, with_labels
from tasks.core.run.again import check_overlaps, check_repeats
from tasks.core.run.matching import check_keys
from tasks.core.run.overruled import check_overruled
from tasks.core.run.scores import Scores
from tasks.core.run.work import Work
from tasks.core.spec import DataSpec
from tasks.core.text import named
from tasks.core.types import Batch, Blocked, Check, CheckKind, Comparison, Labelled, LossPoint, Verdict
from tasks.core.versions import persistence
from tasks.core.versions.loaded import LoadedVersion
from tasks.core.workspace import Workspace

MATURED_ROWS = 30
"""Labels that a batch needs to count although it is not covered: fewer say nothing about a loss."""


@dataclass(frozen=True, slots=True)
class Overdue:
    """Decided batches whose labels should have come by now."""

    batches: tuple[str, ...]
    """Oldest first."""
    reason: str
    """Which, how late, and what to do."""


@dataclass(frozen=True)
class LabelFindings:
    """Batches whose labels arrived or changed with this run, and how versions did on them."""

    labelled: tuple[Labelled, ...] = ()
    losses: tuple[LossPoint, ...] = ()
    comparisons: tuple[Comparison, ...] = ()
    checks: tuple[Check, ...] = ()
    dummy_loss: float | None = None
    unlabelled: int = 0
    """Decided batches that still wait for labels."""
    delay: int | None = None
    """Batches that labels may take: as declared, else the most that they are known to have taken, at least 1."""
    overdue: Overdue | None = None
    blocked: tuple[Blocked, ...] = ()
    """Labels that cannot be used, with the reason; data and predictions are not held up by them."""
    files: str | None = None
    """Digest of the label files that were looked at; None when they could not be used."""
    unjoined: tuple[str, ...] = ()
    """Of label files of which not one key is a key of any batch, one sentence each; or that there is no such file."""
    pictures: tuple[Picture, ...] = ()
    """Of the target on the newest labelled batch."""
    snapshot: Any = None
    """Evidently's, of the newest labelled batch."""

    @property
    def fresh(self) -> list[Labelled]:
        """Those that count from this run on."""
        return [item for item in self.labelled if not item.corrected]


def check_performance(
    workspace: Workspace,
    state: State,
    work: Work,
    pending: Sequence[Batch],
    current: LoadedVersion | None,
    predecessor: LoadedVersion | None,
    before: Sequence[Check] = (),
) -> LabelFindings:
    """Score champion and predecessor on the same newly labelled rows, which neither was trained on; look again at
    what was scored on labels that have changed since. `pending` are the valid batches of this run, `before` the checks
    of the newest decision."""
    try:
        return _check(workspace, state, work, pending, Scores(workspace, state, current, predecessor), before)
    except DataError as error:
        return LabelFindings(blocked=(Blocked("labels", "", (str(error),)),))


def _check(
    workspace: Workspace,
    state: State,
    work: Work,
    pending: Sequence[Batch],
    scores: Scores,
    before: Sequence[Check],
) -> LabelFindings:
    pipeline = scores.current.pipeline if scores.current else None
    spec = with_classes(workspace.root, workspace.spec, pipeline, work.batches, work.labels)
    labels, unusable = Labels.usable(workspace.root, spec, work.labels, work.owners, trusted=work.trusted)
    problems = [f"{problem.rstrip('.')}. It is set aside; other labels count" for problem in unusable]
    decided = [b for b in work.batches if b.id in state.batches and state.batches[b.id].sha256 == b.sha256]
    unlabelled = [b for b in decided if not state.batches[b.id].labels and b.id not in state.quarantined]
    arrived = {batch.id for batch in work.batches} | set(state.batches)
    distant: list[Check] = []
    fresh: list[Labelled] = []
    waiting: list[Labelled] = []
    owning = [batch for batch in (*unlabelled, *pending) if batch.id not in work.repeats]
    without = sorted(owning, key=lambda batch: state.order(batch.id))
    for batch in without:
        try:
            part = labelled_rows(workspace.root, batch, labels, spec.task)
        except DataError as error:
            problems.append(f"{batch.id}: {error}")
            continue
        if part.total and part.elsewhere == part.total:
            continue
        distant += [_distant(workspace, part)] if part.far else []
        lag = sum(state.order(other) > state.order(batch.id) for other in arrived)
        item = Labelled(batch.id, part.labels, len(part.rows), part.coverage, lag=lag)
        if not counts(spec.data, item):
            waiting.append(item)
            continue
        fresh.append(item)
        scores.add(part)
    again = _corrections(workspace, state, work, decided, labels, scores)
    delay = spec.data.label_delay
    if delay is None:
        delay = max([1, state.label_lag, *known_lags(fresh, [batch.id for batch in pending])])
    counted = {item.batch for item in fresh}
    possible = sorted({*decided, *pending}, key=lambda batch: state.order(batch.id))
    still = [batch for batch in without if batch.id not in counted]
    new_files = _fresh_files(state, work)
    keys = check_keys(labels, possible, still, new_files, before)
    looked = [path.relative_to(workspace.root).as_posix() for path in new_files]
    strays = stray_labels(labels, looked if spec.data.labels else [batch.path for batch in without])
    findings = LabelFindings(
        labelled=(*fresh, *again),
        losses=tuple(scores.losses),
        comparisons=tuple(scores.comparisons),
        checks=(
            *scores.checks,
            *check_repeats(labels, pending, work.repeats),
            *check_overlaps(workspace.root, spec, pending, decided, {*work.repeats, *state.quarantined}),
            *keys.checks,
            *strays,
            *distant,
            *check_overruled(labels, new_files, before),
        ),
        unlabelled=len(waiting),
        delay=delay,
        overdue=_overdue(workspace, state, waiting, delay),
        blocked=(Blocked("labels", "", tuple(problems)),) if problems else (),
        files=None if unusable else work.label_digest,
        unjoined=keys.unjoined or _no_files(spec.data, work, without),
    )
    if scores.newest is None or scores.current is None:
        return findings
    part, answers = scores.newest
    lags = {item.batch: item.lag for item in fresh}
    sliced = _slices(workspace, state, decided, labels, scores, fresh) if spec.slices else ()
    findings = replace(findings, checks=(*sliced, *findings.checks))
    return _with_performance(findings, workspace, state, scores.current, answers, part, lags[part.batch.id])


def stray_labels(labels: Labels, paths: Sequence[str]) -> list[Check]:
    """Rows that are unlabelled because their label is no class, by the file that holds it."""
    checks = []
    for path in paths:
        if (found := labels.answers.get(path)) and found.strays:
            what = "label is" if found.strays == 1 else "labels are"
            text = f"{found.strays:,} of {found.labels:,} {what} {labels.none_of(found)}; such rows count as unlabelled"
            subject = path.rpartition("/")[2]
            checks.append(Check.of(CheckKind.LABELS, subject, Verdict.WARN, f"{subject}: {text}", float(found.strays)))
    return checks


def _distant(workspace: Workspace, part: LabelledRows) -> Check:
    """Labels that wait for a person's word, and how it is given."""
    spec, model, batch = workspace.spec, workspace.model, part.batch.id
    shown = "" if spec.target in spec.data.private else f", such as {part.example:g}"
    many, rows = ("label is", "its row counts") if part.far == 1 else ("labels are", "their rows count")
    text = (
        f"{batch}: {part.far:,} {many} more than {FAR:,} times as far from the others as those are{shown}; {rows} as "
        f"unlabelled. If that is right: `ror accept {model} {batch} --reason '...'`"
    )
    return Check.of(CheckKind.LABELS, batch, Verdict.WARN, text, float(part.far))


def _no_files(data: DataSpec, work: Work, waiting: Sequence[Batch]) -> tuple[str, ...]:
    """Said to whoever waits for labels while no file at all is where they should come."""
    return (f"there is no label file under {data.labels}",) if data.labels and waiting and not work.labels else ()


def _fresh_files(state: State, work: Work) -> Sequence[Path]:
    """Label files that no decision has seen; all of them when in doubt."""
    if work.label_digest == state.label_files:
        return ()
    seen = seen_files(work.labels, state.label_files) or ()
    return [path for path in work.labels if path not in seen]


def counts(data: DataSpec, item: Labelled) -> bool:
    """Covered; or matured, where labels arrive in files of their own: no more will come than there are."""
    if item.coverage >= data.min_coverage:
        return True
    matured = data.labels is not None and data.label_delay is not None and (item.lag or 0) >= data.label_delay
    return matured and item.rows >= MATURED_ROWS


def _with_performance(
    findings: LabelFindings,
    workspace: Workspace,
    state: State,
    current: LoadedVersion,
    answers: persistence.Predictions,
    part: LabelledRows,
    lag: int | None,
) -> LabelFindings:
    """With what is known of the newest labelled batch: checks of performance and of the target's drift, its picture,
    what Dummy would lose, and Evidently's snapshot."""
    spec = workspace.spec
    task, private = spec.task, spec.target in spec.data.private
    checks, snapshot = performance.performance_checks(
        part.batch.id, answers, part.target, task, part.coverage, lag, private=private
    )
    checks += tuple(
        Check.of(CheckKind.DECLARED, None, Verdict.WARN, text)
        for text in performance.metric_problems(spec.metric, task, part.target)
    )
    reference = current.reference
    target = pd.DataFrame({TARGET: part.target})
    excuses = excused(workspace.root, spec, state.snoozed, [part.batch], current.contract.names).columns
    hidden = [TARGET] if private else []
    moved = drift.check_drift(reference, target, calibration_of(current), excused=excuses, private=hidden)
    trained = reference[LABEL if LABEL in reference else TARGET]  # an earlier release kept the target only
    usual = dummy(trained.to_numpy(), task, len(part.rows))
    return replace(
        findings,
        checks=(*checks, *moved.checks, *findings.checks),
        pictures=moved.pictures,
        dummy_loss=float(performance.row_losses(usual, part.target, task).mean()),
        snapshot=snapshot,
    )


def _slices(
    workspace: Workspace,
    state: State,
    decided: Sequence[Batch],
    labels: Labels,
    scores: Scores,
    fresh: Sequence[Labelled],
) -> tuple[Check, ...]:
    """The newest labelled batch by slices, compared with the usable labelled batches before it."""
    assert scores.newest is not None
    part, answers = scores.newest
    usable = with_labels(state, fresh).usable
    points = (*state.losses, *scores.losses)
    own = state.order(part.batch.id)
    past = [batch for batch in decided if batch.id in usable and state.order(batch.id) < own]
    before = earlier(workspace, labels, past, points)
    losses = performance.row_losses(answers, part.target, workspace.spec.task)
    return check_slices(workspace.spec, BatchLosses(part, losses), before)


# --- corrections ---------------------------------------------------------------------------------------------


def _corrections(
    workspace: Workspace, state: State, work: Work, decided: Sequence[Batch], labels: Labels, scores: Scores
) -> list[Labelled]:
    """Batches that counted already and whose labels are others now.

    Label files that have not changed cost nothing; new ones cost a look at the keys.
    """
    same = work.label_digest == state.label_files
    if same and not work.trusted:
        return []
    found, seen = [], seen_files(work.labels, state.label_files)
    if seen is not None:
        earlier, later = (
            Labels(
                workspace.root,
                labels.spec,
                [path for path in labels.files if (path in seen) is before],
                batches=work.owners,
                trusted=work.trusted,
            )
            for before in (True, False)
        )
    for batch in decided:
        record = state.batches[batch.id]
        accepted = batch.id in work.trusted
        if not record.labels or not (accepted or (not same and (seen is None or later.touch(batch)))):
            continue
        part = labelled_rows(workspace.root, batch, labels, workspace.spec.task)
        if part.labels == record.labels:
            continue
        found.append(Labelled(batch.id, part.labels, len(part.rows), part.coverage, record.lag, corrected=True))
        before = labelled_rows(workspace.root, batch, earlier, workspace.spec.task) if seen is not None else None
        scores.checks.append(_changed(part, before if before and before.labels == record.labels else None))
        if len(part.rows) and batch.id not in state.quarantined:
            scores.again(part)
    return found


def _changed(now: LabelledRows, before: LabelledRows | None) -> Check:
    """What happened to the labels of one batch."""
    batch = now.batch.id
    consequence = "Versions that were trained on it used the earlier labels; its losses are measured anew"
    if before is None:
        said = f"{batch}: its labels changed, {len(now.rows):,} of its {now.total:,} rows have one. {consequence}"
        return Check.of(CheckKind.LABELS, batch, Verdict.WARN, said)
    _, ours, theirs = np.intersect1d(now.rows, before.rows, assume_unique=True, return_indices=True)
    other = int((now.target[ours].astype(object) != before.target[theirs].astype(object)).sum())
    gone, more = len(before.rows) - len(theirs), len(now.rows) - len(ours)
    if not other and not gone:
        said = f"{batch}: its labels were completed, {more:,} more rows have one ({now.coverage:.0%} of its rows)"
        return Check.of(CheckKind.LABELS, batch, Verdict.PASS, said, float(more))
    parts = ((other, "corrected"), (gone, "withdrawn"), (more, "added"))
    counted = ", ".join(f"{count:,} {what}" for count, what in parts if count)
    said = f"{batch}: of its {len(before.rows):,} labels {counted}. {consequence}"
    return Check.of(CheckKind.LABELS, batch, Verdict.WARN, said, float(other + gone))


# --- overdue -------------------------------------------------------------------------------------------------


def _overdue(workspace: Workspace, state: State, waiting: Sequence[Labelled], delay: int) -> Overdue | None:
    """Batches decided on by earlier runs that wait for longer than labels may take."""
    data = workspace.spec.data
    limit = delay + data.overdue
    late = [item for item in waiting if item.batch in state.batches and (item.lag or 0) > limit]
    if not late:
        return None
    oldest = late[0]
    names = named([item.batch for item in late], 3)
    source = "as data.label_delay says" if data.label_delay is not None else "the longest seen so far"
    where = f"Deliver them to {data.labels}" if data.labels else "They should be in the batch itself"
    reason = (
        f"labels are overdue for {names}: {oldest.lag} batches have arrived since {oldest.batch}, "
        f"{oldest.coverage:.0%} of its rows have a label ({data.min_coverage:.0%} needed), and labels take {delay} "
        f"({source}; data.overdue allows {data.overdue} more). {where}; if they take longer, say so with "
        f"data.label_delay; if they will never come: `ror quarantine {workspace.model} {oldest.batch} --reason '...'`"
    )
    return Overdue(tuple(item.batch for item in late), reason)
