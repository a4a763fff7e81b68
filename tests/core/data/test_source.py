"""Sources: files and folders as streams of record batches, and what is refused."""

from __future__ import annotations

import unicodedata
from pathlib import Path

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from tasks.core.data import source as sources
from tasks.core.data.arrow import Numerals
from tasks.core.data.source import Source
from tasks.core.errors import UnreadableData
from tasks.core.spec import CsvSpec
from tasks.core.types import Batch
from tasks.core.workspace import Project, Workspace
from tests.helpers.training import make_spec, put

KEYS = pd.DataFrame({"id": [1, 2, 3, 4], "x": [0.1, 0.2, 0.3, 0.4]})


@pytest.mark.parametrize("name", ["b.parquet", "b.csv"])
def test_a_stream_gives_the_columns_in_the_order_asked_for(tmp_path: Path, name: str) -> None:
    """Columns arrive as they are asked for, whatever their order and names in the file."""
    frame = pd.DataFrame({"a": [1, 2], "b": [3, 4], "a.b": [5, 6]})
    source = put(tmp_path, frame, name)
    assert source.names == ["a", "b", "a.b"]
    for asked in (["b", "a"], ["a.b"], ["a"], ["a.b", "a", "b"]):
        table = source.read(asked)
        assert table.column_names == asked
        assert [[int(value) for value in column] for column in table.to_pydict().values()] == [
            frame[column].tolist() for column in asked
        ]


def test_memory_is_bounded_by_chunks(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A file is read in chunks of a fixed number of rows, all of it and in order."""
    monkeypatch.setattr(sources, "CHUNK_ROWS", 30)
    source = put(tmp_path, pd.DataFrame({"a": np.arange(100)}))
    chunks = list(source.stream())
    assert [chunk.num_rows for chunk in chunks] == [30, 30, 30, 10]
    assert [value for chunk in chunks for value in chunk.column(0).to_pylist()] == list(range(100))


def test_csv_arrives_as_text(tmp_path: Path) -> None:
    """Values of a CSV file are not interpreted, so that each one that does not fit can be counted later."""
    (tmp_path / "b.csv").write_text('a,b\n007,"x\ny"\n,1.50\n')
    source = Source(tmp_path, "b.csv")
    assert source.is_text
    assert source.read(["a", "b"]).to_pydict() == {"a": ["007", None], "b": ["x\ny", "1.50"]}


def test_a_folder_is_read_in_name_order(tmp_path: Path) -> None:
    """The parts of a batch that is a folder follow each other by name."""
    (tmp_path / "batch").mkdir()
    for name, value in (("2.parquet", 2), ("1.parquet", 1), (".3.parquet", 3)):
        put(tmp_path, pd.DataFrame({"a": [value]}), f"batch/{name}")
    assert Source(tmp_path, "batch").read(["a"]).to_pydict() == {"a": [1, 2]}


def test_an_empty_folder_is_unreadable(tmp_path: Path) -> None:
    """A folder without data files is refused with what was looked for."""
    (tmp_path / "batch").mkdir()
    with pytest.raises(UnreadableData, match=r"holds no \.parquet or \.csv files") as caught:
        Source(tmp_path, "batch")
    assert caught.value.exit_code == 3


@pytest.mark.parametrize("damaged", ["1.csv", "2.csv", "1.parquet", "2.parquet"])
def test_every_part_of_a_folder_must_be_whole(tmp_path: Path, damaged: str) -> None:
    """A part that was cut short makes the whole batch unreadable, whichever part it is."""
    (tmp_path / "batch").mkdir()
    for number in (1, 2):
        put(tmp_path, KEYS, f"batch/{number}{Path(damaged).suffix}")
    file = tmp_path / "batch" / damaged
    file.write_bytes(file.read_bytes()[:-2])
    with pytest.raises(UnreadableData, match="cut short"):
        Source(tmp_path, "batch").read(["id", "x"])


@pytest.mark.parametrize("name", ["none.parquet", "none.csv"])
def test_a_file_that_is_gone_is_unreadable(tmp_path: Path, name: str) -> None:
    """A file that was removed between looking and reading is named, without a traceback of a library."""
    with pytest.raises(UnreadableData, match=f"{name} cannot be read"):
        Source(tmp_path, name)


@pytest.mark.parametrize(
    ("kinds", "expected"),
    [
        (("int64", "float64"), pa.float64()),
        (("int8", "int64"), pa.int64()),
        (("float32", "float64"), pa.float64()),
        (("string", "str"), pa.string()),
        (("int64", "str"), None),
        (("datetime64[s]", "int64"), None),
    ],
)
def test_parts_of_other_types(tmp_path: Path, kinds: tuple[str, str], expected: pa.DataType | None) -> None:
    """Parts whose types go together are read as one column; others are refused by column, with both types."""
    (tmp_path / "batch").mkdir()
    for number, kind in enumerate(kinds):
        put(tmp_path, pd.DataFrame({"a": [1, 2], "b": [3, 4]}).astype({"a": kind}), f"batch/{number}.parquet")
    source = Source(tmp_path, "batch")
    if expected is None:
        with pytest.raises(
            UnreadableData, match=r"batch cannot be read: column 'a' is .* in one file and .* in another"
        ):
            source.read(["b", "a"])
    else:
        assert source.read(["b", "a"]).schema.types == [pa.int64(), expected]


@pytest.mark.parametrize("name", ["ORC", "PAR1", "BZh", "ARROW1", "[a]", "{x}", "ORC;x"])
def test_columns_may_be_called_like_formats(tmp_path: Path, name: str) -> None:
    """A CSV file is not taken for another kind because of what its first column is called."""
    put(tmp_path, KEYS.rename(columns={"id": name}), "b.csv")
    assert Source(tmp_path, "b.csv").names == [name, "x"]


def test_a_line_that_never_ends(tmp_path: Path) -> None:
    """A quote that is left open swallows the rest of a large file: that is said instead of a block size."""
    (tmp_path / "b.csv").write_text("a,b\n" + '"x,1\n' + "y,2\n" * 600_000)
    with pytest.raises(UnreadableData, match=r"longer than 1 MB, or a quote is never closed"):
        Source(tmp_path, "b.csv").read(["a"])


def test_how_numbers_are_written_is_known_of_text_only(tmp_path: Path) -> None:
    """How numbers are written is a question for text files; Parquet knows its numbers."""
    written = CsvSpec(separator=";", decimal=",")
    put(tmp_path, KEYS, "b.parquet")
    KEYS.to_csv(tmp_path / "b.csv", sep=";", index=False)
    assert Source(tmp_path, "b.parquet", written).numerals is None
    assert Source(tmp_path, "b.csv", written).numerals == Numerals(decimal=",")


def test_other_columns_are_not_read(tmp_path: Path) -> None:
    """Text that is not UTF-8 matters in the columns that are read, and not beside them."""
    (tmp_path / "b.csv").write_bytes("a,b\n1,ø\n".encode("latin-1"))
    source = Source(tmp_path, "b.csv")
    assert source.read(["a"]).to_pydict() == {"a": ["1"]}
    with pytest.raises(
        UnreadableData, match=r"it is not utf-8 text \(row 2\): set `encoding = .latin-1.` under \[data.csv\]"
    ):
        source.read(["b"])


def test_a_damaged_page_is_unreadable(tmp_path: Path) -> None:
    """Damage in the middle of a Parquet file shows when its page is unpacked, and names the file."""
    pq.write_table(pa.table({"a": np.random.default_rng(0).normal(size=50_000)}), tmp_path / "b.parquet")
    data = bytearray((tmp_path / "b.parquet").read_bytes())
    data[4:3000] = b"\0" * 2996
    (tmp_path / "b.parquet").write_bytes(data)
    with pytest.raises(UnreadableData, match=r"b\.parquet cannot be read"):
        Source(tmp_path, "b.parquet").read(["a"])


def test_memory_does_not_follow_the_row_group(tmp_path: Path) -> None:
    """A file whose rows are all in one group is read in parts: of its 98 MB less than half is held at any time."""
    columns = {f"x{place}": np.random.default_rng(place).normal(size=1_500_000) for place in range(8)}
    pq.write_table(pa.table(columns), tmp_path / "one.parquet", row_group_size=1_500_000)
    before, held, rows = pa.total_allocated_bytes(), 0, 0
    for chunk in Source(tmp_path, "one.parquet").stream():
        rows += chunk.num_rows
        held = max(held, pa.total_allocated_bytes() - before)
    assert rows == 1_500_000
    assert held < 49e6


def test_a_batch_is_read_as_the_model_says(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A workspace and whoever has its parts only open the same source, with the model's way to write CSV files."""
    written = {"separator": ";", "decimal": ","}
    spec = make_spec(data={"batches": "*.csv", "csv": written})
    monkeypatch.setattr(Workspace, "spec", spec)
    (tmp_path / "1.csv").write_text("a;b\n1,5;2\n")
    batch = Batch("1", "1.csv", "digest")
    for source in (Source.of(tmp_path, spec, batch), Workspace(Project(tmp_path, "memory://"), "loans").source(batch)):
        assert (source.path, source.names, source.numerals) == ("1.csv", ["a", "b"], Numerals(decimal=","))


@pytest.mark.parametrize("name", ["b.parquet", "b.csv"])
def test_letters_of_a_name_may_be_composed_otherwise(tmp_path: Path, name: str) -> None:
    """A column whose name has the same letters as one that is asked for, in other characters, is read as that one."""
    decomposed, composed = (unicodedata.normalize(form, "é") for form in ("NFD", "NFC"))
    source = put(tmp_path, pd.DataFrame({"a": [1], decomposed: [2]}), name)
    source.adopt([composed, "a", "none"])
    assert source.names == ["a", composed]
    table = source.read([composed, "a"])
    assert [int(value) for (value,) in table.to_pydict().values()] == [2, 1]
    assert table.column_names == [composed, "a"]
    source.adopt([decomposed])
    assert source.read([decomposed]).column_names == [decomposed]


def test_names_of_which_two_look_alike_stay(tmp_path: Path) -> None:
    """Where a file has both ways to compose a name, each is a column of its own."""
    both = [unicodedata.normalize(form, "é") for form in ("NFD", "NFC")]
    source = put(tmp_path, pd.DataFrame([[1, 2]], columns=both))
    source.adopt(reversed(both))
    assert source.names == both


def test_the_name_that_is_nearly_it(tmp_path: Path) -> None:
    """A column that is missing is named with the one that differs by blanks or capitals, if it is one."""
    source = put(tmp_path, pd.DataFrame([[1, 2, 3]], columns=[" Temp", "x", "X "]))
    assert source.nearly("temp") == "; ' Temp' is nearly it: rename it to 'temp'"
    assert (source.nearly("X"), source.nearly("tem")) == ("", "")


def test_what_means_missing(tmp_path: Path) -> None:
    """Texts that mean missing are none, in columns of any kind and with blanks around them."""
    (tmp_path / "b.csv").write_text('a,b\n ? ,x\n"?",-\n??,NA\n')
    table = Source(tmp_path, "b.csv", CsvSpec(missing=("?", "-"))).read(["a", "b"])
    assert table.to_pydict() == {"a": [None, None, "??"], "b": ["x", None, None]}
