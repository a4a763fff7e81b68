"""The gate: which rows are kept for it, and what it refuses."""

from __future__ import annotations

import hashlib
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest

from tasks.core.checks import performance
from tasks.core.data.rows import target_of
from tasks.core.errors import DataError
from tasks.core.predictions import write_predictions
from tasks.core.training import holdout
from tasks.core.training.gate import Recorded, Rival, compare, rival_of
from tasks.core.training.holdout import GATE_ROWS, TrainingSet, holdout_rows, split
from tasks.core.types import Batch, Verdict
from tasks.core.versions import persistence
from tasks.core.versions.loaded import LoadedVersion
from tasks.core.versions.persistence import Predictions
from tests.helpers.model import make_rows
from tests.helpers.training import Trained, make_history, make_spec

BATCH = Batch("2013-02", "2013-02.parquet", hashlib.sha256(b"some data").hexdigest())


def guesses(wrong: Any, rows: int = 100) -> tuple[Predictions, np.ndarray]:
    """Answers without probabilities to rows that are all 1: these are wrong, so each of them loses 1."""
    values = np.ones(rows, dtype=int)
    values[wrong] = 0
    return Predictions(values, None, (0, 1)), np.ones(rows, dtype=int)


def rival(wrong: Any, rows: int = 100, version: int | None = 1) -> Rival:
    answers, truth = guesses(wrong, rows)
    return Rival(version, answers, truth, np.arange(rows))


ACCURACY = make_spec(metric="accuracy")


# --- the holdout ---------------------------------------------------------------------------------------------


def test_anybody_can_derive_the_fold() -> None:
    """A row is kept when blake2b of the batch's digest and the row's number, eight bytes each way, divides by ten."""
    derived = []
    for row in range(500):
        text = bytes.fromhex(BATCH.sha256) + row.to_bytes(8, "little")
        if int.from_bytes(hashlib.blake2b(text, digest_size=8).digest(), "little") % 10 == 0:
            derived.append(row)
    assert holdout_rows(BATCH, 500).tolist() == derived


def test_a_first_version_keeps_more() -> None:
    """The holdout of a first version is a fifth, and contains that of later versions: what those judge by is new to it."""
    first = holdout_rows(BATCH, 20_000, holdout.FIRST_HOLDOUT_EVERY)
    assert 0.19 < len(first) / 20_000 < 0.21
    assert set(holdout_rows(BATCH, 20_000)) <= set(first)


def test_the_fold_is_a_tenth() -> None:
    """About every tenth row is kept, others in each batch, and the first rows stay kept when more arrive."""
    holdout = holdout_rows(BATCH, 20_000)
    assert 0.09 < len(holdout) / 20_000 < 0.11
    assert np.array_equal(holdout_rows(BATCH, 5_000), holdout[holdout < 5_000])
    other = holdout_rows(Batch("b", "b", hashlib.sha256(b"other data").hexdigest()), 20_000)
    assert 0.07 < np.isin(holdout, other).mean() < 0.13


@pytest.mark.parametrize(
    ("sizes", "kept"),
    [([1300, 1300], 1), ([600, 600, 600], 2), ([1300, 400, 200], 3), ([100], 1), ([20] * 18, 16)],
)
def test_older_batches_are_added_until_there_are_enough_rows(tmp_path: Path, sizes: list[int], kept: int) -> None:
    """The newest batches give their holdouts until there are a hundred rows, and at most sixteen batches do."""
    history = make_history(tmp_path, make_spec(), *(make_rows(rows, seed) for seed, rows in enumerate(sizes)))
    parts = split(history).gate
    assert [part.batch for part in parts] == [item.batch for item in history[-kept:]]
    rows = [len(part.rows) for part in parts]
    if kept < min(16, len(sizes)):
        assert sum(rows) >= GATE_ROWS > sum(rows[1:])


def test_no_row_is_both_learnt_and_judged(tmp_path: Path) -> None:
    """Every labelled row is either trained on or kept for the gate, never both; a row without a label is neither."""
    some = make_rows(300, 2).astype({"y": float})
    some.loc[::3, "y"] = np.nan
    history = make_history(tmp_path, make_spec(), make_rows(300, 1), some, make_rows(300, 3))
    parts = split(history)
    kept = {part.batch.id: part for part in parts.gate}
    assert list(kept) == ["001", "002", "003"]
    for item, learn in zip(history, parts.learn, strict=True):
        judged = kept[item.batch.id].rows if item.batch.id in kept else np.array([], dtype=int)
        assert not set(learn.rows) & set(judged)
        assert sorted({*learn.rows, *judged}) == item.rows.tolist()
        assert set(judged) <= set(holdout_rows(item.batch, 300))
        label = dict(zip(item.rows, item.target, strict=True))
        assert learn.target.tolist() == [label[row] for row in learn.rows]


# --- the rival -----------------------------------------------------------------------------------------------


def test_the_first_rival_is_dummy(trained: Trained) -> None:
    """A first version has to beat the answer that is right most often, or the median of a regression."""
    against = rival_of(trained.spec, split(trained.history), np.array([0, 1, 1, 1]), None)
    assert against is not None
    assert against.name == "Dummy"
    assert set(against.answers.score) == {0.75}
    assert set(performance.dummy(np.array([1.0, 2.0, 9.0]), "regression", 3).values) == {2.0}


def test_a_champion_is_judged_on_rows_it_never_saw(trained: Trained, champion: LoadedVersion) -> None:
    """Of a batch that the champion was trained on no row counts; of a batch of which a holdout was kept that holdout does."""
    parts = tuple(item.part(holdout_rows(item.batch, item.total)) for item in trained.history)
    against = rival_of(trained.spec, TrainingSet((), parts), np.array([]), champion)
    assert [file.held_out for file in champion.manifest.training] == [False, False, True]
    assert against is not None
    assert against.clean.tolist() == list(range(len(parts[0].rows) + len(parts[1].rows), len(target_of(parts))))
    expected = persistence.predict(champion.pipeline, holdout.features_of(champion.contract, parts))
    assert np.array_equal(against.answers.score, expected.score)


def test_rows_of_a_new_batch_are_all_clean(trained: Trained, champion: LoadedVersion, tmp_path: Path) -> None:
    """A batch that came after the champion was trained is new to it."""
    history = make_history(tmp_path, trained.spec, *(make_rows(600, seed) for seed in (1, 2, 3, 4)))
    against = rival_of(trained.spec, split(history), np.array([]), champion)
    assert against is not None
    assert len(against.clean) == len(against.truth) >= GATE_ROWS


def test_a_champion_that_saw_all_rows_cannot_be_judged(trained: Trained, champion: LoadedVersion) -> None:
    """Where no row is new to the champion, the comparison is skipped and it stays."""
    parts = split(trained.history[:2])
    against = rival_of(trained.spec, parts, np.array([]), champion)
    assert against is not None
    perfect = guesses([], len(against.truth))[0]
    verdict, metrics, _ = compare(ACCURACY, perfect, against.truth, against)
    assert (verdict.verdict, verdict.rows) == (Verdict.SKIPPED, 0)
    assert "only 0 rows that v1 has not seen (100 needed): it stays" in verdict.reason
    assert "loss" in metrics


def test_a_champion_that_does_not_load_is_compared_by_what_it_wrote(
    trained: Trained, champion: LoadedVersion, tmp_path: Path
) -> None:
    """After an upgrade the predictions on file stand for the version in service: the comparison is the same."""
    history = make_history(tmp_path, trained.spec, *(make_rows(600, seed) for seed in (1, 2, 3, 4, 5)))
    training = split(history)
    for part in training.gate:
        output = tmp_path / "predictions" / f"{part.batch.id}.parquet"
        write_predictions(tmp_path, part.batch.path, output, champion, trained.spec, "a run")
    asked = rival_of(trained.spec, training, np.array([]), champion)
    recorded = rival_of(trained.spec, training, np.array([]), Recorded(champion.manifest, tmp_path / "predictions"))
    assert asked is not None
    assert recorded is not None
    assert (recorded.name, recorded.note) == ("v1", "")
    assert np.array_equal(recorded.clean, asked.clean)
    assert np.allclose(recorded.answers.score, asked.answers.score, rtol=1e-12)
    perfect = guesses([], len(asked.truth))[0]
    assert compare(ACCURACY, perfect, asked.truth, recorded)[0].against == "v1"


def test_without_what_it_wrote_dummy_stands_in(trained: Trained, champion: LoadedVersion, tmp_path: Path) -> None:
    """Where the version in service neither loads nor left predictions, the gate says that it was not comparable."""
    training = split(trained.history)
    against = rival_of(trained.spec, training, np.array([0, 1, 1]), Recorded(champion.manifest, tmp_path))
    assert against is not None
    assert against.name == "Dummy"
    found = compare(ACCURACY, guesses([], len(against.truth))[0], against.truth, against)[0]
    assert found.against == "Dummy"
    assert found.reason.startswith("champion not comparable (v1 does not load here; it wrote no predictions for 002)")


# --- the comparison ------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("wrong", "verdict", "said"),
    [
        (0, Verdict.PASS, "no different from v1 on 100 rows"),
        (3, Verdict.PASS, "no different from v1 on 100 rows"),
        (5, Verdict.FAIL, "worse than v1 by 0.05 a row (95 % interval 0.00707 to 0.0929) on 100 rows"),
        (100, Verdict.FAIL, "worse than v1 by 1 a row on 100 rows"),
    ],
    ids=["better or equal", "worse within two standard errors", "worse beyond them", "wrong throughout"],
)
def test_a_worse_challenger_is_refused(wrong: int, verdict: Verdict, said: str) -> None:
    """A challenger is refused when it loses more than the champion, beyond two standard errors of the difference; where
    the interval of the difference contains 0, no number is named."""
    answers, truth = guesses(range(wrong))
    found, _, _ = compare(ACCURACY, answers, truth, rival([]))
    assert found.verdict is verdict
    assert found.difference == pytest.approx(wrong / 100)
    assert said in found.reason
    share = wrong / 100
    assert found.standard_error == pytest.approx(np.sqrt(share * (1 - share) / 99))
    assert (found.against, found.rows) == ("v1", 100)


def test_a_difference_is_told_as_a_share_of_the_rival_s_loss() -> None:
    """Both the difference and its interval are in percent of what the champion loses, and have one sign."""
    answers, truth = guesses(range(10))
    better, _, _ = compare(ACCURACY, answers, truth, rival(range(20)))
    worse, _, _ = compare(ACCURACY, *guesses(range(20)), rival(range(10)))
    assert better.reason.startswith("better than v1 by 50% of its loss (95 % interval 20% to 80%) on 100 rows")
    assert worse.reason.startswith("worse than v1 by 100% of its loss (95 % interval 41% to 160%) on 100 rows")


def test_a_broken_fit_is_refused(trained: Trained, champion: LoadedVersion, tmp_path: Path) -> None:
    """A challenger that always gives the same answer does not replace a champion that learnt something."""
    history = make_history(tmp_path, trained.spec, *(make_rows(600, seed) for seed in (1, 2, 3, 4)))
    against = rival_of(trained.spec, split(history), np.array([]), champion)
    assert against is not None
    constant = performance.dummy(np.array([0, 1]), "binary", len(against.truth))
    found, _, _ = compare(trained.spec, constant, against.truth, against)
    assert found.verdict is Verdict.FAIL
    assert "worse than v1" in found.reason


@pytest.mark.parametrize(
    ("wrong", "verdict"), [(29, Verdict.PASS), (30, Verdict.FAIL), (31, Verdict.FAIL)], ids=["better", "equal", "worse"]
)
def test_a_first_version_must_beat_dummy(wrong: int, verdict: Verdict) -> None:
    """A first version that is no better than always predicting the usual is refused, however close it is."""
    answers, truth = guesses(range(wrong))
    found, _, _ = compare(ACCURACY, answers, truth, rival(range(30), version=None))
    assert found.verdict is verdict
    assert found.negative_flips is None


@pytest.mark.parametrize(("rows", "verdict"), [(99, Verdict.SKIPPED), (100, Verdict.PASS)])
def test_too_few_rows_keep_the_champion(rows: int, verdict: Verdict) -> None:
    """With fewer than a hundred rows nothing can be told: the comparison is skipped."""
    answers, truth = guesses([], rows)
    assert compare(ACCURACY, answers, truth, rival([], rows))[0].verdict is verdict


def test_a_first_version_is_judged_on_the_rows_there_are() -> None:
    """Without a champion there is nothing to keep: few rows are better than none."""
    answers, truth = guesses([], 20)
    assert compare(ACCURACY, answers, truth, rival(range(10), 20, None))[0].verdict is Verdict.PASS


def test_without_rows_nothing_is_compared() -> None:
    """When no row was kept the comparison is skipped, with the reason."""
    found, metrics, others = compare(ACCURACY, None, np.array([]), None)
    assert (found.verdict, found.rows, metrics, others) == (Verdict.SKIPPED, 0, {}, {})


@pytest.mark.parametrize(("floor", "verdict"), [(0.97, Verdict.PASS), (0.98, Verdict.FAIL)])
def test_the_floor_refuses(floor: float, verdict: Verdict) -> None:
    """A challenger whose metric is below the floor is refused even if it is better than the champion."""
    spec = make_spec(metric="accuracy", policy={"metric_floor": floor})
    answers, truth = guesses(range(3))
    found, _, _ = compare(spec, answers, truth, rival(range(50)))
    assert found.verdict is verdict
    assert ("accuracy is 0.97, below the floor of 0.98" in found.reason) is (verdict is Verdict.FAIL)


def test_a_metric_that_is_undefined_does_not_reach_a_floor() -> None:
    """Where the metric has no value, a floor under it counts as missed."""
    spec = make_spec(metric="roc_auc", policy={"metric_floor": 0.5})
    answers, truth = performance.dummy(np.array([0, 1]), "binary", 100), np.ones(100, dtype=int)
    found, _, _ = compare(spec, answers, truth, Rival(1, answers, truth, np.arange(100)))
    assert found.verdict is Verdict.FAIL
    assert "roc_auc is undefined" in found.reason


def test_negative_flips_by_hand() -> None:
    """Rows that were right and become wrong are counted, as a share of all."""
    answers, truth = guesses(range(5, 15))
    found, _, _ = compare(ACCURACY, answers, truth, rival(range(10)))
    assert found.negative_flips == pytest.approx(0.05)


def test_both_are_measured_on_the_same_rows() -> None:
    """The record holds the metrics of both on the rows of the gate."""
    answers, truth = guesses(range(3))
    _, ours, theirs = compare(ACCURACY, answers, truth, rival(range(8)))
    assert [metrics["accuracy"].value for metrics in (ours, theirs)] == pytest.approx([0.97, 0.92])
    assert ours["loss"].rows == theirs["loss"].rows == 100


def test_labels_that_do_not_fit_the_task(tmp_path: Path) -> None:
    """Labels that the task cannot use are refused with the first one that does not fit."""
    rows = pd.DataFrame({"id": ["a", "b"], "x": [1.0, 2.0], "y": [0.5, 1.0]})
    with pytest.raises(DataError, match="does not fit task = 'binary'"):
        make_history(tmp_path, make_spec(), rows)
