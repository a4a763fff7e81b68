"""Run flows from the command line: in this process, on the user's Prefect server or else an embedded one."""

from __future__ import annotations

import logging
import signal
import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from types import FrameType
from typing import Any

from flows.server.client import server_errors, server_url
from flows.server.environment import actor, configure
from tasks.core.errors import RorError
from tasks.core.types import Outcome

EXIT_CODES = {Outcome.BLOCKED: 3, Outcome.RETRAIN_FAILED: 5, Outcome.LABELS_OVERDUE: 1}


@dataclass(frozen=True, slots=True)
class Result:
    """How a run ended."""

    outcome: Outcome
    message: str
    untold: str = ""
    """Why Prefect could not be told how it ended; empty where it was told."""

    @property
    def exit_code(self) -> int:
        """Of `ror run`: 0 unless a person must act now."""
        return EXIT_CODES.get(self.outcome, 0)


@contextmanager
def prefect_ready(*, verbose: bool = False) -> Iterator[None]:
    """A Prefect API to run flows on, until the block ends: the configured server, or one embedded for this process."""
    configure(verbose=verbose)
    logging.raiseExceptions = verbose  # a log that the server did not take is not worth the last line of the command
    from prefect import get_client
    from prefect.settings import (
        PREFECT_FLOWS_HEARTBEAT_FREQUENCY,
        PREFECT_SERVER_ALLOW_EPHEMERAL_MODE,
        get_current_settings,
        temporary_settings,
    )

    # Heartbeats tell of processes that died unseen. This one is watched by a person, or by a scheduler that waits for
    # its exit code; and ending the thread that sends them takes up to a second. A user who sets them gets them.
    wanted = "heartbeat_frequency" in get_current_settings().flows.model_fields_set
    without: dict[Any, Any] = {} if wanted else {PREFECT_FLOWS_HEARTBEAT_FREQUENCY: None}
    if server_url():
        with server_errors(), get_client(sync_client=True) as client:
            client.api_version()  # whether it is there and lets us in, before anything is done
        with temporary_settings(without):
            yield
        return
    from flows.server.embedded import EmbeddedServer  # the server's code takes a while to import

    with temporary_settings({**without, PREFECT_SERVER_ALLOW_EPHEMERAL_MODE: True}):
        with _interrupts_held():
            EmbeddedServer().start()
        yield


@contextmanager
def _interrupts_held() -> Iterator[None]:
    """The embedded server inherits this: Ctrl-C must end the run, not the server that still has to record its end."""
    if not hasattr(signal, "pthread_sigmask"):
        yield
        return
    before = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


def run(root: Path, model: str, **parameters: Any) -> Result:
    """One run of the main flow, inside `prefect_ready`. Raises the flow's own error where it ended in one, and RorError
    where Prefect failed, as long as nothing was put on record."""
    from flows.retrain_or_reload import retrain_or_reload

    return _call(retrain_or_reload, root, model, parameters)


def promote(root: Path, model: str, **parameters: Any) -> Result:
    """One run of the flow that puts a version in service by hand. Raises what `run` does."""
    from flows.promote import promote

    return _call(promote, root, model, parameters)


def _call(flow: Any, root: Path, model: str, parameters: Mapping[str, Any]) -> Result:
    from flows.run_support import conclusions

    # A terminated run ends like an interrupted one: it gives back its lease, and Prefect records the end.
    signal.signal(signal.SIGTERM, lambda number, _: sys.exit(128 + number))
    where = str(root.resolve())  # as deployments name it
    with _interruptible(), conclusions() as found:
        try:
            with server_errors():
                state: Any = flow(model=model, root=where, actor=actor(), return_state=True, **parameters)
            if state.name in set(Outcome):
                return Result(Outcome(state.name), state.message or "")
            error = state.result(raise_on_failure=False)
            if isinstance(error, BaseException):
                raise error
            raise RorError(f"The run ended as {state.name}: {state.message}")
        except Exception as error:
            if not found:
                raise
            return Result(found[-1].outcome, found[-1].message, untold=f"{error}" or type(error).__name__)


@contextmanager
def _interruptible() -> Iterator[None]:
    """Ctrl-C in the middle of Prefect's own bookkeeping comes out as some error of Prefect's; here it stays Ctrl-C."""
    interrupted = False

    def note(number: int, frame: FrameType | None) -> None:
        nonlocal interrupted
        interrupted = True
        signal.default_int_handler(number, frame)

    before = signal.signal(signal.SIGINT, note)
    try:
        yield
    except Exception as error:
        if interrupted:
            raise KeyboardInterrupt from error
        raise
    finally:
        signal.signal(signal.SIGINT, before)
