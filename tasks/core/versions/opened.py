"""Files that a pipeline opens: word lists, rates, parameters that lie beside its code or elsewhere below the root.

Python's own `open` is seen, in this thread. What other libraries read by themselves, as Arrow does, and what other
processes read is not.
"""

from __future__ import annotations

import hashlib
import os
import sys
import threading
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from functools import cache
from pathlib import Path
from typing import Any

CODE = (".py", ".pyc")
"""Of modules: those are kept as text."""
KEPT_BYTES = 10_000_000
"""Of all files together that are kept with a version. Of what is larger only the digest is."""


class _Here(threading.local):
    """What this thread notes."""

    paths: set[str] | None = None
    at_work: bool = False


_HERE = _Here()


@cache
def _install() -> None:
    sys.addaudithook(_hook)  # there is no way to remove one: once per process


def _hook(event: str, args: tuple[Any, ...]) -> None:
    if event == "open" and _HERE.at_work and _HERE.paths is not None:
        path, mode, flags = args
        reads = "r" in mode if isinstance(mode, str) else not (flags or 0) & (os.O_WRONLY | os.O_CREAT)
        if reads and isinstance(path, str | bytes | os.PathLike):
            _HERE.paths.add(os.path.abspath(os.fsdecode(path)))  # noqa: PTH100 - resolves no link, opens nothing


@contextmanager
def noted() -> Iterator[set[str]]:
    """Paths that were opened for reading by this thread `by_pipeline` are added to the set."""
    _install()
    before, _HERE.paths = _HERE.paths, set()
    try:
        yield _HERE.paths
    finally:
        _HERE.paths = before


@contextmanager
def by_pipeline() -> Iterator[None]:
    """What is opened now is opened by a pipeline or its factory, not by this program."""
    before, _HERE.at_work = _HERE.at_work, True
    try:
        yield
    finally:
        _HERE.at_work = before


def beside(paths: Iterable[str], code: Sequence[Path]) -> dict[str, Path]:
    """Those files that lie in folders of code, by their path below it."""
    return _below(paths, [*code, *(folder.resolve() for folder in code)])


def below(paths: Iterable[str], root: Path, data: Collection[Path]) -> dict[str, Path]:
    """Those files that lie below the root, by their path below it: not `data`, which are known by themselves, and not
    what is installed there."""
    known = {str(path) for path in (*data, sys.prefix, sys.base_prefix)}
    found = _below(paths, [root, root.resolve()])
    return {name: path for name, path in found.items() if known.isdisjoint(map(str, (path, *path.parents)))}


def _below(paths: Iterable[str], folders: Sequence[Path]) -> dict[str, Path]:
    found = {}
    for path in map(Path, sorted(paths)):
        folder = next((folder for folder in folders if path.is_relative_to(folder)), None)
        if folder is not None and path.suffix not in CODE and path.is_file():
            found[path.relative_to(folder).as_posix()] = path
    return found


def file_here(name: str, code: Sequence[Path]) -> Path | None:
    """The file of that path below a folder of code, or of Python's path; None where there is none."""
    folders = (*code, *map(Path, sys.path))
    return next((folder / name for folder in folders if (folder / name).is_file()), None)


def digests_of(files: Mapping[str, Path]) -> dict[str, str]:
    """sha256 of each file."""
    found = {}
    for name, path in files.items():
        with path.open("rb") as file:
            found[name] = hashlib.file_digest(file, "sha256").hexdigest()
    return found


def changed(digests: Mapping[str, str], code: Sequence[Path]) -> dict[str, str | None]:
    """The digest here of those files beside the code that are not what they were; None where there is none."""
    paths = {name: file_here(name, code) for name in digests}
    here = digests_of({name: path for name, path in paths.items() if path})
    return {name: here.get(name) for name in digests if here.get(name) != digests[name]}


def kept(files: Mapping[str, Path]) -> dict[str, bytes]:
    """Bytes of the files, the smallest first, as long as all together are at most KEPT_BYTES."""
    found, left = dict[str, bytes](), KEPT_BYTES
    for name, path in sorted(files.items(), key=lambda item: (item[1].stat().st_size, item[0])):
        left -= path.stat().st_size
        if left < 0:
            break
        found[name] = path.read_bytes()
    return dict(sorted(found.items()))
