"""Who builds the unfitted pipeline: the default one, and those of the user's own."""

from __future__ import annotations

import importlib
import inspect
from collections.abc import Mapping
from typing import Any

import numpy as np

from tasks.core.errors import SpecError, in_short
from tasks.core.spec import ModelSpec, PipelineSpec

LINEAR, SMALL_BOOSTER, BOOSTER = ESTIMATORS = ("linear", "small-booster", "booster")
"""What the default pipeline may end in, the simplest first; which one suits grows with the data."""
RARE = 5
"""Rows that a category of the linear pipeline must have: the others count as one, and so does what comes later."""


def tabular(task: str, seed: int, estimator: str = BOOSTER, **parameters: Any) -> Any:
    """The default pipeline: impute and scale numbers, encode categories, and one of ESTIMATORS.

    Made of scikit-learn classes only, so that plain `joblib.load` needs nothing of ours. It survives columns that are
    wholly missing in training and categories that training never saw. `parameters` go to the estimator: ridge or
    logistic regression, or histogram gradient boosting. Raises ValueError for an estimator that there is not.
    """
    from sklearn.compose import ColumnTransformer, make_column_selector
    from sklearn.impute import SimpleImputer
    from sklearn.pipeline import Pipeline
    from sklearn.preprocessing import MinMaxScaler, OneHotEncoder, OrdinalEncoder, StandardScaler

    if estimator not in ESTIMATORS:
        raise ValueError(f"estimator {estimator!r} is none of {', '.join(ESTIMATORS)}")
    linear = estimator == LINEAR
    numbers = Pipeline(
        [
            # An indicator keeps what imputation would hide; empty columns are kept or the width would change.
            ("impute", SimpleImputer(strategy="median", keep_empty_features=True, add_indicator=True)),
            # A line goes on beyond the data, where on real streams it lost up to 30 times what guessing loses.
            *([("clip", MinMaxScaler(clip=True))] if linear else []),
            ("scale", StandardScaler()),
        ]
    )
    categories = (
        OneHotEncoder(handle_unknown="infrequent_if_exist", min_frequency=RARE)
        if linear
        else OrdinalEncoder(
            handle_unknown="use_encoded_value", unknown_value=-2, encoded_missing_value=-1, dtype=np.float64
        )
    )
    columns = ColumnTransformer(
        [
            ("numbers", numbers, make_column_selector(dtype_include="number")),
            ("categories", categories, make_column_selector(dtype_exclude="number")),
        ]
    )
    return Pipeline([("columns", columns), ("model", _model(task, seed, estimator, parameters))])


def _model(task: str, seed: int, estimator: str, parameters: Mapping[str, Any]) -> Any:
    from sklearn.ensemble import HistGradientBoostingClassifier, HistGradientBoostingRegressor
    from sklearn.linear_model import LogisticRegression, Ridge

    regression = task == "regression"
    if estimator == LINEAR:
        # Shrunk ten times as much as by scikit-learn's defaults: on a few hundred rows of real streams that lost less.
        settings = {"alpha": 10.0} if regression else {"C": 0.1, "max_iter": 1_000}
        kind = Ridge if regression else LogisticRegression
    else:
        settings = {"max_iter": 100, "early_stopping": False}
        settings |= {"max_leaf_nodes": 7, "learning_rate": 0.05} if estimator == SMALL_BOOSTER else {}
        kind = HistGradientBoostingRegressor if regression else HistGradientBoostingClassifier
    return kind(**{**settings, "random_state": seed, **parameters})


def is_default(spec: ModelSpec) -> bool:
    """Whether the pipeline is `tabular`, as it is where a model's file names no factory."""
    return spec.pipeline.factory == PipelineSpec().factory


def build(spec: ModelSpec) -> Any:
    """The unfitted pipeline that the specification names. Raises SpecError where it cannot be imported or fails."""
    module_name, _, name = spec.pipeline.factory.partition(":")
    try:
        module = importlib.import_module(module_name)
    except ImportError as error:
        raise _not_found(spec, error) from None
    except Exception as error:  # a module is code of its user
        text = f"{module_name} failed when it was imported: {in_short(error, withheld=bool(spec.data.private))}"
        raise SpecError("pipeline.factory", [text]) from error
    try:
        factory = getattr(module, name)
    except AttributeError as error:
        raise _not_found(spec, error) from None
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


def _not_found(spec: ModelSpec, error: Exception) -> SpecError:
    return SpecError(
        "pipeline.factory",
        [
            f"{spec.pipeline.factory!r} cannot be imported: {error}. It must live in an installed module, or in a "
            'folder that the model\'s file names: code = ["src"]'
        ],
    )


def without_caches(pipeline: Any) -> None:
    """Turn off `memory` wherever scikit-learn keeps fitted steps for a later fit: it knows them by their parameters and
    data, and would go on with a step of code that was changed since."""
    parameters = pipeline.get_params(deep=True) if hasattr(pipeline, "get_params") else {}
    for name, value in parameters.items():
        owner, _, last = name.rpartition("__")
        if last == "memory" and value is not None and _caches(parameters[owner] if owner else pipeline):
            pipeline.set_params(**{name: None})


def _caches(step: Any) -> bool:
    """Whether `memory` of this step is what scikit-learn means by it."""
    kinds = (kind for kind in type(step).__mro__ if kind.__module__.partition(".")[0] == "sklearn")
    return any("memory" in inspect.signature(kind).parameters for kind in kinds)


def _is_estimator(pipeline: Any) -> bool:
    """It can be fitted, and asked then: some that are made of others (stacking) show `predict` once they are fitted."""
    steps = getattr(pipeline, "steps", None)
    last = steps[-1][1] if steps else pipeline
    return hasattr(pipeline, "fit") and (hasattr(last, "predict") or hasattr(type(last), "predict"))
