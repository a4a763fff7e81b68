"""Labels brought to the classes of a model: of their kind where that is exact, and unlabelled where they are none."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TypeAlias

import pyarrow as pa
import pyarrow.compute as pc

from tasks.core.data.arrow import PLAIN, Numerals, as_known, as_numbers, as_text, count_true, is_text

Class: TypeAlias = bool | int | str

STRAYS = 0.05
"""Share of labels that are no class beyond which a file is not trusted at all."""
SHOWN = 3
"""Classes or values that a message shows."""


@dataclass(frozen=True, slots=True)
class Answers:
    """Labels of one file."""

    values: pa.Array
    """Shape (rows,), null where there is none of the classes."""
    labels: int
    """Rows with any label."""
    strays: int = 0
    """Those whose label is none of the classes."""
    examples: tuple[str, ...] = ()
    """The first different ones, as they are written."""
    altered: bool = False
    """Whether these are other values than those that are written there."""


def brought(written: pa.Array, read: pa.Array, classes: Sequence[Class], numerals: Numerals = PLAIN) -> Answers:
    """Labels as values of these classes.

    `written` are the labels as they are in the file, and `read` as their file's other labels suggest: numbers where a
    text file holds nothing else. Text is trimmed; numbers become text and text becomes numbers where the classes are.
    """
    if isinstance(classes[0], str):
        text = written if is_text(written.type) else as_text(written)
        bare = as_known(pc.utf8_trim_whitespace(text), [str(one) for one in classes])
        meant = pc.is_in(text, value_set=pa.array(classes, pa.string()))
        values = pc.if_else(meant, text, pc.if_else(pc.equal(bare, ""), pa.scalar(None, pa.string()), bare))
        text, fits = values, pc.is_in(values, value_set=pa.array(classes, pa.string()))
        other = not is_text(read.type) or not values.equals(written)
    elif is_text(read.type):
        bare = pc.utf8_trim_whitespace(read)
        text = pc.if_else(pc.equal(bare, ""), pa.scalar(None, pa.string()), bare)
        values, fits = _numbers(as_numbers(text, numerals), classes)
        other = True
    else:
        text, (values, fits), other = as_text(read), (read, _among(read, classes)), False
    present = pc.is_valid(text)
    fits = pc.fill_null(fits, False)
    stray = text.filter(pc.and_(present, pc.invert(fits)))
    examples = tuple(str(value) for value in pc.unique(stray)[:SHOWN].to_pylist())
    if len(stray):
        values = pc.if_else(fits, values, pa.scalar(None, values.type))
    return Answers(values, count_true(present), len(stray), examples, other or bool(len(stray)))


def _numbers(numbers: pa.Array, classes: Sequence[Class]) -> tuple[pa.Array, pa.Array]:
    fits = _among(numbers, classes)
    whole = pc.if_else(pc.fill_null(fits, False), numbers, pa.scalar(None, pa.float64())).cast(pa.int64())
    return whole.cast(pa.bool_()) if isinstance(classes[0], bool) else whole, fits


def _among(numbers: pa.Array, classes: Sequence[Class]) -> pa.Array:
    wanted = pa.array([float(value) for value in classes], pa.float64())
    return pc.is_in(numbers.cast(pa.float64(), safe=False), value_set=wanted, skip_nulls=True)


def count(values: pa.Array) -> Counter[Class] | None:
    """How often each label is there, trimmed, most frequent first; None for numbers that are not whole."""
    if is_text(values.type):
        values = pc.utf8_trim_whitespace(values)
        values = values.filter(pc.not_equal(values, ""))
    elif not pa.types.is_boolean(values.type):
        try:
            values = values.cast(pa.int64())
        except pa.ArrowException:
            return None
    pairs = pc.value_counts(values.drop_null()).to_pylist()
    return Counter({pair["values"]: pair["counts"] for pair in pairs})


def of_one_kind(counts: Counter[Class], *, mixed: bool) -> Counter[Class]:
    """Labels of one kind: where some are text and others are not, or files of both kinds were read as text (`mixed`),
    numbers if all of it writes whole ones, else text."""
    if not mixed and len({isinstance(value, str) for value in counts}) < 2:
        return counts
    texts = {value: str(value).lower() if isinstance(value, bool) else str(value) for value in counts}
    whole = all(text.removeprefix("-").isdecimal() for text in texts.values())
    joined: Counter[Class] = Counter()
    for value, rows in counts.items():
        joined[int(texts[value]) if whole else texts[value]] += rows
    return joined
