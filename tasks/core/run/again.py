"""Rows that came before: counted and named by their key, when their batch arrives."""

from __future__ import annotations

import json
from collections.abc import Collection, Sequence
from pathlib import Path

from tasks.core.data.identity import Names, Repeats
from tasks.core.data.known import Overlap, overlaps
from tasks.core.data.labels import Labels
from tasks.core.spec import ModelSpec
from tasks.core.text import named
from tasks.core.types import Batch, Check, CheckKind, Verdict


def check_repeats(labels: Labels, pending: Sequence[Batch], copies: Collection[str]) -> list[Check]:
    """What of the pending batches came before, by key; `copies` are batches whose every byte did, which is said
    elsewhere. Where the key names no row, that is said once, of the newest of them."""
    identity = labels.identity
    found = [(batch, again) for batch in pending if (again := identity.repeats(batch)) and batch.id not in copies]
    if identity.names is not Names.ROW:
        return [_entity(labels, batch, again) for batch, again in found[-1:]]
    return [_repeated(labels.spec, batch, again, identity.restated(batch)) for batch, again in found]


def _repeated(spec: ModelSpec, batch: Batch, again: Repeats, restated: int) -> Check:
    rows = again.before + again.within
    where = [f"{again.before:,} in {named(again.owners, 3)}"] if again.before else []
    where += [f"{again.within:,} further up in the file"] if again.within else []
    shown = "" if spec.hides_key else f", such as {again.example!r}"
    said = f"{rows:,} of {again.rows:,} rows of {batch.id} came before, by their {spec.key_text}{shown}"
    text = (
        f"{said}: {' and '.join(where)}. The row that came first counts; these are predicted, and count in no loss and "
        "no fit"
    )
    if restated:
        text += f". With other values (restated): {restated:,}; if those are other rows, {another_key(spec)}"
    return Check.of(CheckKind.KEYS, batch.id, Verdict.WARN, text, float(rows))


def _entity(labels: Labels, batch: Batch, again: Repeats) -> Check:
    spec = labels.spec
    if labels.identity.names is Names.NOTHING:
        known = "not even within one batch. Every row counts, and no label file can say which row it means"
    else:
        known = (
            f"{again.before:,} of {again.rows:,} rows of {batch.id} have one of {named(again.owners, 3)}. A row is "
            f"known by {spec.key_text} and its batch"
        )
        known += ", and a label file labels the batch that it is called by" if spec.data.labels else ""
    text = f"{spec.key_text} comes again with other values and names no row: {known}. Better: {another_key(spec)}"
    return Check.of(CheckKind.KEYS, batch.id, Verdict.WARN, text, float(again.before + again.within))


def check_overlaps(
    root: Path, spec: ModelSpec, pending: Sequence[Batch], earlier: Sequence[Batch], out: Collection[str]
) -> list[Check]:
    """Where rows have no key: that a large part of a batch came before, which is more than is usual here. Batches that
    are `out` are not looked at."""
    if spec.key_columns:
        return []
    new, known = ([batch for batch in batches if batch.id not in out] for batches in (pending, earlier))
    return [
        Check.of(CheckKind.KEYS, name, Verdict.WARN, _overlapping(name, overlap), float(overlap.count))
        for name, overlap in overlaps(root, spec, new, known).items()
    ]


def _overlapping(batch: str, found: Overlap) -> str:
    usual = f" ({found.usual:.0%} are usual)" if found.usual else ""
    many = f"at least {found.count:,}" if found.at_least else f"{found.count:,}"
    return (
        f"{many} rows of {batch} came before, most of them in {found.among}{usual}: the model has no key, and "
        "all that is read of them is alike. They count again in losses and fits. What is new of a file that grows "
        "takes `ror add MODEL FILE --new-rows`"
    )


def another_key(spec: ModelSpec) -> str:
    """What to write where a key names no row: with the time column, if there is one that it has not."""
    more = spec.time if spec.time and spec.time not in spec.key_columns else "..."
    where = ", in batches and label files" if spec.data.labels else ""
    return f"name the columns that tell rows apart{where}: key = {json.dumps([*spec.key_columns, more])}"
