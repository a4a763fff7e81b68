"""Whether a row is answered in the same way whatever rows come with it.

Known answers are asked in the company in which they were stored. A pipeline that codes, ranks or scales within the
frame that it is given passes them all, and answers otherwise in service, where a row comes alone or among others. So a
candidate is asked about the same rows alone, in another order, in parts and among others, before it is registered.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd

from tasks.core.errors import TrainingError, UnpredictableData
from tasks.core.text import amount
from tasks.core.versions import persistence, steps
from tasks.core.versions.persistence import Predictions

ALONE = 8
"""Rows that are asked one by one."""
OTHERS = 200
"""Rows that the known ones are asked among."""
RELATIVE = 1e-6
"""Difference between two answers that is none: matrix products round otherwise for another number of rows, and
LogisticRegression, with 35 other estimators of scikit-learn, is not exact in the last digits."""
ROUNDINGS = 100
"""Roundings of the answers' own type that are none either: answers of 32 bits are not exact to RELATIVE."""


@dataclass(frozen=True)
class _Company:
    """The same rows, asked otherwise."""

    how: str
    frame: pd.DataFrame
    places: np.ndarray
    """Where the first rows of it are among the rows that were asked together, shape (rows,)."""


def refuse_company(pipeline: Any, rows: pd.DataFrame, others: pd.DataFrame, *, private: bool, hidden: bool) -> None:
    """Raises TrainingError, naming the difference and the step, where answers for these rows depend on their company.

    `rows` and `others` are rows of training as the pipeline takes them. Where some column is `private`, no text of a
    library is shown; where answers are `hidden`, no answer is. Raises UnpredictableData where not even all rows
    together can be predicted.
    """
    together = persistence.predict(pipeline, rows, private=private)
    for company in _companies(rows, others):
        try:
            answers = persistence.predict(pipeline, company.frame, private=private)
        except UnpredictableData as error:
            said, wrong = f"cannot be predicted {company.how}: {error.reason}", 0
        else:
            differing = np.flatnonzero(_differ(together, answers, company.places))
            if not len(differing):
                continue
            wrong = int(differing[0])
            row = int(company.places[wrong])
            shown = "" if hidden else f" ({_shown(together, row, answers, wrong)})"
            said = f"is answered otherwise {company.how}{shown}"
        step = _step(pipeline, rows, company)
        if company.how == AGAIN:
            raise TrainingError(
                f"The pipeline answers the same {len(rows)} rows otherwise when it is asked again{step}: it has no "
                "known answers. Give whatever is random in it a fixed seed, `def build(seed)`."
            )
        raise TrainingError(
            "The pipeline's answers depend on the other rows of the frame: a row that comes with "
            f"{len(rows) - 1} others {said}{step}. Learn what is needed of other rows (codes, ranks, means) in `fit`, "
            "and only use it in `transform`; or, where rows always come in whole batches, write so, on record: "
            '[pipeline] rows = "together".'
        )


AGAIN = "the second time"


def _companies(rows: pd.DataFrame, others: pd.DataFrame) -> Iterator[_Company]:
    every = np.arange(len(rows))
    yield _Company(AGAIN, rows, every)
    if len(rows) < 2:
        return
    for place in every[:ALONE]:
        yield _Company("alone", rows.iloc[[place]], every[[place]])
    yield _Company("in another order", rows.iloc[::-1], every[::-1])
    half = len(rows) // 2
    for part in (every[:half], every[half:]):
        yield _Company("in a part of them", rows.iloc[part], part)
    yield _Company(f"among {len(others)} more", pd.concat([rows, others], ignore_index=True), every)


def _differ(one: Predictions, other: Predictions, places: np.ndarray) -> np.ndarray:
    """Rows of `other`, as many as there are places, whose answers are not those of `one` there, shape (rows,)."""
    count = len(places)
    values, again = np.asarray(one.values)[places], np.asarray(other.values)[:count]
    if one.probabilities is None or other.probabilities is None:
        near = _close(values, again, np.asarray(one.values)) if values.dtype.kind == "f" else values == again
        return np.asarray(~near)
    each, now = one.probabilities[places], other.probabilities[:count]
    ranked = np.sort(each, axis=1)
    clear = ranked[:, -1] - ranked[:, -2] > RELATIVE if each.shape[1] > 1 else np.ones(count, dtype=bool)
    return np.asarray(~_close(each, now, one.probabilities).all(axis=1) | ((values != again) & clear))


def _close(one: np.ndarray, other: np.ndarray, all_answers: np.ndarray) -> np.ndarray:
    """Element by element; what is nearly 0 is measured by the largest answer there is."""
    rounding = float(np.finfo(other.dtype).eps) if other.dtype.kind == "f" else 0.0
    relative = max(RELATIVE, ROUNDINGS * rounding)
    smallest = relative * 1e-3 * float(np.abs(all_answers).max())
    return np.asarray(np.isclose(one, other, rtol=relative, atol=smallest))


def _shown(one: Predictions, row: int, other: Predictions, again: int) -> str:
    """Both answers, of the class that was predicted where there are probabilities."""
    if one.probabilities is None or other.probabilities is None:
        return f"{_text(one.values[row])} becomes {_text(other.values[again])}"
    worst = int(np.abs(one.probabilities[row] - other.probabilities[again]).argmax())
    before, now = float(one.probabilities[row, worst]), float(other.probabilities[again, worst])
    if before == now:
        return f"{_text(one.values[row])} becomes {_text(other.values[again])}"
    return f"the probability of {one.classes[worst]!r}, {amount(before, 4)}, becomes {amount(now, 4)}"


def _text(answer: Any) -> str:
    return amount(float(answer), 4) if isinstance(answer, float | np.floating) else str(answer)


def _step(pipeline: Any, rows: pd.DataFrame, company: _Company) -> str:
    """The first step whose output depends on the company, in words; empty where that cannot be told."""
    try:
        step = steps.differing_step(pipeline, rows, company.frame, company.places)
    except Exception:  # noqa: BLE001 - asked step by step, a pipeline may do anything; its answers are known
        return ""
    return f", because of {step}" if step else ""
