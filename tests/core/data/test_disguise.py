"""Numbers in disguise: which options of [data.csv] read columns of text as numbers, and what stays open."""

from __future__ import annotations

import pytest

from tasks.core.data.disguise import disguised, in_words
from tasks.core.spec import CsvSpec

MANY = [str(number) for number in range(40)]
PLAIN = CsvSpec()


@pytest.mark.parametrize(
    ("columns", "advice"),
    [
        ({"a": ["1,5", "2,25"]}, '`decimal = ","`'),
        ({"a": ["0,125", "0,250"]}, '`decimal = ","`'),
        ({"a": ["1,234", "22,000"], "b": ["0.5"]}, '`thousands = ","`'),
        ({"a": ["1,234,567"]}, '`thousands = ","`'),
        ({"a": ["1.234,56", "7"]}, '`decimal = ","` and `thousands = "."`'),
        ({"a": ["1.234"], "b": ["0,5"]}, '`decimal = ","` and `thousands = "."`'),
        ({"a": ["1\u00a0234,5", "12"]}, '`decimal = ","` and `thousands = " "`'),
        ({"a": ["1'234.5", "2’000"]}, '`thousands = "\'"`'),
        ({"a": ["12,34,567", "1,00,000"]}, '`thousands = ","`'),
        ({"a": ["12%", "3 %", "0"]}, '`strip = "%"`'),
        ({"a": ["$5", "7"]}, '`strip = "$"`'),
        ({"a": ["$1,234.50", "-$3"], "b": ["12%"], "c": ["(5)", "7"]}, '`thousands = ","` and `strip = "$%()"`'),
        ({"a": ["?", "1"], "b": ["\\N", "#DIV/0!", "2"]}, '`missing = ["?", "\\\\N", "#DIV/0!"]`'),
        ({"a": ["  ", "1"]}, '`missing = [" "]`'),
        ({"a": ["A12", "B3"]}, ""),
        ({"a": ["2026-01-01"], "b": ["31.12.2026"], "c": ["12:30"], "d": ["1.2.3"], "e": ["1/2"]}, ""),
        ({"a": ["101", "102", "other"]}, ""),
        ({"a": ["1", "true", "inf", None]}, ""),
    ],
)  # fmt: skip
def test_what_reads_a_column_as_numbers(columns: dict[str, list[str | None]], advice: str) -> None:
    """Marks in numbers, signs around them and words for nothing are found by all columns together; codes, dates, times
    and classes are left alone."""
    found = disguised(columns, PLAIN)
    assert (in_words(found.written, PLAIN), found.open, found.perhaps) == (advice, [], {})
    again = disguised(columns, found.written)
    assert again.written == found.written, "what was advised is enough"


@pytest.mark.parametrize(
    ("columns", "said"),
    [
        ({"a": ["1,234", "22,000"]}, "column 'a' has numbers, such as '1,234', that can be read in two ways: write "
         '`decimal = ","` if it is 1.234, `thousands = ","` if it is 1234'),
        ({"a": ["1,5"], "b": ["1.5"], "c": ["2.5"]},
         "column 'a' writes numbers otherwise than other columns, such as '1,5'"),
        ({"a": ["12%", "0.3"]}, "column 'a' has numbers in several units, '12%' and '0.3'"),
        ({"a": ["$5", "€5"]}, "column 'a' has numbers in several units, '$5' and '€5'"),
        ({"a": ["12 kg", "3 kg"]}, "column 'a' has numbers with letters, such as '12 kg': `strip = \"kg\"`"),
        ({"a": ["Total", *MANY]}, "column 'a' has 'Total' among its numbers"),
        ({"a": ["a", *MANY]}, "column 'a' has its own name among its values"),
        ({"a": ["<0.5", *MANY]}, "column 'a' has numbers, and others that no option reads as such, such as '<0.5'"),
        ({"a": ["5-", *MANY]}, "column 'a' has numbers, and others that no option reads as such, such as '5-'"),
        ({"a": ['="001"', '="002"']}, "column 'a' has formulas of a spreadsheet, such as '=\"001\"'"),
    ],
)  # fmt: skip
def test_what_only_a_person_can_decide(columns: dict[str, list[str]], said: str) -> None:
    """What can be read in two ways, or has no option that reads it, changes nothing and is said."""
    found = disguised(columns, PLAIN)
    assert found.written == PLAIN
    assert [text for text in found.open if text.startswith(said)] == found.open != []
    hidden = disguised(columns, PLAIN, private=["a"])
    shown = [value for value in columns["a"] if value != "a" and repr(value) in " ".join(hidden.open)]
    assert hidden.open and not shown


def test_a_word_among_numbers_may_mean_missing() -> None:
    """A word that nobody knows is proposed where there are many numbers, and is never taken for missing."""
    found = disguised({"a": ["old", *MANY], "b": ["old", "1", "2"]}, PLAIN)
    assert (found.written, found.perhaps) == (PLAIN, {"a": ("old",)})
    assert found.unsure().missing == ("old",)
    assert disguised({"a": ["old", *MANY]}, PLAIN, private=["a"]).perhaps == {}


def test_columns_that_are_known_to_hold_numbers() -> None:
    """Of those any unit is stripped that all values have, and whatever reads some of them is found."""
    found = disguised({"a": ["12 kg", "3 kg"], "b": ["2026-01-01", "1,5"]}, PLAIN, numbers=["a", "b"])
    assert in_words(found.written, PLAIN) == '`decimal = ","` and `strip = "kg"`'


def test_what_a_person_chose_is_not_changed() -> None:
    """Options that are fixed stay as they are."""
    columns = {"a": ["1,5"], "b": ["5%"], "c": ["?", "1"]}
    found = disguised(columns, PLAIN, fixed=["decimal", "strip", "missing"])
    assert found.written == PLAIN
