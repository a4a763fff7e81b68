"""The text of what Prefect shows: a decision, a promotion, what waits for approval, the table of checks."""

from __future__ import annotations

import json
import re
from dataclasses import replace
from typing import Any

import pytest

from tasks.core.ledger.events import Decided, Event
from tasks.core.ledger.state import State
from tasks.core.records import to_dict
from tasks.core.reports import cards
from tasks.core.reports.cards import CardContext
from tasks.core.reports.service_history import Tenure
from tasks.core.types import (
    Action,
    Attempt,
    AttemptOutcome,
    BatchRecord,
    Blocked,
    Check,
    Decision,
    Finding,
    LossPoint,
    Outcome,
    Rule,
    Served,
    Verdict,
)
from tasks.core.versions.manifest import PipelineChoice
from tests.helpers.events import BROKEN, RELOADED
from tests.helpers.versions import GATE, make_manifest

STATE = State(
    served=(Served(1, "m1", 1), Served(2, "m2", 3)),
    batches={"007": BatchRecord("d", 10, "l", 10, 1, 2)},
    losses=(LossPoint("007", 2, 10, 0.2, 0.01),),
)
EVENT = Event(1, 42, None, "2026-11-24T10:00:00+00:00", "decided", "run", "key", "anna", "", None, {}, STATE)


def tenure(version: int, **changes: Any) -> Tenure:
    values: dict[str, Any] = {
        "version": version, "manifest": "d", "since": "2026-11-20T08:00:00+00:00", "until": None, "replaced_by": None,
        "seq": 7, "event": "decided", "outcome": "Retrained", "rule": "stale", "was": None, "actor": "bea", "run": "r",
        "reasons": ("it was due",), "made_because": (), "rows": 6992, "batches": ("001", "003"), "training_sha256": "t",
        "metrics": {}, "gate": GATE,
    }  # fmt: skip
    return Tenure(**{**values, **changes})


CONTEXT = CardContext(
    "loans",
    EVENT,
    current=tenure(2),
    previous=tenure(1, until="2026-11-20T08:00:00+00:00", event="promoted", was="approved", actor="carl"),
    made=make_manifest(2),
    page="file:///store/loans/runs/00000042/report.html",
)


def rows(text: str) -> dict[str, str]:
    """The pairs of a card's first table."""
    pairs = re.findall(r"^\| ([^|]+) \| (.+) \|$", text, flags=re.M)
    return {name.replace("\N{NO-BREAK SPACE}", " "): value for name, value in pairs}


def test_a_decision_card_answers_what_people_ask() -> None:
    """Must I act, which version since when and by whom, which one before, how good, and where to look further."""
    text = cards.decision_card(RELOADED, CONTEXT)
    answers = rows(text)
    assert text.startswith("## loans · 007: Reloaded — v2 in service\n\n- v2 stays.\n")
    assert answers["Must I act?"] == "**no**"
    assert answers["Decided"] == "2026-11-24 10:00 UTC: reload, by the rule *otherwise*, in a run of anna"
    assert answers["In service"] == "**v2** since 2026-11-20 08:00 UTC, put there by the rules (stale), in a run of bea"
    assert answers["– because"] == "it was due"
    assert answers["– trained on"] == "6,992 rows of 001 to 003"
    assert answers["Before it"].endswith("put there by carl (approved)")
    assert "`ror report loans 42`" in answers["Look further"]
    assert answers["Its page"] == "`file:///store/loans/runs/00000042/report.html`"
    assert "| loss | 0.1694 | 0.136 to 0.2027 | 0.1927 | unknown | 223 |" in text


def test_a_chosen_pipeline_is_said_with_its_rivals() -> None:
    """Both cards say which default pipeline a version has, and what each lost when it was chosen; else nothing."""
    choice = PipelineChoice("linear", {"linear": 0.12345, "small-booster": 0.13, "booster": 0.2}, 1200)
    said = (
        "linear, chosen at the first version by the loss on 1,200 later rows: "
        "linear 0.1235, small-booster 0.13, booster 0.2"
    )
    context = replace(CONTEXT, made=make_manifest(2, choice=choice), waiting=(make_manifest(3, choice=choice),))
    assert rows(cards.decision_card(RELOADED, context))["– default pipeline"] == said
    assert rows(cards.approval_card(context))["Default pipeline"] == said
    assert "default pipeline" not in cards.decision_card(RELOADED, CONTEXT)


def test_every_rule_shows_its_numbers() -> None:
    """What a rule rests on stands beside its sentence, in words and as many digits as one reads."""
    numbers = {"standard_error": 0.00254812, "rows": 2411, "batch": "007", "limit": None}
    found = (Finding(Rule.ROLLBACK, False, "no reason to go back", numbers), Finding(Rule.OTHERWISE, True, "v2 stays"))
    decided = replace(RELOADED, decision=replace(RELOADED.decision, findings=found))
    text = cards.decision_card(decided, CONTEXT)
    assert "| rollback | no | no reason to go back | standard error 0.002548, rows 2,411, batch 007, limit  |" in text
    assert "| otherwise | **yes** | v2 stays |  |" in text


@pytest.mark.parametrize(
    ("outcome", "attempt", "then"),
    [
        (Outcome.RETRAINED, AttemptOutcome.REGISTERED, "It is in service"),
        (Outcome.KEPT, AttemptOutcome.REFUSED, "It is kept, and not put in service"),
        (Outcome.AWAITING_APPROVAL, AttemptOutcome.WAITING, "It is kept until a person approves it"),
    ],
)
def test_the_gate_is_shown_once(outcome: Outcome, attempt: AttemptOutcome, then: str) -> None:
    """With its interval's sentence, what got worse, and what became of the version."""
    made = Attempt(7, attempt, 3, "d", gate=GATE)
    text = cards.decision_card(replace(RELOADED, outcome=outcome, attempt=made), CONTEXT)
    said = "" if outcome is Outcome.KEPT else f": {GATE.reason}"  # there it is the cause, which is said first
    gate = f"v3 **passed**{said}; 4.93% of the rows were right before and are wrong now. {then}"
    assert rows(text)["Gate"] == gate
    assert text.count(GATE.reason) == 1


def test_a_reason_is_said_once() -> None:
    """The card of the decision that put a version in service says so in its first lines, and why not again."""
    context = replace(CONTEXT, current=tenure(2, seq=EVENT.seq))
    answers = rows(cards.decision_card(RELOADED, context))
    assert answers["In service"] == "**v2** since 2026-11-20 08:00 UTC, put there by this run"
    assert "– because" not in answers
    assert rows(cards.settled_card(context))["– because"] == "it was due"


def test_the_picture_is_in_the_card() -> None:
    """As an image that asks nobody for anything; without losses there is none."""
    assert "![Loss of loans over its batches](data:image/svg+xml;base64," in cards.decision_card(RELOADED, CONTEXT)
    before = replace(CONTEXT, event=replace(EVENT, state_after=State()))
    assert "data:image" not in cards.decision_card(RELOADED, before)
    assert cards.picture_card(before) is None


def test_the_first_decision_has_no_version_to_show() -> None:
    """Before the first version the card says so, and shows no metrics."""
    context = CardContext("loans", replace(EVENT, state_after=State()))
    text = cards.decision_card(replace(RELOADED, outcome=Outcome.HELD, in_service=None), context)
    assert rows(text)["In service"] == "no version yet"
    assert "on rows that it never saw" not in text


def test_a_card_says_what_to_do_about_data() -> None:
    """Broken batches are repaired, changed ones may be accepted, doubted labels released or kept out: each by name."""
    blocked = (BROKEN, Blocked("009", "c" * 64, ("city: 50% new",), changed=True))
    doubted = replace(RELOADED.decision, suspect="007")
    answers = rows(
        cards.decision_card(replace(RELOADED, outcome=Outcome.BLOCKED, blocked=blocked, decision=doubted), CONTEXT)
    )
    assert answers["Repair it"].startswith("`ror show loans --violations -o violations.csv`")
    assert "deliver 008 again" in answers["Repair it"]
    assert "`ror accept loans 009 --reason '...'`" in answers["Accept it"]
    assert "`ror release loans 007" in answers["Its labels"]
    assert not {"Repair it", "Accept it", "Its labels"} & set(rows(cards.decision_card(RELOADED, CONTEXT)))


def test_text_from_data_stays_text() -> None:
    """Names of columns, reasons and actors end no cell, and become neither tag nor picture from elsewhere."""
    odd = "a|b\n<script>![x](http://example.com/x.png)"
    decided = Decided(
        **{
            **{name: getattr(RELOADED, name) for name in RELOADED.__slots__},
            "decision": Decision(Action.RELOAD, odd, (odd,), (Finding(odd, True, odd, {odd: odd}),)),
            "checks": (Check(f"content:{odd}", Verdict.FAIL, odd),),
        }
    )
    context = replace(CONTEXT, event=replace(EVENT, actor=odd), current=tenure(2, actor=odd, reasons=(odd,)))
    for text in (cards.decision_card(decided, context), cards.in_short(decided)):
        assert "<script" not in text
        assert not re.search(r"(?<!\\)\[x\]", text)
        assert all(line.count("|") == 5 + line.count("\\|") for line in text.splitlines() if line.startswith("| a"))


# --- approval and promotion ------------------------------------------------------------------------------------


WAITING = replace(CONTEXT, waiting=(make_manifest(3), make_manifest(4)))


def test_an_approval_card_says_how_to_approve() -> None:
    """What waits, why it was made, how it compares, the parameters to fill in, and the command that does the same."""
    text = cards.approval_card(WAITING)
    answers = rows(text)
    assert text.startswith("## loans · v4 waits for approval")
    assert answers["Must I act?"] == "**yes: decide whether v4 is put in service; until then v2 goes on serving**"
    assert answers["Made because"] == "the data drifted: a_b moved"
    assert answers["Also waiting"] == "v3; approving v4 ends their wait"
    assert "| loss | 0.1694 | 0.136 to 0.2027 | 0.1927 | unknown | 223 |" in text
    form = re.search(r"```json\n(.*?)```", text, flags=re.S)
    assert form and json.loads(form[1]) == {"model": "loans", "version": 4, "reason": "", "expected": 2}
    assert "\nror promote loans v4 --expected v2 --reason '...'\n" in text
    assert "Open the form" not in text
    assert "**[Open the form, filled in](../../form)**" in cards.approval_card(WAITING, "../../form")


def test_a_first_version_may_wait_too() -> None:
    """Nothing is served until then; the form expects no version."""
    text = cards.approval_card(replace(WAITING, current=None, previous=None))
    assert "until then nothing is served" in text
    assert '"expected": 0' in text
    assert "--expected none" in text


def test_a_decision_card_points_to_what_waits() -> None:
    """Whoever reads the decision finds the approval."""
    assert rows(cards.decision_card(RELOADED, WAITING))["Waits for approval"] == (
        "v3, v4: see the artifact `loans-approval`"
    )


def test_a_promotion_has_a_card() -> None:
    """What a person put in service, in place of what, why, and the way back."""
    body = {"served": to_dict(Served(2, "b" * 64, 6)), "was": "approved", "replaced": 1}
    event = replace(EVENT, event="promoted", actor="dora", reason="looks right", body=body)
    text = cards.promotion_card(replace(CONTEXT, event=event, page=None))
    assert text.startswith("## loans · v2 put in service, in place of v1 (approved): looks right\n")
    assert rows(text)["Go back"] == "`ror promote loans v1 --expected v2 --reason '...'`"


def test_a_settled_approval_says_so() -> None:
    """Once nothing waits, the last card of that name does not ask for anything."""
    text = cards.settled_card(CONTEXT)
    assert "nothing waits for approval" in text
    assert "ror promote" not in text


# --- the table -------------------------------------------------------------------------------------------------


def test_the_loudest_check_comes_first_and_every_cell_is_text() -> None:
    """Prefect's table fails on a column without a name and on an empty value."""
    checks = [
        Check("drift:a", Verdict.PASS, "a is stable", 0.05, 0.1),
        Check("performance:f1", Verdict.PASS, "f1"),
        Check("drift:b", Verdict.FAIL, "b moved", 0.25, 0.1, 0.3),
    ]
    table = cards.check_rows(checks)
    assert [row["check"] for row in table] == ["drift · b", "drift · a", "performance · f1"]
    assert table[0]["of its alarm"] == "250%"
    assert all(name and isinstance(value, str) for row in table for name, value in row.items())
    assert cards.checks_in_short(checks) == "1 of 3 did not pass: drift · b"
    assert cards.checks_in_short(checks[:2]) == "all 2 passed"


def test_names_of_artifacts_are_as_prefect_wants_them() -> None:
    """Small letters, digits and dashes."""
    assert cards.artifact_name("my_model", "decision") == "my--model-decision"
    names = ("a-b", "a_b", "a--b", "a_-b", "a-_b", "a-b-", "a__b", "a----b")
    keys = {cards.artifact_name(name, "decision") for name in names}
    assert len(keys) == len(names)  # another one for every model
    assert all(re.fullmatch(r"[a-z0-9-]+", key) for key in keys)
