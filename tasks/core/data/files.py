"""Batches and labels as files on disk: find and fingerprint them. Light: `ror status` needs no more."""

from __future__ import annotations

import contextlib
import hashlib
import os
import re
import time
import uuid
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from functools import lru_cache
from pathlib import Path
from types import MappingProxyType
from typing import TYPE_CHECKING, Any

from tasks.core import text
from tasks.core.errors import (
    NO_LINKS,
    AlreadyExists,
    SpecError,
    StoreError,
    UnavailableData,
    is_unavailable,
)
from tasks.core.types import Batch, BatchRecord

if TYPE_CHECKING:
    from tasks.core.spec import ModelSpec

FIRST = (".parquet", ".pq", ".csv")
"""Endings that every release has read. A file with a later one never takes the place of one of these."""
SUFFIXES = (*FIRST, ".parq", ".tsv")
"""Endings of files that are read, in capitals or not."""


def ending(path: Path) -> str:
    """What a file's name ends in, in small letters: it says how the file is read."""
    return path.suffix.lower()


def is_text_file(path: Path) -> bool:
    """Whether a file's name says that it is text, of values with separators."""
    return ending(path) in (".csv", ".tsv")


def is_hidden(path: Path) -> bool:
    """Whether a file or folder is not looked at on purpose: its name begins with '.' or '_'."""
    return path.name.startswith((".", "_"))


def is_data(path: Path) -> bool:
    """Whether a file is read, by its name: not a hidden one, nor one with another ending."""
    return ending(path) in SUFFIXES and not is_hidden(path)


# --- what a batch is called, and which one is earlier: everything else asks these functions -------------------


def batch_name(path: Path) -> str:
    """What the batch in a file or folder is called: its name without the ending of a data file, if it has one.

    The folder `2026.01` is called that; `2026-01.parquet`, as Spark calls its folders, is `2026-01`.
    """
    return path.stem if ending(path) in SUFFIXES else path.name


Known = Mapping[str, BatchRecord]
"""The batches that were decided on, by name, in the order of the decisions."""
NONE: Known = MappingProxyType({})


def named_batches(paths: Sequence[Path], known: Known = NONE) -> list[tuple[str, Path]]:
    """These batches, each with its name: one that was decided on keeps the name that it had then.

    Earlier releases cut folders' names at the last dot: a folder that was decided on so keeps that name. A file whose
    bytes are known under a name that no file has any more was renamed; where some file has it, it is a second delivery.
    """
    found = [(batch_name(path), path) for path in paths]
    taken = {name for name, _ in found}
    for place, (name, path) in enumerate(found):
        if name != path.stem and name not in known and path.stem in known and path.stem not in taken:
            found[place] = path.stem, path
            taken.add(path.stem)
    gone = [name for name in known if name not in taken]
    for place, (name, path) in enumerate(found) if gone else ():
        if name in known:
            continue
        with contextlib.suppress(UnavailableData, OSError):  # who needs its bytes is told, not who asks for its name
            sha256 = fingerprint(path)
            if before := next((name for name in gone if known[name].sha256 == sha256), None):
                found[place] = before, path
                gone.remove(before)
    return found


def renamed(batch: Batch) -> str | None:
    """What the file of a batch is called now, where that is not how it was decided on; else None."""
    path = Path(batch.path)
    return None if batch.id in (batch_name(path), path.stem) else path.name


Order = Callable[[str], Any]
"""A key that sorts names of batches and label files in time order: of two, the one with the larger key came later."""


def natural_order(name: str) -> tuple[tuple[str | int, ...], str]:
    """Numbers within a name count as numbers: 2026-9 is before 2026-10."""
    pieces = re.split(r"([0-9]+)", name)
    return tuple(int(piece) if place % 2 else piece for place, piece in enumerate(pieces)), name


def text_order(name: str) -> str:
    """As earlier releases sorted all names: 2026-10 is before 2026-9."""
    return name


def in_order(names: Iterable[str], order: Order = natural_order) -> list[str]:
    """These names, in time order."""
    return sorted(names, key=order)


def doubled(paths: Sequence[Path], known: Known = NONE) -> list[str]:
    """Names that more than one of these batches has, in time order, each with its files and what to do."""
    named = named_batches(paths, known)
    twice = in_order(name for name, count in Counter(name for name, _ in named).items() if count > 1)
    return [_doubled(name, [path for other, path in named if other == name]) for name in twice]


def _doubled(name: str, paths: Sequence[Path]) -> str:
    """Whether they hold the same rows only a person can say, unless their bytes are the same."""
    shown = [f"{path.parent.name}/{path.name}" for path in paths]
    found = f"{text.named(shown)} are both batch {name!r}"
    if len({fingerprint(path) for path in paths}) == 1:
        return f"{found}, with the same bytes: move all but one out of the folder"
    return f"{found}: if they hold the same rows, move all but one out of the folder; if not, rename one"


# --- finding files -------------------------------------------------------------------------------------------


def find(root: Path, pattern: str, order: Order = natural_order) -> list[Path]:
    """Data files or folders that match a glob below `root`, in time order; no hidden files, no other endings, and no
    file that is beside one of its name with an ending of FIRST."""
    found = [path for path in root.glob(pattern) if _may_be_batch(path)]
    first = {path.parent / batch_name(path) for path in found if _goes_first(path)}
    counts = [path for path in found if _goes_first(path) or path.parent / batch_name(path) not in first]
    return sorted(counts, key=lambda path: (order(batch_name(path)), path.name, path))


def _goes_first(path: Path) -> bool:
    return path.suffix in FIRST or path.is_dir()


def _may_be_batch(path: Path) -> bool:
    return is_data(path) or (path.is_dir() and not is_hidden(path))


def is_settled(path: Path, settle: float | str) -> bool:
    """Whether a file or folder is complete, as `data.settle` says how to tell.

    By its marker: `_SUCCESS` in a folder, `<name>.done` beside a file. Or by its age: neither it nor anything in it
    was changed within `settle` seconds of now, before or after, so that a clock may be a little off.
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


def batch_names(
    root: Path, spec: ModelSpec, known: Known = NONE, order: Order = natural_order
) -> list[tuple[str, Path]]:
    """The batches that count, each with its name, in time order: those that have settled, and those `known` by name, as
    decided on earlier. No file is read."""
    named = named_batches(find(root, spec.data.batches, order), known)
    counting = [(name, path) for name, path in named if name in known or is_settled(path, spec.data.settle)]
    return sorted(counting, key=lambda item: order(item[0]))  # a file that was renamed keeps its place


def find_batches(root: Path, spec: ModelSpec, known: Known = NONE, order: Order = natural_order) -> list[Batch]:
    """The batches that count, fingerprinted. Raises SpecError when two would have one name."""
    found = batch_names(root, spec, known, order)
    if twice := doubled([path for _, path in found], known):
        raise SpecError(spec.data.batches, twice)
    return [batch_at(root, path, name) for name, path in found]


def batch_at(root: Path, path: Path, name: str | None = None) -> Batch:
    """The batch in a file or folder below the root, fingerprinted; called as its path says unless a name is given.
    Raises UnavailableData."""
    return Batch(name or batch_name(path), path.relative_to(root).as_posix(), fingerprint(path))


def delivered(root: Path, spec: ModelSpec, known: Known = NONE) -> dict[str, Path]:
    """Where each batch on disk is, by name, whether it counts yet or not; `known` are names that were decided on."""
    return dict(named_batches(find(root, spec.data.batches), known))


def label_files(root: Path, spec: ModelSpec, order: Order = natural_order) -> list[Path]:
    """Settled files that labels arrive in, oldest first by name; none when they come with the batch."""
    paths = find(root, spec.data.labels, order) if spec.data.labels else []
    return [path for path in paths if is_settled(path, spec.data.settle)]


def arriving(root: Path, spec: ModelSpec, known: Known = NONE) -> list[str]:
    """Batches and label files that do not count yet, because they may still be written; relative to the root."""
    batches, labels = find(root, spec.data.batches), find(root, spec.data.labels) if spec.data.labels else []
    waiting = [path for name, path in named_batches(batches, known) if name not in known] + labels
    return [path.relative_to(root).as_posix() for path in waiting if not is_settled(path, spec.data.settle)]


def label_digest(files: Iterable[Path]) -> str:
    """Changes whenever a label file arrives or changes."""
    return _digest_of(map(_line, files))


def _line(path: Path) -> str:
    return f"{path.name}\0{fingerprint(path)}\n"


def _digest_of(lines: Iterable[str]) -> str:
    return hashlib.sha256("".join(lines).encode()).hexdigest()


def seen_files(files: Sequence[Path], digest: str | None) -> list[Path] | None:
    """Those of these label files that have this digest together: the first ones, as they should, or all but one. None
    where neither has it."""
    if digest is None:
        return None
    lines = [*map(_line, files)]
    for count in range(len(files), 0, -1):
        if _digest_of(lines[:count]) == digest:
            return list(files[:count])
    for place in range(len(files)):
        if _digest_of(lines[:place] + lines[place + 1 :]) == digest:
            return [*files[:place], *files[place + 1 :]]
    return None


def fingerprint(path: Path) -> str:
    """sha256 of a file's bytes; for a folder, of its sorted (name, sha256) pairs. Raises UnavailableData."""
    try:
        if path.is_dir():
            return label_digest(parts(path))
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
    """The data files of a batch that is a folder, in name order: those with an ending of FIRST, else the others."""
    found = sorted(filter(is_data, folder.iterdir()))
    return [file for file in found if file.suffix in FIRST] or found


# --- writing files -------------------------------------------------------------------------------------------


def hidden_beside(path: Path) -> Path:
    """A new name in the same folder, with the same ending, that no batch or label file has."""
    return path.with_name(f".{path.stem}.{uuid.uuid4().hex}{path.suffix}")


def appear(temporary: Path, output: Path) -> None:
    """Give a file its name, whole, unless that is taken. Raises FileExistsError then, and OSError.

    Where the file system has no hard links an empty file takes the name first, for as long as the next call takes.
    """
    try:
        os.link(temporary, output)
    except OSError as error:
        if error.errno not in NO_LINKS:
            raise
        output.open("xb").close()
        temporary.replace(output)


def lacks_links(folder: Path) -> bool:
    """Whether the file system of a folder that can be written to has no hard links."""
    probe, linked = (folder / f".links-{uuid.uuid4().hex}" for _ in range(2))
    try:
        probe.touch()
        os.link(probe, linked)
    except OSError as error:
        return error.errno in NO_LINKS
    finally:
        for path in (probe, linked):
            path.unlink(missing_ok=True)
    return False


@contextlib.contextmanager
def atomic_write(output: Path, *, replace: bool = False) -> Iterator[Path]:
    """A path to write to; what was written appears as `output` when the block ends, whole, or not at all.

    `replace` is for what may be made again at any time, such as a picture. Without it, raises AlreadyExists when
    something of that name is there by then. Raises StoreError when it cannot be written.
    """
    temporary = hidden_beside(output)
    try:
        output.parent.mkdir(parents=True, exist_ok=True)
        yield temporary
        if replace:
            temporary.replace(output)
        else:
            appear(temporary, output)
    except FileExistsError:
        if not output.exists():
            raise StoreError(f"Could not write {output}: {output.parent} is not a folder.") from None
        raise AlreadyExists(f"{output} is there already. Choose another name; nothing is overwritten.") from None
    except OSError as error:
        raise StoreError(f"Could not write {output}: {error.strerror or error}.") from error
    finally:
        with contextlib.suppress(FileNotFoundError, NotADirectoryError):
            temporary.unlink()
