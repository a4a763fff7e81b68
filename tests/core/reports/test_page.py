"""The page of a run: verdict first, what moved with pictures, every column with a verdict, nothing from outside."""

from __future__ import annotations

import re
from dataclasses import replace
from html import unescape
from html.parser import HTMLParser
from typing import Any

import pytest

from tasks.core.checks.calibration import TARGET
from tasks.core.checks.drift import DriftReport, check_drift
from tasks.core.ledger.events import Decided, Event
from tasks.core.ledger.state import State
from tasks.core.reports import page
from tasks.core.run.assess import DataFindings, Findings
from tasks.core.run.labels import LabelFindings
from tasks.core.types import (
    Action,
    Attempt,
    AttemptOutcome,
    Batch,
    Check,
    Decision,
    Finding,
    Gate,
    Outcome,
    Rule,
    Verdict,
)
from tasks.core.versions.manifest import PipelineChoice, TrainingFile
from tests.helpers.versions import make_manifest
from tests.helpers.windows import CALIBRATION, REFERENCE, window

ODD = "<script>alert(1)</script>"


def decided(**changes: Any) -> Decided:
    found = Finding(Rule.DRIFT, True, f"the data drifted: {ODD} moved")
    decision = Decision(Action.RELOAD, Rule.DRIFT, (found.reason,), (found,))
    plain = Decided(
        Outcome.RELOADED, decision, (Batch("2013-04", "b", "s"),), (400,), (), (), (), (), (), None, None, "spec", 2
    )
    return replace(plain, **changes)


EVENT = Event(1, 42, None, "2026-11-24T10:00:00+00:00", "decided", "run", "key", f"anna {ODD}", "", None, {}, State())


def content(name: str, verdict: Verdict = Verdict.PASS) -> Check:
    return Check(f"content:{name}", verdict, f"2013-04: {name}: 3.0% missing", 0.1, 1.0)


def measured(drift: DriftReport, *checks: Check) -> Findings:
    return Findings(DataFindings(checks=checks), LabelFindings(), drift)


def rendered(found: Findings | None, links: list[str] | None = None, **changes: Any) -> str:
    return page.render(EVENT, decided(**changes), "flights", found, None, links or [])


MOVED = check_drift(REFERENCE, window(9, shift=1.0).assign(city="Bergen"), CALIBRATION, private=["member"])


class Page(HTMLParser):
    """Collects tags, and the addresses that they would ask for."""

    def __init__(self, text: str):
        super().__init__()
        self.tags: list[str] = []
        self.addresses: list[str] = []
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append(tag)
        asking = ("src", "href", "action", "data", "xlink:href")
        self.addresses += [value or "" for name, value in attrs if name in asking]


def test_it_says_which_pipeline_was_chosen() -> None:
    """Beside what the version in service was trained on stands which default pipeline it has, and why that one."""
    choice = PipelineChoice("linear", {"linear": 0.125, "booster": 0.25}, 1200)
    said = "linear, chosen at the first version by the loss on 1,200 later rows: linear 0.125, booster 0.25"
    made = make_manifest(1, training=(TrainingFile("2013-03", "p", "s", "l", 900),))
    text = page.render(EVENT, decided(), "flights", None, replace(made, choice=choice), [])
    assert f"<p>Default pipeline: {said}.</p>" in text
    assert "Default pipeline" not in page.render(EVENT, decided(), "flights", None, made, [])


def test_it_starts_with_the_verdict_in_words() -> None:
    """Before anything else: what was decided, what is in service, why, and whether somebody must act."""
    text = re.sub(r"<style>.*?</style>|<[^>]+>", " ", rendered(measured(MOVED)), flags=re.S)
    assert "flights · 2013-04: Reloaded" in text
    assert text.index("Reloaded — no version in service") < text.index("Must I act?") < text.index("What moved")


def test_the_headline_is_short() -> None:
    """The title is what was decided on and how it ended; the command is typed as it is there; the reasons follow."""
    made = Attempt(7, AttemptOutcome.WAITING, 3, "d", gate=Gate(Verdict.PASS, "better than v2", 200, 0.1, 0.01, "v2"))
    text = rendered(measured(MOVED), outcome=Outcome.AWAITING_APPROVAL, attempt=made)
    found = re.search(r"<h1>(.*?)</h1>\s*<p><code>(.*?)</code></p>\s*<ul>(.*?)</ul>", text)
    assert found
    title, command, reasons = found.groups()
    assert title == "flights · 2013-04: AwaitingApproval — no version in service"
    assert unescape(command) == "ror promote flights v3 --reason '...'"
    assert re.findall(r"<li>(.*?)</li>", reasons)[1:] == ["v3 waiting: better than v2."]
    assert "`" not in text


def test_what_moved_is_drawn_most_important_first() -> None:
    """Columns beyond their alarm have a picture each, alarms first, with the distance in multiples of the alarm."""
    text = rendered(measured(MOVED))
    drawn = re.findall(r'<figure class="(\w+)">\s*<figcaption><b>([^<]+)', text)
    assert {name for verdict, name in drawn if verdict == "fail"} == {"income", "city", "the target", "the prediction"}
    check = next(check for check in MOVED.checks if check.name == "drift:income")
    assert check.value and check.threshold
    assert f"{check.value / check.threshold:.1f} × its alarm" in text


def test_a_quiet_window_shows_what_was_nearest() -> None:
    """When nothing moved, the page says so, and shows what came nearest."""
    text = rendered(measured(check_drift(REFERENCE, window(9), CALIBRATION)))
    assert "No column moved beyond its alarm" in text
    assert text.count("<figure") == 4


def test_every_column_has_a_row() -> None:
    """No column goes unmentioned: with the verdict on its distribution and on its content, the loudest first."""
    loud = content("age", Verdict.FAIL)
    text = rendered(measured(MOVED, *(content(name) for name in ("income", "city", "member")), loud))
    table = text[text.index("Every column") :]
    rows = re.findall(r'<td class="name">([^<]+)</td>.*?<b class="(\w+)">', table, flags=re.S)
    verdicts = [verdict for _, verdict in rows]
    assert verdicts == sorted(verdicts, key=["fail", "warn", "skipped", "pass"].index)
    assert {name for name, _ in rows} == {"income", "age", "city", "member", "the prediction", "the target"}
    assert dict(rows)["age"] == "fail"


def test_nothing_is_asked_of_anybody_else() -> None:
    """The page is one file: no script, no font, no picture from anywhere; links lead to files beside it."""
    found = Page(rendered(measured(MOVED), ["drift.html"]))
    assert not {"script", "link", "img", "iframe", "object"} & set(found.tags)
    assert found.addresses == ["drift.html"]
    assert "default-src 'none'" in rendered(measured(MOVED))


def test_names_are_escaped() -> None:
    """Whatever columns, values, actors and reasons are called, none of it becomes a tag."""
    shown = replace(MOVED.pictures[0], title=ODD, labels=(ODD,), edges=(), before=(1.0,), after=(1.0,))
    drift = replace(MOVED, pictures=(shown,), checks=(Check(f"drift:{ODD}", Verdict.FAIL, ODD, 1.0, 0.1),))
    text = rendered(measured(drift, content(ODD)))
    assert "script" not in Page(text).tags
    assert text.count("&lt;script&gt;alert(1)") >= 5


def test_private_columns_have_no_picture() -> None:
    """Of a private column the page says how far it moved, and draws nothing."""
    private = check_drift(
        REFERENCE, window(9, shift=1.0).assign(city="Bergen"), CALIBRATION, private=["city", "income"]
    )
    text = rendered(measured(private))
    assert text.count("private: its values are not shown") == 2
    assert "Bergen" not in text


@pytest.mark.parametrize("outcome", list(Outcome))
def test_every_outcome_has_a_page(outcome: Outcome) -> None:
    """Also of runs that were interrupted before they could show what they saw."""
    checks = tuple(check for check in MOVED.checks if check.verdict is not Verdict.PASS)
    text = rendered(None, outcome=outcome, checks=checks)
    assert outcome.value in text
    assert "interrupted before it could draw" in text
    assert "<svg" not in text


def test_last_years_days_stand_beside_what_was_expected() -> None:
    """An expected change is drawn with the reason, and with the same days of last year where there are some."""
    year = window(5, shift=0.9)
    found = check_drift(
        REFERENCE,
        window(9, shift=1.0),
        CALIBRATION,
        excused={"income": "expected: Christmas, 12-20 to 01-06"},
        last_year=year,
    )
    text = rendered(measured(found))
    assert "expected: Christmas, 12-20 to 01-06" in text
    assert "the same period last year" in text
    assert text.count('<polyline class="year"') == 1


def test_what_has_no_place_of_its_own_is_noticed() -> None:
    """Slices that could not be compared, arrivals, coercions, expected periods without dates: nothing is dropped."""
    checks = [Check(f"{name}:x", Verdict.WARN, f"about {name}") for name in ("arrivals", "coercion", "something new")]
    checks += [Check("slices", Verdict.SKIPPED, "slices are not compared yet")]
    text = rendered(measured(check_drift(REFERENCE, window(9), CALIBRATION), *checks))
    assert all(check.summary in text for check in checks)


def test_a_target_that_moved_is_drawn() -> None:
    """The target is measured with the labels, and what moved of it stands beside the columns."""
    only = check_drift(REFERENCE, window(9).assign(**{TARGET: 1})[[TARGET]], CALIBRATION)
    quiet = check_drift(REFERENCE, window(9).drop(columns=TARGET), CALIBRATION)
    found = Findings(DataFindings(), LabelFindings(checks=only.checks, pictures=only.pictures), quiet)
    text = rendered(found)
    assert "No column moved" not in text
    assert "<b>the target</b>" in text
