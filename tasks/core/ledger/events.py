"""Events of the ledger and their bodies."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from tasks.core.decision.evidence import Evidence
from tasks.core.ledger.state import State
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
    evidence: Evidence | None = None
    """All that the rules looked at, so that another policy can be asked about it later."""
    label_files: str | None = None
    """Digest of the label files that were looked at; None when they could not be used."""
    novel: tuple[str, ...] = ()
    """Batches decided on, by this run or earlier ones, whose content is new to the version that was in service."""


@dataclass(frozen=True, slots=True)
class Signature:
    """By whom the bytes of an object were signed."""

    key: str
    """Id of the key."""
    value: str
    """Ed25519 signature, base64."""


@dataclass(frozen=True, slots=True)
class Event:
    """One entry of the ledger."""

    format_version: int
    seq: int
    prev: str | None
    """sha256 of the bytes of the event before it."""
    at: str
    event: str
    """`started`, `renewed`, `decided`, `failed`; by hand `promoted`, `accepted`, `quarantined`, `cleared`, `snoozed`;
    `pruned` and `erased`, which remove on record."""
    run: str
    key: str
    actor: str
    reason: str
    current: Served | None
    """The version in service after this event."""
    body: Mapping[str, Any]
    state_after: State
    release: str | None = None
    """Of this program, which wrote it; None in older ones."""
    sha256: str | None = None
    """Of all the rest, so that damage is noticed while no later event names this one's bytes; None in older ones."""
    signature: Signature | None = None
    """Of the file's bytes with this value left empty; it stays the last field. Left out where nothing signs."""


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
