"""What was removed on record, as an audit looks it up."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass

from tasks.core import layout
from tasks.core.audit.entries import content
from tasks.core.ledger.events import Erased, Event, Pruned
from tasks.core.ledger.state import Substitute
from tasks.core.versions.manifest import PAYLOAD, FileRecord


@dataclass(frozen=True, slots=True)
class Removal:
    """An object that a person removed, on record."""

    kind: str
    """`pruned`, or `erased` where another object took its place."""
    seq: int
    actor: str
    at: str
    reason: str
    replacement: Substitute | None = None

    @property
    def words(self) -> str:
        """Who removed it, when and why."""
        return f"removed by {self.actor} on {self.at[:10]}: {self.reason}"


def removals(events: Mapping[int, Event], model: str) -> dict[str, Removal]:
    """Every object of a model that a person removed on record, by path: reads the bodies of `pruned` and `erased`.

    What no such command removes, for example a manifest or an entry of the history, is not excused by an event that
    says so; nor is a pipeline that was replaced by another one.
    """
    found: dict[str, Removal] = {}
    for seq, event in events.items():
        common = (event.event, seq, event.actor, event.at, event.reason)
        match body := content(event):
            case Pruned():
                found |= {
                    path: Removal(*common)
                    for path in body.files
                    if PAYLOAD.fullmatch(_name(path, model, layout.VERSIONS))
                }
            case Erased():
                found |= {path: Removal(*common) for path in body.removed if _erasable(path, model)}
                found |= {path: Removal(*common, new) for path, new in body.replaced.items() if _erasable(path, model)}
    return found


_ERASED = re.compile(r"(reference|probe)(-\w+)?\.parquet")


def _erasable(path: str, model: str) -> bool:
    return bool(_ERASED.fullmatch(_name(path, model, layout.VERSIONS)) or _name(path, model, layout.RUNS))


def _name(path: str, model: str, kind: str) -> str:
    """The name of a file of a version or run of the model; empty for any other path."""
    found = layout.parse(path)
    ours = (found.model, found.kind) == (model, kind) and found.number is not None and "/" not in found.name
    return found.name if ours else ""


def erased_rows(events: Mapping[int, Event]) -> dict[str, str]:
    """Batches whose rows a person erased some of, each with who, when and why."""
    found: dict[str, str] = {}
    for seq, event in events.items():
        if isinstance(body := content(event), Erased):
            by = f"rows of it were erased by {event.actor} on {event.at[:10]} (entry {seq}): {event.reason}"
            found |= dict.fromkeys(body.batches, by)
    return found


def now_at(path: str, record: FileRecord, removed: Mapping[str, Removal]) -> tuple[str, FileRecord]:
    """Where a file of a version is now, and its record there: another object where rows were erased from it."""
    seen = set()
    while path in removed and (new := removed[path].replacement) and path not in seen:
        seen.add(path)
        path, record = new.path, FileRecord(new.sha256, new.size)
    return path, record
