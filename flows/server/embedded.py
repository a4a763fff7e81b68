"""The Prefect server of one command: Prefect's own, whose end is noticed and whose errors are kept."""

from __future__ import annotations

import atexit
import os
import subprocess
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from typing import Any

import httpx
from prefect.server.api.server import SubprocessASGIServer
from prefect.settings import get_current_settings

from tasks.core.errors import RorError

STARTS = 3
"""How often it is started before it is given up: another process may take its port, or be at work on its database."""


class EmbeddedServer(SubprocessASGIServer):
    """Whoever asks Prefect for its embedded server after this one was started gets this one.

    Prefect's own waits until its time is over for a server that has ended long ago, starts one that fails for ever
    anew, asks it through whatever proxy there is, and keeps nothing of what it said.
    """

    def start(self, timeout: int | None = None) -> None:
        """Start it, if it is not there. Raises RorError with the cause where it ends, or does not answer in time."""
        if self.running:
            return
        wait = timeout or get_current_settings().server.ephemeral.startup_timeout_seconds
        deadline = time.monotonic() + wait
        atexit.register(self.stop)
        with tempfile.TemporaryFile() as said:
            for _ in range(STARTS):
                self.port = self.find_available_port()
                with _errors_to(said):
                    process = self.server_process = self._run_uvicorn_command()
                if self._answers(process, deadline):
                    self.running = True
                    return
                ended = process.poll()
                if ended is None:
                    break
            said.seek(0)
            cause = _cause(said.read().decode(errors="replace"))
        self.stop()
        what = f"did not answer within {wait:g} s" if ended is None else f"ended with exit code {ended}"
        raise RorError(
            f"The Prefect server that this command starts for itself {what}{cause}. Its database is in PREFECT_HOME, "
            f"{get_current_settings().home}. A server of your own needs none of this: set PREFECT_API_URL."
        )

    def _answers(self, process: subprocess.Popen[Any], deadline: float) -> bool:
        """Whether it does, before it ends or the time is over."""
        while process.poll() is None and time.monotonic() < deadline:
            with suppress(httpx.TransportError):  # it does not listen yet
                # It is on this machine: no proxy is asked, whatever the environment says.
                if httpx.get(f"{self.api_url}/health", trust_env=False).is_success:
                    return True
            time.sleep(0.1)
        return False


@contextmanager
def _errors_to(file: Any) -> Iterator[None]:
    """Processes that are started in the block write their errors there."""
    before = os.dup(2)
    try:
        os.dup2(file.fileno(), 2)
        yield
    finally:
        os.dup2(before, 2)
        os.close(before)


def _cause(said: str) -> str:
    """The last error that a traceback ends in, in brackets; empty where there is none."""
    lines = [line.strip() for line in said.splitlines()]
    errors = [line for line in lines if line.partition(":")[0].rpartition(".")[2].endswith(("Error", "Exception"))]
    return f" ({errors[-1]})" if errors else ""
