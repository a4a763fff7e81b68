"""One file that grows: what is new of it becomes a batch, and a history becomes one batch for each period."""

from __future__ import annotations

import hashlib
import re
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from tasks.core.data.files import (
    Order,
    atomic_write,
    batch_name,
    ending,
    find,
    fingerprint,
    in_order,
    is_text_file,
    named_batches,
    parts,
)
from tasks.core.data.known import compare
from tasks.core.data.notations import instants
from tasks.core.data.periods import Cut, Every, cut
from tasks.core.data.source import Source
from tasks.core.errors import InvalidRequest, UnreadableData
from tasks.core.onboarding.delivery import Delivered, batches_there, deliver, new_rows_command
from tasks.core.spec import CsvSpec
from tasks.core.text import counted, named
from tasks.core.workspace import Workspace


def deliver_new_rows(workspace: Workspace, file: Path) -> Delivered:
    """Make a batch, which sorts last, of those rows of a growing file that no batch has.

    A batch that was decided on and is gone is put back first, where the file still begins with its very bytes. Raises
    as `deliver` does, and InvalidRequest where such a batch is not what it was: its rows would count as new.
    """
    if not file.exists():
        raise UnreadableData(str(file), "there is no such file.")
    spec, where = workspace.spec, file.resolve()
    notes = _put_back(workspace, where)
    batches = batches_there(workspace)
    found = compare(workspace.root, spec, where, batches)
    if found.restated:
        notes.append(
            f"{counted(found.restated, 'row')} known by {spec.key_text} came with other values: the first ones stay"
        )
    if spec.key and not found.by_key and found.count:
        notes.append(f"{spec.key_text} comes again in other rows, so that whole rows were compared")
    fresh = np.flatnonzero(~found.known)
    if not len(fresh):
        return Delivered(None, 0, was_there=True, known=found.count, notes=tuple(notes))
    source = Source(where.parent, where.name, spec.data.csv)
    like = parts(where)[0] if where.is_dir() else where
    state = workspace.state()
    newest = in_order({*(batch.id for batch in batches), *state.batches}, state.order)[-1:]
    name = _after(newest[0], batch_name(where), state.order) if newest else batch_name(where)
    name += like.suffix
    with _folder(workspace) as folder:
        write_rows(source, fresh, folder / name, spec.data.csv)
        done = deliver(workspace, folder / name, look_back=False)
    return replace(done, known=found.count, notes=tuple(notes))


def _after(newest: str, wanted: str, order: Order) -> str:
    """A name that sorts after the newest one: the wanted one, if it does, else the newest one with the next number."""
    if order(wanted) > order(newest):
        return wanted
    match = re.fullmatch(r"(.*)-(\d{4,})", newest)
    name = f"{match[1]}-{int(match[2]) + 1:04d}" if match else f"{newest}-0002"
    return name if order(name) > order(newest) else f"{newest}-0002"


def _put_back(workspace: Workspace, file: Path) -> list[str]:
    """Batches that were decided on and are not there, as the beginning of a text file that has grown since."""
    root, pattern, state = workspace.root, workspace.spec.data.batches, workspace.state()
    there = dict(named_batches(find(root, pattern), state.batches))
    altered = [
        name for name, record in state.batches.items() if name in there and fingerprint(there[name]) != record.sha256
    ]
    if altered:
        path = there[altered[0]].relative_to(root)
        raise InvalidRequest(
            "new_rows",
            [
                f"{path} was decided on with other bytes than it has now: its rows cannot be told from new ones. Move "
                f"it out of {path.parent}/, then give it from there: `ror add {workspace.model} FILE --new-rows`"
            ],
        )
    notes = []
    for name in [name for name in state.batches if name not in there]:
        size = _beginning(file, state.batches[name].rows, state.batches[name].sha256)
        folder = pattern.rpartition("/")[0]
        if size is None or re.search(r"[*?\[]", folder):
            raise InvalidRequest(
                "new_rows",
                [
                    f"batch {name}, which was decided on, is not under {pattern} any more, and {file.name} does not "
                    "begin with its bytes, so that its rows would count as new. Put its file back, as it was, first"
                ],
            )
        output = root / folder / f"{name}{file.suffix}"
        with atomic_write(output) as temporary, file.open("rb") as whole:
            temporary.write_bytes(whole.read(size))
        notes.append(f"{output.relative_to(root)} was put back as it was decided on: the file begins with it")
    return notes


def _beginning(file: Path, rows: int, sha256: str) -> int | None:
    """How many bytes at the beginning of a text file have this digest, at the end of a line after so many rows."""
    if file.is_dir() or not is_text_file(file):
        return None
    digest, size = hashlib.sha256(), 0
    with file.open("rb") as lines:
        for number, line in enumerate(lines):
            digest.update(line)
            size += len(line)
            if number >= rows and digest.hexdigest() == sha256:
                return size
    return None


# --- one history, cut ----------------------------------------------------------------------------------------


@dataclass(frozen=True)
class History:
    """A history and its periods."""

    cut: Cut
    time: str
    every: Every


def cut_history(source: Source, time: str | None, every: Every) -> History:
    """Raises InvalidRequest where no column says a day for sure, or no period is over."""
    found = instants(source.read([time]).column(0)) if time else None
    if time is None or found is None or found.ambiguous:
        raise InvalidRequest("every", [f"{source.path} has no column of dates that could say when its rows came about"])
    pieces = cut(found.values, every)
    if not pieces.periods:
        begun = f"only {pieces.waiting.name}, which is not over" if pieces.waiting else "no date"
        raise InvalidRequest(
            "every", [f"column {time!r} of {source.path} has {begun}: leave the period out, or shorten it"]
        )
    return History(pieces, time, every)


def deliver_periods(workspace: Workspace, file: Path, source: Source, history: History) -> list[str]:
    """Make a batch of each period that is over. Returned is what became of all rows, a sentence each."""
    pieces = history.cut
    like = parts(file)[0] if file.is_dir() else file
    table = source.read(list(source.names))
    with _folder(workspace) as folder:
        for period in pieces.periods:
            path = folder / f"{period.name}{like.suffix}"
            write_table(table.take(pa.array(period.rows)), path, workspace.spec.data.csv)
            deliver(workspace, path, look_back=False)
    names = [period.name for period in pieces.periods]
    span = names[0] if len(names) == 1 else f"{names[0]} to {names[-1]}"
    rows = sum(len(period.rows) for period in pieces.periods)
    notes = [f"{counted(len(names), 'batch', 'batches')} by {history.every} of {history.time}: {span}, {rows:,} rows"]
    if pieces.waiting:
        more = new_rows_command(workspace, file)
        notes.append(
            f"{pieces.waiting.name} is not over and waits: {counted(len(pieces.waiting.rows), 'row')} are in no batch. "
            f"Once the file has grown, {more} takes them"
        )
    for left_out, why in (
        (pieces.undated, f"without {history.time}"),
        (pieces.far, f"whose {history.time} is far from all others"),
    ):
        if len(left_out):
            numbers = named([f"{row + 1:,}" for row in left_out])
            notes.append(f"In no batch: {counted(len(left_out), 'row')} {why}, number {numbers} of the file")
    return notes


# --- files made of rows --------------------------------------------------------------------------------------


@contextmanager
def _folder(workspace: Workspace) -> Iterator[Path]:
    """A hidden folder beside the model's data, gone at the end."""
    workspace.data.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(prefix=".ror-", dir=workspace.data) as folder:
        yield Path(folder)


def write_rows(source: Source, rows: np.ndarray, path: Path, written: CsvSpec) -> None:
    """Some rows of a file, by number, as a file of the same kind."""
    write_table(source.read(list(source.names)).take(pa.array(rows)), path, written)


def write_table(table: pa.Table, path: Path, written: CsvSpec) -> None:
    """Rows as Parquet, or as text that is written as the model's file says, by the path's ending."""
    if not is_text_file(path):
        pq.write_table(table, path)
        return
    separator = "\t" if ending(path) == ".tsv" else written.separator
    table.to_pandas().to_csv(path, sep=separator, encoding=written.encoding, index=False)
