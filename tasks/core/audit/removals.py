"""What was removed on record, as an audit looks it up."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from tasks.core.ledger.events import Event
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
    replacement: str | None = None
    sha256: str | None = None
    """Of the replacement."""
    size: int | None = None

    @property
    def words(self) -> str:
        return f"removed by {self.actor} on {self.at[:10]}: {self.reason}"


def removals(events: Mapping[int, Event], model: str) -> dict[str, Removal]:
    """Every object of a model that a person removed on record, by path: reads the bodies of `pruned` and `erased`.

    What no such command removes, a manifest or an entry of the history say, is not excused by whoever wrote that it
    was; nor is a pipeline that another one took the place of.
    """
    found: dict[str, Removal] = {}
    for seq, event in events.items():
        common = (event.event, seq, event.actor, event.at, event.reason)
        body = event.body
        if event.event == "pruned":
            files = [path for path in _list(body.get("files")) if PAYLOAD.fullmatch(_name(path, model, "versions"))]
            found |= {path: Removal(*common) for path in files}
        elif event.event == "erased":
            gone = [path for path in _list(body.get("removed")) if _name(path, model, "versions", "runs")]
            found |= {path: Removal(*common) for path in gone if _erasable(path, model)}
            replaced = body.get("replaced")
            for path, record in (replaced if isinstance(replaced, dict) else {}).items():
                if isinstance(record, dict) and _erasable(path, model):
                    found[path] = Removal(*common, record.get("path"), record.get("sha256"), record.get("size"))
    return found


_ERASED = re.compile(r"(reference|probe)(-\w+)?\.parquet")


def _erasable(path: str, model: str) -> bool:
    return bool(_ERASED.fullmatch(_name(path, model, "versions")) or _name(path, model, "runs"))


def _name(path: str, model: str, *kinds: str) -> str:
    """The file's name; empty for what is not below these folders of the model."""
    parts = path.split("/")
    return parts[-1] if len(parts) == 4 and parts[0] == model and parts[1] in kinds else ""


def _list(value: Any) -> list[str]:
    return [item for item in value if isinstance(item, str)] if isinstance(value, list) else []


def erased_rows(events: Mapping[int, Event]) -> dict[str, str]:
    """Batches whose rows a person erased some of, each with who, when and why."""
    found = {}
    for seq, event in events.items():
        batches = event.body.get("batches") if event.event == "erased" else None
        for batch in batches if isinstance(batches, dict) else ():
            found[batch] = f"rows of it were erased by {event.actor} on {event.at[:10]} (entry {seq}): {event.reason}"
    return found


def now_at(path: str, record: FileRecord, removed: Mapping[str, Removal]) -> tuple[str, FileRecord]:
    """Where a file of a version is now, and its record there: another object where rows were erased from it."""
    seen = set()
    while path in removed and removed[path].replacement and path not in seen:
        seen.add(path)
        item = removed[path]
        path, record = str(item.replacement), FileRecord(str(item.sha256), int(item.size or 0))
    return path, record
