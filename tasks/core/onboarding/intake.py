"""A first model's file, and its first batches and labels put where runs look for them."""

from __future__ import annotations

import re
import tomllib
from dataclasses import dataclass, replace
from pathlib import Path

from tasks.core.data.files import SUFFIXES, atomic_write, batch_name, is_data, lacks_links, parts
from tasks.core.data.labels import Labels
from tasks.core.data.periods import Every
from tasks.core.data.reading import found_in
from tasks.core.data.rows import labelled_rows
from tasks.core.data.source import Source
from tasks.core.data.unread import table_problems
from tasks.core.errors import NEEDS_LINKS, AlreadyExists, DataError, InvalidRequest, UnreadableData
from tasks.core.onboarding.delivery import deliver
from tasks.core.onboarding.growth import cut_history, deliver_periods
from tasks.core.onboarding.proposal import Proposal, as_toml, propose
from tasks.core.schema.contract import infer
from tasks.core.schema.frames import frame
from tasks.core.spec import MODEL_NAME, MODEL_NAME_RULE, CsvSpec, ModelSpec, parse_spec
from tasks.core.types import Batch
from tasks.core.workspace import Workspace


def model_name(data: Path) -> str:
    """A model's name, derived from the name of a file or folder."""
    name = re.sub(r"[^a-z0-9_-]+", "-", data.resolve().stem.lower()).strip("-_")[:64]
    return name if MODEL_NAME.fullmatch(name) else "model"


@dataclass(frozen=True, slots=True)
class Begun:
    """A model that has a file now."""

    path: Path
    proposal: Proposal
    notes: tuple[str, ...] = ()
    """What became of its first rows and labels, a sentence each."""


def begin(
    root: Path,
    data: Path,
    target: str,
    name: str,
    *,
    owner: str,
    written: CsvSpec,
    labels: Path | None = None,
    every: Every | None = None,
) -> Begun:
    """Write deployments/<name>.toml for batches like these: a file, or a folder of such files.

    A folder below the root is where its batches, or `labels`, stay; other files are copied to data/<name>/. With
    `every` the data are one history, and each of its periods becomes a batch. Raises InvalidRequest for an invalid name
    or target, or a history that cannot be cut; AlreadyExists when the model has a file; UnreadableData.
    """
    if not MODEL_NAME.fullmatch(name):
        raise InvalidRequest("name", [f"invalid name {name!r}: {MODEL_NAME_RULE}"])
    path = root / "deployments" / f"{name}.toml"
    if path.exists():
        raise AlreadyExists(f"{path} exists already and was not changed. Choose another name for the model.")
    data, labels = data.resolve(), labels.resolve() if labels else None
    found = found_in(_given(data), written)
    source = Source(data.parent, data.name, found.written)
    late = Source(labels.parent, _given(labels).name, found.written) if labels else None
    proposal = replace(propose(source, target, late), reading=found.in_words)
    history = cut_history(source, proposal.time, every) if every else None
    stays = history is None and _stays(data, root)
    batches = _pattern(data, root) if stays else f"data/{name}/batches/*"
    labels_stay = labels is not None and _stays(labels, root)
    later = None if labels is None else _pattern(labels, root) if labels_stay else f"data/{name}/labels/*"

    def text(proposal: Proposal) -> str:
        file = as_toml(proposal, name=name, batches=batches, origin=data.name, owner=owner, labels=later)
        return file + found.as_toml()

    where = labels and _first(labels)
    proposal = replace(proposal, doubts=_doubts(data, parse_spec(tomllib.loads(text(proposal)), str(path)), where))
    with atomic_write(path) as temporary:
        temporary.write_text(text(proposal), encoding="utf-8")
    workspace = Workspace.open(root, name)
    try:
        notes = deliver_periods(workspace, data, source, history) if history else []
        for file in [] if stays or history else _files(data):
            notes += deliver(workspace, file).notes
        for file in [] if labels is None or labels_stay else _files(labels):
            notes += deliver(workspace, file, labels=True).notes
        notes += _store_notes(root, workspace.store_location)
    except BaseException:
        path.unlink()  # so that it can be tried again; batches that were copied are there then
        raise
    return Begun(path, proposal, tuple(notes))


def _store_notes(root: Path, location: str) -> list[str]:
    """What a run would stop for: found out now, and not after the data were prepared."""
    folder = Path(location)
    if "://" in location or not lacks_links(folder if folder.is_dir() else root):
        return []
    return [f"{location} cannot be the store: {NEEDS_LINKS}, and name it in ROR_STORE"]


def _given(data: Path) -> Path:
    """The file or folder that a person named. Raises UnreadableData where it is not there, or is none to be read."""
    if not data.exists():
        raise UnreadableData(str(data), "there is no such file.")
    if data.is_dir() and (problems := table_problems(data)):
        raise UnreadableData(str(data), "; ".join(problems))
    if not data.is_dir() and not is_data(data):
        raise UnreadableData(str(data), f"its name must end in {', '.join(SUFFIXES)}.")
    return data


def _stays(data: Path, root: Path) -> bool:
    return data.is_dir() and data != root and data.is_relative_to(root)


def _pattern(folder: Path, root: Path) -> str:
    return f"{folder.relative_to(root).as_posix()}/*"


def _files(data: Path) -> list[Path]:
    return parts(data) if data.is_dir() else [data]


def _first(data: Path) -> Path:
    return _files(data)[0]


def _doubts(data: Path, spec: ModelSpec, labels: Path | None) -> tuple[str, ...]:
    """What is too good to be true about the first data; nothing where they cannot be trained on, which a run says."""
    from tasks.core.data.arrow import sample_rows
    from tasks.core.training.doubt import ROWS, doubts

    try:
        answers = Labels(data.parent, spec, [labels] if labels else [], batches=())
        part = labelled_rows(data.parent, Batch(batch_name(data), data.name, ""), answers, spec.task)
        contract = infer([part.source], spec)
        chosen = sample_rows(len(part.rows), ROWS, spec.seed)
        features = frame(contract, part.source, part.rows[chosen])
    except DataError:
        return ()
    return tuple(doubts(spec, features, part.target[chosen], None, part.target[:0]))
