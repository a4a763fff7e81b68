"""What one model needs, looked at from here: its file, its code, its data folders and its history.

Nothing is trained, loaded or imported, and of the data only a few bytes are read.
"""

from __future__ import annotations

import os
import sys
import uuid
from collections.abc import Iterable, Iterator, Sequence
from datetime import UTC, datetime
from functools import partial
from importlib.machinery import PathFinder
from pathlib import Path

from tasks.core.data.files import SUFFIXES, appear, arriving, delivered, doubled, find, named_batches, parts
from tasks.core.data.unread import table_problems, unread
from tasks.core.doctor.deployment import SKEW, Diagnosis, DoctorCheck, Level, as_diagnoses, clocks, nearest
from tasks.core.errors import InvalidRequest, SpecError
from tasks.core.ledger.lease import ends, is_alive
from tasks.core.ledger.ledger import Ledger
from tasks.core.ledger.signing import Trust
from tasks.core.ledger.state import State
from tasks.core.run import kept
from tasks.core.spec import ModelSpec, load_spec
from tasks.core.store import Store
from tasks.core.text import named, second
from tasks.core.workspace import Project

NEWEST = 20
"""Data files that are opened, of the newest."""


def checks(project: Project) -> dict[str, DoctorCheck]:
    """The checks of every model, by name: those of its file and data, and that of its history."""
    made: dict[str, DoctorCheck] = {}
    for name in project.models:
        made[name] = partial(model, project.root, name)
        made[f"{name}: history"] = partial(history, project.store_location, name, project.root)
    return made or {"models": partial(_none, project.root)}


def _none(root: Path) -> Iterator[Diagnosis]:
    yield Diagnosis(
        "models", Level.FAIL, f"none in {root / 'deployments'}", "Is this the right root? `ror demo` makes one."
    )


def model(root: Path, name: str) -> Iterator[Diagnosis]:
    """What a model's file says, and whether what it names is there."""
    path = root / "deployments" / f"{name}.toml"
    try:
        spec = load_spec(root, name)
    except (InvalidRequest, SpecError) as error:
        yield from (Diagnosis(name, Level.FAIL, problem, f"Correct {path}.") for problem in error.problems)
        return
    except OSError as error:
        yield Diagnosis(name, Level.FAIL, f"{path} cannot be read: {error.strerror}", "Check who owns it.")
        return
    yield Diagnosis(name, Level.OK, f"{path.name} is valid: {spec.task}, {spec.target!r}, of {spec.owner}")
    for look in (code, batches, labels, names, others):
        what = f"{name}: {look.__name__}"
        yield from as_diagnoses(what, partial(look, what, root, spec))
    predictions = f"{name}: predictions"
    yield from as_diagnoses(predictions, partial(writable, predictions, root / "data" / name / "predictions"))


def code(name: str, root: Path, spec: ModelSpec) -> Iterator[Diagnosis]:
    """Whether the module of the pipeline's factory is where Python would look for it. It is not imported."""
    module = spec.pipeline.factory.partition(":")[0]
    folders = [str(folder) for folder in spec.folders(root)]
    path: Sequence[str] | None = [*sys.path, *folders]
    for depth in range(1, module.count(".") + 2):
        part = ".".join(module.split(".")[:depth])
        found = PathFinder.find_spec(part, path)
        if found is None:
            looked = f", also in {', '.join(folders)}" if folders else ""
            remedy = 'Name its folder in the model\'s file (code = ["src"]), or install the package.'
            yield Diagnosis(name, Level.FAIL, f"there is no module {part}{looked}", remedy)
            return
        path = found.submodule_search_locations
    where = f" of {', '.join(spec.code)}" if spec.code else ""
    yield Diagnosis(name, Level.OK, f"{module}{where} is found")


def batches(name: str, root: Path, spec: ModelSpec) -> Iterator[Diagnosis]:
    """Whether there are batches, each of a name of its own, that can be read."""
    paths = find(root, spec.data.batches)
    for twice in doubled(paths):
        found, _, remedy = twice.partition(": ")
        yield Diagnosis(name, Level.FAIL, found, f"{remedy[:1].upper()}{remedy[1:]}.")
    if shown := kept.undated(spec, [name for name, _ in named_batches(paths)]):
        text = f"data.keep = {spec.data.keep!r} goes by the dates in names, and there is none in {named(shown)}"
        yield Diagnosis(name, Level.WARN, text, "Set data.keep to a number of batches.")
    waiting = arriving(root, spec)
    more = f"; {len(waiting)} still arriving" if waiting else ""
    yield from _files(name, root, spec.data.batches, "data.batches", paths, "batches", more)


def labels(name: str, root: Path, spec: ModelSpec) -> Iterator[Diagnosis]:
    """Whether the labels' folder and files can be read; they may come with the batches."""
    if spec.data.labels is None:
        yield Diagnosis(name, Level.OK, f"in the batches, column {spec.target!r}")
        return
    paths = find(root, spec.data.labels)
    yield from _files(name, root, spec.data.labels, "data.labels", paths, "label files", "")


def names(name: str, root: Path, spec: ModelSpec) -> Iterator[Diagnosis]:
    """What the model's file names and the newest data do not have; nothing where all is there."""
    from tasks.core.checks.declared import problems_here

    for problem in problems_here(root, spec):
        remedy = f"Correct it in {Path('deployments') / (name.partition(':')[0] + '.toml')}: the next fit refuses it."
        yield Diagnosis(name, Level.FAIL, problem, remedy)


def others(name: str, root: Path, spec: ModelSpec) -> Iterator[Diagnosis]:
    """Files beside batches and labels that no run looks at."""
    for found in unread(root, spec):
        what, _, remedy = found.partition(": ")
        yield Diagnosis(name, Level.WARN, what, f"{remedy[:1].upper()}{remedy[1:]}.")


def _files(
    name: str, root: Path, pattern: str, key: str, paths: Sequence[Path], what: str, more: str
) -> Iterator[Diagnosis]:
    folder = _fixed(root, pattern)
    if not folder.is_dir():
        yield Diagnosis(name, Level.FAIL, f"there is no folder {folder}", f"Make it, or correct {key} = {pattern!r}.")
    elif not os.access(folder, os.R_OK | os.X_OK, effective_ids=os.access in os.supports_effective_ids):
        yield Diagnosis(name, Level.FAIL, f"{folder} cannot be read: permission denied", "Check who owns it.")
    elif not paths:
        there = sum(1 for _ in folder.iterdir())
        beside = f"; {there} other files are in {folder}" if there else ""
        remedy = f"Deliver some ({', '.join(SUFFIXES)}), or correct {key}."
        yield Diagnosis(name, Level.WARN, f"nothing matches {pattern!r}{beside}", remedy)
    elif problems := list(_unreadable(paths[-NEWEST:])):
        yield Diagnosis(name, Level.FAIL, "; ".join(problems), "Check who owns them, or deliver them again.")
    else:
        yield Diagnosis(name, Level.OK, f"{len(paths)} {what}, newest {paths[-1].name}{more}")


def _fixed(root: Path, pattern: str) -> Path:
    """The folder that a glob looks in, as far as it is spelt out."""
    fixed: list[str] = []
    for part in Path(pattern).parts[:-1]:
        if any(mark in part for mark in "*?["):
            break
        fixed.append(part)
    return root.joinpath(*fixed)


def _unreadable(paths: Iterable[Path]) -> Iterator[str]:
    for path in paths:
        try:
            files = parts(path) if path.is_dir() else [path]
            if not files:
                yield f"{path.name}: {'; '.join(table_problems(path)) or 'a folder without data files'}"
            for file in files:
                with file.open("rb") as opened:
                    if not opened.read(1):
                        yield f"{file.name} is empty"
        except OSError as error:
            yield f"{path.name} cannot be read: {error.strerror}"


def writable(name: str, folder: Path) -> Iterator[Diagnosis]:
    """Whether a file can be made below a folder and appear there under its name, as predictions do."""
    at = nearest(folder)
    probe, linked = (at / f".doctor-{uuid.uuid4().hex}" for _ in range(2))
    try:
        probe.write_bytes(b"ror doctor")
        appear(probe, linked)
        yield Diagnosis(name, Level.OK, f"{folder} can be written to")
    except OSError as error:
        yield Diagnosis(
            name,
            Level.FAIL,
            f"nothing can be written to {folder}: {error.strerror}",
            f"Check {at}: owner, space, links.",
        )
    finally:
        for path in (probe, linked):
            path.unlink(missing_ok=True)


def history(location: str, model: str, root: Path) -> Iterator[Diagnosis]:
    """Whether a model's history can be read, who is at work on it, whether the clock agrees with it, and whether the
    batches in it are still there."""
    name = f"{model}: history"
    unchecked = ""
    try:
        trust = Trust.from_environment()
    except SpecError:  # the check of the keys says why
        trust, unchecked = Trust(), "; its signatures were not checked"
    head = Ledger(Store(location), model, trust).head()
    if head.at is None:
        yield Diagnosis(name, Level.OK, "empty: nothing has run yet")
        return
    version = head.state.current
    served = f"v{version.version} in service" if version else "no version in service"
    yield Diagnosis(name, Level.OK, f"{head.seq} entries, newest {second(head.at)} UTC; {served}{unchecked}")
    ahead = (datetime.fromisoformat(head.at) - datetime.now(UTC)).total_seconds()
    if ahead > SKEW:
        yield clocks(f"{model}: clock", -ahead, "the newest entry of the history")
    if lease := head.state.lease:
        who = f"run {lease.run} (process {lease.pid} on {lease.host})"
        if is_alive(lease):
            text = f"{who} is at work; others are skipped {ends(lease)}"
        else:
            text = f"{who} ended without giving back its lease; the next run takes over"
        yield Diagnosis(f"{model}: lease", Level.OK, text)
    yield from as_diagnoses(f"{model}: gone", partial(_gone, f"{model}: gone", root, model, head.state))


def _gone(name: str, root: Path, model: str, state: State) -> Iterator[Diagnosis]:
    """Batches that were decided on and are not there any more, though they should be."""
    try:
        spec = load_spec(root, model)
    except (InvalidRequest, SpecError):
        return  # the check of its file says what is wrong
    here = delivered(root, spec, state.batches)
    if here and (missing := kept.gone(spec, state, here)):
        found, _, remedy = kept.words(missing).partition(". ")
        yield Diagnosis(name, Level.WARN, found, f"{remedy}.")
