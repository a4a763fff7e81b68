"""The values that pass between the parts: frozen, every field documented, no behaviour beyond looking themselves up."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Any


class Action(StrEnum):
    """What a decision tells the flow to do."""

    RELOAD = "reload"
    RETRAIN = "retrain"
    ROLLBACK = "rollback"
    HOLD = "hold"
    BLOCK = "block"


class Verdict(StrEnum):
    """What a check says about its measurement."""

    PASS = "pass"
    WARN = "warn"
    FAIL = "fail"
    SKIPPED = "skipped"


class Outcome(StrEnum):
    """How a run ended: the name of its final state in Prefect. The last three need a person."""

    RELOADED = "Reloaded"
    RETRAINED = "Retrained"
    ROLLED_BACK = "RolledBack"
    KEPT = "Kept"
    AWAITING_APPROVAL = "AwaitingApproval"
    HELD = "Held"
    SKIPPED = "Skipped"
    BLOCKED = "Blocked"
    RETRAIN_FAILED = "RetrainFailed"
    LABELS_OVERDUE = "LabelsOverdue"

    @property
    def failed(self) -> bool:
        return self in {Outcome.BLOCKED, Outcome.RETRAIN_FAILED, Outcome.LABELS_OVERDUE}


# --- batches -------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Batch:
    """One settled data file or folder, as found on disk."""

    id: str
    """File name without its ending: `2013-02`. Batches are in time order when sorted by it."""
    path: str
    """Path relative to the root."""
    sha256: str
    """Digest of its bytes; of the sorted (name, digest) pairs for a folder."""


@dataclass(frozen=True, slots=True)
class BatchRecord:
    """What the ledger knows of a decided batch."""

    sha256: str
    rows: int
    labels: str | None = None
    """Digest of the labels joined to it, once enough of them are there."""
    labelled_rows: int = 0


@dataclass(frozen=True, slots=True)
class Labelled:
    """A batch whose labels arrived with this run."""

    batch: str
    labels: str
    """Digest of the joined labels, in row order."""
    rows: int
    """Rows that have a label."""
    coverage: float
    """Those rows as a share of the batch's rows, 0 to 1."""


@dataclass(frozen=True, slots=True)
class Blocked:
    """A batch that was set aside because a pipeline cannot predict on it, or labels that cannot be used."""

    batch: str
    sha256: str
    """Empty for labels: they are looked at again by every run."""
    problems: tuple[str, ...]


# --- measurements --------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Check:
    """A measurement with a verdict."""

    name: str
    """`drift:temp`, `nulls:wind_gust`, `performance:roc_auc`."""
    verdict: Verdict
    summary: str
    """One plain sentence."""
    value: float | None = None
    threshold: float | None = None
    weight: float | None = None
    """Share of the pipeline's measured importance, 0 to 1, for a feature's drift."""


@dataclass(frozen=True, slots=True)
class LossPoint:
    """The loss of one version on one batch that it had not been trained on."""

    batch: str
    version: int
    rows: int
    mean: float
    variance: float
    """Of the loss per row."""


@dataclass(frozen=True, slots=True)
class Comparison:
    """Two versions on the same rows of one batch."""

    batch: str
    version: int
    predecessor: int
    rows: int
    gain: float
    """Mean over rows of loss(predecessor) - loss(version): what the newer version is worth."""
    variance: float
    """Of that difference per row."""
    gap: int
    """Labelled batches between the data ends of the two."""


@dataclass(frozen=True, slots=True)
class Metric:
    """A number with its 95 % interval and the rows it was measured on."""

    value: float
    low: float | None
    high: float | None
    rows: int


@dataclass(frozen=True, slots=True)
class Gate:
    """The comparison that a challenger must survive before it is put in service."""

    verdict: Verdict
    reason: str
    rows: int
    difference: float | None = None
    """Mean over rows of loss(challenger) - loss(champion); below 0 the challenger is better."""
    standard_error: float | None = None
    against: str | None = None
    """`v3`, or `Dummy` for a first version."""
    negative_flips: float | None = None
    """Share of rows that were right and become wrong."""


# --- decisions -----------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Request:
    """What was asked for, by whom and why."""

    action: str = "auto"
    reason: str | None = None
    actor: str = "schedule"
    batch: str | None = None
    """Look at this batch only; None looks at every pending one."""


@dataclass(frozen=True, slots=True)
class Finding:
    """What one rule saw, whether or not it applied."""

    rule: str
    applies: bool
    reason: str
    numbers: Mapping[str, float | int | str | None] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Decision:
    """What to do, and everything it rests on."""

    action: Action
    rule: str
    """Name of the rule that decided."""
    reasons: tuple[str, ...]
    findings: tuple[Finding, ...]
    """Every rule that looked, in order; the last one is the one that applied."""
    interval: float | None = None
    """The economic interval, in labelled batches; None means never."""
    suspect: str | None = None
    """A batch to hold out until the next one confirms or clears it."""
    cleared: str | None = None
    """A suspect batch that the next one confirmed as a real shift: it may be trained on."""
    quarantined: str | None = None
    """A suspect batch that the next one did not confirm: it is never trained on."""


@dataclass(frozen=True, slots=True)
class Attempt:
    """An attempt to train: its data end and how it came out."""

    labelled: int
    """Labelled batches there were: the data end, as a count."""
    outcome: str
    """`registered`, `waiting` (for approval), `refused` (by the gate) or `failed`."""
    version: int | None = None
    manifest: str | None = None
    reason: str = ""
    gate: Gate | None = None


@dataclass(frozen=True, slots=True)
class Served:
    """A version that was put in service."""

    version: int
    manifest: str
    """sha256 of its manifest's bytes."""
    data_end: int
    """Labelled batches there were when it was trained."""


# --- the ledger ----------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class LeaseRecord:
    """Who is at work on a model, and until when that is believed."""

    token: int
    """Sequence number of the `started` event: later tokens fence off earlier ones."""
    run: str
    expires: str
    host: str
    boot: str
    pid: int
    process_started: float


@dataclass(frozen=True, slots=True)
class LastDecision:
    """The newest decision, so that the same question gets the same answer."""

    key: str
    seq: int


@dataclass(frozen=True, slots=True)
class State:
    """Everything a run needs to decide, carried by every ledger event."""

    served: tuple[Served, ...] = ()
    """Versions put in service and not rolled back, oldest first: the last one is current."""
    since: str | None = None
    """When the current version was put in service, UTC."""
    batches: Mapping[str, BatchRecord] = field(default_factory=dict)
    blocked: Mapping[str, str] = field(default_factory=dict)
    """Digest of each batch that is set aside as broken."""
    losses: tuple[LossPoint, ...] = ()
    comparisons: tuple[Comparison, ...] = ()
    attempt: Attempt | None = None
    cooldown: int = 0
    """Labelled batches to wait for, after a rollback, before the next attempt to train."""
    waiting: tuple[Served, ...] = ()
    """Versions registered and waiting for approval."""
    barred: tuple[int, ...] = ()
    """Versions that were rolled back; a person clears them."""
    suspect: str | None = None
    quarantined: tuple[str, ...] = ()
    accepted: tuple[str, ...] = ()
    """Batches whose changed content a person accepted and no version has been trained on yet."""
    decided: LastDecision | None = None
    by_hand: int = 0
    """Sequence number of the newest event that a person made (a promotion, an acceptance, a quarantine)."""
    lease: LeaseRecord | None = None

    @property
    def current(self) -> Served | None:
        return self.served[-1] if self.served else None

    @property
    def predecessor(self) -> Served | None:
        return self.served[-2] if len(self.served) > 1 else None

    @property
    def newest(self) -> int:
        """The highest version number that the history knows of, 0 before the first."""
        known = [served.version for served in (*self.served, *self.waiting)]
        return max([*known, *self.barred, (self.attempt.version or 0) if self.attempt else 0], default=0)

    @property
    def usable(self) -> tuple[str, ...]:
        """Labelled batches that may be trained on, in time order."""
        kept_out = {self.suspect, *self.quarantined}
        return tuple(sorted(b for b, record in self.batches.items() if record.labels and b not in kept_out))

    @property
    def age(self) -> int:
        """Labelled batches since the data end of the last attempt to train."""
        return len(self.usable) - (self.attempt.labelled if self.attempt else 0)


@dataclass(frozen=True, slots=True)
class Decided:
    """The body of a `decided` event: a run's single commit."""

    outcome: Outcome
    decision: Decision
    window: tuple[Batch, ...]
    """Batches this decision covers, broken ones left out."""
    window_rows: tuple[int, ...]
    blocked: tuple[Blocked, ...]
    labelled: tuple[Labelled, ...]
    losses: tuple[LossPoint, ...]
    comparisons: tuple[Comparison, ...]
    checks: tuple[Check, ...]
    attempt: Attempt | None
    in_service: Served | None
    """The version that this decision leaves in service."""
    spec: str
    """sha256 of the model's specification."""
    policy_version: int


@dataclass(frozen=True, slots=True)
class Event:
    """One entry of the ledger."""

    format_version: int
    seq: int
    prev: str | None
    """sha256 of the bytes of the event before it."""
    at: str
    event: str
    """`started`, `renewed`, `decided`, `failed`, `promoted`, `accepted`, `quarantined` or `cleared`."""
    run: str
    key: str
    actor: str
    reason: str
    current: Served | None
    """The version in service after this event."""
    body: Mapping[str, Any]
    state_after: State
