"""A service as its author writes it. Never run: mypy checks that the face for services has these types."""

from __future__ import annotations

from typing import assert_type

import numpy as np
import pandas as pd

from tasks.core.serving import LoadedVersion, Registry


class Service:
    """Holds one version and follows what is put in service."""

    def __init__(self, store: str, model: str) -> None:
        self._current = Registry(store).load_current(model)

    def answer(self, frame: pd.DataFrame) -> tuple[np.ndarray, int | None]:
        """Predicted values of the rows, and the version that gave them."""
        answers = self._current.predict(frame)
        assert_type(answers.probabilities, np.ndarray | None)
        return answers.values, answers.version

    def follow(self) -> bool:
        """True when another version is in service than before."""
        before, self._current = self._current, self._current.refresh()
        assert_type(self._current, LoadedVersion)
        assert_type(self._current.notes, tuple[str, ...])
        return self._current is not before


without_pickles = Registry("s3://bucket/prefix", forms=("skops",), types=["my_package.Rounder"])
assert_type(without_pickles.load_current("flights").version, int)
