"""How far long work has come, as a progress artifact that is updated in place."""

from __future__ import annotations

from typing import cast
from uuid import UUID

from prefect import get_run_logger
from prefect.artifacts import create_progress_artifact, update_progress_artifact

STEP = 5
"""Per cent: a smaller advance is not worth a request."""


class Progress:
    """One bar, which appears with the first call of `at`; where `shown` is false it never does."""

    def __init__(self, key: str, *, shown: bool = True):
        self._key, self._shown = key, shown
        self._id: UUID | None = None
        self._last: tuple[float, str] = (-100.0, "")

    def at(self, percent: float, what: str) -> None:
        """Say what is being done, and how much of the whole is done already."""
        reached, said = self._last
        same = what == said and (percent <= reached or percent < min(100.0, reached + STEP))
        if same or not self._shown:
            return
        self._last = (percent, what)
        try:
            self._show(percent, what)
        except Exception as error:  # noqa: BLE001 - no fit fails because nobody can look at it
            self._shown = False
            get_run_logger().warning("Progress is no longer shown: %s: %s", type(error).__name__, error)

    def _show(self, percent: float, what: str) -> None:
        if self._id is None:
            self._id = cast(UUID, create_progress_artifact(percent, key=self._key, description=what))
        else:
            update_progress_artifact(self._id, percent, description=what)
