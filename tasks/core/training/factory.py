"""Who builds the unfitted pipeline: the default one, and those of the user's own."""

from __future__ import annotations

import importlib
import inspect
from typing import Any

import numpy as np

from tasks.core.errors import SpecError
from tasks.core.spec import ModelSpec


def tabular(task: str, seed: int, **parameters: Any) -> Any:
    """The default pipeline: impute and scale numbers, encode categories, histogram gradient boosting.

    Made of scikit-learn classes only, so that plain `joblib.load` needs nothing of ours. It survives columns that are
    wholly missing in training and categories that training never saw. `parameters` go to the booster.
    """
    from sklearn.compose import ColumnTransformer, make_column_selector
    from sklearn.ensemble import HistGradientBoostingClassifier, HistGradientBoostingRegressor
    from sklearn.impute import SimpleImputer
    from sklearn.pipeline import Pipeline
    from sklearn.preprocessing import OrdinalEncoder, StandardScaler

    numbers = Pipeline(
        [
            # An indicator keeps what imputation would hide; empty columns are kept or the width would change.
            ("impute", SimpleImputer(strategy="median", keep_empty_features=True, add_indicator=True)),
            ("scale", StandardScaler()),
        ]
    )
    categories = OrdinalEncoder(
        handle_unknown="use_encoded_value", unknown_value=-2, encoded_missing_value=-1, dtype=np.float64
    )
    columns = ColumnTransformer(
        [
            ("numbers", numbers, make_column_selector(dtype_include="number")),
            ("categories", categories, make_column_selector(dtype_exclude="number")),
        ]
    )
    booster = HistGradientBoostingRegressor if task == "regression" else HistGradientBoostingClassifier
    settings = {"max_iter": 100, "early_stopping": False, "random_state": seed, **parameters}
    return Pipeline([("columns", columns), ("model", booster(**settings))])


def build(spec: ModelSpec) -> Any:
    """The unfitted pipeline that the specification names. Raises SpecError where it cannot be imported or fails."""
    module_name, _, name = spec.pipeline.factory.partition(":")
    try:
        factory = getattr(importlib.import_module(module_name), name)
    except (ImportError, AttributeError) as error:
        raise SpecError(
            "pipeline.factory",
            [
                f"{spec.pipeline.factory!r} cannot be imported: {error}. It must live in an installed module, or in a "
                'folder that the model\'s file names: code = ["src"]'
            ],
        ) from None
    offered = {"task": spec.task, "seed": spec.seed}
    accepted = inspect.signature(factory).parameters
    arguments = {key: value for key, value in offered.items() if key in accepted} | dict(spec.pipeline.parameters)
    try:
        pipeline = factory(**arguments)
    except Exception as error:
        raise SpecError(
            "pipeline", [f"{spec.pipeline.factory!r} with {arguments} failed: {type(error).__name__}: {error}"]
        ) from error
    if not _is_estimator(pipeline):
        returned = type(pipeline).__name__
        raise SpecError("pipeline.factory", [f"{spec.pipeline.factory!r} returned {returned}, not an estimator"])
    return pipeline


def _is_estimator(pipeline: Any) -> bool:
    """It can be fitted, and asked then: some that are made of others (stacking) show `predict` once they are fitted."""
    steps = getattr(pipeline, "steps", None)
    last = steps[-1][1] if steps else pipeline
    return hasattr(pipeline, "fit") and (hasattr(last, "predict") or hasattr(type(last), "predict"))
