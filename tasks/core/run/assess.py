"""Measure what the rules will look at: the data of pending batches and drift; labels have a module of their own.

Measuring is not judging (that is `policy.decide`) and not acting (that is the flow).
"""

from __future__ import annotations

import shlex
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, replace

import pandas as pd

from tasks.core.checks import drift
from tasks.core.checks.calibration import SCORE, calibration_of
from tasks.core.checks.declared import columns_of, unknown_columns
from tasks.core.checks.expected import excused, last_year
from tasks.core.checks.volume import check_days, check_rows, is_fewer
from tasks.core.data.arrow import sample_rows
from tasks.core.data.dates import dates_in_rows
from tasks.core.data.files import find, in_order, renamed, text_order
from tasks.core.data.unread import unread
from tasks.core.decision.evidence import DriftEvidence, Evidence
from tasks.core.errors import DataError, EnvironmentMismatch, NotFound, UntrustedTypes, VerificationError
from tasks.core.ledger.state import State
from tasks.core.ledger.transitions import found_wrong, with_comparisons, with_labels, with_losses
from tasks.core.run.causes import looked_with
from tasks.core.run.kept import gone, words
from tasks.core.run.labels import LabelFindings
from tasks.core.run.work import Work
from tasks.core.schema.frames import frame
from tasks.core.schema.validation import Validation, validate
from tasks.core.text import counted, named
from tasks.core.training.gate import Champion, Recorded
from tasks.core.types import (
    Batch,
    Blocked,
    Check,
    CheckKind,
    Request,
    Verdict,
)
from tasks.core.versions import persistence
from tasks.core.versions.loaded import LoadedVersion
from tasks.core.workspace import Workspace

DAYS_OF = 4
"""Training batches whose days say how long a period is."""
NOT_HERE = (EnvironmentMismatch, UntrustedTypes)
"""Why a version that is not damaged may still not be loaded on this machine."""


@dataclass(frozen=True, slots=True)
class Versions:
    """Champion and predecessor, verified and loaded."""

    current: LoadedVersion | None = None
    predecessor: LoadedVersion | None = None
    note: str = ""
    """Why the predecessor could not be loaded."""


def load_versions(workspace: Workspace, state: State) -> Versions:
    """Raises VerificationError for the champion: it is never silently replaced. A predecessor may be missing."""
    if state.current is None:
        return Versions()
    current = workspace.registry.load_in_service(workspace.model, state)
    if state.predecessor is None:
        return Versions(current)
    try:
        return Versions(current, workspace.registry.load(workspace.model, state.predecessor))
    except (VerificationError, NotFound) as error:
        return Versions(current, None, f"v{state.predecessor.version} cannot be compared: {error}")


def champion_of(workspace: Workspace, state: State) -> Champion | None:
    """Whom a challenger must beat: the version in service, or what it answered where it does not load here."""
    try:
        return load_versions(workspace, state).current
    except NOT_HERE:
        assert state.current is not None
        return Recorded(workspace.manifest_of(state.current), workspace.data / "predictions")


# --- data ----------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class DataFindings:
    """Which pending batches can be predicted on, and what about their content changed."""

    valid: tuple[Batch, ...] = ()
    rows: tuple[int, ...] = ()
    blocked: tuple[Blocked, ...] = ()
    changes: tuple[str, ...] = ()
    """What changed in batches that no person has accepted."""
    checks: tuple[Check, ...] = ()
    predecessor_ready: bool = False
    """The predecessor loads and accepts every valid batch."""
    novel: tuple[str, ...] = ()
    """Batches, pending or decided on, whose content is new to the version in service; those that a person accepted, or
    that were learned from, left out."""
    nothing: str = ""
    """Where no file at all is where batches should be: where that is, and what to do."""
    mended: bool = False
    """What the last attempt to train failed or was refused for may be mended."""
    aside: tuple[str, ...] = ()
    """Batches that were set aside, and that nothing would find otherwise today: they were not looked at."""
    early: str = ""
    """Batches that were decided on before any version served, and what predicts them; said when the first one does."""


def check_data(workspace: Workspace, state: State, work: Work, versions: Versions) -> DataFindings:
    """Validate every pending batch against the champion's contract; broken ones are set aside.

    With `on_change = "block"` so are those whose content changed, until a person accepts them.
    """
    spec, current = workspace.spec, versions.current
    valid, rows, blocked, changes = [], [], [], []
    checks = _arrivals(workspace, state, work)
    if current:
        checks += excused(workspace.root, spec, state.snoozed, work.pending, current.contract.names).checks
    novel = _still_novel(workspace, state, work, current)
    ready = versions.predecessor is not None
    trained = _trained_on(state, current)
    for batch in work.pending:
        try:
            found = _validated(workspace, state, batch, current)
        except DataError as error:
            found = Validation(0, (str(error),), ())
        checks += [replace(check, summary=f"{batch.id}: {check.summary}") for check in found.changes]
        if found.problems:
            blocked.append(Blocked(batch.id, batch.sha256, found.problems))
            continue
        changed = [check.summary for check in found.changes if check.verdict is Verdict.FAIL]
        if changed and batch.id not in state.accepted:
            changes += [f"{batch.id}: {change}" for change in changed]
            if spec.policy.on_change == "block":
                accept = f"if this is how the world is now: `ror accept {workspace.model} {batch.id} --reason '...'`"
                blocked.append(Blocked(batch.id, batch.sha256, (*changed, accept), changed=True))
                continue
            novel.append(batch.id)
        valid.append(batch)
        rows.append(found.rows)
        checks += _amount(workspace, state, work, batch, found.rows, trained)
        checks += [Check.of(CheckKind.COERCION, batch.id, Verdict.WARN, note) for note in found.coercions]
        if versions.predecessor:
            ready &= not _validated(workspace, state, batch, versions.predecessor).problems
    blocked = [_set_aside(state, work, item, looked_with(workspace, state)) for item in blocked]
    for batch in work.altered:
        problem = (
            "it was decided on with other bytes than it has now, and predictions were made from those. "
            f"Restore the original. If it has grown, move it out of {batch.path.rpartition('/')[0]}/ first; then "
            f"`ror add {workspace.model} FILE --new-rows` takes the rows that are new"
        )
        blocked.append(Blocked(batch.id, batch.sha256, (problem,)))
    checks += _declared(workspace, valid)
    return DataFindings(
        tuple(valid),
        tuple(rows),
        tuple(blocked),
        tuple(changes),
        tuple(checks),
        ready,
        tuple(novel),
        _nothing(workspace, state),
        work.mended,
        work.aside,
        early=_early(workspace, state, work),
    )


def _early(workspace: Workspace, state: State, work: Work) -> str:
    """Empty where there are none, or some batch was predicted already."""
    found = [batch for batch in work.batches if batch.id in state.batches]
    if not found or any(record.version is not None for record in state.batches.values()):
        return ""
    commands = [
        f"`ror predict {workspace.model} {shlex.quote(batch.path)} -o {shlex.quote(f'{batch.id}-predicted.parquet')}`"
        for batch in found
    ]
    which = counted(len(found), "batch", "batches")
    one = f"{which} that arrived before the first version {'was' if len(found) == 1 else 'were'} not predicted"
    return f"{one} ({named([batch.id for batch in found], 3)}): {named(commands, 3, '; ')}"


def _set_aside(state: State, work: Work, item: Blocked, looked: str) -> Blocked:
    """With what it was looked at; and whether that is what was found before, which a person who asks for this batch
    wants to hear again."""
    before = state.causes.get(item.batch)
    same = state.blocked.get(item.batch) == item.sha256 and (not before or before.found == found_wrong(item.problems))
    return replace(item, looked=looked, again=same and not work.asked)


def _nothing(workspace: Workspace, state: State) -> str:
    """Why there is nothing to look at, where no file matches the pattern, settled or not; else empty."""
    pattern = workspace.spec.data.batches
    if find(workspace.root, pattern):
        return ""
    if not state.batches:
        return f"no batch under {pattern}: `ror add {workspace.model} FILE` brings one; or correct data.batches"
    before = counted(len(state.batches), "batch was", "batches were")
    return (
        f"no batch under {pattern}, of which {before} decided on: mount or restore that folder, or correct data.batches"
    )


def _trained_on(state: State, current: LoadedVersion | None) -> list[str]:
    """The batches that a version was trained on, in time order."""
    trained = {file.batch for file in current.manifest.training} if current else set()
    return in_order(trained & {*state.batches}, state.order)


def _amount(
    workspace: Workspace, state: State, work: Work, batch: Batch, rows: int, trained: Sequence[str]
) -> Iterator[Check]:
    """What is unusual in how many rows and days a batch has. Days are looked for, in the newest of `trained`, only
    where there are fewer rows than usual."""
    counts = [state.batches[name].rows for name in trained]
    remark = check_rows(workspace.source(batch), batch.id, rows, counts)
    if workspace.spec.time and is_fewer(rows, counts):
        newest = [known for known in work.batches if known.id in trained[-DAYS_OF:]]
        own, *others = (dates_in_rows(workspace.root, workspace.spec, one) for one in (batch, *newest))
        if own and (short := check_days(batch.id, own, [days for days in others if days])):
            remark = replace(remark, summary=f"{remark.summary}; {short.summary}") if remark else short
    if remark:
        yield remark


def _declared(workspace: Workspace, batches: Sequence[Batch]) -> list[Check]:
    """What the model's file names and none of these batches has; columns of periods have a check of their own."""
    if not batches:
        return []
    spec = workspace.spec.model_copy(update={"expected": ()})
    columns = columns_of(workspace.root, spec, [workspace.source(batch) for batch in batches])
    return [Check.of(CheckKind.DECLARED, None, Verdict.WARN, text) for text in unknown_columns(spec, columns)]


def _still_novel(workspace: Workspace, state: State, work: Work, current: LoadedVersion | None) -> list[str]:
    """Batches with changed content that the version now in service has not learned from others either."""
    found = []
    for batch in work.batches:
        if current is None or batch.id not in state.novel:
            continue
        try:
            seen = _validated(workspace, state, batch, current)
        except DataError:
            continue  # gone or damaged since: nothing could be learned from it
        if any(check.verdict is Verdict.FAIL for check in seen.changes):
            found.append(batch.id)
    return found


def _validated(workspace: Workspace, state: State, batch: Batch, version: LoadedVersion | None) -> Validation:
    """A batch compared with what a version accepts; what is expected of it, or hardly used, only warns."""
    spec = workspace.spec
    source = workspace.source(batch)
    if version is None:
        return validate(None, source, spec)
    excuses = excused(workspace.root, spec, state.snoozed, [batch], version.contract.names).columns
    weights = {name: column["weight"] for name, column in version.calibration.items()}
    return validate(version.contract, source, spec, excused=excuses, weights=weights)


def _arrivals(workspace: Workspace, state: State, work: Work) -> list[Check]:
    """What arrived in another way than it should: files that may still be written, batches that are out of order."""
    found = [f"{path} may still be written and was not counted; the next run looks again" for path in work.arriving]
    found += [
        f"{batch} comes before batches that were decided on already: it is decided on now, and nothing is decided anew"
        for batch in work.latecomers
    ]
    found += [
        f"{name} has the bytes of {batch.id}, which is gone: it is that batch, renamed, and keeps that name here"
        for batch in work.batches
        if batch.id in state.batches and (name := renamed(batch))
    ]
    if work.batches and (missing := gone(workspace.spec, state, {batch.id for batch in work.batches})):
        found.append(words(missing))
    found += unread(workspace.root, workspace.spec)
    if state.order is text_order:
        first, second = _misplaced(state)
        last = in_order(state.batches, text_order)[-1]
        found.append(
            f"names are in the order of text here, for earlier releases decided so: {first} counts as earlier than "
            f"{second}. A new batch is the newest where its name begins with {last}, such as {last}-2"
        )
    found += [
        f"{batch.id} has the same bytes as {work.repeats[batch.id]}, the same data again: its rows are predicted, and "
        "count in no loss and no fit a second time. If another file was meant, deliver that one under a new name"
        for batch in work.pending
        if batch.id in work.repeats
    ]
    return [Check.of(CheckKind.ARRIVALS, None, Verdict.WARN, text) for text in found]


def _misplaced(state: State) -> tuple[str, str]:
    """Two batches that are the other way round in the order of text."""
    pairs = zip(in_order(state.batches, text_order), in_order(state.batches), strict=True)
    return next((text, natural) for text, natural in pairs if text != natural)


# --- drift ---------------------------------------------------------------------------------------------------


def check_drift(
    workspace: Workspace, state: State, work: Work, data: DataFindings, versions: Versions
) -> drift.DriftReport:
    """Compare a bounded sample of the pending batches with the champion's reference sample."""
    current = versions.current
    if current is None or not data.valid:
        return drift.DriftReport((), DriftEvidence())
    spec = workspace.spec
    window = _sampled(workspace, current, data.valid, data.rows)
    window[SCORE] = persistence.predict(current.pipeline, window, private=current.contract.private).score
    private = {*spec.data.private, *(column.name for column in current.contract.features if column.private)}
    if spec.target in private:  # answers are values of the target
        private.add(SCORE)
    excuses = excused(workspace.root, spec, state.snoozed, data.valid, current.contract.names).columns
    return drift.check_drift(
        current.reference,
        window,
        calibration_of(current),
        excused=excuses,
        private=private,
        last_year=_last_year(workspace, state, work, data, current) if excuses else None,
    )


def _sampled(
    workspace: Workspace, version: LoadedVersion, batches: Sequence[Batch], rows: Sequence[int]
) -> pd.DataFrame:
    """A bounded sample of these batches, as a version sees them; `rows` are the rows that each has."""
    spec = workspace.spec
    limit = max(1, spec.checks.sample_rows // len(batches))
    parts = [
        frame(version.contract, workspace.source(batch), sample_rows(each, limit, spec.seed))
        for batch, each in zip(batches, rows, strict=True)
    ]
    return pd.concat(parts, ignore_index=True)


def _last_year(
    workspace: Workspace, state: State, work: Work, data: DataFindings, current: LoadedVersion
) -> pd.DataFrame | None:
    """Rows of the same days a year earlier, for the page; None where there are none that this version could read."""
    decided = [batch for batch in work.batches if batch.id in state.batches]
    found = []
    for batch in last_year(workspace.root, workspace.spec, data.valid, decided):
        try:  # it was read by another version, and is shown for comparison only
            readable = not _validated(workspace, state, batch, current).problems
        except DataError:
            readable = False
        found += [batch] if readable else []
    return _sampled(workspace, current, found, [state.batches[b.id].rows for b in found]) if found else None


# --- evidence and what follows from the decision -------------------------------------------------------------


@dataclass(frozen=True)
class Findings:
    """What a run measured."""

    data: DataFindings = field(default_factory=DataFindings)
    labels: LabelFindings = field(default_factory=LabelFindings)
    drift: drift.DriftReport = field(default_factory=lambda: drift.DriftReport((), DriftEvidence()))


def collect(request: Request, state: State, found: Findings) -> Evidence:
    """Everything the rules may look at: what was measured now, and what the ledger's state remembers."""
    data, labels = found.data, found.labels
    now = with_labels(state, labels.labelled)
    rows = [now.batches[batch].labelled_rows for batch in now.usable]
    predecessor, attempt = state.predecessor, state.attempt
    age = now.age_of_service if data.mended else now.age
    known = {*now.batches, *(batch.id for batch in data.valid)}
    accepted = tuple(batch for batch in state.accepted if batch in known)
    return Evidence(
        request=request,
        pending=len(data.valid),
        blocked=tuple(item.batch for item in data.blocked if not item.changed and not item.again),
        aside=(*(item.batch for item in data.blocked if item.again), *data.aside),
        current=state.current.version if state.current else None,
        predecessor=predecessor.version if predecessor else None,
        predecessor_ready=bool(predecessor and predecessor.version not in state.barred and data.predecessor_ready),
        labelled_rows=sum(rows),
        new_batches=age,
        new_rows=sum(rows[len(rows) - age :]) if age > 0 else 0,
        cooldown=max(0, state.cooldown - len(labels.fresh)),
        losses=with_losses(state.losses, labels.losses),
        comparisons=with_comparisons(state.comparisons, labels.comparisons),
        newest=_newest(state, labels),
        dummy_loss=labels.dummy_loss,
        suspect=state.suspect,
        changes=data.changes,
        accepted=accepted,
        novel=data.novel,
        unlearnable=tuple(batch for batch in (*accepted, *data.novel) if batch not in now.usable),
        waiting=attempt.version if attempt and attempt.version in [w.version for w in state.waiting] else None,
        drift=found.drift.evidence,
        label_delay=labels.delay,
        mended=data.mended,
        labels_overdue=labels.overdue.batches if labels.overdue else (),
    )


def recheck(workspace: Workspace, work: Work, found: State, now: State, measured: Findings) -> Findings:
    """What was measured, with the data checked again where a person put another version in service meanwhile.

    That version is the one that will predict them. Raises VerificationError when it does not load here.
    """
    if now.current == found.current:
        return measured
    return replace(measured, data=check_data(workspace, now, work, load_versions(workspace, now)))


def _newest(state: State, labels: LabelFindings) -> str | None:
    """The newest labelled batch, if its labels count from this run on: labels may come out of order."""
    before = [batch for batch, record in state.batches.items() if record.labels]
    newest = max((item.batch for item in labels.fresh), key=state.order, default=None)
    if newest is None or any(state.order(batch) >= state.order(newest) for batch in before):
        return None
    return newest
