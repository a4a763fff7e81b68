"""The objects of a model compared with their records, for an audit: versions, runs, and what was removed on record."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any

from tasks.core import layout
from tasks.core.audit.entries import AuditFinding, LedgerReading, content
from tasks.core.audit.removals import Removal, now_at
from tasks.core.errors import CorruptObject, StoreError
from tasks.core.ledger import events
from tasks.core.ledger.events import Event, EventKind
from tasks.core.records import digest, from_json, to_dict
from tasks.core.store import ObjectInfo, Store
from tasks.core.text import ago
from tasks.core.versions.manifest import CLAIM, MANIFEST, SIGNATURE, FileRecord, Manifest


@dataclass
class Stored:
    """The objects of one model, compared with their records."""

    store: Store
    model: str
    listed: Mapping[str, ObjectInfo]
    history: LedgerReading
    removals: Mapping[str, Removal]
    compared: int = 0
    """Bytes that were read and compared."""
    pages: int = 0
    """Objects of runs whose digest nothing records: they are for people, and nothing is decided on them."""
    complete: list[int] = field(default_factory=list)
    """Versions whose manifest is there and can be read."""

    def versions(self) -> Iterator[AuditFinding]:
        """Every version, and those that the history names and that are not there."""
        named = events.named_manifests(self.history.events)
        for version, names in sorted(layout.version_files(self.listed).items()):
            files = sorted(names)
            if MANIFEST in files:
                yield from self._version(version, files, named.get(version, {}))
            elif version not in named:
                yield from self._abandoned(version, files)
        for version, digests in sorted(named.items()):
            if self._path(version, MANIFEST) not in self.listed:
                seq = min(digests.values())
                yield AuditFinding(
                    self._path(version, MANIFEST), f"missing: entry {seq} of the history names it. Restore it"
                )

    def _version(self, version: int, files: Sequence[str], named: Mapping[str, int]) -> Iterator[AuditFinding]:
        path = self._path(version, MANIFEST)
        try:
            data = self._read(path)
            sha256 = digest(data)
            for other, seq in named.items():
                if other != sha256:
                    shown = f"sha256 {sha256[:12]}, recorded {other[:12]} by entry {seq}"
                    yield AuditFinding(
                        path, f"is not the one that the history names ({shown}): it was altered. Restore it"
                    )
            manifest = from_json(Manifest, data, path)
        except (CorruptObject, StoreError) as error:
            yield AuditFinding(path, str(error).removeprefix(f"{path} "))
            return
        self.complete.append(version)
        if (manifest.model, manifest.version) != (self.model, version):
            yield AuditFinding(path, f"says it is {manifest.model} v{manifest.version}: it was moved or copied here")
        if not named:
            text = "no entry of the history names it: its run was killed before it decided, or has not decided yet"
            yield AuditFinding(path, f"{text} (run key {manifest.run_key[:12]})", damage=False)
        sound = []
        for name, record in manifest.files.items():
            wrong = list(self._file(version, name, record))
            yield from wrong
            sound += [] if wrong else [name]
        yield from self._consistent(version, manifest, sound)
        yield from self._claim(version, files, manifest.run_key)
        replacements = {removal.replacement.path for removal in self.removals.values() if removal.replacement}
        for name in files:
            extra = name not in manifest.files and name not in (MANIFEST, CLAIM, SIGNATURE)
            if extra and self._path(version, name) not in replacements:
                yield AuditFinding(
                    self._path(version, name), "the manifest does not name it: it is never read", damage=False
                )

    def _file(self, version: int, name: str, record: FileRecord) -> Iterator[AuditFinding]:
        """One file of a version against its record, or the object that took its place."""
        path, record = now_at(self._path(version, name), record, self.removals)
        if path in self.removals:
            return
        if path not in self.listed:
            yield AuditFinding(path, "missing: the manifest names it. Restore it from a backup")
            return
        try:
            sha256, size = self.store.fingerprint(path)
        except StoreError as error:
            yield AuditFinding(path, f"cannot be read: {error}")
            return
        self.compared += size
        if (sha256, size) != (record.sha256, record.size):
            shown = f"sha256 {sha256[:12]}, recorded {record.sha256[:12]}; {size:,} bytes, recorded {record.size:,}"
            yield AuditFinding(path, f"is damaged or was replaced ({shown}). Restore it from a backup")

    def _consistent(self, version: int, manifest: Manifest, sound: Sequence[str]) -> Iterator[AuditFinding]:
        """Whether the files that are the recorded bytes are records that can be read, and all that are needed."""
        from tasks.core.schema.contract import Contract
        from tasks.core.versions import persistence

        columns: list[str] = []
        if not any(name.startswith("pipeline.") for name in manifest.files):
            yield AuditFinding(self._path(version, MANIFEST), "names no pipeline: this version cannot be loaded")
        for name in ("contract.json", "calibration.json", "evaluation.json", "reference.parquet", "probe.parquet"):
            path = self._path(version, name)
            if name not in manifest.files:
                yield AuditFinding(self._path(version, MANIFEST), f"names no {name}: this version cannot be loaded")
                continue
            path, _ = now_at(path, manifest.files[name], self.removals)
            if name not in sound or path in self.removals:
                continue
            try:
                data = self.store.read(path)
                match name:
                    case "contract.json":
                        columns = from_json(Contract, data, path).names
                    case "calibration.json" | "evaluation.json":
                        from_json(dict[str, Any], data, path)
                    case _:
                        needed = [persistence.PREDICTION] if name == "probe.parquet" else []
                        _check_columns(data, [*columns, *needed])
            except (CorruptObject, StoreError, ValueError, OSError) as error:
                yield AuditFinding(path, f"is not a valid record: {str(error).removeprefix(f'{path} ')}")

    def _claim(self, version: int, files: Sequence[str], run_key: str) -> Iterator[AuditFinding]:
        path = self._path(version, CLAIM)
        if CLAIM not in files:
            yield AuditFinding(path, "missing: a number is claimed before anything is put under it", damage=False)
            return
        claimed = self._claimed(path)
        if claimed is None:
            yield AuditFinding(path, "is not readable: it is damaged. Nothing reads it but this check")
        elif claimed[0] != run_key:
            yield AuditFinding(path, f"was claimed by run key {claimed[0][:12]}, and the manifest is of {run_key[:12]}")

    def _abandoned(self, version: int, files: Sequence[str]) -> Iterator[AuditFinding]:
        """A number without a manifest: its run was killed, or is at work."""
        path = self._path(version, CLAIM)
        claimed = self._claimed(path) if CLAIM in files else None
        who = f"claimed {ago(claimed[1])} by run key {claimed[0][:12]}" if claimed else "claimed by an unknown run"
        rest = f", with {len(files) - 1:,} files" if len(files) > 1 else ""
        yield AuditFinding(
            path if CLAIM in files else self._path(version, files[0]),
            f"{who}{rest}, without a manifest: its run was killed, or is at work. Not a version, and harmless",
            damage=False,
        )

    def _claimed(self, path: str) -> tuple[str, datetime] | None:
        try:
            values = from_json(dict[str, str], self._read(path), path)
            return values["run_key"], datetime.fromisoformat(values["at"])
        except (CorruptObject, StoreError, KeyError, ValueError):
            return None

    def runs(self) -> Iterator[AuditFinding]:
        """What runs wrote in addition to the history: `decision.json` repeats what an entry says."""
        seen = set()
        for path in self.listed:
            parsed = layout.parse(path)
            seq = parsed.number
            if parsed.kind != layout.RUNS or seq is None:
                continue
            event = self.history.events.get(seq)
            if seq > self.history.last or (event is not None and event.event != EventKind.DECIDED):
                if seq not in seen:
                    text = f"the history has no decision {seq}: it was cut off, or this run is not of it"
                    yield AuditFinding(layout.run_folder(self.model, seq), text)
            elif parsed.name != layout.DECISION:
                self.pages += 1
            elif event is not None:
                yield from self._decision(path, event)
            seen.add(seq)

    def _decision(self, path: str, event: Event) -> Iterator[AuditFinding]:
        try:
            found = from_json(dict[str, Any], self._read(path), path)
        except (CorruptObject, StoreError) as error:
            yield AuditFinding(path, str(error).removeprefix(f"{path} "))
            return
        # As it was written with the entry, or by a later release that completed what a killed run left undone.
        decided = content(event)
        if decided is not None and found not in (event.body, to_dict(decided)):
            yield AuditFinding(path, "is not what the history says was decided: it was altered; the history counts")

    def removed(self) -> Iterator[AuditFinding]:
        """What a person removed, and what of it is still there. No prune removes what the version in service needs."""
        state = self.history.state
        if state.current and state.current.version in state.pruned:
            text = f"v{state.current.version} is in service, and entry {state.pruned[state.current.version]} pruned it"
            yield AuditFinding(
                self._path(state.current.version, MANIFEST), f"{text}: the history was altered. Restore both"
            )
        for path, removal in self.removals.items():
            if path in self.listed:
                again = "prune" if removal.kind == EventKind.PRUNED else "erase"
                text = f"is still there, although entry {removal.seq} says that it was {removal.words}. "
                yield AuditFinding(path, f"{text}The removal was interrupted; run `ror store {again}` again")
            else:
                yield AuditFinding(path, removal.words, damage=False)

    def _read(self, path: str) -> bytes:
        data = self.store.read(path)
        self.compared += len(data)
        return data

    def _path(self, version: int, name: str) -> str:
        return layout.version_path(self.model, version, name)


def _check_columns(data: bytes, needed: Sequence[str]) -> None:
    """Raises ValueError for bytes that are not a Parquet file with these columns."""
    import io

    import pyarrow.parquet as pq

    names = pq.ParquetFile(io.BytesIO(data)).schema_arrow.names
    missing = [name for name in needed if name not in names]
    if missing:
        raise ValueError(f"it has no column {', '.join(map(repr, missing))}")
