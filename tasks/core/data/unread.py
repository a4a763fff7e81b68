"""What lies where data arrive and is not read, or must not be read file by file: said by name, with the way out."""

from __future__ import annotations

import fnmatch
import shlex
from collections.abc import Container, Iterator
from pathlib import Path

from tasks.core.data.files import FIRST, SUFFIXES, batch_name, ending, find, is_data, is_hidden, parts
from tasks.core.spec import ModelSpec

PASSING = (".tmp", ".part", ".partial", ".filepart", ".crdownload", ".done", ".crc", ".md5", ".sha1", ".sha256", ".md",
           ".log")  # fmt: skip
"""Endings of what is no data: files on their way, marks, checksums, notes."""
UNPACK = {
    ".gz": "`gunzip {0}`",
    ".bz2": "`bunzip2 {0}`",
    ".xz": "`unxz {0}`",
    ".zst": "`unzstd --rm {0}`",
    ".zip": "`unzip {0} && rm {0}`",
    ".7z": "`7z x {0} && rm {0}`",
}
"""What unpacks a file."""
CONVERT = {
    ".feather": "read_feather({0!r})",
    ".arrow": "read_feather({0!r})",
    ".ipc": "read_feather({0!r})",
    ".orc": "read_orc({0!r})",
    ".json": "read_json({0!r})",
    ".jsonl": "read_json({0!r}, lines=True)",
    ".ndjson": "read_json({0!r}, lines=True)",
}
"""How pandas reads a file, with what is installed here."""
WORKBOOKS = (".xlsx", ".xls", ".xlsm", ".xlsb", ".ods")
ASIDE = "or let its name begin with '_' if it is not data"


def unread(root: Path, spec: ModelSpec) -> list[str]:
    """Files that lie where batches or labels do and that no run looks at, in name order, each with the way out.

    A name that begins with '_' or '.' is not looked at on purpose, and is not listed.
    """
    patterns = [pattern for pattern in (spec.data.batches, spec.data.labels) if pattern]
    read = {path for pattern in patterns for path in find(root, pattern)}
    reasons: dict[Path, str] = {}
    for pattern in patterns:
        for path in _beside(root, pattern):
            if path not in read:
                reasons.setdefault(path, _way_out(path, pattern, read))
    for folder in filter(Path.is_dir, read):
        for path in left_out(folder):
            reasons.setdefault(path, _inside(path))
    return [f"{path.relative_to(root).as_posix()} is not looked at: {reasons[path]}" for path in sorted(reasons)]


def left_out(folder: Path) -> list[Path]:
    """Files and folders in a batch that is a folder which are not read, though they may be data; in name order."""
    read = {*parts(folder)}
    return [path for path in sorted(folder.iterdir()) if path not in read and _may_be_data(path)]


def _may_be_data(path: Path) -> bool:
    if path.is_dir():
        return not is_hidden(path) and any(_may_be_data(inner) for inner in path.iterdir())
    return not is_hidden(path) and ending(path) not in PASSING


def _beside(root: Path, pattern: str) -> Iterator[Path]:
    """Files that differ at most by their ending from what the pattern matches."""
    folder, _, names = pattern.rpartition("/")
    stem = batch_name(Path(names))
    for path in root.glob(f"{folder}/*" if folder else "*"):
        like = any(fnmatch.fnmatchcase(name, stem) for name in (path.name, *_stems(path)))
        if like and path.is_file() and _may_be_data(path):
            yield path


def _stems(path: Path) -> list[str]:
    """A name without its endings, from the first on, from the second on: `2026-03`, `2026-03.csv`."""
    return [path.name.removesuffix("".join(path.suffixes[place:])) for place in range(len(path.suffixes))]


def _way_out(path: Path, pattern: str, read: Container[Path]) -> str:
    """Why a file is not looked at, and what makes of it one that is."""
    twins = (path.with_suffix(other) for other in ("", *FIRST))
    if twin := next((twin for twin in twins if twin in read and twin != path), None):
        return f"{twin.name} is read instead. Move one of the two out of the folder"
    if not is_data(path):
        return _other_kind(path)
    names = Path(pattern)
    if ending(names) == ending(path):
        return f"{names.name!r} does not match it. Call it {path.stem}{names.suffix}, {ASIDE}"
    return f"{names.name!r} does not match it. Let the pattern in the model's file end in '*', {ASIDE}"


def _other_kind(path: Path) -> str:
    kind = ending(path)
    if unpack := UNPACK.get(kind):
        return f"it is packed. Unpack it there: {unpack.format(shlex.quote(path.name))}, {ASIDE}"
    said = f"its name does not end in {', '.join(SUFFIXES)}"
    if read := CONVERT.get(kind):
        call = f"import pandas as pd; pd.{read.format(path.name)}.to_parquet({path.stem + '.parquet'!r})"
        return f"{said}. Convert it there, and move it away: `python -c {shlex.quote(call)}`, {ASIDE}"
    if kind in WORKBOOKS:
        return f"it is a workbook. Export its sheet as CSV, {ASIDE}"
    return f"{said}. Give it the ending of what is in it, or export it as Parquet or CSV, {ASIDE}"


def _inside(path: Path) -> str:
    """Why something in a batch that is a folder is not looked at."""
    if path.is_dir():
        return "it is a folder in a batch. Put its files into the batch's own folder, or move it out"
    if is_data(path):
        return f"the other files of its batch end in {' or '.join(FIRST)}. Let it end like them, or move it out"
    return _other_kind(path)


def table_problems(folder: Path) -> list[str]:
    """Why the files of a folder are not the rows of a batch: it is a table of another system, whose files hold rows
    that were deleted or replaced, too; or some of them are not read. Empty where nothing speaks against it."""
    for marker, kind, read in (
        ("_delta_log", "Delta", "import deltalake; deltalake.DeltaTable({0!r}).to_pandas().to_parquet({1!r})"),
        (
            "metadata/*.metadata.json",
            "Iceberg",
            "from pyiceberg.table import StaticTable; StaticTable.from_metadata({0!r}).scan().to_pandas()"
            ".to_parquet({1!r})",
        ),
        (".hoodie", "Hudi", ""),
    ):
        if found := sorted(folder.glob(marker)):
            source = folder if found[-1].is_dir() else found[-1]
            call = read.format(source.relative_to(folder.parent).as_posix(), f"{folder.name}.parquet")
            how = f"`python -c {shlex.quote(call)}`" if read else "with Spark, as one Parquet file"
            return [
                f"it is a {kind} table, whose files also hold rows that were deleted or replaced. Write its rows of "
                f"today to {folder.name}.parquet beside it, {how}, and move the folder away"
            ]
    return [f"{path.name} in it is not looked at: {_inside(path)}" for path in left_out(folder)]
