"""What Prefect's environment must hold before it is imported."""

from __future__ import annotations

import getpass
import os
import socket

NO_TELEMETRY = {
    # Read by Prefect wherever it is imported, and by Evidently.
    "DO_NOT_TRACK": "1",
    # Read by a Prefect server, when it starts.
    "PREFECT_SERVER_ANALYTICS_ENABLED": "false",
    # Read by a Prefect server too: its newer UI sends statistics to a company from the browser, whatever else is set.
    # The older UI sends none.
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


def configure(*, verbose: bool) -> None:
    """Set Prefect's environment; it reads it once, when it is imported."""
    settings = dict(QUIET)
    if not verbose:
        # Only the terminal is quiet: the run's log still reaches the server.
        settings["PREFECT_LOGGING_HANDLERS_CONSOLE_LEVEL"] = "CRITICAL"
    for name, value in settings.items():
        os.environ.setdefault(name, value)


def actor() -> str:
    """Who asks, for the history."""
    return f"{getpass.getuser()}@{socket.gethostname()}"
