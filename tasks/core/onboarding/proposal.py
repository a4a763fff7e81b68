"""A first model's file, read off its data: the task, what names a row, what is time, and what no pipeline can use."""

from __future__ import annotations

import difflib
import json
import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass

import pyarrow as pa
import pyarrow.compute as pc

from tasks.core.data.arrow import as_numbers, count_true, decoded, is_number, is_text, is_usable, reads_as_number
from tasks.core.data.keys import kind_of
from tasks.core.data.source import Source
from tasks.core.errors import InvalidRequest
from tasks.core.spec import KeyKind
from tasks.core.text import named

ROWS = 100_000
"""The largest number of rows that are read."""

FEW = 20
"""The largest number of different whole numbers that are taken for classes or codes; more are quantities."""

CLASSES = 100
"""A target of more words than these has no classes that could be learned."""

NAMES_A_ROW = re.compile(r"(^|[_ .-])(id|key|uuid|guid|nr|no|number)$|[a-z](Id|ID|Key)$")
NAMES_A_PART = re.compile(
    r"(^|[_ .-])(date|day|week|month|quarter|year|period|time|hour|line|item|position)([_ .-]|$)", re.IGNORECASE
)
"""What tells the rows of one customer, station or invoice apart."""
NAMES_A_KIND = re.compile(r"(^|[_ .-])(id|code|zip|type|class|kind|group|branch|store|region)$", re.IGNORECASE)
DAY = r"^\d{4}-\d{2}(-\d{2})?([T ]\d{2}:\d{2}.*)?$"


KEY_KINDS: dict[KeyKind, str] = {
    "integer": "17.0 and 17 are one key",
    "text": "as written, but for blanks around it",
    "time": "an instant",
}
"""What a kind of key means, for whoever reads the file."""


@dataclass(frozen=True, slots=True)
class Proposal:
    """What the data suggest; a person decides."""

    target: str
    task: str
    why: str
    """How the target looks, so that it was taken for this task."""
    rows: int
    """That were looked at."""
    key: tuple[str, ...] = ()
    """Columns that identify a row together."""
    key_kinds: tuple[KeyKind, ...] = ()
    comes_again: str | None = None
    """A column that is called like a key, and names no row alone; nothing was found that does so with it."""
    key_width: int | None = None
    """Digits of each key, where some begin with zeros: a spreadsheet strips those."""
    time: str | None = None
    features: tuple[str, ...] | None = None
    """None: every column but target, key and time."""
    unused: tuple[tuple[str, str], ...] = ()
    """Columns that are not used as features, and why."""
    codes: tuple[str, ...] = ()
    """Whole numbers that may be names."""
    doubts: tuple[str, ...] = ()
    """What is too good to be true, one sentence each."""


@dataclass(frozen=True, slots=True)
class _Column:
    name: str
    values: pa.ChunkedArray
    """Without the missing ones; numbers of a text file as numbers."""
    rows: int
    written: pa.ChunkedArray
    """The same as they are in the file."""

    @property
    def kind(self) -> str:
        """number, text, day, or the name of a type that pipelines cannot take."""
        of = self.values.type
        if pa.types.is_temporal(of):
            return "day"
        if is_text(of):
            return "day" if len(self.values) and _all(pc.match_substring_regex(self.values, DAY)) else "text"
        return "number" if is_number(of) else str(of)

    @property
    def distinct(self) -> int:
        return int(pc.count_distinct(self.values).as_py())

    @property
    def is_whole(self) -> bool:
        if not pa.types.is_floating(self.values.type):
            return True
        values = self.values.cast(pa.float64())  # of half precision Arrow cannot say it
        finite = values.filter(pc.is_finite(values))
        return _all(pc.equal(finite, pc.floor(finite)))

    @property
    def is_unique(self) -> bool:
        return len(self.values) == self.rows > 1 and self.distinct == self.rows

    @property
    def is_sorted(self) -> bool:
        values = self.values.combine_chunks()
        return len(values) > 1 and _all(pc.less_equal(values[:-1], values[1:]))


def propose(source: Source, target: str) -> Proposal:
    """Raises InvalidRequest when there is no such column, or nothing can be learned from it; UnreadableData when the
    file cannot be read."""
    if target not in source.names:
        close = difflib.get_close_matches(target, source.names, n=1)
        hint = f" Did you mean {close[0]!r}?" if close else ""
        there = named(source.names, 20)
        raise InvalidRequest("target", [f"{source.path} has no column {target!r}.{hint} It has {there}"])
    columns = list(_columns(source))
    (answer,) = (column for column in columns if column.name == target)
    others = [column for column in columns if column.name != target]
    task, why = _task(answer)
    key = _key(others)
    kinds = [_key_kind(one, source.is_text) for one in key]
    time = _time(others)
    inputs = [column for column in others if column not in key[:1] and column.name != time]  # an hour may tell much
    unused = [(column.name, reason) for column in inputs if (reason := _no_feature(column))]
    features = [column for column in inputs if column.name not in dict(unused)]
    if not features:
        raise InvalidRequest(
            "data", [f"{source.path} has no column other than the target that a pipeline could learn from"]
        )
    codes = [column.name for column in features if _may_be_code(column)]
    return Proposal(
        target=target,
        task=task,
        why=why,
        rows=answer.rows,
        key=tuple(column.name for column in key),
        key_kinds=tuple(kind for kind, _ in kinds),
        key_width=kinds[0][1] if len(kinds) == 1 else None,
        comes_again=None if key else next((one.name for one in others if _names_a_row(one)), None),
        time=time,
        features=tuple(column.name for column in features) if unused or len(key) > 1 else None,
        unused=tuple(unused),
        codes=tuple(codes),
    )


def as_toml(proposal: Proposal, *, name: str, batches: str, origin: str, owner: str) -> str:
    """The text of deployments/<name>.toml, with what to look at as comments."""
    p = proposal

    def line(key: str, value: str, comment: str = "") -> str:
        return f"{key} = {value}".ljust(32) + f"# {comment}" if comment else f"{key} = {value}"

    lines = [
        f"# Written by `ror init` after {p.rows:,} rows of {_one_line(origin)}. Look it through, then: ror run {name}",
        line("task", toml_string(p.task), p.why),
        line("target", toml_string(p.target)),
        *_key_lines(p, line),
        *(
            [line("# key_width", str(p.key_width), "where zeros in front were stripped elsewhere, this restores them")]
            if p.key_width
            else []
        ),
        *([line("time", toml_string(p.time), "grows with time; not a feature")] if p.time else []),
    ]
    if p.features is not None:
        lines += ["features = ["] + [f"  {toml_string(one)}," for one in p.features] + ["]"]
        lines += [f"# Left out: {_one_line(column)}, {why}." for column, why in p.unused]
    if p.codes:
        lines += [
            f"# categorical = [{', '.join(map(toml_string, p.codes))}]   # numbers that are names? Then uncomment this."
        ]
    lines += [f"# Too good to be true? {_one_line(doubt)}." for doubt in p.doubts]
    lines += [
        line("owner", toml_string(owner), "who is told"),
        line("purpose", toml_string(f"Predict {p.target}."), "what for: alerts and pages say it"),
        "",
        "[data]",
        line("batches", toml_string(batches)),
        f'# labels = "data/{name}/labels/*"   # when the target arrives later, in files of its own',
        "",
        "# [schedule]                   # then `ror serve`, or `ror deploy`",
        '# cron = "0 6 * * *"',
        '# timezone = "UTC"',
    ]
    return "\n".join(lines) + "\n"


# --- what a column may be ------------------------------------------------------------------------------------


def _task(target: _Column) -> tuple[str, str]:
    kind, name = target.kind, target.name
    if kind not in ("number", "text") and len(target.values):
        raise InvalidRequest("target", [f"{name} is of type {kind}: the target must be a number or a class"])
    count = target.distinct
    if count < 2:
        found = "no values" if not count else f"one value only, in {len(target.values):,} rows"
        raise InvalidRequest("target", [f"{name} has {found}: there is nothing to learn"])
    if count == 2:
        return "binary", "the target has two values"
    if kind == "text" and count > CLASSES:
        raise InvalidRequest(
            "target", [f"{name} has {count:,} different words, too many to learn as classes (at most {CLASSES})"]
        )
    if kind == "text" or (target.is_whole and count <= FEW):
        return "multiclass", f'the target has {count} values; if they are amounts, write "regression"'
    return "regression", f"the target is a number with {count:,} values"


def _key_lines(p: Proposal, line: Callable[[str, str, str], str]) -> list[str]:
    if not p.key and p.comes_again:
        again = f'[{toml_string(p.comes_again)}, "..."]'
        return [line("# key", again, f"{_one_line(p.comes_again)} comes again: add what tells its rows apart")]
    if not p.key:
        return [line("# key", '"..."', "a column that identifies a row; needed for labels that arrive later")]
    if len(p.key) == 1:
        (key,), (kind,) = p.key, p.key_kinds
        return [
            line("key", toml_string(key), "identifies a row; joins late labels"),
            line("key_kind", toml_string(kind), KEY_KINDS[kind]),
        ]
    return [
        line("key", f"[{', '.join(map(toml_string, p.key))}]", "identify a row together; join late labels"),
        line("key_kind", f"[{', '.join(map(toml_string, p.key_kinds))}]", "what each of them is"),
    ]


def _key(columns: list[_Column]) -> list[_Column]:
    """A column of distinct values that is called like a key, else one of distinct words, else two columns."""
    found = [one for one in columns if one.kind in ("number", "text") and one.is_unique and one.is_whole]
    named = [one for one in found if NAMES_A_ROW.search(one.name)]
    alone = [*named, *(one for one in found if one.kind == "text")][:1]
    return alone or _together(columns)


def _together(columns: list[_Column]) -> list[_Column]:
    """A column that is called like a key, and another one that tells its rows apart: no two rows have the same pair,
    though both have each value often, so that it is no accident."""
    full = [one for one in columns if one.kind in ("number", "text", "day") and len(one.values) == one.rows > FEW]
    often = [one for one in full if 2 * one.distinct <= one.rows]
    for one in filter(_names_a_row, often):
        for other in often:
            told = other.kind == "day" or _names_a_row(other) or NAMES_A_PART.search(other.name)
            if other is not one and told and (other.kind == "day" or other.is_whole):
                pairs = pa.table([one.values, other.values], names=["one", "other"])
                if pairs.group_by(["one", "other"]).aggregate([]).num_rows == one.rows:
                    return [one, other]
    return []


def _names_a_row(column: _Column) -> bool:
    return column.kind in ("number", "text") and column.is_whole and NAMES_A_ROW.search(column.name) is not None


def _key_kind(key: _Column, is_text: bool) -> tuple[KeyKind, int | None]:
    """What a key is, and the digits of each if there are zeros in front. A text file does not say what is a number:
    digits that begin with a zero are a name there."""
    if key.kind == "day":
        return "time", None
    if not is_text:
        kind = kind_of(key.written)
        if kind != "text":
            return kind, None
    text = key.written.cast(pa.string()).combine_chunks()
    if not _all(pc.match_substring_regex(text, r"^\d+$")):
        return "text", None
    padded = count_true(pc.match_substring_regex(text, r"^0\d"))
    lengths = pc.unique(pc.utf8_length(text))
    if not padded:
        return ("integer" if is_text else "text"), None
    return "text", lengths[0].as_py() if len(lengths) == 1 else None


def _time(columns: list[_Column]) -> str | None:
    """A day or time that never goes back, else any."""
    days = [one for one in columns if one.kind == "day"]
    return next((one.name for one in [*(one for one in days if one.is_sorted), *days]), None)


def _no_feature(column: _Column) -> str | None:
    """Why a pipeline cannot learn from it as it is."""
    if column.kind == "day":
        return "a date: derive numbers from it in the pipeline, and list it again"
    if column.kind not in ("number", "text"):
        return f"of type {_one_line(column.kind)}" if len(column.values) else "without any value"
    if column.kind == "text" and column.rows > FEW and column.distinct > column.rows / 2:
        return "text that nearly every row has of its own"
    return None


def _may_be_code(column: _Column) -> bool:
    is_code = column.kind == "number" and column.is_whole and column.distinct > 2
    return is_code and (NAMES_A_KIND.search(column.name) is not None)


# --- reading -------------------------------------------------------------------------------------------------


def _columns(source: Source) -> Iterator[_Column]:
    chunks, rows = [], 0
    for chunk in source.stream():
        chunks.append(chunk.slice(0, ROWS - rows))
        rows += len(chunks[-1])
        if rows >= ROWS:
            break
    for place, name in enumerate(source.names):
        arrays = [_present(decoded(chunk.column(place))) for chunk in chunks]
        values = written = pa.chunked_array(arrays, arrays[0].type if arrays else pa.null())
        if source.decimal and len(values) and is_text(values.type):
            fine = reads_as_number(values, source.decimal)
            values = as_numbers(values, source.decimal, fine) if _all(fine) else values
        yield _Column(name, values, rows, written)


def _present(array: pa.Array) -> pa.Array:
    """The values that are there; of a type that no pipeline takes only how many, for Arrow cannot choose among all."""
    if is_usable(array.type) or pa.types.is_temporal(array.type):
        return array.drop_null()
    return array.slice(0, len(array) - array.null_count)


def _all(values: pa.ChunkedArray) -> bool:
    return count_true(values) == len(values)


def toml_string(value: str) -> str:
    """A basic string of TOML; its escapes are those of JSON, and DEL."""
    return json.dumps(value, ensure_ascii=False).replace("\x7f", "\\u007f")


def _one_line(value: str) -> str:
    return re.sub(r"[\x00-\x1f\x7f]+", " ", value)
