"""The values that pass between the parts: frozen, every field documented, no behaviour beyond looking themselves up."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum


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

    @property
    def rank(self) -> int:
        """Its place where what is loudest comes first: 0 is a failure, then a warning, what was skipped, and a pass."""
        return (Verdict.FAIL, Verdict.WARN, Verdict.SKIPPED, Verdict.PASS).index(self)


class Outcome(StrEnum):
    """How a run ended: the name of its final state in Prefect. The last three need a person."""

    RELOADED = "Reloaded"
    RETRAINED = "Retrained"
    ROLLED_BACK = "RolledBack"
    KEPT = "Kept"
    AWAITING_APPROVAL = "AwaitingApproval"
    PROMOTED = "Promoted"
    HELD = "Held"
    SKIPPED = "Skipped"
    BLOCKED = "Blocked"
    RETRAIN_FAILED = "RetrainFailed"
    LABELS_OVERDUE = "LabelsOverdue"

    @property
    def failed(self) -> bool:
        """Whether the run's final state is a failure, because a person is needed."""
        return self in {Outcome.BLOCKED, Outcome.RETRAIN_FAILED, Outcome.LABELS_OVERDUE}


class Rule(StrEnum):
    """The rules that decide, in the order in which they look. Decisions are stored with these names: a rule that is
    given up keeps its name here."""

    BROKEN_DATA = "broken data"
    BY_HAND = "asked by hand"
    FIRST_VERSION = "first version"
    SUSPECT_LABELS = "suspect labels"
    ROLLBACK = "rollback"
    PERFORMANCE_DROP = "performance drop"
    ASSUMPTIONS_CHANGED = "assumptions changed"
    STALE = "stale"
    DRIFT = "drift"
    OTHERWISE = "otherwise"


class AttemptOutcome(StrEnum):
    """How an attempt to train came out."""

    REGISTERED = "registered"
    """It passed the gate; it is put in service unless a person acted meanwhile."""
    WAITING = "waiting"
    """It passed the gate and waits for a person's approval."""
    REFUSED = "refused"
    """The gate refused it."""
    FAILED = "failed"
    """There is no version: the fit or its proof failed."""


class CheckKind(StrEnum):
    """What a check is about; its subject says of which column, batch or metric."""

    CONTENT = "content"
    """A column's values compared with what the version in service was trained on."""
    DRIFT = "drift"
    """A column's distribution compared with that of training."""
    PERFORMANCE = "performance"
    """A metric on newly labelled rows."""
    SLICE = "slice"
    """The loss where a column has one value."""
    SLICES = "slices"
    """All slices together, without a subject: why some are not compared."""
    LABELS = "labels"
    """Labels of a batch that changed after they counted, or labels of a batch or file that are none of the classes."""
    KEYS = "keys"
    """Keys of a batch, or of a label file (by its name), that find nothing: no key, no such key, two answers."""
    OVERRULED = "overruled"
    """Labels of a file, by its name, that came later than those that count in their place."""
    PREDICTIONS = "predictions"
    """Stored predictions of a batch that could not be relied on."""
    ARRIVALS = "arrivals"
    """Files that arrive in another way than they should, without a subject."""
    EXPECTED = "expected"
    """Periods of `[[expected]]` that cannot be looked for, without a subject."""
    COERCION = "coercion"
    """Values of a batch that were read as another type."""
    ROWS = "rows"
    """How many rows a batch has, or days, compared with those that the version in service was trained on."""
    DECLARED = "declared"
    """Names in the model's file that the data do not have, without a subject."""
    OTHER = "other"
    """Never stored: a check that another release made, whose name is its subject."""


# --- batches -------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Batch:
    """One data file or folder, as found on disk once it has settled."""

    id: str
    """File name without its ending: `2013-02`. Batches are in time order when sorted by it."""
    path: str
    """Path relative to the root."""
    sha256: str
    """Digest of its bytes; of the sorted (name, digest) pairs for a folder."""
    origin: str | None = None
    """Digest that it was delivered with, where rows were erased from it since."""
    gone: tuple[int, ...] = ()
    """Numbers that these rows had then, sorted."""


@dataclass(frozen=True, slots=True)
class BatchRecord:
    """What the ledger knows of a decided batch."""

    sha256: str
    rows: int
    labels: str | None = None
    """Digest of the labels joined to it, once enough of them are there."""
    labelled_rows: int = 0
    lag: int | None = None
    """Batches that had arrived after it when its labels counted."""
    version: int | None = None
    """The version that its decision left in service, which predicted it; None before the first."""
    erased: int | None = None
    """Number of the newest event that says that rows were erased from it."""
    origin: str | None = None
    """Digest that it had before the first of them."""
    gone: tuple[int, ...] = ()
    """Numbers that the erased rows had then, sorted."""

    @property
    def coverage(self) -> float:
        """Labelled rows as a share of its rows, 0 to 1."""
        return self.labelled_rows / self.rows if self.rows else 0.0


@dataclass(frozen=True, slots=True)
class Labelled:
    """A batch whose labels count from this run on, or whose labels changed after they counted."""

    batch: str
    labels: str
    """Digest of the joined labels, in row order."""
    rows: int
    """Rows that have a label."""
    coverage: float
    """Those rows as a share of the batch's rows, 0 to 1."""
    lag: int | None = None
    """Batches that had arrived after it when its labels counted."""
    corrected: bool = False
    """It counted already: labels were corrected since, or more of them came. It is not new for any rule."""


NO_BATCHES = "batches"
"""In place of a batch's name: no file is where batches should be, and some were there before."""


@dataclass(frozen=True, slots=True)
class Blocked:
    """A batch that was set aside because a pipeline cannot predict on it, or labels that cannot be used."""

    batch: str
    sha256: str
    """Empty for labels: they are looked at again by every run."""
    problems: tuple[str, ...]
    changed: bool = False
    """A pipeline could predict on it, but its content changed and `on_change` is "block": a person may accept it."""
    looked: str = ""
    """Digest of all that it was looked at with, beside its bytes: with something else it is looked at again."""
    again: bool = False
    """It was set aside for the same reasons before, and looked at again: it is no news."""


@dataclass(frozen=True, slots=True)
class Snooze:
    """Columns whose drift a person expects for a while."""

    columns: tuple[str, ...]
    """Features, `prediction` or the target's name."""
    until: str
    """The last day, `2026-12-31`, of data that are meant, however late they arrive."""
    reason: str
    actor: str
    at: str
    """When the person said so, UTC."""


# --- measurements --------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Check:
    """A measurement with a verdict."""

    name: str
    """Its kind and its subject, as it is stored: `drift:temp`, `performance:roc_auc`, `arrivals`."""
    verdict: Verdict
    summary: str
    """One plain sentence."""
    value: float | None = None
    threshold: float | None = None
    weight: float | None = None
    """Share of the pipeline's measured importance, 0 to 1, for a feature's drift."""

    @classmethod
    def of(
        cls,
        kind: CheckKind,
        subject: str | None,
        verdict: Verdict,
        summary: str,
        value: float | None = None,
        threshold: float | None = None,
        weight: float | None = None,
    ) -> Check:
        """A check of one kind; without a subject where the kind says it all."""
        return cls(kind.value if subject is None else f"{kind}:{subject}", verdict, summary, value, threshold, weight)

    @property
    def kind(self) -> CheckKind:
        """What it is about; OTHER for a name that this release does not know."""
        return self._named[0]

    @property
    def subject(self) -> str:
        """The column, batch or metric that it is about; empty without one."""
        return self._named[1]

    @property
    def _named(self) -> tuple[CheckKind, str]:
        kind, _, subject = self.name.partition(":")
        try:
            return CheckKind(kind), subject
        except ValueError:
            return CheckKind.OTHER, self.name


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


TOO_SMALL = "are too small to judge a new version by"
"""What a decision says where a retrain waits for a person, because no comparison could ever be made."""
TOO_GOOD = "too good to be true? "
"""What doubts about a version begin with, behind its gate's reason."""


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

    rule: Rule
    applies: bool
    reason: str
    numbers: Mapping[str, float | int | str | None] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Decision:
    """What to do, and everything it rests on."""

    action: Action
    rule: Rule
    """The rule that decided."""
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
    outcome: AttemptOutcome
    version: int | None = None
    manifest: str | None = None
    reason: str = ""
    gate: Gate | None = None
    looked: str = ""
    """Digest of all that it depended on, beside labels: with something else, one that failed is made again."""


@dataclass(frozen=True, slots=True)
class Served:
    """A version that was put in service."""

    version: int
    manifest: str
    """sha256 of its manifest's bytes."""
    data_end: int
    """Labelled batches there were when it was trained."""
    accepts: tuple[str, ...] = ()
    """Differences of the environment that a person accepted for it, as `check_environment` words them."""
