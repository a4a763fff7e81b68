"""What `ror doctor` looks at on this machine and in the store."""

from __future__ import annotations

import os
import subprocess
import threading
import time
from collections.abc import Iterator
from importlib.metadata import version
from pathlib import Path
from uuid import uuid4

import pytest

from tasks.core.doctor import deployment
from tasks.core.doctor.deployment import SKEW, SKEW_MAX, Diagnosis, Level, as_diagnoses, clocks, gather
from tasks.core.errors import SpecError, StoreError
from tasks.core.ledger.keys import new_pair
from tests.helpers.http import Quiet, listening


def levels(findings: Iterator[Diagnosis]) -> dict[str, Level]:
    return {finding.name: finding.level for finding in findings}


def only(findings: Iterator[Diagnosis]) -> Diagnosis:
    (finding,) = findings
    return finding


def test_no_check_takes_anything_away_from_the_others() -> None:
    """One check raises, one hangs, one is well: all are reported, in their order, in the time that was given."""
    released = threading.Event()

    def broken() -> Iterator[Diagnosis]:
        yield Diagnosis("broken", Level.OK, "so far")
        raise ZeroDivisionError("divided")

    def hanging() -> Iterator[Diagnosis]:
        yield Diagnosis("first", Level.OK, "quick")
        released.wait(30)
        yield Diagnosis("second", Level.OK, "too late")

    start = time.monotonic()
    found = gather(
        {"broken": broken, "hanging": hanging, "well": lambda: [Diagnosis("well", Level.OK, "it is")]}, seconds=0.3
    )
    took = time.monotonic() - start
    released.set()
    assert [(item.name, item.level.value) for item in found] == [
        ("broken", "ok"), ("broken", "fail"), ("first", "ok"), ("hanging", "fail"), ("well", "ok"),
    ]  # fmt: skip
    assert found[1].text == "could not be looked at: ZeroDivisionError: divided"
    assert found[3].text == "no answer within 0.3 s"
    assert took < 5


def test_libraries_are_compared_with_what_is_declared() -> None:
    """A library outside its range, and one that is not there, are named with the range and the command; what only an
    extra or another platform needs is left out."""
    numpy = version("numpy")
    good = [f"numpy<{numpy}.1,>=1", "nothing-like-it; extra == 'dev'", "nor-this; sys_platform == 'plan9'"]
    assert only(deployment.libraries(good)).level is Level.OK
    old, missing = deployment.libraries([*good, "pandas<1", "nothing-like-it>=2"])
    assert (old.level, missing.level) == (Level.FAIL, Level.FAIL)
    assert old.text == f"pandas {version('pandas')}; <1 is supported"
    assert missing.text == "nothing-like-it is not installed; >=2 is supported"
    assert missing.remedy == "pip install 'nothing-like-it>=2'"


def test_what_a_system_lacks(monkeypatch: pytest.MonkeyPatch) -> None:
    """Nothing is said where there is all; else all of it is, in one line."""
    assert list(deployment.system()) == []
    monkeypatch.setattr(deployment, "SYNCS_FOLDERS", False)
    monkeypatch.delattr("signal.setitimer")
    (found,) = deployment.system()
    assert found.level is Level.WARN
    assert "time limit" in found.text and "power cut" in found.text


@pytest.mark.parametrize(
    ("statement", "level", "said", "remedy"),
    [
        ("pass", Level.OK, "can be imported", ""),
        ("import sys; sys.modules['litestar'] = None; import litestar", Level.FAIL, "import of litestar halted", "-U"),
        ("raise ModuleNotFoundError(\"No module named 'litestar.x'\")", Level.FAIL, "no drift", "'litestar<3'"),
        ("import time; time.sleep(20)", Level.SKIPPED, "not imported within 1 s", ""),
    ],
)
def test_what_evidently_lacks(
    monkeypatch: pytest.MonkeyPatch, statement: str, level: Level, said: str, remedy: str
) -> None:
    """It is imported elsewhere, and what keeps it from that is named, with what to install where that is known."""
    monkeypatch.setattr(deployment, "EVIDENTLY", statement)
    found = only(deployment.evidently(1 if "sleep" in statement else 20))
    assert found.level is level and said in found.text and remedy in found.remedy


@pytest.mark.slow
def test_evidently_is_imported_as_it_is_used() -> None:
    """What is tried is there in the release that is installed."""
    assert only(deployment.evidently(60)).level is Level.OK


def test_the_program_names_itself_and_its_python() -> None:
    """Our own version and a Python that is supported are said; the range of a library can be asked for."""
    found = {finding.name: finding for finding in deployment.program()}
    assert found["program"].text == f"retrain-or-reload {version('retrain-or-reload')}"
    assert found["python"].level is Level.OK
    supported = deployment.supported("prefect")
    assert supported is not None and supported.contains("3.8.8") and not supported.contains("2.20.0")
    assert deployment.supported("nothing-like-it") is None


@pytest.mark.parametrize(
    ("environment", "level", "said"),
    [
        ({"DO_NOT_TRACK": "1", "PREFECT_SERVER_ANALYTICS_ENABLED": "false"}, Level.OK, ""),
        ({"DO_NOT_TRACK": "1"}, Level.WARN, "export PREFECT_SERVER_ANALYTICS_ENABLED=false"),
        ({}, Level.WARN, "export DO_NOT_TRACK=1 PREFECT_SERVER_ANALYTICS_ENABLED=false"),
        ({"DO_NOT_TRACK": "0", "PREFECT_SERVER_ANALYTICS_ENABLED": "0"}, Level.WARN, "export DO_NOT_TRACK=1"),
    ],
)
def test_telemetry_is_judged_by_the_environment(environment: dict[str, str], level: Level, said: str) -> None:
    """What a worker would report when it is started from this environment, and the settings that keep it quiet."""
    finding = only(deployment.telemetry(environment))
    assert (finding.level, finding.remedy) == (level, said)


def test_keys(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """No keys are fine; a pair is named; a machine that must sign and cannot is warned; keys that cannot be used, or
    lie in the store, fail."""
    store = str(tmp_path / "store")
    assert only(deployment.keys(store)).level is Level.OK
    name, private, public = new_pair(tmp_path / "keys")
    monkeypatch.setenv("ROR_TRUSTED_KEYS", str(public))
    reader = only(deployment.keys(store))
    assert reader.level is Level.WARN
    assert "set ROR_SIGNING_KEY" in reader.remedy
    monkeypatch.setenv("ROR_SIGNING_KEY", str(private))
    both = only(deployment.keys(store))
    assert (both.level, both.text) == (
        Level.OK, f"signs with {name}; trusts {name}; what is not signed is refused",
    )  # fmt: skip
    with pytest.raises(SpecError, match="it is in the store"):
        list(deployment.keys(str(tmp_path)))
    monkeypatch.delenv("ROR_TRUSTED_KEYS")
    assert "ROR_TRUSTED_KEYS" in only(deployment.keys(store)).remedy
    private.chmod(0o644)
    failed = only(as_diagnoses("keys", lambda: deployment.keys(store)))
    assert failed.level is Level.FAIL
    assert "chmod 600" in failed.text


def test_a_store_is_tried_out_and_left_as_it_was(tmp_path: Path) -> None:
    """Creating twice is refused the second time, and nothing of it stays; a folder that is not there is not made."""
    (tmp_path / "loans").mkdir()
    (tmp_path / "loans/object").write_bytes(b"kept")
    assert levels(deployment.store(str(tmp_path))) == {"store": Level.OK, "free space": Level.OK}
    assert levels(deployment.store(str(tmp_path / "a/b"))) == {"store": Level.OK, "free space": Level.OK}
    assert levels(deployment.store("memory://")) == {"store": Level.OK}
    assert [path.name for path in sorted(tmp_path.rglob("*"))] == ["loans", "object"]


@pytest.fixture
def imitation(monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
    """A store that speaks S3 and ignores its conditions: it overwrites."""

    class Handler(Quiet):
        def do_PUT(self) -> None:
            self.rfile.read(int(self.headers["Content-Length"]))
            self.answer(200)

        def do_DELETE(self) -> None:
            self.answer(403)

        def answer(self, status: int) -> None:
            self.send_response(status)
            self.send_header("ETag", '"1"')
            self.send_header("Content-Length", "0")
            self.end_headers()

    with listening(Handler) as address:
        for name, value in {
            "AWS_ENDPOINT_URL": address,
            "AWS_ALLOW_HTTP": "true",
            "AWS_ACCESS_KEY_ID": "a",
            "AWS_SECRET_ACCESS_KEY": "b",
            "AWS_REGION": "us-east-1",
        }.items():
            monkeypatch.setenv(name, value)
        yield "s3://bucket/prefix"


@pytest.mark.slow
def test_a_store_that_overwrites_fails(imitation: str) -> None:
    """A store that ignores create-if-absent fails the check; that it removes nothing is worth a warning."""
    overwrites, stays = deployment.store(imitation)
    assert (overwrites.level, stays.level) == (Level.FAIL, Level.WARN)
    assert "it replaced an object" in overwrites.text
    assert "nothing can be removed" in stays.text


@pytest.mark.parametrize("there", [True, False])
def test_what_a_stopped_doctor_left_is_removed(tmp_path: Path, there: bool) -> None:
    """The next doctor removes it, where the store is there as where it is not yet, and says so; what is young may
    belong to a doctor at work, and what is called otherwise is somebody else's."""
    folder = tmp_path / "store" if there else tmp_path
    folder.mkdir(exist_ok=True)
    (folder / ".doctor-notes").write_text("mine")
    (folder / ".doctor-letters").mkdir()
    (folder / ".doctor-letters/one").write_text("mine")
    os.utime(folder / ".doctor-notes", (1e9, 1e9))
    os.utime(folder / ".doctor-letters", (1e9, 1e9))
    names = [f".doctor-{uuid4().hex}" for _ in range(2)] if there else [".doctor-k3x_9q1z"]
    for name in names:
        if there:
            (folder / name).write_bytes(b"ror doctor")
        else:
            (folder / name).mkdir()
            (folder / name / f".doctor-{uuid4().hex}").write_bytes(b"ror doctor")
    found = list(deployment.store(str(tmp_path / "store")))
    assert "removed" not in found[0].text
    assert all((folder / name).exists() for name in names)
    for name in names:
        os.utime(folder / name, (1e9, 1e9))
    found = list(deployment.store(str(tmp_path / "store")))
    assert (found[0].level, found[0].text) == (Level.OK, f"{len(names)} left by a doctor that was stopped: removed")
    assert {".doctor-notes", ".doctor-letters"} <= {path.name for path in folder.iterdir()}
    assert not any((folder / name).exists() for name in names)


@pytest.fixture
def disk(tmp_path: Path) -> Iterator[Path]:
    """A file system of 256 KB of its own."""
    folder = tmp_path / "disk"
    folder.mkdir()
    command = ["mount", "-t", "tmpfs", "-o", "size=256k", "tmpfs", str(folder)]
    try:
        subprocess.run(command, check=True, capture_output=True, timeout=10)
    except (OSError, subprocess.CalledProcessError) as error:
        pytest.skip(f"a small file system cannot be mounted here: {error}")
    yield folder
    subprocess.run(["umount", "--lazy", str(folder)], check=True, timeout=10)


def test_full_and_read_only_are_told_apart(disk: Path) -> None:
    """Little room, none at all, and a file system that is mounted read-only each have words of their own."""
    assert levels(deployment.store(str(disk))) == {"store": Level.OK, "free space": Level.FAIL}
    with (disk / "ballast").open("wb", buffering=0) as file, pytest.raises(OSError):
        while True:
            file.write(bytes(4096))
    full, space = deployment.store(str(disk))
    assert (full.level, space.level) == (Level.FAIL, Level.FAIL)
    assert "the disk is full" in full.text
    assert space.text.startswith("0 B left")
    subprocess.run(["mount", "-o", "remount,ro", str(disk)], check=True, timeout=10)
    assert "read-only" in next(deployment.store(str(disk))).text
    with pytest.raises(StoreError, match=r"cannot be made: Read-only"):
        list(deployment.store(str(disk / "below")))


def test_clocks_are_judged_by_what_a_lease_bears() -> None:
    """A few seconds are nothing; more is worth a warning; beyond a lease's renewal two runs may be at work at once."""
    assert clocks("clock", SKEW - 1, "the server's").level is Level.OK
    behind = clocks("clock", -(SKEW + 1), "the server's")
    assert (behind.level, behind.text) == (Level.WARN, "this machine's is 6 s behind the server's")
    assert clocks("clock", SKEW_MAX + 1, "the server's").level is Level.FAIL
