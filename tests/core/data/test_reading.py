"""How CSV files turn out to be written: what `ror init` writes down, and what is said of a batch with other numbers."""

from __future__ import annotations

import re
import tomllib
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from tasks.core.data.reading import found_in
from tasks.core.data.source import Source
from tasks.core.errors import UnreadableData
from tasks.core.schema.contract import Contract, infer
from tasks.core.schema.frames import frame
from tasks.core.schema.validation import validate
from tasks.core.spec import CsvSpec
from tests.helpers.training import make_spec

RNG = np.random.default_rng(0)
ROWS = pd.DataFrame(
    {
        "id": np.arange(300),
        "rate": RNG.integers(1, 60, 300),
        "amount": RNG.gamma(2, 900, 300).round(2),
        "age": RNG.integers(18, 80, 300),
        "city": RNG.choice(["Malmö", "Århus"], 300),
        "y": RNG.integers(0, 2, 300),
    }
)
DISGUISED = ROWS.assign(
    rate=[f"{value} %" for value in ROWS["rate"]],
    amount=[f"-${value:,.2f}" if value > 3000 else f"${value:,.2f}" for value in ROWS["amount"]],
    age=ROWS["age"].astype(str).where(ROWS["id"] % 10 > 0, "?"),
)
MEANT = ROWS.assign(
    amount=ROWS["amount"].where(ROWS["amount"] <= 3000, -ROWS["amount"]), age=ROWS["age"].where(ROWS["id"] % 10 > 0)
)
NUMBERS = ["rate", "amount", "age"]


@pytest.fixture
def contract(tmp_path: Path) -> Contract:
    MEANT.to_csv(tmp_path / "known.csv", index=False)
    return infer([Source(tmp_path, "known.csv")], make_spec())


def put(folder: Path, rows: pd.DataFrame | str, encoding: str = "utf-8", **written: str) -> Path:
    text = rows if isinstance(rows, str) else rows.to_csv(index=False, **written)  # type: ignore[call-overload]
    (folder / "b.csv").write_text(text, encoding=encoding)
    return folder / "b.csv"


def test_init_writes_down_how_a_file_is_written(tmp_path: Path, contract: Contract) -> None:
    """The section for a model's file reads the file as it was meant, and says which columns each line is about."""
    found = found_in(put(tmp_path, DISGUISED, "latin-1", sep=";"), CsvSpec())
    text = found.as_toml()
    assert 'missing = ["?"]                 # found among the numbers of age' in text
    assert 'strip = "%$"                    # found around the numbers of rate, amount' in text
    written = CsvSpec.model_validate(tomllib.loads(text)["data"]["csv"])
    assert written == found.written
    seen = frame(contract, Source(tmp_path, "b.csv", written))
    pd.testing.assert_frame_equal(seen[NUMBERS], MEANT[NUMBERS].astype(float))


def test_a_usual_file_needs_no_section(tmp_path: Path) -> None:
    """Nothing is written down where all is as usual, nor of a Parquet file."""
    assert found_in(put(tmp_path, ROWS), CsvSpec()).as_toml() == ""
    ROWS.to_parquet(tmp_path / "b.parquet")
    assert found_in(tmp_path / "b.parquet", CsvSpec()).as_toml() == ""


def test_what_a_person_says_is_kept(tmp_path: Path) -> None:
    """An option that was given stands as it is, the others are looked for."""
    found = found_in(put(tmp_path, ROWS, "latin-1", sep=";", decimal=","), CsvSpec(encoding="cp1252"))
    assert (found.written.encoding, found.written.separator, found.written.decimal) == ("cp1252", ";", ",")
    plain = found_in(put(tmp_path, ROWS.assign(amount="1,5")), CsvSpec(decimal="."))
    assert plain.written == CsvSpec()


def test_an_option_that_the_file_contradicts_is_refused(tmp_path: Path) -> None:
    """A separator or an encoding that was given and cannot be right is said; a file's own word goes before it."""
    file = put(tmp_path, ROWS, "latin-1", sep=";")
    for given, said in ((CsvSpec(separator=","), 'separator = ";"'), (CsvSpec(encoding="utf-8"), "it is not utf-8")):
        with pytest.raises(UnreadableData, match=said):
            found_in(file, given)
    file.write_text("sep=;\n" + ROWS.to_csv(index=False, sep=";"))
    assert found_in(file, CsvSpec(separator=",")).written.separator == ";"


def test_what_is_unsure_stands_as_a_comment(tmp_path: Path) -> None:
    """A word that may mean missing, a total, numbers that can be read in two ways: nothing is changed for them, and a
    comment names the column and the line to write."""
    rows = ROWS.assign(
        age=ROWS["age"].astype(str).where(ROWS["id"] > 0, "old"), rate=[f"{n},500" for n in ROWS["rate"]]
    )
    found = found_in(put(tmp_path, rows.drop(columns="amount")), CsvSpec())
    assert found.written == CsvSpec()
    lines = found.as_toml().splitlines()[2:]
    assert all(line.startswith("# ") for line in lines)
    assert any('missing = ["old"]' in line and "age ('old')" in line for line in lines)
    assert any("'rate'" in line and '`decimal = ","` if it is' in line for line in lines)
    total = found_in(put(tmp_path, ROWS.to_csv(index=False) + "Total,,,,,\n"), CsvSpec())
    assert any("'id' has 'Total' among its numbers" in text for text in total.in_words)


TEXT = ROWS.to_csv(index=False)


@pytest.mark.parametrize(
    ("text", "said"),
    [
        (f"Loans\n{TEXT}", "its header is not on line 1 but on line 2"),
        (TEXT + TEXT.splitlines(keepends=True)[0], "its header comes again among its lines"),
        ("", "the file is empty"),
    ],
)
def test_what_no_option_mends_is_refused(tmp_path: Path, text: str, said: str) -> None:
    """A first model's file is not written from a file that has to be mended first."""
    with pytest.raises(UnreadableData, match=said):
        found_in(put(tmp_path, text), CsvSpec())


# --- batches -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("rows", "encoding", "written"),
    [
        (DISGUISED, "utf-8", {}),
        (MEANT, "latin-1", {"sep": ";", "decimal": ","}),
        (DISGUISED.assign(amount=DISGUISED["amount"].str.replace("$", "USD ")), "utf-8", {"sep": "|"}),
        (DISGUISED.assign(age=DISGUISED["age"].replace("?", "unknown to us")), "utf-8", {}),
        (DISGUISED.assign(age=DISGUISED["age"].replace("?", "#DIV/0!")), "cp1252", {"sep": "\t"}),
    ],
)
def test_following_what_is_said_reads_the_batch(
    tmp_path: Path, contract: Contract, rows: pd.DataFrame, encoding: str, written: dict[str, str]
) -> None:
    """Where numbers of a batch cannot be read, its problems name the lines that read them; followed, there is no
    problem left, and the pipeline sees what was meant. Twice is the most: the file first, then what is in it."""
    put(tmp_path, rows, encoding, **written)
    ours = CsvSpec()
    for _ in range(2):
        try:
            source = Source(tmp_path, "b.csv", ours)
            problems = validate(contract, source, make_spec()).problems
        except UnreadableData as error:
            problems = (str(error),)
        lines = [text for text in re.findall(r"`([^`]*)`", " ".join(problems)) if " = " in text]
        assert lines, problems
        ours = CsvSpec.model_validate({**dict(ours), **tomllib.loads("\n".join(lines))})
        source = Source(tmp_path, "b.csv", ours)
        if not validate(contract, source, make_spec()).problems:
            break
    assert validate(contract, source, make_spec()).problems == ()
    pd.testing.assert_frame_equal(frame(contract, source)[NUMBERS], MEANT[NUMBERS].astype(float))


def test_what_cannot_be_read_gets_no_advice(tmp_path: Path, contract: Contract) -> None:
    """Of values with a meaning of their own only the value is said, not an option that would hide it."""
    put(tmp_path, ROWS.assign(age=ROWS["age"].astype(str).where(ROWS["id"] > 5, "<18")))
    assert len(validate(contract, Source(tmp_path, "b.csv"), make_spec()).problems) == 1


def test_a_private_column_is_not_quoted(tmp_path: Path, contract: Contract) -> None:
    """Advice names no value of a private column."""
    put(tmp_path, ROWS.assign(age=["secret", *ROWS["age"].astype(str)[1:]], rate=[f"{n}%" for n in ROWS["rate"]]))
    spec = make_spec(data={"batches": "*", "private": ["age"]})
    problems = validate(contract, Source(tmp_path, "b.csv"), spec).problems
    assert "secret" not in " ".join(problems)
    assert 'strip = "%"' in problems[-1]
