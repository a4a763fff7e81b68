"""What the signatures of a model's versions and history are worth here, for an audit. Without trusted keys: nothing."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from tasks.core.audit.entries import Remark, Trail
from tasks.core.errors import RorError, SignatureError
from tasks.core.ledger.signing import Mark
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
    registry: Registry, model: str, versions: Sequence[int], history: Trail
) -> tuple[Signed | None, list[Remark]]:
    """The counts, and one remark for each object that is refused here for its signature; None without trusted keys."""
    trust = registry.trust
    if not trust.keys:
        return None, []
    marks: list[Mark] = []
    remarks: list[Remark] = []
    for version in versions:
        path = f"{model}/versions/{version:08d}/{MANIFEST}"
        try:
            standing = registry.standing(model, version)
            marks.append(standing.mark)
            remedy = f"If it is yours, sign it where the key is: `ror store keys {model} --sign v{version}`."
            trust.refuse(standing, path, remedy)
        except RorError as error:
            remarks.append(Remark(path, str(error).removeprefix(f"{path} ")))
    ledger = registry.ledger(model)
    for seq in history.events:
        path = f"{model}/ledger/{seq:08d}.json"
        try:
            _, standing = ledger.standing(seq)
        except RorError:
            continue  # said where the history was read
        marks.append(standing.mark)
        if standing.mark is Mark.WRONG:
            remarks.append(Remark(path, "has a wrong signature: it was altered, or the signature is not of it"))
    try:
        # Entries that no trusted key signed count where a signed one follows: the ledger itself judges that.
        if history.head:
            ledger.head()
    except SignatureError as error:
        if not any(str(error).startswith(remark.path) for remark in remarks):
            remarks.append(Remark(f"{model}/ledger/{history.last:08d}.json", f"is refused here: {error}"))
    except RorError:
        pass  # said where the history was read
    signed = sum(mark is Mark.SIGNED for mark in marks)
    return Signed(signed, len(marks) - signed, trust.required), remarks
