"""What a run's page in Prefect shows, as markdown and rows: the decision, a promotion, what waits for approval.

Prefect draws markdown with tables and images, and takes everything else out; text from data is escaped here.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from tasks.core.ledger.events import Decided, Event, EventKind
from tasks.core.ledger.state import State
from tasks.core.records import digest
from tasks.core.reports import loss_chart, wording
from tasks.core.reports.service_history import Tenure
from tasks.core.text import cell, interval_text, minute, named, number, span
from tasks.core.types import AttemptOutcome, Check, Finding, Gate, Metric, Verdict
from tasks.core.versions.manifest import Manifest

NARROW = "\N{NO-BREAK SPACE}"
"""Keeps a short name on one line."""
FEW = 30
"""Checks that a card names; the table of checks has all of them."""


@dataclass(frozen=True, slots=True)
class CardContext:
    """What surrounds one entry of a model's history."""

    model: str
    event: Event
    current: Tenure | None = None
    """The version in service after it."""
    previous: Tenure | None = None
    """The version that it took over from."""
    made: Manifest | None = None
    """The record of the version in service."""
    waiting: tuple[Manifest, ...] = ()
    """Records of the versions that wait for approval, oldest first."""
    page: str | None = None
    """Address of the run's whole page."""

    @property
    def state(self) -> State:
        """The state after the entry."""
        return self.event.state_after


def decision_card(decided: Decided, context: CardContext) -> str:
    """One decision: what is in service, must I act, why, what every rule saw, how good it is, where to look further."""
    model, seq = context.model, context.event.seq
    why = wording.reasons(decided)
    gate = decided.attempt.gate.reason if decided.attempt and decided.attempt.gate else None
    why = [line for place, line in enumerate(why) if place == 0 or gate is None or gate not in line]  # has a row below
    lines = [f"## {cell(wording.title(decided, model))}", "", *(f"- {cell(line)}" for line in why)]
    rule = f"{decided.decision.action.value}, by the rule *{cell(decided.decision.rule)}*"
    rows = [
        ("Must I act?", f"**{cell(wording.must_act(decided))}**"),
        ("Decided", f"{_when(context.event.at)}: {rule}, in a run of {cell(context.event.actor)}"),
        *_service(context, told=True),
        *_attempt(decided, why[0]),
        *_waiting(context),
        *_remedies(decided, model),
        ("Look further", f"`ror report {model} {seq}` · `ror history {model}` · `ror show {model}`"),
        *([("Its page", _code(context.page))] if context.page else []),
    ]
    lines += ["", *_pairs(rows), *_picture(context)]
    lines += ["", "### What each rule saw", "", "| rule | applies | what it saw | numbers |", "|---|---|---|---|"]
    lines += [_finding(finding) for finding in decided.decision.findings]
    if context.made:
        lines += _metrics(context.made)
    loud = [check for check in decided.checks if check.verdict in (Verdict.FAIL, Verdict.WARN, Verdict.SKIPPED)]
    if loud:
        lines += ["", "### Checks that did not pass", "", "| check | verdict | says |", "|---|---|---|"]
        lines += [f"| {cell(_check_name(c))} | {c.verdict.value} | {cell(c.summary)} |" for c in loud[:FEW]]
        if len(loud) > FEW:
            lines += ["", f"And {len(loud) - FEW} more: the table of checks has all of them."]
    return "\n".join(lines) + "\n"


def promotion_card(context: CardContext) -> str:
    """What a person put in service, in place of what, and how good both are."""
    event, model = context.event, context.model
    rows = [
        ("Must I act?", "**no**"),
        *_service(context, told=True),
        ("Go back", f"`{_back(context)}`"),
        *_waiting(context),
        ("Look further", f"`ror history {model}` · `ror show {model}`"),
    ]
    lines = [f"## {cell(promotion_line(model, event))}", "", *_pairs(rows), *_picture(context)]
    if context.made:
        lines += _metrics(context.made)
    return "\n".join(lines) + "\n"


def promotion_line(model: str, event: Event) -> str:
    """A promotion in one line: what was done, and why."""
    return f"{model} · {wording.describe_event(event)}: {event.reason}"


def approval_form(context: CardContext) -> dict[str, Any]:
    """What to fill into the form of `promote` to approve what waits. The person who approves adds the reason."""
    now = context.current.version if context.current else 0
    return {"model": context.model, "version": context.waiting[-1].version, "reason": "", "expected": now}


def approval_card(context: CardContext, form: str | None = None) -> str:
    """What waits for a person, why it was made, how it compares, and both ways to approve it.

    `form` is the address of the form of `promote`, filled in.
    """
    made, model = context.waiting[-1], context.model
    now = context.current.version if context.current else 0
    stays = f"v{now} goes on serving" if now else "nothing is served"
    command = f"ror promote {model} v{made.version} --expected {f'v{now}' if now else 'none'} --reason '...'"
    rows = [
        ("Must I act?", f"**yes: decide whether v{made.version} is put in service; until then {stays}**"),
        ("Waits since", _when(made.created)),
        ("Made because", cell("; ".join(made.reasons))),
        ("Trained on", f"{made.rows:,} rows of {cell(span([file.batch for file in made.training], 'no batch'))}"),
        *_pipeline("Default pipeline", made),
        ("Gate", _gate(made.version, made.gate, made.gate.reason)),
        *_service(context),
    ]
    older = [f"v{manifest.version}" for manifest in context.waiting[:-1]]
    if older:
        rows.append(("Also waiting", f"{', '.join(older)}; approving v{made.version} ends their wait"))
    lines = [f"## {model} · v{made.version} waits for approval", "", *_pairs(rows), *_metrics(made)]
    lines += [
        "",
        "### Approve it here",
        "",
        *([f"**[Open the form, filled in]({form})**, write down the reason, and submit it.", ""] if form else []),
        f"{'Or by yourself: ' if form else ''}Deployments → *promote* → Run → Custom run, with these parameters and "
        "your reason; without one it is refused. Leave the rest as it is.",
        "",
        "```json",
        json.dumps(approval_form(context), indent=2),
        "```",
        "",
        "### Or on a command line",
        "",
        "```",
        command,
        "```",
        "",
        f"Both are the same flow. `expected` refuses it when another version than {f'v{now}' if now else 'none'} is in "
        f"service by then. To leave it is an answer, too: {stays}, and the rules propose the next one when it is due.",
    ]
    return "\n".join(lines) + "\n"


def settled_card(context: CardContext) -> str:
    """In place of an approval card, once nothing waits any more."""
    what = f"v{context.current.version} is in service" if context.current else "no version is in service"
    return f"## {context.model} · nothing waits for approval\n\n" + "\n".join(
        _pairs([("Now", what), *_service(context)])
    )


def in_short(decided: Decided) -> str:
    """The decision in a line whose first words say most: lists cut the rest."""
    return cell(wording.short(decided))


def checks_in_short(checks: Sequence[Check]) -> str:
    """How many did not pass, and which."""
    loud = [_check_name(check) for check in checks if check.verdict in (Verdict.FAIL, Verdict.WARN)]
    return f"{len(loud)} of {len(checks)} did not pass: {cell(named(loud))}" if loud else f"all {len(checks)} passed"


def check_rows(checks: Sequence[Check]) -> list[dict[str, Any]]:
    """The table of checks, what is loudest first.

    Every column has a name and every cell a text: Prefect's page fails on a column without one.
    """
    return [
        {
            "check": _check_name(check),
            "verdict": check.verdict.value,
            "of its alarm": _share(check),
            "says": check.summary,
            "value": _number(check.value),
            "alarm at": _number(check.threshold),
        }
        for check in sorted(checks, key=lambda check: check.verdict.rank)
    ]


def picture_card(context: CardContext) -> str | None:
    """The loss over batches alone; None while there is nothing to draw."""
    lines = _picture(context)
    return "\n".join(lines).strip() + "\n" if lines else None


def artifact_name(model: str, kind: str) -> str:
    """Name of an artifact, another one for every model: Prefect allows small letters, digits and dashes."""
    plain = model.replace("_", "--")
    if plain.replace("--", "_") != model:  # of another model, then
        plain += f"-{digest(model.encode())[:8]}"
    return f"{plain}-{kind}"


# --- parts ---------------------------------------------------------------------------------------------------


def _service(context: CardContext, *, told: bool = False) -> list[tuple[str, str]]:
    """Which version is in service, since when and by whom, and which one was before it; why, unless the card has
    `told` that already, as the card of the entry that put it there does."""
    now, was = context.current, context.previous
    if now is None:
        return [("In service", "no version yet")]
    told = told and now.seq == context.event.seq
    by = "this run" if told and now.event == EventKind.DECIDED else cell(now.by)
    rows = [
        ("In service", f"**v{now.version}** since {_when(now.since)}, put there by {by}"),
        *([] if told else [("– because", cell("; ".join(now.reasons)))]),
        ("– trained on", f"{now.rows:,} rows of {cell(span(now.batches, 'no batch'))}"),
        *(_pipeline("– default pipeline", context.made) if context.made else []),
    ]
    if was:
        rows.append(
            ("Before it", f"v{was.version}, {_when(was.since)} to {_when(was.until)}, put there by {cell(was.by)}")
        )
    return rows


def _pipeline(name: str, made: Manifest) -> list[tuple[str, str]]:
    return [(name, cell(wording.chosen(made.choice)))] if made.choice else []


def _attempt(decided: Decided, cause: str) -> list[tuple[str, str]]:
    attempt = decided.attempt
    if attempt is None or attempt.version is None or attempt.gate is None:
        return []
    why = None if attempt.gate.reason in cause else attempt.gate.reason
    return [("Gate", f"{_gate(attempt.version, attempt.gate, why)}. It is {_ended(attempt.outcome, decided)}")]


def _remedies(decided: Decided, model: str) -> list[tuple[str, str]]:
    """What a person can do about broken or changed data, and about labels that are doubted."""
    found = []
    broken = [item.batch for item in decided.blocked if item.sha256 and not item.changed]
    if broken:
        export = f"`ror show {model} --violations -o violations.csv` writes every offending cell"
        found.append(("Repair it", f"{export}; deliver {cell(named(broken))} again, and the next run takes it up"))
    for item in decided.blocked:
        if item.changed:
            command = _code(f"ror accept {model} {item.batch} --reason '...'")
            found.append(("Accept it", f"if this content is the new normal: {command}"))
    if (batch := decided.decision.suspect) is not None:
        good, bad = (_code(f"ror {word} {model} {batch} --reason '...'") for word in ("release", "quarantine"))
        found.append(("Its labels", f"the next labelled batch decides, or you: {good} if they are right, {bad} if not"))
    return found


def _ended(outcome: AttemptOutcome, decided: Decided) -> str:
    match outcome:
        case AttemptOutcome.REGISTERED if decided.in_service:
            return "in service"
        case AttemptOutcome.WAITING:
            return "kept until a person approves it"
        case AttemptOutcome.REFUSED:
            return "kept, and not put in service"
    return outcome.value


def _gate(version: int, gate: Gate, why: str | None) -> str:
    text = f"v{version} **{_VERDICTS[gate.verdict]}**" + (f": {cell(why)}" if why else "")
    if gate.negative_flips is not None:
        text += f"; {gate.negative_flips:.2%} of the rows were right before and are wrong now"
    return text


_VERDICTS = {Verdict.PASS: "passed", Verdict.FAIL: "refused", Verdict.SKIPPED: "not compared", Verdict.WARN: "warned"}


def _waiting(context: CardContext) -> list[tuple[str, str]]:
    if not context.waiting:
        return []
    names = ", ".join(f"v{manifest.version}" for manifest in context.waiting)
    return [("Waits for approval", f"{names}: see the artifact `{artifact_name(context.model, 'approval')}`")]


def _back(context: CardContext) -> str:
    now, was = context.current, context.previous
    if now is None or was is None:
        return f"ror history {context.model}"
    return f"ror promote {context.model} v{was.version} --expected v{now.version} --reason '...'"


def _finding(finding: Finding) -> str:
    numbers = ", ".join(f"{name.replace('_', ' ')} {_number(value)}" for name, value in finding.numbers.items())
    applies = "**yes**" if finding.applies else "no"
    return f"| {cell(finding.rule)} | {applies} | {cell(finding.reason)} | {cell(numbers)} |"


def _metrics(made: Manifest) -> list[str]:
    """The metrics of a version, next to those of its rival on the same rows."""
    rival = made.gate.against or "its rival"
    theirs = f" | {cell(rival)} on the same rows | 95 % interval" if made.champion_metrics else ""
    lines = ["", f"### v{made.version} on rows that it never saw", ""]
    lines += [f"| metric | v{made.version} | 95 % interval{theirs} | rows |"]
    lines += ["|---" * (6 if theirs else 4) + "|"]
    for name, metric in made.metrics.items():
        other = made.champion_metrics.get(name)
        beside = f" | {_both(other)}" if theirs else ""
        lines.append(f"| {cell(name)} | {_both(metric)}{beside} | {metric.rows:,} |")
    return lines if made.metrics else []


def _both(metric: Metric | None) -> str:
    return f"{number(metric.value)} | {interval_text(metric)}" if metric else "– | –"


def _picture(context: CardContext) -> list[str]:
    drawn = loss_chart.picture(context.state, context.model)
    return ["", f"![Loss of {context.model} over its batches]({loss_chart.as_address(drawn)})"] if drawn else []


def _pairs(rows: Sequence[tuple[str, str]]) -> list[str]:
    """A table of two columns, whose first pair is its head."""
    lines = [f"| {name.replace(' ', NARROW)} | {text} |" for name, text in rows]
    return [lines[0], "|---|---|", *lines[1:]]


def _share(check: Check) -> str:
    return f"{check.value / check.threshold:.0%}" if check.value is not None and check.threshold else ""


def _check_name(check: Check) -> str:
    """`drift · temp`: its kind, and what was checked."""
    return f"{check.kind} · {check.subject}" if check.subject else check.kind.value


def _number(value: float | int | str | None) -> str:
    if value is None:
        return ""
    if isinstance(value, float):
        return number(value)
    return f"{value:,}" if isinstance(value, int) else value


def _when(at: str | None) -> str:
    return f"{minute(at)} UTC" if at else "–"


def _code(text: str) -> str:
    return f"`{text.replace('`', ' ').replace('|', ' ')}`"
