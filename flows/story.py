"""The log of a run as a story: what was found, decided and done, without the engine's routine between the lines."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from contextlib import contextmanager

ROUTINE = "Finished in state Completed("
"""Prefect says so of every task that went well, and a run of ours has up to eight; those that did not go well stay."""


@contextmanager
def told() -> Iterator[None]:
    """Leave the routine of this process's tasks out of the log until the block ends."""
    logger = logging.getLogger("prefect.task_runs")
    logger.addFilter(_tells)
    try:
        yield
    finally:
        logger.removeFilter(_tells)


def _tells(record: logging.LogRecord) -> bool:
    return not record.getMessage().startswith(ROUTINE)
