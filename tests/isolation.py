"""Shuts a session of tests in, and looks at what it leaves behind.

All that tests and the processes they start write goes to one folder, which goes when the session does; pytest keeps its
own folders of `tmp_path`, and those of tests that failed. Every process has the name of the folder in its environment:
that is how those are found that outlive the session.
"""

from __future__ import annotations

import os
import shutil
import sys
import tempfile
import time
from contextlib import suppress
from multiprocessing.util import Finalize
from pathlib import Path

import psutil

FOLDER = "ROR_TESTS_FOLDER"
"""Variable of the environment that names the session's folder, for whatever has an environment of its own."""

PATIENCE = 15.0
"""Seconds that processes have to end after what started them."""

HELPERS = ("resource_tracker", "multiprocessing.forkserver")
"""Processes of multiprocessing and joblib that end with the one they work for, which is this one while it looks."""

LEFT_BEHIND = 7
"""Exit code of a session that leaves something; pytest's own end at 5."""

fails = True
"""Whether that is an error. Slow tests kill workers, servers and browsers, whose own temporary files stay behind: there
it is named and removed, and no more."""


def enter() -> None:
    """Set this process' environment: nothing of the user's own is read or touched. What belongs to the session already,
    as a worker of xdist does, joins it."""
    for name in list(os.environ):
        if name.startswith("ROR_") and name not in (FOLDER, "ROR_STREAMS"):
            del os.environ[name]
    for name in ("PREFECT_API_URL", "PREFECT_PROFILE"):
        os.environ.pop(name, None)
    if FOLDER not in os.environ:
        _found_session()
    os.environ["PREFECT_HOME"] = tempfile.mkdtemp(prefix="prefect-", dir=os.environ[FOLDER])


def _found_session() -> None:
    os.environ.setdefault("PYTEST_DEBUG_TEMPROOT", tempfile.gettempdir())  # pytest looks after its own folders
    folder = Path(tempfile.mkdtemp(prefix="ror-tests-")).resolve()
    folder.chmod(0o755)  # some tests become another user
    temporary = folder / "tmp"
    temporary.mkdir()
    temporary.chmod(0o1777)
    os.environ[FOLDER] = str(folder)
    os.environ["TMPDIR"] = tempfile.tempdir = str(temporary)
    # The last of all that is done when this process exits, after multiprocessing has removed its folder at -100:
    # servers and folders that libraries have until then are gone, and what is still there stays.
    Finalize(None, _leave, (folder, temporary), exitpriority=-200)


def _leave(folder: Path, temporary: Path) -> None:
    """Remove the session's folder, and whatever else there is; the exit code says that there was something."""
    left = []
    for process in _outlive(folder):
        with suppress(psutil.NoSuchProcess):
            left.append(f"process {process.pid}: {' '.join(process.cmdline())[:200]}")
            process.kill()
    left += [f"file {path}" for path in sorted(temporary.iterdir())]
    shutil.rmtree(folder)
    if left:
        print("\nThe session left behind (and has now removed):", *left, sep="\n  ", file=sys.stderr, flush=True)
        sys.stdout.flush()
    if left and fails:
        os._exit(LEFT_BEHIND)  # nothing else can change the exit code of a process that is ending


def _outlive(folder: Path) -> list[psutil.Process]:
    """Processes of the session that are still there when they had time to end."""
    deadline = time.monotonic() + PATIENCE
    while (found := [process for process in psutil.process_iter() if _belongs(process, folder)]) and (
        time.monotonic() < deadline
    ):
        time.sleep(0.1)
    return found


def _belongs(process: psutil.Process, folder: Path) -> bool:
    try:
        if process.pid == os.getpid() or process.environ().get(FOLDER) != str(folder):
            return False
        command = " ".join(process.cmdline())
        helper = process.ppid() == os.getpid() and any(name in command for name in HELPERS)
        return not helper and process.status() != psutil.STATUS_ZOMBIE
    except (psutil.NoSuchProcess, psutil.AccessDenied):  # it has ended, or is somebody else's
        return False
