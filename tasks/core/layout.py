"""Where a model's objects are in the store: the one module that spells their paths, and takes them apart.

    <model>/versions/00000003/   the files of a version, by its number
    <model>/ledger/00000042.json   an event, by its number
    <model>/runs/00000042/   what a run shows of its decision, by the number of that event

Paths are relative to the store's root. Names of a version's files are in `tasks.core.versions.manifest`.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass

from tasks.core.records import digest

VERSIONS, LEDGER, RUNS = FOLDERS = ("versions", "ledger", "runs")
"""What the folders of a model are called."""

DECISION, REPORT = "decision.json", "report.html"
"""What a run shows of its decision: the record, written last, and the report. Evidently's pages are next to them."""

_NUMBER = re.compile(r"\d{8}", re.ASCII)
_EVENT = re.compile(r"(\d{8})\.json", re.ASCII)
_ASIDE = "torn-"
_REPLACEMENT = re.compile(r".+-[0-9a-f]{12}\.(parquet|html|json)")


def folder(model: str, kind: str) -> str:
    """The folder of all versions, events or runs of a model: `kind` is one of FOLDERS."""
    return f"{model}/{kind}"


def version_folder(model: str, version: int) -> str:
    """The folder of one version's files."""
    return f"{model}/{VERSIONS}/{version:08d}"


def version_path(model: str, version: int, name: str) -> str:
    """A file of a version."""
    return f"{version_folder(model, version)}/{name}"


def event_path(model: str, seq: int) -> str:
    """The object of one event."""
    return f"{model}/{LEDGER}/{seq:08d}.json"


def aside_path(model: str, seq: int, data: bytes) -> str:
    """Where a repair moves an event that a power cut tore; `data` is what is left of it."""
    return f"{model}/{LEDGER}/{_ASIDE}{seq:08d}-{digest(data)[:12]}.json"


def run_folder(model: str, seq: int) -> str:
    """The folder of what a run shows of the decision which is event `seq`."""
    return f"{model}/{RUNS}/{seq:08d}"


def run_path(model: str, seq: int, name: str) -> str:
    """A file that shows the decision which is event `seq`."""
    return f"{run_folder(model, seq)}/{name}"


def replacement_path(path: str, data: bytes) -> str:
    """The object that replaces one from which rows were erased: in the same folder, with the beginning of its own
    digest in the name. Preparing the same replacement twice gives the same path."""
    stem, _, ending = path.rpartition(".")
    return f"{stem}-{digest(data)[:12]}.{ending}"


def is_page(name: str) -> bool:
    """Whether a file of a run is one of Evidently's pages: megabytes, beside the run's own of some kilobytes."""
    return name.endswith(".html") and not name.startswith(REPORT.removesuffix(".html"))


# --- taking them apart ---------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class ObjectPath:
    """The path of an object, taken apart."""

    model: str
    kind: str
    """One of FOLDERS; empty for what is elsewhere."""
    number: int | None
    """Of the version, the event or the run; None for what this program does not write there."""
    name: str
    """Below the folder of the version or run, or else below the model's; of several parts for what is deeper."""

    @property
    def is_aside(self) -> bool:
        """Whether it is an event that a repair moved aside."""
        return self.kind == LEDGER and self.name.startswith(_ASIDE)

    @property
    def is_replacement(self) -> bool:
        """Whether its name is one that `replacement_path` gives."""
        return bool(_REPLACEMENT.fullmatch(self.name))


def parse(path: str) -> ObjectPath:
    """Take the path of any object apart. Raises nothing: what is foreign has no number."""
    model, _, below = path.partition("/")
    kind, _, rest = below.partition("/")
    if kind not in FOLDERS:
        return ObjectPath(model, "", None, below)
    if kind == LEDGER:
        event = _EVENT.fullmatch(rest)
        return ObjectPath(model, kind, int(event[1]) if event else None, rest)
    number, _, name = rest.partition("/")
    if not name or not _NUMBER.fullmatch(number):
        return ObjectPath(model, kind, None, rest)
    return ObjectPath(model, kind, int(number), name)


def version_files(paths: Iterable[str]) -> dict[int, set[str]]:
    """Names of the files of each version among these objects, by its number."""
    found: dict[int, set[str]] = {}
    for path in map(parse, paths):
        if path.kind == VERSIONS and path.number is not None:
            found.setdefault(path.number, set()).add(path.name)
    return found


def numbers(names: Iterable[str]) -> list[int]:
    """The numbers that these names of folders of versions or runs are, sorted; foreign ones are left out."""
    return sorted(int(name) for name in names if _NUMBER.fullmatch(name))
