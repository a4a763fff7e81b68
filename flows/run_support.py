"""What every flow of a run needs: its time limit, a quiet log, and who started it.

A run that hangs must end: it is interrupted after its time limit, and where nothing can do that, its process ends.

A signal interrupts whatever Python code is at work, and libraries between two steps. It does not interrupt compiled
code that computes for hours on end (libsvm, say), for Python looks at signals only when that returns; and an exception
for another thread, as `concurrent.futures` or a watcher thread would raise, comes no sooner. What always works is the
interpreter's own watchdog, `faulthandler.dump_traceback_later`: a thread that needs nothing of Python. It writes to
standard error where the run was, and ends the process: the worker reports it as Crashed, its lease is free at once.
"""

from __future__ import annotations

import faulthandler
import logging
import signal
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType

from prefect.context import FlowRunContext

from tasks.core.errors import RunTimedOut


class OutOfTime(BaseException):
    """No Exception: nobody's code, a pipeline's least of all, may take it for an error of its own."""


@contextmanager
def time_limit(minutes: float) -> Iterator[None]:
    """Raises RunTimedOut when the block takes longer. The process ends when it has not stopped a while after that: a
    tenth of the limit, at least fifteen seconds and at most a minute.

    Only where signals can be handled: in the main thread, and not on Windows. Elsewhere nothing is limited.
    """
    if threading.current_thread() is not threading.main_thread() or not hasattr(signal, "setitimer"):
        yield
        return

    def interrupt(number: int, frame: FrameType | None) -> None:
        raise OutOfTime(f"it took longer than {minutes:g} minutes ([schedule] timeout_minutes)")

    seconds = minutes * 60
    before = signal.signal(signal.SIGALRM, interrupt)
    faulthandler.dump_traceback_later(seconds + patience(seconds), exit=True, file=sys.__stderr__ or sys.stderr)
    signal.setitimer(signal.ITIMER_REAL, seconds)
    try:
        yield
    except OutOfTime as over:
        raise RunTimedOut(f"The run was ended: {over}. Nothing more was put in service.") from None
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        faulthandler.cancel_dump_traceback_later()
        signal.signal(signal.SIGALRM, before)


def patience(seconds: float) -> float:
    """How long a run may take to stop."""
    return min(60.0, max(15.0, seconds / 10))


def started_by() -> str:
    """Who started this run, as far as Prefect knows."""
    context = FlowRunContext.get()
    run = context.flow_run if context else None
    if run is not None and run.created_by is not None:
        return str(run.created_by.display_value or run.created_by.type or "prefect").lower()
    return "prefect"


ROUTINE = "Finished in state Completed("
"""Prefect says so of every task that went well, and a run of ours has up to eight; those that did not go well stay."""


@contextmanager
def quiet_task_log() -> Iterator[None]:
    """Leave the routine of this process's tasks out of the log until the block ends."""
    logger = logging.getLogger("prefect.task_runs")
    logger.addFilter(_tells)
    try:
        yield
    finally:
        logger.removeFilter(_tells)


def _tells(record: logging.LogRecord) -> bool:
    return not record.getMessage().startswith(ROUTINE)
