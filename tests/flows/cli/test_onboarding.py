"""`ror init` and `ror add`, up to a version in service."""

from __future__ import annotations

from pathlib import Path

import numpy as np
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
    """An impossible or a wrong separator and a file that is not there are said before anything is written."""
    (tmp_path / "some.csv").write_text("a;y\n1;2\n")
    assert ror("init", str(tmp_path / "some.csv"), "--target", "y", "--separator", "ab") == 2
    assert "--separator:\n  - separator = 'ab'" in ror.err
    assert ror("init", str(tmp_path / "some.csv"), "--target", "y") == 2
    assert "y has one value only" in ror.err
    assert ror("init", str(tmp_path / "some.csv"), "--target", "y", "--separator", ",") == 3
    assert 'semicolon-separated file: set `separator = ";"`' in ror.err
    assert ror("init", str(tmp_path / "none.csv"), "--target", "y") == 3
    assert not (tmp_path / "deployments").exists()


@pytest.mark.usefixtures("prefect")
def test_a_column_that_tells_the_answer(model: Model, ror: Ror) -> None:
    """`init`, run, status, page and history name it; a snooze says that it is right, and the next version says nothing.
    Left out of the features it raises no doubt."""
    rows = make_rows(500, seed=1)
    leaky = rows.assign(refund=np.where(rows["y"] == 1, 0.0, 10.0 + rows["age"]))
    file = model.root / "claims.parquet"
    leaky.to_parquet(file, index=False)
    assert ror("init", str(file), "--target", "y", "--name", "claims") == 0
    assert "'refund' alone predicts the target" in ror.out
    path = model.root / "deployments/claims.toml"
    assert "# Too good to be true? 'refund'" in path.read_text()
    assert ror("run", "claims") == 0
    assert "'refund' alone predicts the target" in ror.out
    (warning,) = ror.json("status", "claims")["warnings"]
    assert "'refund'" in warning and "ror snooze claims" in warning
    page = next(model.root.rglob("report*.html"), None) or next(model.root.rglob("*.html"))
    assert "alone predicts the target" in page.read_text()
    words = ["snooze", "claims", "--columns", "refund", "--until", "2099-12-31", "--reason", "known at once"]
    assert ror(*words) == 0, ror.err
    assert ror.json("status", "claims")["warnings"] == []
    more = make_rows(500, seed=2)
    more = more.assign(refund=np.where(more["y"] == 1, 0.0, 10.0 + more["age"]))
    more.to_parquet(model.root / "data/claims/batches/next.parquet", index=False)
    assert ror("run", "claims", "--action", "retrain", "--reason", "again") == 0
    assert "alone predicts" not in ror.out
