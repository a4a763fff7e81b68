"""Losses, metrics and their intervals."""

from __future__ import annotations

import sys
from typing import Any

import numpy as np
import pytest
from sklearn import metrics as sk

from tasks.core.checks import performance
from tasks.core.checks.evidently_adapter import evidently_metrics
from tasks.core.checks.performance import loss_point, mean_metric, metrics, performance_checks, row_losses, scorer
from tasks.core.errors import DataError, SpecError
from tasks.core.types import Verdict
from tasks.core.versions.persistence import Predictions

RNG = np.random.default_rng(0)


def answers(probabilities: Any, classes: tuple[Any, ...] = (0, 1)) -> Predictions:
    """Answers of a classifier; one column of probabilities is that of the second class."""
    values = np.asarray(probabilities, dtype=float)
    if values.ndim == 1:
        values = np.column_stack([1 - values, values])
    return Predictions(np.asarray(classes)[values.argmax(axis=1)], values, classes)


def regression(values: Any) -> Predictions:
    return Predictions(np.asarray(values, dtype=float), None, ())


def dirichlet(rows: int, classes: tuple[Any, ...]) -> Predictions:
    return answers(RNG.dirichlet([1.0] * len(classes), rows), classes)


BINARY, BINARY_TRUTH = dirichlet(300, (0, 1)), RNG.integers(0, 2, 300)
WORDS = ("a", "b", "c")
MULTI, MULTI_TRUTH = dirichlet(300, WORDS), RNG.choice(np.array(WORDS, dtype=object), 300)
NUMBERS, NUMBERS_TRUTH = regression(RNG.normal(size=300)), RNG.normal(size=300)


# --- losses --------------------------------------------------------------------------------------------------


def test_the_brier_score_by_hand() -> None:
    """With two classes the loss of a row is the squared distance of its probability from the truth."""
    losses = row_losses(answers([0.9, 0.9, 0.5]), np.array([1, 0, 0]), "binary")
    assert losses == pytest.approx([0.01, 0.81, 0.25])


def test_the_multiclass_loss_by_hand() -> None:
    """With several classes the loss is half the squared distance, so that it is between 0 and 1 for any number."""
    made = answers([[0.7, 0.2, 0.1], [0.0, 0.0, 1.0], [0.0, 1.0, 0.0]], WORDS)
    losses = row_losses(made, np.array(["a", "a", "b"], dtype=object), "multiclass")
    assert losses == pytest.approx([(0.09 + 0.04 + 0.01) / 2, 1.0, 0.0])


@pytest.mark.parametrize("answer", [np.inf, -np.inf, np.nan, 1e200])
def test_a_loss_that_nothing_can_be_computed_with_is_refused(answer: float) -> None:
    """By the row that it is of: its square would be no number, nor would any variance or interval."""
    with pytest.raises(DataError, match="1 loss is too large to compute with, the first that of labelled row 2 of 3"):
        row_losses(regression([1.0, answer, 3.0]), np.array([1.0, 2.0, 3.0]), "regression")
    point = loss_point("b", 1, row_losses(regression([1e149, 2.0]), np.array([0.0, 0.0]), "regression"))
    assert np.isfinite([point.mean, point.variance]).all()


def test_two_classes_lose_alike_under_either_task() -> None:
    """A problem with two classes has the same loss whether it is called binary or multiclass."""
    binary = row_losses(BINARY, BINARY_TRUTH, "binary")
    assert np.array_equal(row_losses(BINARY, BINARY_TRUTH, "multiclass"), binary)
    assert binary.mean() == pytest.approx(sk.brier_score_loss(BINARY_TRUTH, BINARY.score))


def test_an_unseen_class_counts_as_lost() -> None:
    """A row of a class that training never saw loses as if its class had been given no probability at all."""
    losses = row_losses(answers([[1.0, 0.0], [0.5, 0.5]], ("a", "b")), np.array(["z", "z"], dtype=object), "multiclass")
    assert losses == pytest.approx([(1 + 1) / 2, (0.25 + 0.25 + 1) / 2])


def test_without_probabilities_an_error_is_an_error() -> None:
    """A classifier without probabilities loses 1 for each wrong row."""
    made = Predictions(np.array(["a", "b", "b"]), None, ("a", "b"))
    assert row_losses(made, np.array(["a", "a", "b"]), "binary").tolist() == [0.0, 1.0, 0.0]


def test_regression_loses_the_absolute_error() -> None:
    """The loss of a regression is the absolute error, in units of the target."""
    assert row_losses(regression([1.0, -2.0]), np.array([3.0, -2.5]), "regression").tolist() == [2.0, 0.5]


@pytest.mark.parametrize("target", [np.array([True, False, True]), np.array([1, 0, 1], dtype="int8")])
def test_the_type_of_the_labels_does_not_matter(target: np.ndarray) -> None:
    """Labels that arrive as booleans or small integers mean the same classes."""
    assert row_losses(answers([0.9, 0.1, 0.8]), target, "binary") == pytest.approx([0.01, 0.01, 0.04])


def test_a_loss_point_holds_mean_and_variance_per_row() -> None:
    """What the history keeps of a batch is enough to judge the mean of its losses."""
    point = loss_point("b", 3, np.array([0.0, 1.0, 1.0, 0.0]))
    assert (point.batch, point.version, point.rows, point.mean, point.variance) == ("b", 3, 4, 0.5, 0.25)


# --- metrics -------------------------------------------------------------------------------------------------


def test_the_interval_of_a_mean_by_hand() -> None:
    """The 95 % interval of a mean is 1.96 standard errors to either side."""
    metric = mean_metric(np.array([0.0, 1.0] * 50))
    assert (metric.value, metric.rows) == (0.5, 100)
    assert (metric.low, metric.high) == pytest.approx((0.5 - 0.098, 0.5 + 0.098))


@pytest.mark.parametrize(
    ("name", "task", "made", "truth", "expected"),
    [
        ("roc_auc", "binary", BINARY, BINARY_TRUTH, sk.roc_auc_score(BINARY_TRUTH, BINARY.score)),
        ("accuracy", "binary", BINARY, BINARY_TRUTH, sk.accuracy_score(BINARY_TRUTH, BINARY.values)),
        ("neg_log_loss", "multiclass", MULTI, MULTI_TRUTH, -sk.log_loss(MULTI_TRUTH, MULTI.probabilities)),
        (
            "balanced_accuracy",
            "multiclass",
            MULTI,
            MULTI_TRUTH,
            sk.balanced_accuracy_score(MULTI_TRUTH.astype(str), MULTI.values),
        ),
        ("r2", "regression", NUMBERS, NUMBERS_TRUTH, sk.r2_score(NUMBERS_TRUTH, NUMBERS.values)),
    ],
)
def test_a_scorer_is_scikit_learns(name: str, task: str, made: Predictions, truth: np.ndarray, expected: float) -> None:
    """Every scorer gives on recorded answers what it would give on the pipeline itself, with an interval around it."""
    assert scorer(name, task)(made, truth) == pytest.approx(expected)
    measured = metrics(made, truth, name, task, seed=0)
    assert measured[name].value == pytest.approx(expected)
    assert measured[name].low is not None
    assert measured[name].high is not None
    assert measured[name].low < expected < measured[name].high
    assert measured["loss"].value == pytest.approx(row_losses(made, truth, task).mean())
    assert measured == metrics(made, truth, name, task, seed=0)


def test_the_interval_narrows_with_the_rows(monkeypatch: pytest.MonkeyPatch) -> None:
    """An interval follows the number of rows, also beyond those that are drawn for it."""
    monkeypatch.setattr(performance, "RESAMPLES", 200)
    few, many = 500, 50_000
    truth = RNG.integers(0, 2, many)
    made = answers(np.clip(truth * 0.2 + RNG.random(many) * 0.8, 0, 1))
    wide = metrics(answers(made.score[:few]), truth[:few], "accuracy", "binary", seed=0)["accuracy"]
    narrow = metrics(made, truth, "accuracy", "binary", seed=0)["accuracy"]
    assert wide.high is not None
    assert narrow.high is not None
    assert (wide.high - wide.value) / (narrow.high - narrow.value) == pytest.approx(10, rel=0.25)


def test_an_unknown_scorer_is_refused_with_suggestions() -> None:
    """A metric that scikit-learn does not have is refused with the names that come close."""
    with pytest.raises(SpecError, match=r"'roc_acu' is not a scikit-learn scorer; close: roc_auc"):
        scorer("roc_acu", "binary")


def test_one_class_only_has_no_auc() -> None:
    """On rows of one class the metric that needs two is left out; the loss is still there, and nothing fails."""
    made, truth = answers([0.9, 0.8, 0.7, 0.2]), np.ones(4, dtype=int)
    measured = metrics(made, truth, "roc_auc", "binary", seed=0)
    assert set(measured) == {"loss"}
    checks, _ = performance_checks("b", made, truth, "binary", 1.0)
    names = [check.name for check in checks]
    assert names[0] == "performance:loss"
    assert "performance:accuracy" in names
    assert "performance:roc_auc" not in names


def test_without_probabilities_a_metric_that_needs_them_is_left_out() -> None:
    """A classifier that gives no probabilities is judged by its errors; a metric it has no answer for stops nothing."""
    made = Predictions(np.array([1, 0, 1, 1]), None, (0, 1))
    assert set(metrics(made, np.array([1, 0, 0, 1]), "roc_auc", "binary", seed=0)) == {"loss"}
    assert metrics(made, np.array([1, 0, 0, 1]), "accuracy", "binary", seed=0)["accuracy"].value == 0.75


# --- Evidently -----------------------------------------------------------------------------------------------


def test_evidently_agrees_with_scikit_learn_on_two_classes() -> None:
    """What people read of a binary model is what scikit-learn computes."""
    values, _ = evidently_metrics(BINARY, BINARY_TRUTH, "binary")
    assert values == pytest.approx(
        {
            "accuracy": sk.accuracy_score(BINARY_TRUTH, BINARY.values),
            "f1": sk.f1_score(BINARY_TRUTH, BINARY.values),
            "precision": sk.precision_score(BINARY_TRUTH, BINARY.values),
            "recall": sk.recall_score(BINARY_TRUTH, BINARY.values),
            "log_loss": sk.log_loss(BINARY_TRUTH, BINARY.probabilities),
            "roc_auc": sk.roc_auc_score(BINARY_TRUTH, BINARY.score),
        },
        rel=1e-6,
    )


def test_evidently_agrees_with_scikit_learn_on_several_classes() -> None:
    """What people read of a multiclass model is what scikit-learn computes, averaged over classes."""
    truth = MULTI_TRUTH.astype(str)
    values, _ = evidently_metrics(MULTI, MULTI_TRUTH, "multiclass")
    assert values == pytest.approx(
        {
            "accuracy": sk.accuracy_score(truth, MULTI.values),
            "f1": sk.f1_score(truth, MULTI.values, average="macro"),
            "precision": sk.precision_score(truth, MULTI.values, average="macro"),
            "recall": sk.recall_score(truth, MULTI.values, average="macro"),
            "log_loss": sk.log_loss(truth, MULTI.probabilities),
            "roc_auc": sk.roc_auc_score(truth, MULTI.probabilities, multi_class="ovr"),
        },
        rel=1e-6,
    )


def test_evidently_agrees_with_scikit_learn_on_numbers() -> None:
    """What people read of a regression is what scikit-learn computes."""
    values, _ = evidently_metrics(NUMBERS, NUMBERS_TRUTH, "regression")
    assert values == pytest.approx(
        {
            "mae": sk.mean_absolute_error(NUMBERS_TRUTH, NUMBERS.values),
            "rmse": sk.root_mean_squared_error(NUMBERS_TRUTH, NUMBERS.values),
            "r2": sk.r2_score(NUMBERS_TRUTH, NUMBERS.values),
        }
    )


def test_words_as_classes_are_measured_like_numbers() -> None:
    """What the classes are called does not change a number."""
    words = Predictions(np.array(["no", "yes"])[BINARY.values], BINARY.probabilities, ("no", "yes"))
    truth = np.array(["no", "yes"], dtype=object)[BINARY_TRUTH]
    assert evidently_metrics(words, truth, "binary")[0] == evidently_metrics(BINARY, BINARY_TRUTH, "binary")[0]


def test_a_class_that_training_never_saw_does_not_stop_the_check() -> None:
    """Rows of an unseen class are counted in the loss and left out of what Evidently measures."""
    truth = MULTI_TRUTH.copy()
    truth[:30] = "unseen"
    checks, _ = performance_checks("b", MULTI, truth, "multiclass", 0.9)
    by_name = {check.name: check for check in checks}
    assert by_name["performance:loss"].value == pytest.approx(row_losses(MULTI, truth, "multiclass").mean())
    assert by_name["performance:accuracy"].value == pytest.approx(
        sk.accuracy_score(MULTI_TRUTH[30:].astype(str), MULTI.values[30:])
    )
    assert "90% of its rows" in by_name["performance:loss"].summary


def test_a_class_that_the_batch_lacks_does_not_stop_the_check() -> None:
    """Where a batch has rows of some classes only, the probabilities of the others still count."""
    rows = np.flatnonzero(MULTI_TRUTH != "c")
    assert MULTI.probabilities is not None
    some = answers(MULTI.probabilities[rows], WORDS)
    values, _ = evidently_metrics(some, MULTI_TRUTH[rows], "multiclass")
    assert values["log_loss"] == pytest.approx(
        sk.log_loss(MULTI_TRUTH[rows].astype(str), some.probabilities, labels=list(WORDS)), rel=1e-6
    )
    assert "roc_auc" not in values


def test_without_evidently_the_loss_is_still_there(monkeypatch: pytest.MonkeyPatch) -> None:
    """When Evidently fails its check is skipped with the reason; the number that the rules use does not need it."""
    monkeypatch.setitem(sys.modules, "evidently", None)
    (loss, skipped), snapshot = performance_checks("b", BINARY, BINARY_TRUTH, "binary", 1.0)
    assert loss.name == "performance:loss"
    assert skipped.verdict is Verdict.SKIPPED
    assert "Evidently could not measure performance on b: " in skipped.summary
    assert snapshot is None


@pytest.mark.parametrize(("strange", "classes"), [(40, (0, 1)), (1, WORDS), (0, WORDS), (0, (0, 1))])
def test_metrics_say_the_rows_that_they_are_about(strange: int, classes: tuple[Any, ...]) -> None:
    """The loss is about all labelled rows; a metric of classes about those whose class the version has learned."""
    made = dirichlet(400, classes)
    truth = RNG.choice(np.array(classes), 400)
    truth[:strange] = 9 if classes == (0, 1) else "z"
    checks, _ = performance_checks("b", made, truth, "multiclass", 1.0)
    found = {check.subject: check.summary for check in checks}
    accuracy = float((made.values[strange:] == truth[strange:]).mean())
    assert "on 400 labelled rows of b" in found["loss"]
    if strange:
        assert f"on {400 - strange} of 400 labelled rows of b; {strange} have a class" in found["accuracy"]
    else:
        assert found["accuracy"].endswith("on 400 labelled rows of b")
    assert next(check.value for check in checks if check.subject == "accuracy") == pytest.approx(accuracy)
