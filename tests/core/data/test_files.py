"""Batches and labels as files: which there are, in what order, and their fingerprints."""

from __future__ import annotations

import contextlib
import errno
import hashlib
import os
import time
from pathlib import Path
from unittest.mock import Mock

import pytest

from tasks.core.data.files import (
    arriving,
    atomic_write,
    batch_at,
    batch_name,
    delivered,
    doubled,
    find_batches,
    fingerprint,
    in_order,
    label_digest,
    label_files,
    lacks_links,
    natural_order,
    renamed,
    text_order,
)
from tasks.core.errors import AlreadyExists, SpecError
from tasks.core.spec import ModelSpec
from tasks.core.types import BatchRecord
from tests.helpers.training import make_spec

LATE = make_spec(data={"batches": "batches/*", "labels": "labels/*"})


def known(*names: str) -> dict[str, BatchRecord]:
    return {name: BatchRecord("", 1) for name in names}


def write(path: Path, text: str = "x") -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text)
    return path


def test_batches_are_in_time_order(tmp_path: Path) -> None:
    """Batches are sorted by name whatever their ending, and paths are relative to the root."""
    for name in ("2013-10.csv", "2013-02.parquet", "2013-09.pq"):
        write(tmp_path / "batches" / name, name)
    found = find_batches(tmp_path, LATE)
    assert [batch.id for batch in found] == ["2013-02", "2013-09", "2013-10"]
    assert found[0].path == "batches/2013-02.parquet"
    assert found[0].sha256 == hashlib.sha256(b"2013-02.parquet").hexdigest()


def test_other_files_are_no_batches(tmp_path: Path) -> None:
    """Hidden files, files that are still being written and other endings are not taken for data."""
    for name in ("1.parquet", ".2.parquet", "_SUCCESS", "_3.csv", "readme.md", "4.parquet.tmp"):
        write(tmp_path / "batches" / name)
    assert [batch.id for batch in find_batches(tmp_path, LATE)] == ["1"]


def test_two_files_of_one_name_are_refused(tmp_path: Path) -> None:
    """Two files that would be the same batch are refused by name: nobody can say which one counts."""
    for name in ("1.parquet", "2.parquet", "2.csv"):
        write(tmp_path / "batches" / name, name)
    with pytest.raises(SpecError) as caught:
        find_batches(tmp_path, LATE)
    (problem,) = caught.value.problems
    assert problem == (
        "batches/2.csv, batches/2.parquet are both batch '2': "
        "if they hold the same rows, move all but one out of the folder; if not, rename one"
    )
    (tmp_path / "batches/2.csv").rename(tmp_path / "batches/3.csv")
    assert [batch.id for batch in find_batches(tmp_path, LATE)] == ["1", "2", "3"]


def test_the_same_bytes_twice_are_one_batch(tmp_path: Path) -> None:
    """Only of files with the same bytes it is said, without a question, that one is enough."""
    for name in ("a/1.parquet", "b/1.parquet"):
        write(tmp_path / "batches" / name, "same")
    with pytest.raises(
        SpecError, match=r"a/1\.parquet, b/1\.parquet are both batch '1', with the same bytes: move all"
    ):
        find_batches(tmp_path, make_spec(data={"batches": "batches/*/*"}))


@pytest.mark.parametrize("name", ["1.CSV", "1.Csv", "1.PARQUET", "1.parq", "1.tsv", "1.TSV", "1.PQ"])
def test_an_ending_in_other_letters(tmp_path: Path, name: str) -> None:
    """Endings are read in capitals, too; but where a file was read before, one beside it takes no place from it."""
    write(tmp_path / "batches" / name, name)
    (batch,) = find_batches(tmp_path, LATE)
    assert (batch.id, batch.path) == ("1", f"batches/{name}")
    for other in ("1.csv", "1.parquet"):
        write(tmp_path / "batches" / other, other)
        (batch,) = find_batches(tmp_path, LATE)
        assert batch.path == f"batches/{other}"
        (tmp_path / "batches" / other).unlink()
    write(tmp_path / "batches/1/a.csv")
    assert [batch.path for batch in find_batches(tmp_path, LATE)] == ["batches/1"]


def test_new_endings_change_no_folder_that_was_decided_on(tmp_path: Path) -> None:
    """The digest of a folder is of the files that were always read in it, where there are any."""
    folder = tmp_path / "batches/1"
    write(folder / "a.csv")
    before = fingerprint(folder)
    write(folder / "b.CSV")
    write(folder / "c.tsv")
    assert fingerprint(folder) == before
    (folder / "a.csv").unlink()
    assert fingerprint(folder) == label_digest([folder / "b.CSV", folder / "c.tsv"])


FOLDERS = ("2026.01", "2026.02", "v1.2", "month=2026-01", "day=2026.01.31", "2026-W05.final")


def test_folders_keep_their_whole_names(tmp_path: Path) -> None:
    """A dot in the name of a folder begins no ending; of two folders none is taken for the other."""
    for name in FOLDERS:
        write(tmp_path / "batches" / name / "part-0.parquet", name)
    assert sorted(batch.id for batch in find_batches(tmp_path, LATE)) == sorted(FOLDERS)
    assert set(delivered(tmp_path, LATE)) == {*FOLDERS}
    assert batch_name(Path("2026-01.parquet")) == "2026-01"  # as Spark calls its folders


def test_a_folder_decided_under_its_cut_name_keeps_it(tmp_path: Path) -> None:
    """Earlier releases cut 2026.01 to 2026: that stays the batch that was decided on, and the next is a new one."""
    write(tmp_path / "batches/2026.01/a.parquet", "one")
    write(tmp_path / "batches/2026.02/a.parquet", "two")
    found = find_batches(tmp_path, LATE, known("2026"))
    assert [(batch.id, batch.path) for batch in found] == [("2026", "batches/2026.01"), ("2026.02", "batches/2026.02")]
    assert delivered(tmp_path, LATE, known("2026"))["2026"] == tmp_path / "batches/2026.01"
    again = find_batches(tmp_path, LATE, known("2026", "2026.02"))
    assert [batch.id for batch in again] == ["2026", "2026.02"]
    write(tmp_path / "batches/2026.parquet")  # whose own name it is
    assert sorted(batch.id for batch in find_batches(tmp_path, LATE, known("2026"))) == ["2026", "2026.01", "2026.02"]


def test_a_file_that_was_renamed_is_the_batch_that_it_was(tmp_path: Path) -> None:
    """Bytes that are known under a name that is gone are that batch, in its place, settled or not; under a name that
    is there they are a second delivery; a folder is known by its parts."""
    first, second = (write(tmp_path / f"batches/2015-{month}.csv", month) for month in ("2", "10"))
    folder = write(tmp_path / "batches/2015-11/a.parquet", "parts").parent
    decided = {one.id: BatchRecord(one.sha256, 1) for one in find_batches(tmp_path, LATE)}
    assert [*decided] == ["2015-2", "2015-10", "2015-11"]
    first.rename(first.with_name("new-02.csv"))
    folder.rename(folder.with_name("2015-nov"))
    write(tmp_path / "batches/2015-12.csv", "10")  # what 2015-10 has, which is there
    spec = settle(3600)
    found = find_batches(tmp_path, spec, decided)
    assert [(one.id, one.path) for one in found] == [
        ("2015-2", "batches/new-02.csv"),
        ("2015-10", "batches/2015-10.csv"),
        ("2015-11", "batches/2015-nov"),
    ]
    assert [renamed(one) for one in found] == ["new-02.csv", None, "2015-nov"]
    assert arriving(tmp_path, spec, decided) == ["batches/2015-12.csv"]
    write(tmp_path / "batches/new-03.csv", "2")  # the same bytes once more: one file is the batch
    assert [one.id for one in find_batches(tmp_path, LATE, decided)][3:] == ["2015-12", "new-03"]
    assert second.exists()


def test_a_folder_is_one_batch(tmp_path: Path) -> None:
    """A folder of files is one batch; its fingerprint changes with the name and bytes of each part, and only those."""
    folder = tmp_path / "batches" / "2013-02"
    first = write(folder / "a.parquet", "one")
    write(folder / "b.parquet", "two")
    (batch,) = find_batches(tmp_path, LATE)
    assert (batch.id, batch.path) == ("2013-02", "batches/2013-02")
    write(folder / ".hidden")
    write(folder / "_SUCCESS")
    assert fingerprint(folder) == batch.sha256
    first.rename(folder / "c.parquet")
    renamed = fingerprint(folder)
    write(folder / "c.parquet", "three")
    assert len({batch.sha256, renamed, fingerprint(folder)}) == 3


def test_a_change_behind_an_old_date_is_noticed(tmp_path: Path) -> None:
    """Bytes that were changed without a trace in size or modification time still have another fingerprint."""
    file = write(tmp_path / "1.parquet", "one")
    before, stat = fingerprint(file), file.stat()
    write(file, "two")
    os.utime(file, ns=(stat.st_atime_ns, stat.st_mtime_ns))
    assert fingerprint(file) != before


def test_the_label_digest_follows_every_change(tmp_path: Path) -> None:
    """A label file that arrives or changes makes a new question; reading again does not."""
    digests = [label_digest(label_files(tmp_path, LATE))]
    for name, text in (("1.csv", "one"), ("2.csv", "one"), ("1.csv", "two")):
        write(tmp_path / "labels" / name, text)
        digests.append(label_digest(label_files(tmp_path, LATE)))
    assert len(set(digests)) == 4
    assert label_digest(label_files(tmp_path, LATE)) == digests[-1]
    assert [path.name for path in label_files(tmp_path, LATE)] == ["1.csv", "2.csv"]


def test_labels_in_the_batch_have_no_files(tmp_path: Path) -> None:
    """Where labels come with the batch, there are no label files to look for."""
    assert label_files(tmp_path, make_spec()) == []


# --- settled files -------------------------------------------------------------------------------------------


def settle(how: float | str) -> ModelSpec:
    return make_spec(data={"batches": "batches/*", "labels": "labels/*", "settle": how})


def seen(root: Path, spec: ModelSpec, *names: str) -> tuple[list[str], list[str], list[str]]:
    """Batches, label files, and what does not count yet."""
    batches = [batch.id for batch in find_batches(root, spec, known(*names))]
    return batches, [path.name for path in label_files(root, spec)], arriving(root, spec, known(*names))


@pytest.mark.parametrize(("age", "counts"), [(0, False), (-3, False), (4, False), (6, True), (-3600, True)])
def test_a_file_counts_once_it_is_left_alone(tmp_path: Path, age: int, counts: bool) -> None:
    """A file that changed within `settle` seconds of now, by a clock that may be a little off, may still be written."""
    for name in ("batches/1.parquet", "labels/1.parquet"):
        path = write(tmp_path / name)
        os.utime(path, (time.time() - age,) * 2)
    expected = (["1"], ["1.parquet"], []) if counts else ([], [], ["batches/1.parquet", "labels/1.parquet"])
    assert seen(tmp_path, settle(5)) == expected
    assert seen(tmp_path, settle(0)) == (["1"], ["1.parquet"], [])


def test_a_folder_is_as_young_as_its_newest_file(tmp_path: Path) -> None:
    """A folder into which a part has just been put, or moved, does not count yet."""
    folder, old = tmp_path / "batches/1", (time.time() - 60,) * 2
    part = write(folder / "a.parquet")
    os.utime(folder, old)
    assert seen(tmp_path, settle(5))[2] == ["batches/1"]
    os.utime(part, old)
    assert seen(tmp_path, settle(5)) == (["1"], [], [])
    (tmp_path / "b.parquet").write_text("x")
    os.utime(tmp_path / "b.parquet", old)
    (tmp_path / "b.parquet").rename(folder / "b.parquet")
    assert seen(tmp_path, settle(5))[2] == ["batches/1"]


def test_a_marker_says_that_a_file_is_complete(tmp_path: Path) -> None:
    """With settle = "marker" only what its writer marked counts, at once; the marker is no data itself."""
    write(tmp_path / "batches/1.parquet")
    write(tmp_path / "batches/2" / "a.parquet")
    write(tmp_path / "labels/1.csv")
    assert seen(tmp_path, settle("marker")) == ([], [], ["batches/1.parquet", "batches/2", "labels/1.csv"])
    for marker in ("batches/1.parquet.done", "batches/2/_SUCCESS", "labels/1.csv.done"):
        write(tmp_path / marker, "")
    assert seen(tmp_path, settle("marker")) == (["1", "2"], ["1.csv"], [])


def test_a_batch_that_was_decided_on_has_settled(tmp_path: Path) -> None:
    """What was decided on counts without a marker and however young: it is compared by its bytes."""
    write(tmp_path / "batches/1.parquet")
    write(tmp_path / "batches/2.parquet")
    for how in (5, "marker"):
        assert seen(tmp_path, settle(how), "1") == (["1"], [], ["batches/2.parquet"])


def test_a_file_appears_whole_or_not_at_all(tmp_path: Path) -> None:
    """Also below a folder that is not there yet; a write that fails leaves nothing behind."""
    path = tmp_path / "new" / "picture.png"
    with pytest.raises(ValueError, match="half"), atomic_write(path) as temporary:
        temporary.write_text("half")
        raise ValueError("half of it")
    assert list(path.parent.iterdir()) == []
    with atomic_write(path) as temporary:
        assert temporary.suffix == ".png"  # writers go by the ending
        temporary.write_text("whole")
        assert not path.exists()
    assert [file.name for file in path.parent.iterdir()] == ["picture.png"]
    assert path.read_text() == "whole"


def test_a_file_is_replaced_only_where_that_is_asked_for(tmp_path: Path) -> None:
    """By default what is there stays, also when it came while the new one was written."""
    path = tmp_path / "picture.png"
    with pytest.raises(AlreadyExists, match="nothing is overwritten"), atomic_write(path) as temporary:
        temporary.write_text("mine")
        path.write_text("theirs")
    assert path.read_text() == "theirs"
    with atomic_write(path, replace=True) as temporary:
        temporary.write_text("mine")
    assert [file.read_text() for file in tmp_path.iterdir()] == ["mine"]


def test_without_hard_links(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """On a file system without hard links a file appears whole too, and what is there stays; it is known there."""
    path = tmp_path / "picture.png"
    assert not lacks_links(tmp_path)
    monkeypatch.setattr(os, "link", Mock(side_effect=OSError(errno.EPERM, "Operation not permitted")))
    assert lacks_links(tmp_path)
    for text in ("first", "second"):
        with contextlib.suppress(AlreadyExists), atomic_write(path) as temporary:
            temporary.write_text(text)
    assert [file.name for file in tmp_path.iterdir()] == ["picture.png"]
    assert path.read_text() == "first"


def test_names_of_batches_are_put_in_time_order() -> None:
    """The order that runs decide in, by name; of names that two files have, each is said once."""
    paths = [Path("b/2013-02.csv"), Path("b/2013-01.parquet"), Path("b/2013-02")]
    assert in_order(batch_name(path) for path in paths[:2]) == ["2013-01", "2013-02"]
    assert natural_order("2013-01") < natural_order("2013-02")
    assert doubled(paths[:2]) == []


@pytest.mark.parametrize(
    "names",
    [
        ["2026-9", "2026-10", "2026-11"],
        ["labels-9", "labels-10", "labels-100"],
        ["2026-W9", "2026-W10"],
        ["9", "10", "10b", "b"],
        ["2026-09", "2026-9-fix", "2026-10"],
        ["a", "a-1", "a-2-9", "a-2-10", "b"],
        ["20261231", "20270101"],
        ["2026-09", "2026-9"],  # two names of one number: as text, so that the order is always the same
    ],
)
def test_numbers_in_names_count_as_numbers(tmp_path: Path, names: list[str]) -> None:
    """Batches and label files are in natural order, whatever a folder lists first."""
    assert in_order(reversed(names)) == names
    for name in names:
        write(tmp_path / "batches" / f"{name}.csv")
        write(tmp_path / "labels" / f"{name}.csv")
    assert [batch.id for batch in find_batches(tmp_path, LATE)] == names
    assert [batch_name(path) for path in label_files(tmp_path, LATE)] == names
    assert in_order(names, text_order) == sorted(names)


def test_a_file_and_a_list_of_files_give_the_same_batch(tmp_path: Path) -> None:
    """Whoever looks at one batch on disk sees what a run sees among all."""
    write(tmp_path / "batches" / "001.csv")
    path = delivered(tmp_path, LATE)["001"]
    assert [batch_at(tmp_path, path)] == find_batches(tmp_path, LATE)
