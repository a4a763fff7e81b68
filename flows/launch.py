"""Run a flow from the command line: in this process, on the configured Prefect server or else an embedded one."""

from __future__ import annotations

import getpass
import logging
import socket
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tasks.core.errors import RorError
from tasks.core.types import Outcome

EXIT_CODES = {Outcome.BLOCKED: 3, Outcome.RETRAIN_FAILED: 5, Outcome.LABELS_OVERDUE: 1}


@dataclass(frozen=True, slots=True)
class Result:
    """How a run ended."""

    outcome: Outcome
    message: str

    @property
    def exit_code(self) -> int:
        return EXIT_CODES.get(self.outcome, 0)


def run(root: Path, model: str, *, verbose: bool = False, **parameters: Any) -> Result:
    """One run of the main flow. Raises the flow's own error where it ended in one."""
    from flows import quiet

    quiet.apply()
    with _log_level(verbose):
        from flows.retrain_or_reload import retrain_or_reload

        state = retrain_or_reload(model=model, root=str(root), actor=actor(), return_state=True, **parameters)
        if state.name in set(Outcome):
            return Result(Outcome(state.name), state.message or "")
        error = state.result(raise_on_failure=False)
    if isinstance(error, BaseException):
        raise error
    raise RorError(f"The run ended as {state.name}: {state.message}")


def actor() -> str:
    return f"{getpass.getuser()}@{socket.gethostname()}"


def server() -> str | None:
    """Address of the Prefect server that the user has configured, None for the embedded one."""
    from flows import quiet

    quiet.apply()
    from prefect.settings import get_current_settings

    return get_current_settings().api.url


@contextmanager
def _log_level(verbose: bool) -> Iterator[None]:
    """Keep Prefect's log off the terminal unless asked for: the command says what happened itself."""
    if verbose:
        yield
        return
    previous = logging.root.manager.disable
    logging.disable(logging.CRITICAL)
    try:
        yield
    finally:
        logging.disable(previous)
