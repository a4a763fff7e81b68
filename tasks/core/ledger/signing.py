"""Signatures: whom this deployment trusts, what it signs, and what a stranger without the key may not do.

Ed25519 over the exact bytes of manifests and ledger events. What is trusted comes from the environment of the process
(ROR_TRUSTED_KEYS, ROR_REQUIRE_SIGNATURE, ROR_SIGNING_KEY), never from the store. Without it nothing is checked, and
nothing costs anything: `cryptography` is imported when the first key is read.
"""

from __future__ import annotations

import base64
import binascii
import os
from collections.abc import Mapping
from dataclasses import dataclass, field, fields, replace
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING

from tasks.core.errors import CorruptObject, SignatureError, SpecError, VerificationError
from tasks.core.ledger.events import Event, EventKind, Signature
from tasks.core.ledger.keys import (
    REQUIRE,
    SIGNING_KEY,
    TRUSTED_KEYS,
    key_id,
    path_in,
    read_private_key,
    read_public_keys,
)
from tasks.core.ledger.state import State
from tasks.core.ledger.transitions import transition
from tasks.core.records import from_json, to_dict, to_json

if TYPE_CHECKING:
    from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey


UNSIGNED_KINDS = frozenset(
    {
        EventKind.STARTED, EventKind.RENEWED, EventKind.FAILED, EventKind.ACCEPTED, EventKind.QUARANTINED,
        EventKind.CLEARED, EventKind.SNOOZED, EventKind.PRUNED,
    }
)  # fmt: skip
"""Events that a machine without the key may append. Not `decided` and `promoted`, which put versions in service; not
`erased`, which says that other bytes than a manifest's stand for a file; nor any kind that is yet to come."""

UNSIGNED_FIELDS = frozenset(
    {
        "lease", "blocked", "changed", "losses", "comparisons", "suspect", "quarantined", "accepted", "novel",
        "snoozed", "by_hand", "pruned", "trusted",
    }
)  # fmt: skip
"""What of the state such an event may change (and the count of labelled batches in `attempt`): a field that is added
to the state later is out of its reach until it is named here."""

MANIFEST_PREFIX, EVENT_PREFIX = b"ror manifest\n", b"ror event\n"
"""Told apart, so that what was signed as one kind of object never passes for another."""

_START, _END = b'"value": "', b'"\n }\n}'
"""What is before and after the value in an event's file: its signature is the last field, as to_json writes it."""


class SignatureState(StrEnum):
    """What a signature is worth here."""

    UNSIGNED = "unsigned"
    SIGNED = "signed"
    UNKNOWN_KEY = "unknown key"
    WRONG = "wrong signature"


@dataclass(frozen=True, slots=True)
class SignatureStatus:
    """What the signature of one object is worth here, and the key that it names."""

    state: SignatureState
    key: str | None = None


@dataclass(frozen=True, slots=True)
class Trust:
    """Whose signatures count, whether there must be one, and the key that this process signs with.

    Raises SpecError when signatures are required and no key is trusted, or when what this process would sign is not
    trusted by itself.
    """

    keys: Mapping[str, bytes] = field(default_factory=dict)
    """Trusted public keys, raw, by id. None at all: nothing is checked."""
    required: bool = False
    """What is not signed is refused; else only what is signed wrongly."""
    private: Ed25519PrivateKey | None = field(default=None, repr=False, compare=False)
    """Signs what this process registers and appends. It cannot be pickled: it stays in the process that read it."""
    sources: tuple[Path, ...] = field(default=(), repr=False, compare=False)
    """Where the keys were read from."""

    def __post_init__(self) -> None:
        if self.required and not self.keys:
            raise SpecError(REQUIRE, [f"no key is trusted, so nothing could be loaded: set {TRUSTED_KEYS}, too"])
        if self.keys and self.signing and self.signing not in self.keys:
            raise SpecError(
                SIGNING_KEY,
                [
                    f"its id is {self.signing}, and {TRUSTED_KEYS} has {', '.join(self.keys)}: what it signs would be "
                    "refused here. Add its public key there"
                ],
            )

    @classmethod
    def from_environment(cls) -> Trust:
        """As the environment says. Raises SpecError for whatever is set and cannot be used: a path that is wrong must
        never mean that nothing is checked."""
        private = path_in(SIGNING_KEY)
        trusted = path_in(TRUSTED_KEYS)
        keys = read_public_keys(trusted) if trusted else {}
        required = os.environ.get(REQUIRE)
        if required not in (None, "0", "1"):
            raise SpecError(REQUIRE, [f"it is {required!r}; write 1, or 0 to accept what is not signed"])
        return cls(
            keys,
            bool(keys) if required is None else required == "1",
            read_private_key(private) if private else None,
            tuple(path for path in (private, trusted) if path),
        )

    @property
    def signing(self) -> str | None:
        """Id of the key that this process signs with."""
        return key_id(self.private.public_key().public_bytes_raw()) if self.private else None

    def check_outside(self, folder: Path | None) -> None:
        """Raises SpecError when keys are in the store's folder: anyone who can write there could add one."""
        for path in self.sources:
            if folder is not None and path.resolve().is_relative_to(folder):
                raise SpecError(str(path), [f"it is in the store, {folder}: keep keys where no version is written"])

    def check_may_sign(self, what: str) -> None:
        """Raises VerificationError when this process would write what it would itself refuse to read."""
        if self.required and not self.private:
            raise VerificationError(
                f"{what} must be signed, and this machine has no key to sign with. Nothing was changed. "
                f"Do it where the key is, or set {SIGNING_KEY}."
            )

    # --- signing ---

    def sign(self, message: bytes) -> Signature | None:
        """None without a key to sign with."""
        if self.private is None or self.signing is None:
            return None
        return Signature(self.signing, base64.b64encode(self.private.sign(message)).decode())

    def sign_manifest(self, data: bytes) -> bytes | None:
        """The bytes of `manifest.sig`; None without a key to sign with."""
        signature = self.sign(MANIFEST_PREFIX + data)
        return to_json(signature) if signature else None

    def sign_event(self, model: str, event: Event) -> tuple[Event, bytes]:
        """The event and the bytes of its file, signed when there is a key to sign with."""
        if self.signing is None:
            record = to_dict(event)
            del record["signature"]  # the same bytes as before there were signatures
            return event, to_json(record)
        blank = to_json(replace(event, signature=Signature(self.signing, "")))
        signature = self.sign(_event_message(model, blank))
        assert signature is not None
        data = blank.removesuffix(_END) + signature.value.encode() + _END
        return replace(event, signature=signature), data

    # --- checking ---

    def of_manifest(self, data: bytes, signature: bytes | None) -> SignatureStatus:
        """What the bytes of `manifest.sig`, None when there are none, are worth for these bytes of a manifest."""
        if signature is None:
            return SignatureStatus(SignatureState.UNSIGNED)
        try:
            return self._status(from_json(Signature, signature, "manifest.sig"), MANIFEST_PREFIX + data)
        except CorruptObject:
            return SignatureStatus(SignatureState.WRONG)

    def of_event(self, model: str, event: Event, data: bytes) -> SignatureStatus:
        """What the signature in an event's file is worth. The file is taken as it is: nothing is written anew, so that
        fields of a later release do not matter."""
        if event.signature is None:
            return SignatureStatus(SignatureState.UNSIGNED)
        value = event.signature.value.encode()
        if not value or not data.endswith(_START + value + _END):
            return SignatureStatus(SignatureState.WRONG, event.signature.key)
        blank = data.removesuffix(value + _END) + _END
        return self._status(event.signature, _event_message(model, blank))

    def _status(self, signature: Signature, message: bytes) -> SignatureStatus:
        from cryptography.exceptions import InvalidSignature
        from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey

        if signature.key not in self.keys:
            return SignatureStatus(SignatureState.UNKNOWN_KEY, signature.key)
        try:
            value = base64.b64decode(signature.value, validate=True)
            if base64.b64encode(value).decode() == signature.value:  # one way to write it, and no other
                Ed25519PublicKey.from_public_bytes(self.keys[signature.key]).verify(value, message)
                return SignatureStatus(SignatureState.SIGNED, signature.key)
        except (InvalidSignature, binascii.Error, ValueError):
            pass
        return SignatureStatus(SignatureState.WRONG, signature.key)

    def refuse(self, status: SignatureStatus, path: str, remedy: str) -> None:
        """Raises SignatureError unless an object of this status may be used; `remedy`: for one without signature."""
        match status.state:
            case SignatureState.UNSIGNED if self.required:
                raise SignatureError(f"{path} is not signed, and only what is signed is used here. {remedy}")
            case SignatureState.UNKNOWN_KEY:
                raise SignatureError(
                    f"{path} is signed with the key {status.key}, which is not trusted here (trusted: "
                    f"{', '.join(self.keys)}). If that key is yours, add its public key to {TRUSTED_KEYS}; "
                    "if not, restore the object from a backup."
                )
            case SignatureState.WRONG:
                raise SignatureError(
                    f"{path} has a wrong signature{f' of the key {status.key}' if status.key else ''}: it was "
                    "altered, or the signature was made for something else. Restore both from a backup."
                )


def check_unsigned(path: str, event: Event, before: State) -> None:
    """Raises SignatureError when an unsigned event does what only a signed one may, or carries a state that does not
    follow from the one before."""
    remedy = (
        f"sign the history as it is: where the key is, and with {REQUIRE}=0, `ror run {path.split('/')[0]} "
        "--action reload --reason '...'`. If not, restore it from a backup."
    )
    if event.event not in UNSIGNED_KINDS:
        raise SignatureError(
            f"{path} is {event.event!r} and not signed: only the holder of the key may do that here. "
            f"If it was you, {remedy}"
        )
    try:
        follows = transition(before, event) == event.state_after
    except (CorruptObject, ValueError, TypeError, KeyError):  # of a body that no command writes
        follows = False
    if not follows:
        raise SignatureError(
            f"{path} is not signed, and its state does not follow from the event before: someone without the key "
            f"forged it, or another release wrote it. If you know it was the latter, {remedy}"
        )
    if changed := _out_of_reach(before, event.state_after):
        raise SignatureError(
            f"{path} is not signed and changes {', '.join(changed)}: only the holder of the key may do that here. "
            f"If it was you, {remedy}"
        )


def _out_of_reach(before: State, after: State) -> list[str]:
    if before.attempt and after.attempt:
        before = replace(before, attempt=replace(before.attempt, labelled=after.attempt.labelled))
    names = [item.name for item in fields(State) if item.name not in UNSIGNED_FIELDS]
    return [name for name in names if getattr(before, name) != getattr(after, name)]


def _event_message(model: str, blank: bytes) -> bytes:
    return EVENT_PREFIX + model.encode() + b"\n" + blank
