"""Windows of rows as drift checks see them, for the tests of calibration and drift."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import pandas as pd

from tasks.core.checks.calibration import SCORE, TARGET, ColumnCalibration, calibrate, reference_of
from tasks.core.schema.contract import Column, Contract
from tests.helpers.model import make_rows

KINDS = {"income": "number", "age": "number", "city": "category", "member": "boolean"}
EVEN = dict.fromkeys(KINDS, 0.25)


def window(seed: int, rows: int = 400, **changes: Any) -> pd.DataFrame:
    """Rows as a pipeline sees them, with their target and a score that follows the income."""
    made = make_rows(rows, seed, **changes)
    score = 1 / (1 + np.exp(-made["income"].fillna(0)))
    return made[list(KINDS)].astype({"age": float, "member": float}).assign(**{TARGET: made["y"], SCORE: score})


WINDOWS = [window(seed) for seed in range(4)]


def calibrated(
    windows: Sequence[pd.DataFrame] = WINDOWS,
    kinds: Mapping[str, str] = KINDS,
    importance: Mapping[str, float] = EVEN,
    held_out: Any = (),
) -> dict[str, ColumnCalibration]:
    features = tuple(Column(name, kind, kind, 0.0) for name, kind in kinds.items())
    return calibrate(windows, Contract(1, 1600, features, ()), importance, np.array(held_out), 0.1, seed=0)


CALIBRATION = calibrated()


def reference(
    windows: Sequence[pd.DataFrame] = WINDOWS, calibration: Mapping[str, ColumnCalibration] = CALIBRATION
) -> pd.DataFrame:
    """All rows of the windows, as they are compared."""
    return reference_of(pd.concat(windows, ignore_index=True), calibration, 20_000, seed=0)


REFERENCE = reference()
