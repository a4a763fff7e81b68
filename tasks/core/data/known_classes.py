"""Which classes a model's labels may be."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from tasks.core.data.arrow import is_text
from tasks.core.data.classes import Class, count, of_one_kind
from tasks.core.data.labels import Labels
from tasks.core.errors import DataError
from tasks.core.spec import ModelSpec
from tasks.core.types import Batch

ENOUGH = 30
"""Labels that tell what the classes are, where no file and no version does; fewer, and later batches are asked too."""


def with_classes(
    root: Path, spec: ModelSpec, pipeline: Any, batches: Sequence[Batch], files: Sequence[Path]
) -> ModelSpec:
    """The model's file with the classes that count: its own, else those of the pipeline in service, else those of the
    first labelled batch. Unchanged for regression, and while there are no labels.

    `batches` are in time order; `files` are the label files.
    """
    if spec.task == "regression" or spec.classes:
        return spec
    found = _learned(pipeline) or _first(root, spec, batches, files)
    return spec.model_copy(update={"classes": found}) if found else spec


def _learned(pipeline: Any) -> tuple[Class, ...]:
    classes = np.asarray(getattr(pipeline, "classes_", ()))
    return tuple(int(one) if isinstance(one, float) else one for one in classes.tolist())


def _first(root: Path, spec: ModelSpec, batches: Sequence[Batch], files: Sequence[Path]) -> tuple[Class, ...]:
    """The classes of the first labels: of two classes the two most frequent values, so that a stray value makes no
    third."""
    labels, _ = Labels.usable(root, spec, files, batches, mixed=True)
    counts: Counter[Class] = Counter()
    for batch in batches:
        try:
            counts += count(labels.of(batch).values) or Counter()
        except DataError:
            continue  # joining the labels of this batch says so
        if len(counts) > 1 and counts.total() >= ENOUGH:
            break
    mixed = len({is_text(labels.file(path).values.type) for path in labels.files}) > 1
    usual = of_one_kind(counts, mixed=mixed).most_common(2 if spec.task == "binary" else None)
    return tuple(sorted(value for value, _ in usual)) if len(usual) > 1 else ()
