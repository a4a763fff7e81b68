"""`ror init` and `ror add`, up to a version in service."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.helpers.model import Model, make_rows
from tests.helpers.ror import Ror


@pytest.mark.usefixtures("prefect")
def test_from_a_file_to_a_version(tmp_path: Path, tmp_path_factory: pytest.TempPathFactory, ror: Ror) -> None:
    """A model begins with a file and the name of a column; a batch that fits is added, one that does not is refused
    with all that is wrong, and exit code 3."""
    elsewhere = tmp_path_factory.mktemp("elsewhere")
    for name in ("001", "002", "003"):
        frame = make_rows(seed=int(name))
        (frame.drop(columns=["age", "income"]) if name == "003" else frame).to_csv(
            elsewhere / f"{name}.csv", index=False
        )
    assert ror("init", str(elsewhere / "001.csv"), "--target", "y", "--name", "loans") == 0
    assert "binary: the target has two values" in ror.out
    assert "ror run loans" in ror.out
    path = tmp_path / "deployments/loans.toml"
    path.write_text(path.read_text().replace("[data]", "[data]\nsettle = 0"))
    assert ror("run", "loans") == 0
    assert Model(tmp_path).workspace.registry.versions("loans") == [1]
    (added,) = ror.json("add", "loans", str(elsewhere / "002.csv"))
    assert (added["rows"], added["was_there"]) == (600, False)
    assert ror("add", "loans", str(elsewhere / "003.csv")) == 3
    assert "'age' is missing" in ror.err and "'income' is missing" in ror.err
    assert ror("add", "loans", str(elsewhere / "002.csv")) == 0
    assert "was there already" in ror.out


def test_wrong_words(tmp_path: Path, ror: Ror) -> None:
    """An impossible separator and a file that is not there are said before anything is written."""
    (tmp_path / "some.csv").write_text("a;y\n1;2\n")
    assert ror("init", str(tmp_path / "some.csv"), "--target", "y", "--separator", "ab") == 2
    assert "data.csv.separator" in ror.err
    assert ror("init", str(tmp_path / "some.csv"), "--target", "y") == 3
    assert "semicolon" in ror.err
    assert ror("init", str(tmp_path / "none.csv"), "--target", "y") == 3
    assert not (tmp_path / "deployments").exists()
