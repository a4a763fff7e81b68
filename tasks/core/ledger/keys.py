"""Ed25519 keys: read, made and named."""

from __future__ import annotations

import hashlib
import os
import stat
from pathlib import Path
from typing import TYPE_CHECKING

from tasks.core.errors import SpecError

if TYPE_CHECKING:
    from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey


SIGNING_KEY, TRUSTED_KEYS, REQUIRE = "ROR_SIGNING_KEY", "ROR_TRUSTED_KEYS", "ROR_REQUIRE_SIGNATURE"


def key_id(public: bytes) -> str:
    """The id of a key: 16 hexadecimal digits of the sha256 of its raw public half."""
    return hashlib.sha256(public).hexdigest()[:16]


def read_private_key(path: Path) -> Ed25519PrivateKey:
    """Raises SpecError unless the file is a PKCS8 PEM of an Ed25519 key that no other user can read."""
    from cryptography.exceptions import UnsupportedAlgorithm
    from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
    from cryptography.hazmat.primitives.serialization import load_pem_private_key

    data = _read(path, SIGNING_KEY)
    try:
        key = load_pem_private_key(data, None)
    except TypeError:
        raise SpecError(SIGNING_KEY, [f"{path} is encrypted; a run cannot ask for its password"]) from None
    except (ValueError, UnsupportedAlgorithm):
        key = None
    if not isinstance(key, Ed25519PrivateKey):
        raise SpecError(
            SIGNING_KEY,
            [f"{path} is not an Ed25519 private key in PEM format; `ror store keys --new FOLDER` makes one"],
        )
    if os.name == "posix" and stat.S_IMODE(path.stat().st_mode) & 0o077:
        raise SpecError(SIGNING_KEY, [f"{path} can be read by others: `chmod 600 {path}`"])
    return key


def read_public_keys(path: Path) -> dict[str, bytes]:
    """The raw keys, by id, of one PEM file, or of every `*.pub` in a folder. Raises SpecError naming all that is wrong:
    a file that is no such key is not skipped."""
    files = [path]
    if path.is_dir():
        files = sorted(path.glob("*.pub"))
        if not files:
            raise SpecError(TRUSTED_KEYS, [f"{path} has no *.pub files; `ror store keys --new FOLDER` makes a pair"])
    keys, problems = {}, []
    for file in files:
        public = _public(_read(file, TRUSTED_KEYS))
        if public is None:
            made = "`ror store keys --new FOLDER` makes a pair"
            problems.append(f"{file} is not one Ed25519 public key in PEM format ({made})")
        else:
            keys[key_id(public)] = public
    if problems:
        raise SpecError(TRUSTED_KEYS, problems)
    return keys


def _public(data: bytes) -> bytes | None:
    from cryptography.exceptions import UnsupportedAlgorithm
    from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey
    from cryptography.hazmat.primitives.serialization import load_pem_public_key

    if data.count(b"-----BEGIN ") != 1:  # of several only the first would be read
        return None
    try:
        key = load_pem_public_key(data)
    except (ValueError, UnsupportedAlgorithm):
        return None
    return key.public_bytes_raw() if isinstance(key, Ed25519PublicKey) else None


def new_pair(folder: Path) -> tuple[str, Path, Path]:
    """Make a key: its id, the private half (`ror.key`, for this user only) and the public half (`<id>.pub`).

    Raises SpecError when there is one in that folder, or it cannot be written: a key is never overwritten.
    """
    from cryptography.hazmat.primitives import serialization
    from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

    key = Ed25519PrivateKey.generate()
    name = key_id(key.public_key().public_bytes_raw())
    private, public = folder / "ror.key", folder / f"{name}.pub"
    secret = key.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    )
    shown = key.public_key().public_bytes(serialization.Encoding.PEM, serialization.PublicFormat.SubjectPublicKeyInfo)
    try:
        folder.mkdir(parents=True, exist_ok=True)
        for path, data, mode in ((private, secret, 0o600), (public, shown, 0o644)):
            with os.fdopen(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, mode), "wb") as file:
                file.write(data)
    except FileExistsError:
        raise SpecError(
            str(private), ["it is there already, and a key is never overwritten; name another folder"]
        ) from None
    except OSError as error:
        raise SpecError(str(folder), [f"no key can be written there: {error.strerror}"]) from None
    return name, private, public


def path_in(name: str) -> Path | None:
    """The path in an environment variable; None where it is not set. Raises SpecError where it is empty."""
    value = os.environ.get(name)
    if value is None:
        return None
    if not value.strip():
        raise SpecError(name, ["it is set and empty: give it a path, or unset it"])
    return Path(value).expanduser()


def _read(path: Path, name: str) -> bytes:
    try:
        data = path.read_bytes()
    except OSError as error:
        raise SpecError(name, [f"{path}: {error.strerror}"]) from None
    if not data.strip():
        raise SpecError(name, [f"{path} is empty"])
    return data
