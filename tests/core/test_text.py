"""Words that cards, logs and pages share."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import pytest

from tasks.core.text import ago, amount, cell, counted, minute, named, of_loss, portion, second, span
from tasks.core.types import Verdict


def test_many_names_are_cut() -> None:
    """A line of a log names a few and counts the rest."""
    assert named(["a", "b"]) == "a, b"
    assert named([f"{number}" for number in range(9)]) == "0, 1, 2, 3, 4 and 4 more"
    assert named(["a, b", "c", "d"], 2, "; ") == "a, b; c and 1 more"


def test_numbers_are_written_out() -> None:
    """A number for people has few digits and no exponent; a part is told in percent where the whole is not 0."""
    assert [amount(value) for value in (73_571.4, 0.0711, -2.0, 7.7523e-05)] == ["73,600", "0.0711", "-2", "0.0000775"]
    assert [portion(part, 0.4) for part in (0.02, 0.0032, 6.0)] == ["5%", "0.8%", "1,500%"]
    assert [of_loss(0.02, loss) for loss in (0.4, 0.0)] == ["5% of its loss", "0.02 a row"]


def test_text_of_anybody_means_only_itself() -> None:
    """Names from data end no cell, make no tag, and ask no other host for a picture."""
    assert cell("a|b\n<script>![x](http://example.com)") == "a\\|b &lt;script>!\\[x](http://example.com)"


def test_batches_are_named_by_the_first_and_the_last() -> None:
    """One is named once, none as the caller says."""
    assert [span(names) for names in (["1", "2", "3"], ["1"], [])] == ["1 to 3", "1", "-"]
    assert span([], "no new batch") == "no new batch"


def test_numbers_have_their_plural() -> None:
    """With an s where nothing else is said."""
    assert [counted(number, "object") for number in (0, 1, 1200)] == ["0 objects", "1 object", "1,200 objects"]
    assert counted(2, "entry", "entries") == "2 entries"


def test_times_are_shown_without_their_t() -> None:
    """To the minute or the second, as they were written."""
    assert minute("2026-11-24T08:07:59.123456+00:00") == "2026-11-24 08:07"
    assert second("2026-11-24T08:07:59.123456+00:00") == "2026-11-24 08:07:59"


@pytest.mark.parametrize(
    ("passed", "words"),
    [
        (timedelta(days=3, hours=5), "3 days ago"),
        (timedelta(hours=36), "36 hours ago"),
        (timedelta(minutes=90), "90 minutes ago"),
        (timedelta(seconds=40), "40 seconds ago"),
        (-timedelta(hours=1), "0 seconds ago"),
    ],
)
def test_the_past_is_told_in_words(passed: timedelta, words: str) -> None:
    """In the largest unit of which it is two or more; a clock that is behind makes no time negative."""
    assert ago(datetime.now(UTC) - passed) == words
    assert ago(None) == "never"


def test_what_is_loudest_comes_first() -> None:
    """Wherever verdicts are sorted: failures, warnings, what was skipped, what passed."""
    assert sorted(Verdict, key=lambda verdict: verdict.rank) == ["fail", "warn", "skipped", "pass"]
