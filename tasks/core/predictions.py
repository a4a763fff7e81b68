"""Predictions for a batch, written once: each row with key, prediction, probability, version and run."""

from __future__ import annotations

import contextlib
import os
import uuid
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from tasks.core.batches import Source
from tasks.core.errors import AlreadyExists, DataError, StoreError
from tasks.core.files import fingerprint
from tasks.core.persistence import Predictions, predict
from tasks.core.registry import LoadedVersion
from tasks.core.spec import ModelSpec
from tasks.core.validation import frames, validate

OURS = ("prediction", "probability", "version", "run")


def write_predictions(root: Path, data: str, output: Path, version: LoadedVersion, spec: ModelSpec, run: str) -> Path:
    """Predict a validated file chunk by chunk; memory does not grow with its rows.

    The file appears complete or not at all, and is never replaced: an existing one for the same data is kept.
    Raises DataError when the data break the contract, AlreadyExists when `output` holds something else.
    """
    path = root / data
    sha256 = fingerprint(path)
    if output.exists():
        if _made_from(output) == sha256:
            return output
        raise AlreadyExists(f"{output} holds predictions for other data. Choose another name; nothing is overwritten.")
    source = Source(root, data)
    found = validate(version.contract, source, spec)
    if found.problems:
        raise DataError("\n".join(f"{data}: {problem}" for problem in found.problems))
    temporary = output.with_name(f".{output.name}.{uuid.uuid4().hex}")
    try:
        output.parent.mkdir(parents=True, exist_ok=True)
        _write(source, temporary, version, spec, run, sha256)
        os.link(temporary, output)
    except FileExistsError:
        if not output.exists():
            raise StoreError(f"Could not write {output}: {output.parent} is not a folder.") from None
        if _made_from(output) != sha256:
            raise AlreadyExists(f"{output} was written meanwhile for other data; it was left as it is.") from None
    except OSError as error:
        raise StoreError(f"Could not write {output}: {error.strerror or error}.") from error
    finally:
        with contextlib.suppress(FileNotFoundError, NotADirectoryError):
            temporary.unlink()
    return output


def _write(source: Source, path: Path, version: LoadedVersion, spec: ModelSpec, run: str, sha256: str) -> None:
    beside = [spec.key] if spec.key else []
    writer: pq.ParquetWriter | None = None
    start = 0
    try:
        for part, keys in frames(version.contract, source, beside):
            rows = len(part)
            identity = keys[0] if keys else pa.array(np.arange(start, start + rows))
            columns = {_key_name(spec.key): identity, **_columns(predict(version.pipeline, part))}
            table = pa.table(
                {
                    **columns,
                    "version": pa.array(np.full(rows, version.version)),
                    "run": pa.array([run] * rows),
                }
            )
            if writer is None:
                schema = table.schema.with_metadata({"ror": sha256, "version": str(version.version)})
                writer = pq.ParquetWriter(path, schema)
            writer.write_table(table.cast(writer.schema))
            start += rows
    finally:
        if writer is not None:
            writer.close()


def _key_name(key: str | None) -> str:
    """A key that is called like a column of ours becomes `key`."""
    return "row" if key is None else "key" if key in OURS else key


def _columns(answers: Predictions) -> dict[str, pa.Array]:
    """`probability` is P(second class) of two classes, else that of the predicted class."""
    columns = {"prediction": pa.array(answers.values)}
    if answers.probabilities is not None:
        two = len(answers.classes) == 2
        columns["probability"] = pa.array(answers.probabilities[:, 1] if two else answers.probabilities.max(axis=1))
    return columns


def _made_from(path: Path) -> str | None:
    try:
        metadata = pq.read_schema(path).metadata or {}
    except (pa.ArrowException, OSError):
        return None  # not a file of ours
    recorded = metadata.get(b"ror")
    return recorded.decode() if recorded else None
