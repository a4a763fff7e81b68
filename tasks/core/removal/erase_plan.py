"""What an erasure will do: every place that holds the key, what will replace it, and what the history will say of it.

Searching changes nothing. `tasks.core.removal.erase` has the order in which a plan is carried out.
"""

from __future__ import annotations

import contextlib
import hashlib
import os
import re
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from tasks.core import layout
from tasks.core.data.files import (
    batch_at,
    find,
    find_batches,
    fingerprint,
    hidden_beside,
    is_text_file,
    label_digest,
    label_files,
    named_batches,
    parts,
)
from tasks.core.data.labels import Labels
from tasks.core.errors import AlreadyExists, DataError, UnreadableData
from tasks.core.ledger import events
from tasks.core.ledger.state import State, Substitute
from tasks.core.predictions import key_names, made_from
from tasks.core.records import digest
from tasks.core.removal.erase_files import (
    ERASED,
    KeyMatcher,
    KeyRows,
    check_rewritten,
    is_table,
    key_rows,
    whole_word,
    write_without,
)
from tasks.core.removal.erase_store import KeyBatch, Place, StoreMatches, search
from tasks.core.run.work import owners_of, question_key
from tasks.core.spec import CsvSpec, ModelSpec
from tasks.core.types import Batch, BatchRecord, Request
from tasks.core.workspace import Workspace

LEFTOVER = re.compile(r"\..+\.[0-9a-f]{32}(\.\w+)?")
"""Names of files that a write which was killed leaves behind."""
TOO_SHORT = "texts: not searched, because the key is too short to be told from other numbers or words"
TEXTS = (".html", ".json", ".txt", ".md", ".log")


@dataclass(frozen=True, slots=True)
class Erasure:
    """What was erased, or would be."""

    places: tuple[Place, ...]
    removed: tuple[str, ...]
    """Files and objects that are removed whole: caches that were computed from the rows, and what kills left over."""
    stays: tuple[str, ...]
    """What holds the key and cannot be erased, a sentence each."""
    unknown: tuple[str, ...]
    """What could not be searched, a sentence each."""
    learned: tuple[int, ...]
    """Versions whose pipeline was trained on batches with rows of the key, and may remember them."""
    seq: int | None = None
    """Number of the ledger's event; None when an earlier one was merely completed."""


@dataclass
class _Table:
    """A data file with rows of the key."""

    path: Path
    what: str
    columns: tuple[str, ...]
    written: CsvSpec
    found: KeyRows


@dataclass
class Plan:
    """All that an erasure changes, in the order in which it was found; `prepare`, record `body`, then `carry_out`."""

    workspace: Workspace
    key: str
    words: KeyMatcher
    owners: tuple[Batch, ...] = ()
    """Batches in the order in which they own rows."""
    trusted: tuple[str, ...] = ()
    """Those all of whose labels count."""
    tables: list[_Table] = field(default_factory=list)
    texts: list[tuple[Path, int]] = field(default_factory=list)
    leftovers: list[tuple[Path, int]] = field(default_factory=list)
    """Removed whole: caches, and what killed writes left; with the rows of the key in it."""
    changed: dict[str, KeyBatch] = field(default_factory=dict)
    remains: StoreMatches = field(default_factory=StoreMatches)
    stays: list[str] = field(default_factory=list)
    unknown: list[str] = field(default_factory=list)
    prepared: dict[Path, Path] = field(default_factory=dict)
    """What will be swapped in, by the file that it replaces."""

    @property
    def places(self) -> list[Place]:
        """Everything that holds the key and will not any more."""
        tables = [Place(self.shown(t.path), t.what, len(t.found.rows)) for t in self.tables]
        texts = [Place(self.shown(path), "report", count, "words") for path, count in self.texts]
        left = [Place(self.shown(path), "left by a killed write", rows) for path, rows in self.leftovers if rows]
        return [*tables, *texts, *left, *self.remains.found]

    def shown(self, path: Path) -> str:
        """A path for people: relative to the root where it is below it."""
        root = self.workspace.root
        return path.relative_to(root).as_posix() if path.is_relative_to(root) else str(path)

    def unnamed(self, path: Path) -> str:
        """As the history may say it: a file may be called by the key."""
        return whole_word(self.key).sub(ERASED, self.shown(path))

    def result(self, seq: int | None) -> Erasure:
        """The plan for people; `seq` is the number of the event that records it, None where there is none."""
        replaced = {place.path for place in self.places}
        whole = sorted({*(self.shown(path) for path, _ in self.leftovers), *self.remains.removed} - replaced)
        note = (
            ()
            if self.words.pattern
            else ("texts: not searched, because the key is too short to tell from other numbers or words",)
        )
        return Erasure(
            places=tuple(self.places),
            removed=tuple(whole),
            stays=tuple(self.stays),
            unknown=(*self.unknown, *note),
            learned=tuple(self.remains.learned),
            seq=seq,
        )

    # --- carrying it out ---

    def prepare(self) -> None:
        """Write everything that will replace something, beside it."""
        store = self.workspace.registry.store
        for table in self.tables:
            if table.what.startswith("batch "):
                self._rewrite(table)
        for change in self.changed.values():
            change.sha256 = self.digest_of(self.workspace.root / change.batch.path)
        for table in self.tables:  # predictions name the digest of their batch
            if not table.what.startswith("batch "):
                self._rewrite(table)
        for path, _ in self.texts:
            self.prepared[path] = hidden_beside(path)
            self.prepared[path].write_bytes(self.words.erased(path.read_bytes()))
        for name, data in self.remains.replaced.items():
            with contextlib.suppress(AlreadyExists):  # named by its content: prepared by a run that was killed
                store.create(layout.replacement_path(name, data), data, durable=True)

    def _rewrite(self, table: _Table) -> None:
        about = {change.batch.sha256: change.sha256 for change in self.changed.values()}
        new = self.prepared[table.path] = hidden_beside(table.path)
        write_without(table.path, new, table.found.rows, table.written, about)
        if table.columns:
            left = table.found.total - len(table.found.rows)
            check_rewritten(new, table.columns, self.key, table.written, left)

    def digest_of(self, path: Path) -> str:
        """What `fingerprint` will say of a file or a folder once everything is swapped."""
        if path.is_dir():
            lines = "".join(f"{file.name}\0{self.digest_of(file)}\n" for file in parts(path))
            return hashlib.sha256(lines.encode()).hexdigest()
        return fingerprint(self.prepared.get(path.resolve(), path))

    def carry_out(self) -> None:
        """Swap, and remove: all of it may have been done before."""
        for path, new in self.prepared.items():
            folder = path.parent.stat()
            new.replace(path)
            os.utime(path.parent, ns=(folder.st_atime_ns, folder.st_mtime_ns))  # it is as settled as it was
        for path, _ in self.leftovers if self.places else ():
            path.unlink(missing_ok=True)
        for name in sorted(self.remains.removed):
            self.workspace.registry.store.remove(name)

    def clean_up(self) -> None:
        """Remove what was prepared and not swapped in."""
        for new in self.prepared.values():
            new.unlink(missing_ok=True)

    # --- the record ---

    def body(self, now: State) -> events.Erased:
        """The event for this state: what was changed, without the key."""
        workspace = self.workspace
        files = label_files(workspace.root, workspace.spec, now.order)
        before = label_digest(files)
        after = hashlib.sha256("".join(f"{p.name}\0{self.digest_of(p)}\n" for p in files).encode()).hexdigest()
        batches = find_batches(workspace.root, workspace.spec, now.batches, now.order)
        question = question_key(workspace, Request(), now, [b.sha256 for b in batches], before)
        decided = now.decided is not None and now.decided.key == question
        fresh = [self.digest_of(workspace.root / batch.path) for batch in batches]
        rows = [len(table.found.rows) for table in self.tables]
        return events.Erased(
            rows=sum(rows),
            files=tuple(self.unnamed(path) for path in self.prepared),
            batches={
                batch: self._record(change, base)
                for batch, change in self.changed.items()
                if (known := now.batches.get(batch)) and (base := self._base(change, known))
            },
            before={batch: change.batch.sha256 for batch, change in self.changed.items()},
            blocked={
                batch: change.sha256
                for batch, change in self.changed.items()
                if now.blocked.get(batch) == change.batch.sha256
            },
            label_files=after if now.label_files == before else None,
            key=question_key(workspace, Request(), now, fresh, after) if decided else None,
            replaced={
                path: Substitute(layout.replacement_path(path, data), digest(data), len(data))
                for path, data in self.remains.replaced.items()
            },
            removed=(*(self.unnamed(path) for path, _ in self.leftovers), *sorted(self.remains.removed)),
            versions=tuple(self.remains.learned),
        )

    def _base(self, change: KeyBatch, now: BatchRecord) -> BatchRecord | None:
        """What the history knew of the batch as it is on disk; None where somebody altered it, which stays an alarm.

        After an erasure that was killed before it swapped the file, that is the record before it.
        """
        if now.sha256 == change.batch.sha256:
            return now
        ledger = self.workspace.ledger
        if now.erased is None:
            return None
        before = ledger.event(now.erased).content_as(events.Erased).before
        if before.get(change.batch.id) == change.batch.sha256:
            return ledger.event(now.erased - 1).state_after.batches[change.batch.id]
        return None

    def _record(self, change: KeyBatch, base: BatchRecord) -> dict[str, Any]:
        """The fields of a batch's record that are others afterwards."""
        delivered = np.delete(np.arange(change.total + len(base.gone)), base.gone)
        fields: dict[str, Any] = {
            "sha256": change.sha256,
            "rows": change.total - len(change.rows),
            "origin": base.origin or base.sha256,
            "gone": sorted([*base.gone, *delivered[change.rows].tolist()]),
        }
        if change.labels and base.labels == change.labels.digest:
            left = change.labels.without(change.rows.tolist())
            fields |= {"labels": left.digest, "labelled_rows": left.known}
        return fields


# --- searching -----------------------------------------------------------------------------------------------


def plan_of(workspace: Workspace, key: str) -> Plan:
    """Everything that holds the key. Nothing is written. Raises StoreError."""
    spec, state = workspace.spec, workspace.state()
    batches = find_batches(workspace.root, spec, state.batches)
    owners = owners_of(batches, (), state.batches, state.quarantined)
    plan = Plan(workspace, key, KeyMatcher.of(key), owners, state.trusted)
    columns, seen = spec.key_columns[:1], set[Path]()
    for name, path in named_batches(find(workspace.root, spec.data.batches), state.batches):
        files = parts(path) if path.is_dir() else [path]
        found = [_table(plan, file.resolve(), f"batch {name}", columns, spec.data.csv) for file in files]
        seen |= {file.resolve() for file in files}
        _batch(plan, path, name, found)
    for path in find(workspace.root, spec.data.labels) if spec.data.labels else []:
        for file in parts(path) if path.is_dir() else [path]:
            _table(plan, file.resolve(), "labels", columns, spec.data.csv)
            seen.add(file.resolve())
    for path in sorted(workspace.data.rglob("*")):
        if path.is_file() and path.resolve() not in seen:
            seen.add(path.resolve())
            _other(plan, path.resolve())
    plan.remains = search(workspace, state, plan.words, [*plan.changed.values()])
    plan.stays += plan.remains.stays
    plan.unknown += plan.remains.unknown
    return plan


def _table(plan: Plan, path: Path, what: str, columns: tuple[str, ...], written: CsvSpec) -> KeyRows | None:
    """Note the rows of the key in one file; None where it has no key column or cannot be read."""
    shown = plan.shown(path)
    try:
        found = key_rows(path, columns, plan.key, written)
    except UnreadableData as error:
        if plan.words.count_in(path):
            plan.stays.append(f"{shown} holds the key's text and cannot be read: {error} Remove it by hand")
        else:
            plan.unknown.append(f"{shown}: {error}")
        return None
    if found is None:
        return None
    if len(found.rows):
        plan.tables.append(_Table(path, what, columns, written, found))
    for name, count in found.elsewhere:
        plan.stays.append(f"{shown}: column {name!r} names the key in {count:,} rows of others, which were left")
    return found


def _batch(plan: Plan, path: Path, name: str, found: list[KeyRows | None]) -> None:
    """A batch as a whole: its row numbers run through the files of a folder."""
    if not any(part is not None and len(part.rows) for part in found):
        return
    rows, start = [], 0
    for part in found:
        if part is not None:
            rows.append(part.rows + start)
            start += part.total
    root, spec = plan.workspace.root, plan.workspace.spec
    batch = batch_at(root, path, name)
    try:
        labels = Labels(root, spec, batches=plan.owners, trusted=plan.trusted).of(batch)
    except DataError:
        labels = None
    plan.changed[batch.id] = KeyBatch(batch, np.concatenate(rows), start, labels)


def _other(plan: Plan, path: Path) -> None:
    """A file below the model's data that is neither batch nor labels: predictions, reports, exports, caches."""
    spec, below = plan.workspace.spec, path.relative_to(plan.workspace.data.resolve())
    if LEFTOVER.fullmatch(path.name):
        plan.leftovers.append((path, _left_over(plan, path)))
    elif below.parts[0] == "backtest" and plan.changed:
        plan.leftovers.append((path, 0))  # a cache of what was computed from these very batches: it is computed again
    elif path.suffix in TEXTS:
        if count := plan.words.count_in(path):
            plan.texts.append((path, count))
    elif is_table(path):
        what = below.parts[0] if below.parts[0] in ("predictions", "batches", "labels") else "table"
        columns = _predicted_keys(spec)
        found = _table(plan, path, what, columns, CsvSpec())
        if found is None and is_text_file(path):
            found = _table(plan, path, what, columns, spec.data.csv)
        if found is None:
            _by_number(plan, path, what)
    elif plan.words.count_in(path):
        plan.stays.append(f"{plan.shown(path)} holds the key's text and is of an unknown kind: remove it by hand")


def _predicted_keys(spec: ModelSpec) -> tuple[str, ...]:
    """Columns that say whose a row is in what this program wrote, now or under an earlier model's file."""
    found = (spec.key_columns[0], key_names(spec)[0], "key")
    return tuple(name for name in found if name not in spec.key_columns[1:])


def _left_over(plan: Plan, path: Path) -> int:
    """Rows of the key in what a killed write left; of what is cut short that is unknown: none."""
    try:
        columns = _predicted_keys(plan.workspace.spec)
        found = key_rows(path, columns, plan.key, CsvSpec()) if is_table(path) else None
    except UnreadableData:
        plan.unknown.append(f"{plan.shown(path)} was left by a write that was killed, and is cut short: remove it")
        return 0
    return len(found.rows) if found else 0


def _by_number(plan: Plan, path: Path, what: str) -> None:
    """Predictions from before the model had a key: their rows are those of the batch."""
    made = made_from(path)
    for change in plan.changed.values():
        if made == change.batch.sha256:
            plan.tables.append(_Table(path, what, (), CsvSpec(), KeyRows(change.rows, change.total)))
