"""Files put where runs of a model look for them: whole, over nothing, and only what a run would take."""

from __future__ import annotations

import fnmatch
import re
import shlex
import shutil
from dataclasses import dataclass
from pathlib import Path

from tasks.core.data.files import (
    SUFFIXES,
    atomic_write,
    batch_name,
    ending,
    find,
    fingerprint,
    is_data,
    label_files,
    named_batches,
    parts,
)
from tasks.core.data.identity import Names
from tasks.core.data.known import LOOK_BACK, compare
from tasks.core.data.labels import Labels
from tasks.core.data.source import Source
from tasks.core.errors import AlreadyExists, DataError, InvalidRequest, UnreadableData
from tasks.core.onboarding.label_files import look_at_labels
from tasks.core.run.overruled import overruled
from tasks.core.schema.validation import validate
from tasks.core.types import Batch
from tasks.core.workspace import Workspace


@dataclass(frozen=True, slots=True)
class Delivered:
    """A file among those that runs look for."""

    path: str | None
    """Relative to the root; None where there was nothing new in it."""
    rows: int
    was_there: bool
    """The same bytes, or all of its rows, were there already."""
    known: int = 0
    """Rows that were left out because they were there already."""
    notes: tuple[str, ...] = ()
    """What somebody should know about it, a sentence each."""


def deliver(
    workspace: Workspace, file: Path, *, labels: bool = False, name: str | None = None, look_back: bool = True
) -> Delivered:
    """Copy a batch, or labels, to where runs of the model look for them; it appears whole, and replaces nothing.

    `name` is what the copy is called, by default as the file. Unless it is known to be new, the rows of a batch are
    compared with earlier ones (`look_back`). Raises InvalidRequest for a file that could not be found there,
    UnreadableData or DataError, with all that is wrong with it, for one that breaks the input schema, AlreadyExists
    when other data have that name.
    """
    spec = workspace.spec
    pattern = spec.data.labels if labels else spec.data.batches
    if pattern is None:
        raise InvalidRequest("labels", [f"{workspace.model} has no data.labels: its labels come with the batches"])
    if not file.exists():
        raise UnreadableData(str(file), "there is no such file.")
    output = _place(workspace, pattern, file, name or file.name)
    rows, notes = _look_at(workspace, file.resolve(), labels=labels)
    there = output.exists()
    sha256 = fingerprint(file)
    if there and fingerprint(output) != sha256:
        way_out = (
            "Give labels that were corrected or completed a name that sorts later: key by key the later file counts."
            if labels
            else f"If it has grown: {new_rows_command(workspace, file)} takes the rows that are new."
        )
        raise AlreadyExists(f"{output} exists already, with other data, and nothing is overwritten. {way_out}")
    if labels:
        _refuse_overruled(workspace, file, output)
    if not there:
        _refuse_repeat(workspace, pattern, file, sha256)
        notes += _overlap(workspace, file, output) if look_back and not labels else []
        with atomic_write(output) as temporary:
            shutil.copyfile(file, temporary)
    if spec.data.settle == "marker":
        output.with_name(f"{output.name}.done").touch()
    return Delivered(output.relative_to(workspace.root).as_posix(), rows, was_there=there, notes=tuple(notes))


def deliver_labels(workspace: Workspace, path: Path) -> list[Delivered]:
    """Labels in a file, or in every file of a folder. Those of one export, which is marked as such or called like a
    file, get its name before their own. Raises as `deliver` does, before anything of the folder is copied."""
    if not path.is_dir():
        return [deliver(workspace, path, labels=True)]
    files = parts(path)
    if not files:
        raise UnreadableData(str(path), f"the folder holds no file that ends in {', '.join(SUFFIXES)}.")
    one = (path / "_SUCCESS").exists() or ending(path) in SUFFIXES
    for file in files:
        _look_at(workspace, file.resolve(), labels=True)
    names = [f"{batch_name(path.resolve())}-{file.name}" if one else file.name for file in files]
    return [deliver(workspace, file, labels=True, name=name) for file, name in zip(files, names, strict=True)]


def _place(workspace: Workspace, pattern: str, file: Path, name: str) -> Path:
    root = workspace.root
    folder, _, names = pattern.rpartition("/")
    if re.search(r"[*?\[]", folder):
        raise InvalidRequest(
            "file", [f"{file}: {pattern} matches several folders. Copy the file to the right one by hand"]
        )
    if file.is_dir():
        raise InvalidRequest("file", [f"{file} is a folder: copy it to {folder}/ by hand, and `_SUCCESS` into it last"])
    if not fnmatch.fnmatchcase(name, names) or not is_data(file):
        raise InvalidRequest(
            "file",
            [f"runs would not find {file}: they look for {pattern}, with names that end in {', '.join(SUFFIXES)}"],
        )
    output, batch = root / folder / name, batch_name(Path(name))
    if twin := next((one for one in find(root, pattern) if batch_name(one) == batch and one.name != output.name), None):
        grown = f"If it holds the rows of that and more: {new_rows_command(workspace, file)}. "
        grown = grown if pattern == workspace.spec.data.batches else ""
        raise InvalidRequest(
            "file", [f"{file}: {twin.name} is batch {batch!r} already. {grown}If all its rows are others, rename it"]
        )
    return output


def _look_at(workspace: Workspace, file: Path, *, labels: bool) -> tuple[int, list[str]]:
    """How many rows it has, and what to know. Raises UnreadableData or DataError for what a run would set aside."""
    if labels:
        return look_at_labels(workspace, file)
    spec = workspace.spec
    source = Source(file.parent, file.name, spec.data.csv)
    source.adopt([spec.target])
    if not spec.data.labels and spec.target not in source.names:
        raise DataError(f"{file}: column {spec.target!r} is missing, which labels need{source.nearly(spec.target)}.")
    current = workspace.state().current
    contract = workspace.registry.contract(workspace.model, current) if current else None
    found = validate(contract, source, spec)
    if found.problems:
        raise DataError("\n".join(f"{file.name}: {problem}" for problem in found.problems))
    return found.rows, []


# --- rows that came before -----------------------------------------------------------------------------------


def new_rows_command(workspace: Workspace, file: Path) -> str:
    """What takes of a file what is new."""
    return f"`ror add {workspace.model} {shlex.quote(str(file))} --new-rows`"


def _refuse_repeat(workspace: Workspace, pattern: str, file: Path, sha256: str) -> None:
    """Raises AlreadyExists for a file that is there under another name: its rows would come twice."""
    size = file.stat().st_size
    for other in find(workspace.root, pattern):
        if other.is_file() and other.stat().st_size == size and fingerprint(other) == sha256:
            raise AlreadyExists(
                f"{file} has the same bytes as {other.name}, which is there already. Nothing was copied. Deliver the "
                "file that was meant."
            )


def _refuse_overruled(workspace: Workspace, file: Path, output: Path) -> None:
    """Raises InvalidRequest for labels of which some would not count, because files that sort after them have others
    for the same keys."""
    spec, order = workspace.spec, workspace.state().order
    own = order(batch_name(output))
    later = [path for path in label_files(workspace.root, spec, order) if order(batch_name(path)) > own]
    known = Labels.usable(workspace.root, spec, later)[0]
    if not known.files:
        return
    new = Labels(file.resolve().parent, spec, []).file(file.resolve())
    if (said := overruled(new, [known.file(path) for path in known.files])) and known.identity.names is Names.ROW:
        raise InvalidRequest("file", [f"{said.replace('do not count', 'would not count')}. Nothing was copied"])


def _overlap(workspace: Workspace, file: Path, output: Path) -> list[str]:
    """That a large part of the rows came before, where that is no accident: not what takes the place of a batch in
    quarantine."""
    quarantined = workspace.state().quarantined
    batches = [batch for batch in batches_there(workspace) if batch.id not in quarantined][-LOOK_BACK:]
    if not batches:
        return []
    found = compare(workspace.root, workspace.spec, file.resolve(), batches)
    if not found.overlaps:
        return []
    where = output.relative_to(workspace.root).as_posix()
    return [
        f"{found.count - found.restated:,} of its {len(found.known):,} rows are in earlier batches already. To take "
        f"only the others, remove {where}, then {new_rows_command(workspace, file)}"
    ]


def batches_there(workspace: Workspace) -> list[Batch]:
    """All batches that are there, in time order, without their digests."""
    root, state = workspace.root, workspace.state()
    found = named_batches(find(root, workspace.spec.data.batches, state.order), state.batches)
    return [Batch(name, path.relative_to(root).as_posix(), "") for name, path in found]
