"""A PostgreSQL of its own for a test, from the binaries of this machine."""

from __future__ import annotations

import os
import pwd
import shutil
import signal
import subprocess
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from tests.helpers.server import free_port, wait_for

DEBIAN = Path("/usr/lib/postgresql")
"""Debian keeps one folder per release there, out of the PATH."""


@contextmanager
def postgresql() -> Iterator[str]:
    """A database in a temporary folder, on loopback, until the block ends; its address, as Prefect wants it.

    Skips where PostgreSQL is not installed. Its programs refuse to be root, and become the user that Debian made.
    """
    binaries = _binaries()
    user: dict[str, Any] = {}
    if os.geteuid() == 0:
        try:
            user = {"user": pwd.getpwnam("postgres").pw_name, "group": "postgres", "extra_groups": []}
        except KeyError:
            pytest.skip("PostgreSQL does not run as root, and there is no user `postgres` (Debian: postgresql)")
    with tempfile.TemporaryDirectory(prefix="ror-postgresql-", ignore_cleanup_errors=True) as name:
        folder = Path(name)
        secret = folder / "secret"
        secret.write_text("ror")
        if user:
            shutil.chown(folder, **{key: user[key] for key in ("user", "group")})
            shutil.chown(secret, user["user"])
        make = ["-D", name + "/data", "-U", "ror", "-A", "scram-sha-256", f"--pwfile={secret}", "-E", "UTF8", "-N"]
        subprocess.run([binaries / "initdb", *make], cwd=folder, check=True, capture_output=True, timeout=120, **user)
        port = free_port()
        settings = {"listen_addresses": "127.0.0.1", "port": port, "unix_socket_directories": name, "fsync": "off"}
        words = [word for key, value in settings.items() for word in ("-c", f"{key}={value}")]
        with (folder / "log").open("w") as log:
            process = subprocess.Popen(
                [binaries / "postgres", "-D", name + "/data", *words], cwd=folder, stdout=log, stderr=log, **user
            )
        ready = [binaries / "pg_isready", "-q", "-h", "127.0.0.1", "-p", str(port)]
        try:
            wait_for(lambda: subprocess.run(ready, check=False, timeout=10).returncode == 0, 60)
            yield f"postgresql+asyncpg://ror:ror@127.0.0.1:{port}/postgres"
        finally:
            process.send_signal(signal.SIGINT)  # does not wait for clients, as SIGTERM would
            process.wait(30)


def _binaries() -> Path:
    if found := shutil.which("initdb"):
        return Path(found).resolve().parent  # the others are beside it
    releases = [path.parent for path in DEBIAN.glob("*/bin/initdb")]
    if not releases:
        pytest.skip(f"PostgreSQL is neither in the PATH nor at {DEBIAN} (Debian: postgresql)")
    return max(releases, key=lambda path: float(path.parent.name))
