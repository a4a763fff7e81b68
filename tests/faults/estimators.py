"""Every classifier and regressor, in one preprocessing pipeline; settings only where the defaults do not fit."""

from __future__ import annotations

import importlib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pandas as pd
from sklearn.compose import ColumnTransformer, make_column_selector
from sklearn.impute import SimpleImputer
from sklearn.linear_model import LinearRegression, LogisticRegression
from sklearn.pipeline import Pipeline, make_pipeline
from sklearn.preprocessing import MinMaxScaler, OneHotEncoder
from sklearn.tree import DecisionTreeRegressor
from sklearn.utils import all_estimators

from tasks.core.versions.registry import Registry

OTHERS = {
    "LGBMClassifier": ("lightgbm", "binary"),
    "LGBMRegressor": ("lightgbm", "regression"),
    "XGBClassifier": ("xgboost", "binary"),
    "XGBRegressor": ("xgboost", "regression"),
}
"""Estimators of other libraries: their package and task."""

TWO_TARGETS = "its target has several columns, and a model here has one"
EXCLUDED = {
    "ClassifierChain": TWO_TARGETS,
    "MultiOutputClassifier": TWO_TARGETS,
    "MultiOutputRegressor": TWO_TARGETS,
    "RegressorChain": TWO_TARGETS,
    "MultiTaskElasticNet": TWO_TARGETS,
    "MultiTaskElasticNetCV": TWO_TARGETS,
    "MultiTaskLasso": TWO_TARGETS,
    "MultiTaskLassoCV": TWO_TARGETS,
    "IsotonicRegression": "it takes one single feature, and has no columns to tell apart",
}
"""Those that cannot be fitted on a mixed frame, and why."""


def logistic() -> Any:
    return LogisticRegression()


SETTINGS: dict[str, Callable[[], dict[str, Any]]] = {
    "CalibratedClassifierCV": lambda: {"estimator": logistic(), "cv": 2},
    "CCA": lambda: {"n_components": 1},
    "FixedThresholdClassifier": lambda: {"estimator": logistic()},
    "LGBMClassifier": lambda: {"n_estimators": 5, "n_jobs": 1, "verbose": -1},
    "LGBMRegressor": lambda: {"n_estimators": 5, "n_jobs": 1, "verbose": -1},
    "MLPClassifier": lambda: {"max_iter": 20, "hidden_layer_sizes": (5,)},
    "MLPRegressor": lambda: {"max_iter": 20, "hidden_layer_sizes": (5,)},
    "NuSVC": lambda: {"nu": 0.2},
    "OneVsOneClassifier": lambda: {"estimator": logistic()},
    "OneVsRestClassifier": lambda: {"estimator": logistic()},
    "OutputCodeClassifier": lambda: {"estimator": logistic()},
    "PLSCanonical": lambda: {"n_components": 1},
    "QuadraticDiscriminantAnalysis": lambda: {"reg_param": 0.1},
    "RadiusNeighborsClassifier": lambda: {"radius": 5.0, "outlier_label": "most_frequent"},
    "RadiusNeighborsRegressor": lambda: {"radius": 5.0},
    "SelfTrainingClassifier": lambda: {"estimator": logistic()},
    "StackingClassifier": lambda: {"estimators": [("one", logistic())], "cv": 2},
    "StackingRegressor": lambda: {"estimators": [("one", DecisionTreeRegressor(max_depth=3))], "cv": 2},
    "TheilSenRegressor": lambda: {"max_subpopulation": 20},
    "TunedThresholdClassifierCV": lambda: {"estimator": logistic(), "cv": 2},
    "VotingClassifier": lambda: {"estimators": [("one", logistic())], "voting": "soft"},
    "VotingRegressor": lambda: {"estimators": [("one", LinearRegression())]},
    "XGBClassifier": lambda: {"n_estimators": 5, "n_jobs": 1},
    "XGBRegressor": lambda: {"n_estimators": 5, "n_jobs": 1},
}


def names() -> dict[str, str]:
    """Every estimator that there is, with its task."""
    found = {name: "binary" for name, _ in all_estimators("classifier")}
    found |= {name: "regression" for name, _ in all_estimators("regressor")}
    return found | {name: task for name, (_, task) in OTHERS.items()}


def pipeline(name: str, seed: int) -> Any:
    """Nulls filled, numbers from 0 to 1, categories as columns of 0 and 1; then the estimator of this name."""
    kind = getattr(importlib.import_module(OTHERS[name][0]), name) if name in OTHERS else dict(all_estimators())[name]
    estimator = kind(**SETTINGS.get(name, dict)())
    offered = estimator.get_params(deep=False)
    chosen = {key: value for key, value in {"random_state": seed, "n_estimators": 5}.items() if key in offered}
    numbers = make_pipeline(SimpleImputer(strategy="median"), MinMaxScaler(clip=True))
    categories = OneHotEncoder(handle_unknown="ignore", sparse_output=False)
    columns = ColumnTransformer(
        [
            ("numbers", numbers, make_column_selector(dtype_include="number")),
            ("categories", categories, make_column_selector(dtype_exclude="number")),
        ]
    )
    return Pipeline([("columns", columns), ("model", estimator.set_params(**chosen))])


def answers(store: Path, models: list[str], rows: Path) -> dict[str, Any]:
    """What v1 of each of these models answers, verified and loaded in this process; or why it does not load."""
    registry, frame = Registry(store), pd.read_parquet(rows)
    found: dict[str, Any] = {}
    for model in models:
        try:
            predictions = registry.load(model, 1, fresh=True).predict(frame)
            found[model] = (predictions.values, predictions.probabilities)
        except Exception as error:  # noqa: BLE001 - all that fail are told at once
            found[model] = f"{type(error).__name__}: {error}"
    return found
