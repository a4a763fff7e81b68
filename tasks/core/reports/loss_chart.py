"""The loss of what was served, batch by batch, as one small picture: an SVG of its own, from the state alone.

Prefect's pages do not show an SVG within markdown, but they do show an image whose address holds its data.
"""

from __future__ import annotations

import base64
import math
from collections.abc import Sequence
from dataclasses import dataclass
from html import escape

from tasks.core.data.files import in_order
from tasks.core.ledger.state import State
from tasks.core.text import number
from tasks.core.types import LossPoint

NEWEST = 24
"""Batches that are drawn."""

LINE, OTHER, CHANGE, BAD, WORDS = "#1f4e8c", "#8b8f98", "#c2410c", "#b42318", "#3d4350"
SHADES = ("#eef3fa", "#dde8f5")
WIDTH, HEIGHT = 760, 300
LEFT, RIGHT, TOP, BOTTOM = 62, 14, 56, 62
"""Margins around the drawing, in its own units."""


@dataclass(frozen=True, slots=True)
class ChartPoint:
    """One batch as it was served."""

    batch: str
    version: int | None
    """None: no version was in service yet."""
    loss: LossPoint | None
    """None while its labels are not there, or do not count."""
    other: LossPoint | None
    """Of the version that it is compared with, on the same rows: as a rule the one before it."""
    mark: str = ""
    """`blocked`, `suspect` or `quarantined`."""


def steps(state: State) -> list[ChartPoint]:
    """The newest batches, oldest first: decided on, or set aside."""
    known = {(point.batch, point.version): point for point in state.losses}
    earlier: dict[str, list[int]] = {}
    for point in state.losses:
        earlier.setdefault(point.batch, []).append(point.version)
    found = []
    for batch in in_order({*state.batches, *state.blocked}, state.order)[-NEWEST:]:
        record = state.batches.get(batch)
        version = record.version if record else None
        others = [number for number in earlier.get(batch, ()) if number != version]
        found.append(
            ChartPoint(
                batch,
                version,
                known.get((batch, version)) if version is not None else None,
                known[batch, max(others)] if version is not None and others else None,
                _mark(state, batch),
            )
        )
    return found


def _mark(state: State, batch: str) -> str:
    if batch in state.blocked:
        return "blocked"
    if batch in state.quarantined:
        return "quarantined"
    return "suspect" if batch == state.suspect else ""


def picture(state: State, model: str) -> str | None:
    """Loss over batches with versions shaded and changes marked, as SVG; None while nothing is labelled yet."""
    found = steps(state)
    if not any(step.loss for step in found):
        return None
    return "".join(_Drawing(found, model).parts())


def as_address(svg: str) -> str:
    """An address that holds the picture, for an image in markdown."""
    return f"data:image/svg+xml;base64,{base64.b64encode(svg.encode()).decode()}"


class _Drawing:
    def __init__(self, found: Sequence[ChartPoint], model: str):
        self._steps, self._model = found, model
        points = [point for step in found for point in (step.loss, step.other) if point]
        low = min(point.mean - _half(point) for point in points)
        high = max(point.mean + _half(point) for point in points)
        self._ticks = _ticks(max(0.0, low), high)
        self._low, self._high = min(self._ticks[0], low), max(self._ticks[-1], high)

    def parts(self) -> list[str]:
        title = f"{self._model}: loss per row on each batch, as it was served (lower is better)"
        return [
            f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {HEIGHT}" width="{WIDTH}" '
            f'height="{HEIGHT}" font-family="system-ui, sans-serif" font-size="13" fill="{WORDS}">',
            f'<rect width="{WIDTH}" height="{HEIGHT}" rx="6" fill="#fff"/>',
            _text(12, 22, title, 'font-weight="600" font-size="14"'),
            *self._stretches(),
            *self._axes(),
            *self._line("other", OTHER, 'stroke-dasharray="5 4"'),
            *self._errors(),
            *self._line("loss", LINE, ""),
            *self._dots(),
            *self._legend(),
            "</svg>",
        ]

    def _x(self, place: float) -> float:
        return LEFT + (WIDTH - LEFT - RIGHT) * (place + 0.5) / len(self._steps)

    def _y(self, value: float) -> float:
        return TOP + (HEIGHT - TOP - BOTTOM) * (self._high - value) / (self._high - self._low)

    def _stretches(self) -> list[str]:
        """Each stretch of one version shaded, with a line where it took over from another one."""
        parts, start = [], 0
        versions = [step.version for step in self._steps]
        for place, step in enumerate(self._steps):  # what was set aside was served by none: it parts no stretch
            if step.version is None and step.mark == "blocked" and place:
                versions[place] = versions[place - 1]
        count = 0
        for place in range(1, len(versions) + 1):
            if place < len(versions) and versions[place] == versions[start]:
                continue
            version, left, right = versions[start], self._x(start - 0.5), self._x(place - 0.5)
            if version is not None:
                box = f'y="{TOP}" width="{right - left:.1f}" height="{HEIGHT - TOP - BOTTOM}"'
                parts.append(f'<rect x="{left:.1f}" {box} fill="{SHADES[count % 2]}"/>')
                parts.append(_text((left + right) / 2, TOP - 7, f"v{version}", 'text-anchor="middle"'))
                if start:
                    line = f'x1="{left:.1f}" x2="{left:.1f}" y1="{TOP - 18}" y2="{HEIGHT - BOTTOM}"'
                    parts.append(f'<line {line} stroke="{CHANGE}" stroke-width="1.5" stroke-dasharray="5 3"/>')
                count += 1
            start = place
        return parts

    def _axes(self) -> list[str]:
        parts = []
        for value in self._ticks:
            y = self._y(value)
            parts.append(f'<line x1="{LEFT}" x2="{WIDTH - RIGHT}" y1="{y:.1f}" y2="{y:.1f}" stroke="#c9ced8"/>')
            parts.append(_text(LEFT - 8, y + 4, number(value), 'text-anchor="end"'))
        names = [len(step.batch) for step in self._steps]
        every = max(1, math.ceil(len(names) * (8 * max(names) + 10) / (WIDTH - LEFT - RIGHT)))
        for place, step in enumerate(self._steps):
            if (len(self._steps) - 1 - place) % every == 0:  # the newest has its name
                name = step.batch if len(step.batch) <= 24 else f"{step.batch[:23]}…"
                anchor = "end" if place == len(self._steps) - 1 and len(name) > 10 else "middle"
                parts.append(_text(self._x(place), HEIGHT - BOTTOM + 18, name, f'text-anchor="{anchor}"'))
        return parts

    def _line(self, which: str, colour: str, style: str) -> list[str]:
        """Joins neighbours; a batch without a loss is a gap."""
        parts, run = [], list[str]()
        for place, step in enumerate([*self._steps, None]):
            point = getattr(step, which) if step else None
            if point is not None:
                run.append(f"{self._x(place):.1f},{self._y(point.mean):.1f}")
                continue
            if len(run) > 1:
                line = f'fill="none" stroke="{colour}" stroke-width="2" {style}'
                parts.append(f'<polyline points="{" ".join(run)}" {line}/>')
            elif run and which == "other":
                x, y = run[0].split(",")
                parts.append(f'<circle cx="{x}" cy="{y}" r="3" fill="{colour}"/>')
            run = []
        return parts

    def _errors(self) -> list[str]:
        parts = []
        for place, step in enumerate(self._steps):
            if step.loss:
                x, half = self._x(place), _half(step.loss)
                ends = f'y1="{self._y(step.loss.mean + half):.1f}" y2="{self._y(step.loss.mean - half):.1f}"'
                parts.append(f'<line x1="{x:.1f}" x2="{x:.1f}" {ends} stroke="{LINE}" stroke-opacity="0.45"/>')
        return parts

    def _dots(self) -> list[str]:
        parts = []
        for place, step in enumerate(self._steps):
            x = self._x(place)
            if step.loss:
                parts.append(f'<circle cx="{x:.1f}" cy="{self._y(step.loss.mean):.1f}" r="4.5" fill="{LINE}"/>')
            if step.mark:
                y = HEIGHT - BOTTOM - 10
                cross = f"M{x - 5:.1f} {y - 5}l10 10m0 -10l-10 10"
                parts.append(f'<path d="{cross}" stroke="{BAD}" stroke-width="2.5"/>')
        return parts

    def _legend(self) -> list[str]:
        shown = [(LINE, "as served, with 95 % interval", "dot")]
        if any(step.other for step in self._steps):
            shown.append((OTHER, "the other version, same rows", "dash"))
        versions = {step.version for step in self._steps if step.version is not None}
        if len(versions) > 1 or (versions and self._steps[0].version is None):
            shown.append((CHANGE, "another version took over", "dash"))
        if marks := sorted({step.mark for step in self._steps if step.mark}):
            shown.append((BAD, ", ".join(marks), "cross"))
        x, y, parts = 14.0, HEIGHT - 16, []
        for colour, words, kind in shown:
            if kind == "dot":
                parts.append(f'<circle cx="{x + 6:.0f}" cy="{y - 4}" r="4.5" fill="{colour}"/>')
            elif kind == "dash":
                line = f'x1="{x:.0f}" x2="{x + 14:.0f}" y1="{y - 4}" y2="{y - 4}"'
                parts.append(f'<line {line} stroke="{colour}" stroke-width="2" stroke-dasharray="5 3"/>')
            else:
                parts.append(
                    f'<path d="M{x + 1:.0f} {y - 9}l10 10m0 -10l-10 10" stroke="{colour}" stroke-width="2.5"/>'
                )
            parts.append(_text(x + 20, y, words, 'font-size="12"'))
            x += 36 + 6.4 * len(words)
        return parts


def _half(point: LossPoint) -> float:
    """Half of the mean's 95 % interval."""
    return 1.96 * math.sqrt(point.variance / point.rows) if point.rows else 0.0


def _ticks(low: float, high: float) -> list[float]:
    """Three to six round numbers from at most `low` to at least `high`."""
    span = high - low or abs(high) or 1.0
    power = 10.0 ** math.floor(math.log10(span / 3))
    step = next(power * part for part in (1, 2, 2.5, 5, 10) if span / (power * part) <= 4)
    first, last = math.floor(low / step + 1e-9), math.ceil(high / step - 1e-9)
    return [number * step for number in range(first, max(last, first + 1) + 1)]


def _text(x: float, y: float, words: str, style: str) -> str:
    return f'<text x="{x:.1f}" y="{y:.1f}" {style}>{escape(words)}</text>'
