"""Predictions for a batch, written once: each row with key, prediction, probability, version and run."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import pyarrow as pa
import pyarrow.csv as csv
import pyarrow.parquet as pq

from tasks.core.data.files import atomic_write, ending, fingerprint
from tasks.core.data.source import Source
from tasks.core.errors import AlreadyExists, DataError, InvalidRequest, UnreadableData
from tasks.core.schema.frames import frames
from tasks.core.schema.validation import validate
from tasks.core.versions.persistence import Predictions, predict

if TYPE_CHECKING:
    from tasks.core.spec import ModelSpec
    from tasks.core.types import Batch
    from tasks.core.versions.loaded import LoadedVersion
    from tasks.core.workspace import Workspace

WRITTEN = (".parquet", ".pq", ".parq", ".csv")
"""Endings of the files that predictions are written to by hand."""
OURS = ("prediction", "probability", "probabilities", "version", "run")


def predictions_path(workspace: Workspace, batch: Batch) -> Path:
    """Where the predictions for a batch are, once they are written."""
    return workspace.data / "predictions" / f"{batch.id}.parquet"


def write_predictions(
    root: Path, data: str, output: Path, version: LoadedVersion, spec: ModelSpec, run: str, *, by_hand: bool = False
) -> Path:
    """Predict a validated file chunk by chunk; memory does not grow with its rows.

    The file appears complete or not at all, and is never replaced: an existing one for the same data is kept. One that
    is made `by_hand` has a column for each class, `p_sun`, and may be CSV, where no existing file is kept as the same.
    Raises DataError when the data break the contract, AlreadyExists when `output` holds something else.
    """
    path = root / data
    sha256 = fingerprint(path)
    if output.exists():
        if made_from(output) == sha256:
            return output
        raise AlreadyExists(f"{output} holds predictions for other data. Choose another name; nothing is overwritten.")
    source = Source(root, data, spec.data.csv)
    found = validate(version.contract, source, spec)
    if found.problems:
        raise DataError("\n".join(f"{data}: {problem}" for problem in found.problems))
    try:
        with atomic_write(output) as temporary:
            _write(source, temporary, version, spec, run, sha256, by_hand)
    except AlreadyExists:
        if made_from(output) != sha256:
            raise AlreadyExists(f"{output} was written meanwhile for other data; it was left as it is.") from None
    return output


def predict_file(workspace: Workspace, file: Path, output: Path, run: str) -> tuple[int, bool]:
    """Predict any file with the model's input columns by the version in service, verified first.

    Returned are its number, and whether the same predictions were there already. Raises UnreadableData when there is no
    such file, InvalidRequest for an output that is neither Parquet nor CSV, NotFound when no version is in service,
    VerificationError when it does not pass, AlreadyExists also when another version predicted these data there, and
    what `write_predictions` raises.
    """
    if not file.exists():
        raise UnreadableData(str(file), "there is no such file.")
    if ending(output) not in WRITTEN:
        raise InvalidRequest("output", [f"{output.name} must end in {', '.join(WRITTEN)}"])
    version = workspace.registry.load_current(workspace.model)
    absolute, there = file.resolve(), output.exists()
    write_predictions(absolute.parent, absolute.name, output.resolve(), version, workspace.spec, run, by_hand=True)
    made = written_version(output) if there else version.version
    if made != version.version:
        raise AlreadyExists(
            f"{output} holds what {f'v{made}' if made else 'no version'} predicted for these data, and "
            f"v{version.version} is in service now. Choose another name; nothing is overwritten."
        )
    return version.version, there


def _write(
    source: Source, path: Path, version: LoadedVersion, spec: ModelSpec, run: str, sha256: str, by_hand: bool
) -> None:
    writer: pq.ParquetWriter | csv.CSVWriter | None = None
    schema: pa.Schema | None = None
    start = 0
    try:
        for part, keys in frames(version.contract, source, spec.key_columns, whole=version.manifest.together):
            rows = len(part)
            numbers = {"row": pa.array(np.arange(start, start + rows))}
            answers = predict(version.pipeline, part, contract=version.contract)
            table = pa.table(
                {
                    **(dict(zip(key_names(spec), keys, strict=True)) or numbers),
                    **_columns(answers),
                    **(_by_class(answers) if by_hand else {}),
                    "version": pa.array(np.full(rows, version.version)),
                    "run": pa.array([run] * rows),
                }
            )
            if ending(path) == ".csv":
                table = table.select([name for name in table.column_names if name != "probabilities"])
                writer = writer or csv.CSVWriter(path, table.schema)
            elif writer is None:
                about = {
                    "ror": sha256,
                    "version": str(version.version),
                    "classes": json.dumps(list(answers.classes)),
                    "probabilities": json.dumps(answers.probabilities is not None),
                }
                writer = pq.ParquetWriter(path, table.schema.with_metadata(about), write_page_checksum=True)
            schema = schema or table.schema
            writer.write_table(table.cast(schema))
            start += rows
    finally:
        if writer is not None:
            writer.close()


def key_names(spec: ModelSpec) -> list[str]:
    """Columns that a model's key has among its predictions: one that is called like a column of ours becomes `key`, or
    one of several `key_run`."""
    ours = "key" if isinstance(spec.key, str) else "key_{}"
    return [ours.format(name) if name in OURS else name for name in spec.key_columns]


def _columns(answers: Predictions) -> dict[str, pa.Array]:
    """`probability` is P(second class) of two classes; of more it is that of the predicted class, and `probabilities`
    has all of them, in the order of the classes that the file's metadata name."""
    columns = {"prediction": pa.array(answers.values)}
    if (each := answers.probabilities) is not None:
        two = len(answers.classes) == 2
        columns["probability"] = pa.array(each[:, 1] if two else each.max(axis=1))
        if len(answers.classes) > 2:
            flat = pa.array(np.ascontiguousarray(each, dtype=float).ravel())
            columns["probabilities"] = pa.FixedSizeListArray.from_arrays(flat, each.shape[1])
    return columns


def _by_class(answers: Predictions) -> dict[str, pa.Array]:
    """The probability of each class in a column of its own, for people."""
    each = answers.probabilities
    return {} if each is None else {f"p_{name}": pa.array(each[:, place]) for place, name in enumerate(answers.classes)}


# --- reading -------------------------------------------------------------------------------------------------


def written_version(path: Path) -> int | None:
    """The version that a file of predictions was written by; None when there is no such file."""
    number = _about(path).get(b"version", b"")
    return int(number) if number.isdigit() else None


def read_predictions(path: Path, sha256: str, total: int, rows: np.ndarray) -> Predictions:
    """The answers that were written for these row numbers of a batch, whose digest is `sha256` and that has `total`.

    Raises DataError saying why the file cannot be used: it was made from other data, is damaged, or was written by a
    release that did not name the classes.
    """
    try:
        with pq.ParquetFile(path, page_checksum_verification=True) as file:
            about, names = file.schema_arrow.metadata or {}, file.schema_arrow.names
            table = file.read([name for name in ("prediction", "probability", "probabilities") if name in names])
        if about.get(b"ror", b"").decode() != sha256 or len(table) != total:
            raise DataError(f"{path.name} was made from other data")
        if b"classes" not in about:
            raise DataError(f"{path.name} was written by an older release, which did not name the classes")
        classes = tuple(json.loads(about[b"classes"]))
        columns = {name: table.column(name).combine_chunks().take(pa.array(rows)) for name in table.column_names}
        values = columns["prediction"].to_numpy(zero_copy_only=False)
        if ("probability" in columns) != json.loads(about[b"probabilities"]) or (
            classes and not set(np.unique(values).tolist()) <= {*classes}
        ):
            raise ValueError("its columns are not what its metadata say")
        answers = Predictions(values, _probabilities(columns, len(classes)), classes)
        if answers.no_numbers.any():
            raise ValueError("it holds answers that are no numbers")
        return answers
    except (pa.ArrowException, OSError, KeyError, ValueError) as error:
        raise DataError(f"{path.name} is damaged ({str(error).splitlines()[0].rstrip('.')})") from None


def _probabilities(columns: dict[str, pa.Array], classes: int) -> np.ndarray | None:
    """Shape (rows, classes); None where the pipeline gave none."""
    if "probability" not in columns:
        return None
    if "probabilities" in columns:
        return np.asarray(columns["probabilities"].flatten().to_numpy().reshape(-1, classes))
    one = columns["probability"].to_numpy()
    return np.column_stack([1 - one, one] if classes == 2 else [one])


def made_from(path: Path) -> str | None:
    """Digest of the data that a file of predictions was made from; None for any other file."""
    recorded = _about(path).get(b"ror")
    return recorded.decode() if recorded else None


def _about(path: Path) -> Mapping[bytes, bytes]:
    """The metadata of a Parquet file; empty for any other file, and for none."""
    try:
        return pq.read_schema(path).metadata or {}
    except (pa.ArrowException, OSError):
        return {}
