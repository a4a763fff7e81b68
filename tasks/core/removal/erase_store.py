"""What the store holds of some rows: in the samples that versions keep, and as words in reports; and what it would hold
without them.

A sample has no key column: its rows are found by their values, as the version's own input schema reads them.
"""

from __future__ import annotations

import io
import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq

from tasks.core import layout
from tasks.core.checks.calibration import ColumnCalibration, scaled
from tasks.core.data.files import in_order
from tasks.core.data.labels import BatchLabels
from tasks.core.errors import CorruptObject, DataError
from tasks.core.ledger.state import State
from tasks.core.records import from_dict, from_json
from tasks.core.removal.erase_files import KeyMatcher
from tasks.core.schema.contract import Contract
from tasks.core.schema.frames import frame
from tasks.core.training.challenger import UNSEEN
from tasks.core.types import Batch
from tasks.core.versions.manifest import ERASABLE, MANIFEST, Manifest
from tasks.core.workspace import Workspace

KNOWN_BY_WORD = (".html", ".json")


@dataclass(frozen=True, slots=True)
class Place:
    """Something that holds the key."""

    path: str
    """Relative to the root; of an object, to the store."""
    what: str
    """`batch 2013-02`, `labels`, `predictions`, `reference of v3`, `report` ..."""
    count: int
    """Rows; of a text, words."""
    note: str = ""


@dataclass
class KeyBatch:
    """A batch that holds rows of the key, and is rewritten."""

    batch: Batch
    rows: np.ndarray
    """Row numbers, sorted."""
    total: int
    """Rows that the batch has."""
    labels: BatchLabels | None
    """As they were, where they can be read."""
    sha256: str = ""
    """Afterwards."""


@dataclass
class StoreMatches:
    """What of the store has to change."""

    replaced: dict[str, bytes] = field(default_factory=dict)
    """The new bytes of each object, by the path that the version or the run knows it by."""
    removed: set[str] = field(default_factory=set)
    """Paths to remove once that is on record."""
    found: list[Place] = field(default_factory=list)
    stays: list[str] = field(default_factory=list)
    """What holds the key and is never changed."""
    unknown: list[str] = field(default_factory=list)
    """What cannot be searched."""
    learned: list[int] = field(default_factory=list)
    """Versions whose pipeline was trained on batches that hold rows of the key."""


def search(workspace: Workspace, state: State, words: KeyMatcher, batches: Sequence[KeyBatch]) -> StoreMatches:
    """Look through the versions, the runs and the history of a model. Nothing is written. Raises StoreError."""
    found = StoreMatches()
    store, model = workspace.registry.store, workspace.model
    paths = [item.path for item in store.objects(layout.folder(model, layout.VERSIONS))]
    for version, names in layout.version_files(paths).items():
        _version(workspace, state, found, version, names, batches)
        for name in sorted(names):
            if name.endswith(".json"):
                _fixed(workspace, found, words, layout.version_path(model, version, name))
    originals = {new.path: path for path, new in state.replaced.items()}
    for item in store.objects(layout.folder(model, layout.RUNS)):
        if item.path not in state.replaced and item.path.endswith(KNOWN_BY_WORD):
            _shown(workspace, found, words, item.path, originals.get(item.path, item.path))
    for item in store.objects(layout.folder(model, layout.LEDGER)):
        _fixed(workspace, found, words, item.path)
    effective = {new.path for path, new in state.replaced.items() if path not in found.replaced}
    effective |= {layout.replacement_path(path, data) for path, data in found.replaced.items()}
    for item in store.objects(model):
        replaced_before = item.path in state.replaced
        if replaced_before or (layout.parse(item.path).is_replacement and item.path not in effective):
            found.removed.add(item.path)
    return found


# --- versions ------------------------------------------------------------------------------------------------


def _version(
    workspace: Workspace, state: State, found: StoreMatches, version: int, names: set[str], batches: Sequence[KeyBatch]
) -> None:
    """The reference and the known answers of one version; of a folder that never became one, they are removed."""
    store, folder = workspace.registry.store, layout.version_folder(workspace.model, version)
    if version in state.pruned:
        return
    manifest = None
    if MANIFEST in names:
        manifest, _ = workspace.registry.manifest(workspace.model, version)
        batches = _trained(workspace, found, manifest, batches)
        if batches:
            found.learned.append(version)
    if not batches or "contract.json" not in names:
        return
    try:
        contract = from_json(Contract, store.read(f"{folder}/contract.json"), f"{folder}/contract.json")
        rows = _rows(workspace, contract, batches)
    except (DataError, CorruptObject) as error:
        found.unknown.append(f"v{version}: its samples cannot be searched: {error}")
        return
    columns = json.loads(store.read(f"{folder}/calibration.json")) if "calibration.json" in names else {}
    scales = {name: from_dict(ColumnCalibration, column) for name, column in columns.items()}
    for name in ERASABLE:
        path = f"{folder}/{name}"
        new = state.replaced.get(path)
        now = new.path if new else path
        if now.rsplit("/", 1)[1] not in names:
            continue
        table = pq.read_table(pa.BufferReader(store.read(now)))
        same = matching(table, rows, scales)
        if not same.any():
            continue
        kept = _kept(same, len(rows))
        found.removed.add(now)
        gone = int((~kept).sum())
        note = f"{gone} identical rows, where the key has {len(rows)}" if gone > len(rows) else ""
        what = "reference" if name == "reference.parquet" else "known answers"
        found.found.append(Place(now, f"{what} of v{version}", gone, note))
        if manifest is not None:
            found.replaced[path] = _written(table.filter(pa.array(kept)))


def _trained(
    workspace: Workspace, found: StoreMatches, manifest: Manifest, batches: Sequence[KeyBatch]
) -> list[KeyBatch]:
    """Those of the batches that a version was trained on; what is not here any more is noted."""
    names = {file.batch for file in manifest.training}
    if gone := in_order(file.batch for file in manifest.training if not (workspace.root / file.path).exists()):
        found.unknown.append(
            f"v{manifest.version} was trained on {', '.join(gone)}, which are no longer here: whether its samples hold "
            "rows of the key is unknown"
        )
    return [batch for batch in batches if batch.batch.id in names]


def _rows(workspace: Workspace, contract: Contract, batches: Sequence[KeyBatch]) -> pd.DataFrame:
    frames = (frame(contract, workspace.source(batch.batch), batch.rows) for batch in batches)
    return pd.concat(frames, ignore_index=True)


def matching(table: pa.Table, rows: pd.DataFrame, scales: Mapping[str, ColumnCalibration]) -> np.ndarray:
    """Which rows of a sample have the features of any of `rows`, as they are or scaled, or but for categories that
    training never saw: one of the known answers is a row of training with those. Shape (rows of the table,)."""
    names = [name for name in rows.columns if name in table.column_names]
    if not names:
        return np.zeros(len(table), dtype=bool)
    compared = {name: scaled(rows[name], scales[name]) if name in scales else rows[name] for name in names}
    odd = {name: UNSEEN for name in names if rows[name].dtype == object}
    shapes = [shape.assign(**other) for shape in (rows, pd.DataFrame(compared)) for other in ({}, odd)]
    wanted = {row for shape in shapes for row in _tuples(shape, names)}
    return np.array([row in wanted for row in _tuples(table.select(names).to_pandas(), names)], dtype=bool)


def _tuples(data: pd.DataFrame, names: Sequence[str]) -> Iterator[tuple[Any, ...]]:
    """Rows that can be compared: nothing is equal to nothing."""
    columns = [[None if missing else value for value, missing in zip(data[n].tolist(), data[n].isna(), strict=True)]
               for n in names]  # fmt: skip
    return zip(*columns, strict=True)


def _kept(same: np.ndarray, rows: int) -> np.ndarray:
    """All identical rows go: one too many does no harm. Where nothing would be left, as many as the key has."""
    if not same.all():
        return ~same
    kept = np.ones(len(same), dtype=bool)
    kept[:rows] = False
    return kept


def _written(table: pa.Table) -> bytes:
    buffer = io.BytesIO()
    pq.write_table(table, buffer)
    return buffer.getvalue()


# --- words ---------------------------------------------------------------------------------------------------


def _shown(workspace: Workspace, found: StoreMatches, words: KeyMatcher, path: str, known_as: str) -> None:
    """A report or a record of a run, which people look at and nothing depends on."""
    data = workspace.registry.store.read(path)
    as_json = path.endswith(".json")
    if count := words.count_json(data) if as_json else words.count(data):
        found.replaced[known_as] = words.erased_json(data) if as_json else words.erased(data)
        found.removed.add(path)
        found.found.append(Place(path, "report", count, "words"))


def _fixed(workspace: Workspace, found: StoreMatches, words: KeyMatcher, path: str) -> None:
    """What digests and the chain rest on."""
    try:
        count = words.count_json(workspace.registry.store.read(path))
    except ValueError:
        found.unknown.append(f"{path} is damaged")
        return
    if count:
        found.stays.append(f"{path} holds the key's text: records and history are never changed")
