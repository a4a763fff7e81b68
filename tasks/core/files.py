"""Batches and labels as files on disk: find and fingerprint them. Light: `ror status` needs no more."""

from __future__ import annotations

import hashlib
from functools import lru_cache
from pathlib import Path

from tasks.core.errors import SpecError
from tasks.core.spec import ModelSpec
from tasks.core.types import Batch

SUFFIXES = (".parquet", ".pq", ".csv")


def find(root: Path, pattern: str) -> list[Path]:
    """Data files or folders that match a glob below `root`, by name; hidden files and other endings are none."""
    return sorted(
        (
            path
            for path in root.glob(pattern)
            if not path.name.startswith((".", "_")) and (path.is_dir() or path.suffix in SUFFIXES)
        ),
        key=lambda path: (path.stem, path.name),
    )


def find_batches(root: Path, spec: ModelSpec) -> list[Batch]:
    """Every batch on disk, in time order. Raises SpecError when two would have one name."""
    paths = find(root, spec.data.batches)
    twice = sorted({path.stem for path in paths if sum(path.stem == other.stem for other in paths) > 1})
    if twice:
        raise SpecError(spec.data.batches, [f"two files are both batch {name!r}: remove one" for name in twice])
    return [Batch(path.stem, path.relative_to(root).as_posix(), fingerprint(path)) for path in paths]


def label_files(root: Path, spec: ModelSpec) -> list[Path]:
    """Files that labels arrive in, oldest first by name; none when they come with the batch."""
    return find(root, spec.data.labels) if spec.data.labels else []


def label_digest(root: Path, spec: ModelSpec) -> str:
    """Changes whenever a label file arrives or changes."""
    lines = "".join(f"{path.name}\0{fingerprint(path)}\n" for path in label_files(root, spec))
    return hashlib.sha256(lines.encode()).hexdigest()


def fingerprint(path: Path) -> str:
    """sha256 of a file's bytes; for a folder, of its sorted (name, sha256) pairs."""
    if path.is_dir():
        lines = "".join(f"{file.name}\0{fingerprint(file)}\n" for file in parts(path))
        return hashlib.sha256(lines.encode()).hexdigest()
    stat = path.stat()
    return _file_digest(path, stat.st_ino, stat.st_size, stat.st_mtime_ns, stat.st_ctime_ns)


@lru_cache(maxsize=4096)
def _file_digest(path: Path, inode: int, size: int, modified_ns: int, changed_ns: int) -> str:
    """One run asks for a file's digest several times; it is read again when the file system says that it changed."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def parts(folder: Path) -> list[Path]:
    """The data files of a batch that is a folder, in name order."""
    return sorted(file for file in folder.iterdir() if file.suffix in SUFFIXES and not file.name.startswith((".", "_")))
