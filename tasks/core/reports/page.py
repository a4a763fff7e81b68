"""The page of one run: the verdict in words, what moved as small pictures, how far everything was from its alarm.

One file without any outside request: styles and pictures are in it, and every name is escaped.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from tasks.core import text
from tasks.core.checks.histograms import Picture
from tasks.core.ledger.events import Decided, Event
from tasks.core.reports import wording
from tasks.core.run.assess import Findings
from tasks.core.types import Check, CheckKind, Outcome, Verdict
from tasks.core.versions.manifest import Manifest

TEMPLATE = "page.html.j2"

_TONES = {
    Outcome.RELOADED: "calm", Outcome.RETRAINED: "calm", Outcome.PROMOTED: "calm",
    Outcome.BLOCKED: "alarm", Outcome.RETRAIN_FAILED: "alarm", Outcome.LABELS_OVERDUE: "alarm",
}  # fmt: skip
PERFORMANCE = (
    CheckKind.PERFORMANCE,
    CheckKind.SLICE,
    CheckKind.SLICES,
    CheckKind.LABELS,
    CheckKind.KEYS,
    CheckKind.OVERRULED,
    CheckKind.PREDICTIONS,
)
COLUMNS = (CheckKind.DRIFT, CheckKind.CONTENT)


@dataclass(frozen=True, slots=True)
class Row:
    """One feature (or the prediction, or the target): every check of it, and how near the nearest alarm was."""

    title: str
    weight: float | None
    drift: Check | None
    content: Check | None

    @property
    def verdict(self) -> Verdict:
        """The loudest of its checks."""
        return min((c.verdict for c in (self.drift, self.content) if c), key=lambda verdict: verdict.rank)


def render(
    event: Event,
    decided: Decided,
    model: str,
    measured: Findings | None,
    manifest: Manifest | None,
    links: Sequence[str],
) -> str:
    """The page as HTML.

    `measured` is what the run saw beyond what the history keeps; None when the run that took the decision was
    interrupted before it could show it. `links` are Evidently's pages, files in the same folder.
    """
    from jinja2 import Environment, PackageLoader, StrictUndefined

    environment = Environment(
        loader=PackageLoader("tasks.core.reports", ""), autoescape=True, undefined=StrictUndefined, trim_blocks=True,
        lstrip_blocks=True,
    )  # fmt: skip
    checks = _checks(decided, measured)
    pictures = _pictures(measured) if measured else ()
    return environment.get_template(TEMPLATE).render(
        model=model,
        event=event,
        decided=decided,
        tone=_TONES.get(decided.outcome, "notice"),
        title=wording.title(decided, model),
        command=wording.promotion(model, ready) if (ready := wording.ready_to_promote(decided)) else None,
        reasons=wording.reasons(decided),
        must_act=wording.must_act(decided),
        moved=[_drawn(item) for item in pictures if item.check.verdict in (Verdict.FAIL, Verdict.WARN)],
        still=[_drawn(item) for item in pictures if item.check.verdict is Verdict.PASS][:4],
        complete=measured is not None,
        rows=_rows(checks),
        performance=[check for check in checks if check.kind in PERFORMANCE],
        others=[check for check in checks if check.kind not in (*PERFORMANCE, *COLUMNS)],
        manifest=manifest,
        number=text.number,
        interval_text=text.interval_text,
        links=links,
    )


def _pictures(measured: Findings) -> list[Picture]:
    """What moved before what did not; the target, known later, after the columns."""
    found = [*measured.drift.pictures, *measured.labels.pictures]
    return sorted(found, key=lambda item: item.check.verdict is Verdict.PASS)


def _checks(decided: Decided, measured: Findings | None) -> tuple[Check, ...]:
    """All of them; the history leaves out those of content that passed."""
    if measured is None:
        return decided.checks
    return (*measured.data.checks, *measured.labels.checks, *measured.drift.checks)


def _rows(checks: Sequence[Check]) -> list[Row]:
    """Every column that was looked at, what is loudest first, then by importance."""
    drift = {check.subject: check for check in checks if check.kind is CheckKind.DRIFT}
    content: dict[str, Check] = {}
    for check in checks:
        if check.kind is CheckKind.CONTENT:
            title = check.subject
            if title not in content or check.verdict.rank < content[title].verdict.rank:
                content[title] = check  # of several batches the loudest
    rows = [
        Row(title, drift[title].weight if title in drift else None, drift.get(title), content.get(title))
        for title in {**drift, **content}
    ]
    return sorted(rows, key=lambda row: (row.verdict.rank, -(row.weight or 0.0)))


# --- pictures as coordinates ---------------------------------------------------------------------------------


WIDTH, HEIGHT = 220, 74
"""Of a picture, in its own units."""


def _drawn(item: Picture) -> dict[str, Any]:
    """What the template draws: bars before and after, side by side where values have bars of their own."""
    top = max([*item.before, *item.after, *item.last_year, 1e-12])
    check = item.check
    count = len(item.before)
    step = WIDTH / max(1, count)

    def bars(shares: Sequence[float], offset: float, width: float) -> list[tuple[float, ...]]:
        """x, y, width and height of each."""
        tall = [HEIGHT * share / top for share in shares]
        boxes = (((p + offset) * step, HEIGHT - height, width * step, height) for p, height in enumerate(tall))
        return [tuple(round(number, 2) for number in box) for box in boxes]

    named = bool(item.labels)
    share = check.value / check.threshold if check.value is not None and check.threshold else None
    return {
        "item": item,
        "check": check,
        "before": bars(item.before, 0.08 if named else 0.0, 0.4 if named else 1.0),
        "after": bars(item.after, 0.52 if named else 0.0, 0.4 if named else 1.0),
        "outline": _outline(item.after, top, step) if not named else "",
        "last_year": _outline(item.last_year, top, step),
        "ends": item.ends if item.edges else (),
        "ratio": share,
        "reach": min(100.0, 50.0 * share) if share is not None else 0.0,
        "places": [(round((place + 0.5) * step, 1), label) for place, label in enumerate(item.labels)],
    }


def _outline(shares: Sequence[float], top: float, step: float) -> str:
    """A stepped line over the bins."""
    points = []
    for place, share in enumerate(shares):
        height = HEIGHT * (1 - share / top)
        points += [f"{place * step:.1f},{height:.1f}", f"{(place + 1) * step:.1f},{height:.1f}"]
    return " ".join(points)
