"""The record of a version, and what a version is made of before it has a number."""

from __future__ import annotations

import hashlib
import io
import re
import zipfile
from collections.abc import Collection, Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from pydantic import SerializerFunctionWrapHandler, model_serializer

from tasks.core import layout
from tasks.core.errors import CorruptObject
from tasks.core.records import from_json, to_json
from tasks.core.types import Gate, Metric

if TYPE_CHECKING:
    import pandas as pd

    from tasks.core.schema.contract import Contract
    from tasks.core.versions.environment import Environment

FORMAT_VERSION = 1
"""The format of a version's record. It is written once and never again, so nothing in it can be lost: a new field with
a default that is true of every older version needs no new number. Otherwise as with the history's: see
`tasks.core.ledger.ledger.FORMAT_VERSION`, which says how to make the next format."""

CLAIM, MANIFEST, SIGNATURE = "claim.json", "manifest.json", "manifest.sig"
SOURCES = "sources.json"
BESIDE = "beside.zip"
"""Files that a version's pipeline opens, from beside its code."""
PROBE = "probe.parquet"
ERASABLE = ("reference.parquet", PROBE)
"""Files of a version that hold rows of the data: rows may be erased from them, on record. Neither is unpickled."""

PAYLOAD = re.compile(r"pipeline\..+|(reference|probe)(-\w+)?\.parquet|calibration\.json")
"""Names of the files of a version that a prune removes; `reference-....parquet` is what an erasure left of one."""

OPTIONAL = ("choice", "missing", "threads")
"""Fields of a manifest that are left out where there is nothing to say, as in the records of earlier releases."""

FORMS = ("joblib", "skops")
"""How a pipeline may be saved: `pipeline.joblib` is a pickle, `pipeline.skops` names the types it is made of."""


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
    """The holdout of this batch was kept for the gate: a tenth of its rows, a fifth for a version without a parent."""


@dataclass(frozen=True, slots=True)
class PipelineChoice:
    """Which of the default pipelines was chosen at a model's first version, and by what."""

    estimator: str
    losses: Mapping[str, float]
    """Mean loss of each that was tried, the simplest first, on rows later than those it had learned."""
    rows: int
    """Rows that it was measured on."""


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
    choice: PipelineChoice | None = None
    """Of the default pipeline, carried on from the first version; None: the model's file said which, or none was made.
    Left out then, as in the records of earlier releases."""
    missing: tuple[str, ...] = ()
    """Labelled batches that it would have been trained on too, but whose files were gone; left out where none was."""
    threads: int | None = None
    """Of numerical libraries that it was fitted with; None, and left out: unknown."""

    @model_serializer(mode="wrap")
    def _written(self, fields: SerializerFunctionWrapHandler) -> dict[str, Any]:
        written: dict[str, Any] = fields(self)
        return {name: value for name, value in written.items() if name not in OPTIONAL or value}

    @property
    def rows(self) -> int:
        """Rows that were trained on, of all batches together."""
        return sum(file.rows for file in self.training)

    @property
    def folder(self) -> str:
        """Where the version is in the store."""
        return layout.version_folder(self.model, self.version)

    @property
    def form(self) -> str:
        """How its pipeline is saved, one of FORMS; empty where it names none."""
        return next((name.partition(".")[2] for name in self.files if name.startswith("pipeline.")), "")


@dataclass(frozen=True)
class Candidate:
    """A fitted pipeline with everything that belongs to it, before it has a number."""

    pipeline: bytes
    form: str
    """One of FORMS."""
    contract: Contract
    reference: pd.DataFrame
    """A bounded sample of the training data, with the columns `ror:target` and `ror:score`."""
    probe: pd.DataFrame
    calibration: Mapping[str, Any]
    evaluation: Mapping[str, Any]
    environment: Environment
    sources: Mapping[str, str] = field(default_factory=dict)
    """Text of the modules of its own that the pipeline, and its factory, are made of."""
    manifest: Mapping[str, Any] = field(default_factory=dict)
    """The manifest's other fields."""
    beside: Mapping[str, bytes] = field(default_factory=dict)
    """Files beside its code that the pipeline opens."""
    opened: Collection[str] = ()
    """Paths of the files that were opened to make it."""

    def files(self) -> dict[str, bytes]:
        """What belongs to the version, by name."""
        files = {
            f"pipeline.{self.form}": self.pipeline,
            "contract.json": to_json(self.contract),
            "reference.parquet": _parquet(self.reference),
            "probe.parquet": _parquet(self.probe),
            "calibration.json": to_json(dict(self.calibration)),
            "evaluation.json": to_json(dict(self.evaluation)),
        }
        sources = {SOURCES: to_json(dict(self.sources))} if self.sources else {}
        return files | sources | ({BESIDE: _zip(self.beside)} if self.beside else {})


def parse_manifest(data: bytes, path: str, model: str, version: int) -> Manifest:
    """A manifest from its bytes. Raises CorruptObject when it is not valid, or that of another version."""
    manifest = from_json(Manifest, data, path)
    if (manifest.model, manifest.version) != (model, version):
        raise CorruptObject(f"{path} says it is {manifest.model} v{manifest.version}: it was moved or copied here.")
    return manifest


def predicts(name: str) -> bool:
    """Whether predicting needs this file of a version."""
    return name.startswith("pipeline.") or name in ("contract.json", PROBE)


def read_parquet(data: bytes) -> pd.DataFrame:
    """A table of a version from the bytes of its file, shape (rows, columns)."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    # Not pandas' own reader: that brings all of pyarrow's data sets along.
    return pq.ParquetFile(pa.BufferReader(data)).read().to_pandas()


def _zip(files: Mapping[str, bytes]) -> bytes:
    """The same bytes for the same files."""
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, data in files.items():
            archive.writestr(zipfile.ZipInfo(name), data, zipfile.ZIP_DEFLATED)
    return buffer.getvalue()


def _parquet(frame: pd.DataFrame) -> bytes:
    buffer = io.BytesIO()
    frame.to_parquet(buffer, index=False)
    return buffer.getvalue()


def training_digest(manifest: Manifest) -> str:
    """One digest for the data of a version: of its files' digests and their labels', in order."""
    parts = "".join(f"{file.sha256} {file.labels}\n" for file in manifest.training)
    return hashlib.sha256(parts.encode()).hexdigest()
