"""A first model's file, read off its data: the task, what names a row, what is time, and what no pipeline can use."""

from __future__ import annotations

import difflib
import json
import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import pyarrow as pa
import pyarrow.compute as pc

from tasks.core.data.arrow import count_true, is_number
from tasks.core.data.keys import kind_of
from tasks.core.data.source import Source
from tasks.core.errors import InvalidRequest
from tasks.core.onboarding.columns import (
    FEW,
    NAMES_A_ROW,
    NAMES_A_TIME,
    Column,
    all_true,
    columns_of,
    may_be_code,
    no_feature,
    one_line,
)
from tasks.core.spec import KeyKind
from tasks.core.text import named

CLASSES = 100
"""A target of more words than these has no classes that could be learned."""

NAMES_A_PART = re.compile(
    r"(^|[_ .-])(date|day|week|month|quarter|year|period|time|hour|line|item|position)([_ .-]|$)", re.IGNORECASE
)
"""What tells the rows of one customer, station or invoice apart."""
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
    padded: tuple[str, ...] = ()
    """Digits of a text file with zeros in front, which are names."""
    unsure: tuple[tuple[str, str], ...] = ()
    """What was chosen and may be another: `key` or `time`, and why."""
    doubts: tuple[str, ...] = ()
    """What is too good to be true, one sentence each."""
    reading: tuple[str, ...] = ()
    """How its CSV files turned out to be written, one sentence each."""


def propose(source: Source, target: str, labels: Source | None = None) -> Proposal:
    """What these data suggest; `labels` are those that arrive in files of their own, with the target and a key.

    Raises InvalidRequest when there is no such column, no key that joins the labels, or nothing that can be learned;
    UnreadableData when a file cannot be read.
    """
    _require_target(labels or source, target, late=labels is not None)
    columns = list(columns_of(source))
    (answer,) = (column for column in (columns_of(labels) if labels else columns) if column.name == target)
    others = [column for column in columns if column.name != target]
    task, why = _task(answer)
    named_key = _key([one for one in others if labels is None or one.name in labels.names])
    key = named_key if labels is None or named_key else [_joining(source, labels, target, others)]
    kinds = [_key_kind(one, source.is_text) for one in key]
    time = _time(others)
    inputs = [column for column in others if column not in key[:1] and column.name != time]  # an hour may tell much
    unused = [(column.name, reason) for column in inputs if (reason := no_feature(column))]
    features = [column for column in inputs if column.name not in dict(unused)]
    if not features:
        raise InvalidRequest(
            "data", [f"{source.path} has no column other than the target that a pipeline could learn from"]
        )
    padded = [column.name for column in features if column.has_zeros]
    return Proposal(
        target=target,
        task=task,
        why=why,
        rows=next((column.rows for column in columns), 0),
        key=tuple(column.name for column in key),
        key_kinds=tuple(kind for kind, _ in kinds),
        key_width=kinds[0][1] if len(kinds) == 1 else None,
        comes_again=None if key else next((one.name for one in others if _names_a_row(one)), None),
        time=time,
        features=tuple(column.name for column in features) if unused or len(key) > 1 else None,
        unused=tuple(unused),
        codes=tuple(column.name for column in features if may_be_code(column) and column.name not in padded),
        padded=tuple(padded),
        unsure=(*_unsure_key(key), *_unsure_time(others, time)),
    )


def _require_target(source: Source, target: str, *, late: bool) -> None:
    if target in source.names:
        return
    close = difflib.get_close_matches(target, source.names, n=1)
    hint = f" Did you mean {close[0]!r}?" if close else ""
    if not late and not hint:
        hint = f" If it arrives later, in files of its own: `ror init DATA --target {target} --labels FILE`."
    raise InvalidRequest("target", [f"{source.path} has no column {target!r}.{hint} It has {named(source.names, 20)}"])


def _joining(source: Source, labels: Source, target: str, columns: Sequence[Column]) -> Column:
    """A column that batch and labels have, though it names no single row."""
    shared = [one for one in columns if one.name in labels.names and one.kind in ("number", "text", "day")]
    if not shared:
        raise InvalidRequest(
            "labels",
            [
                f"{labels.path} and {source.path} have no column in common that could be a key: labels need, beside "
                f"{target!r}, the column that says which row each is of. It has {named(labels.names, 20)}"
            ],
        )
    return max(shared, key=lambda one: (bool(NAMES_A_ROW.search(one.name)), one.distinct))


def as_toml(proposal: Proposal, *, name: str, batches: str, origin: str, owner: str, labels: str | None = None) -> str:
    """The text of deployments/<name>.toml, with what to look at as comments. `labels` is where they arrive late."""
    p = proposal

    def line(key: str, value: str, comment: str = "") -> str:
        return f"{f'{key} = {value}':<31} # {comment}" if comment else f"{key} = {value}"

    lines = [
        f"# Written by `ror init` after {p.rows:,} rows of {one_line(origin)}. Look it through, then: ror run {name}",
        line("task", toml_string(p.task), p.why),
        line("target", toml_string(p.target)),
        *_key_lines(p, line),
        *(
            [line("# key_width", str(p.key_width), "where zeros in front were stripped elsewhere, this restores them")]
            if p.key_width
            else []
        ),
        *_remarks(p, "key"),
        *([line("time", toml_string(p.time), "grows with time; not a feature")] if p.time else []),
        *_remarks(p, "time"),
    ]
    if p.features is not None:
        lines += ["features = ["] + [f"  {toml_string(one)}," for one in p.features] + ["]"]
        lines += [f"# Left out: {one_line(column) or repr(column)}, {why}." for column, why in p.unused]
    if p.padded:
        lines.append(line("categorical", _list(p.padded), "zeros in front: names, which numbers would lose"))
    if p.codes:
        instead = "take this line instead" if p.padded else "uncomment this"
        lines.append(f"# categorical = {_list((*p.padded, *p.codes))}   # numbers that are names? Then {instead}.")
    lines += [f"# Too good to be true? {one_line(doubt)}." for doubt in p.doubts]
    lines += [
        line("owner", toml_string(owner), "who is told"),
        line("purpose", toml_string(f"Predict {p.target}."), "what for: alerts and pages say it"),
        "",
        "[data]",
        line("batches", toml_string(batches)),
        line("labels", toml_string(labels), "the target arrives later, in files of its own")
        if labels
        else f'# labels = "data/{name}/labels/*"   # when the target arrives later, in files of its own',
        "",
        "# [schedule]                   # then `ror serve`, or `ror deploy`",
        '# cron = "0 6 * * *"',
        '# timezone = "UTC"',
    ]
    return "\n".join(lines) + "\n"


def _remarks(proposal: Proposal, about: str) -> list[str]:
    return [f"# {about}: {one_line(why)}." for key, why in proposal.unsure if key == about]


def _list(names: Sequence[str]) -> str:
    return f"[{', '.join(map(toml_string, names))}]"


# --- what a column may be ------------------------------------------------------------------------------------


def _task(target: Column) -> tuple[str, str]:
    kind, name = "number" if is_number(target.values.type) else target.kind, target.name
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
        return [line("# key", again, f"{one_line(p.comes_again)} comes again: add what tells its rows apart")]
    if not p.key:
        return [line("# key", '"..."', "a column that identifies a row; needed for labels that arrive later")]
    if len(p.key) == 1:
        (key,), (kind,) = p.key, p.key_kinds
        return [
            line("key", toml_string(key), "identifies a row; joins late labels"),
            line("key_kind", toml_string(kind), KEY_KINDS[kind]),
        ]
    return [
        line("key", _list(p.key), "identify a row together; join late labels"),
        line("key_kind", _list(p.key_kinds), "what each of them is"),
    ]


def _key(columns: list[Column]) -> list[Column]:
    """A column of distinct values that is called like a key, else one of distinct words, else two columns."""
    found = [one for one in columns if one.kind in ("number", "text") and one.is_unique and one.is_whole]
    found = [one for one in found if not one.is_index]
    named = [one for one in found if NAMES_A_ROW.search(one.name)]
    alone = [*named, *(one for one in found if one.kind == "text")][:1]
    return alone or _together(columns)


def _together(columns: list[Column]) -> list[Column]:
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


def _names_a_row(column: Column) -> bool:
    return column.kind in ("number", "text") and column.is_whole and NAMES_A_ROW.search(column.name) is not None


def _unsure_key(key: Sequence[Column]) -> list[tuple[str, str]]:
    if len(key) != 1:
        return []
    chosen, name = key[0], key[0].name
    if chosen.first in (0, 1):
        return [("key", f"{name} counts the rows from {chosen.first}; if every file counts anew, take another or none")]
    if not chosen.is_unique:
        return [
            ("key", f"{name} is no row's own: {chosen.rows - chosen.distinct:,} of {chosen.rows:,} rows repeat one")
        ]
    return [] if NAMES_A_ROW.search(name) else [("key", f"{name} was taken because every row has its own")]


def _key_kind(key: Column, is_text: bool) -> tuple[KeyKind, int | None]:
    """What a key is, and the digits of each if there are zeros in front. A text file does not say what is a number:
    digits that begin with a zero are a name there."""
    if key.kind == "day":
        return "time", None
    if not is_text:
        kind = kind_of(key.written)
        if kind != "text":
            return kind, None
    text = key.written.cast(pa.string()).combine_chunks()
    if not all_true(pc.match_substring_regex(text, r"^\d+$")):
        return "text", None
    padded = count_true(pc.match_substring_regex(text, r"^0\d"))
    lengths = pc.unique(pc.utf8_length(text))
    if not padded:
        return ("integer" if is_text else "text"), None
    return "text", lengths[0].as_py() if len(lengths) == 1 else None


def _time(columns: Sequence[Column]) -> str | None:
    """A day or time that never goes back, else one that is called so, else any."""
    days = _days(columns)
    chosen = [*(one for one in days if one.is_sorted), *(one for one in days if NAMES_A_TIME.search(one.name)), *days]
    return next((one.name for one in chosen), None)


def _days(columns: Sequence[Column]) -> list[Column]:
    """Columns that say a day for sure."""
    return [one for one in columns if one.instants and not one.instants.ambiguous]


def _unsure_time(columns: Sequence[Column], time: str | None) -> list[tuple[str, str]]:
    others = [one.name for one in _days(columns) if one.name != time]
    return [("time", f"{named(others, 3)} may be meant: the one that says when a row came")] if others else []


def toml_string(value: str) -> str:
    """A basic string of TOML; its escapes are those of JSON, and DEL."""
    return json.dumps(value, ensure_ascii=False).replace("\x7f", "\\u007f")
