"""Events of the ledger and their bodies."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from functools import cached_property
from typing import Annotated, Any, ClassVar, TypeVar, get_args

from pydantic import Field, ValidationError

from tasks.core.decision.evidence import Evidence
from tasks.core.errors import CorruptObject
from tasks.core.ledger.state import LeaseRecord, State, Substitute
from tasks.core.records import first_problem, from_dict
from tasks.core.types import (
    Attempt,
    Batch,
    Blocked,
    Check,
    Comparison,
    Decision,
    Labelled,
    LossPoint,
    Outcome,
    Served,
)


class EventKind(StrEnum):
    """What can happen to a model."""

    STARTED = "started"
    RENEWED = "renewed"
    DECIDED = "decided"
    FAILED = "failed"
    PROMOTED = "promoted"
    ACCEPTED = "accepted"
    QUARANTINED = "quarantined"
    CLEARED = "cleared"
    SNOOZED = "snoozed"
    PRUNED = "pruned"
    ERASED = "erased"


# --- bodies: one record for each kind, its fields in the order in which they are written ---------------------
# A field has a default where there are events without it.


@dataclass(frozen=True, slots=True)
class Started:
    """A run took the lease."""

    kind: ClassVar = EventKind.STARTED

    lease: LeaseRecord
    """Its token is 0: the number of this event takes its place."""


@dataclass(frozen=True, slots=True)
class Renewed:
    """The run that holds the lease is still at work, or gives it back without a decision."""

    kind: ClassVar = EventKind.RENEWED

    expires: str


@dataclass(frozen=True, slots=True)
class Failed:
    """A run ended without a decision."""

    kind: ClassVar = EventKind.FAILED

    error: str = ""


@dataclass(frozen=True, slots=True)
class Decided:
    """A run's single commit."""

    kind: ClassVar = EventKind.DECIDED

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
    evidence: Evidence | None = None
    """All that the rules looked at, so that another policy can be asked about it later."""
    label_files: str | None = None
    """Digest of the label files that were looked at; None when they could not be used."""
    novel: tuple[str, ...] = ()
    """Batches decided on, by this run or earlier ones, whose content is new to the version that was in service."""
    natural: bool = False
    """Names of batches and label files are in natural order; False: as text, as earlier releases sorted them."""


@dataclass(frozen=True, slots=True)
class Promoted:
    """A person put a version in service."""

    kind: ClassVar = EventKind.PROMOTED

    served: Served
    was: str | None = None
    """`approved`, `cleared`, `rolled back`, `gate overridden`, `chosen` or `environment accepted`."""
    replaced: int | None = None
    """The version that was in service before."""


@dataclass(frozen=True, slots=True)
class Accepted:
    """A person said that the changed content of a batch is how the world is now, or that its labels are right."""

    kind: ClassVar = EventKind.ACCEPTED

    batch: str
    sha256: str | None = None
    """Of the batch."""
    labels: bool = False
    """What was accepted are labels that are far from all others, not its content."""


@dataclass(frozen=True, slots=True)
class Quarantined:
    """A person took the labels of a batch out of training."""

    kind: ClassVar = EventKind.QUARANTINED

    batch: str
    trained: tuple[int, ...] = ()
    """Versions that were trained on it."""
    learned: bool = False
    """It counted in the data end of the last attempt to train."""


@dataclass(frozen=True, slots=True)
class Cleared:
    """A person took back a quarantine or a suspicion."""

    kind: ClassVar = EventKind.CLEARED

    batch: str | None = None
    learned: bool = False
    """It counts again in the data end of the last attempt to train."""
    version: Annotated[int | None, Field(exclude=True)] = None
    """A version that is not barred any more: read, and not written by any command today."""


@dataclass(frozen=True, slots=True)
class Snoozed:
    """A person expects drift of these columns for a while."""

    kind: ClassVar = EventKind.SNOOZED

    columns: tuple[str, ...]
    until: str | None
    """The last day; None: no longer."""


@dataclass(frozen=True, slots=True)
class Pruned:
    """Payloads of versions are removed."""

    kind: ClassVar = EventKind.PRUNED

    versions: tuple[int, ...]
    files: tuple[str, ...] = ()
    """Objects of the store."""
    bytes: int = 0


@dataclass(frozen=True, slots=True)
class Erased:
    """The rows of one key are removed; the key is not named."""

    kind: ClassVar = EventKind.ERASED

    rows: int = 0
    files: tuple[str, ...] = ()
    """Files below the root that are written anew."""
    batches: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)
    """Those fields of a batch's record that are others from now on."""
    before: Mapping[str, str] = field(default_factory=dict)
    """Digest of each of these batches before."""
    blocked: Mapping[str, str] = field(default_factory=dict)
    """Digest, from now on, of those that are set aside."""
    label_files: str | None = None
    """Digest of the label files from now on, where they were looked at as they were before."""
    key: str | None = None
    """Of the question that the last decision answered, where it is the same question as before."""
    replaced: Mapping[str, Substitute] = field(default_factory=dict)
    """By path of the object in the store."""
    removed: tuple[str, ...] = ()
    """Other files and objects that held rows of the key."""
    versions: tuple[int, ...] = ()
    """Versions that were trained on such rows."""


Body = (
    Started
    | Renewed
    | Failed
    | Decided
    | Promoted
    | Accepted
    | Quarantined
    | Cleared
    | Snoozed
    | Pruned
    | Erased
)  # fmt: skip
_Body = TypeVar("_Body", bound=Body)

BODIES: Mapping[str, type[Body]] = {body.kind: body for body in get_args(Body)}
"""The record of each kind."""


# --- entries -------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Signature:
    """By whom the bytes of an object were signed."""

    key: str
    """Id of the key."""
    value: str
    """Ed25519 signature, base64."""


@dataclass(frozen=True)
class Event:
    """One entry of the ledger, as it is stored."""

    format_version: int
    seq: int
    prev: str | None
    """sha256 of the bytes of the event before it."""
    at: str
    event: str
    """An EventKind, or a kind that a later release wrote."""
    run: str
    key: str
    actor: str
    reason: str
    current: Served | None
    """The version in service after this event."""
    body: Mapping[str, Any]
    """Plain JSON types; `content` is what they mean."""
    state_after: State
    release: str | None = None
    """Of this program, which wrote it; None in older ones."""
    sha256: str | None = None
    """Of all the rest, so that damage is noticed while no later event names this one's bytes; None in older ones."""
    signature: Signature | None = None
    """Of the file's bytes with this value left empty; it stays the last field. Left out where nothing signs."""

    @cached_property
    def content(self) -> Body | None:
        """The body as a record; None for a kind that this release does not know. Raises CorruptObject for one that no
        release writes."""
        if (kind := BODIES.get(self.event)) is None:
            return None
        try:
            return from_dict(kind, self.body)
        except ValidationError as error:
            raise CorruptObject(
                f"Ledger event {self.seq} was altered: its content cannot be followed ({first_problem(error)}). "
                "Restore the ledger from a backup."
            ) from None

    def content_as(self, kind: type[_Body]) -> _Body:
        """The body of an event that is known to be of this kind. Raises CorruptObject where it is another one."""
        if not isinstance(content := self.content, kind):
            raise CorruptObject(f"Ledger event {self.seq} is {self.event!r}, not {kind.kind.value!r}.")
        return content


def last_state(events: Mapping[int, Event]) -> State:
    """The state after the newest of these events, which are given by number; the empty state before the first."""
    return events[max(events)].state_after if events else State()


def named_manifests(events: Mapping[int, Event]) -> dict[int, dict[str, int]]:
    """Every digest under which a version's manifest was recorded (served, waiting, attempted), with the number of the
    first event that did, by version."""
    named: dict[int, dict[str, int]] = {}
    for seq, event in events.items():
        state, attempt = event.state_after, event.state_after.attempt
        found = [(served.version, served.manifest) for served in (*state.served, *state.waiting)]
        found += [(event.current.version, event.current.manifest)] if event.current else []
        if attempt and attempt.version is not None and attempt.manifest is not None:
            found.append((attempt.version, attempt.manifest))
        for version, sha256 in found:
            named.setdefault(version, {}).setdefault(sha256, seq)
    return named
