"""Specifications, data files, and one small version."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pandas as pd
from threadpoolctl import threadpool_limits

from tasks.core.data.files import find_batches
from tasks.core.data.labels import Labels
from tasks.core.data.rows import LabelledRows, labelled_rows
from tasks.core.data.source import Source
from tasks.core.spec import ModelSpec, parse_spec
from tasks.core.training.challenger import Challenger
from tasks.core.training.challenger import train as train_challenger
from tasks.core.versions.loaded import LoadedVersion
from tests.helpers.model import make_rows

ROWS = make_rows(200, seed=1)


def make_spec(**changes: Any) -> ModelSpec:
    """A binary model over the rows of `make_rows`; `changes` replace whole keys of its file."""
    values = {
        "task": "binary",
        "target": "y",
        "key": "id",
        "owner": "tests",
        "purpose": "tests",
        "data": {"batches": "*.parquet"},
        "pipeline": {"parameters": {"max_iter": 10}},
    }
    merged = {**values, **changes}
    return parse_spec({**merged, "data": {"settle": 0, **merged["data"]}}, "tests")  # files of tests appear whole


def put(root: Path, frame: pd.DataFrame, name: str = "batch.parquet", **options: Any) -> Source:
    """Write a data file, as CSV or Parquet by its ending, and open it."""
    write = frame.to_csv if name.endswith(".csv") else frame.to_parquet
    write(root / name, index=False, **options)
    return Source(root, name)


def make_history(root: Path, spec: ModelSpec, *frames: pd.DataFrame) -> list[LabelledRows]:
    """The labelled rows of these frames, one batch each, in the order given."""
    for number, frame in enumerate(frames, start=1):
        put(root, frame, f"{number:03d}.parquet")
    labels = Labels(root, spec)
    return [labelled_rows(root, batch, labels, spec.task) for batch in find_batches(root, spec)]


def train(
    root: Path, spec: ModelSpec, history: list[LabelledRows], champion: LoadedVersion | None = None
) -> Challenger:
    """A challenger, fitted by one thread: a team of them stalls on a busy machine."""
    with threadpool_limits(1):
        return train_challenger(root, spec, history, champion, "retrain", ["a test"])


@dataclass(frozen=True)
class Trained:
    """A challenger with what it was made from."""

    root: Path
    spec: ModelSpec
    history: list[LabelledRows]
    challenger: Challenger
