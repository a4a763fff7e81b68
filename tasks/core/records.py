"""Records to bytes and back: every JSON object in the store is a frozen dataclass written by these functions."""

from __future__ import annotations

import hashlib
import json
from typing import Any, TypeVar

from pydantic import TypeAdapter, ValidationError

from tasks.core.errors import CorruptObject

T = TypeVar("T")

ITSELF = "retrain-or-reload"
"""The distribution that this program is installed as."""


_ADAPTERS: dict[Any, TypeAdapter[Any]] = {}


def _adapter(cls: Any) -> TypeAdapter[Any]:
    if cls not in _ADAPTERS:
        _ADAPTERS[cls] = TypeAdapter(cls)
    return _ADAPTERS[cls]


def to_dict(record: Any) -> Any:
    """Plain JSON types, fields in the order they are declared; NaN and infinity become null."""
    return json.loads(_adapter(type(record)).dump_json(record))


def to_json(record: Any) -> bytes:
    """Readable JSON, one field a line: these files outlive this program."""
    return json.dumps(to_dict(record), indent=1, ensure_ascii=False).encode()


def from_dict(cls: type[T], value: Any) -> T:
    """A record from plain types. Raises pydantic's ValidationError when they are not such a record."""
    record: T = _adapter(cls).validate_python(value)
    return record


def from_json(cls: type[T], data: bytes, name: str) -> T:
    """Parse a stored record. Raises CorruptObject, naming it, when the bytes are not such a record."""
    try:
        record: T = _adapter(cls).validate_json(data)
    except ValidationError as error:
        raise CorruptObject(
            f"{name} is not a valid {cls.__name__}: {first_problem(error)}. "
            "The object is damaged or was written by a newer release; restore it from a backup."
        ) from None
    return record


def first_problem(error: ValidationError) -> str:
    """The first field that is wrong, and why."""
    first = error.errors(include_url=False)[0]
    where = ".".join(str(part) for part in first["loc"]) or "the file"
    return f"{where}: {first['msg']}"


def digest(data: bytes) -> str:
    """sha256 as 64 hexadecimal digits."""
    return hashlib.sha256(data).hexdigest()


def installed_release(distribution: str = ITSELF) -> str | None:
    """The release of a distribution, this program's by default: records name it. None where it is not installed."""
    import importlib.metadata  # takes a while: only those who write or load need it

    try:
        return importlib.metadata.version(distribution)
    except importlib.metadata.PackageNotFoundError:
        return None
