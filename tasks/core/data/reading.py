"""How CSV files turn out to be written: for a first model's file, and for who has to mend one."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import pyarrow as pa
import pyarrow.compute as pc

from tasks.core.data.arrow import count_true, reads_as_number
from tasks.core.data.dialect import as_it_says, look
from tasks.core.data.disguise import LOOKED_AT, Reading, disguised, in_words, lines
from tasks.core.data.files import is_text_file, parts
from tasks.core.data.notations import says_days
from tasks.core.data.source import Source, check_kind
from tasks.core.errors import UnreadableData
from tasks.core.spec import CsvSpec
from tasks.core.text import named

PLAIN = CsvSpec()


@dataclass(frozen=True)
class Found:
    """How a CSV file is written, with what was not told."""

    written: CsvSpec = PLAIN
    remarks: dict[str, str] = field(default_factory=dict)
    """Why an option is as it is, by its name."""
    perhaps: tuple[str, ...] = ()
    """Lines of [data.csv] that only a person can decide on, each with why."""
    open: tuple[str, ...] = ()
    """What no option mends, one sentence each."""

    @property
    def in_words(self) -> tuple[str, ...]:
        """All of it, one sentence each."""
        found = [f"{line}{_because(self.remarks.get(name))}" for name, line in lines(self.written, PLAIN).items()]
        return (*found, *self.perhaps, *self.open)

    def as_toml(self) -> str:
        """The section of a model's file that says it; empty where all is as usual."""
        found = [
            line.ljust(31) + f" # {self.remarks[name]}" if name in self.remarks else line
            for name, line in lines(self.written, PLAIN).items()
        ]
        found += [f"# {line}" for line in (*self.perhaps, *self.open)]
        return "\n".join(["", "[data.csv]", *found]) + "\n" if found else ""


def _because(remark: str | None) -> str:
    return f": {remark}" if remark else ""


def found_in(data: Path, given: CsvSpec) -> Found:
    """How the CSV files of a batch are written, by the first of them; the options that are set in `given` are right.

    Raises UnreadableData with all that no option mends; what differs from the usual is said.
    """
    files = parts(data) if data.is_dir() else [data]
    if not files or not is_text_file(files[0]):
        return Found(given)
    check_kind(data.name, files[0], is_text=True)
    fixed = given.model_fields_set
    seen, (_, above) = look(files[0], given, fixed), as_it_says(files[0], given)
    contradicted = [name for name in fixed if name != "separator" or not above]
    contradicted = [name for name in contradicted if getattr(seen.written, name) != getattr(given, name)]
    if seen.faults or contradicted:
        said = seen.said(given) if contradicted else "; and ".join(seen.faults)
        raise UnreadableData(data.name, f"{said.replace(' under [data.csv]', ' by its option')}.")
    source = Source(data.parent, data.name, seen.written)
    texts = {name: values for name, values in sampled(source).items() if not says_days(pa.array(values, pa.string()))}
    read = disguised(texts, seen.written, fixed=fixed)
    return Found(read.written, _remarks(read, given), tuple(_perhaps(read)), tuple(read.open))


def _remarks(read: Reading, given: CsvSpec) -> dict[str, str]:
    where = {"missing": "among", "strip": "around", "thousands": "within", "decimal": "within"}
    found = {name: f"found {where[name]} the numbers of {named(columns)}" for name, columns in read.uses.items()}
    if read.written.encoding in ("latin-1", "cp1252") and read.written.encoding != given.encoding:
        found["encoding"] = 'a guess: if letters look wrong, another, such as "cp1250" or "mac_roman"'
    return found


def _perhaps(read: Reading) -> list[str]:
    """Lines for words that may mean missing."""
    if not read.perhaps:
        return []
    columns = [f"{name} ({', '.join(map(repr, words))})" for name, words in read.perhaps.items()]
    line = lines(read.unsure(), read.written)["missing"]
    return [f"{line}   # if these words mean missing, {named(columns)} would be read as numbers"]


def advice(source: Source, broken: Sequence[str], numbers: Sequence[str], private: Collection[str]) -> list[str]:
    """How to read the columns `broken` of a text file, whose values are no numbers, as numbers; one sentence each.

    `numbers` are all columns that hold numbers. Nothing is said of values that no option reads. No value of a private
    column is named. Raises UnreadableData.
    """
    ours = source.written
    read = disguised(sampled(source, numbers), ours, numbers=numbers, private=private)
    found = []
    if read.written != ours:
        columns = [name for name in broken if any(name in its for its in read.uses.values())] or broken
        found.append(
            f"to read {named([repr(name) for name in columns])} as numbers, "
            f"set {in_words(read.written, ours)} under [data.csv]"
        )
    for name, words in read.perhaps.items():
        if name in broken:
            line = in_words(read.unsure(), read.written)
            found.append(
                f"if {named([repr(word) for word in words])} in {name!r} means missing, set {line} under [data.csv]"
            )
    return found + [said for said in read.open if any(repr(name) in said for name in broken)]


def sampled(source: Source, columns: Sequence[str] | None = None) -> dict[str, list[str]]:
    """Different values of the columns of a text file, those first that are no numbers; at most LOOKED_AT of both."""
    assert source.numerals is not None
    names = [name for name in columns or source.names if source.names.count(name) == 1]
    odd: dict[str, list[pa.Array]] = {name: [] for name in names}
    fine: dict[str, list[pa.Array]] = {name: [] for name in names}
    for chunk in source.stream(names):
        for name, array in zip(names, chunk.columns, strict=True):
            if sum(map(len, odd[name])) > LOOKED_AT:
                continue  # words, whatever else follows
            numeric = reads_as_number(pc.utf8_trim_whitespace(array), source.numerals)
            if count_true(numeric) + array.null_count < len(array):
                odd[name].append(pc.unique(array.filter(pc.invert(numeric))))
            if not fine[name]:
                fine[name].append(pc.unique(array.filter(numeric))[:LOOKED_AT])
    return {
        name: [text for array in (*odd[name], *fine[name]) for text in array.to_pylist()][: 2 * LOOKED_AT]
        for name in names
    }
