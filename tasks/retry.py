"""Tasks that read data files are tried again while a share or disk does not give them; nothing else is.

Trying again changes no verdict: a broken input schema, a gate that refuses, an artifact that fails verification or a
fit that fails would only be asked for another answer. An object store is asked again by the store itself.
"""

from __future__ import annotations

from typing import Any, TypedDict

from prefect import Task
from prefect.client.schemas.objects import State, TaskRun

from tasks.core.errors import UnavailableData, may_pass


class Retries(TypedDict):
    """What `task` is given."""

    retries: int
    retry_delay_seconds: list[float]
    retry_condition_fn: Any


def passes(task: Task[..., Any], run: TaskRun, state: State[Any]) -> bool:
    """Whether the task failed for a reason that may have passed by the next time."""
    error: Any = state.result(raise_on_failure=False)
    return isinstance(error, BaseException) and may_pass(error)


def is_unread(task: Task[..., Any], run: TaskRun, state: State[Any]) -> bool:
    """Whether the task failed because data could not be read at the moment, so that nothing was fitted yet."""
    error: Any = state.result(raise_on_failure=False)
    return isinstance(error, UnavailableData) and may_pass(error)


READING: Retries = {"retries": 3, "retry_delay_seconds": [2, 10, 40], "retry_condition_fn": passes}
"""For tasks that only read, or whose effect is there once however often they run."""

TRAINING: Retries = {**READING, "retry_condition_fn": is_unread}
"""For training, whose fit and gate must not be asked twice."""
