"""Data that a person brings: a first model's file, and batches or labels put where runs look for them."""

from __future__ import annotations

import fnmatch
import re
import shutil
import tomllib
from dataclasses import dataclass, replace
from pathlib import Path

from tasks.core.data.files import SUFFIXES, atomic_write, batch_name, find, fingerprint, is_data, label_files, parts
from tasks.core.data.labels import Labels
from tasks.core.data.rows import labelled_rows
from tasks.core.data.source import Source
from tasks.core.data.unread import table_problems
from tasks.core.errors import AlreadyExists, DataError, InvalidRequest, UnreadableData
from tasks.core.onboarding.proposal import Proposal, as_toml, propose, toml_string
from tasks.core.run.overruled import overruled
from tasks.core.schema.contract import infer
from tasks.core.schema.frames import frame
from tasks.core.schema.validation import validate
from tasks.core.spec import MODEL_NAME, MODEL_NAME_RULE, CsvSpec, ModelSpec, parse_spec
from tasks.core.types import Batch
from tasks.core.workspace import Workspace


@dataclass(frozen=True, slots=True)
class Delivered:
    """A file among those that runs look for."""

    path: str
    """Relative to the root."""
    rows: int
    was_there: bool
    """The same bytes were there already."""


def model_name(data: Path) -> str:
    """A model's name, derived from the name of a file or folder."""
    name = re.sub(r"[^a-z0-9_-]+", "-", data.resolve().stem.lower()).strip("-_")[:64]
    return name if MODEL_NAME.fullmatch(name) else "model"


def begin(root: Path, data: Path, target: str, name: str, *, owner: str, written: CsvSpec) -> tuple[Path, Proposal]:
    """Write deployments/<name>.toml for batches like these: a file, or a folder of such files.

    A folder below the root is where its batches stay; other files are copied to data/<name>/batches/. Raises
    InvalidRequest for an invalid name or target, AlreadyExists when the model has a file, UnreadableData.
    """
    if not MODEL_NAME.fullmatch(name):
        raise InvalidRequest("name", [f"invalid name {name!r}: {MODEL_NAME_RULE}"])
    path = root / "deployments" / f"{name}.toml"
    if path.exists():
        raise AlreadyExists(f"{path} exists already and was not changed. Choose another name for the model.")
    data = data.resolve()
    if not data.exists():
        raise UnreadableData(str(data), "there is no such file.")
    if data.is_dir() and (problems := table_problems(data)):
        raise UnreadableData(str(data), "; ".join(problems))
    if not data.is_dir() and not is_data(data):
        raise UnreadableData(str(data), f"its name must end in {', '.join(SUFFIXES)}.")
    proposal = propose(Source(data.parent, data.name, written), target)
    stays = data.is_dir() and data != root and data.is_relative_to(root)
    batches = f"{data.relative_to(root).as_posix()}/*" if stays else f"data/{name}/batches/*"
    text = as_toml(proposal, name=name, batches=batches, origin=data.name, owner=owner) + _csv(written)
    proposal = replace(proposal, doubts=_doubts(data, parse_spec(tomllib.loads(text), str(path))))
    text = as_toml(proposal, name=name, batches=batches, origin=data.name, owner=owner) + _csv(written)
    with atomic_write(path) as temporary:
        temporary.write_text(text, encoding="utf-8")
    try:
        for file in [] if stays else parts(data) if data.is_dir() else [data]:
            deliver(Workspace.open(root, name), file)
    except BaseException:
        path.unlink()  # so that it can be tried again; batches that were copied are there then
        raise
    return path, proposal


def _doubts(data: Path, spec: ModelSpec) -> tuple[str, ...]:
    """What is too good to be true about the first data; nothing where they cannot be trained on, which a run says."""
    from tasks.core.data.arrow import sample_rows
    from tasks.core.training.doubt import ROWS, doubts

    try:
        labels = Labels(data.parent, spec, [], batches=())
        part = labelled_rows(data.parent, Batch(batch_name(data), data.name, ""), labels, spec.task)
        contract = infer([part.source], spec)
        chosen = sample_rows(len(part.rows), ROWS, spec.seed)
        features = frame(contract, part.source, part.rows[chosen])
    except DataError:
        return ()
    return tuple(doubts(spec, features, part.target[chosen], None, part.target[:0]))


def deliver(workspace: Workspace, file: Path, *, labels: bool = False) -> Delivered:
    """Copy a batch, or labels, to where runs of the model look for them; it appears whole, and replaces nothing.

    Raises InvalidRequest for a file that could not be found there, UnreadableData or DataError, with all that is wrong
    with it, for one that breaks the input schema, AlreadyExists when other data have that name.
    """
    spec = workspace.spec
    pattern = spec.data.labels if labels else spec.data.batches
    if pattern is None:
        raise InvalidRequest("labels", [f"{workspace.model} has no data.labels: its labels come with the batches"])
    if not file.exists():
        raise UnreadableData(str(file), "there is no such file.")
    output = _place(workspace.root, pattern, file)
    rows = _look_at(workspace, file.resolve(), labels=labels)
    there = output.exists()
    sha256 = fingerprint(file)
    if there and fingerprint(output) != sha256:
        raise AlreadyExists(
            f"{output} exists already, with other data, and nothing is overwritten. Deliver only rows that are new, "
            "as a file of their own: under another name the old ones would come twice."
        )
    if labels:
        _refuse_overruled(workspace, file, output)
    if not there:
        _refuse_repeat(workspace, pattern, file, sha256)
        with atomic_write(output) as temporary:
            shutil.copyfile(file, temporary)
    if spec.data.settle == "marker":
        output.with_name(f"{output.name}.done").touch()
    return Delivered(output.relative_to(workspace.root).as_posix(), rows, was_there=there)


def _refuse_repeat(workspace: Workspace, pattern: str, file: Path, sha256: str) -> None:
    """Raises AlreadyExists for a file that is there under another name: its rows would come twice."""
    size = file.stat().st_size
    for other in find(workspace.root, pattern):
        if other.is_file() and other.stat().st_size == size and fingerprint(other) == sha256:
            raise AlreadyExists(
                f"{file} has the very bytes of {other.name}, which is there already. Nothing was copied. Deliver the "
                "file that was meant."
            )


def _refuse_overruled(workspace: Workspace, file: Path, output: Path) -> None:
    """Raises InvalidRequest for labels of which some would not count, because files that sort after them have others
    for the same keys."""
    spec, order = workspace.spec, workspace.state().order
    known = Labels.usable(workspace.root, spec, label_files(workspace.root, spec, order))[0]
    later = [known.file(path) for path in known.files if order(batch_name(path)) > order(batch_name(output))]
    new = Labels(file.resolve().parent, spec, [])
    if later and (said := overruled(new.file(file.resolve()), later)):
        raise InvalidRequest("file", [f"{said.replace('do not count', 'would not count')}. Nothing was copied"])


def _place(root: Path, pattern: str, file: Path) -> Path:
    folder, _, names = pattern.rpartition("/")
    if re.search(r"[*?\[]", folder):
        raise InvalidRequest(
            "file", [f"{file}: {pattern} matches several folders. Copy the file to the right one by hand"]
        )
    if file.is_dir():
        raise InvalidRequest("file", [f"{file} is a folder: copy it to {folder}/ by hand, and `_SUCCESS` into it last"])
    if not fnmatch.fnmatchcase(file.name, names) or not is_data(file):
        raise InvalidRequest(
            "file",
            [f"runs would not find {file}: they look for {pattern}, with names that end in {', '.join(SUFFIXES)}"],
        )
    output, name = root / folder / file.name, batch_name(file)
    if twin := next((one for one in find(root, pattern) if batch_name(one) == name and one.name != output.name), None):
        raise InvalidRequest(
            "file", [f"{file}: {twin.name} is batch {name!r} already. Choose another name for the file"]
        )
    return output


def _look_at(workspace: Workspace, file: Path, *, labels: bool) -> int:
    """How many rows it has. Raises UnreadableData or DataError for what a run would set aside."""
    spec = workspace.spec
    source = Source(file.parent, file.name, spec.data.csv)
    needed = [*spec.key_columns, spec.target] if labels else [] if spec.data.labels else [spec.target]
    if missing := [name for name in needed if name not in source.names]:
        raise DataError(f"{file}: column {' and '.join(map(repr, missing))} is missing, which labels need.")
    if labels:
        return sum(len(chunk) for chunk in source.stream([spec.target]))
    current = workspace.state().current
    contract = workspace.registry.contract(workspace.model, current) if current else None
    found = validate(contract, source, spec)
    if found.problems:
        raise DataError("\n".join(f"{file.name}: {problem}" for problem in found.problems))
    return found.rows


def _csv(written: CsvSpec) -> str:
    """The section that says how CSV files are written, where it is not as usual."""
    unusual = {name: value for name, value in written if value != getattr(CsvSpec(), name)}
    lines = ["", "[data.csv]", *(f"{name} = {toml_string(value)}" for name, value in unusual.items())]
    return "\n".join(lines) + "\n" if unusual else ""
