"""The only importer of Evidently: its distances, metrics and pages, with every column type set explicitly."""

from __future__ import annotations

import html
import warnings
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import pandas as pd

from tasks.core.versions.persistence import Predictions

Samples = Mapping[str, np.ndarray]
"""Columns as they are compared, by name, each of shape (rows,)."""


def evidently_distances(then: Samples, now: Samples, numeric: Mapping[str, bool]) -> dict[str, float]:
    """Evidently's distance of each column, by its own tests but without the pictures, which cost five times as much."""
    if not numeric:
        return {}
    with warnings.catch_warnings(action="ignore"):
        from evidently.legacy.calculations.stattests import jensenshannon_stat_test, wasserstein_stat_test
        from evidently.legacy.core import ColumnType

        kinds = {
            True: (wasserstein_stat_test, ColumnType.Numerical),
            False: (jensenshannon_stat_test, ColumnType.Categorical),
        }
        found = {}
        for name, is_number in numeric.items():
            test, kind = kinds[is_number]
            sides = (pd.Series(side[name]).dropna() for side in (then, now))
            found[name] = float(test(*sides, kind, None).drift_score)
    return found


def drift_page(then: Samples, now: Samples, numeric: Mapping[str, bool]) -> Any:
    """Evidently's page of some columns, None where it fails. Names and values go unescaped into it: escaped here."""
    if not numeric:
        return None
    with warnings.catch_warnings(action="ignore"):
        from evidently import Dataset, Report
        from evidently.metrics import ValueDrift

        names = _safe_names(list(numeric))
        described = _definition_of(names, numeric)
        sides = [
            pd.DataFrame(
                {names[n]: side[n] if numeric[n] else pd.Series(side[n]).map(html.escape, "ignore") for n in numeric}
            )
            for side in (now, then)
        ]
        metrics = [
            ValueDrift(column=names[name], method="wasserstein" if is_number else "jensenshannon")
            for name, is_number in numeric.items()
        ]
        try:
            return Report(metrics).run(*(Dataset.from_pandas(side, described) for side in sides))
        except Exception:  # noqa: BLE001 - the verdict is the same without Evidently's pictures
            return None


def definition(numeric: Sequence[str], categorical: Sequence[str], **tasks: Any) -> Any:
    """A DataDefinition with every list set: a list that is left out has Evidently infer types, frame by frame."""
    from evidently import DataDefinition

    return DataDefinition(
        numerical_columns=list(numeric),
        categorical_columns=list(categorical),
        text_columns=[],
        datetime_columns=[],
        unknown_columns=[],
        list_columns=[],
        **tasks,
    )


def _definition_of(names: Mapping[str, str], numeric: Mapping[str, bool]) -> Any:
    """Of columns that Evidently knows by the second of these names."""
    return definition(*([safe for name, safe in names.items() if numeric[name] is kind] for kind in (True, False)))


def preset_share(reference: pd.DataFrame, current: pd.DataFrame, numeric: Mapping[str, bool]) -> float:
    """Share of columns, 0 to 1, that Evidently's own defaults call drifted: what tutorials alarm on."""
    with warnings.catch_warnings(action="ignore"):
        from evidently import Dataset, Report
        from evidently.metrics import DriftedColumnsCount

        names = [name for name in numeric if not (reference[name].isna().all() or current[name].isna().all())]
        safe = _safe_names(names)
        described = _definition_of(safe, numeric)
        sides = [Dataset.from_pandas(side[names].rename(columns=safe), described) for side in (current, reference)]
        metric = DriftedColumnsCount()
        snapshot = Report([metric]).run(*sides)
    return float(snapshot.metric_results[metric.metric_id].share.value) * len(names) / max(1, len(numeric))


def _safe_names(names: Sequence[str]) -> dict[str, str]:
    safe: dict[str, str] = {}
    for name in names:
        plain = html.escape(name.removeprefix("ror:")) or "(no name)"
        while plain in safe.values():
            plain += "'"
        safe[name] = plain
    return safe


def evidently_metrics(predictions: Predictions, target: np.ndarray, task: str) -> tuple[Mapping[str, float], Any]:
    """What Evidently says of the performance on these rows, and its snapshot for a page.

    Labels are recoded to integers and the answers passed as two tasks, labels and probabilities: given both in one,
    Evidently 0.7 ignores the labels. Raises whatever Evidently raises; the caller turns that into a skipped check.
    """
    with warnings.catch_warnings(action="ignore"):
        from evidently import BinaryClassification, Dataset, MulticlassClassification, Regression, Report
        from evidently import metrics as m

        if task == "regression":
            frame = pd.DataFrame({"target": target.astype(float), "prediction": predictions.values.astype(float)})
            views = [Regression(target="target", prediction="prediction")]
            described = definition(["target", "prediction"], [], regression=views)
            wanted: dict[str, Any] = {"mae": m.MAE(), "rmse": m.RMSE(), "r2": m.R2Score()}
        else:
            classes = list(predictions.classes)
            codes = {value: code for code, value in enumerate(classes)}
            known = np.array([value in codes for value in target.tolist()])
            frame = pd.DataFrame(
                {
                    "target": [codes[value] for value in target[known].tolist()],
                    "label": [codes[value] for value in predictions.values[known].tolist()],
                }
            )
            if len(classes) == 2:
                kind, shared = BinaryClassification, {"pos_label": 1}
            else:
                kind, shared = MulticlassClassification, {}
            views = [kind(name="label", target="target", prediction_labels="label", **shared)]
            wanted = {"accuracy": m.Accuracy(classification_name="label")}
            several = frame["target"].nunique() > 1
            if several:
                wanted["f1"] = m.F1Score(classification_name="label")
                wanted["precision"] = m.Precision(classification_name="label")
                wanted["recall"] = m.Recall(classification_name="label")
            numbers: list[str] = []
            if predictions.probabilities is not None:
                if len(classes) == 2:
                    numbers = ["score"]
                    frame["score"] = predictions.probabilities[known, 1]
                    views.append(kind(name="proba", target="target", prediction_probas="score", **shared))
                else:
                    numbers = [str(code) for code in codes.values()]
                    frame[numbers] = predictions.probabilities[known]
                    views.append(kind(name="proba", target="target", prediction_probas=numbers))
                wanted["log_loss"] = m.LogLoss(classification_name="proba")
                if several:
                    wanted["roc_auc"] = m.RocAuc(classification_name="proba")
            described = definition(numbers, ["target", "label"], classification=views)
        snapshot = Report(list(wanted.values())).run(Dataset.from_pandas(frame, described))
        results = {name: snapshot.metric_results[metric.metric_id] for name, metric in wanted.items()}
    values = {name: float(getattr(result, "mean", result).value) for name, result in results.items()}
    return {name: value for name, value in values.items() if np.isfinite(value)}, snapshot
