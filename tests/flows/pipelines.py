"""Pipeline factories that tests name in a model's file."""

from __future__ import annotations

from typing import Any

from sklearn.dummy import DummyClassifier
from sklearn.pipeline import Pipeline


def broken() -> Any:
    """A pipeline that cannot be fitted."""
    return Pipeline([("model", DummyClassifier(strategy="no such strategy"))])


def constant() -> Any:
    """A pipeline that fits, and always predicts the most frequent class."""
    return Pipeline([("model", DummyClassifier(strategy="most_frequent"))])
