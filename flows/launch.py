"""Run flows from the command line: in this process, on the user's Prefect server or else an embedded one."""

from __future__ import annotations

import getpass
import os
import signal
import socket
import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from types import FrameType
from typing import Any
from urllib.parse import urlsplit

from tasks.core.errors import RorError
from tasks.core.types import Outcome

NO_TELEMETRY = {
    # Read by Prefect wherever it is imported, and by Evidently.
    "DO_NOT_TRACK": "1",
    # Read by a Prefect server, when it starts.
    "PREFECT_SERVER_ANALYTICS_ENABLED": "false",
    # Likewise: its newer UI has the browser ask a company for statistics, whatever else is set; the older asks nobody.
    "PREFECT_SERVER_UI_V2_ENABLED": "false",
}
"""All that reports its use, switched off: scikit-learn and the other libraries report nothing. A server or worker that
is started by hand needs the same: deployments/README.md says so, and `ror doctor` looks."""

QUIET = {
    **NO_TELEMETRY,
    # The embedded server migrates its database on first use: 15 s on a quiet machine, too long for Prefect's own limit.
    "PREFECT_SERVER_EPHEMERAL_STARTUP_TIMEOUT_SECONDS": "120",
    "PREFECT_RESULTS_DEFAULT_SERIALIZER": "json",
}
"""Offline and patient. What the user has set in the environment wins."""

EXIT_CODES = {Outcome.BLOCKED: 3, Outcome.RETRAIN_FAILED: 5, Outcome.LABELS_OVERDUE: 1}


@dataclass(frozen=True, slots=True)
class Result:
    """How a run ended."""

    outcome: Outcome
    message: str

    @property
    def exit_code(self) -> int:
        return EXIT_CODES.get(self.outcome, 0)


def configure(*, verbose: bool) -> None:
    """Set Prefect's environment; it reads it once, when it is imported."""
    settings = dict(QUIET)
    if not verbose:
        # Only the terminal is quiet: the run's log still reaches the server.
        settings["PREFECT_LOGGING_HANDLERS_CONSOLE_LEVEL"] = "CRITICAL"
    for name, value in settings.items():
        os.environ.setdefault(name, value)


def server_url() -> str | None:
    """Address of the Prefect server that the user has configured, None for the embedded one."""
    from prefect.settings import get_current_settings

    return get_current_settings().api.url


def public(url: str | None) -> str:
    """An address without a password in it."""
    parts = urlsplit(url or "")
    return parts._replace(netloc=parts.netloc.rpartition("@")[2]).geturl()


def refusal(status: int) -> tuple[str, str]:
    """What a server that answers with this status says of us, to follow its address, and what to do about it."""
    from prefect.settings import get_current_settings

    api = get_current_settings().api
    if status in (401, 403):
        name = "PREFECT_API_KEY" if api.key else "PREFECT_API_AUTH_STRING"
        if api.key or api.auth_string:
            return f"refuses what is set in {name}", f"Correct {name}."
        return "wants a password", "Set PREFECT_API_AUTH_STRING=user:password."
    if status == 404:
        return "is not the API of a Prefect server", "PREFECT_API_URL ends in /api: correct it."
    return f"answers with status {status}", "Look into the server's log."


@contextmanager
def answered() -> Iterator[None]:
    """What the configured server, or the way to it, does wrong until the block ends is one line: raises RorError."""
    import httpx
    from prefect.exceptions import PrefectException

    try:
        yield
    except httpx.HTTPStatusError as error:
        status = error.response.status_code
        if status in (401, 403):
            what, remedy = refusal(status)
            raise RorError(f"The Prefect server at {public(server_url())} {what}. {remedy}") from error
        raise _not_done(error) from error
    except (httpx.HTTPError, PrefectException, RuntimeError) as error:
        raise _not_done(error) from error


def _not_done(error: Exception) -> RorError:
    detail = str(error).strip() or type(error).__name__
    where = public(server_url())
    return RorError(f"The Prefect server at {where} did not do it: {detail}. Is it running? `ror doctor` says.")


@contextmanager
def prefect_ready(*, verbose: bool = False) -> Iterator[None]:
    """A Prefect API to run flows on, until the block ends: the configured server, or one embedded for this process."""
    configure(verbose=verbose)
    from prefect import get_client
    from prefect.settings import (
        PREFECT_FLOWS_HEARTBEAT_FREQUENCY,
        PREFECT_SERVER_ALLOW_EPHEMERAL_MODE,
        get_current_settings,
        temporary_settings,
    )

    # Heartbeats tell of processes that died unseen. This one has somebody in front of it, or a scheduler that waits for
    # its exit code; and whoever waits for the thread that sends them waits up to a second. Who sets them gets them.
    wanted = "heartbeat_frequency" in get_current_settings().flows.model_fields_set
    without: dict[Any, Any] = {} if wanted else {PREFECT_FLOWS_HEARTBEAT_FREQUENCY: None}
    if server_url():
        with answered(), get_client(sync_client=True) as client:
            client.api_version()  # whether it is there and lets us in, before anything is done
        with temporary_settings(without):
            yield
        return
    with temporary_settings({**without, PREFECT_SERVER_ALLOW_EPHEMERAL_MODE: True}):
        with _interrupts_held():
            get_client(sync_client=True)
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
    """One run of the main flow, inside `prefect_ready`. Raises the flow's own error where it ended in one."""
    from flows.retrain_or_reload import retrain_or_reload

    return _call(retrain_or_reload, root, model, parameters)


def promote(root: Path, model: str, **parameters: Any) -> Result:
    """One run of the flow that puts a version in service by hand, likewise."""
    from flows.promote import promote

    return _call(promote, root, model, parameters)


def _call(flow: Any, root: Path, model: str, parameters: Mapping[str, Any]) -> Result:
    # A terminated run ends like an interrupted one: it gives back its lease, and Prefect records the end.
    signal.signal(signal.SIGTERM, lambda number, _: sys.exit(128 + number))
    with _interruptible():
        state: Any = flow(model=model, root=str(root), actor=actor(), return_state=True, **parameters)
        if state.name in set(Outcome):
            return Result(Outcome(state.name), state.message or "")
        error = state.result(raise_on_failure=False)
        if isinstance(error, BaseException):
            raise error
        raise RorError(f"The run ended as {state.name}: {state.message}")


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


def actor() -> str:
    """Who asks, for the history."""
    return f"{getpass.getuser()}@{socket.gethostname()}"
