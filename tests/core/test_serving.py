"""The face for services: small, and its names stay."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from tasks.core import serving

REPOSITORY = Path(__file__).resolve().parents[2]
EXAMPLE = REPOSITORY / "tests/typing/serving.py"


def test_exported_names() -> None:
    """What a service may import is listed, and nothing else is within reach of it by accident."""
    public = {name for name, value in vars(serving).items() if not name.startswith("_") and name != "annotations"}
    assert public == {*serving.__all__} == {"LoadedVersion", "Registry"}


@pytest.mark.slow
def test_a_wrong_use_is_found_by_mypy(tmp_path: Path) -> None:
    """The type-checked example fails when it uses what a loaded version does not have: its types are known to mypy."""
    wrong = tmp_path / "wrong.py"
    text = EXAMPLE.read_text(encoding="utf-8")
    wrong.write_text(text.replace("answers.values, answers.version", "answers.values, answers.versions"))
    command = [sys.executable, "-m", "mypy", "--config-file", str(REPOSITORY / "pyproject.toml")]
    done = subprocess.run(
        [*command, "--cache-dir", str(tmp_path / "cache"), str(wrong)],
        cwd=REPOSITORY, capture_output=True, text=True, timeout=280, check=False,
    )  # fmt: skip
    assert done.returncode == 1 and 'has no attribute "versions"' in done.stdout, done.stdout + done.stderr
