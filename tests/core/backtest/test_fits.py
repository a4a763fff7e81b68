"""Fits on disk: exactly what production would have measured, computed once, found again after an interruption."""

from __future__ import annotations

import importlib.metadata
import shutil
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import tasks
from tasks.core import store, workspace
from tasks.core.backtest import compute as compute_module
from tasks.core.backtest.compute import Alarms, Plan, relevant
from tasks.core.backtest.fits import Fits, Missing
from tasks.core.backtest.history import History, read_history
from tasks.core.checks import calibration, drift, expected, performance
from tasks.core.checks.calibration import SCORE
from tasks.core.data import source
from tasks.core.decision import evidence, policy
from tasks.core.errors import RorError, SpecError
from tasks.core.ledger import ledger, state
from tasks.core.reports import cards, page, status
from tasks.core.run import labels, work
from tasks.core.schema import cells, contract, validation
from tasks.core.schema.frames import frame
from tasks.core.spec import Forgetting
from tasks.core.training import fit as training_fit
from tasks.core.training import gate, holdout
from tasks.core.training.fit import fit
from tasks.core.training.holdout import holdout_rows
from tasks.core.versions import persistence, registry
from tasks.core.versions.own_code import texts_with_program
from tests.helpers.backtest import BATCHES, lay_out
from tests.helpers.model import make_rows
from tests.helpers.training import make_spec, put

GATED = Plan(tuple(range(6)), gated=True)
REACHED = (
    calibration, cells, contract, drift, evidence, expected, holdout, performance, persistence, source, training_fit,
    validation,
)  # fmt: skip
NOT_REACHED = (cards, gate, labels, ledger, page, policy, registry, state, store, status, work, workspace)


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
    fitted = fit(history.spec, history.parts[:6])
    for place in (6, 9):
        part = history.parts[place]
        data = frame(fitted.contract, part.source)
        answers = persistence.predict(fitted.pipeline, data)
        assert np.array_equal(found.losses(place), performance.row_losses(answers, part.target, "binary"))
        assert found.means[place] == found.losses(place).mean()
        assert found.errors[place] == (answers.values != part.target).mean()
        window = data.assign(**{SCORE: answers.score})
        measured = drift.check_drift(fitted.reference, window, fitted.calibration).evidence
        assert found.checks(place).drift.drifted == measured.drifted
        assert found.checks(place).drift.weight == pytest.approx(measured.weight)
        assert found.checks(place).drift.prediction == measured.prediction


def test_gate_rows_are_never_learned_from(history: History, fits: Fits) -> None:
    """Losses on a batch that was held out are those of its holdout, and of no row that the fit has learned from."""
    compute(fits, GATED)
    found = fits(GATED)
    fitted = fit(history.spec, history.parts[:6])
    assert found.held_out
    assert found.reached is not None and 0.5 < found.reached <= 1  # for policies with a floor and without
    for place in found.held_out:
        part = history.parts[place]
        holdout = holdout_rows(part.batch, part.total)
        learned = next(other for other in fitted.training.learn if other.batch == part.batch)
        assert not set(holdout) & set(learned.rows)
        assert len(found.losses(place)) == history.holdouts[place].sum() == len(holdout)
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
    """Other data, labels, seed, pipeline, checks, holdout or forgetting are other fits."""
    plan = Plan((0, 1, 2), gated=True)
    name = Fits(history, tmp_path).path(plan)
    other_specs = [
        make_spec(seed=1),
        make_spec(pipeline={"parameters": {"max_iter": 11}}),
        make_spec(checks={"sample_rows": 500}),
        make_spec(metric="accuracy"),
        make_spec(expected=[{"name": "Christmas", "from": "12-20", "until": "12-31"}]),
    ]
    names = {Fits(history, tmp_path, spec).path(plan) for spec in other_specs}
    names.add(Fits(history, tmp_path).path(Plan((0, 1, 2), gated=False)))
    names.add(Fits(history, tmp_path).path(Plan((0, 1, 2), gated=True, forgetting=Forgetting(window=2))))
    names.add(Fits(history, tmp_path).path(Plan((0, 1), gated=True)))
    changed = tmp_path / "changed"
    changed.mkdir()
    lay_out(changed)
    put(changed, make_rows(200, seed=77), "003.parquet")
    names.add(Fits(read_history(changed, make_spec()), tmp_path).path(plan))
    first, *others = history.parts
    erased = replace(first, batch=replace(first.batch, origin="00" * 32, gone=(3,)))  # other rows are the gate's
    names.add(Fits(replace(history, parts=(erased, *others)), tmp_path).path(plan))
    assert name not in names and len(names) == len(other_specs) + 5


@pytest.mark.parametrize(
    "options",
    [
        {"policy": {"retrain_cost": 0.2, "forgetting": {"window": 3}}},
        {"owner": "somebody else", "purpose": "other words", "runbook": "https://example.com"},
        {"slices": ["x1"], "checks": {"slice_rows": 50}},
        {"schedule": {"cron": "0 6 * * 1"}},
        {
            "data": {
                "batches": "*.par*",
                "labels": "y/*",
                "min_coverage": 0.5,
                "label_delay": 2,
                "overdue": 9,
                "settle": 1,
            }
        },
        {"pipeline": {"parameters": {"max_iter": 10}, "format": "skops", "types": ["numpy.dtype"]}},
    ],
    ids=lambda options: next(iter(options)),
)
def test_what_no_fit_depends_on_is_not(history: History, tmp_path: Path, options: dict[str, Any]) -> None:
    """When to retrain, what is shown to whom, and how versions are saved change no fit: all are found again, and the
    fit is not told of them."""
    usual, other = make_spec(), make_spec(**options)
    assert other != usual and relevant(other) == relevant(usual)
    for job in (GATED, Alarms(4, 1)):
        assert Fits(history, tmp_path, other).path(job) == Fits(history, tmp_path, usual).path(job)


@pytest.fixture
def program(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder with a copy of this program's modules: their source is looked for there."""
    package = tmp_path / "program" / "tasks"
    shutil.copytree(Path(tasks.__file__).parent, package, ignore=shutil.ignore_patterns("__pycache__"))
    monkeypatch.setattr(tasks.__spec__, "submodule_search_locations", [str(package)])
    monkeypatch.setattr(tasks.__spec__, "origin", str(package / "__init__.py"))
    return package.parent


def source_of(program: Path, module: str) -> Path:
    base = program.joinpath(*module.split("."))
    return base / "__init__.py" if base.is_dir() else base.with_suffix(".py")


def edited(program: Path, module: str, fits: Callable[[], Fits]) -> tuple[Path, Path]:
    """Names of a fit and of an alarm while a comment is added to a module's source."""
    file = source_of(program, module)
    before = file.read_bytes()
    file.write_bytes(before + b"\n# edited\n")
    here = fits()
    names = here.path(GATED), here.path(Alarms(4, 1))
    file.write_bytes(before)
    return names


def test_other_code_is_another_fit(history: History, tmp_path: Path, program: Path) -> None:
    """An edit in any module that a fit reaches makes other names: nothing is reused that other code computed."""
    usual = Fits(history, tmp_path)
    reached = texts_with_program([compute_module.__name__])
    found = [(usual.path(GATED), usual.path(Alarms(4, 1)))]
    found += [edited(program, module, lambda: Fits(history, tmp_path)) for module in reached]
    for names in zip(*found, strict=True):
        assert len({*names}) == len(reached) + 1


def test_code_that_no_fit_reaches_is_the_same_fit(history: History, tmp_path: Path, program: Path) -> None:
    """An edit in what records, decides or reports leaves finished fits where they are found."""
    usual = Fits(history, tmp_path)
    for module in NOT_REACHED:
        fit, alarm = edited(program, module.__name__, lambda: Fits(history, tmp_path))
        assert (fit, alarm) == (usual.path(GATED), usual.path(Alarms(4, 1)))


def test_a_fit_reaches_what_it_computes_with_and_no_more() -> None:
    """All that data, checks and training are made of is part of a fit; the ledger, versions, rules and reports are not:
    whoever imports them there makes every edit of theirs compute all fits again."""
    reached = {*texts_with_program([compute_module.__name__])}
    assert {module.__name__ for module in REACHED} <= reached
    assert reached.isdisjoint(module.__name__ for module in NOT_REACHED)


def test_a_module_that_is_not_found_is_an_error(history: History, tmp_path: Path, program: Path) -> None:
    """The source of a module that a fit needs is never taken as empty."""
    source_of(program, cells.__name__).unlink()
    with pytest.raises(RorError, match=cells.__name__):
        Fits(history, tmp_path)


def test_a_factory_that_is_not_found_is_an_error(history: History, tmp_path: Path) -> None:
    """Nor is that of the user's own pipeline."""
    with pytest.raises(SpecError, match="'desk_missing' is not found"):
        Fits(history, tmp_path, make_spec(pipeline={"factory": "desk_missing:build"}))


def test_ones_own_code_is_in_the_name(history: History, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """An edit in what the model's own pipeline imports, from folders of its own, makes another name."""
    monkeypatch.setattr(sys, "path", [*sys.path])
    (tmp_path / "src").mkdir()
    (tmp_path / "src" / "desk_pipeline.py").write_text("def build():\n    import desk_steps\n")
    (tmp_path / "src" / "desk_steps.py").write_text("")
    here = replace(history, root=tmp_path)
    spec = make_spec(code=["src"], pipeline={"factory": "desk_pipeline:build"})
    name = Fits(here, tmp_path, spec).path(GATED)
    assert Fits(here, tmp_path, spec).path(GATED) == name
    (tmp_path / "src" / "desk_steps.py").write_text("x = 1\n")
    assert Fits(here, tmp_path, spec).path(GATED) != name


@pytest.mark.parametrize(
    ("library", "fit", "alarm"),
    [("scikit-learn", True, True), ("scipy", True, True), ("pyarrow", True, True), ("evidently", False, True),
     ("pydantic", False, False), ("retrain-or-reload", False, False)],
)  # fmt: skip
def test_other_libraries_are_other_fits(
    history: History, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, library: str, fit: bool, alarm: bool
) -> None:
    """Another release of what computes makes another name; Evidently's defaults decide alarms and no fit."""
    usual = Fits(history, tmp_path)
    before = usual.path(GATED), usual.path(Alarms(4, 1))
    version = importlib.metadata.version
    monkeypatch.setattr(importlib.metadata, "version", lambda name: "0.1" if name == library else version(name))
    other = Fits(history, tmp_path)
    assert (other.path(GATED) != before[0], other.path(Alarms(4, 1)) != before[1]) == (fit, alarm)


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
