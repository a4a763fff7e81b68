"""What the server imports from which children are forked; and what makes their small runs quick.

Nearly all of a small run's time goes into the intervals of metrics, which no test here looks at, and into a look
through every installed package: the first are drawn from fewer samples, the second is done once for all children.
"""

from __future__ import annotations

import importlib.metadata
from functools import cache

import evidently  # noqa: F401

from tasks.core import drift, performance, training  # noqa: F401
from tests.faults import deeds  # noqa: F401

performance.RESAMPLES = 20
importlib.metadata.packages_distributions = cache(importlib.metadata.packages_distributions)
importlib.metadata.packages_distributions()
