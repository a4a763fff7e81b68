"""What a model's file names, held against the data: columns that are not there, a metric that the target cannot have.

A fit refuses such a file; whatever else looks at it warns.
"""

from __future__ import annotations

import contextlib
import difflib
from collections.abc import Collection, Iterable, Iterator, Sequence
from pathlib import Path

from tasks.core.data.files import batch_name, find, label_files
from tasks.core.data.labels import Labels
from tasks.core.data.rows import LabelledRows, labelled_rows, target_of
from tasks.core.data.source import Source
from tasks.core.errors import DataError, RorError, SpecError
from tasks.core.spec import DEFAULT_METRICS, PREDICTION, ModelSpec
from tasks.core.text import named
from tasks.core.types import Batch

LOOKED_AT = 3
"""Batches, the newest first, in which labels are looked for to try a metric on."""


def refuse_unknown(root: Path, spec: ModelSpec, history: Sequence[LabelledRows]) -> None:
    """Raises SpecError with every name in a model's file that these labelled rows contradict."""
    from tasks.core.checks.performance import metric_problems

    problems = unknown_columns(spec, columns_of(root, spec, [part.source for part in history]))
    problems += metric_problems(spec.metric, spec.task, target_of(history))
    if problems:
        raise SpecError("the model's file", problems)


def problems_here(root: Path, spec: ModelSpec) -> list[str]:
    """What a fit would refuse, by the newest batches and labels that are there; files that cannot be read say nothing.

    The metric is tried where the file names one that is not the task's usual, and labels are found.
    """
    paths = find(root, spec.data.batches)[-LOOKED_AT:]
    newest: list[Source] = []
    for path in paths[-1:]:
        with contextlib.suppress(RorError, OSError):
            newest.append(Source(root, path.relative_to(root).as_posix(), spec.data.csv))
    if not newest:
        return []
    found = unknown_columns(spec, columns_of(root, spec, newest))
    return found + (_metric_here(root, spec, paths) if spec.metric != DEFAULT_METRICS[spec.task] else [])


def _metric_here(root: Path, spec: ModelSpec, paths: Sequence[Path]) -> list[str]:
    from tasks.core.checks.performance import metric_problems

    labels = Labels(root, spec, batches=())
    for path in reversed(paths):
        batch = Batch(batch_name(path), path.relative_to(root).as_posix(), "")
        with contextlib.suppress(RorError, OSError):  # what is wrong with it, its own check says
            part = labelled_rows(root, batch, labels, spec.task)
            if len(part.rows):
                return metric_problems(spec.metric, spec.task, part.target)
    return []


def columns_of(root: Path, spec: ModelSpec, sources: Iterable[Source]) -> set[str]:
    """Columns that some of these files have, or the newest label file; before there is one, the target as well."""
    found, files = {name for source in sources for name in source.names}, label_files(root, spec)
    if spec.data.labels and not files:
        found.add(spec.target)
    for path in files[-1:]:
        with contextlib.suppress(DataError):  # labels that cannot be read are named by their own check
            found |= {*Source(root, path.relative_to(root).as_posix(), spec.data.csv).names}
    return found


def unknown_columns(spec: ModelSpec, columns: Collection[str]) -> list[str]:
    """Names in a model's file that none of these columns has, one sentence each, with the nearest of them.

    A file without its header has values for names: where a private column is missing, no name of the data is shown.
    """
    found, told = [], {*spec.data.private} <= {*columns}
    for where, names in _named(spec):
        known = {*columns, PREDICTION, spec.target} if where.startswith("expected") else {*columns}
        for name in sorted({*names} - known):
            close = difflib.get_close_matches(name, sorted(known), n=1)
            hint = f"did you mean {close[0]!r}?" if close else f"the data have {named(sorted(known), 20)}"
            found.append(f"{where}: no column is called {name!r}{f'; {hint}' if told else ''}")
    return found


def _named(spec: ModelSpec) -> Iterator[tuple[str, Sequence[str]]]:
    """Every key of a model's file that names columns, with those names."""
    yield "target", [spec.target]
    yield "key", spec.key_columns
    yield "time", [spec.time] if spec.time else []
    yield "features", spec.features or ()
    yield "categorical", spec.categorical
    yield "growing", spec.growing
    yield "slices", spec.slices
    yield "data.private", spec.data.private
    for period in spec.expected:
        yield f"expected {period.name!r}", period.columns
