"""How a text file is written: what its name, its first line and its bytes say, beside what the model's file says."""

from __future__ import annotations

import codecs
import csv
import io
import re
import shlex
from collections import Counter
from collections.abc import Collection, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from tasks.core.data.disguise import disguised, in_words
from tasks.core.data.files import ending
from tasks.core.spec import CsvSpec

SAMPLE = 2**18
"""Bytes at the beginning of a file that are looked at closely."""
ABOVE = 20
"""Lines above a header that are taken for titles."""
BLOCK = 2**20

SEPARATORS = {",": "comma", ";": "semicolon", "\t": "tab", "|": "bar", " ": "blank", "^": "caret", "~": "tilde"}
_SEP = re.compile(r'\ufeff?"?sep=([^\r\n"\w])"?\s*?(\r\n?|\n)', re.IGNORECASE)


def as_it_says(file: Path, written: CsvSpec) -> tuple[CsvSpec, int]:
    """How a file is written where itself says so, and the lines above its header: its ending may stand for tabs, and
    the first line that spreadsheets write and read, `sep=;`, names the separator."""
    if ending(file) == ".tsv":
        written = written.model_copy(update={"separator": "\t"})
    with file.open("rb") as handle:
        said = _SEP.match(handle.read(64).decode(written.encoding, "ignore"))
    return (written.model_copy(update={"separator": said[1]}), 1) if said else (written, 0)


@dataclass
class Look:
    """What one look at a file finds."""

    written: CsvSpec
    """How it is written, as far as the options of [data.csv] can say."""
    reasons: list[str] = field(default_factory=list)
    """Why that is not what the model's file says, one clause for each option."""
    faults: list[str] = field(default_factory=list)
    """What no option mends, each with what to do."""

    def said(self, than: CsvSpec) -> str:
        """All of it as one text; empty where nothing is found. `than` is what the model's file says."""
        found = list(self.faults)
        if self.reasons:
            both = " and ".join([", ".join(self.reasons[:-1]), self.reasons[-1]] if self.reasons[1:] else self.reasons)
            how = f"with {_named(than.separator)}s" if "separated" in both else "as UTF-8"
            how = "as that section says" if self.reasons[1:] else how
            found.insert(0, f"{both}: set {in_words(self.written, than)} under [data.csv], or deliver it {how}")
        return "; and ".join(found)


def look(file: Path, written: CsvSpec, fixed: Collection[str] = (), row: str | None = None) -> Look:
    """All that is to be said of how a CSV file is written, at once. `written` is what the model's file says of it, and
    options in `fixed` are not looked for; `row` is one that could not be decoded."""
    ours, above = as_it_says(file, written)
    encoding = encoding_of(file, ours.encoding)
    with file.open("rb") as handle:
        start, whole = handle.read(SAMPLE), not handle.read(1)
    text = start.decode(encoding or "latin-1", "ignore").removeprefix("\ufeff")
    # Where the file names its separator itself, others of its system may not.
    found = Look(written.model_copy(update={"separator": ours.separator}) if above else written)
    if encoding != ours.encoding:
        said = f"it is not {ours.encoding} text{f' (row {row})' if row else ''}"
        if encoding is None:
            found.faults.append(f"{said}: {UNKNOWN}")
        else:
            found.reasons.append(said)
            found.written = found.written.model_copy(update={"encoding": encoding})
    if not is_ended(file, encoding or ours.encoding):
        found.faults.append(_not_ended(file, encoding or ours.encoding))
    if ends_with_nothing(file, ours):
        mark = re.escape(ours.separator)
        found.faults.append(
            f"its last line has no values: remove such lines, `sed -i '/^{mark}*\\r*$/d' {shlex.quote(file.name)}`"
        )
    _look_at_lines(file, text, whole, ours, found, fixed)
    return found


def _not_ended(file: Path, encoding: str) -> str:
    how = "" if is_wide(encoding) else f", `echo >> {shlex.quote(file.name)}`"
    return (
        "the last line does not end with a line break, so the file may be cut short: deliver it again, or end it if "
        f"its last row is whole{how}"
    )


UNKNOWN = (
    'set `encoding` under [data.csv] to what it was written with, such as "cp1250" (Central Europe), "cp1251" '
    '(Cyrillic), "cp932" (Japan), "gb18030" (China) or "mac_roman", or deliver it as UTF-8'
)


# --- lines ---------------------------------------------------------------------------------------------------


def _look_at_lines(file: Path, text: str, whole: bool, ours: CsvSpec, found: Look, fixed: Collection[str]) -> None:
    if said := _SEP.match(text):
        text = text[said.end() :]
    ways = {mark: _records(text, mark, whole) for mark in dict.fromkeys([ours.separator, *SEPARATORS])}
    if not _is_even(ways[" "][0]):
        del ways[" "]
    separator = max(ways, key=lambda mark: _share(ways[mark][0]))
    records, ends = ways[separator]
    if _share(records) == 0 and _is_aligned(text):
        found.faults.append(
            "its columns are separated by several blanks: deliver it with commas, which, if no value has a blank, "
            f"`sed -i -E 's/^ +| +$//g; s/ +/,/g' {shlex.quote(file.name)}` makes of them"
        )
    if separator != ours.separator and _share(records) > 0:
        _separator(file, separator, ours, found)
    above = 1 if said else 0
    place = _header(records)
    if place:
        lines = ends[place - 1] + above
        found.faults.append(
            f"its header is not on line {above + 1} but on line {lines + 1}, below a title: remove what is above it, "
            f"`sed -i '{above + 1},{lines}d' {shlex.quote(file.name)}`"
        )
    if not records:
        return
    header, rows = records[place], records[place + 1 :]
    found.faults += _names(file, header, rows, separator)
    even = [row for row in rows if len(row) == len(header)]
    if (found.reasons or separator != ours.separator) and not {"decimal", "thousands"} & {*fixed}:
        columns = {str(at): [row[at] for row in even] for at in range(len(header))}
        marks = disguised(columns, found.written, fixed=["strip", "missing"]).written
        if marks.decimal != found.written.decimal:
            found.reasons.append(f"its numbers have decimal {_named(marks.decimal)}s")
        if marks.thousands != found.written.thousands:
            found.reasons.append("its numbers have marks between groups of digits")
        found.written = marks


def _is_even(records: list[list[str]]) -> bool:
    """Whether words are values: all lines have as many, but for the first, and nowhere are several blanks."""
    return len({len(record) for record in records[1:]}) == 1 and all(cell for record in records for cell in record)


def _is_aligned(text: str) -> bool:
    """Whether lines are as many words each, three or more, some of which several blanks separate."""
    lines = text.splitlines()[:-1]
    return "  " in text and len({len(line.split()) for line in lines}) == 1 and len(lines[0].split()) > 2


def _named(mark: str) -> str:
    return "point" if mark == "." else SEPARATORS.get(mark, repr(mark))


def _separator(file: Path, separator: str, ours: CsvSpec, found: Look) -> None:
    looks = f"it looks like a {_named(separator)}-separated file"
    if ending(file) != ".tsv":
        found.reasons.append(looks)
        found.written = found.written.model_copy(update={"separator": separator})
        return
    # Its ending says tabs, whatever the model's file says.
    name = file.with_suffix(".csv").name
    line = "" if separator == found.written.separator else f', and set `separator = "{separator}"` under [data.csv]'
    found.faults.append(f"{looks}, and its ending says tabs: call it {name}{line}, or deliver it with tabs")


def _records(text: str, separator: str, whole: bool) -> tuple[list[list[str]], list[int]]:
    """The records of a text that are not empty, and the line that each ends on; without the last of a part."""
    reader, records, ends = csv.reader(io.StringIO(text, newline=""), delimiter=separator), [], []
    try:
        for record in reader:
            if record:
                records.append(record)
                ends.append(reader.line_num)
    except csv.Error:  # of a field that is larger than any: what came before it is looked at
        whole = False
    return (records, ends) if whole else (records[:-1], ends[:-1])


def _width(records: list[list[str]]) -> int:
    return Counter(map(len, records)).most_common(1)[0][0] if records else 0


def _share(records: list[list[str]]) -> float:
    """Records that have the usual number of fields, 0 to 1; 0 where that is one field."""
    width = _width(records)
    return sum(len(record) == width for record in records) / len(records) if width > 1 else 0.0


def _header(records: list[list[str]]) -> int:
    """Which record has the names: the first one as wide as the others that is not nearly empty."""
    width = _width(records)
    if width < 2 or (width > 2 and len(records[0]) == width - 1 and all(map(str.strip, records[0]))):
        return 0  # one column, or one name too few
    wide = (
        place
        for place, record in enumerate(records[: ABOVE + 1])
        if len(record) == width and (width == 2 or sum(bool(cell.strip()) for cell in record) > 1)
    )
    return next(wide, 0)


def _names(file: Path, header: list[str], rows: list[list[str]], separator: str) -> list[str]:
    """What is wrong with names and the number of fields."""
    name, found = shlex.quote(file.name), []
    wider = [row for row in rows if len(row) == len(header) + 1]
    if rows and len(wider) == len(rows):
        if any(row[-1].strip() for row in wider):
            found.append(
                "its header has one name less than its lines have values, as R writes names of rows: write it with "
                "`row.names = FALSE`, or name the first column"
            )
        else:
            mark = "\\t" if separator == "\t" else separator
            found.append(
                "each line but the header ends with a separator: let the header end with one, too, "
                f"`sed -i '1s/\\r*$/{mark}&/' {name}`"
            )
    unnamed = [place for place, cell in enumerate(header, start=1) if not cell.strip()]
    if unnamed == [1] and len(header) > 1:
        unnamed = []  # the row numbers of a table: `ror init` leaves them out of the features
    last = len(header) - len(unnamed)
    if unnamed and len(header) > 1 and unnamed != [*range(last + 1, len(header) + 1)]:
        found.append(f"a column has no name; {no_name(unnamed)}")
    elif unnamed and any(cell.strip() for row in rows for cell in row[last : len(header)]):
        found.append(f"its last {len(unnamed)} columns have values but no name: name them, or remove them")
    if rows and header in rows:
        found.append(
            "its header comes again among its lines: remove it there, "
            f"`awk 'NR == 1 {{h = $0}} NR == 1 || $0 != h' {name}`"
        )
    return found


def no_name(places: Sequence[int]) -> str:
    """What to do with columns without names, which are counted from 1."""
    if [*places] == [1]:
        return (
            "name it, the first one, or, if it has numbers of rows, write the file without (pandas: "
            "`to_csv(..., index=False)`, R: `row.names = FALSE`)"
        )
    return f"name it, or remove it: column {', '.join(map(str, places))}"


# --- bytes ---------------------------------------------------------------------------------------------------


def wide(start: bytes) -> str | None:
    """The encoding of text in two or four bytes a character: by its mark, or because the others are zero."""
    if start.startswith((b"\xff\xfe\0\0", b"\0\0\xfe\xff")):
        return "utf-32"
    if start.startswith((b"\xff\xfe", b"\xfe\xff")):
        return "utf-16"
    if len(start) > 3 and not start[1:32:2].strip(b"\0"):
        return "utf-16-le"
    if len(start) > 3 and not start[0:32:2].strip(b"\0"):
        return "utf-16-be"
    return None


def is_wide(encoding: str) -> bool:
    """Whether this is an encoding of two or four bytes a character."""
    return encoding.lower().replace("_", "-").startswith(("utf-16", "utf-32"))


def is_ended(file: Path, encoding: str) -> bool:
    """Whether the last line ends with a line break, as that of a file which was written to its end does."""
    end = _end(file, 8)
    return (end.rstrip(b"\0") if is_wide(encoding) else end)[-1:] in (b"\r", b"\n")


def ends_with_nothing(file: Path, written: CsvSpec) -> bool:
    """Whether the last line is nothing but separators, two or more, as spreadsheets write rows that were emptied."""
    mark = re.escape(written.separator).encode(written.encoding)
    return not is_wide(written.encoding) and bool(re.search(rb"[\r\n](" + mark + rb"){2,}[\r\n]+$", _end(file, 512)))


def _end(file: Path, size: int) -> bytes:
    with file.open("rb") as handle:
        handle.seek(-min(size, handle.seek(0, 2)), 2)
        return handle.read()


def encoding_of(file: Path, written: str) -> str | None:
    """The encoding of a text file, as it is `written` down wherever it can be read so; None for one that nobody knows.

    Of one byte a character, only the letters of Western Europe are told from others. The file is read to its end.
    """
    with file.open("rb") as handle:
        start = handle.read(512)
    if (found := wide(start)) and not is_wide(written):
        return found
    ways = ["utf-8"] if is_wide(written) and b"\0" not in start else [written, "utf-8"]
    return next((one for one in ways if _decodes(file, one)), None) or _western(file)


def _decodes(file: Path, encoding: str) -> bool:
    try:
        with file.open("rb") as handle:
            for _ in codecs.iterdecode(iter(lambda: handle.read(BLOCK), b""), encoding):
                pass
    except UnicodeError:
        return False
    return True


_ODD = re.compile(
    rb"[A-Za-z][\x80-\x91\x93-\x99\x9b\x9d\x9f\xa0-\xa9\xab-\xb6\xb8\xb9\xbb-\xbf][a-z]|[\xa0-\xff]{3}|[\x80-\xff]{4}"
)
"""What no text of Western Europe has: a sign within a word, three letters with accents in a row."""


def _western(file: Path) -> str | None:
    signs = odd = others = 0
    with file.open("rb") as handle:
        for block in iter(lambda: handle.read(BLOCK), b""):
            odd += len(_ODD.findall(block))
            others += len(re.findall(rb"[\x80-\xff]+", block))
            signs += len(re.findall(rb"[\x80-\x9f]", block))
    if odd * 10 > others:
        return None
    encoding = "cp1252" if signs else "latin-1"
    return encoding if _decodes(file, encoding) else None
