"""What a run of a flow needs around it: a time limit, a log without routine, the name of who started it, and a place
for what it concluded.

A run that hangs must end: it is interrupted after its time limit, and where nothing can interrupt it, its process ends.

A signal interrupts Python code, and libraries between two steps. It does not interrupt compiled code that computes for
hours (libsvm, for example), because Python handles signals only when that code returns; an exception from another
thread, as `concurrent.futures` would raise it, arrives no sooner. What always works is the interpreter's own watchdog,
`faulthandler.dump_traceback_later`: a thread that needs nothing of Python. It writes to standard error where the run
was, and ends the process: the worker reports it as Crashed, and its lease is free at once.
"""

from __future__ import annotations

import _thread
import faulthandler
import logging
import math
import signal
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass
from functools import partial
from types import FrameType
from typing import Any

from prefect import get_run_logger
from prefect.context import FlowRunContext

from tasks.core.errors import RunTimedOut
from tasks.core.types import Outcome

ROUTINE = "Finished in state Completed("
"""How Prefect's message about a task that succeeded begins. A run has up to eight of them; other messages are kept."""

PATIENCE = (15.0, 60.0)
"""Seconds that an interrupted run may take to stop, at least and at most; between them, a tenth of its time limit."""


_DEADLINE: ContextVar[tuple[float, float]] = ContextVar("deadline")
"""The moment, on the monotonic clock, at which the run must end, and the minutes that it may take."""


class OutOfTime(BaseException):
    """The limit was reached. Not an Exception: no code, a pipeline's least of all, may catch it as its own error."""

    def __init__(self, minutes: float):
        super().__init__(f"it took longer than {minutes:g} minutes ([schedule] timeout_minutes)")


@contextmanager
def time_limit(minutes: float) -> Iterator[None]:
    """Raises RunTimedOut when the block takes longer. The process ends when the block has not stopped `patience` after.

    Only in the main thread, where signals are handled. Elsewhere nothing is interrupted, and `raise_when_over` is what
    ends the run.
    """
    seconds = minutes * 60
    token = _DEADLINE.set((time.monotonic() + seconds, minutes))
    try:
        with _interrupted(seconds, minutes):
            yield
    except OutOfTime as over:
        raise RunTimedOut(f"The run was ended: {over}. Nothing more was put in service.") from None
    finally:
        _DEADLINE.reset(token)


def raise_when_over() -> None:
    """Raises OutOfTime after the limit: compiled code may have made another error of the interruption."""
    deadline, minutes = _DEADLINE.get((math.inf, 0.0))
    if time.monotonic() > deadline:
        raise OutOfTime(minutes)


@contextmanager
def _interrupted(seconds: float, minutes: float) -> Iterator[None]:
    if threading.current_thread() is not threading.main_thread():
        yield
        return

    def interrupt(number: int, frame: FrameType | None) -> None:
        raise OutOfTime(minutes)

    number = signal.SIGALRM if hasattr(signal, "setitimer") else signal.SIGTERM
    before = signal.signal(number, interrupt)
    faulthandler.dump_traceback_later(seconds + patience(seconds), exit=True, file=sys.__stderr__ or sys.stderr)
    call_off = _signal_after(seconds, number)
    try:
        yield
    finally:
        call_off()
        faulthandler.cancel_dump_traceback_later()
        signal.signal(number, before)


def _signal_after(seconds: float, number: signal.Signals) -> Callable[[], object]:
    """Sends this process a signal after so many seconds, unless it is called off. Where the system has no timer for
    that (Windows), a thread acts as if the signal had come: it interrupts Python code, and no wait in a system call."""
    if hasattr(signal, "setitimer"):
        signal.setitimer(signal.ITIMER_REAL, seconds)
        return partial(signal.setitimer, signal.ITIMER_REAL, 0)
    timer = threading.Timer(seconds, _thread.interrupt_main, [number])
    timer.daemon = True
    timer.start()

    def call_off() -> None:
        timer.cancel()
        timer.join()

    return call_off


def patience(seconds: float) -> float:
    """Seconds that a run with a limit of `seconds` may take to stop once it was interrupted."""
    least, most = PATIENCE
    return min(most, max(least, seconds / 10))


@dataclass(frozen=True, slots=True)
class Conclusion:
    """What a run has put on record, whatever becomes of the run after that."""

    outcome: Outcome
    message: str


_CONCLUSIONS: ContextVar[list[Conclusion]] = ContextVar("conclusions")


@contextmanager
def conclusions() -> Iterator[list[Conclusion]]:
    """What the runs of this block have put on record and carried out, the newest last."""
    found: list[Conclusion] = []
    token = _CONCLUSIONS.set(found)
    try:
        yield found
    finally:
        _CONCLUSIONS.reset(token)


def concluded(outcome: Outcome, message: str) -> None:
    """Say what stands and is carried out from now on: what is still to come is to show it, which may fail."""
    _CONCLUSIONS.get([]).append(Conclusion(outcome, message))


def carry_on(step: partial[Any]) -> None:
    """What may fail, or be out of time, without changing what was decided; the next run repeats it."""
    try:
        step()
    except (Exception, OutOfTime) as error:  # noqa: BLE001 - whatever it is, the run did what it says
        get_run_logger().warning(
            "The decision is not affected; %s failed: %s: %s", step.func.__name__, type(error).__name__, error
        )


def started_by() -> str:
    """Who started this run, as far as Prefect knows."""
    context = FlowRunContext.get()
    run = context.flow_run if context else None
    if run is not None and run.created_by is not None:
        return str(run.created_by.display_value or run.created_by.type or "prefect").lower()
    return "prefect"


@contextmanager
def quiet_task_log() -> Iterator[None]:
    """Keep ROUTINE messages about this process's tasks out of the log until the block ends."""
    logger = logging.getLogger("prefect.task_runs")
    logger.addFilter(_is_unusual)
    try:
        yield
    finally:
        logger.removeFilter(_is_unusual)


def _is_unusual(record: logging.LogRecord) -> bool:
    return not record.getMessage().startswith(ROUTINE)
