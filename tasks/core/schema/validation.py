"""Data against a contract: is it what the pipeline needs, and the very values that the pipeline then sees."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING

import numpy as np
import pyarrow as pa

from tasks.core.schema.cells import FAR, Examined, examine
from tasks.core.schema.contract import UNIMPORTANT, Column, Contract, broken_names
from tasks.core.text import counted
from tasks.core.types import Check, CheckKind, Verdict

if TYPE_CHECKING:
    from tasks.core.data.source import Source
    from tasks.core.spec import ChecksSpec, ModelSpec

KINDS = ("missing", "bad", "inexact", "infinite", "unseen", "outside", "far")
EXAMPLES = ("bad", "inexact", "unseen", "far")
WORDS = {"missing": "missing", "unseen": "in new categories", "outside": "outside the training range"}
SHOWN = 80
"""Characters of an example that a message shows."""
CHANCE = 0.01
"""Chance that some column of a batch that is like training alarms; each column has its share of it."""


@dataclass(frozen=True, slots=True)
class Validation:
    """What a batch looks like, compared with a contract."""

    rows: int
    problems: tuple[str, ...]
    """Structural violations: any of them blocks the batch."""
    changes: tuple[Check, ...]
    """One check per feature: missing values, unseen categories, infinities and ranges against training."""
    coercions: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Aspect:
    """One thing that may have changed about a column: a count of rows, and what is usual."""

    name: str
    """`missing`, `unseen` or `outside`."""
    count: int
    of: int
    """Rows that could be so."""
    limit: float
    """Share beyond which it is more than its history's peak and the floor, 0 to 1."""
    chance: float
    """Probability below which such a count is not an accident."""

    @property
    def share(self) -> float:
        """`count` as a share of `of`, 0 to 1."""
        return self.count / self.of if self.of else 0.0

    @property
    def changed(self) -> bool:
        """Beyond the limit, and by more than chance explains at this number of rows: the exact binomial tail."""
        if self.share <= self.limit or self.limit >= 1:
            return False
        from scipy.stats import binom

        return bool(binom.sf(self.count - 1, self.of, self.limit) < self.chance)


@dataclass
class Tally:
    """Running totals of one feature of a batch, against its column in the contract."""

    column: Column
    counts: dict[str, int] = field(default_factory=lambda: dict.fromkeys(KINDS, 0))
    examples: dict[str, str] = field(default_factory=dict)
    coerced: str | None = None

    def add(self, found: Examined) -> None:
        """Count the cells of some more rows, and keep an example of each kind."""
        for kind in KINDS:
            mask = getattr(found, kind)
            if mask is None:
                continue
            self.counts[kind] += int(np.count_nonzero(mask))
            if kind in EXAMPLES and kind not in self.examples:
                row = found.example if kind == "bad" else int(mask.argmax())
                if row is not None:
                    self.examples[kind] = _shown(found.values[row])
        self.coerced = self.coerced or found.coerced

    def problems(self, rows: int, spec: ChecksSpec | None = None, chance: float = CHANCE) -> list[str]:
        """Structural violations; without a specification of the checks only those that single values make."""
        column, found = self.column, []
        for kind, what in (("bad", f"are not a {column.kind}"), ("inexact", "have more digits than a number keeps")):
            if count := self.counts[kind]:
                advice = "; declare it under `categorical` if it is a name" if kind == "inexact" else ""
                found.append(
                    f"column {column.name!r}: {count:,} of {rows:,} values {what}{self._example(kind)} "
                    f"(expected {expected_of(column)}){advice}"
                )
        if spec and not found and column.null_rate < 0.5:
            missing = self.aspects(rows, spec, chance)[0]
            if missing.count == rows and missing.changed:
                usual = f"in training {column.null_rate:.0%} were"
                found.append(f"column {column.name!r}: all {rows:,} values are missing ({usual})")
        return found

    def aspects(self, rows: int, spec: ChecksSpec, chance: float, growing: bool = False) -> list[Aspect]:
        """What is compared with training's own history. Infinities are read as missing and count as such."""
        column, counts = self.column, self.counts
        missing = counts["missing"] + counts["infinite"]
        found = [Aspect("missing", missing, rows, column.null_peak + spec.null_floor, chance)]
        if column.kind == "category" and not growing:
            usual = max(column.unseen_peak, column.other_share)  # those beyond the listed ones were seen, if rarely
            found.append(Aspect("unseen", counts["unseen"], rows - missing, usual + spec.unseen_floor, chance))
        elif column.kind != "category" and not growing and column.low is not None and column.outside_peak is not None:
            limit = column.outside_peak + spec.range_floor
            found.append(Aspect("outside", counts["outside"], rows - missing, limit, chance))
        return found

    def check(self, aspects: Sequence[Aspect], excuse: str | None = None, weight: float | None = None) -> Check:
        """Content against training; what changed is evidence that assumptions did.

        An excuse turns all but missing values into a warning, and so does a weight below UNIMPORTANT.
        """
        by_name = {aspect.name: aspect for aspect in aspects}
        changed = {name: self._sentence(aspect) for name, aspect in by_name.items() if aspect.changed}
        far = self.counts["far"] if "outside" in by_name else 0
        said, verdict = [changed.pop("missing")] if "missing" in changed else [], Verdict.PASS
        if said or (changed and not excuse):
            verdict = Verdict.FAIL
        elif changed or self.counts["infinite"] or far:
            verdict = Verdict.WARN
        if self.counts["infinite"]:
            said.append(f"{self.counts['infinite']:,} infinite values, read as missing")
        if far:
            many = counted(far, "value is", "values are")
            example = self._example("far")
            said.append(f"{many} more than {FAR:,.0f} times the width of training's range away from it{example}")
        said += changed.values()
        if verdict is Verdict.PASS:
            said = [self._unchanged(aspect) for aspect in aspects]
        summary = f"{self.column.name}: {'; '.join(said)}"
        if changed and excuse:
            summary += f", but {excuse}"
        if verdict is Verdict.FAIL and weight is not None and weight < UNIMPORTANT:
            verdict, summary = Verdict.WARN, f"{summary}, but the model hardly uses it"
        nearest = max(aspects, key=lambda aspect: aspect.share / aspect.limit)
        return Check.of(CheckKind.CONTENT, self.column.name, verdict, summary, nearest.share, nearest.limit)

    def _unchanged(self, aspect: Aspect) -> str:
        chance = f" of {aspect.of:,}, which may be chance" if aspect.share > aspect.limit else ""
        return f"{aspect.share:.1%} {WORDS[aspect.name]}{chance}"

    def _sentence(self, aspect: Aspect) -> str:
        if aspect.name == "missing":
            return f"{aspect.share:.0%} missing, in training at most {self.column.null_peak:.0%}"
        if aspect.name == "unseen":
            example = "" if "unseen" not in self.examples or self.column.private else self.examples["unseen"]
            return f"{aspect.share:.0%} in categories not seen in training" + (f" such as {example}" if example else "")
        return f"{aspect.share:.0%} {WORDS['outside']}{self.range}"

    @property
    def range(self) -> str:
        """What training saw, for people; empty where that is private or unknown."""
        column = self.column
        return "" if column.private or column.low is None else f" {column.low:g} to {column.high:g}"

    def _example(self, kind: str) -> str:
        return f", for example {self.examples[kind]}" if kind in self.examples and not self.column.private else ""


def _shown(value: pa.Scalar) -> str:
    try:
        text = repr(value.as_py())
        return text if len(text) <= SHOWN else f"{text[:SHOWN]}..."
    except (ValueError, OverflowError, KeyError):  # dates beyond Python's, zones that are not installed here
        return f"a {value.type}"


@dataclass(frozen=True)
class Tallied:
    """A batch, counted against a contract."""

    rows: int
    problems: tuple[str, ...]
    """Of the batch as a whole: names, missing columns, no rows."""
    tallies: tuple[Tally, ...]
    """Of the features that it has."""


def tallied(contract: Contract | None, source: Source, spec: ModelSpec) -> Tallied:
    """Look at every cell once, as a stream; memory does not grow with rows. Raises UnreadableData."""
    source.adopt(contract.names if contract else ())
    problems = [f"{source.path}: {problem}" for problem in source.problems] + broken_names(source, spec)
    tallies, private = [], set(spec.data.private)
    for column in contract.features if contract else ():
        if (there := source.names.count(column.name)) == 1:
            tallies.append(Tally(replace(column, private=column.private or column.name in private)))
        elif not there and not any(f"column {column.name!r} is missing" in problem for problem in problems):
            problems.append(
                f"column {column.name!r} is missing (expected {expected_of(column)}){source.nearly(column.name)}"
            )
    once = [name for name in source.names if source.names.count(name) == 1]
    rows = 0
    for chunk in source.stream([tally.column.name for tally in tallies] or once[:1]):
        rows += chunk.num_rows
        for tally, array in zip(tallies, chunk.columns, strict=False):
            tally.add(examine(tally.column, array, source.numerals))
    if rows == 0:
        problems.append("the file has no rows")
    return Tallied(rows, tuple(problems), tuple(tallies))


def _advice(tallies: Sequence[Tally], source: Source) -> list[str]:
    """How values of a text file that are no numbers can be read as numbers."""
    from tasks.core.data.reading import advice

    broken = [one.column.name for one in tallies if one.counts["bad"]]
    if not broken or not source.is_text:
        return []
    numbers = [one.column.name for one in tallies if one.column.kind == "number"]
    private = [one.column.name for one in tallies if one.column.private]
    return [f"{source.path}: {said}" for said in advice(source, broken, numbers, private)]


def expected_of(column: Column) -> str:
    """The type that training had; of a CSV file, where all is text, what was read from it."""
    return column.kind if column.type == "text" else column.type


def validate(
    contract: Contract | None,
    source: Source,
    spec: ModelSpec,
    *,
    excused: Mapping[str, str] | None = None,
    weights: Mapping[str, float] | None = None,
) -> Validation:
    """Compare a batch with a contract in one streaming pass; memory does not grow with rows.

    All violations are reported together. Without a contract (no version yet) only those are seen that need none.
    Unseen categories and ranges of columns in `excused` (column: reason) only warn; so does all of a column whose
    share of the permutation importance in `weights` is below UNIMPORTANT. Raises UnreadableData when the file cannot
    be read to its end.
    """
    found = tallied(contract, source, spec)
    if not found.rows or contract is None:
        return Validation(found.rows, found.problems, ())
    chance, problems, changes = CHANCE / len(contract.features), list(found.problems), []
    for one in found.tallies:
        name = one.column.name
        broken = one.problems(found.rows, spec.checks, chance)
        aspects = one.aspects(found.rows, spec.checks, chance, name in spec.growing)
        check = one.check(aspects, (excused or {}).get(name), (weights or {}).get(name))
        changes.append(replace(check, verdict=Verdict.FAIL, summary="; ".join(broken)) if broken else check)
        problems += broken
    problems += _advice(found.tallies, source)
    there = {one.column.name for one in found.tallies}
    changes += [
        Check.of(CheckKind.CONTENT, name, Verdict.FAIL, f"column {name!r} is missing")
        for name in contract.names
        if name not in there
    ]
    return Validation(
        rows=found.rows,
        problems=tuple(problems),
        changes=tuple(changes),
        coercions=tuple(one.coerced for one in found.tallies if one.coerced),
    )
