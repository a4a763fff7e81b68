"""Replay the product's own decisions from fits on disk: evidence, rules, gate and transitions are production's.

Batch t arrives, labels are known up to t - delay, the policy decides, then batch t is predicted.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field, replace

import numpy as np

from tasks.core.backtest.compute import Plan
from tasks.core.backtest.fits import Fit, FitOf
from tasks.core.backtest.history import History
from tasks.core.checks import performance
from tasks.core.checks.drift import DriftReport
from tasks.core.decision.evidence import DriftEvidence
from tasks.core.decision.policy import decide
from tasks.core.errors import SpecError
from tasks.core.ledger.events import Decided
from tasks.core.ledger.state import LastDecision, State
from tasks.core.ledger.transitions import after_decision, with_labels
from tasks.core.run.assess import DataFindings, Findings, collect
from tasks.core.run.conclude import conclude
from tasks.core.run.labels import LabelFindings
from tasks.core.spec import ModelSpec
from tasks.core.training import gate
from tasks.core.types import (
    Action,
    Attempt,
    AttemptOutcome,
    BatchRecord,
    Blocked,
    Comparison,
    Decision,
    Gate,
    Labelled,
    LossPoint,
    Request,
    Served,
    Verdict,
)


@dataclass(frozen=True, slots=True)
class Step:
    """One batch of a replay."""

    batch: str
    loss: float
    """Mean loss of its rows under the version that predicts them; NaN where none does."""
    fitted: bool
    """A version was trained at this step, whether or not the gate let it pass."""
    served: bool
    """The version trained at this step was put in service."""
    error: float = np.nan
    """Mean 0/1 error (classes), else absolute error."""
    decided: Decided | None = None
    """The whole decision, where the product's rules took it."""


@dataclass
class Replay:
    """The product in production, on a history that is known: `run` gives one step a batch.

    `start` is the first batch to decide on, with a version trained on all before it; None begins with an empty ledger
    as production does.
    """

    history: History
    fits: FitOf
    spec: ModelSpec
    delay: int
    start: int | None
    state: State = field(init=False)
    versions: dict[int, Fit] = field(init=False)
    """By number, those that the gate refused too."""

    def run(self) -> list[Step]:
        """Raises Missing for the first fit that is not there yet."""
        self.state, self.versions = State(), {}
        if self.start is None:
            return [self._step(place) for place in range(len(self.history))]
        self._first(self.start)
        return [self._step(place) for place in range(self.start, len(self.history))]

    def _first(self, start: int) -> None:
        """v1 is trained on every batch before the start; the gate, having no labels to come, is not asked."""
        first = self.versions[1] = self.fits(self._plan(tuple(range(start))))
        if first.failed:
            raise SpecError("ror backtest", [f"no first version can be trained on {start} batches: {first.failed}"])
        records = {
            part.batch.id: BatchRecord(part.batch.sha256, part.total, part.labels, len(part.rows))
            for part in self.history.parts[:start]
        }
        attempt = Attempt(start, AttemptOutcome.REGISTERED, 1)
        self.state = State(served=(Served(1, "", start),), batches=records, attempt=attempt)

    def _plan(self, train: tuple[int, ...]) -> Plan:
        return Plan(train, gated=True, forgetting=self.spec.policy.forgetting)

    def _step(self, place: int) -> Step:
        state, batch = self.state, self.history.parts[place].batch
        measured = Findings(self._data(place), self._labels(place), DriftReport((), self._drift(place)))
        evidence = collect(Request(), state, measured)
        decision = decide(evidence, self.spec.policy)
        attempt = self._attempt(measured, decision) if decision.action is Action.RETRAIN else None
        decided = conclude(state, state, self.spec, measured, evidence, decision, attempt)
        self.state = after_decision(state, decided, LastDecision("", place + 1), f"{place:08d}")
        current = self.versions[self.state.current.version] if self.state.current else None
        predicted = current is not None and not measured.data.blocked
        return Step(
            batch=batch.id,
            loss=float(current.means[place]) if current and predicted else np.nan,
            error=float(current.errors[place]) if current and predicted else np.nan,
            fitted=attempt is not None,
            served=decided.in_service != state.current and attempt is not None,
            decided=decided,
        )

    # --- what production would measure ---

    def _loaded(self, served: Served | None) -> Fit | None:
        return self.versions[served.version] if served else None

    def _data(self, place: int) -> DataFindings:
        part, current = self.history.parts[place], self._loaded(self.state.current)
        if current is None:
            return DataFindings((part.batch,), (part.total,))
        found, other = current.checks(place), self._loaded(self.state.predecessor)
        novel = tuple(b for b in self.state.novel if current.checks(self.history.position[b]).changes)
        if found.problems:
            return DataFindings(blocked=(Blocked(part.batch.id, part.batch.sha256, found.problems),), novel=novel)
        if found.changes and self.spec.policy.on_change == "block":  # there is no person to accept it
            aside = Blocked(part.batch.id, part.batch.sha256, found.changes, changed=True)
            return DataFindings(blocked=(aside,), changes=found.changes, novel=novel)
        ready = other is not None and not other.checks(place).problems
        novel += (part.batch.id,) if found.changes else ()
        return DataFindings((part.batch,), (part.total,), changes=found.changes, predecessor_ready=ready, novel=novel)

    def _drift(self, place: int) -> DriftEvidence:
        current = self._loaded(self.state.current)
        return current.checks(place).drift if current else DriftEvidence()

    def _labels(self, place: int) -> LabelFindings:
        """Losses of champion and predecessor on the batches whose labels are known from this step on."""
        waiting = [self.history.position[b] for b, record in self.state.batches.items() if not record.labels]
        if self.delay == 0:
            waiting.append(place)
        known = sorted(other for other in waiting if other <= place - self.delay)
        parts = [self.history.parts[other] for other in known]
        labelled = tuple(
            Labelled(part.batch.id, part.labels, len(part.rows), part.coverage, lag=place - other)
            for other, part in zip(known, parts, strict=True)
        )
        unlabelled = len(waiting) - len(known) + (self.delay > 0)
        found = LabelFindings(labelled, unlabelled=unlabelled, delay=max(1, self.delay))
        current, predecessor = self.state.current, self.state.predecessor
        if current is None or not known:
            return found
        losses: list[LossPoint] = []
        comparisons: list[Comparison] = []
        for other, part in zip(known, parts, strict=True):
            ours = self.versions[current.version].losses(other)
            losses.append(performance.loss_point(part.batch.id, current.version, ours))
            if predecessor is not None:
                theirs = self.versions[predecessor.version].losses(other)
                losses.append(performance.loss_point(part.batch.id, predecessor.version, theirs))
                comparisons.append(performance.comparison(part.batch.id, current, predecessor, ours, theirs))
        usual = self.versions[current.version].checks(known[-1]).dummy_loss
        return replace(found, losses=tuple(losses), comparisons=tuple(comparisons), dummy_loss=usual)

    # --- what production would do ---

    def _attempt(self, measured: Findings, decision: Decision) -> Attempt:
        usable = with_labels(self.state, measured.labels.labelled, decision).usable
        plan = self._plan(tuple(self.history.position[batch] for batch in usable))
        challenger = self.fits(replace(plan, first=self.state.current is None))
        if challenger.failed:
            return Attempt(len(usable), AttemptOutcome.FAILED, reason=challenger.failed)
        verdict = self._gate(challenger)
        number = self.state.newest + 1
        self.versions[number] = challenger
        passed = verdict.verdict is Verdict.PASS or (verdict.verdict is Verdict.SKIPPED and not self.state.current)
        outcome = AttemptOutcome.REGISTERED if passed else AttemptOutcome.REFUSED
        return Attempt(len(usable), outcome, number, "", gate=verdict)

    def _gate(self, challenger: Fit) -> Gate:
        if not challenger.held_out:
            return gate.NOTHING_KEPT
        clean, version, theirs = challenger.held_out, None, challenger.dummy
        if self.state.current is not None:
            version = self.state.current.version
            champion = self.versions[version]
            clean = tuple(p for p in clean if p not in champion.learned or p in champion.held_out)
            theirs = _joined(self._held_out(champion, place) for place in clean)
        ours = _joined(challenger.losses(place) for place in clean)
        return gate.judge(self.spec, ours, theirs, version, challenger.reached)

    def _held_out(self, fit: Fit, place: int) -> np.ndarray:
        """Losses on a batch's holdout, which this version has not learned."""
        losses, holdout = fit.losses(place), self.history.holdouts[place]
        if place not in fit.held_out:
            return np.asarray(losses[holdout])
        return np.asarray(losses[holdout[self.history.first_holdouts[place]]]) if fit.first else losses


def _joined(parts: Iterable[np.ndarray]) -> np.ndarray:
    return np.concatenate([np.array([]), *parts])
