"""Versions put in service, and one whose pickle runs code."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from tasks.core.records import to_dict
from tasks.core.types import Served
from tasks.core.versions.registry import Registry


class Payload:
    """An object whose pickle runs code when it is loaded: it writes a file."""

    def __init__(self, marker: Path):
        self.marker = marker

    def __reduce__(self) -> tuple[Any, ...]:
        return Path.write_text, (self.marker, "your code ran")


def put_in_service(registry: Registry, served: Served) -> None:
    ledger = registry.ledger("loans")
    ledger.append(
        ledger.head(), "promoted", run="r", key="", actor="ann", reason="test", body={"served": to_dict(served)}
    )
