"""The decision: a pure function of the evidence.

Ten rules are looked at in order; the first that applies acts. What every rule saw is kept, with its numbers, so that
a person can check the decision by hand. The words: *champion* is the version in service, *predecessor* the one before
it; *loss* is one number per row, lower is better.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace

from tasks.core.data.files import in_order
from tasks.core.decision.evidence import Evidence
from tasks.core.decision.interval import Interval, interval
from tasks.core.spec import PolicySpec
from tasks.core.text import amount, counted, named, of_loss, portion
from tasks.core.types import Action, Decision, Finding, Rule

POLICY_VERSION = 3
"""Part of the run key: a changed rule is a new question."""

DROP, DROP_YOUNG = 1.1, 1.5
"""Multiples of the usual loss from which performance dropped: of a version's own, and of its predecessors' while it is
young, which other batches have shaped."""
DOUBT, RUIN = 1.5, 10.0
"""Multiples of the usual loss from which labels are doubted: of a version's own, and of its predecessors' while it is
young. (At 1.5 of the latter, real batches of two of five streams were doubted, at up to 3 % of the loss.)"""


Numbers = dict[str, float | int | str | None]


def decide(evidence: Evidence, policy: PolicySpec) -> Decision:
    """What to do, why, and what every rule that looked has seen. Total: every evidence has a decision."""
    context = _Context(evidence, policy, interval(evidence, policy))
    findings: list[Finding] = []
    for rule, look in RULES:
        seen = look(context)
        finding = Finding(rule, seen.action is not None, seen.reason, seen.numbers)
        findings.append(finding)
        if seen.action is not None:
            return _conclude(context, rule, seen, findings)
    raise AssertionError("the last rule always applies")  # pragma: no cover


@dataclass(frozen=True, slots=True)
class _Context:
    evidence: Evidence
    policy: PolicySpec
    interval: Interval

    @property
    def due(self) -> bool:
        """The last attempt to train is as old as is worth waiting for."""
        best = self.interval.batches
        return best is not None and self.evidence.new_batches >= best - 0.5


@dataclass(frozen=True, slots=True)
class _Seen:
    """What one rule saw; an action means it applies."""

    reason: str
    action: Action | None = None
    numbers: Numbers = field(default_factory=dict)
    suspect: str | None = None
    proposes: bool = False
    """A retrain that needs something new to learn from; otherwise it becomes a hold."""


def _broken(c: _Context) -> _Seen:
    """1. Structure of the contract broken, also when asked by hand."""
    blocked, aside = c.evidence.blocked, c.evidence.aside
    if not blocked and aside:
        return _Seen(f"{_names(aside)} set aside as before; the other batches proceed")
    if not blocked:
        return _Seen("every pending batch has the structure that the pipeline needs")
    numbers: Numbers = {"blocked": len(blocked), "pending": c.evidence.pending}
    if c.evidence.pending:
        return _Seen(f"{_names(blocked)} set aside as broken; the other batches proceed", numbers=numbers)
    return _Seen(
        f"{_names(blocked)} cannot be predicted on: repair and deliver again; the current version stays in service",
        Action.BLOCK,
        numbers,
    )


def _by_hand(c: _Context) -> _Seen:
    """2. Asked for by hand, with who and why."""
    request = c.evidence.request
    if request.action == "auto":
        return _Seen("no particular action was asked for")
    if request.action == "retrain" and c.evidence.labelled_rows < c.policy.min_rows:
        return _Seen(
            f"{request.actor} asked to retrain, but there are {c.evidence.labelled_rows:,} labelled rows "
            f"of the {c.policy.min_rows:,} that min_rows asks for",
            Action.HOLD,
            {"labelled_rows": c.evidence.labelled_rows, "min_rows": c.policy.min_rows},
        )
    if request.action == "reload" and c.evidence.current is None:
        return _Seen(f"{request.actor} asked to reload, but no version is in service yet", Action.HOLD)
    return _Seen(
        f"{request.actor} asked to {request.action}: {request.reason or 'no reason given'}",
        Action(request.action),
    )


def _first(c: _Context) -> _Seen:
    """3. No version yet."""
    e = c.evidence
    if e.current is not None:
        return _Seen(f"v{e.current} is in service")
    numbers: Numbers = {"labelled_rows": e.labelled_rows, "min_rows": c.policy.min_rows}
    if e.labelled_rows < c.policy.min_rows:
        reason = f"{e.labelled_rows:,} labelled rows of {c.policy.min_rows:,} needed: waits for labels"
        return _Seen(f"no version yet, and {reason}", Action.HOLD, numbers)
    reason = f"no version yet, and {e.labelled_rows:,} labelled rows to train the first one on"
    return _Seen(reason, Action.RETRAIN, numbers, proposes=True)


def _suspect(c: _Context) -> _Seen:
    """4. Champion and predecessor both fail on the newest labelled batch: are the labels wrong, or the world?"""
    e = c.evidence
    newest = e.newest_loss(e.current)
    behind = 2 if e.suspect else 1
    usual, factor = e.usual_loss(e.current, behind) or e.usual_loss(e.current), DOUBT
    if usual is None:  # trained lately: what was usual before it is a rough yardstick, for ruinous labels only
        usual, factor = e.usual_in_service(behind), RUIN
    if newest is None or usual is None or e.dummy_loss is None:
        return _Seen("no newly labelled batch to compare with at least two earlier ones")
    limit = max(factor * usual[0], e.dummy_loss)
    other = e.newest_loss(e.predecessor)
    least = min(newest.mean, other.mean) if other else newest.mean
    numbers: Numbers = {"loss": least, "limit": limit, "usual": usual[0], "dummy": e.dummy_loss}
    bad = least > limit
    if e.suspect and bad:
        reason = f"{e.newest} confirms that {e.suspect} was a real shift: both lose far more than usual"
        return _Seen(reason, Action.RETRAIN, numbers, proposes=True)
    if e.suspect:
        return _Seen(f"{e.newest} does not confirm {e.suspect}: its labels stay out of training", numbers=numbers)
    if bad:
        reason = (
            f"{e.newest} is suspect: every version loses more than {amount(limit)} on it (usually {amount(usual[0])}); "
            "held out of training until the next labelled batch confirms or clears it"
        )
        return _Seen(reason, Action.HOLD, numbers, suspect=e.newest)
    reason = f"loss {amount(newest.mean)} on {e.newest} is below {amount(limit)}, where labels would be doubted"
    return _Seen(reason, numbers=numbers)


def _rollback(c: _Context) -> _Seen:
    """5. The predecessor is clearly better on everything the champion has been judged on."""
    e = c.evidence
    paired = [x for x in e.comparisons if (x.version, x.predecessor) == (e.current, e.predecessor)][-3:]
    if not paired:
        return _Seen("no predecessor has been compared on newly labelled rows")
    rows = sum(item.rows for item in paired)
    worse = -sum(item.gain * item.rows for item in paired) / rows
    error = math.sqrt(sum(item.variance * item.rows for item in paired)) / rows
    batches = {item.batch for item in paired}
    points = [p for p in e.losses_of(e.predecessor) if p.batch in batches]
    theirs = sum(p.mean * p.rows for p in points) / max(1, sum(p.rows for p in points))
    numbers: Numbers = {"excess": worse, "standard_error": error, "predecessor_loss": theirs, "rows": rows}
    share = 0.2 if len(paired) > 1 else 0.5  # one odd batch is no verdict on a version, unless it is ruinous
    clear = worse > 3 * error and worse > share * theirs
    if clear and e.predecessor_ready:
        reason = (
            f"v{e.current} is worse than v{e.predecessor} by {of_loss(worse, theirs)} over {rows:,} rows, "
            f"more than {share:.0%} and far beyond chance: v{e.predecessor} is put back in service"
        )
        return _Seen(reason, Action.ROLLBACK, numbers)
    if clear:
        return _Seen(f"v{e.predecessor} was better, but it is barred or does not load here", numbers=numbers)
    relation = f"no different from v{e.predecessor}"
    if abs(worse) > 2 * error:
        relation = f"{'better' if worse < 0 else 'worse'} than v{e.predecessor} by {of_loss(abs(worse), theirs)}"
    return _Seen(f"v{e.current} is {relation} over {rows:,} rows: no reason to go back", numbers=numbers)


def _shock(c: _Context) -> _Seen:
    """6. The newest labelled batch is far worse than usual: for this version, or its predecessors while it is young."""
    e = c.evidence
    newest, usual, factor = e.newest_loss(e.current), e.usual_loss(e.current), DROP
    if usual is None:
        usual, factor = e.usual_in_service(), DROP_YOUNG
    if newest is None or usual is None:
        return _Seen("no newly labelled batch to compare with at least two earlier ones")
    mean, variance = usual
    limit = max(factor * mean, mean + 3 * math.sqrt(newest.variance / newest.rows + variance))
    numbers: Numbers = {"loss": newest.mean, "limit": limit, "usual": mean}
    loss = f"loss {amount(newest.mean)} on {newest.batch}"
    if newest.mean > limit:
        dropped = f"performance dropped: {loss}, usually {amount(mean)} (alarm at {amount(limit)})"
        return _Seen(dropped, Action.RETRAIN, numbers, proposes=True)
    return _Seen(f"{loss} is within the usual (alarm at {amount(limit)})", numbers=numbers)


def _changed(c: _Context) -> _Seen:
    """7. Assumptions changed: content beyond its tolerance, or accepted by a person; learned once it has labels."""
    e = c.evidence
    news = in_order({*e.accepted, *e.novel})
    numbers: Numbers = {"changes": len(e.changes), "batches": len(news)}
    said = "was accepted" if set(news) <= set(e.accepted) else "goes beyond what was trained on"
    if learnable := [batch for batch in news if batch not in e.unlearnable]:
        reason = f"assumptions changed: the content of {_names(learnable)} {said}, and can be learned now"
        return _Seen(reason, Action.RETRAIN, numbers, proposes=True)
    reason = f"assumptions changed: {named(e.changes, 3, '; ')}"
    if e.changes and c.policy.on_change == "block":
        return _Seen(f"{reason}. Repair the batch, or accept it as it is (`ror accept`)", Action.BLOCK, numbers)
    if not news:
        return _Seen("content of the data is as in training", numbers=numbers)
    if not e.changes:
        reason = f"assumptions changed: the content of {_names(news)} {said}"
    # Where there is something else to learn from, the rules below decide whether that is due.
    return _Seen(f"{reason}; its labels must arrive first", Action.HOLD if e.new_batches < 1 else None, numbers)


def _stale(c: _Context) -> _Seen:
    """8. The version is as old as is worth waiting for."""
    age, best = c.evidence.new_batches, c.interval
    numbers: Numbers = {"age": age, "interval": best.batches, "slope": best.slope, "base": best.base}
    if c.evidence.mended and age > 0:
        reason = "the last attempt to train came to nothing, and what it depended on has changed: it is made again"
        return _Seen(reason, Action.RETRAIN, numbers, proposes=True)
    if best.batches is None:
        return _Seen("no evidence of staleness, and max_age is never", numbers=numbers)
    avoided = portion(best.cost, best.base)
    due = f"retraining pays every {best.batches:.1f}, when it avoids about {avoided} of a batch's loss"
    if best.capped:
        due = f"routine refresh every {best.batches:.0f} labelled batches, no evidence of staleness"
    reason = f"{counted(age, 'labelled batch', 'labelled batches')} since the last attempt to train; {due}"
    return _Seen(reason, Action.RETRAIN if c.due else None, numbers, proposes=c.due)


def _drifted(c: _Context) -> _Seen:
    """9. Drift, weighted by importance: an early warning while labels are fresh, a trigger or a report."""
    e, drift = c.evidence, c.evidence.drift
    numbers: Numbers = {
        "columns": len(drift.drifted), "weight": drift.weight, "stirred": drift.stirred, "limit": c.policy.drift_weight,
    }  # fmt: skip
    if not drift.measured:
        return _Seen("drift was not measured", numbers=numbers)
    limit = c.policy.drift_weight
    alarm = drift.weight >= limit or drift.prediction
    stirred = drift.stirred >= limit or drift.stirred_prediction
    half = c.interval.batches is not None and e.new_batches >= c.interval.batches / 2
    late = (e.label_delay or 1) > 1
    moved = f"{_names(drift.drifted[:4]) or 'the prediction'} moved ({drift.weight:.0%} of the importance"
    moved += ", and the prediction with them)" if drift.prediction else ")"
    quiet = f"columns that drifted carry {drift.weight:.0%} of the importance (alarm at {limit:.0%})"
    match c.policy.drift:
        case "report":
            return _Seen(f"{moved}; drift is only reported" if alarm else quiet, numbers=numbers)
        case "early-warning" if alarm and late:
            reason = f"{moved}, but labels take {e.label_delay} batches: nothing of it could be learned yet"
            return _Seen(reason, numbers=numbers)
        case "early-warning" if alarm and not half:
            return _Seen(f"{moved}, but the version is young: watched until half its interval", numbers=numbers)
        case "early-warning" if stirred and half and not late and not alarm:
            columns = f"columns with {drift.stirred:.0%} of the importance"
            what = columns if drift.stirred >= limit else "the predictions"
            reason = f"{what} are beyond what is usual, and half of the interval between retrains is over"
            return _Seen(reason, Action.RETRAIN, numbers, proposes=True)
    if not alarm:
        return _Seen(quiet, numbers=numbers)
    return _Seen(f"the data drifted: {moved}", Action.RETRAIN, numbers, proposes=True)


def _otherwise(c: _Context) -> _Seen:
    """10. Nothing speaks against the current version, or nothing that could be learned yet."""
    e = c.evidence
    if news := in_order({*e.accepted, *e.novel}):
        return _Seen(f"v{e.current} stays: the changed content of {_names(news)} waits for its labels", Action.HOLD)
    drift = e.drift
    if drift.drifted or drift.prediction:
        moved = _names([*drift.drifted[:4], *(["the prediction"] if drift.prediction else [])])
        return _Seen(f"v{e.current} stays: {moved} moved, which is no reason to retrain now", Action.RELOAD)
    return _Seen(f"v{e.current} stays: data and performance are as expected", Action.RELOAD)


RULES: Sequence[tuple[Rule, Callable[[_Context], _Seen]]] = (
    (Rule.BROKEN_DATA, _broken),
    (Rule.BY_HAND, _by_hand),
    (Rule.FIRST_VERSION, _first),
    (Rule.SUSPECT_LABELS, _suspect),
    (Rule.ROLLBACK, _rollback),
    (Rule.PERFORMANCE_DROP, _shock),
    (Rule.ASSUMPTIONS_CHANGED, _changed),
    (Rule.STALE, _stale),
    (Rule.DRIFT, _drifted),
    (Rule.OTHERWISE, _otherwise),
)


def _conclude(c: _Context, rule: Rule, seen: _Seen, findings: list[Finding]) -> Decision:
    e, action, reasons = c.evidence, seen.action, [seen.reason]
    assert action is not None
    if seen.proposes and action is Action.RETRAIN and (missing := _nothing_to_learn(c) or _awaits_approval(c, rule)):
        action = Action.HOLD
        reasons.append(f"but {missing}")
    judged = e.suspect is not None and e.newest is not None and e.newest != e.suspect
    confirmed = judged and rule is Rule.SUSPECT_LABELS and seen.action is Action.RETRAIN
    return Decision(
        action=action,
        rule=rule,
        reasons=tuple(reasons),
        findings=tuple(findings),
        interval=_interval_after(c, action).batches,
        suspect=seen.suspect,
        cleared=e.suspect if confirmed else None,
        quarantined=e.suspect if judged and not confirmed else None,
    )


def _interval_after(c: _Context, action: Action) -> Interval:
    """The interval from now on: a version that is rolled back was no measure of what fresh data are worth."""
    if action is not Action.ROLLBACK:
        return c.interval
    e = c.evidence
    others = tuple(item for item in e.comparisons if item.version != e.current)
    return interval(replace(e, comparisons=others), c.policy)


def _nothing_to_learn(c: _Context) -> str | None:
    """Why a retrain would be pointless now, or None."""
    e = c.evidence
    if e.labelled_rows < c.policy.min_rows:
        return f"there are only {e.labelled_rows:,} labelled rows (min_rows is {c.policy.min_rows:,})"
    if e.new_batches < 1 or e.new_rows < 1:
        return "no batch was labelled since the last attempt to train: nothing new to learn, waiting for labels"
    if e.cooldown > 0:
        more = counted(e.cooldown, "more labelled batch", "more labelled batches")
        return f"after the rollback {more} must arrive first"
    return None


def _awaits_approval(c: _Context, rule: Rule) -> str | None:
    """Why another challenger would only lengthen the queue, or None.

    The champion's troubles go on until the one that waits is approved. Another is made once that one has grown old,
    too, or when a person or a confirmed shift gave new cause.
    """
    e = c.evidence
    new_cause = rule is Rule.SUSPECT_LABELS or (rule is Rule.ASSUMPTIONS_CHANGED and e.accepted)
    if e.waiting is None or c.due or new_cause:
        return None
    return f"v{e.waiting}, trained since, waits for approval"


def _names(names: Sequence[str]) -> str:
    return ", ".join(names)
