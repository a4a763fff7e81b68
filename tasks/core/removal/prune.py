"""Pruning: the payloads of old versions go, on record. What was decided, why, and on which data, is never removed.

Of a version that is pruned, its pipeline, reference, known answers and calibration are removed. Its manifest with the
signature, its claim, its input schema and its evaluation are kept: they are small, and they explain the past. Of runs,
Evidently's pages are removed once they are older than the model's file keeps them: `[reports] keep`.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass, replace
from datetime import UTC, date, datetime, timedelta

from tasks.core import layout
from tasks.core.errors import InvalidRequest, LedgerConflict
from tasks.core.ledger import events
from tasks.core.ledger.state import State
from tasks.core.overrides import BY_HAND, check_words
from tasks.core.spec import AGE
from tasks.core.store import ObjectInfo
from tasks.core.text import days_of
from tasks.core.versions.manifest import PAYLOAD, Manifest
from tasks.core.workspace import Workspace


@dataclass(frozen=True, slots=True)
class Removable:
    """Files that belong together."""

    files: tuple[ObjectInfo, ...]

    @property
    def size(self) -> int:
        """Bytes."""
        return sum(file.size for file in self.files)


@dataclass(frozen=True, slots=True)
class Payload(Removable):
    """What a prune removes of one version."""

    version: int
    created: str


@dataclass(frozen=True, slots=True)
class Pages(Removable):
    """What a prune removes of one run: Evidently's pages."""

    seq: int
    """Number of the run's decision in the history."""
    at: str


@dataclass(frozen=True, slots=True)
class PruneResult:
    """What a prune removed, or would remove."""

    versions: tuple[Payload, ...]
    """Oldest first."""
    unfinished: tuple[Payload, ...]
    """What an earlier prune has on record and did not come to remove: it was killed."""
    spared: tuple[tuple[int, str], ...]
    """Versions that the rule would have removed and that are kept, each with the reason."""
    pages: tuple[Pages, ...] = ()
    """Of runs, oldest first."""
    seq: int | None = None
    """Number of the ledger's event; None when there was nothing new to remove."""

    @property
    def size(self) -> int:
        """Bytes."""
        return sum(item.size for item in self.found)

    @property
    def found(self) -> tuple[Removable, ...]:
        """All that goes, or would go."""
        return (*self.versions, *self.unfinished, *self.pages)


def prune(
    workspace: Workspace,
    *,
    keep: int | None = None,
    older_than: datetime | None = None,
    reason: str,
    actor: str,
    dry_run: bool = False,
) -> PruneResult:
    """Remove the payloads of all but the newest `keep` versions, or of those that were made before the time
    `older_than`; and the pages of runs that are older than the model's file keeps them.

    Never of the version in service, of the one before it, of those that wait, are barred, or are not known to the
    history yet (their run is in progress, or will be repeated and adopt them). The event comes first, computed on the
    state that it is appended to, and removal after it: a prune that was killed in between is finished by the next one,
    and a promotion either comes first and is respected, or comes later and is refused. Raises InvalidRequest for an
    empty reason and unless exactly one rule is given, StoreError when something cannot be removed.
    """
    check_words(reason, actor)
    if (keep is None) == (older_than is None):
        raise InvalidRequest(
            ("keep", "older_than"), ["give exactly one of them: a number of versions, or an age such as 90d"]
        )
    registry, model = workspace.registry, workspace.model
    made = [registry.manifest(model, number)[0] for number in registry.versions(model)]
    while True:
        head = workspace.ledger.head()
        plan = _plan(workspace, head.state, made, keep, older_than)
        if dry_run:
            return plan
        new: tuple[Removable, ...] = (*plan.versions, *plan.pages)
        if not new:
            break
        body = events.Pruned(
            versions=tuple(payload.version for payload in plan.versions),
            files=tuple(file.path for item in new for file in item.files),
            bytes=plan.size,
        )
        try:
            event = workspace.ledger.append(head, body, run=BY_HAND, key="", actor=actor, reason=reason)
        except LedgerConflict:
            continue
        plan = replace(plan, seq=event.seq)
        break
    for item in plan.found:
        for file in item.files:
            registry.store.remove(file.path)
    return plan


def protected(state: State) -> dict[int, str]:
    """Versions that no prune touches, each with the reason. Versions that served earlier are not among them."""
    found = {served.version: "it waits for approval" for served in state.waiting}
    found |= dict.fromkeys(state.barred, "it is barred: a person may clear it")
    if state.predecessor:
        found[state.predecessor.version] = "it was in service before the current version"
    if state.current:
        found[state.current.version] = "it is in service"
    return found


def oldest_kept(older_than: str, now: datetime | None = None) -> datetime:
    """The time that `90d`, `12w`, `2y` (years of 365 days) ago was, or that a day, `2026-01-31`, begins at; UTC.

    Raises InvalidRequest for anything else, and for a date in the future.
    """
    now, example = now or datetime.now(UTC), "use 90d, 12w, 2y or a date (YYYY-MM-DD)"
    if re.fullmatch(AGE, older_than):
        days = days_of(older_than)
        if days >= now.toordinal():
            raise InvalidRequest("older_than", [f"{older_than!r} goes back too far: {example}"])
        return now - timedelta(days=days)
    try:
        day = date.fromisoformat(older_than) if re.fullmatch(r"\d{4}-\d{2}-\d{2}", older_than) else None
    except ValueError:
        day = None
    if day is None:
        raise InvalidRequest("older_than", [f"invalid age {older_than!r}: {example}"])
    begins = datetime(day.year, day.month, day.day, tzinfo=UTC)
    if begins > now:
        raise InvalidRequest("older_than", [f"{older_than} is in the future: {example}"])
    return begins


def _plan(
    workspace: Workspace, state: State, made: Sequence[Manifest], keep: int | None, older_than: datetime | None
) -> PruneResult:
    files = _files(workspace)
    there = [record for record in made if record.version not in state.pruned]
    if keep is not None:
        chosen = there[: max(0, len(there) - keep)]
    else:
        assert older_than is not None
        chosen = [record for record in there if datetime.fromisoformat(record.created) < older_than]
    safe = protected(state) | {
        record.version: "no decision about it is recorded yet" for record in chosen if record.version > state.newest
    }
    payloads = {
        record.version: Payload(files.get(record.version, ()), record.version, record.created) for record in made
    }
    return PruneResult(
        versions=tuple(payloads[record.version] for record in chosen if record.version not in safe),
        unfinished=tuple(payload for number, payload in payloads.items() if number in state.pruned and payload.files),
        spared=tuple((record.version, safe[record.version]) for record in chosen if record.version in safe),
        pages=_pages(workspace, state),
    )


def _pages(workspace: Workspace, state: State) -> tuple[Pages, ...]:
    """Evidently's pages that are older than the model's file keeps them. A prune that was killed leaves some of them,
    which the next one finds just so. What takes the place of an object from which rows were erased stays."""
    found: dict[int, list[ObjectInfo]] = {}
    for item in workspace.registry.store.objects(layout.folder(workspace.model, layout.RUNS)):
        path = layout.parse(item.path)
        if path.number and layout.is_page(path.name) and not path.is_replacement and item.path not in state.replaced:
            found.setdefault(path.number, []).append(item)
    oldest = oldest_kept(workspace.spec.reports.keep)
    decided = {seq: workspace.ledger.event(seq).at for seq in sorted(found)}
    return tuple(
        Pages(tuple(found[seq]), seq, at) for seq, at in decided.items() if datetime.fromisoformat(at) < oldest
    )


def _files(workspace: Workspace) -> dict[int, tuple[ObjectInfo, ...]]:
    """What of each version a prune would remove."""
    found: dict[int, tuple[ObjectInfo, ...]] = {}
    for item in workspace.registry.store.objects(layout.folder(workspace.model, layout.VERSIONS)):
        path = layout.parse(item.path)
        if path.number is not None and PAYLOAD.fullmatch(path.name):
            found[path.number] = (*found.get(path.number, ()), item)
    return found
