"""One look at a text file: all that is wrong with it is named at once, and what is advised, followed to the letter,
makes it a file that is read."""

from __future__ import annotations

import gzip
import re
import shutil
import subprocess
import tomllib
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from tasks.core.data.dialect import encoding_of
from tasks.core.data.source import Source
from tasks.core.errors import UnreadableData
from tasks.core.spec import CsvSpec

RNG = np.random.default_rng(0)
ROWS = pd.DataFrame(
    {
        "id": np.arange(300),
        "x": RNG.normal(size=300).round(3),
        "amount": RNG.gamma(2, 900, 300).round(2),
        "city": RNG.choice(["Malmö", "Århus", "Genève"], 300),
    }
)
TEXT = ROWS.to_csv(index=False)
GERMAN = ROWS.assign(amount=[f"{value:_.2f}".replace(".", ",").replace("_", ".") for value in ROWS["amount"]]).to_csv(
    index=False, sep=";", decimal=","
)
HEADER, *LINES = TEXT.splitlines(keepends=True)

EVERYTHING = ("encoding", "separator", "decimal", "thousands")
FAULTS: dict[str, tuple[str, bytes, tuple[str, ...]]] = {
    # name: the file's name, what is in it, and what the one message says
    "German Excel": ("b.csv", GERMAN.replace("\n", "\r\n").encode("latin-1"), EVERYTHING),
    "German Excel, euros": ("b.csv", GERMAN.replace("Malmö", "€").encode("cp1252"), EVERYTHING),
    "German Excel, cut": ("b.csv", GERMAN.encode("latin-1")[:-1], (*EVERYTHING, "line break", "echo")),
    "German, titles": ("b.csv", f"Loans\n\n{GERMAN}".encode("latin-1"), (*EVERYTHING, "header is not on line 1")),
    "Unicode text": ("b.csv", GERMAN.replace(";", "\t").encode("utf-16"), EVERYTHING),
    "semicolons": ("b.csv", TEXT.replace(",", ";").encode(), ("separator",)),
    "bars": ("b.csv", TEXT.replace(",", "|").encode(), ("separator",)),
    "Google Sheets": ("b.csv", TEXT.rstrip("\n").encode(), ("echo",)),
    "titles": ("b.csv", f"Loans of January\nprinted today\n{TEXT}".encode(), ("not on line 1 but on line 3",)),
    "values of none": ("b.csv", f"{TEXT},,,\n,,,\n".encode(), ("last line has no values",)),
    "separators at the end": ("b.csv", (HEADER + "".join(LINES).replace("\n", ",\n")).encode(), ("end with one",)),
    "fixed width": ("b.csv", f"{ROWS.to_string(index=False)}\n".encode(), ("several blanks",)),
    "packed": ("b.csv", gzip.compress(TEXT.encode()), ("compressed with gzip",)),
    "semicolons called tabs": ("b.tsv", GERMAN.encode(), ("call it b.csv", 'separator = ";"', "decimal")),
    "commas called tabs": ("b.tsv", TEXT.encode(), ("call it b.csv",)),
}  # fmt: skip


def follow(message: str, file: Path, written: CsvSpec) -> tuple[Path, CsvSpec]:
    """What a person does who reads the message: its lines into the model's file, its commands in the file's folder."""
    quoted = re.findall(r"`([^`]*)`", message)
    lines = [text for text in quoted if re.match(r"[a-z]+ = ", text)]
    for command in quoted:
        if command.startswith("awk"):
            command += f" > new && mv new {file.name}"
        if command not in lines and shutil.which(command.split()[0]):
            subprocess.run(command, shell=True, cwd=file.parent, check=True)
    if renamed := re.search(r"call it (\S+?),? ", message):
        file = file.rename(file.with_name(renamed[1]))
    return file, CsvSpec.model_validate({**dict(written), **tomllib.loads("\n".join(lines))})


@pytest.mark.parametrize("case", FAULTS)
def test_one_message_names_all_and_what_it_says_helps(tmp_path: Path, case: str) -> None:
    """Of files that differ in several things at once, as spreadsheets of other countries write them, one message names
    all; whoever follows it reads the file, with every value as it was."""
    name, content, said = FAULTS[case]
    file = tmp_path / name
    file.write_bytes(content)
    with pytest.raises(UnreadableData) as caught:
        Source(tmp_path, name).read(["id"])
    assert all(word in str(caught.value) for word in said), str(caught.value)
    file, written = follow(str(caught.value), file, CsvSpec())
    table = Source(tmp_path, file.name, written).read(list(ROWS)).to_pandas()
    assert len(table) in (300, 301)
    from tasks.core.data.arrow import as_numbers, pa

    numerals = Source(tmp_path, file.name, written).numerals
    assert numerals is not None
    for column in ("x", "amount"):
        assert np.allclose(as_numbers(pa.array(table[column][:300]), numerals), ROWS[column])
    cities = set(table["city"][:300]) - {"€"}
    assert cities <= set(ROWS["city"])


@pytest.mark.parametrize(
    ("text", "said"),
    [
        (ROWS.to_csv(), "name it, the first one, or, if it has numbers of rows, write the file without"),
        ("a b c d\n" + "".join(f'"{n}" 1 2 3 4\n' for n in range(9)), "one name less than its lines have values"),
        (f"{TEXT}* preliminary\n", r"Row #302: Expected 4 columns, got 1\..* without lines below its rows"),
        (TEXT.replace("Malmö", "Malmö, SE", 1), r"Expected 4 columns, got 5\..* in quotes"),
        ("a,b,\n1,2,\n3,4,5\n", "its last 1 columns have values but no name"),
        ("город,x\nМосква,1\n".encode("cp1251"), "set `encoding` under .data.csv. to what it was written with"),
        ("miasto,x\nżółć gęś,1\n".encode("cp1250"), "it is not utf-8 text"),
    ],
)  # fmt: skip
def test_what_only_who_wrote_the_file_can_mend(tmp_path: Path, text: str | bytes, said: str) -> None:
    """Rows of other lengths, names of rows, letters of unknown encoding: named, with what to do."""
    from tasks.core.schema.contract import broken_names
    from tests.helpers.training import make_spec

    (tmp_path / "b.csv").write_bytes(text.encode() if isinstance(text, str) else text)
    with pytest.raises(UnreadableData, match=said):
        source = Source(tmp_path, "b.csv")
        source.read(source.names)
        raise UnreadableData("b.csv", "; ".join(broken_names(source, make_spec(key=None))))


@pytest.mark.parametrize(
    "text",
    [
        "sep=;\r\n" + GERMAN.replace("\n", "\r\n"),
        '\ufeff"sep=;"\n' + GERMAN,
        "SEP=;\n" + GERMAN,
        GERMAN.replace(HEADER.replace(",", ";"), HEADER.replace(",", ";").strip() + ";;\n").replace("\n", ";;\n", 1),
    ],
)
def test_what_cannot_mean_anything_else_is_read(tmp_path: Path, text: str) -> None:
    """The line in which a spreadsheet names the separator is no row, whatever the model's file says of it."""
    (tmp_path / "b.csv").write_text(text if "sep" in text.lower() else GERMAN)
    source = Source(tmp_path, "b.csv", CsvSpec(decimal=",", separator=";" if "sep" not in text.lower() else ","))
    assert source.names == list(ROWS)
    assert source.read(["id"]).column(0).to_pylist() == [str(number) for number in range(300)]


def test_columns_without_name_and_value_at_the_end_are_read_over(tmp_path: Path) -> None:
    """A spreadsheet writes columns that were emptied; in any order of columns the others are where they were."""
    (tmp_path / "b.csv").write_text("a,b,,\n1,2,,\n3,4,,\n")
    source = Source(tmp_path, "b.csv")
    assert source.names == ["a", "b"]
    assert source.read(["b", "a"]).to_pydict() == {"b": ["2", "4"], "a": ["1", "3"]}


@pytest.mark.parametrize(
    ("text", "written", "found"),
    [
        ("é", "utf-8", "utf-8"),
        ("é", "latin-1", "latin-1"),
        ("é €", "cp1252", "cp1252"),
        ("Москва", "cp1251", None),
        ("Zürich", "mac_roman", None),
        ("東京都", "cp932", None),
    ],
)
def test_encodings(tmp_path: Path, text: str, written: str, found: str | None) -> None:
    """UTF-8 and the letters of Western Europe are told from others, which nobody can tell apart."""
    (tmp_path / "b.csv").write_bytes(f"a,b\n{text},1\n{text},2\n".encode(written))
    assert encoding_of(tmp_path / "b.csv", "utf-8") == found
