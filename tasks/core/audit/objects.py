"""The objects of a model beside their records, for an audit: versions and runs, and what was removed on record."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import Any

from tasks.core.audit.entries import Remark, Trail
from tasks.core.audit.removals import Removal, now_at
from tasks.core.errors import CorruptObject, StoreError
from tasks.core.ledger import events
from tasks.core.ledger.events import Decided
from tasks.core.records import digest, from_dict, from_json, to_dict
from tasks.core.store import ObjectInfo, Store
from tasks.core.versions.manifest import MANIFEST, SIGNATURE, FileRecord, Manifest

CLAIM = "claim.json"
FOREIGN = "is nothing that this program writes: it is never read"


@dataclass
class Stored:
    """The objects of one model beside their records."""

    store: Store
    model: str
    listed: Mapping[str, ObjectInfo]
    history: Trail
    removals: Mapping[str, Removal]
    compared: int = 0
    """Bytes that were read and compared."""
    pages: int = 0
    """Objects of runs whose digest nothing records: they are for people, and nothing is decided on them."""
    complete: list[int] = field(default_factory=list)
    """Versions whose manifest is there and can be read."""

    def versions(self, names: Sequence[str]) -> Iterator[Remark]:
        """Every version, and those that the history names and that are not there."""
        named = events.named_manifests(self.history.events)
        folders: dict[str, list[str]] = {}
        for name in names:
            folder, _, rest = name.partition("/")
            folders.setdefault(folder, []).append(rest)
        for folder, files in sorted(folders.items()):
            if not re.fullmatch(r"\d{8}", folder):
                yield from (self._foreign(f"versions/{folder}/{file}".rstrip("/")) for file in files)
            elif MANIFEST in files:
                yield from self._version(int(folder), files, named.get(int(folder), {}))
            elif int(folder) not in named:
                yield from self._abandoned(int(folder), files)
        for version, digests in sorted(named.items()):
            if self._path(version, MANIFEST) not in self.listed:
                seq = min(digests.values())
                yield Remark(self._path(version, MANIFEST), f"missing: entry {seq} of the history names it. Restore it")

    def _version(self, version: int, files: Sequence[str], named: Mapping[str, int]) -> Iterator[Remark]:
        path = self._path(version, MANIFEST)
        try:
            data = self._read(path)
            sha256 = digest(data)
            for other, seq in named.items():
                if other != sha256:
                    shown = f"sha256 {sha256[:12]}, recorded {other[:12]} by entry {seq}"
                    yield Remark(path, f"is not the one that the history names ({shown}): it was altered. Restore it")
            manifest = from_json(Manifest, data, path)
        except (CorruptObject, StoreError) as error:
            yield Remark(path, str(error).removeprefix(f"{path} "))
            return
        self.complete.append(version)
        if (manifest.model, manifest.version) != (self.model, version):
            yield Remark(path, f"says it is {manifest.model} v{manifest.version}: it was moved or copied here")
        if not named:
            text = "no entry of the history names it: its run was killed before it decided, or has not decided yet"
            yield Remark(path, f"{text} (run key {manifest.run_key[:12]})", damage=False)
        sound = []
        for name, record in manifest.files.items():
            wrong = list(self._file(version, name, record))
            yield from wrong
            sound += [] if wrong else [name]
        yield from self._consistent(version, manifest, sound)
        yield from self._claim(version, files, manifest.run_key)
        replacements = {removal.replacement for removal in self.removals.values()}
        for name in files:
            extra = name not in manifest.files and name not in (MANIFEST, CLAIM, SIGNATURE)
            if extra and self._path(version, name) not in replacements:
                yield Remark(self._path(version, name), "the manifest does not name it: it is never read", damage=False)

    def _file(self, version: int, name: str, record: FileRecord) -> Iterator[Remark]:
        """One file of a version against its record, or the object that took its place."""
        path, record = now_at(self._path(version, name), record, self.removals)
        if path in self.removals:
            return
        if path not in self.listed:
            yield Remark(path, "missing: the manifest names it. Restore it from a backup")
            return
        try:
            sha256, size = self.store.fingerprint(path)
        except StoreError as error:
            yield Remark(path, f"cannot be read: {error}")
            return
        self.compared += size
        if (sha256, size) != (record.sha256, record.size):
            shown = f"sha256 {sha256[:12]}, recorded {record.sha256[:12]}; {size:,} bytes, recorded {record.size:,}"
            yield Remark(path, f"is damaged or was replaced ({shown}). Restore it from a backup")

    def _consistent(self, version: int, manifest: Manifest, sound: Sequence[str]) -> Iterator[Remark]:
        """Whether the files that are the recorded bytes are records that can be read, and all that are needed."""
        from tasks.core.schema.contract import Contract
        from tasks.core.versions import persistence

        columns: list[str] = []
        if not any(name.startswith("pipeline.") for name in manifest.files):
            yield Remark(self._path(version, MANIFEST), "names no pipeline: nobody can load this version")
        for name in ("contract.json", "calibration.json", "evaluation.json", "reference.parquet", "probe.parquet"):
            path = self._path(version, name)
            if name not in manifest.files:
                yield Remark(self._path(version, MANIFEST), f"names no {name}: nobody can load this version")
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
                yield Remark(path, f"is no such record: {str(error).removeprefix(f'{path} ')}")

    def _claim(self, version: int, files: Sequence[str], run_key: str) -> Iterator[Remark]:
        path = self._path(version, CLAIM)
        if CLAIM not in files:
            yield Remark(path, "missing: a number is claimed before anything is put under it", damage=False)
            return
        claimed = self._claimed(path)
        if claimed is None:
            yield Remark(path, "is not readable: it is damaged. Nothing reads it but this check")
        elif claimed[0] != run_key:
            yield Remark(path, f"was claimed by run key {claimed[0][:12]}, and the manifest is of {run_key[:12]}")

    def _abandoned(self, version: int, files: Sequence[str]) -> Iterator[Remark]:
        """A number without a manifest: its run was killed, or is at work."""
        path = self._path(version, CLAIM)
        claimed = self._claimed(path) if CLAIM in files else None
        who = (
            f"claimed {_age(claimed[1])} ago by run key {claimed[0][:12]}"
            if claimed
            else "claimed by whom cannot be read"
        )
        rest = f", with {len(files) - 1:,} files beside it" if len(files) > 1 else ""
        yield Remark(
            path if CLAIM in files else self._path(version, files[0]),
            f"{who}{rest}, without a manifest: its run was killed, or is at work. No version, and harmless",
            damage=False,
        )

    def _claimed(self, path: str) -> tuple[str, datetime] | None:
        try:
            values = from_json(dict[str, str], self._read(path), path)
            return values["run_key"], datetime.fromisoformat(values["at"])
        except (CorruptObject, StoreError, KeyError, ValueError):
            return None

    def runs(self, names: Sequence[str]) -> Iterator[Remark]:
        """What runs wrote beside the history: `decision.json` repeats what an entry says."""
        seen = set()
        for name in names:
            folder, _, file = name.partition("/")
            if not re.fullmatch(r"\d{8}", folder) or not file:
                yield self._foreign(f"runs/{name}")
                continue
            event = self.history.events.get(int(folder))
            if int(folder) > self.history.last or (event is not None and event.event != "decided"):
                if folder not in seen:
                    text = f"the history has no decision {int(folder)}: it was cut off, or this run is not of it"
                    yield Remark(f"{self.model}/runs/{folder}", text)
            elif file != "decision.json":
                self.pages += 1
            elif event is not None:
                yield from self._decision(f"{self.model}/runs/{name}", event.body)
            seen.add(folder)

    def _decision(self, path: str, body: Mapping[str, Any]) -> Iterator[Remark]:
        try:
            found = from_json(dict[str, Any], self._read(path), path)
            # As it was written with the entry, or by a later release that completed what a killed run left undone.
            if found not in (body, to_dict(from_dict(Decided, dict(body)))):
                yield Remark(path, "is not what the history says was decided: it was altered; the history counts")
        except (CorruptObject, StoreError) as error:
            yield Remark(path, str(error).removeprefix(f"{path} "))
        except ValueError:
            return  # the entry's own content is no decision: said where the history was looked at

    def removed(self) -> Iterator[Remark]:
        """What a person removed, and what of it is still there. No prune removes what the version in service needs."""
        state = self.history.state
        if state.current and state.current.version in state.pruned:
            text = f"v{state.current.version} is in service, and entry {state.pruned[state.current.version]} pruned it"
            yield Remark(self._path(state.current.version, MANIFEST), f"{text}: the history was altered. Restore both")
        for path, removal in self.removals.items():
            if path in self.listed:
                again = "prune" if removal.kind == "pruned" else "erase"
                text = f"is still there, although entry {removal.seq} says that it was {removal.words}. "
                yield Remark(path, f"{text}The removal was interrupted; run `ror store {again}` again")
            else:
                yield Remark(path, removal.words, damage=False)

    def _foreign(self, name: str) -> Remark:
        return Remark(f"{self.model}/{name}", FOREIGN, damage=False)

    def _read(self, path: str) -> bytes:
        data = self.store.read(path)
        self.compared += len(data)
        return data

    def _path(self, version: int, name: str) -> str:
        return f"{self.model}/versions/{version:08d}/{name}"


def _check_columns(data: bytes, needed: Sequence[str]) -> None:
    """Raises ValueError for bytes that are no Parquet file with these columns."""
    import io

    import pyarrow.parquet as pq

    names = pq.ParquetFile(io.BytesIO(data)).schema_arrow.names
    missing = [name for name in needed if name not in names]
    if missing:
        raise ValueError(f"it has no column {', '.join(map(repr, missing))}")


def _age(since: datetime) -> str:
    """How long ago, in words."""
    passed = max(datetime.now(UTC) - since, timedelta())
    for unit, seconds in (("day", 86_400), ("hour", 3_600), ("minute", 60)):
        if count := int(passed.total_seconds() // seconds):
            return f"{count:,} {unit}{'s' if count > 1 else ''}"
    return "less than a minute"
