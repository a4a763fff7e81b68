"""What is too good to be true: a column that alone predicts the target, a loss of nearly nothing.

No decision rests on it. It stands behind the gate's reason, in the version's record, for people to read.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence

import numpy as np
import pandas as pd

from tasks.core.checks.expected import today
from tasks.core.checks.performance import dummy, row_losses
from tasks.core.data.arrow import sample_rows
from tasks.core.ledger.state import State
from tasks.core.spec import ModelSpec
from tasks.core.text import amount
from tasks.core.training.fit import SAMPLE_ROWS
from tasks.core.types import TOO_GOOD
from tasks.core.versions.persistence import Predictions, predict

ROWS = SAMPLE_ROWS
"""Rows that are looked at: half of them are learned from, the others predicted."""
NEARLY_ALL = 0.95
"""Share of the loss of always guessing that a column alone must take away."""
NEARLY_NOTHING = 0.02
"""Share of the loss of always guessing below which a whole pipeline loses nearly nothing."""
UNUSUAL = 10
"""Predicted rows that must differ from the most frequent answer: of fewer, chance may know all."""


def lonely(features: pd.DataFrame, target: np.ndarray, task: str, seed: int) -> dict[str, tuple[float, float]]:
    """Columns that alone predict the target: what a decision tree of each (or a line) loses a row, and what always
    guessing loses.

    `features` as a pipeline takes them, shape (rows, columns); `target` of shape (rows,). Losses are those of
    `row_losses`, on rows that the tree did not learn from.
    """
    from sklearn.tree import DecisionTreeClassifier, DecisionTreeRegressor

    chosen = np.random.default_rng(seed).permutation(sample_rows(len(target), ROWS, seed))
    learn, ask = chosen[: len(chosen) // 2], chosen[len(chosen) // 2 :]
    truth = target[ask]
    _, counts = np.unique(truth, return_counts=True)
    if len(truth) - counts.max(initial=0) < UNUSUAL or len(np.unique(target[learn])) < 2:
        return {}
    guess = float(row_losses(dummy(target[learn], task, len(ask)), truth, task).mean())
    kind, leaf = (DecisionTreeRegressor, 2) if task == "regression" else (DecisionTreeClassifier, 5)
    found = {}
    for name in features.columns:
        values = _as_numbers(features[name])
        tree = kind(min_samples_leaf=leaf, random_state=seed).fit(values[learn], target[learn])
        lost = float(row_losses(predict(tree, values[ask]), truth, task).mean())
        if task == "regression":  # a twin in other units is a line, of which few rows give a tree rough steps only
            lost = min(lost, _by_a_line(values[:, 0], target, learn, ask))
        if lost <= (1 - NEARLY_ALL) * guess:
            found[str(name)] = (lost, guess)
    return found


def _as_numbers(values: pd.Series) -> np.ndarray:
    """One column as a tree takes it, shape (rows, 1): numbers as they are, names as numbers, missing as missing."""
    if pd.api.types.is_numeric_dtype(values):
        return np.asarray(values, dtype=float).reshape(-1, 1)
    codes, _ = pd.factorize(values)
    return np.where(codes < 0, np.nan, codes.astype(float)).reshape(-1, 1)


def _by_a_line(values: np.ndarray, target: np.ndarray, learn: np.ndarray, ask: np.ndarray) -> float:
    """The mean absolute error of a straight line on the rows `ask`; missing values count as the mean."""
    filled = np.where(np.isfinite(values), values, np.nanmean(values) if np.isfinite(values).any() else 0.0)
    line = np.column_stack([np.ones(len(filled)), filled])
    slope, *_ = np.linalg.lstsq(line[learn], target[learn], rcond=None)
    return float(np.abs(line[ask] @ slope - target[ask]).mean())


def doubts(
    spec: ModelSpec, features: pd.DataFrame, target: np.ndarray, answers: Predictions | None, truth: np.ndarray
) -> list[str]:
    """What is too good about training data, and about a pipeline's `answers` on rows with this `truth`, which it has
    not seen: one sentence each, which begins with the name of the column, or of the target."""
    found = [
        f"{column!r} alone predicts the target (it loses {amount(lost)} a row, always guessing {amount(guess)}): "
        "leave it out of `features` unless it is known when predictions are made"
        for column, (lost, guess) in lonely(features, target, spec.task, spec.seed).items()
    ]
    if found or answers is None or len(truth) < UNUSUAL:
        return found
    lost = float(row_losses(answers, truth, spec.task).mean())
    guess = float(row_losses(dummy(target, spec.task, len(truth)), truth, spec.task).mean())
    if lost < NEARLY_NOTHING * guess:
        found.append(
            f"{spec.target!r} is predicted nearly without loss ({amount(lost)} a row, always guessing "
            f"{amount(guess)}): see that no column tells what is known only afterwards"
        )
    return found


def with_doubts(reason: str, found: Sequence[str], known: Collection[str] = ()) -> str:
    """A gate's reason, and what is too good, but for the columns that a person knows to be right."""
    return f"{reason}; {TOO_GOOD}{'; '.join(rest)}" if (rest := _others(found, known)) else reason


def doubts_in(reason: str, known: Collection[str] = ()) -> list[str]:
    """What a gate's reason says that is too good, but for the columns that a person knows to be right."""
    _, _, said = reason.partition(TOO_GOOD)
    return _others(said.split("; ") if said else [], known)


def _others(found: Sequence[str], known: Collection[str]) -> list[str]:
    return [text for text in found if not text.startswith(tuple(f"{name!r} " for name in known))]


def known_good(state: State) -> set[str]:
    """Columns, or the target, that a person snoozes: whoever expects them, and said why, needs no warning."""
    now = today().isoformat()
    return {column for snooze in state.snoozed if snooze.until >= now for column in snooze.columns}
