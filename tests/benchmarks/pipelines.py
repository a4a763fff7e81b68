"""The pipeline of the published baselines, and broken ones: nothing here is part of the product."""

from __future__ import annotations

from typing import Any

import numpy as np
from sklearn.compose import ColumnTransformer, make_column_selector
from sklearn.dummy import DummyClassifier, DummyRegressor
from sklearn.ensemble import HistGradientBoostingClassifier, HistGradientBoostingRegressor
from sklearn.pipeline import Pipeline
from sklearn.preprocessing import OrdinalEncoder


class Labels(HistGradientBoostingClassifier):
    """Gives labels only, so that the product's loss is 0/1 error, as in the baselines."""

    @property
    def predict_proba(self) -> Any:
        raise AttributeError("labels only")


def boosting(task: str, seed: int, labels_only: bool = True) -> Pipeline:
    """Ordinal codes (unknown -2, missing -1) and 60 small trees."""
    codes = OrdinalEncoder(
        handle_unknown="use_encoded_value", unknown_value=-2, encoded_missing_value=-1, dtype=np.float64
    )
    columns = ColumnTransformer(
        [("categories", codes, make_column_selector(dtype_exclude="number"))], remainder="passthrough"
    )
    settings: dict[str, Any] = {
        "max_iter": 60, "learning_rate": 0.12, "max_leaf_nodes": 15, "early_stopping": False, "random_state": seed,
    }  # fmt: skip
    if task == "regression":
        return Pipeline([("columns", columns), ("model", HistGradientBoostingRegressor(**settings))])
    kind = Labels if labels_only else HistGradientBoostingClassifier
    return Pipeline([("columns", columns), ("model", kind(**settings))])


def constant(task: str, labels_only: bool = True) -> Any:
    """What a fit amounts to when its features were lost on the way: it always answers the usual."""
    return DummyRegressor() if task == "regression" else DummyClassifier(strategy="most_frequent")
