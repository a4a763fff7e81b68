"""Slices: what users lost where a column has one value, compared with what they lost there before.

No rule looks at them.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.compute as pc

from tasks.core.checks import performance
from tasks.core.data.arrow import as_names, count_true, decoded, is_number, is_text, is_usable, reads_as_number
from tasks.core.data.labels import Labels
from tasks.core.data.rows import LabelledRows, labelled_rows
from tasks.core.data.source import Source
from tasks.core.errors import DataError
from tasks.core.predictions import predictions_path, read_predictions, written_version
from tasks.core.spec import ModelSpec
from tasks.core.text import amount
from tasks.core.types import Batch, Check, CheckKind, LossPoint, Verdict
from tasks.core.workspace import Workspace

LARGEST = 20
"""Slices of one column that are measured: each is a check in the history, whatever the data bring."""
MANY = 50
"""Different numbers in a column beyond which they are a measurement, not names: they must be cut first."""
EARLIER = 4
"""Labelled batches that a slice is compared with."""
FALSE_ALARMS = 0.01
"""Share of the slices that are named although they did not get worse."""
CLEARLY = 1.1
"""A slice must lose this many times what it would, had it changed as the other rows did."""
MISSING, SHOWN = "(missing)", 60
"""How missing values are called, and the characters of a value that are shown."""


@dataclass(frozen=True)
class BatchLosses:
    """The loss of every labelled row of one batch."""

    part: LabelledRows
    losses: np.ndarray
    """Shape (rows,)."""


@dataclass(frozen=True, slots=True)
class _Side:
    """A slice's losses in short."""

    rows: int
    mean: float
    deviation: float
    """Of the loss per row, of the sample."""


@dataclass(frozen=True, slots=True)
class _Slice:
    column: str
    value: str
    now: _Side
    then: _Side
    others_now: float | None
    """Mean loss of the rows that have another value; None where there are none."""
    others_then: float | None

    @property
    def scale(self) -> float:
        """By how much the others rose; by as much as the slice itself where it is all there is. At least 1."""
        now, then = self.others_now, self.others_then
        if now is None or then is None:
            now, then = self.now.mean, self.then.mean
        return max(1.0, now / then) if then else 1.0


def check_slices(spec: ModelSpec, newest: BatchLosses, before: Sequence[BatchLosses]) -> tuple[Check, ...]:
    """One check per slice with enough rows on both sides; one that says how many have too few; one per column that
    cannot be sliced.

    A slice fails when its loss rose clearly, and by more than that of the other rows: what it lost before is scaled by
    the rise of those, where that is more than 1. One-sided test of unequal variances (Welch 1947) on the
    losses of its rows now and in all of `before`, false discoveries controlled over all slices at FALSE_ALARMS
    (Benjamini and Hochberg 1995), and CLEARLY more in size. Without the scaling a bad week for all is one for each: of
    flights by week 19 % of the slices would be named instead of 7 %, of bike rentals 11 % instead of 2 %.
    """
    if not spec.slices:
        return ()
    if not before:
        text = "slices are not compared yet: no earlier labelled batch has answers of a version that it did not train"
        return (Check.of(CheckKind.SLICES, None, Verdict.SKIPPED, text),)
    found: list[_Slice] = []
    checks: list[Check] = []
    few = smaller = 0
    for column in spec.slices:
        now, why = _sides(spec, column, [newest])
        if why:
            checks.append(Check.of(CheckKind.SLICE, column, Verdict.SKIPPED, why))
            continue
        then, _ = _sides(spec, column, before)
        largest = sorted(now, key=lambda value: (-now[value].rows, value))[:LARGEST]
        smaller += len(now) - len(largest)
        enough = [v for v in largest if v in then and min(now[v].rows, then[v].rows) >= spec.checks.slice_rows]
        few += len(largest) - len(enough)
        found += [
            _Slice(column, value, now[value], then[value], _others(now, value), _others(then, value))
            for value in enough
        ]
    checks[:0] = _judged(found)
    if few or smaller:
        checks.append(_uncounted(few, smaller, spec.checks.slice_rows))
    return tuple(checks)


def earlier(
    workspace: Workspace, labels: Labels, batches: Sequence[Batch], points: Sequence[LossPoint]
) -> list[BatchLosses]:
    """What users lost on the last EARLIER of these batches, by the answers of the day; both in time order.

    A batch is left out where its answers are gone or damaged, and where `points` do not have the version that gave
    them: that version was trained on the batch's labels, and says nothing about what users lose.
    """
    measured = {(point.batch, point.version) for point in points}
    found: list[BatchLosses] = []
    for batch in reversed(batches):
        path = predictions_path(workspace, batch)
        if len(found) == EARLIER or (batch.id, written_version(path)) not in measured:
            continue
        try:
            part = labelled_rows(workspace.root, batch, labels, workspace.spec.task)
            answers = read_predictions(path, batch.sha256, part.total, part.rows)
        except DataError:
            continue  # who needs this batch for a rule says so in a check of its own
        if len(part.rows):
            found.append(BatchLosses(part, performance.row_losses(answers, part.target, workspace.spec.task)))
    return found[::-1]


def _sides(spec: ModelSpec, column: str, lost: Sequence[BatchLosses]) -> tuple[Mapping[str, _Side], str]:
    """The losses of every value of a column, or the reason why it cannot be sliced."""
    values, losses = [], []
    for item in lost:
        names, why = _values(spec, column, item.part.source)
        if names is None:
            if len(lost) == 1:
                return {}, why
            continue  # an earlier batch without the column has none of these slices
        values.append(names.take(pa.array(item.part.rows)).to_numpy(zero_copy_only=False))
        losses.append(item.losses)
    if not values:
        return {}, ""
    groups = pd.Series(np.concatenate(losses)).groupby(np.concatenate(values))
    table = groups.agg(["size", "mean", "std"])
    return {str(v): _Side(int(n), float(mean), float(std)) for v, n, mean, std in table.itertuples()}, ""


def _others(sides: Mapping[str, _Side], value: str) -> float | None:
    rest = [side for name, side in sides.items() if name != value]
    rows = sum(side.rows for side in rest)
    return sum(side.rows * side.mean for side in rest) / rows if rows else None


def _values(spec: ModelSpec, column: str, source: Source) -> tuple[pa.Array | None, str]:
    """The value of every row as a name; None, with the reason, where there is none or there are too many."""
    if source.names.count(column) != 1:
        return None, f"{source.path} has no column {column!r} to slice by: deliver it, or take it out of `slices`"
    array = decoded(source.read([column]).column(0).combine_chunks())
    kind = array.type
    if not (is_usable(kind) or pa.types.is_temporal(kind)):
        return None, f"{column!r} is {kind}: slices are by numbers, booleans or text; take it out of `slices`"
    try:
        names = as_names(array, codes=True)
        names.validate(full=True)
    except pa.ArrowException as error:
        return None, f"{column!r} cannot be read as names ({type(error).__name__}): take it out of `slices`"
    digits = count_true(reads_as_number(names, source.decimal or ".")) == len(names) - names.null_count
    measured = digits if is_text(kind) and source.is_text else pa.types.is_temporal(kind) or is_number(kind)
    if measured and column not in spec.categorical and (different := pc.count_distinct(names).as_py()) > MANY:
        advice = "add a column that cuts it into a few ranges, or list it under `categorical` if it is a code"
        return None, f"{column!r} has {different:,} different numbers, too many to slice by: {advice}"
    return pc.fill_null(names, MISSING), ""


def _judged(found: Sequence[_Slice]) -> list[Check]:
    """Verdicts on all slices together, in the order given."""
    if not found:
        return []
    from scipy.stats import false_discovery_control, ttest_ind_from_stats

    now = np.array([[s.now.mean, s.now.deviation, s.now.rows] for s in found]).T
    then = np.array([[s.scale * s.then.mean, s.scale * s.then.deviation, s.then.rows] for s in found]).T
    with np.errstate(divide="ignore", invalid="ignore"):  # slices without any spread
        tested = ttest_ind_from_stats(*now, *then, equal_var=False, alternative="greater").pvalue
    chances = false_discovery_control(np.nan_to_num(np.asarray(tested, dtype=float), nan=1.0))
    return [_check(item, bool(chance <= FALSE_ALARMS)) for item, chance in zip(found, chances, strict=True)]


def _check(item: _Slice, beyond_chance: bool) -> Check:
    limit = CLEARLY * item.scale * item.then.mean
    worse = beyond_chance and item.now.mean > limit
    value = item.value if len(item.value) <= SHOWN else f"{item.value[: SHOWN - 1]}…"
    others = "it is all there is"
    if item.others_now is not None:
        before = f", {amount(item.others_then)} before" if item.others_then is not None else ""
        others = f"other rows: {amount(item.others_now)}{before}"
    text = (
        f"loss {amount(item.now.mean)} where {item.column} is {value} ({item.now.rows:,} rows), "
        f"{amount(item.then.mean)} on the batches before; {others}"
    )
    verdict = Verdict.FAIL if worse else Verdict.PASS
    return Check.of(CheckKind.SLICE, f"{item.column}={value}", verdict, text, item.now.mean, limit)


def _uncounted(few: int, smaller: int, rows: int) -> Check:
    """Slices that nothing is said about."""
    parts = []
    if few:
        what = "slice has" if few == 1 else "slices have"
        parts.append(f"{few} {what} fewer than {rows} labelled rows, now or on the batches before (checks.slice_rows)")
    if smaller:
        parts.append(f"{smaller:,} smaller ones are beyond the {LARGEST} largest of a column")
    return Check.of(CheckKind.SLICES, None, Verdict.SKIPPED, "not compared: " + "; ".join(parts))
