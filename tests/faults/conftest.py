"""What the attacks share: roots to begin from, made once by a child process."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.faults import deeds


@pytest.fixture(scope="session")
def roots(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder of roots, not to be changed: see `deeds.prepare`."""
    root = tmp_path_factory.mktemp("roots")
    deeds.in_child(deeds.prepare, root)
    return root
