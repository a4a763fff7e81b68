"""What a command prints, on terminals and into logs that do not take it: the exit code stays that of what was done."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
import typer

from flows.cli import terminal
from tasks.core.errors import StoreError

TELLS = """
import typer
from flows.cli import terminal

def command() -> None:
    terminal.accept_any_text()
    with terminal.telling("loans: Blocked", 3):
        terminal.out.print("loans: Blocked, größer ≥ 1 —")
        terminal.print_json({"größe": "≥"})
        terminal.untold("loans: Blocked.", "Verbindung abgelehnt (größer)")

typer.run(command)
"""


def tell(stdout: int, encoding: str = "utf-8", stderr: int = subprocess.PIPE) -> subprocess.CompletedProcess[bytes]:
    environment = {**os.environ, "PYTHONIOENCODING": encoding, "PYTHONUTF8": "0", "COLUMNS": "200"}
    command = [sys.executable, "-c", TELLS]
    return subprocess.run(command, env=environment, stdout=stdout, stderr=stderr, timeout=60, check=False)


@pytest.mark.parametrize("encoding", ["ascii", "latin-1", "cp1252", "utf-8"])
def test_a_terminal_of_any_encoding(encoding: str) -> None:
    """What an encoding lacks is replaced, JSON is escaped, and the last line says what was decided."""
    done = tell(subprocess.PIPE, encoding)
    line, *rest = done.stdout.decode(encoding).splitlines()
    assert done.returncode == 3
    assert line.startswith("loans: Blocked, gr")
    assert json.loads("\n".join(rest)) == {"größe": "≥"}
    assert done.stderr.decode(encoding).startswith("loans: Blocked. This stands; only Prefect was not told")


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="only Linux has a disk that is always full")
@pytest.mark.parametrize("both", [False, True], ids=["output", "output and errors"])
def test_a_log_whose_disk_is_full(both: bool) -> None:
    """What was decided goes to standard error, where there is one; the exit code is that of the decision."""
    with Path("/dev/full").open("wb") as full:
        done = tell(full.fileno(), stderr=full.fileno() if both else subprocess.PIPE)
    assert done.returncode == 3
    assert done.stderr == (None if both else b"loans: Blocked\n")


def test_a_reader_that_is_gone() -> None:
    """`ror run m | head -0` ends as `ror run m` does."""
    reader, writer = os.pipe()
    os.close(reader)
    done = tell(writer)
    os.close(writer)
    assert (done.returncode, done.stderr) == (3, b"loans: Blocked\n")


def test_a_store_that_does_not_give_the_rest(capsys: pytest.CaptureFixture[str]) -> None:
    """What was decided is said all the same, and that this stands."""
    with pytest.raises(typer.Exit) as ended, terminal.telling("loans: Retrained.", 0):
        raise StoreError("the share is gone")
    assert ended.value.exit_code == 0
    assert capsys.readouterr().err.startswith("loans: Retrained. This stands; only the rest cannot be shown: the share")
