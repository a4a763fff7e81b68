"""The offending cells of batches, one row each, in a file, to repair what was delivered."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.csv as csv
import pyarrow.parquet as pq

from tasks.core.data.arrow import decoded, is_usable
from tasks.core.data.files import atomic_write, find_batches
from tasks.core.data.source import Source
from tasks.core.errors import AlreadyExists, InvalidRequest, NotFound, UnreadableData
from tasks.core.schema.cells import Examined, examine
from tasks.core.schema.contract import Contract
from tasks.core.schema.validation import CHANCE, Tally, tallied
from tasks.core.spec import ModelSpec
from tasks.core.types import Batch
from tasks.core.workspace import Workspace

SCHEMA = pa.schema(
    [
        ("batch", pa.string()),
        ("row", pa.int64()),
        ("key", pa.string()),
        ("column", pa.string()),
        ("value", pa.string()),
        ("reason", pa.string()),
    ]
)
"""One row per offending cell: `row` counts from 0; `key` and `value` are empty where their column is private."""


@dataclass
class Exported:
    """What an export found."""

    batches: tuple[str, ...]
    rows: int = 0
    """Cells that were written."""
    problems: tuple[str, ...] = ()
    """Of whole batches: they have no rows to show."""


def export(workspace: Workspace, output: Path, batch: str | None = None) -> Exported:
    """Write the offending cells of the batches that are set aside or pending, or of the one that is named.

    Values that do not fit or are infinite are all written; missing and unseen ones, and those outside the range, where
    there are enough of them that the column's content counts as changed. Memory does not grow with rows. Nothing is
    written when there is nothing to write. Raises NotFound before the first version, InvalidRequest for a batch or an
    ending that is unknown, AlreadyExists, and StoreError.
    """
    if output.suffix not in (".parquet", ".csv"):
        raise InvalidRequest("output", [f"{output.name} must end in .parquet or .csv"])
    if output.exists():
        raise AlreadyExists(f"{output} is there already. Choose another name; nothing is overwritten.")
    state = workspace.state()
    if state.current is None:
        raise NotFound(
            f"No version of {workspace.model!r} is in service yet, so there is no input schema to compare data with. "
            f"`ror run {workspace.model}` trains one."
        )
    contract = workspace.registry.load_in_service(workspace.model, state).contract
    batches = find_batches(workspace.root, workspace.spec, state.batches, state.order)
    if batch is not None and batch not in {item.id for item in batches}:
        newest = ", ".join(item.id for item in batches[-5:]) or "none"
        raise InvalidRequest("batch", [f"{workspace.model} has no batch {batch!r}. The newest here: {newest}"])
    undecided = {item.id for item in batches if item.id not in state.batches or item.id in state.blocked}
    chosen = [item for item in batches if item.id in ({batch} if batch is not None else undecided)]
    found = Exported(tuple(item.id for item in chosen))
    looked = [_look(workspace, item, contract, found) for item in chosen]
    if any(item.columns for item in looked):
        with atomic_write(output) as temporary:
            _write(looked, workspace.spec, temporary, output.suffix, found)
    return found


@dataclass(frozen=True)
class _Looked:
    """A batch that was counted: its features that have cells to export, each with what they are."""

    batch: str
    source: Source | None
    columns: tuple[tuple[Tally, tuple[str, ...]], ...] = ()


def _look(workspace: Workspace, batch: Batch, contract: Contract, found: Exported) -> _Looked:
    """What a batch has to export; what is wrong with the whole of it is noted."""
    spec, chance, columns = workspace.spec, CHANCE / len(contract.features), []
    try:
        source = workspace.source(batch)
        counted = tallied(contract, source, spec)
    except UnreadableData as error:
        found.problems += (f"{batch.id}: {error}",)
        return _Looked(batch.id, None)
    found.problems += tuple(f"{batch.id}: {problem}" for problem in counted.problems)
    for tally in counted.tallies:
        aspects = tally.aspects(counted.rows, spec.checks, chance, tally.column.name in spec.growing)
        kinds = ("bad", "inexact", "infinite", *(aspect.name for aspect in aspects if aspect.changed))
        if present := tuple(kind for kind in kinds if tally.counts[kind]):
            columns.append((tally, present))
    return _Looked(batch.id, source, tuple(columns))


def _write(looked: Sequence[_Looked], spec: ModelSpec, path: Path, ending: str, found: Exported) -> None:
    make = pq.ParquetWriter if ending == ".parquet" else csv.CSVWriter
    with make(str(path), SCHEMA) as writer:
        for item in looked:
            for table in _cells(item, spec):
                found.rows += len(table)
                writer.write_table(table)


def _cells(looked: _Looked, spec: ModelSpec) -> Iterator[pa.Table]:
    """The offending cells of one batch, chunk by chunk."""
    source, names, start = looked.source, [tally.column.name for tally, _ in looked.columns], 0
    if source is None or not names:
        return
    key = next(iter(spec.key_columns), None)  # of several columns the one that says whose the row is
    key = None if key in spec.data.private or source.names.count(key or "") != 1 else key
    for chunk in source.stream([*names, *([key] if key is not None and key not in names else [])]):
        keys = _texts(chunk.column(key)) if key is not None else None
        tables = [
            _rows(looked.batch, start, examine(tally.column, array, source.numerals), keys, tally, kind)
            for (tally, kinds), array in zip(looked.columns, chunk.columns, strict=False)
            for kind in kinds
        ]
        start += chunk.num_rows
        if sum(len(table) for table in tables):
            yield pa.concat_tables(tables)


def _rows(batch: str, start: int, found: Examined, keys: pa.Array | None, tally: Tally, kind: str) -> pa.Table:
    mask: np.ndarray | None = getattr(found, kind)
    rows = pa.array(np.flatnonzero(mask) if mask is not None else np.empty(0, dtype=np.int64))
    nothing = pa.nulls(len(rows), pa.string())
    column, reasons = tally.column, {"inexact": "too many digits", "unseen": "not seen in training"}
    reasons |= {"bad": f"not a {tally.column.kind}", "outside": f"outside{tally.range or ' the training range'}"}
    arrays = [
        pa.repeat(batch, len(rows)),
        pc.add(rows, start),
        nothing if keys is None else keys.take(rows),
        pa.repeat(column.name, len(rows)),
        nothing if column.private else _texts(found.values.take(rows)),
        pa.repeat(reasons.get(kind, kind), len(rows)),
    ]
    return pa.Table.from_arrays(arrays, schema=SCHEMA)


def _texts(values: pa.Array) -> pa.Array:
    """Values as text, of whatever type; empty where they cannot be written as text."""
    try:
        values.validate(full=True)
        if is_usable(values.type):
            return decoded(values).cast(pa.string())
        return pa.array([None if value is None else str(value) for value in values.to_pylist()], pa.string())
    except (pa.ArrowException, ValueError, OverflowError, KeyError):
        return pa.nulls(len(values), pa.string())
