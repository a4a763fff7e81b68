"""What differs between two versions: data, input schema, specification, environment, importance, metrics, files.

`differences` is pure: two records in, a frozen value out. In it `a` and `b` are what the first and the second version
have; None stands for what one of them does not have. No value of a column that is private, in either of them or by the
specification as it is now, is in it.
"""

from __future__ import annotations

import contextlib
import difflib
import json
from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from tasks.core.audit.diff_types import (
    Change,
    ChangedBatch,
    CodeChange,
    ColumnDifference,
    ColumnSummary,
    DataDifference,
    Differences,
    MetricPair,
    MetricsDifference,
    SchemaDifference,
    TrainedBatch,
)
from tasks.core.errors import NotFound
from tasks.core.types import Metric
from tasks.core.versions.manifest import Manifest, TrainingFile, training_digest
from tasks.core.versions.own_code import even
from tasks.core.versions.registry import Registry

if TYPE_CHECKING:
    from tasks.core.schema.contract import Column, Contract

TOLD = ("kind", "type", "codes", "private", "null_rate", "other_share", "null_peak", "unseen_peak", "outside_peak")
"""What is told of any column that differs."""
RANGE = ("low", "high")
"""What is told unless it is private."""


@dataclass(frozen=True, slots=True)
class VersionRecord:
    """What a version's record says, as far as it is still in the store."""

    manifest: Manifest
    contract: Contract | None
    """None: its file was removed."""
    importance: Mapping[str, float] | None
    """Share of each column in the permutation importance, 0 to 1; None: its files were removed."""
    sources: Mapping[str, str] | None
    """Text of its own modules, which belong to no package, by name; None: their file was removed."""


def recorded(registry: Registry, manifest: Manifest) -> VersionRecord:
    """A version's record with what belongs to it but the pipeline, verified. Raises CorruptObject or StoreError."""
    from tasks.core.records import from_json
    from tasks.core.schema.contract import Contract

    def stored(name: str) -> bytes | None:
        try:
            return registry.file(manifest, name) if name in manifest.files else None
        except NotFound:
            return None

    name = f"{manifest.model} v{manifest.version}"
    contract, importance = stored("contract.json"), None
    if evaluation := stored("evaluation.json"):
        importance = json.loads(evaluation).get("importance")
    if importance is None and (calibration := stored("calibration.json")):
        weights = ((column, item["weight"]) for column, item in json.loads(calibration).items())
        importance = {column: weight for column, weight in weights if not column.startswith("ror:")}
    accepted = from_json(Contract, contract, f"{name} contract.json") if contract else None
    sources = None
    with contextlib.suppress(NotFound):
        sources = registry.sources(manifest)
    return VersionRecord(manifest, accepted, importance, sources)


def differences(a: VersionRecord, b: VersionRecord, private: Collection[str] = ()) -> Differences:
    """In what the second version differs from the first. `private`: columns that are private by now."""
    old, new = a.manifest, b.manifest
    hidden = {*private, *old.spec["data"].get("private", ()), *new.spec["data"].get("private", ())}
    return Differences(
        model=old.model,
        a=old.version,
        b=new.version,
        made=_changes(_made(old), _made(new)),
        data=_data(old, new),
        schema=_schema(a.contract, b.contract, hidden) if a.contract and b.contract else None,
        specification=_changes(flat(_specification(old)), flat(_specification(new))),
        environment=_changes(flat(old.environment), flat(new.environment)),
        code=_code(a, b),
        importance=_importance(a.importance, b.importance),
        metrics=_metrics(old, new),
        files=_files(old, new),
    )


def flat(value: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
    """A nested mapping with dotted keys; lists of mappings are numbered from 1, other lists are values."""
    found: dict[str, Any] = {}
    for name, item in value.items():
        path = f"{prefix}{name}"
        if isinstance(item, list | tuple) and item and all(isinstance(part, Mapping) for part in item):
            item = {str(number): part for number, part in enumerate(item, start=1)}
        if isinstance(item, Mapping):
            found |= flat(item, f"{path}.")
        else:
            found[path] = list(item) if isinstance(item, tuple) else item
    return found


def _changes(a: Mapping[str, Any], b: Mapping[str, Any]) -> tuple[Change, ...]:
    """In the order of the second, what only the first has last. None and nothing are the same: see `Differences`."""
    names = [*b, *(name for name in a if name not in b)]
    pairs = ((name, a.get(name), b.get(name)) for name in names)
    return tuple(Change(name, old, new) for name, old, new in pairs if not _same(old, new))


def _same(a: Any, b: Any) -> bool:
    """Equal, and of one kind: 1 is not True."""
    return bool(a == b) and isinstance(a, bool) == isinstance(b, bool)


def _made(manifest: Manifest) -> dict[str, Any]:
    names = ("created", "parent", "action", "reasons", "duration_seconds", "peak_memory_mb")
    return {name: getattr(manifest, name) for name in names}


def _specification(manifest: Manifest) -> dict[str, Any]:
    """The specification as it was used; what built the pipeline is what the manifest says it was."""
    pipeline = {"factory": manifest.factory, "parameters": manifest.parameters}
    return {**manifest.spec, "seed": manifest.seed, "pipeline": {**manifest.spec.get("pipeline", {}), **pipeline}}


def _data(a: Manifest, b: Manifest) -> DataDifference:
    old, new = ({file.batch: file for file in manifest.training} for manifest in (a, b))
    shared = [(old[name], new[name]) for name in new if name in old]
    fields = ("sha256", "labels", "rows", "held_out")
    changed = [
        ChangedBatch(ours.batch, found)
        for theirs, ours in shared
        if (found := _changes(*({name: getattr(file, name) for name in fields} for file in (theirs, ours))))
    ]
    return DataDifference(
        rows=(a.rows, b.rows),
        digests=(training_digest(a), training_digest(b)),
        added=_batches(file for name, file in new.items() if name not in old),
        removed=_batches(file for name, file in old.items() if name not in new),
        changed=tuple(changed),
        same=len(shared) - len(changed),
    )


def _batches(files: Iterable[TrainingFile]) -> tuple[TrainedBatch, ...]:
    return tuple(TrainedBatch(file.batch, file.rows, file.sha256, file.labels) for file in files)


def _schema(a: Contract, b: Contract, private: Collection[str]) -> SchemaDifference:
    old, new = ({column.name: column for column in contract.features} for contract in (a, b))
    shared = [name for name in new if name in old]
    found = [_column(old[name], new[name], name in private) for name in shared]
    return SchemaDifference(
        added=tuple(_summary(column) for name, column in new.items() if name not in old),
        removed=tuple(_summary(column) for name, column in old.items() if name not in new),
        changed=tuple(column for column in found if column is not None),
        same=found.count(None),
        now_ignored=tuple(name for name in b.ignored if name not in a.ignored),
        no_longer_ignored=tuple(name for name in a.ignored if name not in b.ignored),
    )


def _summary(column: Column) -> ColumnSummary:
    return ColumnSummary(column.name, column.kind, column.type, column.null_rate)


def _column(a: Column, b: Column, private: bool) -> ColumnDifference | None:
    """None where they are the same, but for the order of their categories."""
    private = private or a.private or b.private
    told = TOLD if private else (*TOLD, *RANGE)
    changes = _changes(*({name: getattr(column, name) for name in told} for column in (a, b)))
    old, new = a.categories or (), b.categories or ()
    known, listed = set(old), set(new)
    added = tuple(name for name in new if name not in known)
    removed = tuple(name for name in old if name not in listed)
    hidden = private and any(getattr(a, name) != getattr(b, name) for name in RANGE)
    if not (changes or added or removed or hidden):
        return None
    return ColumnDifference(
        name=a.name,
        private=private,
        changes=changes,
        added=() if private else added,
        removed=() if private else removed,
        new=len(added),
        gone=len(removed),
        capped=bool(a.other_share or b.other_share),
        hidden=hidden,
    )


def _code(a: VersionRecord, b: VersionRecord) -> tuple[CodeChange, ...] | None:
    if a.sources is None or b.sources is None:
        return None
    changes = []
    for module in sorted({*a.sources, *b.sources}):
        old, new = (even(sources.get(module, "")) for sources in (a.sources, b.sources))
        if old == new and (module in a.sources) == (module in b.sources):
            continue
        then, now = (f"{module}, v{item.manifest.version}" for item in (a, b))
        lines = tuple(difflib.unified_diff(old.splitlines(), new.splitlines(), then, now, n=1, lineterm=""))
        signs = [line[0] for line in lines[2:]]
        changes.append(CodeChange(module, signs.count("+"), signs.count("-"), lines))
    return tuple(changes)


def _importance(a: Mapping[str, float] | None, b: Mapping[str, float] | None) -> tuple[Change, ...] | None:
    if a is None or b is None:
        return None
    return tuple(sorted(_changes(a, b), key=lambda change: -abs((change.b or 0.0) - (change.a or 0.0))))


def _metrics(a: Manifest, b: Manifest) -> MetricsDifference:
    compared: tuple[MetricPair, ...] = ()
    newer = a if a.parent == b.version else b
    if newer.champion_metrics and newer.parent in (a.version, b.version):
        compared = _pairs(*(m.metrics if m is newer else newer.champion_metrics for m in (a, b)))
    kept = max((metric.rows for metric in newer.metrics.values()), default=0)
    return MetricsDifference(
        each=_pairs(a.metrics, b.metrics),
        same_rows=bool(_measured_on(a)) and _measured_on(a) == _measured_on(b),
        compared=compared,
        seen=kept - newer.gate.rows if compared else 0,
        gates=(a.gate, b.gate),
    )


def _pairs(a: Mapping[str, Metric], b: Mapping[str, Metric]) -> tuple[MetricPair, ...]:
    return tuple(MetricPair(name, a.get(name), b.get(name)) for name in {**b, **a})


def _measured_on(manifest: Manifest) -> list[tuple[Any, ...]]:
    """What the gate's rows follow from: files, labels, and how many are kept (more for a version without a parent)."""
    first, counts = manifest.parent is None, sorted({metric.rows for metric in manifest.metrics.values()})
    return [(file.sha256, file.labels, first, *counts) for file in manifest.training if file.held_out]


def _files(a: Manifest, b: Manifest) -> tuple[Change, ...]:
    changed = _changes(*({name: file.sha256 for name, file in manifest.files.items()} for manifest in (a, b)))
    old, new = ({name: file.size for name, file in manifest.files.items()} for manifest in (a, b))
    return tuple(Change(change.name, old.get(change.name), new.get(change.name)) for change in changed)
