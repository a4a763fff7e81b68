"""What the signatures of a model's versions and history are worth here, for an audit. Without trusted keys: nothing."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from tasks.core import layout
from tasks.core.audit.entries import AuditFinding, LedgerReading
from tasks.core.errors import RorError, SignatureError
from tasks.core.ledger.signing import SignatureState
from tasks.core.versions.manifest import MANIFEST
from tasks.core.versions.registry import Registry


@dataclass(frozen=True, slots=True)
class Signed:
    """How many of the manifests and entries of the history are signed by a trusted key."""

    signed: int
    unsigned: int
    required: bool
    """What is not signed is refused here."""


def signatures(
    registry: Registry, model: str, versions: Sequence[int], history: LedgerReading
) -> tuple[Signed | None, list[AuditFinding]]:
    """The counts, and one remark for each object that is refused here for its signature; None without trusted keys."""
    trust = registry.trust
    if not trust.keys:
        return None, []
    states: list[SignatureState] = []
    remarks: list[AuditFinding] = []
    for version in versions:
        path = layout.version_path(model, version, MANIFEST)
        try:
            status = registry.signature_status(model, version)
            states.append(status.state)
            remedy = f"If it is yours, sign it where the key is: `ror store keys {model} --sign v{version}`."
            trust.refuse(status, path, remedy)
        except RorError as error:
            remarks.append(AuditFinding(path, str(error).removeprefix(f"{path} ")))
    ledger = registry.ledger(model)
    for seq in history.events:
        path = layout.event_path(model, seq)
        try:
            _, status = ledger.signature_status(seq)
        except RorError:
            continue  # said where the history was read
        states.append(status.state)
        if status.state is SignatureState.WRONG:
            remarks.append(AuditFinding(path, "has a wrong signature: it was altered, or the signature is not of it"))
    try:
        # Entries that no trusted key signed count where a signed one follows: the ledger itself judges that.
        if history.head:
            ledger.head()
    except SignatureError as error:
        if not any(str(error).startswith(remark.path) for remark in remarks):
            remarks.append(AuditFinding(layout.event_path(model, history.last), f"is refused here: {error}"))
    except RorError:
        pass  # said where the history was read
    signed = sum(state is SignatureState.SIGNED for state in states)
    return Signed(signed, len(states) - signed, trust.required), remarks
