"""Numbers as text files write them, and names whose letters are composed in two ways."""

from __future__ import annotations

import unicodedata

import numpy as np
import pyarrow as pa
import pytest

from tasks.core.data.arrow import PLAIN, Numerals, as_known, as_numbers, reads_as_number, without_marks

DECOMPOSED, COMPOSED = (unicodedata.normalize(form, "Orléans") for form in ("NFD", "NFC"))


@pytest.mark.parametrize(
    ("numerals", "text", "value"),
    [
        (PLAIN, "1.5", 1.5),
        (PLAIN, "1,234", None),
        (PLAIN, "12%", None),
        (PLAIN, "(5)", None),
        (Numerals(","), "1,5", 1.5),
        (Numerals(","), "1.5", None),
        (Numerals(thousands=","), "1,234,567.5", 1234567.5),
        (Numerals(thousands=","), "12,34,567", 1234567),
        (Numerals(thousands=","), "1234.5", 1234.5),
        (Numerals(thousands=","), "1,5", None),
        (Numerals(thousands=","), "0,125", None),
        (Numerals(thousands=","), "1,2345", None),
        (Numerals(thousands=","), "1,234,56", None),
        (Numerals(",", "."), "1.234,56", 1234.56),
        (Numerals(",", "."), "1.5", None),
        (Numerals(",", " "), "1\u00a0234,5", 1234.5),
        (Numerals(",", " "), "1\u202f234", 1234),
        (Numerals(thousands="'"), "1’234.5", 1234.5),
        (Numerals(thousands="_"), "1_000", 1000),
        (Numerals(strip="%"), "12 %", 12),
        (Numerals(strip="%"), "12\u00a0%", 12),
        (Numerals(strip="%"), "%", None),
        (Numerals(strip="%"), "50% of 3", None),
        (Numerals(strip="$"), "-$5", -5),
        (Numerals(strip="$"), "$-5", -5),
        (Numerals(strip="$"), "$.5", 0.5),
        (Numerals(strip="$"), "$(5)", None),
        (Numerals(strip="$()"), "$(5)", -5),
        (Numerals(strip="$()"), "($5)", -5),
        (Numerals(strip="()"), "(5", None),
        (Numerals(strip="()"), "(-5)", None),
        (Numerals(".", ",", "$()"), "($1,234.50)", -1234.5),
        (Numerals(",", " ", "kr."), "1 234,50 kr.", 1234.5),
        (Numerals(strip="kr."), ".5", 0.5),
        (Numerals(strip="true"), "true", 1),
        (Numerals(strip="]^-"), "7]", 7),
    ],
)  # fmt: skip
def test_numbers_as_they_are_written(numerals: Numerals, text: str, value: float | None) -> None:
    """What stands around numbers and between their digits is read over where the model's file says so, and only where
    it cannot be anything else: `1,5` with `thousands = ","` is not 15."""
    array = pa.array([text])
    assert reads_as_number(array, numerals).to_pylist() == [value is not None]
    assert as_numbers(array, numerals).to_pylist() == [value]


def test_digits_are_kept_without_marks() -> None:
    """Whole numbers with more digits than a float holds are found though marks stand between the digits."""
    array = pa.array(["9,007,199,254,740,993", "x", None])
    numerals = Numerals(thousands=",")
    written = without_marks(array, numerals, reads_as_number(array, numerals))
    assert written.to_pylist() == ["9007199254740993", None, None]


def test_letters_composed_in_two_ways_are_one_name() -> None:
    """`é` may be one character, or an e and an accent: such a name is that of the known ones which looks like it."""
    both = pa.array([DECOMPOSED, COMPOSED, "x", None])
    assert as_known(both, [COMPOSED]).to_pylist() == [COMPOSED, COMPOSED, "x", None]
    assert as_known(both, [DECOMPOSED]).to_pylist() == [DECOMPOSED, DECOMPOSED, "x", None]
    assert as_known(both, []).to_pylist() == [COMPOSED, COMPOSED, "x", None]
    known = as_known(both, [DECOMPOSED, COMPOSED])
    assert known.to_pylist() == both.to_pylist(), "what a version knows as two names stays two"


def test_a_minus_is_never_stripped() -> None:
    """Random numbers keep their sign and value, whatever is around them."""
    values = np.random.default_rng(0).normal(scale=1e6, size=500).round(2)
    written = pa.array([f"{'-' if value < 0 else ''}€ {abs(value):,.2f} m" for value in values])
    assert np.array_equal(as_numbers(written, Numerals(".", ",", "€m")).to_numpy(zero_copy_only=False), values)
