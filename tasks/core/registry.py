"""Versions: register, verify, load. Import-light, for services: neither Prefect nor Evidently comes along.

from tasks.core.registry import Registry
Registry("artifacts").load_current("flights").predict(frame)
"""

from __future__ import annotations

import contextlib
import io
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

from tasks.core.errors import AlreadyExists, CorruptObject, NotFound, VerificationError
from tasks.core.ledger import Ledger
from tasks.core.records import digest, from_dict, from_json, to_dict, to_json
from tasks.core.state import State
from tasks.core.store import Store
from tasks.core.tombstones import pruned
from tasks.core.types import Gate, Metric, Served

if TYPE_CHECKING:
    import pandas as pd

    from tasks.core.contract import Contract
    from tasks.core.persistence import Environment, Predictions

FORMAT_VERSION = 1
MANIFEST = "manifest.json"
ERASABLE = ("reference.parquet", "probe.parquet")
"""Files of a version that hold rows of the data: rows may be erased from them, on record. Neither is unpickled."""


@dataclass(frozen=True, slots=True)
class FileRecord:
    """A file of a version."""

    sha256: str
    size: int


@dataclass(frozen=True, slots=True)
class TrainingFile:
    """A batch that a version was trained on."""

    batch: str
    path: str
    """Relative to the root."""
    sha256: str
    labels: str
    """Digest of the labels joined to it."""
    rows: int
    """Rows that were trained on: labelled, and not kept for the gate."""
    held_out: bool = False
    """The fold of this batch was kept for the gate: a tenth of its rows, a fifth for a version without a parent."""


@dataclass(frozen=True, slots=True)
class Manifest:
    """The machine-readable record of a version. What it does not name does not exist."""

    format_version: int
    model: str
    version: int
    run_key: str
    parent: int | None
    """The version in service when this one was made."""
    created: str
    files: Mapping[str, FileRecord]
    factory: str
    parameters: Mapping[str, Any]
    spec: Mapping[str, Any]
    """The whole specification as used."""
    seed: int
    training: tuple[TrainingFile, ...]
    data_end: int
    """Labelled batches there were."""
    metrics: Mapping[str, Metric]
    """On the gate's rows, which this version never saw."""
    champion_metrics: Mapping[str, Metric]
    """The parent's, on the same rows."""
    gate: Gate
    action: str
    reasons: tuple[str, ...]
    """Why it was made."""
    environment: Mapping[str, Any]
    duration_seconds: float
    peak_memory_mb: float

    @property
    def rows(self) -> int:
        return sum(file.rows for file in self.training)


@dataclass(frozen=True)
class Candidate:
    """A fitted pipeline with everything that belongs to it, before it has a number."""

    pipeline: bytes
    contract: Contract
    reference: pd.DataFrame
    """A bounded sample of the training data, with the columns `ror:target` and `ror:score`."""
    probe: pd.DataFrame
    calibration: Mapping[str, Any]
    evaluation: Mapping[str, Any]
    environment: Environment
    manifest: Mapping[str, Any] = field(default_factory=dict)
    """The manifest's other fields."""


@dataclass(frozen=True)
class LoadedVersion:
    """A verified version, ready to predict."""

    model: str
    version: int
    digest: str
    manifest: Manifest
    contract: Contract
    pipeline: Any
    _files: Mapping[str, bytes]

    def predict(self, frame: pd.DataFrame) -> Predictions:
        """Answers for a frame that satisfies the contract. Raises DataError naming every violation, or saying how the
        pipeline failed."""
        from tasks.core import persistence, validation

        inputs = validation.conform(self.contract, frame)
        return persistence.predict(self.pipeline, inputs, private=self.contract.private)

    @cached_property
    def reference(self) -> pd.DataFrame:
        return _frame(self._files["reference.parquet"])

    @cached_property
    def calibration(self) -> Mapping[str, Any]:
        import json

        return dict(json.loads(self._files["calibration.json"]))


class Registry:
    """The versions of every model in one store."""

    def __init__(self, store: Store | str | Path):
        self.store = store if isinstance(store, Store) else Store(store)

    def ledger(self, model: str) -> Ledger:
        return Ledger(self.store, model)

    # --- registering ---

    def claim(self, model: str, run_key: str) -> int:
        """Take the next number. A claim without a manifest is invisible and harmless: gaps are fine."""
        number = (self._numbers(model) or [0])[-1] + 1
        claim = to_json({"run_key": run_key, "at": datetime.now(UTC).isoformat(timespec="seconds")})
        while True:
            try:
                self.store.create(f"{_folder(model, number)}/claim.json", claim)
                return number
            except AlreadyExists:
                number += 1

    def register(self, model: str, run_key: str, candidate: Candidate) -> tuple[int, str]:
        """Claim a number, put the files, put the manifest last; returns (version, manifest digest).

        A version exists if and only if its manifest does. Raises StoreError; nothing that exists is ever touched.
        """
        number = self.claim(model, run_key)
        files = {
            "pipeline.joblib": candidate.pipeline,
            "contract.json": to_json(candidate.contract),
            "reference.parquet": _parquet(candidate.reference),
            "probe.parquet": _parquet(candidate.probe),
            "calibration.json": to_json(dict(candidate.calibration)),
            "evaluation.json": to_json(dict(candidate.evaluation)),
        }
        for name, data in files.items():
            self.store.create(f"{_folder(model, number)}/{name}", data)
        manifest = from_dict(
            Manifest,
            {
                **candidate.manifest,
                "format_version": FORMAT_VERSION,
                "model": model,
                "version": number,
                "run_key": run_key,
                "created": datetime.now(UTC).isoformat(timespec="seconds"),
                "files": {name: FileRecord(digest(data), len(data)) for name, data in files.items()},
                "environment": to_dict(candidate.environment),
            },
        )
        data = to_json(manifest)
        self.store.create(f"{_folder(model, number)}/{MANIFEST}", data, durable=True)
        return number, digest(data)

    def adopt(self, model: str, run_key: str, newer_than: int) -> tuple[int, str] | None:
        """A complete version that this very run registered before it died, if there is one."""
        for number in reversed(self._numbers(model)):
            if number <= newer_than:
                return None
            with contextlib.suppress(NotFound):
                manifest, sha256 = self.manifest(model, number)
                if manifest.run_key == run_key:
                    return number, sha256
        return None

    # --- reading ---

    def versions(self, model: str) -> list[int]:
        """Numbers of the complete versions, oldest first."""
        return [n for n in self._numbers(model) if self.store.exists(f"{_folder(model, n)}/{MANIFEST}")]

    def manifest(self, model: str, version: int, expected: str | None = None) -> tuple[Manifest, str]:
        """A version's record and its digest. Raises NotFound, or CorruptObject when it is not the expected one."""
        path = f"{_folder(model, version)}/{MANIFEST}"
        data = self.store.read(path)
        sha256 = digest(data)
        if expected and sha256 != expected:
            raise CorruptObject(
                f"{path} is not the manifest that the history names (sha256 {sha256[:12]}, recorded {expected[:12]}). "
                "It was altered: restore it from a backup."
            )
        manifest = from_json(Manifest, data, path)
        if (manifest.model, manifest.version) != (model, version):
            raise CorruptObject(f"{path} says it is {manifest.model} v{manifest.version}: it was moved or copied here.")
        return manifest, sha256

    def load(self, model: str, served: Served | int, *, fresh: bool = False) -> LoadedVersion:
        """Load one version, verified. Nothing is unpickled before manifest, environment and digests are checked.

        Raises VerificationError (CorruptObject, EnvironmentMismatch, ProbeMismatch), NotFound or StoreError; another
        version is never loaded instead. The same version is loaded once per process, unless `fresh` is asked for.
        """
        number, expected = (served, None) if isinstance(served, int) else (served.version, served.manifest)
        manifest, sha256 = self.manifest(model, number, expected)
        cached = None if fresh else _LOADED.get((self.store.location, model, sha256))
        if cached is None:
            cached = _LOADED[self.store.location, model, sha256] = self._load(manifest, sha256)
            while len(_LOADED) > _KEEP_LOADED:
                del _LOADED[next(iter(_LOADED))]
        return cached

    def load_current(self, model: str) -> LoadedVersion:
        """The version in service. Raises NotFound when there is none yet, and what `load` raises."""
        return self.load_in_service(model, self.ledger(model).head().state)

    def load_in_service(self, model: str, state: State) -> LoadedVersion:
        """The version that this state has in service. Raises as `load_current` does.

        Where it fails and an earlier version could take its place, the error names the command: a person decides that.
        """
        if state.current is None:
            raise NotFound(f"No version of {model!r} is in service yet. `ror run {model}` trains one.")
        out = (state.current.version, *state.barred, *state.pruned)
        earlier = next((served.version for served in reversed(state.served) if served.version not in out), None)
        try:
            return self.load(model, state.current)
        except (VerificationError, NotFound) as error:
            if earlier is None:
                raise
            instead = f"`ror promote {model} v{earlier} --reason '...'` checks v{earlier} and puts it back in service."
            raise type(error)(f"{error}\n{instead}") from error

    def _load(self, manifest: Manifest, sha256: str) -> LoadedVersion:
        from tasks.core import contract, persistence, validation

        what = f"{manifest.model} v{manifest.version}"
        recorded = from_dict(persistence.Environment, manifest.environment)
        persistence.check_environment(recorded, what)
        found = {name: self._file(manifest, name, record) for name, record in manifest.files.items()}
        files = {name: data for name, (data, _) in found.items()}
        accepted = from_json(contract.Contract, files["contract.json"], f"{what} contract.json")
        probe = _frame(files["probe.parquet"])
        try:
            pipeline = persistence.load(files["pipeline.joblib"])
        except Exception as error:
            raise VerificationError(f"{what}: its verified bytes do not unpickle here: {error!r}") from error
        _, fewer = found["probe.parquet"]
        inputs = validation.conform(accepted, probe) if len(probe) or not fewer else probe
        persistence.replay_probe(pipeline, probe, inputs, recorded, what, private=accepted.private, fewer=fewer)
        return LoadedVersion(manifest.model, manifest.version, sha256, manifest, accepted, pipeline, files)

    def contract(self, model: str, served: Served) -> Contract:
        """A version's input schema, verified, without its pipeline. Raises NotFound, CorruptObject or StoreError."""
        from tasks.core.contract import Contract

        manifest, _ = self.manifest(model, served.version, served.manifest)
        data = self._verified(f"{_folder(model, served.version)}/contract.json", manifest.files["contract.json"])
        return from_json(Contract, data, f"{model} v{served.version} contract.json")

    def _file(self, manifest: Manifest, name: str, record: FileRecord) -> tuple[bytes, bool]:
        """A file of a version, verified, and whether rows were erased from it: then the history has its digest.

        Raises NotFound saying who removed it, and why, where that is on record.
        """
        path = f"{_folder(manifest.model, manifest.version)}/{name}"
        try:
            return self._verified(path, record), False
        except NotFound:
            ledger = self.ledger(manifest.model)
            state = ledger.head().state
            if told := pruned(ledger, state, manifest.version):
                raise NotFound(told) from None
            new = state.replaced.get(path)
            if new is None or name not in ERASABLE:  # no event can put another pipeline in place of the recorded one
                raise
            return self._verified(new.path, FileRecord(new.sha256, new.size)), True

    def _verified(self, path: str, record: FileRecord) -> bytes:
        data = self.store.read(path)
        found = digest(data)
        if found != record.sha256:
            raise CorruptObject(
                f"{path} is damaged or was replaced (sha256 {found[:12]}, recorded {record.sha256[:12]}; "
                f"{len(data):,} bytes, recorded {record.size:,}). Nothing of it was loaded. "
                "Restore the file from a backup."
            )
        return data

    def forget(self, model: str) -> None:
        """Drop what this process holds of a model's versions: rows were erased from them."""
        for key in [key for key in _LOADED if key[:2] == (self.store.location, model)]:
            del _LOADED[key]

    def _numbers(self, model: str) -> list[int]:
        return sorted(int(name) for name in self.store.folders(f"{model}/versions") if name.isdigit())


_LOADED: dict[tuple[str, str, str], LoadedVersion] = {}
_KEEP_LOADED = 4


def _folder(model: str, version: int) -> str:
    return f"{model}/versions/{version:08d}"


def _parquet(frame: pd.DataFrame) -> bytes:
    buffer = io.BytesIO()
    frame.to_parquet(buffer, index=False)
    return buffer.getvalue()


def _frame(data: bytes) -> pd.DataFrame:
    import pandas as pd

    return pd.read_parquet(io.BytesIO(data))
