"""Fits on disk: exactly what production would have measured, computed once, found again after an interruption."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from tasks.core import drift, performance, persistence
from tasks.core.backtest.fits import Alarms, Fits, Missing, Plan
from tasks.core.backtest.history import History, read_history
from tasks.core.calibration import SCORE
from tasks.core.gate import fold_rows
from tasks.core.spec import Forgetting
from tasks.core.training import fit
from tasks.core.validation import frame
from tests.conftest import make_rows
from tests.core.backtest.conftest import BATCHES, lay_out
from tests.core.conftest import make_spec, put

GATED = Plan(tuple(range(6)), gated=True)


def compute(fits: Fits, *jobs: Plan | Alarms) -> int:
    """How many of the jobs had to be computed; in this process, which is quicker for a few."""
    done: list[int] = []
    fits.compute(jobs, lambda: done.append(1), workers=1)
    return len(done)


def test_a_missing_fit_says_which(fits: Fits) -> None:
    """A replay that needs a fit which is not there is told exactly which."""
    with pytest.raises(Missing) as missing:
        fits(Plan((0, 1), gated=True))
    assert missing.value.job == Plan((0, 1), gated=True)


def test_losses_are_those_of_the_very_pipeline(history: History, fits: Fits) -> None:
    """Row by row, losses on a later batch equal those of the pipeline that production would fit on the same batches."""
    compute(fits, GATED)
    found = fits(GATED)
    fitted = fit(history.root, history.spec, history.parts[:6])
    for place in (6, 9):
        part = history.parts[place]
        data = frame(fitted.contract, part.source)
        answers = persistence.predict(fitted.pipeline, data)
        assert np.array_equal(found.losses(place), performance.row_losses(answers, part.target, "binary"))
        assert found.means[place] == found.losses(place).mean()
        assert found.errors[place] == (answers.values != part.target).mean()
        window = data.assign(**{SCORE: answers.score})
        measured = drift.check_drift(fitted.reference, window, fitted.calibration).evidence
        assert found.sight(place).drift.drifted == measured.drifted
        assert found.sight(place).drift.weight == pytest.approx(measured.weight)
        assert found.sight(place).drift.prediction == measured.prediction


def test_gate_rows_are_never_learned_from(history: History, fits: Fits) -> None:
    """Losses on a batch that was held out are those of its fold, and of no row that the fit has learned from."""
    compute(fits, GATED)
    found = fits(GATED)
    fitted = fit(history.root, history.spec, history.parts[:6])
    assert found.held_out
    assert found.reached is not None and 0.5 < found.reached <= 1  # for policies with a floor and without
    for place in found.held_out:
        part = history.parts[place]
        fold = fold_rows(part.batch, part.total)
        learned = next(other for other in fitted.training.learn if other.batch == part.batch)
        assert not set(fold) & set(learned.rows)
        assert len(found.losses(place)) == history.folds[place].sum() == len(fold)
    assert np.isnan(found.means[:6]).all()


def test_nothing_is_computed_twice(history: History, fits: Fits) -> None:
    """A fit that is on disk is not made again, by this process or another one."""
    compute(fits, GATED)
    assert compute(fits, GATED, GATED) == 0
    assert compute(Fits(history, fits.folder), GATED) == 0


def test_an_unfinished_file_is_no_fit(history: History, tmp_path: Path) -> None:
    """What a killed process left behind is ignored: a fit appears whole or not at all."""
    fits = Fits(history, tmp_path)
    (tmp_path / ".0123.npz").write_bytes(b"half")
    with pytest.raises(Missing):
        fits(GATED)


def test_everything_that_matters_is_in_the_name(history: History, tmp_path: Path) -> None:
    """Other data, labels, seed, pipeline, fold or forgetting are other fits; another policy is not."""
    plan = Plan((0, 1, 2), gated=True)
    name = Fits(history, tmp_path).path(plan)
    other_specs = [make_spec(seed=1), make_spec(pipeline={"parameters": {"max_iter": 11}})]
    names = {Fits(history, tmp_path, spec).path(plan) for spec in other_specs}
    names.add(Fits(history, tmp_path).path(Plan((0, 1, 2), gated=False)))
    names.add(Fits(history, tmp_path).path(Plan((0, 1, 2), gated=True, forgetting=Forgetting(window=2))))
    names.add(Fits(history, tmp_path).path(Plan((0, 1), gated=True)))
    changed = tmp_path / "changed"
    changed.mkdir()
    lay_out(changed)
    put(changed, make_rows(200, seed=77), "003.parquet")
    names.add(Fits(read_history(changed, make_spec()), tmp_path).path(plan))
    assert name not in names and len(names) == 6
    assert Fits(history, tmp_path, make_spec(policy={"retrain_cost": 0.2})).path(plan) == name


def test_a_window_learns_from_the_newest_batches(fits: Fits) -> None:
    """With a window the older batches are neither learned from nor kept for the gate."""
    plan = Plan(tuple(range(6)), gated=True, forgetting=Forgetting(window=2))
    compute(fits, plan)
    assert fits(plan).learned == (4, 5)
    assert set(fits(plan).held_out) <= {4, 5}


def test_a_fit_that_fails_is_remembered(tmp_path: Path) -> None:
    """Batches with one class only cannot be learned from: the fit says why, instead of stopping the backtest."""
    for number in range(6):
        put(tmp_path, make_rows(60, seed=number).assign(y=1 if number < 3 else [0, 1] * 30), f"{number:03d}.parquet")
    fits = Fits(read_history(tmp_path, make_spec()), tmp_path / "fits")
    compute(fits, Plan((0, 1, 2), gated=True))
    assert "nothing to tell apart" in (fits(Plan((0, 1, 2), gated=True)).failed or "")


def test_a_tutorial_alarm_is_a_path_of_its_own(fits: Fits) -> None:
    """Where Evidently's defaults would have retrained depends on the data alone, and is kept like a fit."""
    alarms = Alarms(start=BATCHES - 3, delay=1)
    assert compute(fits, alarms) == 1
    assert fits.alarms(alarms) <= set(range(BATCHES - 2, BATCHES))
    assert compute(fits, alarms) == 0
