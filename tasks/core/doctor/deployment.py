"""What a deployment needs, looked at from here: libraries, telemetry, keys and the store. `doctor.models` has models.

Every check is made, whatever the others find; none raises, and together they end in a bounded time. What a check writes
to try something out it removes again. Nothing here knows Prefect: `flows.server.doctor` adds what concerns it.
"""

from __future__ import annotations

import contextlib
import contextvars
import importlib.metadata
import platform
import re
import shutil
import signal
import subprocess
import sys
import tempfile
import threading
import time
import uuid
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from enum import StrEnum
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

from tasks.core.errors import AlreadyExists, RorError, StoreError
from tasks.core.ledger.keys import SIGNING_KEY, TRUSTED_KEYS
from tasks.core.ledger.lease import LEASE_TTL
from tasks.core.ledger.signing import Trust
from tasks.core.records import ITSELF
from tasks.core.store import SYNCS_FOLDERS, Store

if TYPE_CHECKING:
    from packaging.specifiers import SpecifierSet

SKEW = 5.0
"""Seconds that two clocks may be apart without a word: the time a network takes, and what a file is left alone for."""

SKEW_MAX = LEASE_TTL.total_seconds() / 4
"""Seconds from which another machine may take a run that is alive for dead: a lease is renewed this often."""

LITTLE, TOO_LITTLE = 2**30, 64 * 2**20
"""Bytes of free space: less than the first is worth a word; with less than the second a version may not fit."""


class Level(StrEnum):
    """How a check ended."""

    OK = "ok"
    WARN = "warn"
    FAIL = "fail"
    SKIPPED = "skipped"


@dataclass(frozen=True, slots=True)
class Diagnosis:
    """What one check found."""

    name: str
    """What was looked at: `store`, `flights: data`."""
    level: Level
    text: str
    """What was found, in one line."""
    remedy: str = ""
    """What to do about it; empty where nothing is to be done."""


STRAY, PROBE = 60.0, re.compile(r"\.doctor-[0-9a-f]{32}")
"""What the store is tried out with, and from which age in seconds on it is a leftover: all checks end much sooner."""

DoctorCheck = Callable[[], Iterable[Diagnosis]]


def gather(checks: Mapping[str, DoctorCheck], seconds: float) -> tuple[Diagnosis, ...]:
    """The findings of all checks, in their order. All are made at once; one that raises, or that has not ended after
    `seconds`, is a failure of its own, and takes away nothing of the others."""
    found: dict[str, list[Diagnosis]] = {name: [] for name in checks}
    # Daemons: what hangs in a dead network must not keep the process. Prefect's settings live in the context.
    threads = {
        name: threading.Thread(
            target=contextvars.copy_context().run, args=(_look, name, check, found[name]), daemon=True
        )
        for name, check in checks.items()
    }
    for thread in threads.values():
        thread.start()
    end, late = time.monotonic() + seconds, []
    for name, thread in threads.items():
        thread.join(max(0.0, end - time.monotonic()))
        if thread.is_alive():
            late.append(name)
    answer: list[Diagnosis] = []
    for name, findings in found.items():
        answer += tuple(findings)
        if name in late:
            answer.append(
                Diagnosis(name, Level.FAIL, f"no answer within {seconds:g} s", "Is what it asks reachable from here?")
            )
    return tuple(answer)


def _look(name: str, check: DoctorCheck, found: list[Diagnosis]) -> None:
    for finding in as_diagnoses(name, check):  # one by one: what was found before it hung counts
        found.append(finding)  # noqa: PERF402


def as_diagnoses(name: str, check: DoctorCheck) -> Iterator[Diagnosis]:
    """The findings of a check, one by one; what it raises is one more."""
    try:
        yield from check()
    except RorError as error:
        yield Diagnosis(name, Level.FAIL, one_line(error))
    except Exception as error:  # noqa: BLE001 - a look at what is broken can fail anywhere, and must not end the others
        yield Diagnosis(name, Level.FAIL, f"could not be looked at: {type(error).__name__}: {one_line(error)}")


def one_line(error: Exception) -> str:
    """The text of an error without line breaks."""
    return " ".join(str(error).split())


# --- this machine --------------------------------------------------------------------------------------------


def program() -> Iterator[Diagnosis]:
    """Our own version, Python, and the libraries compared with what we declare to work with."""
    try:
        metadata = importlib.metadata.metadata(ITSELF)
    except importlib.metadata.PackageNotFoundError:
        yield Diagnosis(
            "program",
            Level.WARN,
            f"{ITSELF} is not installed, so nothing says which libraries it needs",
            "pip install it.",
        )
        return
    from packaging.specifiers import SpecifierSet

    python = platform.python_version()
    wanted = SpecifierSet(next(iter(metadata.get_all("Requires-Python") or [""])))
    yield Diagnosis("program", Level.OK, f"{ITSELF} {metadata['Version']}")
    if wanted.contains(python, prereleases=True):
        yield Diagnosis("python", Level.OK, f"{python}, {platform.platform(terse=True)}")
    else:
        yield Diagnosis("python", Level.FAIL, f"{python}, and {wanted} is supported", "Install into another Python.")
    yield from system()
    yield from libraries(metadata.get_all("Requires-Dist") or [])


def system() -> Iterator[Diagnosis]:
    """What this operating system does not have, and what that costs, in one line; nothing where it has all."""
    lacks = []
    if not hasattr(signal, "setitimer"):
        lacks.append(
            "no timer that interrupts a wait: a run over its time limit may go on for up to a minute before it is ended"
        )
    if not SYNCS_FOLDERS:
        lacks.append("folders are not synced: after a power cut the newest entry of a history may be missing")
    if lacks:
        yield Diagnosis("system", Level.WARN, f"{platform.system()}: {'; '.join(lacks)}")


def supported(library: str) -> SpecifierSet | None:
    """Which releases of a library we declare to work with; None where we are not installed, or do not need it."""
    from packaging.requirements import Requirement

    with contextlib.suppress(importlib.metadata.PackageNotFoundError):
        for item in map(Requirement, importlib.metadata.requires(ITSELF) or []):
            if item.name == library:
                return item.specifier
    return None


def libraries(declared: Iterable[str]) -> Iterator[Diagnosis]:
    """Whether what is installed is within the declared ranges, `pandas<3,>=2.2`; extras are left out."""
    from packaging.requirements import Requirement

    parsed = [Requirement(text) for text in declared]
    needed = [item for item in parsed if item.marker is None or item.marker.evaluate({"extra": ""})]
    bad = 0
    for item in needed:
        try:
            here = importlib.metadata.version(item.name)
        except importlib.metadata.PackageNotFoundError:
            here = ""
        if not here or not item.specifier.contains(here, prereleases=True):
            bad += 1
            text = f"{item.name} {here or 'is not installed'}; {item.specifier or 'any version'} is supported"
            yield Diagnosis("libraries", Level.FAIL, text, f"pip install '{item.name}{item.specifier}'")
    if not bad:
        yield Diagnosis("libraries", Level.OK, f"{len(needed)} within their declared ranges")


EVIDENTLY = "import evidently, evidently.metrics, evidently.legacy.calculations.stattests"
"""All that measures drift is imported from these."""


def evidently(seconds: float) -> Iterator[Diagnosis]:
    """Whether Evidently can be imported, and what it lacks: its own bounds let in libraries that it does not work with.

    In a process of its own: an import that fails leaves modules behind, with which a second one may succeed.
    """
    command = [sys.executable, "-P", "-W", "ignore", "-c", EVIDENTLY]
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=seconds, check=False)
    except subprocess.TimeoutExpired:
        yield Diagnosis("evidently", Level.SKIPPED, f"not imported within {seconds:g} s: the machine is busy")
        return
    if not done.returncode:
        yield Diagnosis("evidently", Level.OK, f"{importlib.metadata.version('evidently')} can be imported")
        return
    said = (done.stderr.strip().splitlines() or [f"it ended with {done.returncode}"])[-1]
    remedy = "Bring it and what it needs to the declared ranges: pip install -U retrain-or-reload."
    if missing := re.search(r"No module named '(\w+)", said):
        remedy = f"pip install '{missing[1]}{supported(missing[1]) or ''}'"
    yield Diagnosis("evidently", Level.FAIL, f"cannot be imported, so no drift is measured: {said}", remedy)


def telemetry(environment: Mapping[str, str]) -> Iterator[Diagnosis]:
    """Whether what is started from this environment reports its use to Prefect and Evidently."""
    quiet = environment.get("DO_NOT_TRACK", "").lower() in ("1", "true", "yes")
    server = environment.get("PREFECT_SERVER_ANALYTICS_ENABLED", "true").lower() in (
        "0",
        "false",
        "no",
        "off",
        "f",
        "n",
    )
    if quiet and server:
        yield Diagnosis("telemetry", Level.OK, "off for whatever is started from this environment")
        return
    unset = [*([] if quiet else ["DO_NOT_TRACK=1"]), *([] if server else ["PREFECT_SERVER_ANALYTICS_ENABLED=false"])]
    yield Diagnosis(
        "telemetry",
        Level.WARN,
        "off in what `ror` starts itself; a Prefect server or worker started from this environment reports its use",
        f"export {' '.join(unset)}",
    )


def keys(location: str) -> Iterator[Diagnosis]:
    """Which signatures count here, and whether this machine can sign. Raises SpecError for keys that cannot be used."""
    trust = Trust.from_environment()
    trust.check_outside(None if "://" in location else Path(location).resolve())
    if not trust.keys and not trust.signing:
        yield Diagnosis("keys", Level.OK, "none are configured: nothing is signed, and no signature is checked")
        return
    signs = f"signs with {trust.signing}" if trust.signing else "signs nothing"
    trusts = f"trusts {', '.join(trust.keys)}" if trust.keys else "checks no signature"
    text = f"{signs}; {trusts}; what is not signed is {'refused' if trust.required else 'accepted'}"
    if trust.required and not trust.signing:
        yield Diagnosis(
            "keys", Level.WARN, text, f"Enough to load versions; to make or promote one here, set {SIGNING_KEY}."
        )
    elif not trust.keys:
        yield Diagnosis("keys", Level.WARN, text, f"Set {TRUSTED_KEYS}, or what it signs protects nothing here.")
    else:
        yield Diagnosis("keys", Level.OK, text)


# --- the store -----------------------------------------------------------------------------------------------


def store(location: str) -> Iterator[Diagnosis]:
    """Whether objects can be created, are refused a second time, and can be removed; and the room that is left."""
    with contextlib.suppress(RorError):  # the checks below say what is wrong with the store
        yield from _sweep(location)
    with _place(location) as (where, note):
        opened = Store(where)
        yield from as_diagnoses("store", partial(_create_twice, opened, location, note))
        if opened.folder is not None:
            yield from as_diagnoses("free space", partial(space, opened.folder, location))


def _sweep(location: str) -> Iterator[Diagnosis]:
    """Remove what a doctor that was killed has left, and say so; a young one may belong to a doctor at work."""
    before = datetime.now(UTC) - timedelta(seconds=STRAY)
    names = [name for name, modified in Store(location).files("") if PROBE.fullmatch(name) and modified < before]
    for name in names:
        Store(location).remove(name)
    folders = []
    if "://" not in location and not Path(location).exists():
        folders = [path for path in nearest(Path(location)).glob(".doctor-*/") if _is_stray(path, before)]
        for path in folders:
            shutil.rmtree(path, ignore_errors=True)
    if found := len(names) + len(folders):
        yield Diagnosis("store", Level.OK, f"{found} left by a doctor that was stopped: removed")


def _is_stray(folder: Path, before: datetime) -> bool:
    """One of `_place`, and nothing but what is tried out is in it."""
    old = datetime.fromtimestamp(folder.stat().st_mtime, UTC) < before
    return old and all(PROBE.fullmatch(path.name) for path in folder.iterdir())


def _create_twice(opened: Store, location: str, note: str) -> Iterator[Diagnosis]:
    path = f".doctor-{uuid.uuid4().hex}"  # no model has such a name
    opened.create(path, b"ror doctor")
    try:
        opened.create(path, b"ror doctor, again")
    except AlreadyExists:
        links = ", with hard links" if opened.folder else ""
        text = f"{location}{note}: what is there is never replaced{links}"
        yield Diagnosis("store", Level.OK, text)
    else:
        yield Diagnosis(
            "store",
            Level.FAIL,
            f"{location}: it replaced an object that was there, so two runs could overwrite each other's versions",
            "Use a store that supports conditional writes (S3 itself does; some that imitate it do not).",
        )
    try:
        opened.remove(path)
    except StoreError as error:
        remedy = f"`ror store prune` and `erase` need it. Remove {path} by hand."
        yield Diagnosis("store", Level.WARN, f"nothing can be removed: {one_line(error)}", remedy)


@contextlib.contextmanager
def _place(location: str) -> Iterator[tuple[str, str]]:
    """Where to try the store out, and a note: the store, or while its folder is missing, another one near it, removed
    afterwards."""
    folder = Path(location)
    if "://" in location or folder.exists():
        yield location, ""
        return
    try:
        beside = tempfile.mkdtemp(prefix=".doctor-", dir=nearest(folder))
    except OSError as error:
        raise StoreError(f"{location} cannot be made: {error.strerror}. Check who owns {nearest(folder)}.") from None
    try:
        yield beside, " (the first run makes it)"
    finally:
        shutil.rmtree(beside, ignore_errors=True)


def nearest(folder: Path) -> Path:
    """The folder itself, or what of the way to it is there."""
    return next(path for path in (folder, *folder.absolute().parents) if path.exists())


def space(folder: Path, location: str) -> Iterator[Diagnosis]:
    """How much room the file system of a store's folder has left."""
    free = shutil.disk_usage(folder).free
    level = Level.OK if free >= LITTLE else Level.WARN if free >= TOO_LITTLE else Level.FAIL
    remedy = "Free some space; `ror store prune MODEL --keep 3 --reason '...'` removes what old versions hold."
    yield Diagnosis("free space", level, f"{_bytes(free)} left for {location}", remedy if level is not Level.OK else "")


def _bytes(count: float) -> str:
    for unit in ("B", "KB", "MB", "GB"):
        if count < 1024:
            return f"{count:.0f} {unit}"
        count /= 1024
    return f"{count:,.1f} TB"


def clocks(name: str, ahead: float, what: str) -> Diagnosis:
    """Our clock compared with another: `ahead` in seconds, negative where ours is behind."""
    way = f"{abs(ahead):.0f} s {'ahead of' if ahead > 0 else 'behind'} {what}"
    if abs(ahead) <= SKEW:
        return Diagnosis(name, Level.OK, f"agrees with {what}")
    level = Level.WARN if abs(ahead) <= SKEW_MAX else Level.FAIL
    return Diagnosis(name, level, f"this machine's is {way}", "Synchronise the clocks (NTP): leases go by them.")
