"""Small before/after pictures of columns, as numbers: shares of rows by value, to be drawn elsewhere."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd

from tasks.core.checks.calibration import OTHER, ColumnCalibration
from tasks.core.types import Check

BINS = 24
BARS = 8
"""Values that get a bar of their own; the rest share one."""
_OTHER = "other"
_DIGITS = 4


@dataclass(frozen=True, slots=True)
class Picture:
    """How one column was distributed in training and is now. Shares are of the rows that have a value."""

    title: str
    check: Check
    edges: tuple[float, ...] = ()
    """Bounds of the bins of a number, in its own units; empty for names and few values."""
    labels: tuple[str, ...] = ()
    """Values that have a bar; empty for bins."""
    before: tuple[float, ...] = ()
    after: tuple[float, ...] = ()
    last_year: tuple[float, ...] = ()
    """The same period a year earlier, where the change was expected and there are such data; else empty."""
    private: bool = False
    """Nothing of its values is shown."""

    @property
    def ends(self) -> tuple[str, str]:
        """The outer bounds in words, with as many digits as tell them apart."""
        low, high = self.edges[0], self.edges[-1]
        larger = max(abs(low), abs(high)) / (high - low) if high > low else 1.0
        digits = _DIGITS - 1 + max(1, int(np.ceil(np.log10(larger))))
        return f"{low:.{digits}g}", f"{high:.{digits}g}"


def picture(
    title: str,
    check: Check,
    column: ColumnCalibration,
    before: np.ndarray,
    after: np.ndarray,
    last_year: np.ndarray | None = None,
) -> Picture:
    """Columns as they are compared (clipped, rare names merged), drawn in their own units; each of shape (rows,)."""
    sides = [side[~pd.isna(side)] for side in (before, after, np.array([]) if last_year is None else last_year)]
    if column.numeric:
        sides = [side.astype(float) * column.scale + column.center for side in sides]
        values = np.unique(np.concatenate(sides))
        if len(values) > BARS:
            return _binned(title, check, sides)
        sides = [np.array([f"{value:.12g}" for value in side], dtype=object) for side in sides]
        return _bars(title, check, sides, [f"{value:.12g}" for value in values])
    shares = [_shares(side) for side in sides]
    most = {name: max(share.get(name, 0.0) for share in shares) for name in {**shares[0], **shares[1]} if name != OTHER}
    return _bars(title, check, sides, sorted(most, key=lambda name: -most[name])[:BARS])


def _binned(title: str, check: Check, sides: Sequence[np.ndarray]) -> Picture:
    low = min(float(np.quantile(side, 0.005)) for side in sides if len(side))
    high = max(float(np.quantile(side, 0.995)) for side in sides if len(side))
    if low == high:  # nearly all rows have one value
        low, high = min(side.min() for side in sides if len(side)), max(side.max() for side in sides if len(side))
    edges = np.linspace(low, high, BINS + 1)
    shares = [np.histogram(np.clip(side, low, high), edges)[0] / max(1, len(side)) for side in sides]
    before, after, last_year = (
        tuple(map(float, share)) if len(s) else () for share, s in zip(shares, sides, strict=True)
    )
    return Picture(title, check, tuple(map(float, edges)), (), before, after, last_year)


def _bars(title: str, check: Check, sides: Sequence[np.ndarray], labels: list[str]) -> Picture:
    found = []
    for side in sides:
        share = _shares(side)
        bars = [share.get(label, 0.0) for label in labels]
        found.append((*bars, max(0.0, 1 - sum(bars))) if len(side) else ())
    rest = any(side and side[-1] > 1e-9 for side in found)
    before, after, last_year = (side if rest else side[:-1] for side in found)
    return Picture(title, check, (), (*labels, _OTHER) if rest else tuple(labels), before, after, last_year)


def _shares(side: np.ndarray) -> Mapping[str, float]:
    return {str(name): float(share) for name, share in pd.Series(side).value_counts(normalize=True).items()}
