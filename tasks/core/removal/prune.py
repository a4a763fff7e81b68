"""Pruning: the payloads of old versions go, on record. What was decided, why, and on which data, is never removed.

Of a version that is pruned, its pipeline, reference, known answers and calibration are removed. Its manifest with the
signature, its claim, its input schema and its evaluation are kept: they are small, and they explain the past.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, date, datetime, timedelta

from tasks.core.errors import LedgerConflict, SpecError
from tasks.core.ledger.state import State
from tasks.core.overrides import BY_HAND, check_words
from tasks.core.store import ObjectInfo
from tasks.core.versions.manifest import PAYLOAD, Manifest
from tasks.core.workspace import Workspace

_DAYS = {"d": 1, "w": 7, "y": 365}


@dataclass(frozen=True, slots=True)
class Payload:
    """What a prune removes of one version."""

    version: int
    created: str
    files: tuple[ObjectInfo, ...]

    @property
    def size(self) -> int:
        """Bytes."""
        return sum(file.size for file in self.files)


@dataclass(frozen=True, slots=True)
class Pruned:
    """What a prune removed, or would remove."""

    versions: tuple[Payload, ...]
    """Oldest first."""
    unfinished: tuple[Payload, ...]
    """What an earlier prune has on record and did not come to remove: it was killed."""
    spared: tuple[tuple[int, str], ...]
    """Versions that the rule would have removed and that are kept, each with the reason."""
    seq: int | None = None
    """Number of the ledger's event; None when there was nothing new to remove."""

    @property
    def size(self) -> int:
        """Bytes."""
        return sum(payload.size for payload in (*self.versions, *self.unfinished))


def prune(
    workspace: Workspace,
    *,
    keep: int | None = None,
    before: datetime | None = None,
    reason: str,
    actor: str,
    dry_run: bool = False,
) -> Pruned:
    """Remove the payloads of all but the newest `keep` versions, or of those made `before` a time.

    Never of the version in service, of the one before it, of those that wait, are barred, or are not known to the
    history yet (their run is at work, or will be repeated and adopt them). The event comes first, computed on the state
    that it is appended to, and removal after it: a prune that was killed in between is finished by the next one, and a
    promotion either comes first and is respected, or comes later and is refused. Raises SpecError for words that are
    missing and unless exactly one rule is given, StoreError when something cannot be removed.
    """
    check_words(reason, actor)
    if (keep is None) == (before is None):
        raise SpecError("prune", ["give one rule: --keep N, or --older-than 90d"])
    registry, model = workspace.registry, workspace.model
    made = [registry.manifest(model, number)[0] for number in registry.versions(model)]
    while True:
        head = workspace.ledger.head()
        plan = _plan(workspace, head.state, made, keep, before)
        if dry_run:
            return plan
        if not plan.versions:
            break
        files = [file.path for payload in plan.versions for file in payload.files]
        body = {"versions": [payload.version for payload in plan.versions], "files": files, "bytes": plan.size}
        try:
            event = workspace.ledger.append(head, "pruned", run=BY_HAND, key="", actor=actor, reason=reason, body=body)
        except LedgerConflict:
            continue
        plan = Pruned(plan.versions, plan.unfinished, plan.spared, event.seq)
        break
    for payload in (*plan.versions, *plan.unfinished):
        for file in payload.files:
            registry.store.remove(file.path)
    return plan


def protected(state: State) -> dict[int, str]:
    """Versions that no prune touches, each with the reason. Those that served earlier than the last two are none."""
    found = {served.version: "it waits for approval" for served in state.waiting}
    found |= dict.fromkeys(state.barred, "it is barred: a person may clear it")
    if state.predecessor:
        found[state.predecessor.version] = "it is the one before the version in service"
    if state.current:
        found[state.current.version] = "it is in service"
    return found


def oldest_kept(age: str, now: datetime | None = None) -> datetime:
    """The time that `90d`, `12w`, `2y` (years of 365 days) ago was, or that a day, `2026-01-31`, begins at; UTC.

    Raises SpecError for anything else, and for a day that is yet to come.
    """
    now, example = now or datetime.now(UTC), "write 90d, 12w, 2y, or a day: 2026-01-31"
    if found := re.fullmatch(r"(\d{1,5})([dwy])", age):
        days = int(found[1]) * _DAYS[found[2]]
        if days >= now.toordinal():
            raise SpecError("--older-than", [f"{age!r} is before all time: {example}"])
        return now - timedelta(days=days)
    try:
        day = date.fromisoformat(age) if re.fullmatch(r"\d{4}-\d{2}-\d{2}", age) else None
    except ValueError:
        day = None
    if day is None:
        raise SpecError("--older-than", [f"{age!r} is no age: {example}"])
    begins = datetime(day.year, day.month, day.day, tzinfo=UTC)
    if begins > now:
        raise SpecError("--older-than", [f"{age} is yet to come: {example}"])
    return begins


def _plan(
    workspace: Workspace, state: State, made: Sequence[Manifest], keep: int | None, before: datetime | None
) -> Pruned:
    files = _files(workspace)
    there = [record for record in made if record.version not in state.pruned]
    if keep is not None:
        chosen = there[: max(0, len(there) - keep)]
    else:
        assert before is not None
        chosen = [record for record in there if datetime.fromisoformat(record.created) < before]
    safe = protected(state) | {
        record.version: "no decision about it is recorded yet" for record in chosen if record.version > state.newest
    }
    removed = [record for record in chosen if record.version not in safe]
    return Pruned(
        versions=tuple(Payload(r.version, r.created, files.get(r.version, ())) for r in removed),
        unfinished=tuple(
            Payload(r.version, r.created, files[r.version])
            for r in made
            if r.version in state.pruned and files.get(r.version)
        ),
        spared=tuple((record.version, safe[record.version]) for record in chosen if record.version in safe),
    )


def _files(workspace: Workspace) -> dict[int, tuple[ObjectInfo, ...]]:
    """What of each version a prune would remove."""
    found: dict[int, tuple[ObjectInfo, ...]] = {}
    for item in workspace.registry.store.objects(f"{workspace.model}/versions"):
        *_, folder, name = item.path.split("/")
        if folder.isdigit() and PAYLOAD.fullmatch(name):
            found[int(folder)] = (*found.get(int(folder), ()), item)
    return found
