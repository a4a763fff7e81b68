"""Batches and labels as files: which there are, in what order, and their fingerprints."""

from __future__ import annotations

import hashlib
import os
from pathlib import Path

import pytest

from tasks.core.errors import SpecError
from tasks.core.files import find_batches, fingerprint, label_digest, label_files
from tests.core.conftest import make_spec

LATE = make_spec(data={"batches": "batches/*", "labels": "labels/*"})


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
        write(tmp_path / "batches" / name)
    with pytest.raises(SpecError, match="two files are both batch '2': remove one"):
        find_batches(tmp_path, LATE)


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
