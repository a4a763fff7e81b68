"""The write-once store, over a local folder and in memory."""

from __future__ import annotations

import hashlib
import os
import select
import subprocess
import tempfile
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from tasks.core.errors import AlreadyExists, NotFound, StoreError
from tasks.core.store import ObjectInfo, Store

Mount = Callable[[str], None]


@pytest.fixture
def disk(tmp_path: Path) -> Iterator[tuple[Path, Mount]]:
    """A file system of 256 KB of its own, and a function that mounts it again with other options."""
    folder = tmp_path / "disk"
    folder.mkdir()

    def mount(options: str) -> None:
        subprocess.run(
            ["mount", "-t", "tmpfs", "-o", options, "tmpfs", str(folder)], check=True, capture_output=True, timeout=10
        )

    try:
        mount("size=256k")
    except (OSError, subprocess.CalledProcessError) as error:
        pytest.skip(f"a small file system cannot be mounted here: {error}")
    yield folder, mount
    subprocess.run(["umount", "--lazy", str(folder)], check=True, timeout=10)


@pytest.fixture
def someone_else() -> Iterator[Path]:
    """A folder that this process may read and not write, for as long as the test runs."""
    if os.geteuid() != 0:
        pytest.skip("only root can give a folder to somebody else")
    with tempfile.TemporaryDirectory() as folder:
        Path(folder).chmod(0o755)
        os.seteuid(65534)
        try:
            yield Path(folder)
        finally:
            os.seteuid(0)


def test_read_gives_back_what_was_created(store: Store) -> None:
    """An object holds exactly the bytes it was created with."""
    store.create("loans/a.bin", b"\0\xff one")
    store.create("loans/empty.bin", b"", durable=True)
    assert store.read("loans/a.bin") == b"\0\xff one"
    assert store.read("loans/empty.bin") == b""
    assert store.exists("loans/a.bin")
    assert not store.exists("loans/b.bin")


@pytest.mark.parametrize("durable", [False, True])
def test_never_overwrites(store: Store, durable: bool) -> None:
    """A path that is taken is refused, and what it holds stays as it was."""
    store.create("loans/a.json", b"first", durable=durable)
    with pytest.raises(AlreadyExists, match=r"loans/a\.json exists already and is never overwritten"):
        store.create("loans/a.json", b"second", durable=durable)
    assert store.read("loans/a.json") == b"first"


def test_of_eight_writers_one_wins(store: Store) -> None:
    """When several threads create one object at the same moment, exactly one succeeds and its bytes stay."""
    together = threading.Barrier(8)

    def create(number: int) -> int | None:
        together.wait(timeout=10)
        try:
            store.create("race.json", str(number).encode() * 1000)
        except AlreadyExists:
            return None
        return number

    with ThreadPoolExecutor(8) as threads:
        winners = [number for number in threads.map(create, range(8)) if number is not None]
    assert len(winners) == 1
    assert store.read("race.json") == str(winners[0]).encode() * 1000


@pytest.mark.parametrize("path", ["../outside.json", "loans/../../outside.json"])
def test_paths_cannot_leave_the_root(store: Store, path: str, tmp_path: Path) -> None:
    """A path with `..` is refused, for writing and for reading."""
    (tmp_path / "outside.json").write_text("secret")
    with pytest.raises(StoreError):
        store.create(path, b"x")
    with pytest.raises(StoreError):
        store.read(path)
    assert (tmp_path / "outside.json").read_text() == "secret"


def test_an_absolute_path_is_none_of_the_store(tmp_path: Path) -> None:
    """What the history names as an object is read below the root, or not at all."""
    (tmp_path / "outside.json").write_text("secret")
    store = Store(tmp_path / "store")
    for act in (store.read, store.exists, store.fingerprint):
        with pytest.raises(StoreError):
            assert not act(str(tmp_path / "outside.json"))
            raise StoreError("it is not there")


def test_a_missing_object_is_named(store: Store) -> None:
    """Reading what is not there raises NotFound with the whole path, and no library's own words."""
    with pytest.raises(NotFound) as caught:
        store.read("loans/versions/00000007/manifest.json")
    assert str(caught.value) == f"{store.location.rstrip('/')}/loans/versions/00000007/manifest.json does not exist."


def test_listing_is_sorted_and_by_folder(store: Store) -> None:
    """A listing is sorted, gives sizes, and takes its prefix as a folder, not as the beginning of a name."""
    for path in ("loans/b.json", "loans/a/deep.json", "loans2/c.json"):
        store.create(path, b"12345")
    assert store.objects("loans") == [ObjectInfo("loans/a/deep.json", 5), ObjectInfo("loans/b.json", 5)]
    assert store.folders("") == ["loans", "loans2"]
    assert store.folders("loans") == ["a"]
    assert store.objects("nothing") == store.folders("nothing") == store.files("nothing") == []
    before = datetime.now(UTC) - timedelta(seconds=60)
    ((path, made),) = store.files("loans")
    assert path == "loans/b.json"
    assert before < made < before + timedelta(seconds=120)


def test_a_file_in_place_of_a_folder(tmp_path: Path) -> None:
    """Where a folder is needed and a file stands, the error says what could not be created, on one screen."""
    (tmp_path / "loans").write_text("I am a file")
    with pytest.raises(StoreError) as caught:
        Store(tmp_path).create("loans/a.json", b"x")
    assert not isinstance(caught.value, NotFound)
    assert str(caught.value).startswith(f"Could not create {tmp_path}/loans/a.json: ")
    assert "Debug source" not in str(caught.value)
    with pytest.raises(StoreError, match="Could not list"):
        Store(tmp_path / "loans").folders("")
    with pytest.raises(StoreError, match="Could not create"):
        Store(tmp_path / "loans").create("a.json", b"x")


def test_a_full_disk_leaves_nothing(disk: tuple[Path, Mount]) -> None:
    """On a full disk the error says so, and the object is not there, not even in part."""
    store = Store(disk[0])
    with pytest.raises(StoreError, match="disk is full"):
        store.create("big.bin", bytes(1_000_000))
    assert not store.exists("big.bin")
    store.create("small.bin", b"x")
    assert store.objects("") == [ObjectInfo("small.bin", 1)]


def test_a_read_only_disk_is_named(disk: tuple[Path, Mount]) -> None:
    """On a read-only file system reading works and writing says why it does not."""
    folder, mount = disk
    store = Store(folder)
    store.create("a.json", b"x")
    mount("remount,ro")
    with pytest.raises(StoreError, match="file system is read-only"):
        store.create("b.json", b"x")
    assert store.read("a.json") == b"x"


def test_a_folder_of_somebody_else(someone_else: Path) -> None:
    """In a folder that may not be written, the error speaks of permission."""
    with pytest.raises(StoreError, match="permission denied"):
        Store(someone_else).create("a.json", b"x")


@pytest.mark.parametrize("act", ["read", "create"])
def test_a_forked_process(store: Store, act: str) -> None:
    """After a fork a folder can still be read, as a server's workers need it; all else raises an error at once, where
    the library below would wait for ever."""
    store.create("a.json", b"x")
    read, write = os.pipe()
    child = os.fork()
    if child == 0:
        try:
            if act == "create":
                store.create("b.json", b"y")
            found = (store.read("a.json"), store.exists("a.json"), store.exists("b.json"))
            answer = "read" if found == (b"x", True, False) else str(found)
        except StoreError as error:
            answer = str(error)
        except BaseException as error:  # noqa: BLE001 - the child must never return into the test run
            answer = repr(error)
        os.write(write, answer.encode())
        os._exit(0)
    ready, _, _ = select.select([read], [], [], 10)
    answer = os.read(read, 1000).decode() if ready else "it hangs"
    if not ready:
        os.kill(child, 9)
    os.waitpid(child, 0)
    os.close(read)
    os.close(write)
    if act == "read" and store.folder is not None:
        assert answer == "read"
    else:
        assert "before the process was forked" in answer


def test_where_folders_cannot_be_synced(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """As on Windows: no folder is opened to be synced, and a file is opened to be written, or it could not be."""
    monkeypatch.setattr("tasks.core.store.SYNCS_FOLDERS", False)
    synced, fsync = [], os.fsync

    def note(descriptor: int) -> None:
        synced.append(str(Path(f"/proc/self/fd/{descriptor}").readlink()))
        os.write(descriptor, b"")  # raises where it is not open to be written
        fsync(descriptor)

    monkeypatch.setattr(os, "fsync", note)
    store = Store(tmp_path)
    store.create("loans/a.json", b"one", durable=True)
    store.remove("loans/a.json")
    assert synced == [str(tmp_path / "loans/a.json")]


# --- removal, on record ---------------------------------------------------------------------------------------


def test_remove_is_for_good_and_idempotent(store: Store) -> None:
    """A removed object is gone, one that is gone already is fine, its neighbours stay, and its name is free."""
    store.create("loans/a.bin", b"one")
    store.create("loans/b.bin", b"two")
    store.remove("loans/a.bin")
    store.remove("loans/a.bin")
    store.remove("nowhere/at/all.bin")
    assert store.objects("") == [ObjectInfo("loans/b.bin", 3)]
    with pytest.raises(NotFound):
        store.read("loans/a.bin")
    store.create("loans/a.bin", b"again")


def test_remove_cannot_leave_the_root(tmp_path: Path) -> None:
    """A path with `..` is refused for removing, too."""
    (tmp_path / "outside.json").write_text("secret")
    with pytest.raises(StoreError):
        Store(tmp_path / "store").remove("../outside.json")
    assert (tmp_path / "outside.json").exists()


def test_what_cannot_be_removed_is_named(disk: tuple[Path, Mount]) -> None:
    """On a read-only file system the error says so, and the object stays."""
    folder, mount = disk
    store = Store(folder)
    store.create("a.json", b"x")
    mount("remount,ro")
    with pytest.raises(StoreError, match=r"Could not remove .*/a\.json: the file system is read-only"):
        store.remove("a.json")
    assert store.read("a.json") == b"x"


def test_a_fingerprint_is_that_of_the_bytes(store: Store) -> None:
    """An object's digest and size, read in pieces, are those of its bytes; a missing object is named."""
    data = bytes(range(256)) * 40_000
    store.create("loans/a.bin", data)
    store.create("loans/empty.bin", b"")
    assert store.fingerprint("loans/a.bin") == (hashlib.sha256(data).hexdigest(), len(data))
    assert store.fingerprint("loans/empty.bin") == (hashlib.sha256(b"").hexdigest(), 0)
    with pytest.raises(NotFound, match=r"loans/b\.bin does not exist"):
        store.fingerprint("loans/b.bin")


def test_moving_aside_loses_nothing(store: Store) -> None:
    """An object gets another name, also when that was done by half before; another object of that name is refused."""
    for path in ("torn.json", "half.json", "half-aside.json"):
        store.create(path, b"{")
    store.create("taken.json", b"[")
    store.move_aside("torn.json", "aside.json")
    store.move_aside("half.json", "half-aside.json")
    assert not store.exists("torn.json") and not store.exists("half.json")
    assert store.read("aside.json") == store.read("half-aside.json") == b"{"
    with pytest.raises(StoreError, match="was changed while it was moved aside"):
        store.move_aside("aside.json", "taken.json")
    assert (store.read("aside.json"), store.read("taken.json")) == (b"{", b"[")


def test_looking_makes_nothing(tmp_path: Path) -> None:
    """Who looks into a folder that is not there, finds nothing there, and it is not there afterwards."""
    store = Store(tmp_path / "wrong")
    assert (store.objects(""), store.folders("loans"), store.exists("a.json")) == ([], [], False)
    with pytest.raises(NotFound):
        store.read("a.json")
    assert not (tmp_path / "wrong").exists()
    store.create("a.json", b"x")
    assert store.read("a.json") == b"x"
