"""A session of tests that leaves a process or a file behind fails, and says what it was."""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
from pathlib import Path

import pytest

from tests import isolation

REPOSITORY = Path(__file__).resolve().parents[1]

CONFTEST = """
from tests import isolation
isolation.PATIENCE = 1.0
isolation.enter()
"""

DEEDS = {
    "nothing": ("pass", None),
    "a helper": ("from multiprocessing import resource_tracker; resource_tracker.ensure_running()", None),
    "a fork server": ("from multiprocessing import forkserver; forkserver.ensure_running()", None),
    "a library": ("import atexit, shutil, tempfile; atexit.register(shutil.rmtree, tempfile.mkdtemp())", None),
    "a folder": ("import tempfile; tempfile.mkdtemp(prefix='forgotten-')", "/tmp/forgotten-"),
    "a process": ("import subprocess; subprocess.Popen(['sleep', '60.5'])", "sleep 60.5"),
    "an orphan": ("import subprocess; subprocess.run(['sh', '-c', 'sleep 60.5 &'])", "sleep 60.5"),
}


@pytest.mark.parametrize(
    ("deed", "workers"), [*((deed, "0") for deed in DEEDS), ("nothing", "1"), ("a folder", "1"), ("an orphan", "1")]
)
def test_what_is_left_behind_is_told(tmp_path: Path, deed: str, workers: str) -> None:
    """With workers and without, what outlives a session that passed makes it fail by name, and is then removed; what
    ends with the process that has it does not."""
    line, said = DEEDS[deed]
    (tmp_path / "conftest.py").write_text(CONFTEST)
    (tmp_path / "test_it.py").write_text(f"def test_it():\n    {line}\n")
    outside = Path(tempfile.mkdtemp())  # tmp_path is too long for the sockets of a fork server
    environment = {name: value for name, value in os.environ.items() if name != isolation.FOLDER}
    environment |= {"PYTHONPATH": str(REPOSITORY), "TMPDIR": str(outside)}
    environment |= {"PYTEST_DISABLE_PLUGIN_AUTOLOAD": "1"}
    done = subprocess.run(
        [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", "-p", "xdist", "-n", workers, str(tmp_path)],
        cwd=tmp_path, env=environment, capture_output=True, text=True, timeout=60, check=False,
    )  # fmt: skip
    assert "1 passed" in done.stdout, done
    assert done.returncode == (isolation.LEFT_BEHIND if said else 0), done
    assert (said or "") in done.stderr and ("left behind" in done.stderr) == bool(said)
    outside.rmdir()  # nothing is in it
