"""What is too good to be true: columns that alone predict the target, and a loss of nearly nothing."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from tasks.core.ledger.state import State
from tasks.core.training.doubt import doubts_in, known_good, lonely, with_doubts
from tasks.core.types import TOO_GOOD, Snooze
from tests.helpers.model import make_rows
from tests.helpers.training import make_history, make_spec, train

RNG = np.random.default_rng(7)
ROWS = 500
NOISE = RNG.normal(size=ROWS)
YES = (NOISE + RNG.normal(size=ROWS) > 0).astype(int)
RAIN = np.where(RNG.random(ROWS) < 0.6, 0.0, RNG.gamma(1, 6, ROWS))
PRICE = RNG.lognormal(3, 1, ROWS)
KIND = RNG.choice(np.array(["a", "b", "c"], dtype=object), ROWS)


@pytest.mark.parametrize(
    ("column", "target", "task"),
    [
        (RAIN, (RAIN > 1).astype(int), "binary"),
        (np.where(YES, "Canceled", "Check-Out").astype(object), YES, "binary"),
        (np.where(YES, np.nan, 7.0), YES, "binary"),
        (np.where(RNG.random(ROWS) < 0.004, 1 - YES, YES).astype(float), YES, "binary"),
        (pd.Series(KIND).map({"a": 3.0, "b": 1.0, "c": 2.0}), KIND, "multiclass"),
        (PRICE * 1.19, PRICE, "regression"),
        (np.log(PRICE), PRICE, "regression"),
        (np.where(RAIN > 4, RAIN, 0) * 0.04, np.where(RAIN > 4, RAIN, 0), "regression"),
    ],
    ids=["rain", "status", "missing", "nearly a twin", "codes", "other units", "logarithm", "mostly zeros"],
)
def test_a_column_that_tells_the_answer(column: np.ndarray, target: np.ndarray, task: str) -> None:
    """It is named, and honest columns beside it are not."""
    frame = pd.DataFrame({"honest": NOISE, "tells": column, "word": RNG.choice(["u", "v"], ROWS).astype(object)})
    found = lonely(frame, target, task, 0)
    assert list(found) == ["tells"]
    lost, guess = found["tells"]
    assert lost <= 0.05 * guess


@pytest.mark.parametrize(
    ("column", "target", "task"),
    [
        (YES + RNG.normal(0, 0.4, ROWS), YES, "binary"),
        (PRICE * (1 + 0.2 * RNG.normal(size=ROWS)), PRICE, "regression"),
        (np.arange(ROWS, dtype=float), YES, "binary"),
        (np.array([f"name {row}" for row in range(ROWS)], dtype=object), YES, "binary"),
        ((np.arange(ROWS) < 6).astype(float), (np.arange(ROWS) < 6).astype(int), "binary"),
        (np.full(ROWS, np.nan), PRICE, "regression"),
    ],
    ids=["strong", "a good estimate", "a clock", "names", "too few to tell", "empty"],
)
def test_what_is_merely_good(column: np.ndarray, target: np.ndarray, task: str) -> None:
    """A strong column, one that names rows, and a target of which too little is known raise no doubt."""
    assert lonely(pd.DataFrame({"x": column}), target, task, 0) == {}


def test_chance_names_no_column() -> None:
    """Among hundreds of columns of noise none predicts the target."""
    assert lonely(pd.DataFrame(RNG.normal(size=(200, 200))), YES[:200], "binary", 0) == {}


def leaky(seed: int) -> pd.DataFrame:
    rows = make_rows(400, seed)
    return rows.assign(refund=np.where(rows["y"] == 1, 0.0, 10.0 + rows["age"]))


def test_a_version_says_it_with_its_gate(tmp_path: Path) -> None:
    """The gate passes all the same, and its reason, in the record, names the column; left out, it is gone."""
    history = make_history(tmp_path, make_spec(), leaky(1), leaky(2))
    made = train(tmp_path, make_spec(), history)
    assert made.gate.verdict == "pass"
    (doubt,) = doubts_in(made.gate.reason)
    assert doubt.startswith("'refund' alone predicts the target") and made.candidate.manifest["gate"] == made.gate
    mended = train(tmp_path, make_spec(features=["income", "age", "city", "member"]), history)
    assert TOO_GOOD not in mended.gate.reason


def test_a_loss_of_nearly_nothing(tmp_path: Path) -> None:
    """Columns that tell the answer only together are not named, but the loss is."""
    rows = make_rows(1_000, 3)
    high = RNG.random(1_000) < 0.5
    rows = rows.assign(one=high.astype(float), two=(high ^ (rows["y"] == 1)).astype(float))
    spec = make_spec(features=["one", "two", "age"], pipeline={"parameters": {"max_iter": 60, "learning_rate": 0.3}})
    (doubt,) = doubts_in(train(tmp_path, spec, make_history(tmp_path, spec, rows)).gate.reason)
    assert doubt.startswith("'y' is predicted nearly without loss")


def test_what_a_person_knows_is_not_said_again() -> None:
    """A snoozed column raises no doubt, until the snooze runs out; another one still does."""
    found = ["'refund' alone predicts the target", "'status' alone predicts the target"]
    snooze = Snooze(("refund",), "2999-12-31", "known at once", "ann", "2026-01-01")
    known = known_good(State(snoozed=(snooze,)))
    assert doubts_in(with_doubts("better", found, known)) == doubts_in(with_doubts("better", found), known) == found[1:]
    assert known_good(State(snoozed=(replace(snooze, until="2020-01-01"),))) == set()
    assert with_doubts("better", found, {"refund", "status"}) == "better"
    assert doubts_in("better than Dummy") == []
