"""What a backtest says, for people and for scripts: the table, and the sentence that follows from it."""

from __future__ import annotations

from typing import Any

from tasks.core.backtest.run import CONFIGURED, OPTIMUM, WINDOWS, Backtest, Score
from tasks.core.records import to_dict
from tasks.core.text import amount, counted

CLOSE = 0.005
"""Costs that differ by less are not told apart: starting points alone move them by as much."""

FIXED = ("every-2", "every-4", "every-8", "every-16")


def as_json(found: Backtest) -> dict[str, Any]:
    """The stable answer of `ror backtest --json`; policies in the order of the table."""
    return {
        "model": found.model,
        "batches": found.batches,
        "decisions": found.decisions,
        "delay": found.delay,
        "starts": len(found.paths[CONFIGURED]),
        "retrain_cost": found.cost,
        "measure": found.measure,
        "policies": [to_dict(score) for score in found.scores],
        "recommendation": recommendation(found),
        "left_out": dict(found.left_out),
    }


def title(found: Backtest) -> str:
    """The heading of a backtest: which model, how much was replayed, how late labels were."""
    late = counted(found.delay, "batch", "batches")
    return f"{found.model}: {found.batches} labelled batches, {found.decisions} decisions replayed, labels {late} late"


def rows(found: Backtest) -> list[list[str]]:
    """One line a policy: name, loss, retrains, fits, loss against always, captured, cost."""
    return [
        [
            score.name,
            amount(score.loss, 4),
            f"{score.retrains:.1f}",
            f"{score.fits:.0%}",
            f"{score.loss_vs_always:.3f}",
            "-" if score.captured is None else f"{score.captured:.0%}",
            f"{score.cost:.3f}",
        ]
        for score in found.scores
    ]


COLUMNS = ("policy", "loss", "retrains", "fits / decisions", "loss / always", "captured", "cost")


def markdown(found: Backtest) -> str:
    """The table and the recommendation, for a page."""
    lines = [f"## {title(found)}", ""]
    lines += [f"| {' | '.join(COLUMNS)} |", f"|{'---|' * len(COLUMNS)}"]
    lines += [f"| {' | '.join(row)} |" for row in rows(found)]
    return "\n".join([*lines, "", recommendation(found), ""])


def recommendation(found: Backtest) -> str:
    """What a person can do about it, claiming no more than the table shows."""
    ours, fixed = found.score(CONFIGURED), found.score("every-4")
    facts = [
        f"At a cost of {amount(found.cost)} a fit, the configured policy {_against_always(ours)}, "
        f"training at {ours.fits:.0%} of {found.decisions} batches",
        f"every fourth batch {_against_always(fixed)}",
        f"drift alarms alone would retrain {found.score('drift-share').fits:.0%} of the time",
    ]
    return f"{'; '.join(facts)}. {_advice(found, ours)}"


def _advice(found: Backtest, ours: Score) -> str:
    never, optimum = found.score("never"), found.score(OPTIMUM)
    if never.cost <= min(score.cost for score in found.scores if score.name != OPTIMUM) + CLOSE:
        return (
            "On this history retraining hardly pays: never retraining costs "
            f"{never.cost:.3f}, the configured policy {ours.cost:.3f}. It stays the safer choice should things change."
        )
    best_fixed = min((found.score(name) for name in (*FIXED, "always")), key=lambda score: score.cost)
    window = min((found.score(f"window-{batches}") for batches in WINDOWS), key=lambda score: score.cost)
    sentences = []
    if best_fixed.cost < ours.cost - CLOSE:
        sentences.append(
            f"{best_fixed.name} would have cost less ({best_fixed.cost:.3f} against {ours.cost:.3f}), "
            "as only hindsight tells; replay with another cost before you change retrain_cost."
        )
    else:
        sentences.append(f"No fixed interval would have cost clearly less (the best, {best_fixed.name}: "
                         f"{best_fixed.cost:.3f} against {ours.cost:.3f}): keep the policy.")  # fmt: skip
    if window.cost < ours.cost - 2 * CLOSE:
        batches = window.name.removeprefix("window-")
        sentences.append(
            f"Training on the newest {batches} batches only would have cost {window.cost:.3f}: "
            f"consider forgetting = {{ window = {batches} }} under [policy]."
        )
    sentences.append(f"Knowing the future, {optimum.cost:.3f} could have been reached.")
    return " ".join(sentences)


def _against_always(score: Score) -> str:
    share = score.loss_vs_always - 1
    if abs(share) < 0.0005:
        return "loses as much as always retraining"
    return f"loses {abs(share):.1%} {'more' if share > 0 else 'less'} than always retraining"
