"""What the attacks share: roots to begin from, made once by a child process."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from flows.server import client
from tests.faults import deeds
from tests.helpers.server import REPOSITORY


@pytest.fixture(scope="session")
def roots(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder of roots, not to be changed: see `deeds.prepare`."""
    root = tmp_path_factory.mktemp("roots")
    deeds.in_child(deeds.prepare, root)
    return root


@pytest.fixture(scope="session")
def ror(prefect: None, tmp_path_factory: pytest.TempPathFactory) -> Callable[..., subprocess.Popen[str]]:
    """Starts `ror` in a process of its own, which can be killed with all that it starts; the server is shared."""
    environment = {
        **os.environ,
        "TMPDIR": str(tmp_path_factory.mktemp("killed")),  # who is killed leaves its temporary files
        "PREFECT_API_URL": str(client.server_url()),
        "PYTHONPATH": os.pathsep.join([str(REPOSITORY), os.environ.get("PYTHONPATH", "")]),
    }

    def start(*words: str | Path) -> subprocess.Popen[str]:
        return subprocess.Popen(
            [sys.executable, "-m", "flows.cli", *map(str, words)],
            env=environment,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            start_new_session=True,
        )

    return start
