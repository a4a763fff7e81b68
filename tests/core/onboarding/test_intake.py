"""Batches and labels that a person brings: copied whole, never over others, and only what a run would take."""

from __future__ import annotations

import errno
import os
import shutil
from pathlib import Path
from unittest.mock import Mock

import pytest

from tasks.core.errors import AlreadyExists, DataError, InvalidRequest, UnreadableData
from tasks.core.onboarding.delivery import deliver
from tasks.core.onboarding.intake import begin, model_name
from tasks.core.schema.contract import infer
from tasks.core.spec import CsvSpec
from tasks.core.types import Batch
from tests.helpers.model import Model, make_rows


@pytest.fixture
def outside(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder elsewhere, with a batch."""
    folder = tmp_path_factory.mktemp("elsewhere")
    make_rows(seed=1).to_parquet(folder / "001.parquet", index=False)
    return folder


def test_a_batch_is_copied_once(model: Model, outside: Path) -> None:
    """It appears where runs look; again it is there already; other data of the name are refused and nothing changes."""
    file = outside / "001.parquet"
    done = deliver(model.workspace, file)
    assert (done.path, done.rows, done.was_there) == ("data/loans/batches/001.parquet", 600, False)
    assert (model.batches / "001.parquet").read_bytes() == file.read_bytes()
    assert deliver(model.workspace, file).was_there
    make_rows(seed=2).to_parquet(file, index=False)
    with pytest.raises(
        AlreadyExists, match=r"nothing is overwritten\. If it has grown: `ror add loans .*001\.parquet --new-rows`"
    ):
        deliver(model.workspace, file)
    assert sorted(path.name for path in model.batches.iterdir()) == ["001.parquet"]


def test_the_same_bytes_under_another_name(model: Model, outside: Path) -> None:
    """A stuck export is refused with the name that it has already, and nothing is copied; other rows are welcome."""
    deliver(model.workspace, outside / "001.parquet")
    shutil.copyfile(outside / "001.parquet", outside / "002.parquet")
    with pytest.raises(AlreadyExists, match=r"002\.parquet has the same bytes as 001\.parquet, which is there already"):
        deliver(model.workspace, outside / "002.parquet")
    assert [path.name for path in model.batches.iterdir()] == ["001.parquet"]
    make_rows(seed=2).to_parquet(outside / "002.parquet", index=False)
    assert not deliver(model.workspace, outside / "002.parquet").was_there


def test_what_runs_would_not_find(model: Model, outside: Path) -> None:
    """A name that the pattern does not match, a second file of one batch, a folder and a missing file are refused."""
    file = outside / "001.parquet"
    deliver(model.workspace, file)
    make_rows(seed=1).to_csv(outside / "001.csv", index=False)
    for wrong, words in (
        (file.rename(outside / "001.pickle"), "runs would not find"),
        (outside / "001.csv", "001.parquet is batch '001' already"),
        (outside, "is a folder"),
    ):
        with pytest.raises(InvalidRequest, match=words):
            deliver(model.workspace, wrong)
    with pytest.raises(UnreadableData, match="no such file"):
        deliver(model.workspace, outside / "none.parquet")
    with pytest.raises(InvalidRequest, match="its labels come with the batches"):
        deliver(model.workspace, outside / "001.csv", labels=True)


def test_labels_need_key_and_target(model: Model, outside: Path) -> None:
    """Labels without what they are joined by are refused, naming all that is missing; good ones are copied, and marked
    as complete where runs wait for the mark."""
    model.write_spec(late_labels=True)
    path = model.root / "deployments/loans.toml"
    path.write_text(path.read_text().replace("settle = 0", 'settle = "marker"'))
    file = outside / "labels.parquet"
    make_rows(seed=1)[["age"]].to_parquet(file)
    with pytest.raises(DataError, match="'id' and 'y' is missing"):
        deliver(model.workspace, file, labels=True)
    make_rows(seed=1)[["id", "y"]].to_parquet(file)
    assert deliver(model.workspace, file, labels=True).rows == 600
    assert sorted(path.name for path in model.labels.iterdir()) == ["labels.parquet", "labels.parquet.done"]


def test_a_correction_that_would_not_count_is_refused(model: Model, outside: Path) -> None:
    """Where a file that sorts after it has other labels; under the name that is proposed it is taken, and counts."""
    model.write_spec(late_labels=True)
    rows = make_rows(seed=1)[["id", "y"]]
    rows.to_csv(outside / "labels-10.csv", index=False)
    deliver(model.workspace, outside / "labels-10.csv", labels=True)
    for name in ("correction.csv", "labels-9.csv"):
        rows.assign(y=1 - rows["y"]).to_csv(outside / name, index=False)
        with pytest.raises(InvalidRequest, match=r"600 of 600 labels in .* would not count") as refused:
            deliver(model.workspace, outside / name, labels=True)
        better = str(refused.value).partition("call it ")[2].partition(",")[0]
        (outside / name).rename(outside / better)
        deliver(model.workspace, outside / better, labels=True)
        (model.labels / better).unlink()
    assert [path.name for path in model.labels.iterdir()] == ["labels-10.csv"]


def test_late_labels_of_an_entity_are_taken(model: Model, outside: Path) -> None:
    """Where the key names a customer who comes every month, January's labels are no correction of February's."""
    model.write_spec(late_labels=True)
    months = {name: make_rows(seed=seed).assign(id=range(600)) for seed, name in enumerate(["2026-01", "2026-02"])}
    for name, rows in months.items():
        model.batches.mkdir(parents=True, exist_ok=True)
        rows.drop(columns="y").to_parquet(model.batches / f"{name}.parquet", index=False)
    for name in ("2026-02", "2026-01"):
        months[name][["id", "y"]].to_csv(outside / f"labels-{name}.csv", index=False)
        deliver(model.workspace, outside / f"labels-{name}.csv", labels=True)
    assert sorted(path.name for path in model.labels.iterdir()) == ["labels-2026-01.csv", "labels-2026-02.csv"]


def test_a_batch_brings_its_labels(model: Model, outside: Path) -> None:
    """Where labels come with the batch, one without them is refused: its labels could never be used."""
    make_rows(seed=1).drop(columns="y").to_parquet(outside / "002.parquet", index=False)
    with pytest.raises(DataError, match="'y' is missing"):
        deliver(model.workspace, outside / "002.parquet")


def test_a_beginning_that_fails_can_be_made_again(tmp_path: Path, outside: Path) -> None:
    """A folder whose second batch cannot be used leaves no model's file behind."""
    make_rows(seed=2).assign(income="much").to_csv(outside / "002.csv", index=False)
    make_rows(seed=1).to_csv(outside / "001.csv", index=False)
    (outside / "001.parquet").unlink()
    (outside / "002.csv").write_text((outside / "002.csv").read_text() + "1,2\n")
    with pytest.raises(UnreadableData):
        begin(tmp_path, outside, "y", "loans", owner="me", written=CsvSpec())
    assert not (tmp_path / "deployments/loans.toml").exists()


def test_a_broken_batch_never_arrives(model: Model, outside: Path) -> None:
    """A file that a run would set aside is refused, and nothing is copied."""
    (outside / "002.parquet").write_bytes(b"PAR1 and no more")
    with pytest.raises(UnreadableData):
        deliver(model.workspace, outside / "002.parquet")
    assert not model.batches.exists()


def test_begin_with_a_file(tmp_path: Path, outside: Path) -> None:
    """The model's file is written and the batch copied to its place; a second time nothing is touched."""
    begun = begin(tmp_path, outside / "001.parquet", "y", "loans", owner="me", written=CsvSpec())
    path = begun.path
    assert begun.proposal.task == "binary"
    spec = Model(tmp_path).workspace.spec
    assert (spec.target, spec.key, spec.data.batches) == ("y", "id", "data/loans/batches/*")
    assert (tmp_path / "data/loans/batches/001.parquet").exists()
    before = path.read_text()
    with pytest.raises(AlreadyExists, match="Choose another name"):
        begin(tmp_path, outside / "001.parquet", "y", "loans", owner="other", written=CsvSpec())
    assert path.read_text() == before


def test_begin_with_a_folder_of_the_root(model: Model) -> None:
    """Batches below the root stay where they are; how their CSV is written goes into the file."""
    folder = model.root / "incoming"
    folder.mkdir()
    for name in ("001", "002"):
        make_rows(seed=int(name)).to_csv(folder / f"{name}.csv", index=False, sep="\t", decimal=",")
    begin(model.root, folder, "y", "second", owner="me", written=CsvSpec(separator="\t", decimal=","))
    spec = Model(model.root, "second").workspace.spec
    assert (spec.data.batches, spec.data.csv.separator, spec.data.csv.decimal) == ("incoming/*", "\t", ",")
    assert not (model.root / "data/second").exists()


def test_a_name_that_cannot_be(tmp_path: Path, outside: Path) -> None:
    """It is refused before anything is written; a file's own name is made one that can be."""
    with pytest.raises(InvalidRequest, match="lower-case"):
        begin(tmp_path, outside / "001.parquet", "y", "Loans!", owner="me", written=CsvSpec())
    assert not (tmp_path / "deployments").exists()
    assert model_name(Path("Loans of 2026.parquet")) == "loans-of-2026"
    assert model_name(Path("§.csv")) == "model"


@pytest.mark.parametrize("first", ["", "sep=;\r\n"])
def test_begin_with_a_file_of_a_spreadsheet(tmp_path: Path, first: str) -> None:
    """What a spreadsheet of another country wrote is read as it was meant; how stands in the model's file and in what
    is proposed, and the batch that was copied breaks no schema."""
    rows = make_rows(seed=1)
    text = rows.assign(
        income=["" if value != value else f"{value:.2f} €".replace(".", ",") for value in rows["income"]],
        age=["-" if place % 9 == 0 else str(value) for place, value in enumerate(rows["age"])],
    ).to_csv(index=False, sep=";", decimal=",")
    (tmp_path / "001.csv").write_bytes((first + text).encode("cp1252"))
    proposal = begin(tmp_path, tmp_path / "001.csv", "y", "loans", owner="me", written=CsvSpec()).proposal
    workspace = Model(tmp_path).workspace
    assert workspace.spec.data.csv == CsvSpec(separator=";", decimal=",", encoding="cp1252", missing=("-",), strip="€")
    assert 'missing = ["-"]: found among the numbers of age' in proposal.reading
    source = workspace.source(Batch("001", "data/loans/batches/001.csv", ""))
    kinds = {column.name: column.kind for column in infer([source], workspace.spec).features}
    assert (kinds["income"], kinds["age"]) == ("number", "number")


def test_a_name_that_is_nearly_it(model: Model, outside: Path) -> None:
    """A file whose column is called otherwise by blanks or capitals is refused with both names; renamed it arrives."""
    rows = make_rows(seed=1)
    rows.rename(columns={"y": " Y"}).to_csv(outside / "002.csv", index=False)
    with pytest.raises(DataError, match="' Y' is nearly it: rename it to 'y'"):
        deliver(model.workspace, outside / "002.csv")
    rows.to_csv(outside / "002.csv", index=False)
    assert deliver(model.workspace, outside / "002.csv").rows == len(rows)


def test_a_root_without_hard_links(tmp_path: Path, outside: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """On a file system without hard links a model's file is written, and a note says that the store needs another."""
    monkeypatch.setattr(os, "link", Mock(side_effect=OSError(errno.EOPNOTSUPP, "Operation not supported")))
    begun = begin(tmp_path, outside / "001.parquet", "y", "loans", owner="me", written=CsvSpec())
    assert begun.path.exists()
    assert (tmp_path / "data/loans/batches/001.parquet").exists()
    assert f"{tmp_path / 'artifacts'} cannot be the store: the file system has no hard links" in begun.notes[-1]
