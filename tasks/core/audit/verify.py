"""Check everything that the store keeps of a model: objects, manifests, history, runs. Nothing is changed.

All that is wrong is listed at once; damage never raises. Import-light: scikit-learn comes along only for `loads`.
"""

from __future__ import annotations

import os
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from tasks.core import layout
from tasks.core.audit import entries, removals
from tasks.core.audit.entries import AuditFinding, LedgerReading
from tasks.core.audit.objects import Stored
from tasks.core.audit.report import Loads, Report
from tasks.core.audit.signatures import signatures
from tasks.core.errors import InvalidRequest, RorError
from tasks.core.ledger.events import named_manifests
from tasks.core.store import ObjectInfo, Store
from tasks.core.types import Served
from tasks.core.versions.own_code import brings_along
from tasks.core.versions.registry import Registry
from tasks.core.workspace import Project, Workspace

LEFTOVER = re.compile(r"#\d+$")
"""How names end of what a killed write leaves on a local folder; obstore does not list them."""
FOREIGN = "unknown object; ignored"
LEAST_DIGITS = 12


@dataclass(frozen=True, slots=True)
class NotedEntry:
    """An entry of the history that a person noted: it must still be there."""

    seq: int
    sha256: str
    """The digest of its bytes, or the first digits of it."""


def audit(registry: Registry, model: str, *, expected: NotedEntry | None = None, load: bool = False) -> Report:
    """Check every object of a model against its record, and the records against each other.

    Raises StoreError when the store cannot be listed, nothing for what is damaged.
    """
    store = registry.store
    listed = {item.path: item for item in store.objects(model)}
    history = entries.read(store, model, listed)
    check = Stored(store, model, listed, history, removals.removals(history.events, model))
    remarks = [
        *history.remarks,
        *_expectation(model, history, expected),
        *check.versions(),
        *check.runs(),
        *check.removed(),
        *_strays(store, model, listed),
    ]
    signed, more = signatures(registry, model, check.complete, history)
    remarks += more
    loads = None
    if load:
        loads, more = _load_all(registry, model, check.complete, history)
        remarks += more
    return Report(
        model=model,
        objects=len(listed),
        bytes=history.bytes + check.compared,
        pages=check.pages,
        versions=len(check.complete),
        events=len(history.events),
        head=history.head,
        remarks=_merged(remarks),
        signed=signed,
        loads=loads,
    )


def _merged(remarks: Sequence[AuditFinding]) -> tuple[AuditFinding, ...]:
    """One remark for each object, damage first."""
    texts: dict[tuple[bool, str], list[str]] = {}
    for remark in remarks:
        texts.setdefault((not remark.damage, remark.path), []).append(remark.text)
    return tuple(
        AuditFinding(path, "; ".join(found), not harmless) for (harmless, path), found in sorted(texts.items())
    )


def workspaces(root: str | Path | None, model: str | None) -> list[Workspace]:
    """This model, or all: those with a file, and those that are only in the store.

    A model's file need not be valid, nor be there: what the store keeps of it can be checked all the same. Raises
    InvalidRequest where there is none.
    """
    project = Project.open(root)
    known = project.known
    if model is None:
        return [project.workspace(name) for name in known or project.require_models()]
    if model not in known:
        raise InvalidRequest(
            "model", [f"neither a file nor the store knows {model!r}. Models: {', '.join(known) or 'none'}"]
        )
    return [project.workspace(model)]


def registry_of(workspace: Workspace, *, load: bool) -> Registry:
    """The model's registry. Only to load from it the model's own file is needed, which says what may be loaded."""
    return workspace.registry if load else workspace.project.registry


def expectation(text: str) -> NotedEntry:
    """`42:ab12...` as a value. Raises InvalidRequest."""
    number, _, sha256 = text.lower().partition(":")
    if not number.isdecimal() or int(number) == 0 or not re.fullmatch(rf"[0-9a-f]{{{LEAST_DIGITS},64}}", sha256):
        raise InvalidRequest(
            "expect_head",
            [f"{text!r} is not NUMBER:SHA256; `ror verify M` ends with it. At least {LEAST_DIGITS} digits of it"],
        )
    return NotedEntry(int(number), sha256)


def _expectation(model: str, history: LedgerReading, expected: NotedEntry | None) -> Iterator[AuditFinding]:
    if expected is None:
        return
    path = layout.event_path(model, expected.seq)
    found = history.digests.get(expected.seq)
    if found is None:
        ends = f"the history ends at entry {history.last}" if expected.seq > history.last else "it is missing"
        yield AuditFinding(path, f"was there with sha256 {expected.sha256[:LEAST_DIGITS]}, and {ends}: it was cut off")
    elif not found.startswith(expected.sha256):
        shown = f"{found[:LEAST_DIGITS]}, not {expected.sha256[:LEAST_DIGITS]} as was noted"
        yield AuditFinding(path, f"has sha256 {shown}: the history was rewritten, or the note is of another model")


# --- strays --------------------------------------------------------------------------------------------------


def _strays(store: Store, model: str, listed: Mapping[str, ObjectInfo]) -> Iterator[AuditFinding]:
    """Unknown objects, entries moved aside, and leftovers of killed writes, which only the folder itself shows."""
    for path in listed:
        parsed = layout.parse(path)
        if parsed.is_aside:
            yield AuditFinding(path, "a torn entry that `ror verify --repair` moved aside", damage=False)
        elif parsed.number is None:
            yield AuditFinding(path, FOREIGN, damage=False)
    if store.folder is None:
        return
    for folder, _, names in os.walk(store.folder / model):
        for name in names:
            path = os.path.relpath(os.path.join(folder, name), store.folder).replace(os.sep, "/")  # noqa: PTH118
            if path in listed:
                continue
            left = "was left by a write that was killed: harmless; delete it when no run is at work"
            yield AuditFinding(path, left if LEFTOVER.search(name) else FOREIGN, damage=False)


# --- loading -------------------------------------------------------------------------------------------------


def _load_all(
    registry: Registry, model: str, versions: Sequence[int], history: LedgerReading
) -> tuple[tuple[Loads, ...], list[AuditFinding]]:
    """Try every version as a run would: environment, bytes, known answers. Only the one in service must load."""
    named = named_manifests(history.events)
    current = history.state.current
    found, remarks = [], []
    for version in versions:
        recorded = next(iter(named.get(version, {})), None)
        try:
            served = history.state.as_known(Served(version, recorded, 0)) if recorded else version
            loaded = registry.load(model, served, fresh=True)
            found.append(Loads(version, True))
            if loaded.from_record:
                text = brings_along(version, loaded.from_record)
                remarks.append(AuditFinding(layout.version_folder(model, version), text, damage=False))
            continue
        except RorError as error:
            found.append(Loads(version, False, str(error)))
        except Exception as error:  # noqa: BLE001 - a record that was altered can fail anywhere
            found.append(Loads(version, False, f"{type(error).__name__}: {error}"))
        if current is not None and current.version == version:
            text = f"v{version} is in service and does not load here: {found[-1].why_not}"
            remarks.append(AuditFinding(layout.version_folder(model, version), text))
    return tuple(found), remarks
