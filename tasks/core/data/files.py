"""Batches and labels as files on disk: find and fingerprint them. Light: `ror status` needs no more."""

from __future__ import annotations

import contextlib
import hashlib
import os
import time
import uuid
from collections.abc import Container, Iterable, Iterator
from functools import lru_cache
from pathlib import Path

from tasks.core.errors import AlreadyExists, SpecError, StoreError, UnavailableData, is_unavailable
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


def is_settled(path: Path, settle: float | str) -> bool:
    """Whether a file or folder is complete, as `data.settle` says how to tell.

    By its marker: `_SUCCESS` in a folder, `<name>.done` beside a file. Or by its age: neither it nor anything in it
    was changed within so many seconds of now, before or after, so that a clock may be a little off.
    """
    if settle == "marker":
        return (path / "_SUCCESS" if path.is_dir() else path.with_name(f"{path.name}.done")).exists()
    if settle == 0:
        return True
    try:
        changed = max(part.stat().st_mtime for part in (path, *(path.iterdir() if path.is_dir() else ())))
    except FileNotFoundError:  # renamed or removed since it was listed
        return False
    except OSError as error:
        if not is_unavailable(error):
            raise
        raise UnavailableData(str(path), str(error.strerror)) from error
    return bool(abs(time.time() - changed) >= float(settle))


def batch_files(root: Path, spec: ModelSpec, known: Container[str] = ()) -> list[Path]:
    """Batches that count, in time order: those that have settled, and those `known` by name, as decided on earlier."""
    paths = find(root, spec.data.batches)
    return [path for path in paths if path.stem in known or is_settled(path, spec.data.settle)]


def find_batches(root: Path, spec: ModelSpec, known: Container[str] = ()) -> list[Batch]:
    """The batches that count, fingerprinted. Raises SpecError when two would have one name."""
    paths = batch_files(root, spec, known)
    twice = sorted({path.stem for path in paths if sum(path.stem == other.stem for other in paths) > 1})
    if twice:
        raise SpecError(spec.data.batches, [f"two files are both batch {name!r}: remove one" for name in twice])
    return [Batch(path.stem, path.relative_to(root).as_posix(), fingerprint(path)) for path in paths]


def label_files(root: Path, spec: ModelSpec) -> list[Path]:
    """Settled files that labels arrive in, oldest first by name; none when they come with the batch."""
    paths = find(root, spec.data.labels) if spec.data.labels else []
    return [path for path in paths if is_settled(path, spec.data.settle)]


def arriving(root: Path, spec: ModelSpec, known: Container[str] = ()) -> list[str]:
    """Batches and label files that do not count yet, because they may still be written; relative to the root."""
    batches, labels = find(root, spec.data.batches), find(root, spec.data.labels) if spec.data.labels else []
    waiting = [path for path in batches if path.stem not in known] + labels
    return [path.relative_to(root).as_posix() for path in waiting if not is_settled(path, spec.data.settle)]


def label_digest(files: Iterable[Path]) -> str:
    """Changes whenever a label file arrives or changes."""
    lines = "".join(f"{path.name}\0{fingerprint(path)}\n" for path in files)
    return hashlib.sha256(lines.encode()).hexdigest()


def fingerprint(path: Path) -> str:
    """sha256 of a file's bytes; for a folder, of its sorted (name, sha256) pairs. Raises UnavailableData."""
    try:
        if path.is_dir():
            lines = "".join(f"{file.name}\0{fingerprint(file)}\n" for file in parts(path))
            return hashlib.sha256(lines.encode()).hexdigest()
        stat = path.stat()
        return _file_digest(path, stat.st_ino, stat.st_size, stat.st_mtime_ns, stat.st_ctime_ns)
    except OSError as error:
        if not is_unavailable(error):
            raise
        raise UnavailableData(str(path), str(error.strerror)) from error


def is_unchanged(root: Path, batch: Batch) -> bool:
    """Whether a batch is still there, with the bytes that it had."""
    path = root / batch.path
    return path.exists() and fingerprint(path) == batch.sha256


@lru_cache(maxsize=4096)
def _file_digest(path: Path, inode: int, size: int, modified_ns: int, changed_ns: int) -> str:
    """One run asks for a file's digest several times; it is read again when the file system says that it changed."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def parts(folder: Path) -> list[Path]:
    """The data files of a batch that is a folder, in name order."""
    return sorted(file for file in folder.iterdir() if file.suffix in SUFFIXES and not file.name.startswith((".", "_")))


@contextlib.contextmanager
def appearing(output: Path) -> Iterator[Path]:
    """A path to write to; what was written appears as `output` when the block ends, whole, or not at all.

    Raises AlreadyExists when something of that name is there by then, StoreError when it cannot be written.
    """
    temporary = output.with_name(f".{output.name}.{uuid.uuid4().hex}")
    try:
        output.parent.mkdir(parents=True, exist_ok=True)
        yield temporary
        os.link(temporary, output)
    except FileExistsError:
        if not output.exists():
            raise StoreError(f"Could not write {output}: {output.parent} is not a folder.") from None
        raise AlreadyExists(f"{output} is there already. Choose another name; nothing is overwritten.") from None
    except OSError as error:
        raise StoreError(f"Could not write {output}: {error.strerror or error}.") from error
    finally:
        with contextlib.suppress(FileNotFoundError, NotADirectoryError):
            temporary.unlink()
