"""A file that the file system does not give is not a broken file."""

from __future__ import annotations

import errno
import os
from pathlib import Path

import pytest

from tasks.core.data.files import fingerprint
from tasks.core.data.source import Source
from tasks.core.errors import (
    AlreadyExists,
    DataError,
    StoreError,
    UnavailableData,
    UnreadableData,
    VerificationError,
    may_pass,
)
from tests.helpers.model import make_rows

MEMORY = Path("/proc/self/mem")
"""Reading its beginning is an input/output error (EIO), as of a disk that fails or a share that is gone."""

linux = pytest.mark.skipif(not MEMORY.exists(), reason="a file that really cannot be read is a Linux one")


@linux
@pytest.mark.parametrize("name", ["001.parquet", "001.csv"])
def test_an_input_output_error_says_nothing_about_the_data(tmp_path: Path, name: str) -> None:
    """It is said so, for the file and its fingerprint; it may pass, and once it has the file is as good as any."""
    (tmp_path / name).symlink_to(MEMORY)
    for read in (lambda: fingerprint(tmp_path / name), lambda: Source(tmp_path, name)):
        with pytest.raises(UnavailableData, match=r"at the moment: Input/output error.*run it again") as raised:
            read()
        assert may_pass(raised.value) and not isinstance(raised.value, DataError)


@linux
def test_an_error_in_the_middle_of_a_file(tmp_path: Path) -> None:
    """The same where a file could be opened, and stops giving its rows."""
    path = tmp_path / "001.csv"
    make_rows(100).to_csv(path, index=False)
    source = Source(tmp_path, path.name)
    path.unlink()
    path.symlink_to(MEMORY)
    with pytest.raises(UnavailableData, match="Input/output error"):
        list(source.stream())


def test_missing_rights_are_named_and_not_tried_again(tmp_path: Path) -> None:
    """Who may not read a file is told so; the batch is not set aside, and waiting would not help."""
    if os.geteuid() != 0:
        pytest.skip("only root can become somebody else")
    path = tmp_path / "001.parquet"
    make_rows(10).to_parquet(path)
    tmp_path.chmod(0o755)
    for folder in tmp_path.parents[:2]:
        folder.chmod(0o755)
    path.chmod(0o600)
    os.seteuid(65534)
    try:
        with pytest.raises(UnavailableData, match="Permission denied") as raised:
            Source(tmp_path, path.name)
    finally:
        os.seteuid(0)
    assert not may_pass(raised.value)


def test_damage_is_still_damage(tmp_path: Path) -> None:
    """What a file holds is judged as ever: no second look makes it better."""
    path = tmp_path / "001.parquet"
    make_rows(100).to_parquet(path)
    path.write_bytes(path.read_bytes()[:-200])
    with pytest.raises(UnreadableData) as raised:
        Source(tmp_path, path.name)
    assert not may_pass(raised.value)


def test_only_what_may_pass_is_tried_again() -> None:
    """Trying again would only ask a contract, a gate, an artifact or another writer for another answer."""
    for error in (DataError("x"), VerificationError("x"), AlreadyExists("x"), StoreError("x"), OSError(errno.EIO, "x")):
        assert not may_pass(error)
    full, gone = StoreError("x"), StoreError("x")
    full.__cause__, gone.__cause__ = OSError(errno.ENOSPC, "x"), OSError(errno.ESTALE, "x")
    assert (may_pass(full), may_pass(gone)) == (False, True)
