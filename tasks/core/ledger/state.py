"""What the ledger holds: events, the decisions in them, and the state that every event carries."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from tasks.core.data.files import Order, in_order, natural_order, text_order
from tasks.core.types import (
    Attempt,
    BatchRecord,
    Comparison,
    LossPoint,
    Served,
    Snooze,
)


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
class Substitute:
    """The object that takes the place of another one, from which rows were erased."""

    path: str
    sha256: str
    size: int


@dataclass(frozen=True, slots=True)
class Replacement(Substitute):
    """Such an object, as the state remembers it."""

    seq: int = 0
    """Number of the event that says so."""


@dataclass(frozen=True, slots=True)
class Cause:
    """Why a batch is set aside, so that it is looked at again once that may have changed."""

    looked: str
    """Digest of all that it was looked at with, beside its bytes."""
    found: str
    """Digest of what was found wrong."""


@dataclass(frozen=True, slots=True)
class State:
    """Everything a run needs to decide, carried by every ledger event."""

    served: tuple[Served, ...] = ()
    """Versions put in service and not rolled back, oldest first: the last one is current."""
    since: str | None = None
    """When the current version was put in service, UTC."""
    promoted: int | None = None
    """Sequence number of the event by which a person put it there; None when the rules did."""
    batches: Mapping[str, BatchRecord] = field(default_factory=dict)
    blocked: Mapping[str, str] = field(default_factory=dict)
    """Digest of each batch that is set aside."""
    changed: tuple[str, ...] = ()
    """Those of them that are set aside because their content changed: a person may accept it."""
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
    """Batches whose changed content a person accepted, and no attempt to train has learned from yet."""
    novel: tuple[str, ...] = ()
    """Batches decided on whose content is new to the version in service, and no attempt to train has learned from."""
    trusted: tuple[str, ...] = ()
    """Batches all of whose labels count, however far from the others, because a person accepted them."""
    snoozed: tuple[Snooze, ...] = ()
    """Columns whose drift a person expects, oldest first; each column once. Those that ran out are kept."""
    decided: LastDecision | None = None
    by_hand: int = 0
    """Sequence number of the newest event that a person made (a promotion, an acceptance, a quarantine, a snooze)."""
    lease: LeaseRecord | None = None
    label_files: str | None = None
    """Digest of the label files as of the last decision that could use them."""
    label_lag: int = 0
    """The most batches that labels are known to have taken: the largest lag, less what had piled up between runs."""
    pruned: Mapping[int, int] = field(default_factory=dict)
    """Versions whose payload was removed on record, each with the sequence number of the event: they load no more."""
    replaced: Mapping[str, Replacement] = field(default_factory=dict)
    """Objects of the store that rows were erased from, by path, each with the object that replaces it now."""
    natural: bool = False
    """Names are in natural order. False until a decision of this release: earlier ones sorted them as text."""
    causes: Mapping[str, Cause] = field(default_factory=dict)
    """Why each batch is set aside. One that an earlier release set aside has none."""

    @property
    def order(self) -> Order:
        """The key that sorts names of batches and label files in time order: natural, unless batches would change
        places that an earlier release decided on in the order of text."""
        is_text = not self.natural and in_order(self.batches) != in_order(self.batches, text_order)
        return text_order if is_text else natural_order

    @property
    def current(self) -> Served | None:
        """The version in service; None before the first."""
        return self.served[-1] if self.served else None

    @property
    def predecessor(self) -> Served | None:
        """The version that was in service before the current one; None where there was none."""
        return self.served[-2] if len(self.served) > 1 else None

    def as_known(self, served: Served) -> Served:
        """The same version, with what was accepted for it since, as far as it is in service, was before, or waits."""
        known = (*reversed(self.served), *self.waiting)
        same = (item for item in known if (item.version, item.manifest) == (served.version, served.manifest))
        return next(same, served)

    @property
    def newest(self) -> int:
        """The highest version number that the history knows of, 0 before the first."""
        known = [served.version for served in (*self.served, *self.waiting)]
        return max([*known, *self.barred, (self.attempt.version or 0) if self.attempt else 0], default=0)

    @property
    def usable(self) -> tuple[str, ...]:
        """Labelled batches that may be trained on, in time order."""
        kept_out = {self.suspect, *self.quarantined}
        return tuple(
            in_order((b for b, record in self.batches.items() if record.labels and b not in kept_out), self.order)
        )

    @property
    def age(self) -> int:
        """Labelled batches since the data end of the last attempt to train."""
        return len(self.usable) - (self.attempt.labelled if self.attempt else 0)

    @property
    def age_of_service(self) -> int:
        """Labelled batches since the data end of the version in service."""
        return len(self.usable) - (self.current.data_end if self.current else 0)
