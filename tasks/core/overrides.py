"""What a person does to a model: put a version in service, accept a change, take labels out of training or back in,
expect drift for a while.

Each is one ledger event, appended by compare-and-swap: the loser of a race checks everything again. None needs the
lease: a run in progress notices, and what the person did is kept.
"""

from __future__ import annotations

import difflib
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from datetime import UTC, date, datetime
from pathlib import Path

from tasks.core.data.files import batch_at, delivered, find_batches, fingerprint, in_order, label_files
from tasks.core.errors import DataError, EnvironmentMismatch, InvalidRequest, LedgerConflict, VerificationError
from tasks.core.ledger.events import Accepted, Body, Cleared, Event, Promoted, Quarantined, Snoozed
from tasks.core.ledger.ledger import pruned
from tasks.core.ledger.state import State
from tasks.core.run.work import owners_of
from tasks.core.spec import PREDICTION
from tasks.core.text import second
from tasks.core.types import Served, Verdict
from tasks.core.versions.manifest import Manifest
from tasks.core.workspace import Workspace

APPROVED, CLEARED, ROLLED_BACK, OVERRIDDEN, CHOSEN = "approved", "cleared", "rolled back", "gate overridden", "chosen"
ACCEPTED = "environment accepted"
"""What a promotion was: of a version that waited, was barred, is older, was refused, or of any other one; or of the one
in service, for another environment."""

BY_HAND = "by hand"

NOW = "now"
"""Instead of a day: a snooze ends at once."""


def promote(
    workspace: Workspace,
    version: int,
    *,
    reason: str,
    actor: str,
    expected: int | None = None,
    accept_environment: bool = False,
    run: str = BY_HAND,
) -> Event:
    """Put a version in service, whatever the rules made of it, once it was loaded and checked like any other.

    `expected` is the version believed to be in service, 0 for none. The one it replaces becomes its predecessor: kept,
    not barred, and compared with it on the labels to come. `accept_environment` lets it be served from now on in spite
    of exactly the differences between where it was made and here, if it gives its known answers; for the version in
    service too. Raises InvalidRequest for a version that does not exist, was pruned or is in service
    already, LedgerConflict when another than the expected one is, VerificationError when it does not load here.
    """
    check_words(reason, actor)
    ledger, registry = workspace.ledger, workspace.registry
    if version not in registry.versions(workspace.model):
        raise registry.unknown(workspace.model, version)
    if (named := ledger.named(version)) is None:
        raise VerificationError(
            f"The history of {workspace.model} has no entry about v{version}: no run decided on it, so it is not "
            f"loaded. If a run was killed, `ror run {workspace.model}` completes it."
        )
    manifest, sha256 = registry.manifest(workspace.model, version, named.manifest)
    served = Served(version, sha256, manifest.data_end)

    def body(state: State) -> Promoted:
        current = state.current.version if state.current else 0
        if expected is not None and current != expected:
            raise LedgerConflict(
                f"{_named(current)} of {workspace.model} is in service, not {_named(expected)}: nothing was changed. "
                f"`ror history {workspace.model}` says who put it in service; then decide again."
            )
        if current == version and (not served.accepts or state.current == served):
            since = second(state.since or "")
            raise InvalidRequest("version", [f"v{version} is in service already, since {since} UTC"])
        if gone := pruned(ledger, state, version):
            raise InvalidRequest("version", [gone])
        return Promoted(served, _kind(state, manifest), current or None)

    if accept_environment:
        try:
            registry.load(workspace.model, served, fresh=True)
        except EnvironmentMismatch as error:
            served = replace(served, accepts=error.differences)
    body(ledger.head().state)  # what is refused anyway is not loaded first
    registry.load(workspace.model, served, fresh=True)
    return _append(workspace, body, reason=reason, actor=actor, run=run)


def _on_disk(workspace: Workspace) -> dict[str, Path]:
    """Where each batch is, by the name that it is decided on under."""
    return delivered(workspace.root, workspace.spec, workspace.state().batches)


def accept(workspace: Workspace, batch: str, *, reason: str, actor: str) -> Event:
    """Accept the changed content of a batch as the new normal, which the next version learns; or, where labels of it
    wait because they are far from all others, those.

    A batch that was set aside for its content is decided on by the next run. Raises InvalidRequest for a batch that is
    not known, is broken, is kept out of training, was accepted already, or that the version in service was trained on.
    """
    here, trained = _on_disk(workspace), _trained_on(workspace, batch)
    far = _has_far_labels(workspace, here.get(batch), batch)

    def body(state: State) -> Accepted:
        sha256 = _known(workspace, state, here, batch)
        if far and batch not in {*state.trusted, *state.blocked}:
            return Accepted(batch, sha256, labels=True)
        if batch in state.accepted:
            raise InvalidRequest(
                "batch", [f"{batch} is accepted already; the next version that is trained on it learns it"]
            )
        if batch in state.quarantined:
            raise InvalidRequest(
                "batch", [f"labels of {batch} are kept out of training: first {_command('release', workspace, batch)}"]
            )
        if state.blocked.get(batch) == sha256 and batch not in state.changed:
            raise InvalidRequest(
                "batch", [f"{batch} is broken: no version can predict on it. Repair it and deliver it again"]
            )
        if state.current and state.current.version in trained:
            raise InvalidRequest(
                "batch", [f"v{state.current.version}, in service, was trained on {batch}: nothing to accept"]
            )
        return Accepted(batch, sha256)

    return _append(workspace, body, reason=reason, actor=actor)


def _has_far_labels(workspace: Workspace, path: Path | None, batch: str) -> bool:
    """Whether labels of a batch wait for a word because they are far from all others."""
    state, spec = workspace.state(), workspace.spec
    if path is None or spec.task != "regression":
        return False
    from tasks.core.data.labels import Labels  # loads Arrow, which no other word of a person needs

    batches = find_batches(workspace.root, spec, state.batches, state.order)
    labels, _ = Labels.usable(
        workspace.root,
        spec,
        label_files(workspace.root, spec, state.order),
        owners_of(batches, (), state.batches, state.quarantined),
        trusted=state.trusted,
    )
    try:
        return labels.of(batch_at(workspace.root, path, batch)).far > 0
    except DataError:
        return False  # what is wrong with them, the next run says


def quarantine(workspace: Workspace, batch: str, *, reason: str, actor: str) -> Event:
    """Keep the labels of a batch out of training, and out of what counts as usual, until it is released.

    Versions that were trained on it stay as they are; the event names them under `trained`. Raises InvalidRequest for a
    batch that is not known or is in quarantine already.
    """
    here, trained = _on_disk(workspace), _trained_on(workspace, batch)

    def body(state: State) -> Quarantined:
        _known(workspace, state, here, batch)
        if batch in state.quarantined:
            raise InvalidRequest(
                "batch", [f"{batch} is in quarantine already: {_command('release', workspace, batch)} ends it"]
            )
        return Quarantined(batch, tuple(trained), _learned(state, batch, trained))

    return _append(workspace, body, reason=reason, actor=actor)


def release(workspace: Workspace, batch: str, *, reason: str, actor: str) -> Event:
    """Take back a quarantine or a suspicion: the labels of this batch may be trained on again.

    What was measured on them before stays forgotten. Raises InvalidRequest when the batch is neither.
    """
    trained = _trained_on(workspace, batch)

    def body(state: State) -> Cleared:
        held = [*state.quarantined, *([state.suspect] if state.suspect else [])]
        if batch not in held:
            raise InvalidRequest(
                "batch", [f"{batch} is neither in quarantine nor suspect. Those that are: {_list(held)}"]
            )
        return Cleared(batch, batch in state.quarantined and _learned(state, batch, trained))

    return _append(workspace, body, reason=reason, actor=actor)


def snooze(workspace: Workspace, columns: Sequence[str], until: str, *, reason: str, actor: str) -> Event:
    """Expect drift of these columns in data up to a day, `2026-12-31`; what was said of them before is replaced.

    Columns are features of the version in service, `prediction` or the target's name; one text may hold several,
    separated by commas. `now` instead of a day ends their snooze. Raises InvalidRequest for columns that are not known
    (or not snoozed, when it is to end), and for an invalid or past date.
    """
    last = _last_day(until)

    def body(state: State) -> Snoozed:
        if last is None:
            known = [name for snooze in state.snoozed for name in snooze.columns]
            return Snoozed(_chosen(columns, known, "is not snoozed", "those that are"), None)
        if state.current is None:
            raise InvalidRequest(
                "columns", ["no version is in service yet: there is nothing that data could drift from"]
            )
        features = workspace.registry.contract(workspace.model, state.current).names
        known = [*features, PREDICTION, workspace.spec.target]
        chosen = _chosen(columns, known, f"is not a column of {_named(state.current.version)}", "there are")
        return Snoozed(chosen, last.isoformat())

    return _append(workspace, body, reason=reason, actor=actor)


def check_words(reason: str, actor: str) -> None:
    """Raises InvalidRequest when either is empty."""
    for name, value, kept in (
        ("reason", reason, "the history keeps why"),
        ("actor", actor, "the history keeps who"),
    ):
        if not value.strip():
            raise InvalidRequest(name, [f"must not be empty: {kept}"])


# --- parts ---------------------------------------------------------------------------------------------------


def _append(
    workspace: Workspace, body: Callable[[State], Body], *, reason: str, actor: str, run: str = BY_HAND
) -> Event:
    """One event after the newest one; `body` checks every precondition on that state, and again after a lost race."""
    check_words(reason, actor)
    while True:
        head = workspace.ledger.head()
        content = body(head.state)
        try:
            return workspace.ledger.append(head, content, run=run, key="", actor=actor, reason=reason)
        except LedgerConflict:
            continue


def _kind(state: State, manifest: Manifest) -> str:
    version = manifest.version
    if state.current and version == state.current.version:
        return ACCEPTED
    if version in [served.version for served in state.waiting]:
        return APPROVED
    if version in state.barred:
        return CLEARED
    if state.current and version < state.current.version:
        return ROLLED_BACK
    return CHOSEN if manifest.gate.verdict is Verdict.PASS else OVERRIDDEN


def _last_day(until: str) -> date | None:
    """None for `now`. Raises InvalidRequest for an invalid date, or a past one."""
    if until == NOW:
        return None
    example = f"use YYYY-MM-DD, or `{NOW}` to end a snooze"
    try:
        last = date.fromisoformat(until) if re.fullmatch(r"\d{4}-\d{2}-\d{2}", until) else None
    except ValueError:
        last = None
    if last is None:
        raise InvalidRequest("until", [f"invalid date {until!r}: {example}"])
    today = datetime.now(UTC).date()
    if last < today:
        raise InvalidRequest("until", [f"{until} is in the past (today is {today}, UTC): {example}"])
    return last


def _chosen(words: Sequence[str], known: Sequence[str], wrong: str, others: str) -> tuple[str, ...]:
    """The columns that were asked for, each once. Raises InvalidRequest naming every one that is not known."""
    names: list[str] = []
    for word in words:
        names += [word] if word in known else [part.strip() for part in word.split(",") if part.strip()]
    if not names:
        raise InvalidRequest("columns", ["name at least one column; snoozing all columns is not supported"])
    problems = []
    for name in dict.fromkeys(name for name in names if name not in known):
        close = difflib.get_close_matches(name, known, n=3)
        shown = f"close: {_list(close)}" if close else f"{others}: {_list(list(dict.fromkeys(known)))}"
        problems.append(f"{name!r} {wrong}; {shown}")
    if problems:
        raise InvalidRequest("columns", problems)
    return tuple(dict.fromkeys(names))


def _known(workspace: Workspace, state: State, here: Mapping[str, Path], batch: str) -> str:
    """Digest of a batch that was decided on or delivered. Raises InvalidRequest naming the newest ones."""
    if batch in state.batches:
        return state.batches[batch].sha256
    if batch in here:
        return fingerprint(here[batch])
    newest = in_order({*state.batches, *here}, state.order)[-5:]
    raise InvalidRequest("batch", [f"{workspace.model} has no batch {batch!r}. The newest: {_list(newest)}"])


def _trained_on(workspace: Workspace, batch: str) -> list[int]:
    """Versions whose training data include this batch."""
    registry, model = workspace.registry, workspace.model
    manifests = [registry.manifest(model, number)[0] for number in registry.versions(model)]
    return [record.version for record in manifests if batch in [file.batch for file in record.training]]


def _learned(state: State, batch: str, trained: list[int]) -> bool:
    """The batch counts in the data end of the last attempt to train."""
    attempt = state.attempt
    if attempt is None:
        return False
    return attempt.version in trained if attempt.version else batch in state.usable[: attempt.labelled]


def _named(version: int) -> str:
    return f"v{version}" if version else "no version"


def _list(names: list[str]) -> str:
    return ", ".join(names) or "none"


def _command(name: str, workspace: Workspace, batch: str) -> str:
    return f"`ror {name} {workspace.model} {batch} --reason '...'`"
