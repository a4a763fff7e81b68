"""Whom a deployment trusts, the files of keys, and the bytes that are signed."""

from __future__ import annotations

import base64
import json
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ec, rsa

from tasks.core.errors import RorError, SignatureError, SpecError, VerificationError
from tasks.core.ledger.events import Event
from tasks.core.ledger.keys import new_pair
from tasks.core.ledger.ledger import Ledger
from tasks.core.ledger.signing import SignatureState, SignatureStatus, Trust
from tasks.core.ledger.state import State
from tasks.core.records import digest, from_json, to_dict
from tasks.core.store import Store
from tasks.core.versions.registry import Registry
from tests.helpers.stranger import LENIENT, NONE, OURS, READER, SIGNER, STRANGER, THEIRS, public

EVENT = Event(1, 3, "a" * 64, "2026-11-24", "failed", "r", "k", "ann", "why", None, {"error": "é"}, State())
PEM, PKCS8 = serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8
OPEN = serialization.NoEncryption()


@pytest.fixture
def environment(monkeypatch: pytest.MonkeyPatch) -> Callable[..., Trust]:
    """Trust as the environment says, given these of its variables."""

    def trust(**variables: str | Path) -> Trust:
        for name in ("SIGNING_KEY", "TRUSTED_KEYS", "REQUIRE_SIGNATURE"):
            monkeypatch.delenv(f"ROR_{name}", raising=False)
        for name, value in variables.items():
            monkeypatch.setenv(f"ROR_{name}", str(value))
        return Trust.from_environment()

    return trust


@pytest.fixture
def pair(tmp_path: Path) -> tuple[str, Path, Path]:
    """A new key: its id, the private and the public file."""
    return new_pair(tmp_path / "keys")


def private_file(path: Path, data: bytes, mode: int = 0o600) -> Path:
    path.write_bytes(data)
    path.chmod(mode)
    return path


def secret(key: Any, encryption: Any = OPEN) -> bytes:
    return bytes(key.private_bytes(PEM, PKCS8, encryption))


def shown(key: Any) -> bytes:
    return bytes(key.public_key().public_bytes(PEM, serialization.PublicFormat.SubjectPublicKeyInfo))


# --- the environment -----------------------------------------------------------------------------------------


def test_without_keys_nothing_is_checked(environment: Callable[..., Trust]) -> None:
    """A deployment that says nothing about keys checks nothing and signs nothing."""
    assert environment() == Trust({}, False)
    assert environment(REQUIRE_SIGNATURE="0").signing is None


def test_trusted_keys_make_signatures_required(environment: Callable[..., Trust], pair: tuple[str, Path, Path]) -> None:
    """As soon as a key is trusted what is not signed is refused, unless the deployment says otherwise."""
    name, private, file = pair
    trust = environment(TRUSTED_KEYS=file)
    assert (list(trust.keys), trust.required, trust.signing) == ([name], True, None)
    assert environment(TRUSTED_KEYS=file, REQUIRE_SIGNATURE="0").required is False
    assert environment(TRUSTED_KEYS=file, REQUIRE_SIGNATURE="1").required is True
    assert environment(TRUSTED_KEYS=file, SIGNING_KEY=private).signing == name


def test_a_private_key_alone_signs_and_trusts_nobody(
    environment: Callable[..., Trust], pair: tuple[str, Path, Path]
) -> None:
    """A machine that signs does not thereby check: whom to trust is said separately."""
    trust = environment(SIGNING_KEY=pair[1])
    assert (trust.signing, dict(trust.keys), trust.required) == (pair[0], {}, False)


def test_every_key_of_a_folder_is_trusted(environment: Callable[..., Trust], tmp_path: Path) -> None:
    """A folder of public keys trusts all of them, and nothing else that lies there."""
    names = {new_pair(tmp_path / str(number))[0] for number in range(3)}
    folder = tmp_path / "trusted"
    folder.mkdir()
    for file in tmp_path.glob("?/*.pub"):
        (folder / file.name).write_bytes(file.read_bytes())
    (folder / "README").write_text("whose keys these are")
    assert set(environment(TRUSTED_KEYS=folder).keys) == names


@pytest.mark.parametrize(
    ("content", "mode", "problem"),
    [
        pytest.param(b"", 0o600, "is empty", id="empty"),
        pytest.param(b"no key", 0o600, "not an Ed25519 private key", id="text"),
        pytest.param(secret(OURS)[:60], 0o600, "not an Ed25519 private key", id="cut short"),
        pytest.param(shown(OURS), 0o600, "not an Ed25519 private key", id="the public half"),
        pytest.param(secret(ec.generate_private_key(ec.SECP256R1())), 0o600, "not an Ed25519", id="another curve"),
        pytest.param(secret(rsa.generate_private_key(65537, 2048)), 0o600, "not an Ed25519", id="RSA"),
        pytest.param(secret(OURS, serialization.BestAvailableEncryption(b"word")), 0o600, "encrypted", id="encrypted"),
        pytest.param(secret(OURS), 0o640, "can be read by others: `chmod 600", id="the group reads it"),
        pytest.param(secret(OURS), 0o604, "can be read by others: `chmod 600", id="everybody reads it"),
    ],
)
def test_a_private_key_that_cannot_be_used_is_an_error(
    environment: Callable[..., Trust], tmp_path: Path, content: bytes, mode: int, problem: str
) -> None:
    """A private key that is not what it should be, or that others can read, stops everything, and says why."""
    file = private_file(tmp_path / "ror.key", content, mode)
    with pytest.raises(SpecError, match=problem) as caught:
        environment(SIGNING_KEY=file)
    assert str(file) in str(caught.value)
    assert caught.value.exit_code == 2


@pytest.mark.parametrize(
    ("content", "problem"),
    [
        pytest.param(b"", "is empty", id="empty"),
        pytest.param(b"no key", "not one Ed25519 public key", id="text"),
        pytest.param(secret(OURS), "not one Ed25519 public key", id="the private half"),
        pytest.param(shown(ec.generate_private_key(ec.SECP256R1())), "not one Ed25519 public key", id="another curve"),
        pytest.param(shown(OURS) + shown(THEIRS), "not one Ed25519 public key", id="two in one file"),
        pytest.param(b"ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAA ann@host", "not one Ed25519 public key", id="of ssh"),
    ],
)
@pytest.mark.parametrize("in_folder", [False, True])
def test_a_trusted_key_that_cannot_be_used_is_an_error(
    environment: Callable[..., Trust], tmp_path: Path, content: bytes, problem: str, in_folder: bool
) -> None:
    """A public key that is none stops everything, also among good ones in a folder: it is never skipped."""
    (tmp_path / "good.pub").write_bytes(shown(OURS))
    (tmp_path / "other.pub").write_bytes(content)
    with pytest.raises(SpecError, match=problem) as caught:
        environment(TRUSTED_KEYS=tmp_path if in_folder else tmp_path / "other.pub")
    assert "other.pub" in str(caught.value)


def test_a_wrong_path_never_means_no_trust(environment: Callable[..., Trust], tmp_path: Path) -> None:
    """Paths that are missing, empty or of the wrong kind, and words that are no answer, are errors by name."""
    for variables in (
        {"SIGNING_KEY": tmp_path / "missing"},
        {"SIGNING_KEY": tmp_path},
        {"SIGNING_KEY": ""},
        {"TRUSTED_KEYS": tmp_path / "missing"},
        {"TRUSTED_KEYS": tmp_path},  # a folder without keys
        {"TRUSTED_KEYS": " "},
        {"REQUIRE_SIGNATURE": "1"},  # and nobody to trust
        {"REQUIRE_SIGNATURE": "yes"},
        {"REQUIRE_SIGNATURE": ""},
    ):
        with pytest.raises(SpecError, match=f"^ROR_{next(iter(variables))}:"):
            environment(**variables)


@pytest.mark.skipif(os.geteuid() == 0, reason="root reads everything")
def test_keys_that_cannot_be_read_are_an_error(environment: Callable[..., Trust], pair: tuple[str, Path, Path]) -> None:
    """Keys that belong to somebody else are an error, not no keys."""
    for file, name in ((pair[1], "SIGNING_KEY"), (pair[2], "TRUSTED_KEYS")):
        file.chmod(0)
        with pytest.raises(SpecError, match="Permission denied"):
            environment(**{name: file})


def test_a_key_that_is_not_trusted_does_not_sign(environment: Callable[..., Trust], tmp_path: Path) -> None:
    """A machine whose own signatures it would refuse is told so before it signs anything."""
    _, private, _ = new_pair(tmp_path / "mine")
    name, _, trusted = new_pair(tmp_path / "theirs")
    for require in ("0", "1"):
        with pytest.raises(SpecError, match=f"ROR_TRUSTED_KEYS has {name}"):
            environment(SIGNING_KEY=private, TRUSTED_KEYS=trusted, REQUIRE_SIGNATURE=require)


def test_keys_in_the_store_are_refused(environment: Callable[..., Trust], tmp_path: Path) -> None:
    """Whoever can write versions must not be able to add a key: trusted keys cannot lie in the store."""
    _, _, inside = new_pair(tmp_path / "artifacts" / "keys")
    for path in (inside, inside.parent):
        trust = environment(TRUSTED_KEYS=path)
        with pytest.raises(SpecError, match="it is in the store"):
            Registry(tmp_path / "artifacts", trust)
    Registry(tmp_path / "elsewhere", trust)
    Registry(Store("memory://"), trust)


def test_without_keys_no_cryptography_is_loaded(tmp_path: Path) -> None:
    """A deployment without keys pays nothing: the library is not even imported to register, append and read."""
    script = f"""
import sys
from tasks.core.ledger.events import Accepted
from tasks.core.versions.registry import Registry
ledger = Registry({str(tmp_path)!r}).ledger("loans")
ledger.append(ledger.head(), Accepted("b"), run="r", key="k", actor="a", reason="w")
assert ledger.events()[0] == ledger.event(1) and ledger.head().seq == 1
print("cryptography" in sys.modules)
"""
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "False"


# --- a new pair ----------------------------------------------------------------------------------------------


def test_a_new_pair_works(environment: Callable[..., Trust], pair: tuple[str, Path, Path]) -> None:
    """What one half signs the other accepts; the private half is for its owner only, the id is in the other's name."""
    name, private, file = pair
    assert private.stat().st_mode & 0o777 == 0o600
    assert file.name == f"{name}.pub"
    signer = environment(SIGNING_KEY=private, TRUSTED_KEYS=file.parent)
    assert signer.of_manifest(b"data", signer.sign_manifest(b"data")) == SignatureStatus(SignatureState.SIGNED, name)
    raw = next(iter(signer.keys.values()))
    assert name == digest(raw)[:16]
    assert len(raw) == 32


def test_a_key_is_never_overwritten(pair: tuple[str, Path, Path]) -> None:
    """Where there is a private key no other one is made."""
    before = pair[1].read_bytes()
    with pytest.raises(SpecError, match="never overwritten"):
        new_pair(pair[1].parent)
    assert pair[1].read_bytes() == before
    assert len(list(pair[1].parent.iterdir())) == 2


def test_a_private_key_shows_nowhere(pair: tuple[str, Path, Path], environment: Callable[..., Trust]) -> None:
    """Neither a trace nor a pickle of what holds it gives the private key away."""
    import pickle

    trust = environment(SIGNING_KEY=pair[1])
    assert repr(trust) == "Trust(keys={}, required=False)"
    with pytest.raises(TypeError, match="pickle"):
        pickle.dumps(trust)


# --- what is signed ------------------------------------------------------------------------------------------


def test_without_a_key_an_event_has_no_field_for_a_signature() -> None:
    """An event that nobody signs has no field for a signature, and one without that field is read."""
    event, data = NONE.sign_event("loans", EVENT)
    assert event == EVENT
    assert list(json.loads(data)) == [
        "format_version", "seq", "prev", "at", "event", "run", "key", "actor", "reason", "current", "body",
        "state_after", "release", "sha256",
    ]  # fmt: skip
    assert data == json.dumps({k: v for k, v in to_dict(EVENT).items() if k != "signature"}, indent=1,
                              ensure_ascii=False).encode()  # fmt: skip
    assert from_json(Event, data, "event") == EVENT


def test_a_signed_event_ends_with_its_signature() -> None:
    """The signature is the last field, over the model's name and the file with the signature's 88 characters left out:
    anybody can check it without this program."""
    event, data = SIGNER.sign_event("loans", EVENT)
    assert from_json(Event, data, "event") == event
    assert event.signature is not None
    value = event.signature.value
    assert len(value) == 88
    assert data.count(value.encode()) == 1
    message = b"ror event\nloans\n" + data.replace(value.encode(), b"")
    OURS.public_key().verify(base64.b64decode(value), message)
    assert READER.of_event("loans", event, data) == SignatureStatus(SignatureState.SIGNED, SIGNER.signing)


def test_a_field_of_a_later_release_does_not_matter() -> None:
    """The bytes are checked as they are, not written again: a field that this release does not know stays signed."""
    record = {**to_dict(EVENT), "new": [1.50, "ø"]}
    del record["signature"]
    record["signature"] = {"key": SIGNER.signing, "value": ""}
    blank = json.dumps(record, indent=1, ensure_ascii=False).encode()
    signature = SIGNER.sign(b"ror event\nloans\n" + blank)
    assert signature is not None
    signed = blank.replace(b'"value": ""', f'"value": "{signature.value}"'.encode())
    assert READER.of_event("loans", from_json(Event, signed, "event"), signed).state is SignatureState.SIGNED
    other = signed.replace("ø".encode(), b"o")
    assert READER.of_event("loans", from_json(Event, other, "event"), other).state is SignatureState.WRONG


def test_every_bit_of_a_signed_event_counts() -> None:
    """Whichever byte of the file is altered, the event is no longer signed, or no longer an event."""
    _, data = SIGNER.sign_event("loans", EVENT)
    seen = set()
    for position in range(len(data)):
        altered = bytes([*data[:position], data[position] ^ 1, *data[position + 1 :]])
        try:
            mark = READER.of_event("loans", from_json(Event, altered, "event"), altered).state
        except VerificationError:
            continue
        assert mark is not SignatureState.SIGNED, position
        seen.add(mark)
    assert (
        {SignatureState.WRONG, SignatureState.UNKNOWN_KEY}
        <= seen
        <= {SignatureState.WRONG, SignatureState.UNKNOWN_KEY, SignatureState.UNSIGNED}
    )


def test_a_signature_can_be_written_in_one_way_only() -> None:
    """The unused bits at the end of a signature in base64 must be zero: there is one file of a signed event."""
    event, data = SIGNER.sign_event("loans", EVENT)
    assert event.signature is not None
    value = event.signature.value
    alphabet = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/"
    twin = f"{value[:-3]}{alphabet[alphabet.index(value[-3]) + 1]}=="
    assert base64.b64decode(twin) == base64.b64decode(value)
    other = data.replace(value.encode(), twin.encode())
    assert READER.of_event("loans", from_json(Event, other, "event"), other).state is SignatureState.WRONG


def test_a_signature_is_for_one_kind_one_model_and_these_bytes() -> None:
    """What was signed as an event is no manifest, nor an event of another model; and the other way round."""
    event, data = SIGNER.sign_event("loans", EVENT)
    assert READER.of_event("flights", event, data).state is SignatureState.WRONG
    signature = SIGNER.sign_manifest(b"data")
    assert signature is not None
    assert READER.of_manifest(b"data", signature).state is SignatureState.SIGNED
    assert READER.of_manifest(b"Data", signature).state is SignatureState.WRONG
    as_event = SIGNER.sign(b"ror event\nloans\ndata")
    assert as_event is not None
    assert READER.of_manifest(b"data", json.dumps(to_dict(as_event)).encode()).state is SignatureState.WRONG


@pytest.mark.parametrize("value", ["", "A" * 88, "é" * 88, "AAAA", "=" * 88, "\\u0000" * 8])
def test_a_signature_of_rubbish_is_wrong(value: str) -> None:
    """A signature that is none is wrong, whatever it is made of: no crash."""
    signature = f'{{"key": "{SIGNER.signing}", "value": "{value}"}}'.encode()
    assert READER.of_manifest(b"data", signature).state is SignatureState.WRONG
    assert READER.of_manifest(b"data", b"\xff{").state is SignatureState.WRONG
    assert READER.of_manifest(b"data", b'{"key": 1}').state is SignatureState.WRONG


@pytest.mark.parametrize(
    ("trust", "signature", "message"),
    [
        (READER, None, "v1 is not signed, and only what is signed is used here. Ask ann."),
        (
            READER,
            STRANGER.sign_manifest(b"data"),
            f"v1 is signed with the key {STRANGER.signing}, which",
        ),
        (LENIENT, STRANGER.sign_manifest(b"data"), f"trusted: {SIGNER.signing}"),
        (READER, SIGNER.sign_manifest(b"date"), "v1 has a wrong signature of the key"),
        (LENIENT, SIGNER.sign_manifest(b"date"), "v1 has a wrong signature of the key"),
        (LENIENT, b"", "v1 has a wrong signature: it was altered"),
    ],
    ids=["none", "a stranger's", "untrusted", "of other bytes", "of other bytes, lenient", "empty"],
)
def test_a_refusal_says_what_is_wrong(trust: Trust, signature: bytes | None, message: str) -> None:
    """Not signed, signed by somebody else and signed wrongly are told apart, and each names the next step."""
    with pytest.raises(SignatureError) as caught:
        trust.refuse(trust.of_manifest(b"data", signature), "v1", "Ask ann.")
    assert message in str(caught.value)
    assert caught.value.exit_code == 4


def test_in_transition_what_is_not_signed_is_accepted() -> None:
    """Where signatures are checked and not required, nothing is said of an object without one."""
    LENIENT.refuse(LENIENT.of_manifest(b"data", None), "v1", "")
    READER.refuse(READER.of_manifest(b"data", SIGNER.sign_manifest(b"data")), "v1", "")


def test_a_machine_without_the_key_is_told_so(store: Store) -> None:
    """What must be signed is refused where there is no key to sign it with, not written unsigned."""
    ledger = Ledger(store, "loans", READER)
    for kind in ("decided", "promoted", "erased", "of a later release"):
        with pytest.raises(RorError, match=f"A '{kind}' event of loans must be signed.*ROR_SIGNING_KEY"):
            ledger.check_may_append(kind)
    assert store.objects("loans") == []
    assert public(OURS).keys() == ledger.trust.keys.keys()
