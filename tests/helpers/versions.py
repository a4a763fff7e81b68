"""Versions put in service, one whose pickle runs code, and a record without a version."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from tasks.core.ledger.events import Promoted
from tasks.core.types import Gate, Metric, Served, Verdict
from tasks.core.versions.manifest import Manifest
from tasks.core.versions.registry import Registry

GATE = Gate(Verdict.PASS, "better than v1 by 0.02 a row", 223, -0.02, 0.01, "v1", 0.0493)


class Payload:
    """An object whose pickle runs code when it is loaded: it writes a file."""

    def __init__(self, marker: Path):
        self.marker = marker

    def __reduce__(self) -> tuple[Any, ...]:
        return Path.write_text, (self.marker, "your code ran")


def put_in_service(registry: Registry, served: Served) -> None:
    ledger = registry.ledger("loans")
    ledger.append(ledger.head(), Promoted(served), run="r", key="", actor="ann", reason="test")


def make_manifest(version: int, **changes: Any) -> Manifest:
    """The record of a version of `loans`; `changes` replace its fields."""
    values: dict[str, Any] = {
        "format_version": 1, "model": "loans", "version": version, "run_key": "k", "parent": version - 1,
        "created": "2026-11-24T09:00:00+00:00", "files": {}, "factory": "f:f", "parameters": {}, "spec": {}, "seed": 0,
        "training": (), "data_end": 3, "metrics": {"loss": Metric(0.1694, 0.136, 0.2027, 223)},
        "champion_metrics": {"loss": Metric(0.1927, None, None, 223)}, "gate": GATE, "action": "retrain",
        "reasons": ("the data drifted: a_b moved",), "environment": {}, "duration_seconds": 1.0, "peak_memory_mb": 1.0,
    }  # fmt: skip
    return Manifest(**{**values, **changes})
