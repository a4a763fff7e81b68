"""What the server imports from which children are forked; and what makes their small runs quick.

Nearly all of a small run's time goes into the intervals of metrics, a look through every installed package, and the
proof in a clean process: the first are drawn from fewer samples, the second is done once for all children, and the last
is left to the runs that are killed as a whole. None of them touches the store.
"""

from __future__ import annotations

import importlib.metadata
from functools import cache

import evidently  # noqa: F401

from tasks.core.checks import performance
from tasks.core.training import (
    fit,  # noqa: F401
    proof,
)
from tests.faults import deeds  # noqa: F401

performance.RESAMPLES = 10
proof.prove = lambda *_: frozenset()
importlib.metadata.packages_distributions = cache(importlib.metadata.packages_distributions)
importlib.metadata.packages_distributions()
