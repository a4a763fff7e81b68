"""Rows that a version cannot predict although they satisfy its input schema: which rows, which step, which column.

A pipeline is anybody's code: it may raise on a category that it never saw, or on a text that is missing, and may answer
what is no number. Its batch is set aside like one that breaks the input schema, and the others proceed.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
import pandas as pd
import pyarrow as pa

from tasks.core.data.source import Source
from tasks.core.errors import UnpredictableData
from tasks.core.schema.contract import Column
from tasks.core.schema.frames import conform, frames
from tasks.core.spec import ModelSpec, PipelineSpec
from tasks.core.versions import persistence
from tasks.core.versions.loaded import LoadedVersion

CALLS = 50
"""How often a pipeline is asked at most to find out what it fails on."""
COLUMN_CALLS = 25
"""How many of them go to columns at most."""


def unanswered(version: LoadedVersion, source: Source, spec: ModelSpec) -> tuple[str, ...]:
    """Why a version cannot predict a batch that satisfies its input schema, and the way out; empty where it can.

    Every row is asked for, chunk by chunk; not of the default pipeline, which answers whatever satisfies its schema.
    Raises ProbeMismatch where the known answers do not come either, so that it is not the batch that is to blame,
    UnavailablePipeline for want of memory or of a file, and DataError where the batch cannot be read.
    """
    if version.manifest.factory == PipelineSpec().factory:
        return ()
    search: _Search | None = None
    start = 0
    for part, keys in frames(version.contract, source, spec.key_columns, whole=version.manifest.together):
        try:
            persistence.predict(version.pipeline, part, contract=version.contract)
        except UnpredictableData as error:
            if search is None:
                version.still_answers()
                search = _Search(version, error.reason, () if spec.hides_key else spec.key_columns)
            search.look(part, start, keys)
        start += len(part)
    return () if search is None else (search.found(start), way_out(version.model))


def way_out(model: str) -> str:
    """What a person can do about a batch that a pipeline fails on."""
    return (
        "repair the data and deliver them again; or let the pipeline take such rows (pipeline.factory), and have it "
        f"trained: `ror run {model} --action retrain --reason '...'`"
    )


class _OutOfCalls(Exception):
    """The pipeline was asked often enough."""


class _Search:
    """What a pipeline fails on, found by asking it again with fewer rows, and with one value replaced."""

    def __init__(self, version: LoadedVersion, reason: str, key: Sequence[str]):
        self._version, self._contract, self._key = version, version.contract, key
        self._calls = CALLS
        self._reason = reason
        self._failing = self._unknown = 0
        self._first = ""
        self._column = ""
        self._together = False
        """No single row fails: it is the company of others."""

    def look(self, part: pd.DataFrame, start: int, keys: Sequence[pa.Array]) -> None:
        """Find the rows of a chunk that fail; it begins at this row of the batch and has these key columns."""
        todo = [np.arange(len(part))]
        while todo:
            places = todo.pop()
            try:
                reason = self._reason if len(places) == len(part) else self._failure(part.iloc[places])
                if reason is None:
                    continue
                if len(places) == 1:
                    self._failing += 1
                    if not self._first:
                        self._reason = reason
                        self._first = self._named(start, int(places[0]), keys)
                        self._column = self._culprit(part.iloc[places])
                    continue
            except _OutOfCalls:
                self._unknown += len(places)
                continue
            half = len(places) // 2
            todo += [places[half:], places[:half]]
        self._together |= not self._failing and not self._unknown

    def found(self, rows: int) -> str:
        """What fails, of so many rows, in one sentence."""
        if not self._first:
            whole = " together, though none of them alone" if self._together else ""
            return f"the pipeline cannot predict these {rows:,} rows{whole}: {self._reason}"
        known = rows - self._failing - self._unknown
        which = f"{self._failing:,} of {rows:,} rows" if not self._unknown else f"{self._failing:,} rows and more"
        others = f"; {known:,} of {rows:,} rows can be predicted" if known else ""
        many = f"the first is {self._first}" if self._failing + self._unknown > 1 else self._first
        return f"the pipeline cannot predict {which} ({many}): {self._reason}{self._column}{others}"

    def _failure(self, rows: pd.DataFrame) -> str | None:
        """Why the pipeline cannot predict these rows; None where it can."""
        if not self._calls:
            raise _OutOfCalls
        self._calls -= 1
        try:
            persistence.predict(self._version.pipeline, rows, contract=self._contract)
        except UnpredictableData as error:
            return error.reason
        return None

    def _named(self, start: int, place: int, keys: Sequence[pa.Array]) -> str:
        its = [f"{name} {array[place].as_py()!r}" for name, array in zip(self._key, keys, strict=False)]
        return ", ".join([f"row {start + place + 1:,}", *its])

    def _culprit(self, row: pd.DataFrame) -> str:
        """The column with which a row can be predicted once it has a value of training; empty where no single one is
        found. What training did not have is tried first."""
        known = self._version.known
        if not len(known):
            return ""
        given = conform(self._contract, known.iloc[:1])
        for column in sorted(self._contract.features, key=lambda each: _is_usual(each, row))[:COLUMN_CALLS]:
            other = row.assign(**{column.name: given[column.name].to_numpy()})
            try:
                if self._failure(other) is None:
                    return f"; it is column {column.name!r}{_shown(column, row)}"
            except _OutOfCalls:
                break
        return ""


def _is_usual(column: Column, row: pd.DataFrame) -> bool:
    """Whether training had such a value."""
    value = row[column.name].iloc[0]
    if _is_missing(value):
        return False
    if column.categories is not None:
        return value in column.categories
    return column.low is None or column.high is None or column.low <= value <= column.high


def _shown(column: Column, row: pd.DataFrame) -> str:
    value = row[column.name].tolist()[0]
    if _is_missing(value):
        return ", which is missing there"
    return "" if column.private else f", which is {value!r} there"


def _is_missing(value: object) -> bool:
    return isinstance(value, float) and math.isnan(value)
