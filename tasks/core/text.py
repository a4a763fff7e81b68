"""Text that goes into cards, logs and pages alike."""

from __future__ import annotations

from collections.abc import Sequence

from tasks.core.types import Metric


def interval_text(metric: Metric) -> str:
    return f"{metric.low:.4g} to {metric.high:.4g}" if metric.low is not None and metric.high is not None else "unknown"


def named(names: Sequence[str], few: int = 5) -> str:
    """Names in a line of a log: the first few, and how many more."""
    rest = f" and {len(names) - few} more" if len(names) > few else ""
    return f"{', '.join(names[:few])}{rest}"


_MEANINGFUL = str.maketrans({"|": "\\|", "[": "\\[", "<": "&lt;", "\n": " ", "\r": " "})
"""What would end a cell, make a tag, or ask another host for a picture."""


def cell(text: str) -> str:
    """Text of anybody as a cell, or one line, of markdown that means just itself."""
    return text.translate(_MEANINGFUL)
