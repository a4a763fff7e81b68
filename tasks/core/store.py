"""The write-once object store: create, read, list. Nothing here can replace an object; one repair moves it aside, and
nothing is ever removed but on record: `remove` is for what a ledger event has named.

The one write primitive is *create if absent*, which `obstore` offers with the same guarantee on a local folder,
S3, GCS, Azure and in memory; so there are no lock files and there is no second protocol per back end.
"""

from __future__ import annotations

import contextlib
import hashlib
import os
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING

import obstore
from obstore.exceptions import AlreadyExistsError, BaseError, NotFoundError
from obstore.store import LocalStore, MemoryStore, ObjectStore, from_url

from tasks.core.errors import NEEDS_LINKS, NO_LINKS, AlreadyExists, NotFound, StoreError

if TYPE_CHECKING:
    from obstore.store import RetryConfig

MEMORY = "memory://"

RETRIES: RetryConfig = {
    "max_retries": 8,
    "retry_timeout": timedelta(seconds=90),
    "backoff": {"init_backoff": timedelta(milliseconds=200), "max_backoff": timedelta(seconds=15), "base": 2},
}
"""What obstore does when an object store answers 5xx or not at all. Its own default is ten times within three minutes;
in a minute and a half a lease, which is renewed every two and a half, does not run out."""


@dataclass(frozen=True, slots=True)
class ObjectInfo:
    """One object: its path below the store's root, and its size in bytes."""

    path: str
    size: int


class Store:
    """Objects under one root, each created once, never changed, and removed on record only.

    `location` is a folder, or a URL that obstore understands (`s3://bucket/prefix`, `memory://`).
    """

    def __init__(self, location: str | Path):
        self.location = str(location)
        self._pid = os.getpid()
        self.folder = None if "://" in self.location else Path(location).resolve()

    @cached_property
    def _backend(self) -> ObjectStore:
        """Opened when it is first needed: a folder appears with its first object, not by looking."""
        if self.folder is not None:
            return LocalStore(self.folder, mkdir=True)
        if self.location == MEMORY:
            return MemoryStore()
        return from_url(self.location, retry_config=RETRIES)

    @property
    def _is_there(self) -> bool:
        return self.folder is None or self.folder.exists()

    def create(self, path: str, data: bytes, *, durable: bool = False) -> None:
        """Create one object, or fail without a trace.

        `durable` survives a power cut: obstore does not fsync on a local folder, so file and folder are synced here.
        Raises AlreadyExists when the path is taken, StoreError when it cannot be written. An object store whose answer
        was lost is asked again, and then says that the path is taken: by these very bytes, which is what was wanted.
        Where it matters who created an object, its bytes must tell.
        """
        with self._translated("create", path):
            try:
                obstore.put(self._backend, path, data, mode="create")
            except AlreadyExistsError:
                remote = self.folder is None and self.location != MEMORY  # the only ones that are asked again
                if not remote or bytes(obstore.get(self._backend, path).bytes()) != data:
                    raise
            if durable and self.folder is not None:
                _fsync(self.folder / path)
                _fsync((self.folder / path).parent)

    def read(self, path: str) -> bytes:
        """All bytes of one object. Raises NotFound or StoreError."""
        with self._translated("read", path):
            if self.folder is not None:
                return self._inside(path).read_bytes()
            return bytes(obstore.get(self._backend, path).bytes())

    def remove(self, path: str) -> None:
        """Remove one object for good; one that is gone already is fine.

        Only removal on record calls it (`tasks.core.removal`), after the event that says what,
        by whom and why. On a local folder it survives a power cut. Raises StoreError when it cannot be removed.
        """
        with contextlib.suppress(NotFound), self._translated("remove", path):
            self._delete(path)

    def fingerprint(self, path: str) -> tuple[str, int]:
        """sha256 and size of one object, read in pieces: it may be larger than the memory there is.

        Raises NotFound or StoreError.
        """
        sha256, size = hashlib.sha256(), 0
        with self._translated("read", path):
            for piece in obstore.get(self._backend, path).stream():
                sha256.update(piece)
                size += len(piece)
        return sha256.hexdigest(), size

    def move_aside(self, path: str, to: str) -> None:
        """Give one object another name, for `ror verify --repair` only. A repair that was killed in between is
        finished by the next one. Raises StoreError when `to` is another object, or `path` changed meanwhile."""
        data = self.read(path)
        with contextlib.suppress(AlreadyExists):
            self.create(to, data, durable=True)
        if self.read(to) != data or self.read(path) != data:
            raise StoreError(f"{self._name(path)} was changed while it was moved aside. Run it again.")
        with self._translated("move", path):
            self._delete(path)

    def _delete(self, path: str) -> None:
        obstore.delete(self._backend, path)
        if self.folder is not None:
            _fsync((self.folder / path).parent)

    def exists(self, path: str) -> bool:
        """Whether there is such an object. Raises StoreError."""
        try:
            with self._translated("read", path):
                if self.folder is not None:
                    return self._inside(path).is_file()
                obstore.head(self._backend, path)
        except NotFound:
            return False
        return True

    def objects(self, prefix: str) -> list[ObjectInfo]:
        """Every object below `prefix` (a folder, not a part of a name), sorted by path."""
        with self._translated("list", prefix):
            found = [
                ObjectInfo(item["path"], item["size"])
                for chunk in (obstore.list(self._backend, prefix) if self._is_there else ())
                for item in chunk
            ]
        return sorted(found, key=lambda item: item.path)

    def files(self, prefix: str) -> list[tuple[str, datetime]]:
        """Paths of the objects directly below `prefix`, sorted, and when each was made. Raises StoreError."""
        with self._translated("list", prefix):
            if self.folder is not None:
                found = [path for path in (self.folder / prefix).glob("*") if path.is_file()]
                times = [datetime.fromtimestamp(path.stat().st_mtime, UTC) for path in found]
                return sorted(zip((path.relative_to(self.folder).as_posix() for path in found), times, strict=True))
            listing = obstore.list_with_delimiter(self._backend, prefix or None)["objects"]
        return sorted((item["path"], item["last_modified"]) for item in listing)

    def folders(self, prefix: str) -> list[str]:
        """Names of the folders directly below `prefix`, sorted."""
        with self._translated("list", prefix):
            if not self._is_there:
                return []
            listing = obstore.list_with_delimiter(self._backend, prefix or None)
        return sorted(path.rsplit("/", 1)[-1] for path in listing["common_prefixes"])

    @contextmanager
    def _translated(self, action: str, path: str) -> Iterator[None]:
        """Map the back end's errors to ours, and refuse to hang: obstore's runtime does not survive a fork."""
        if os.getpid() != self._pid and (self.folder is None or action != "read"):
            raise StoreError(
                f"Could not {action} {self._name(path)}: the store was opened before the process was forked. "
                "Use it in a spawned process, or fork before it is opened."
            )
        try:
            yield
        except AlreadyExistsError:
            raise AlreadyExists(f"{self._name(path)} exists already and is never overwritten.") from None
        except (NotFoundError, FileNotFoundError):
            raise NotFound(f"{self._name(path)} does not exist.") from None
        except (BaseError, OSError, ValueError, TypeError) as error:  # the last two: a path that leaves the root
            raise StoreError(f"Could not {action} {self._name(path)}: {_plain(error)}") from error

    def _inside(self, path: str) -> Path:
        """A file of a store that is a folder. It is read by the file system's own means: with one copy less, and also
        where a server has forked its workers."""
        assert self.folder is not None
        if ".." in Path(path).parts or Path(path).is_absolute():
            raise ValueError("the path leaves the root")
        return self.folder / path

    def _name(self, path: str) -> str:
        return f"{self.location.rstrip('/')}/{path}" if path else self.location


SYNCS_FOLDERS = os.name != "nt"
"""Windows does not: a file's name may be lost in a power cut, which the next look at the history tells."""


def _fsync(path: Path) -> None:
    if not SYNCS_FOLDERS and path.is_dir():
        return
    descriptor = os.open(path, os.O_RDONLY if SYNCS_FOLDERS else os.O_RDWR)  # Windows syncs what is open to write
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def _plain(error: Exception) -> str:
    """The operating system's words, without obstore's debug print of its own structures."""
    text = str(error)
    for code, plain in {
        "os error 28": "the disk is full. Free some space and run it again.",
        "os error 30": "the file system is read-only. Point the store at a writable one.",
        "os error 13": "permission denied. Check who owns the folder.",
        **{f"os error {number})": f"{NEEDS_LINKS}." for number in NO_LINKS},
    }.items():
        if code in text:
            return plain
    return text.split("\n\nDebug source")[0].strip()
