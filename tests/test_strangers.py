"""Modules of the user's that are called like this program's packages."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

import flows
import retrain_or_reload
import tasks

RUN = "from retrain_or_reload import main; main()"


def python(path: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    """A process with this folder on PYTHONPATH, started elsewhere."""
    environment = {**os.environ, "PYTHONPATH": str(path)}
    command = [sys.executable, "-P", *arguments]
    return subprocess.run(command, env=environment, cwd=path.parent, capture_output=True, text=True, check=False)


@pytest.mark.parametrize("name", ["tasks.py", "flows/__init__.py", "flows/mine.py"])
def test_a_stranger_is_named_and_not_run(tmp_path: Path, name: str) -> None:
    """A `tasks.py` or `flows/` on the path, with `__init__.py` or without, ends `ror` with one line that names it; it
    is not executed. A folder that is only data hides nothing."""
    file = tmp_path / "code" / name
    file.parent.mkdir(parents=True)
    file.write_text("print('executed')\nraise SystemExit('executed')\n")
    done = python(tmp_path / "code", "-c", RUN, "--help")
    if name == "flows/mine.py":  # a regular package further down the path goes before a folder without `__init__.py`
        assert done.returncode == 0
        return
    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr.startswith(f"ror: {tmp_path / 'code' / name.partition('/')[0]} has the name of a package")
    assert len(done.stderr.splitlines()) == 1
    assert "executed" not in done.stderr


def test_files_that_an_installer_linked_one_by_one(tmp_path: Path) -> None:
    """Packages are where their folders are, wherever the files in them lead."""
    for package in (retrain_or_reload, flows, tasks):
        file = Path(str(package.__file__))
        (tmp_path / "site" / file.parent.name).mkdir(parents=True)
        (tmp_path / "site" / file.parent.name / file.name).symlink_to(file)
    done = python(tmp_path / "site", "-c", "import retrain_or_reload as ours; print(ours.stranger(), ours.__file__)")
    assert done.stdout.strip() == f"None {tmp_path / 'site/retrain_or_reload/__init__.py'}", done.stderr


def test_a_worker_that_begins_with_the_flows_names_it_too(tmp_path: Path) -> None:
    """Where something else than `ror` imports the flows, a `tasks.py` is named by the error of that import."""
    (tmp_path / "tasks.py").write_text("print('executed')\n")
    done = python(tmp_path, "-c", "import flows")
    assert done.returncode == 1
    assert done.stdout == ""
    assert done.stderr.splitlines()[-1].startswith(f"ImportError: {tmp_path / 'tasks.py'} has the name")


def test_beside_a_script(tmp_path: Path) -> None:
    """A service that is started with `python -P` finds this program in spite of a `tasks.py` beside its script."""
    (tmp_path / "tasks.py").write_text("print('executed')\n")
    (tmp_path / "serve.py").write_text("from tasks.core.serving import Registry\nprint(Registry.__name__)\n")
    done = subprocess.run([sys.executable, "-P", "serve.py"], cwd=tmp_path, capture_output=True, text=True, check=False)
    assert (done.returncode, done.stdout) == (0, "Registry\n"), done.stderr
