"""Prefect's settings for runs from the command line: offline, patient and quiet. Import before anything of Prefect."""

from __future__ import annotations

import os

DEFAULTS = {
    "DO_NOT_TRACK": "1",
    "PREFECT_SERVER_ANALYTICS_ENABLED": "false",
    # The embedded server migrates its database on first use: 15 s on a quiet machine, beyond Prefect's 20 s on a busy one.
    "PREFECT_SERVER_EPHEMERAL_STARTUP_TIMEOUT_SECONDS": "120",
    "PREFECT_RESULTS_DEFAULT_SERIALIZER": "json",
}


def apply() -> None:
    """Set what the user has not set; the user's own environment wins."""
    for name, value in DEFAULTS.items():
        os.environ.setdefault(name, value)
