"""A whole backtest: what it says, that it starts again where it stopped, and that it claims no more than its table."""

from __future__ import annotations

import shutil
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from tasks.core.backtest import report, run
from tasks.core.backtest.compute import Plan
from tasks.core.backtest.fits import Fit, Fits, Missing
from tasks.core.backtest.history import History, read_history
from tasks.core.backtest.replay import Replay, Step
from tasks.core.errors import InvalidRequest, SpecError
from tasks.core.spec import PolicySpec
from tasks.core.training.choice import choose
from tasks.core.types import Action, Outcome
from tasks.core.versions.manifest import PipelineChoice
from tests.helpers.backtest import BATCHES
from tests.helpers.model import make_rows
from tests.helpers.training import make_spec, put
from tests.helpers.versions import make_manifest

QUESTION = run.Question(starts=2)


def silent(what: str, done: int, total: int) -> None:
    pass


@pytest.fixture(scope="module")
def found(history: History, fits: Fits) -> run.Backtest:
    others = {"thrifty": PolicySpec(retrain_cost=5.0, drift="report")}
    return run.backtest("loans", history.root, history.spec, fits.folder, QUESTION, silent, others, workers=1)


def replayed(history: History, fits: Fits, start: int | None, delay: int = 1, **policy: Any) -> Replay:
    """A finished replay, its missing fits computed on the way."""
    replay = Replay(history, fits, make_spec(policy=policy), delay, start)
    while True:
        try:
            replay.run()
        except Missing as missing:
            fits.compute([missing.job], lambda: None, workers=1)
            continue
        return replay


def test_the_answer_has_the_promised_shape(found: run.Backtest) -> None:
    """Scripts find model, batches, decisions, delay and the policies, each with its six numbers."""
    answer = report.as_json(found)
    assert (answer["model"], answer["batches"], answer["delay"]) == ("loans", BATCHES, 1)
    assert answer["decisions"] == BATCHES - 4
    policies = {policy["name"]: policy for policy in answer["policies"]}
    fixed = {"never", "always", *report.FIXED, "window-4", "window-8", "window-16", "drift-share", "performance-drop"}
    assert set(policies) == {*fixed, "configured", "hindsight optimum", "thrifty"}
    for policy in policies.values():
        assert {"name", "loss", "retrains", "fits", "loss_vs_always", "captured", "cost"} == set(policy)
        assert policy["cost"] == pytest.approx(policy["loss_vs_always"] + 0.05 * policy["fits"])
    assert policies["always"]["loss_vs_always"] == 1
    assert policies["never"]["fits"] == 0


def test_another_policy_stands_beside(found: run.Backtest) -> None:
    """A policy for which a retrain must be worth a hundred times as much trains less often on the same history."""
    assert found.score("thrifty").fits < found.score("configured").fits


def test_nothing_realisable_beats_hindsight(found: run.Backtest) -> None:
    """The optimum on fits from all rows costs no more than any policy that uses the same fits."""
    for name in ("never", "always", "every-2", "every-4", "drift-share", "performance-drop"):
        assert found.score(run.OPTIMUM).cost <= found.score(name).cost + 1e-9


def test_a_change_in_the_world_is_worth_retraining_for(found: run.Backtest) -> None:
    """The relation changes at the seventh batch: never retraining loses more, and the configured policy retrains."""
    assert found.score("never").loss_vs_always > 1.02
    assert found.score("configured").retrains >= 1


@pytest.mark.slow
def test_it_starts_again_where_it_stopped(history: History, tmp_path: Path) -> None:
    """Interrupted in the middle, a second backtest computes only what the first had not finished, and says the same."""
    computed: list[str] = []

    def stop_after_three(what: str, done: int, total: int) -> None:
        if done >= 3:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        run.backtest("loans", history.root, history.spec, tmp_path, QUESTION, stop_after_three, workers=1)
    kept = {path: path.stat().st_mtime_ns for path in tmp_path.glob("*.npz")}
    assert len(kept) >= 3

    def count(what: str, done: int, total: int) -> None:
        computed.append(f"{done}/{total}")

    again = run.backtest("loans", history.root, history.spec, tmp_path, QUESTION, count, workers=1)
    assert computed[0] == f"{len(kept)}/{computed[0].split('/')[1]}"
    assert {path: path.stat().st_mtime_ns for path in kept} == kept
    finished = {path: path.stat().st_mtime_ns for path in tmp_path.iterdir()}
    other = run.backtest("loans", history.root, history.spec, tmp_path, QUESTION, silent, workers=1)
    assert other.scores == again.scores
    assert {path: path.stat().st_mtime_ns for path in tmp_path.iterdir()} == finished, "nothing was left to compute"


@pytest.mark.choice
def test_the_default_pipeline_is_chosen_once(history: History, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Every fit is of the pipeline that suits the batches before the first starting point; of that of the version in
    service where there is one, which made its choice in its time, or none."""
    spec = make_spec(pipeline={})
    fitted: list[Any] = []

    def stop(fits: Fits, *_: Any) -> None:
        fitted.append(fits.spec.pipeline.parameters)
        raise KeyboardInterrupt

    monkeypatch.setattr(run, "_fit_all", stop)
    chosen = choose(spec, history.parts[:4])
    assert chosen is not None
    for champion in (None, make_manifest(1, choice=PipelineChoice("small-booster", {}, 0)), make_manifest(1)):
        with pytest.raises(KeyboardInterrupt):
            run.backtest("loans", history.root, spec, tmp_path, QUESTION, silent, champion=champion)
    assert fitted == [{"estimator": chosen.estimator}, {"estimator": "small-booster"}, {}]


def test_from_an_empty_ledger_it_begins_as_production_does(history: History, fits: Fits) -> None:
    """Without a starting point the first batch waits for labels and is not predicted; the next one trains v1."""
    steps = replayed(history, fits, None).run()
    first = [step.decided for step in steps[:2] if step.decided]
    assert [decided.decision.action for decided in first] == [Action.HOLD, Action.RETRAIN]
    assert np.isnan(steps[0].loss) and not np.isnan(steps[1].loss)


@pytest.mark.parametrize(("start", "delay"), [(None, 1), (4, 1), (4, 2), (4, 0)])
def test_no_version_is_judged_on_rows_it_has_seen(history: History, fits: Fits, start: int | None, delay: int) -> None:
    """In every gate of a replay, each row was kept from the challenger, and from the champion too: rows are counted
    again from what either had learned."""
    replay = replayed(history, fits, start, delay, max_age=1)
    gates = 0
    for step in replay.run():
        decided = step.decided
        attempt = decided.attempt if decided else None
        if decided is None or attempt is None or attempt.gate is None or attempt.version is None:
            continue
        challenger = replay.versions[attempt.version]
        sets = [_learned_rows(history, challenger)]
        if attempt.gate.against not in (None, "Dummy"):
            champion = replay.versions[int(attempt.gate.against.removeprefix("v"))]
            sets.append(_learned_rows(history, champion))
        clean = 0
        for place in challenger.held_out:
            holdout = {(place, row) for row in np.flatnonzero(_holdouts(history, challenger)[place])}
            assert not holdout & sets[0]
            clean += len(holdout) if all(not holdout & seen for seen in sets) else 0
        assert attempt.gate.rows == clean
        gates += 1
    assert gates >= 2


def _holdouts(history: History, fit: Fit) -> tuple[np.ndarray, ...]:
    return history.first_holdouts if fit.first else history.holdouts


def _learned_rows(history: History, fit: Fit) -> set[tuple[int, int]]:
    return {
        (place, row)
        for place in fit.learned
        for row in range(len(history.parts[place].rows))
        if not (place in fit.held_out and _holdouts(history, fit)[place][row])
    }


def test_labels_are_not_known_before_their_time(history: History, fits: Fits) -> None:
    """With labels two batches late, no decision has seen a label, and no version a row, of the last two batches."""
    replay = replayed(history, fits, 4, 2, max_age=1)
    for place, step in enumerate(replay.run(), start=4):
        assert step.decided is not None
        known = [history.position[item.batch] for item in step.decided.labelled]
        assert all(other <= place - 2 for other in known)
        if step.decided.attempt and step.decided.attempt.version:
            learned = replay.versions[step.decided.attempt.version].learned
            assert max(learned) <= max(3, place - 2)


def test_changed_content_is_set_aside_or_learned(tmp_path: Path) -> None:
    """As in production: with on_change = block such a batch is neither predicted nor learned; else its labels are."""
    for number in range(7):
        rows = make_rows(200, seed=number)
        sparse = rows.assign(income=rows["income"].where(rows.index >= 100))
        put(tmp_path, sparse if number == 5 else rows, f"{number:03d}.parquet")
    history = read_history(tmp_path, make_spec())
    fits = Fits(history, tmp_path / "fits")
    learns = replayed(history, fits, 4, max_age="never", drift="report").run()
    assert [step.decided.decision.rule for step in learns if step.decided][-1] == "assumptions changed"
    assert learns[-1].fitted and not np.isnan(learns[1].loss)
    blocks = replayed(history, fits, 4, max_age="never", drift="report", on_change="block").run()
    assert [step.decided.outcome for step in blocks if step.decided][1] is Outcome.BLOCKED
    assert np.isnan(blocks[1].loss) and not blocks[-1].fitted


def test_too_little_history_is_refused(tmp_path: Path) -> None:
    """Five labelled batches cannot be replayed; the message says how many there are, and which were left out."""
    for number in range(6):
        put(tmp_path, make_rows(50, seed=number), f"{number:03d}.parquet")
    (tmp_path / "005.parquet").write_bytes(b"no Parquet")
    with pytest.raises(SpecError, match=r"needs 6 labelled batches, and there are 5 \(005: .*not Parquet"):
        read_history(tmp_path, make_spec())


def test_a_batch_that_came_twice_is_replayed_once(tmp_path: Path) -> None:
    """As production counts it once: the bytes of a batch under another name are left out, and said to be."""
    for number in range(6):
        put(tmp_path, make_rows(50, seed=number), f"{number:03d}.parquet")
    shutil.copyfile(tmp_path / "002.parquet", tmp_path / "006.parquet")
    history = read_history(tmp_path, make_spec())
    assert [batch.id for batch in history.batches] == [f"{number:03d}" for number in range(6)]
    assert history.left_out == {"006": "it has the same bytes as 002"}


def test_what_cannot_be_replayed_is_refused(history: History, tmp_path: Path) -> None:
    """Batches are never scored on labels that were known when they were predicted; a first version must be possible."""
    with pytest.raises(InvalidRequest, match=r"^delay:\n  - must be at least 1"):
        run.backtest("loans", history.root, history.spec, tmp_path, run.Question(delay=0), silent, workers=1)
    for number in range(6):
        put(tmp_path, make_rows(60, seed=number).assign(y=1), f"{number:03d}.parquet")
    with pytest.raises(SpecError, match=r"no first version can be trained on 4 batches: All .* labels are 1"):
        run.backtest("loans", tmp_path, make_spec(), tmp_path / "fits", run.Question(starts=1), silent, workers=1)


def test_starting_points_need_batches_to_score() -> None:
    """Three starting points two batches apart need ten batches; fewer say what to do."""
    assert run.starting_points(10, run.Question(starts=3)) == [4, 6, 8]
    with pytest.raises(InvalidRequest, match=r"^starts:\n.*try 1$"):
        run.starting_points(9, run.Question(starts=3))
    assert run.starting_points(68, run.Question(starts=1)) == [11]


def test_a_batch_that_some_policy_could_not_predict_counts_for_none() -> None:
    """Losses are compared on the same batches only."""

    def steps(*losses: float) -> list[list[Step]]:
        return [[Step(str(place), loss, False, False, loss) for place, loss in enumerate(losses)]]

    paths = {"never": steps(2, 9, 4), "always": steps(2, np.nan, 2)}
    scored = {score.name: score for score in run.scores(paths, lambda loss: 0.05 * loss)}
    assert scored["never"].loss == 3
    assert scored["never"].loss_vs_always == 1.5


def test_money_is_the_same_cost_in_other_words(history: History) -> None:
    """A retrain of 2 in money, at 0.1 for each unit of loss, is worth 20 units: 0.1 a row of a batch of 200."""
    spec = make_spec(policy={"retrain": 2.0, "error": 0.1})
    assert run.price_of(spec, history)(0.5) == pytest.approx(20 / 200)


@pytest.mark.parametrize(
    ("costs", "says"),
    [
        ({"never": 1.0}, "retraining hardly pays"),
        ({"every-2": 1.01}, "every-2 would have cost less"),
        ({"every-2": 1.049}, "keep the policy"),
        ({"every-2": 1.049, "window-8": 0.9}, "forgetting = { window = 8 }"),
    ],
)
def test_the_advice_follows_from_the_table(found: run.Backtest, costs: dict[str, float], says: str) -> None:
    """What is recommended depends on the costs alone; differences within half a percent are not told apart."""
    base = {"configured": 1.05, "hindsight optimum": 0.95}
    scores = tuple(replace(score, cost=(base | costs).get(score.name, 1.2)) for score in found.scores)
    assert says in report.recommendation(replace(found, scores=scores))


def test_hindsight_uses_no_version_before_its_time(fits: Fits, found: run.Backtest) -> None:
    """A version cannot serve a batch that it has learned from: its loss there is infinite."""
    for possible in found.possible:
        assert np.isinf(possible.losses[np.triu_indices(len(possible.batches), 1)]).all()
        assert np.isfinite(possible.losses[np.tril_indices(len(possible.batches))]).all()
    assert fits(Plan((0, 1, 2, 3), gated=False)).means[4] == found.possible[0].losses[0, 0]
