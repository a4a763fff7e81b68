"""Check everything that the store keeps of a model: objects, manifests, history, runs. Nothing is changed.

All that is wrong is listed at once; damage never raises. Import-light: scikit-learn comes along only for `loads`.
"""

from __future__ import annotations

import os
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from tasks.core import trail
from tasks.core.audit_objects import FOREIGN, Stored
from tasks.core.audit_signatures import Signed, signatures
from tasks.core.errors import RorError, SpecError
from tasks.core.registry import Registry
from tasks.core.spec import MODEL_NAME, models
from tasks.core.store import ObjectInfo, Store
from tasks.core.trail import Remark, Trail
from tasks.core.types import Served
from tasks.core.views import cell
from tasks.core.workspace import Workspace

LEFTOVER = re.compile(r"#\d+$")
"""How names end of what a killed write leaves on a local folder; obstore does not list them."""
LEAST_DIGITS = 12


@dataclass(frozen=True, slots=True)
class Expected:
    """An entry that somebody noted: the history must still hold it."""

    seq: int
    sha256: str
    """The digest of its bytes, or the first digits of it."""


@dataclass(frozen=True, slots=True)
class Loads:
    """Whether a version loads here, in this environment, and gives its known answers."""

    version: int
    loads: bool
    why_not: str = ""


@dataclass(frozen=True, slots=True)
class Report:
    """What an audit of one model found."""

    model: str
    objects: int
    """That the store lists for the model."""
    bytes: int
    """That were read and compared with what was recorded."""
    pages: int
    """Objects of runs whose digest nothing records, as reports: whether they are what they were cannot be said."""
    versions: int
    """Complete ones."""
    events: int
    head: str | None
    """`42:<sha256>`: number and digest of the newest entry, to be noted; None where there is none to rely on."""
    remarks: tuple[Remark, ...] = ()
    """Damage first."""
    signed: Signed | None = None
    """None where no key is trusted: signatures are not looked at."""
    loads: tuple[Loads, ...] | None = None
    """None where it was not asked for."""

    @property
    def damage(self) -> tuple[Remark, ...]:
        return tuple(remark for remark in self.remarks if remark.damage)

    @property
    def notes(self) -> tuple[Remark, ...]:
        return tuple(remark for remark in self.remarks if not remark.damage)

    @property
    def ok(self) -> bool:
        return not self.damage


def audit(registry: Registry, model: str, *, expected: Expected | None = None, load: bool = False) -> Report:
    """Check every object of a model against its record, and the records against each other.

    Raises StoreError when the store cannot be listed, nothing for what is damaged.
    """
    store = registry.store
    listed = {item.path: item for item in store.objects(model)}
    inside = _by_folder(model, listed)
    history = trail.read(store, model, inside["ledger"])
    check = Stored(store, model, listed, history, trail.removals(history.events, model))
    remarks = [
        *history.remarks,
        *_expectation(model, history, expected),
        *check.versions(inside["versions"]),
        *check.runs(inside["runs"]),
        *check.removed(),
        *_strays(store, model, listed),
    ]
    signed, more = signatures(registry, model, check.complete, history)
    remarks += more
    loads = None
    if load:
        loads, more = _load_all(registry, model, check.complete, history)
        remarks += more
    return Report(
        model=model,
        objects=len(listed),
        bytes=history.bytes + check.compared,
        pages=check.pages,
        versions=len(check.complete),
        events=len(history.events),
        head=history.head,
        remarks=_merged(remarks),
        signed=signed,
        loads=loads,
    )


def _merged(remarks: Sequence[Remark]) -> tuple[Remark, ...]:
    """One remark for each object, damage first."""
    texts: dict[tuple[bool, str], list[str]] = {}
    for remark in remarks:
        texts.setdefault((not remark.damage, remark.path), []).append(remark.text)
    return tuple(Remark(path, "; ".join(found), not harmless) for (harmless, path), found in sorted(texts.items()))


def verdict(report: Report) -> str:
    """One line: what was looked at, and whether all is well."""
    pages = f"; of {_count(report.pages, 'page')} no digest is recorded" if report.pages else ""
    looked = (
        f"{_count(report.objects, 'object')} ({report.bytes / 1e6:,.1f} MB compared{pages}), "
        f"{_count(report.versions, 'version')}, {_count(report.events, 'entry', 'entries')} of history"
    )
    notes = f" ({_count(len(report.notes), 'note')})" if report.notes else ""
    said = "all is well" if report.ok else f"{len(report.damage):,} damaged or missing"
    return f"{report.model}: {looked}: {said}{notes}."


def signed(report: Report) -> str:
    """What the signatures are worth, in words."""
    if report.signed is None:
        return "Signatures were not looked at: no key is trusted here."
    refused = "refused here" if report.signed.required else "accepted here"
    return (
        f"Signed by a trusted key: {report.signed.signed:,} of {report.signed.signed + report.signed.unsigned:,} "
        f"manifests and entries; what is not signed is {refused}, unless a signed entry follows."
    )


def summary(report: Report) -> str:
    """The verdict, and all that is damaged: the message of the flow's final state."""
    return " ".join([verdict(report), *(f"{remark.path} {remark.text.rstrip('.')}." for remark in report.damage)])


def markdown(report: Report) -> str:
    """The whole report, for Prefect."""
    lines = [
        f"## {cell(verdict(report))}",
        "",
        f"Newest entry of the history: `{report.head or 'none'}`",
        signed(report),
    ]
    if report.remarks:
        lines += ["", "| | object | what |", "|---|---|---|"]
        lines += [
            f"| {'**damage**' if item.damage else 'note'} | {cell(item.path)} | {cell(item.text)} |"
            for item in report.remarks
        ]
    if report.loads is not None:
        lines += ["", "| version | loads here | why not |", "|---|---|---|"]
        lines += [
            f"| v{item.version} | {'yes' if item.loads else '**no**'} | {cell(item.why_not)} |" for item in report.loads
        ]
    return "\n".join(lines) + "\n"


def _count(number: int, one: str, many: str | None = None) -> str:
    return f"{number:,} {one if number == 1 else many or f'{one}s'}"


def workspaces(root: str | Path | None, model: str | None) -> list[Workspace]:
    """This model, or all: those with a file, and those that only the store knows any more. Raises SpecError for none.

    A model's file need not be valid, nor be there: what the store keeps of it can be checked all the same.
    """
    here = Workspace.open(root, model or "store")
    stored = [name for name in Store(here.store_location).folders("") if MODEL_NAME.fullmatch(name)]
    known = sorted({*models(here.root), *stored})
    if model is not None and model not in known:
        raise SpecError(model, [f"neither a file nor the store knows it. Models: {', '.join(known) or 'none'}"])
    if not known:
        raise SpecError(str(here.root / "deployments"), ["no models here; is --root right?"])
    return [Workspace.open(root, name) for name in (known if model is None else [model])]


def registry_of(workspace: Workspace, *, load: bool) -> Registry:
    """The model's registry. Only to load from it the model's own file is needed, which says what may be loaded."""
    return workspace.registry if load else Registry(Store(workspace.store_location))


def expectation(text: str) -> Expected:
    """`42:ab12...` as a value. Raises SpecError."""
    number, _, sha256 = text.lower().partition(":")
    if not number.isdecimal() or int(number) == 0 or not re.fullmatch(rf"[0-9a-f]{{{LEAST_DIGITS},64}}", sha256):
        raise SpecError(
            "--expect-head",
            [f"{text!r} is not NUMBER:SHA256; `ror verify M` ends with it. At least {LEAST_DIGITS} digits of it"],
        )
    return Expected(int(number), sha256)


def _expectation(model: str, history: Trail, expected: Expected | None) -> Iterator[Remark]:
    if expected is None:
        return
    path = f"{model}/ledger/{expected.seq:08d}.json"
    found = history.digests.get(expected.seq)
    if found is None:
        ends = f"the history ends at entry {history.last}" if expected.seq > history.last else "it is missing"
        yield Remark(path, f"was there with sha256 {expected.sha256[:LEAST_DIGITS]}, and {ends}: it was cut off")
    elif not found.startswith(expected.sha256):
        shown = f"{found[:LEAST_DIGITS]}, not {expected.sha256[:LEAST_DIGITS]} as was noted"
        yield Remark(path, f"has sha256 {shown}: the history was written anew, or the note is of another model")


# --- strays --------------------------------------------------------------------------------------------------


def _by_folder(model: str, listed: Mapping[str, ObjectInfo]) -> dict[str, list[str]]:
    """Names below versions/, ledger/ and runs/."""
    found: dict[str, list[str]] = {"versions": [], "ledger": [], "runs": []}
    for path in listed:
        _, kind, name = (*path.split("/", 2), "", "")[:3]
        if kind in found:
            found[kind].append(name)
    return found


def _strays(store: Store, model: str, listed: Mapping[str, ObjectInfo]) -> Iterator[Remark]:
    """What lies about: foreign objects, entries moved aside, and leftovers that only a look at the folder shows."""
    for path in listed:
        _, kind, name = (*path.split("/", 2), "", "")[:3]
        if kind not in ("versions", "ledger", "runs"):
            yield Remark(path, FOREIGN, damage=False)
        elif kind == "ledger" and name.startswith(trail.ASIDE):
            yield Remark(path, "a torn entry that `ror verify --repair` moved aside", damage=False)
        elif kind == "ledger" and not trail.ENTRY.fullmatch(name):
            yield Remark(path, FOREIGN, damage=False)
    if store.folder is None:
        return
    for folder, _, names in os.walk(store.folder / model):
        for name in names:
            path = os.path.relpath(os.path.join(folder, name), store.folder).replace(os.sep, "/")  # noqa: PTH118
            if path in listed:
                continue
            left = "was left by a write that was killed: harmless; delete it when no run is at work"
            yield Remark(path, left if LEFTOVER.search(name) else FOREIGN, damage=False)


# --- loading -------------------------------------------------------------------------------------------------


def _load_all(
    registry: Registry, model: str, versions: Sequence[int], history: Trail
) -> tuple[tuple[Loads, ...], list[Remark]]:
    """Try every version as a run would: environment, bytes, known answers. Only the one in service must load."""
    named = trail.named_manifests(history.events)
    current = history.state.current
    found, remarks = [], []
    for version in versions:
        recorded = next(iter(named.get(version, {})), None)
        try:
            served = history.state.as_known(Served(version, recorded, 0)) if recorded else version
            registry.load(model, served, fresh=True)
            found.append(Loads(version, True))
            continue
        except RorError as error:
            found.append(Loads(version, False, str(error)))
        except Exception as error:  # noqa: BLE001 - a record that was altered can fail anywhere
            found.append(Loads(version, False, f"{type(error).__name__}: {error}"))
        if current is not None and current.version == version:
            path = f"{model}/versions/{version:08d}"
            remarks.append(Remark(path, f"v{version} is in service and does not load here: {found[-1].why_not}"))
    return tuple(found), remarks
