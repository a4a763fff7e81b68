"""Watches where the Python processes of a test connect to, and lets them reach this machine only."""

from __future__ import annotations

import os
from pathlib import Path

HOOK = """
import os, sys

log = os.open(os.environ["ROR_TEST_CONNECTIONS"], os.O_WRONLY | os.O_APPEND | os.O_CREAT)

def watch(event, arguments):
    if event in ("socket.connect", "socket.sendto"):
        address = arguments[1]
    elif event == "socket.getaddrinfo":
        address = arguments[:2]
    else:
        return
    host = str(address[0]) if isinstance(address, tuple) else "unix"
    os.write(log, f"{event} {host} {os.path.basename(sys.argv[0])}\\n".encode())
    if not (host.startswith("127.") or host in ("unix", "localhost", "::1", "None", "")):
        raise PermissionError(f"a test lets nothing reach {host}")

sys.addaudithook(watch)
"""


class Watch:
    """For the environment of processes, which they and those that they start obey."""

    def __init__(self, folder: Path):
        self._folder, self._log = folder / "watch", folder / "connections"
        self._folder.mkdir()
        (self._folder / "sitecustomize.py").write_text(HOOK)

    def environment(self, pythonpath: str = "") -> dict[str, str]:
        paths = os.pathsep.join([str(self._folder), *filter(None, [pythonpath])])
        return {"PYTHONPATH": paths, "ROR_TEST_CONNECTIONS": str(self._log)}

    def hosts(self) -> set[str]:
        """Every host that was connected to, or whose address was asked for."""
        return {line.split()[1] for line in self._log.read_text().splitlines()}

    def elsewhere(self) -> list[str]:
        """Attempts to reach another machine; empty is well."""
        here = {"127.0.0.1", "localhost", "::1", "unix", "None"}
        return [line for line in self._log.read_text().splitlines() if line.split()[1] not in here]
