"""A disk that is full, and one that may only be read: the error says so, and the version in service still loads."""

from __future__ import annotations

import pickle
import shutil
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from tasks.core import overrides
from tasks.core.errors import StoreError
from tasks.core.ledger.lease import Lease
from tasks.core.ledger.ledger import Ledger
from tasks.core.store import Store
from tasks.core.versions import registry
from tasks.core.versions.manifest import Candidate
from tasks.core.versions.registry import Registry
from tasks.core.workspace import Workspace
from tests.faults.deeds import CANDIDATE, MODEL, answers_of

FILES = [
    "claim.json", "pipeline.joblib", "contract.json", "reference.parquet", "probe.parquet", "calibration.json",
    "evaluation.json", "manifest.json",
]  # fmt: skip
PAGE = 4096
SIZE = 8 * 2**20


class Disk:
    """A small file system in memory, with a root whose store has v1 and v2; v2 is in service."""

    def __init__(self, folder: Path):
        self.folder, self.artifacts = folder, folder / "artifacts"
        self._ballast = folder / "ballast"

    def mount(self, options: str) -> None:
        command = ["mount", "-t", "tmpfs", "-o", options, "tmpfs", str(self.folder)]
        subprocess.run(command, check=True, capture_output=True, timeout=10)

    def fill(self, *, but: int) -> None:
        """Take all space but so many pages."""
        with self._ballast.open("wb", buffering=0) as file:
            try:
                while True:
                    file.write(bytes(PAGE))
            except OSError:
                pass
            file.truncate(file.tell() - but * PAGE)
        assert shutil.disk_usage(self.folder).free == but * PAGE

    def free(self) -> None:
        self._ballast.unlink()

    def registry(self) -> Registry:
        """As a new process opens it."""
        registry._LOADED.clear()
        return Registry(Store(self.artifacts))

    def ledger(self) -> Ledger:
        return self.registry().ledger(MODEL)

    def files(self) -> list[str]:
        return sorted(
            path.relative_to(self.artifacts).as_posix() for path in self.artifacts.rglob("*") if path.is_file()
        )


@pytest.fixture
def disk(roots: Path, tmp_path: Path) -> Iterator[Disk]:
    made = Disk(tmp_path / "disk")
    made.folder.mkdir()
    try:
        made.mount(f"size={SIZE}")
    except (OSError, subprocess.CalledProcessError) as error:
        pytest.skip(f"a small file system cannot be mounted here: {error}")
    try:
        shutil.copytree(roots / "grown" / "deployments", made.folder / "deployments")
        shutil.copytree(
            roots / "grown" / "artifacts",
            made.artifacts,
            ignore=shutil.ignore_patterns("drift.html", "performance.html"),
        )
        yield made
    finally:
        subprocess.run(["umount", "--lazy", str(made.folder)], check=True, timeout=10)
        registry._LOADED.clear()


@pytest.fixture
def candidate(roots: Path) -> Candidate:
    made: Candidate = pickle.loads((roots / "empty" / CANDIDATE).read_bytes())
    return made


def pages_before(folder: Path, name: str) -> int:
    """Pages that the files of a version take which are written before this one."""
    sizes = [(folder / other).stat().st_size for other in FILES[: FILES.index(name)]]
    return sum(-(-size // PAGE) for size in sizes)


@pytest.mark.parametrize("name", FILES)
def test_a_disk_that_is_full_at_any_file(disk: Disk, candidate: Candidate, name: str) -> None:
    """Whichever file of a version no longer fits, the error names it and the disk; v2 loads; with space it succeeds."""
    before = answers_of(disk.registry().load_current(MODEL))
    measure, _ = disk.registry().register(MODEL, "measure", candidate)
    disk.fill(but=pages_before(disk.artifacts / MODEL / f"versions/{measure:08d}", name))
    with pytest.raises(StoreError, match=rf"Could not create .*/00000004/{name}: the disk is full\. Free some space"):
        disk.registry().register(MODEL, "key", candidate)
    assert disk.registry().versions(MODEL) == [1, 2, measure]
    assert answers_of(disk.registry().load_current(MODEL)) == before
    assert left_behind(disk, "versions/00000004") == FILES[: FILES.index(name)]

    disk.free()
    version, _ = disk.registry().register(MODEL, "key", candidate)
    assert disk.registry().load(MODEL, version).version == version
    assert disk.registry().versions(MODEL) == [1, 2, measure, version]


def left_behind(disk: Disk, folder: str) -> list[str]:
    """Names of the files there, in the order they are written; a leftover of the store itself comes last."""
    names = [Path(path).name for path in disk.files() if path.startswith(f"{MODEL}/{folder}/")]
    return sorted(names, key=lambda name: FILES.index(name) if name in FILES else len(FILES))


APPENDS: dict[str, Callable[[Workspace], Any]] = {
    "promote": lambda workspace: overrides.promote(workspace, 1, reason="a test", actor="ann"),
    "start a run": lambda workspace: Lease(workspace.ledger, run="r", key="k", actor="ann", reason="").__enter__(),
}


@pytest.mark.parametrize("append", APPENDS.values(), ids=APPENDS)
def test_a_disk_that_is_full_at_an_entry(disk: Disk, append: Callable[[Workspace], Any]) -> None:
    """An entry of the history that does not fit is not there in part: the history reads as before, and goes on."""
    workspace, head = Workspace.open(disk.folder, MODEL), disk.ledger().head()
    files = disk.files()
    disk.fill(but=0)
    with pytest.raises(StoreError, match=rf"ledger/{head.seq + 1:08d}\.json: the disk is full\. Free some space"):
        append(workspace)
    assert disk.ledger().head() == head
    assert disk.files() == files
    assert disk.registry().load_current(MODEL).version == 2

    disk.free()
    append(workspace)
    assert disk.ledger().head().seq == head.seq + 1
    disk.ledger().events()


def test_a_run_on_a_full_disk_is_told(disk: Disk) -> None:
    """A run for which the disk is too small ends with that error, not with the one of giving back its lease."""
    lease = Lease(Workspace.open(disk.folder, MODEL).ledger, run="r", key="k", actor="ann", reason="")
    with pytest.raises(StoreError, match=r"versions/x/pipeline\.joblib: the disk is full"), lease:
        disk.fill(but=0)
        disk.registry().store.create(f"{MODEL}/versions/x/pipeline.joblib", b"too much")
    disk.free()
    disk.ledger().events()


def test_a_store_that_may_only_be_read(disk: Disk, candidate: Candidate) -> None:
    """On a read-only file system versions load and answer; whatever would write says why it does not."""
    before, files = answers_of(disk.registry().load_current(MODEL)), disk.files()
    disk.mount("remount,ro")
    assert answers_of(disk.registry().load_current(MODEL)) == before
    assert len(disk.ledger().events()) == disk.ledger().head().seq
    read_only = "the file system is read-only. Point the store at a writable one"
    with pytest.raises(StoreError, match=read_only):
        disk.registry().register(MODEL, "key", candidate)
    for append in APPENDS.values():
        with pytest.raises(StoreError, match=read_only):
            append(Workspace.open(disk.folder, MODEL))
    assert disk.files() == files
