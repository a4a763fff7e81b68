"""Data as they are really delivered, from the first command to the end of what each message says: one file that grows,
one that grew in place, labels that come later."""

from __future__ import annotations

import re
import shlex
from pathlib import Path

import pandas as pd
import pytest

from tests.helpers.model import Model, make_rows
from tests.helpers.ror import Ror

pytestmark = pytest.mark.usefixtures("prefect")

ONE, TWO, THREE = (make_rows(seed=number) for number in (1, 2, 3))


@pytest.fixture
def elsewhere(tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder outside the root, which is the current one."""
    folder = tmp_path_factory.mktemp("elsewhere")
    monkeypatch.chdir(folder)
    return folder


def begun(root: Path, ror: Ror, *words: str) -> Model:
    """A model that `ror init` made, whose files count at once."""
    assert ror("init", *words, "--target", "y", "--name", "loans") == 0, ror.err
    path = root / "deployments/loans.toml"
    path.write_text(path.read_text().replace("[data]", "[data]\nsettle = 0"))
    return Model(root)


def rows_of(model: Model) -> list[str]:
    return [
        one for path in sorted(model.batches.iterdir(), key=lambda path: path.stem) for one in pd.read_csv(path)["id"]
    ]


def told(text: str) -> list[str]:
    """The commands in a message."""
    return re.findall(r"`ror ([^`]+)`", text)


def test_one_file_that_grows(tmp_path: Path, elsewhere: Path, ror: Ror) -> None:
    """The name that is taken leads to `--new-rows`, which brings the new rows; the run takes them as a batch."""
    file = elsewhere / "history.csv"
    ONE.to_csv(file, index=False)
    model = begun(tmp_path, ror, str(file))
    assert ror("run", "loans") == 0, ror.err
    pd.concat([ONE, TWO]).to_csv(file, index=False)
    assert ror("add", "loans", str(file)) == 1
    (command,) = told(ror.err)
    assert ror(*shlex.split(command)) == 0, ror.err
    assert "history-0002.csv arrived, 600 rows, 600 others were known already" in ror.out
    assert rows_of(model) == [*ONE["id"], *TWO["id"]]
    assert ror("run", "loans") == 0 and "loans · history-0002: Reloaded" in ror.out
    assert ror(*shlex.split(command)) == 0 and "has nothing new, all its 1,200 rows were known already" in ror.out
    (again,) = ror.json(*shlex.split(command))
    assert (again["path"], again["rows"], again["known"]) == (None, 0, 1200)


def test_a_file_that_grew_in_place(tmp_path: Path, elsewhere: Path, ror: Ror) -> None:
    """The run is blocked and says what to do; done so, the batch is there as it was, and the new rows beside it."""
    ONE.to_csv(elsewhere / "history.csv", index=False)
    model = begun(tmp_path, ror, str(elsewhere / "history.csv"))
    assert ror("run", "loans") == 0, ror.err
    place = model.batches / "history.csv"
    original = place.read_bytes()
    pd.concat([ONE, TWO]).to_csv(place, index=False)
    assert ror("run", "loans") == 3
    assert "If it has grown, move it out of data/loans/batches/ first; then `ror add loans FILE --new-rows`" in ror.out
    assert ror("add", "loans", str(place), "--new-rows") == 2
    assert "Move it out of data/loans/batches/" in ror.err.replace("\n", " ")
    place.rename(elsewhere / "history.csv")
    assert ror("add", "loans", str(elsewhere / "history.csv"), "--new-rows") == 0, ror.err
    assert "was put back as it was decided on" in ror.out and place.read_bytes() == original
    assert rows_of(model) == [*ONE["id"], *TWO["id"]]
    assert ror("run", "loans") == 0 and "loans · history-0002: Reloaded" in ror.out


def test_rows_that_cannot_be_told_from_new_ones(tmp_path: Path, elsewhere: Path, ror: Ror) -> None:
    """Where a batch that was decided on is gone, and the file does not begin with it, nothing is taken twice: it says
    so, and goes on once the batch is back."""
    ONE.to_csv(elsewhere / "history.csv", index=False)
    model = begun(tmp_path, ror, str(elsewhere / "history.csv"))
    assert ror("run", "loans") == 0, ror.err
    (model.batches / "history.csv").rename(elsewhere / "kept.csv")
    pd.concat([TWO, ONE]).to_csv(elsewhere / "history.csv", index=False)
    words = ["add", "loans", str(elsewhere / "history.csv"), "--new-rows"]
    assert ror(*words) == 2 and "batch history, which was decided on, is not under" in ror.err
    assert list(model.batches.iterdir()) == []
    (elsewhere / "kept.csv").rename(model.batches / "history.csv")
    assert ror(*words) == 0 and "history-0002.csv arrived, 600 rows" in ror.out
    assert ror("add", "loans", "--labels", *words[2:]) == 2


def test_a_history_by_months(tmp_path: Path, elsewhere: Path, ror: Ror) -> None:
    """Cut into months it is decided on; the month that waits arrives by the command that was said."""
    whole = make_rows(2_000).assign(at=pd.date_range("2026-01-01", "2026-04-10", periods=2_000).floor("s"))
    whole.to_csv(elsewhere / "history.csv", index=False)
    model = begun(tmp_path, ror, str(elsewhere / "history.csv"), "--every", "month")
    assert "3 batches by month of at: 2026-01 to 2026-03" in ror.out
    (command,) = told(ror.out)
    assert ror("run", "loans") == 0 and "loans · 2026-01 to 2026-03: Retrained" in ror.out
    assert ror(*shlex.split(command)) == 0, ror.err
    assert rows_of(model) == whole["id"].tolist()
    assert ror("run", "loans") == 0 and "loans · history: Reloaded" in ror.out


def test_labels_that_come_later(tmp_path: Path, elsewhere: Path, ror: Ror) -> None:
    """Without the target in the batch, `init` asks for the labels; a batch that came before the first version is said
    not to be predicted, and the command that is named predicts it."""
    for number, frame in enumerate((ONE, TWO, THREE), start=1):
        frame.drop(columns="y").to_csv(elsewhere / f"00{number}.csv", index=False)
        frame[["id", "y"]].to_csv(elsewhere / f"labels-{number}.csv", index=False)
    assert ror("init", str(elsewhere / "001.csv"), "--target", "y", "--name", "loans") == 2
    assert "--labels FILE`" in ror.err
    begun(tmp_path, ror, str(elsewhere / "001.csv"), "--labels", str(elsewhere / "labels-1.csv"))
    (tmp_path / "data/loans/labels/labels-1.csv").unlink()  # they are late
    assert ror("run", "loans") == 0 and "Held" in ror.out and "no column is called" not in ror.out
    assert ror("add", "loans", "--labels", str(elsewhere / "labels-1.csv")) == 0, ror.err
    assert ror("add", "loans", str(elsewhere / "002.csv")) == 0, ror.err
    assert ror("run", "loans") == 0 and "Retrained" in ror.out
    assert "1 batch that arrived before the first version was not predicted (001)" in ror.out
    (command,) = told(ror.out)
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(tmp_path)
        assert ror(*shlex.split(command)) == 0, ror.err
        assert len(pd.read_parquet("001-predicted.parquet")) == 600
    assert ror("add", "loans", str(elsewhere / "003.csv")) == 0, ror.err
    assert ror("run", "loans") == 0 and "not predicted" not in ror.out
