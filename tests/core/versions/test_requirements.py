"""The packages that a version was made with, as pip reads them."""

from __future__ import annotations

import subprocess
import sys
from dataclasses import replace
from importlib.metadata import version
from pathlib import Path
from typing import Any

import pytest
from packaging.requirements import Requirement

from tasks.core.errors import CorruptObject
from tasks.core.versions.loaded import LoadedVersion
from tasks.core.versions.requirements import Requirements, requirements


def of(champion: LoadedVersion, **environment: Any) -> Requirements:
    """The requirements of a version whose environment has these fields instead."""
    return requirements(replace(champion.manifest, environment={**champion.manifest.environment, **environment}))


def pins(found: Requirements) -> dict[str, str]:
    """What pip would be told to install, comments left out."""
    lines = [line for line in found.text.splitlines() if not line.startswith("#")]
    return {parsed.name: str(parsed.specifier) for parsed in map(Requirement, lines)}


def test_every_distribution_is_pinned(champion: LoadedVersion) -> None:
    """One line for each recorded distribution, with the version that is installed here; comments name the rest."""
    found = requirements(champion.manifest)
    recorded = champion.manifest.environment["distributions"]
    assert pins(found) == {name: f"=={version(name)}" for name in recorded if name != "retrain-or-reload"}
    assert {"scikit-learn", "numpy", "scipy", "joblib", "pandas"} <= set(pins(found))
    first, second = found.text.splitlines()[:2]
    assert first.startswith("# loans v1: ")
    assert second == f"# Python {champion.manifest.environment['python']} on {found.platform}"
    assert found.text.endswith("\n")


def test_pip_takes_it(champion: LoadedVersion, tmp_path: Path) -> None:
    """pip reads the file and finds nothing to install here, where the version was made."""
    pytest.importorskip("pip")
    path = tmp_path / "requirements.txt"
    path.write_text(of(champion, sources={"mine.features": "a" * 64}).text)
    command = [sys.executable, "-m", "pip", "install", "--no-index", "--dry-run", "--no-deps", "-r", str(path)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert done.stdout.count("already satisfied") == len(pins(requirements(champion.manifest)))


def test_own_modules_are_named(champion: LoadedVersion) -> None:
    """What belongs to no package is a comment with its digest; so is the commit."""
    found = of(champion, sources={"mine.features": "a" * 64}, git_commit="c0ffee")
    assert f"# module mine.features without a package, sha256 {'a' * 64}" in found.text
    assert "# git commit c0ffee\n" in found.text
    dirty = of(champion, git_commit="c0ffee-dirty").text
    assert "# git commit c0ffee, with changes that were not committed\n" in dirty
    assert pins(found) == pins(requirements(champion.manifest))


def test_this_program_is_told_of(champion: LoadedVersion) -> None:
    """The program itself is on no index: its version is a comment, and not for pip."""
    found = of(champion, distributions={"retrain-or-reload": "9.9.9", "numpy": "2.0.0"})
    assert (found.program, pins(found)) == ("9.9.9", {"numpy": "==2.0.0"})
    assert "# retrain-or-reload 9.9.9, installed as it is here" in found.text


@pytest.mark.parametrize("number", ["1.0", "2.3.0+cpu", "1!4.0rc1", "2024.2.post1", "0.1.dev3"])
def test_any_version_of_python_packages(champion: LoadedVersion, number: str) -> None:
    """Local versions, epochs and pre-releases are pinned as they are."""
    assert pins(of(champion, distributions={"zope.interface": number})) == {"zope.interface": f"=={number}"}


@pytest.mark.parametrize(
    ("name", "number"),
    [
        ("numpy", "1.0\n--index-url https://example.org"),
        ("--extra-index-url", "1.0"),
        ("numpy @ https://example.org/numpy.whl", "1"),
        ("-e .", "1"),
        ("numpy", ""),
        ("numpy", "1.0 --hash=sha256:0"),
        ("../evil", "1.0"),
    ],
)
def test_nothing_but_pins_reaches_pip(champion: LoadedVersion, name: str, number: str) -> None:
    """A record that was altered to give pip an instruction is refused."""
    with pytest.raises(CorruptObject, match="which pip cannot install"):
        of(champion, distributions={name: number})


def test_comments_stay_comments(champion: LoadedVersion) -> None:
    """A line break in what is only told does not begin a line of its own."""
    found = of(champion, platform="Linux\n-e .", sources={"a\nevil==1": "b"}, git_commit="c\r\nevil==2")
    assert pins(found) == pins(requirements(champion.manifest))
