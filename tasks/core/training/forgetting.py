"""How much of the past a fit looks at: all of it, a recent window, or older batches with less weight."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from tasks.core.data.rows import LabelledRows
from tasks.core.errors import SpecError
from tasks.core.spec import Forgetting


def remembered(history: Sequence[LabelledRows], forgetting: Forgetting) -> list[LabelledRows]:
    """The batches that a fit may use, in time order: with a window the newest ones only."""
    return list(history[-forgetting.window :] if forgetting.window else history)


def recency(parts: Sequence[LabelledRows], forgetting: Forgetting) -> np.ndarray | None:
    """One weight a row, shape (rows,), halved every `half_life` batches back in time; None where all count alike."""
    if forgetting.half_life is None:
        return None
    ages = np.arange(len(parts) - 1, -1, -1)
    return np.repeat(0.5 ** (ages / forgetting.half_life), [len(part.rows) for part in parts])


def fit_arguments(pipeline: Any, weights: np.ndarray | None) -> dict[str, np.ndarray]:
    """The keyword under which this pipeline's `fit` takes row weights; nothing without weights.

    Raises SpecError for a pipeline that takes none: it would forget nothing without a word.
    """
    from sklearn.pipeline import Pipeline
    from sklearn.utils.validation import has_fit_parameter

    if weights is None:
        return {}
    name, last = pipeline.steps[-1] if isinstance(pipeline, Pipeline) else ("", pipeline)
    if not has_fit_parameter(last, "sample_weight"):
        raise SpecError(
            "policy.forgetting.half_life",
            [f"{type(last).__name__} takes no sample_weight. Use forgetting.window, or another estimator"],
        )
    return {f"{name}__sample_weight" if name else "sample_weight": weights}
