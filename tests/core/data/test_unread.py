"""Files that no run looks at, and tables of other systems: each is said, with a way out that leads out."""

from __future__ import annotations

import bz2
import gzip
import json
import lzma
import os
import re
import shutil
import subprocess
import sys
import zipfile
from pathlib import Path

import pandas as pd
import pyarrow as pa
import pyarrow.feather as feather
import pytest

from tasks.core.data.files import find_batches
from tasks.core.data.source import Source
from tasks.core.data.unread import unread
from tasks.core.errors import UnreadableData
from tasks.core.schema.validation import validate
from tests.helpers.training import make_spec

ROWS = pd.DataFrame({"id": [1, 2, 3], "x": [0.5, 1.5, 2.5], "y": [0, 1, 0]})
SPEC = make_spec(data={"batches": "batches/*", "labels": "labels/*"})


def put(path: Path, data: bytes | str = "x") -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(data if isinstance(data, bytes) else data.encode())
    return path


def feathered(path: Path) -> None:
    feather.write_feather(ROWS, str(path))


TEXT = ROWS.to_csv(index=False)


def zipped(path: Path) -> None:
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr(f"{path.stem}.csv", TEXT)


WRITERS = {
    "2026 03.csv.gz": lambda path: path.write_bytes(gzip.compress(TEXT.encode())),
    "1.csv.bz2": lambda path: path.write_bytes(bz2.compress(TEXT.encode())),
    "1.csv.xz": lambda path: path.write_bytes(lzma.compress(TEXT.encode())),
    "1.csv.zst": lambda path: path.write_bytes(pa.compress(TEXT.encode(), codec="zstd", asbytes=True)),
    "1.zip": zipped,
    "1.feather": feathered,
    "1.arrow": feathered,
    "1.json": lambda path: ROWS.to_json(path, orient="records"),
    "1.jsonl": lambda path: ROWS.to_json(path, orient="records", lines=True),
    "1.ndjson": lambda path: ROWS.to_json(path, orient="records", lines=True),
    "it's.orc": lambda path: ROWS.to_orc(path, index=False),
}


@pytest.mark.parametrize("name", WRITERS)
def test_the_command_makes_a_file_that_is_read(tmp_path: Path, name: str) -> None:
    """Whoever types the command that the message gives has a batch with all of the rows."""
    (tmp_path / "batches").mkdir()
    WRITERS[name](tmp_path / "batches" / name)
    (said,) = unread(tmp_path, SPEC)
    assert said.startswith(f"batches/{name} is not looked at: ")
    command = re.search(r"`(.*)`", said)
    assert command is not None
    if shutil.which(tool := command[1].split()[0]) is None and tool != "python":
        pytest.skip(f"{tool} is not installed")
    path = f"{Path(sys.executable).parent}:{os.environ['PATH']}"
    subprocess.run(command[1], shell=True, check=True, cwd=tmp_path / "batches", env={**os.environ, "PATH": path})
    (batch,) = find_batches(tmp_path, SPEC)
    table = Source(tmp_path, batch.path).read(["id", "x", "y"])
    assert [float(value) for value in table.column("x").to_pylist()] == ROWS.x.tolist()
    (tmp_path / "batches" / name).unlink(missing_ok=True)
    assert unread(tmp_path, SPEC) == []


@pytest.mark.parametrize(
    ("name", "words"),
    [
        ("1.csv.bz2", "bunzip2"), ("1.csv.xz", "unxz"), ("1.csv.zst", "unzstd"), ("1.zip", "unzip"),
        ("1.csv.GZ", "gunzip"), ("1.xlsx", "Export its sheet as CSV"), ("1.ods", "Export its sheet"),
        ("1.txt", "Give it the ending"), ("1.dat", "Give it the ending"), ("2026-01", "Give it the ending"),
        ("1.avro", "export it as Parquet or CSV"), ("1.csv.bak", "or let its name begin with '_'"),
    ],
)  # fmt: skip
@pytest.mark.parametrize("folder", ["batches", "labels"])
def test_what_no_run_looks_at_is_said(tmp_path: Path, folder: str, name: str, words: str) -> None:
    """Beside batches and beside labels; a leading '_' is the way to say that it is meant so."""
    path = put(tmp_path / folder / name)
    (said,) = unread(tmp_path, SPEC)
    assert said.startswith(f"{folder}/{name} is not looked at: ") and words in said
    path.rename(path.with_name(f"_{name}"))
    assert unread(tmp_path, SPEC) == []


@pytest.mark.parametrize(
    "name", ["_SUCCESS", ".1.csv", "1.csv.done", "1.csv.tmp", "1.parquet.crc", "README.md", "1.md5"]
)
def test_marks_and_notes_are_no_data(tmp_path: Path, name: str) -> None:
    """What is on its way, marks, checksums and notes are passed over in silence."""
    put(tmp_path / "batches" / name)
    assert unread(tmp_path, SPEC) == []


@pytest.mark.parametrize(
    ("pattern", "name", "said", "after"),
    [
        ("batches/*.csv", "1.CSV", "Call it 1.csv", "1.csv"),
        ("batches/*.parquet", "1.Parquet", "Call it 1.parquet", "1.parquet"),
        ("batches/*.parquet", "1.csv", "Let the pattern in the model's file end in '*'", None),
        ("batches/eu-*.csv", "eu-1.csv.gz", "Unpack it", None),
        ("batches/eu-*.csv", "us-1.csv.gz", None, None),
        ("batches/eu-*.csv", "us-1.csv", None, None),
        ("*", "1.xlsx", "Export its sheet", None),
    ],
)
def test_files_that_the_pattern_does_not_match(
    tmp_path: Path, pattern: str, name: str, said: str | None, after: str | None
) -> None:
    """A file that would match but for its ending is said; those of another name may be of another model."""
    folder = tmp_path / pattern.rpartition("/")[0]
    path = put(folder / name)
    spec = make_spec(data={"batches": pattern})
    found = unread(tmp_path, spec)
    assert [said in one for one in found] == [True] if said else found == []
    if after:
        path.rename(folder / after)
        assert unread(tmp_path, spec) == [] and len(find_batches(tmp_path, spec)) == 1


def test_labels_in_the_folder_of_the_batches_are_looked_at(tmp_path: Path) -> None:
    """What the other pattern matches is read, and not said."""
    spec = make_spec(data={"batches": "in/batch-*.parquet", "labels": "in/labels-*.csv"})
    put(tmp_path / "in/batch-1.parquet")
    put(tmp_path / "in/labels-1.csv")
    assert unread(tmp_path, spec) == []


@pytest.mark.parametrize("other", ["1.tsv", "1.csv.gz", "1.feather", "1.xlsx"])
def test_a_file_beside_its_twin(tmp_path: Path, other: str) -> None:
    """Where 1.csv counts, as it always has, a packed one or one of another kind is no second batch to be made of it;
    once it is moved away nothing is said."""
    for name in ("1.csv", other):
        put(tmp_path / "batches" / name, name)
    (said,) = unread(tmp_path, SPEC)
    assert said == f"batches/{other} is not looked at: 1.csv is read instead. Move one of the two out of the folder"
    (tmp_path / "batches" / other).unlink()
    assert unread(tmp_path, SPEC) == []


@pytest.mark.parametrize("other", ["b.csv.gz", "b.CSV", "b.feather", "more/b.csv", "month=2/b.parquet"])
def test_a_folder_of_which_a_part_is_not_read(tmp_path: Path, other: str) -> None:
    """It is no batch, so that half of the rows are not taken for all; without that part it is one."""
    folder = tmp_path / "batches/1"
    put(folder / "a.csv", "x,y\n1,2\n")
    part = put(folder / other, "x,y\n3,4\n")
    inside = other.partition("/")[0]
    (said,) = unread(tmp_path, SPEC)
    assert said.startswith(f"batches/1/{inside} is not looked at")
    (problem,) = validate(None, Source(tmp_path, "batches/1"), make_spec(key=None)).problems
    assert problem.startswith(f"batches/1: {inside} in it is not looked at: ")
    part.rename(tmp_path / "elsewhere")
    assert validate(None, Source(tmp_path, "batches/1"), make_spec(key=None)).problems == ()


@pytest.mark.parametrize(
    ("marker", "kind", "files"),
    [
        ("_delta_log/00000000000000000000.json", "Delta", ["part-0.parquet"]),
        ("metadata/v2.metadata.json", "Iceberg", ["data/0.parquet"]),
        ("metadata/00001-ab.metadata.json", "Iceberg", ["0.parquet"]),
        (".hoodie/hoodie.properties", "Hudi", ["part-0.parquet"]),
    ],
)
def test_a_table_of_another_system_is_no_batch(tmp_path: Path, marker: str, kind: str, files: list[str]) -> None:
    """Its files hold rows that were deleted or replaced: refused by name, with the way to one Parquet file."""
    folder = tmp_path / "batches/2026.01"
    put(folder / marker, json.dumps({}))
    for name in files:
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        ROWS.to_parquet(folder / name, index=False)
    try:
        (problem,) = validate(None, Source(tmp_path, "batches/2026.01"), SPEC).problems
    except UnreadableData as error:
        problem = str(error)
    assert f"it is a {kind} table" in problem and "2026.01.parquet" in problem and "move the folder away" in problem
    folder.rename(tmp_path / "2026.01")
    ROWS.to_parquet(tmp_path / "batches/2026.01.parquet", index=False)
    (batch,) = find_batches(tmp_path, SPEC)
    assert batch.id == "2026.01"
    assert validate(None, Source(tmp_path, batch.path), SPEC).problems == ()


@pytest.mark.parametrize("name", ["b.CSV", "b.tsv", "b.TSV", "b.parq", "b.PARQUET"])
def test_other_endings_are_read_alike(tmp_path: Path, name: str) -> None:
    """Whatever the letters of the ending, and whatever separator the model's file names for its CSV files."""
    path = tmp_path / name
    text = name.lower().endswith(("csv", "tsv"))
    if text:
        ROWS.to_csv(path, index=False, sep="\t" if name.lower().endswith("tsv") else ",")
    else:
        ROWS.to_parquet(path, index=False)
    source = Source(tmp_path, name)
    assert (source.names, source.is_text) == (["id", "x", "y"], text)
    assert [float(value) for value in source.read(["x"]).column(0).to_pylist()] == ROWS.x.tolist()
