"""A place on this machine to follow the guides in."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

import pytest

from tests.helpers.guides import Place
from tests.helpers.quiet import Watch
from tests.helpers.server import stop


@pytest.fixture
def place(tmp_path: Path) -> Any:
    folder = tmp_path / "place"
    for name in ("opt", "srv", "etc/systemd/system", "var/lib", "backup"):
        (folder / name).mkdir(parents=True)
    made = Place(folder, Watch(tmp_path))
    yield made
    for process in made.running.values():
        stop(process)
    shutil.rmtree(folder, ignore_errors=True)  # two environments
