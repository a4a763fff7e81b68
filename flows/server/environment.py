"""What Prefect's environment must hold before it is imported."""

from __future__ import annotations

import atexit
import errno
import getpass
import os
import shutil
import socket
import sys
import tempfile
from pathlib import Path
from urllib.request import getproxies_environment

from tasks.core.errors import SpecError

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


LOOPBACK = ("127.0.0.1", "localhost", "::1")


def configure(*, verbose: bool) -> None:
    """Set Prefect's environment; it reads it once, when it is imported. Raises SpecError where PREFECT_HOME names a
    folder that cannot be written."""
    settings = dict(QUIET)
    if not verbose:
        # Only the terminal is quiet: the run's log still reaches the server.
        settings |= dict.fromkeys(
            ("PREFECT_LOGGING_HANDLERS_CONSOLE_LEVEL", "PREFECT_LOGGING_INTERNAL_LEVEL"), "CRITICAL"
        )
    for name, value in settings.items():
        os.environ.setdefault(name, value)
    _spare_loopback()
    _find_home()


def _spare_loopback() -> None:
    """Nothing that this machine asks of itself goes through a proxy, which is another machine and would ask itself."""
    proxies = getproxies_environment()
    spared = [host.strip() for host in proxies.pop("no", "").split(",") if host.strip()]
    if proxies and "*" not in spared:
        spared += [host for host in LOOPBACK if host not in spared]
        os.environ |= dict.fromkeys(("NO_PROXY", "no_proxy"), ",".join(spared))


def _find_home() -> None:
    """Where Prefect keeps its settings and the database of its embedded server: of a user without a home it would make
    a warning a process, and no server. What it knows of this run is then gone with the run; the history is not."""
    given = os.environ.get("PREFECT_HOME")
    home = Path(os.path.expanduser(given or "~/.prefect"))  # noqa: PTH111 - unlike Path's, it knows users without a home
    try:
        if str(home).startswith("~"):  # nobody knows where that is, and a folder of that name would be made here
            raise FileNotFoundError(errno.ENOENT, "this user has no home")
        home.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=home):
            return
    except OSError as error:
        reason = error.strerror or str(error)
    if given:
        raise SpecError("PREFECT_HOME", [f"{home} cannot be written: {reason}. Set it to a folder that can"])
    if os.access(profiles := home / "profiles.toml", os.R_OK):  # the server that the user has configured stays theirs
        os.environ.setdefault("PREFECT_PROFILES_PATH", str(profiles))
    temporary = tempfile.mkdtemp(prefix="ror-prefect-")
    os.environ["PREFECT_HOME"] = temporary
    atexit.register(shutil.rmtree, temporary, ignore_errors=True)
    print(
        f"{home} cannot be written ({reason}): Prefect's own files are in a temporary folder, and it takes longer to "
        "start. Set PREFECT_HOME to a folder that can.",
        file=sys.stderr,
    )


def actor() -> str:
    """Who asks, for the history: a user that the system has no name for by number."""
    try:
        user = getpass.getuser()
    except (KeyError, OSError):
        user = f"uid-{os.getuid()}"
    return f"{user}@{socket.gethostname()}"
