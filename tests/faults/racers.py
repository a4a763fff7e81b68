"""What several processes do to one store at once. Light, for each of them imports it anew."""

from __future__ import annotations

import os
import pickle
import signal
from pathlib import Path
from typing import Any

from tasks.core import overrides
from tasks.core.errors import LedgerConflict, SpecError
from tasks.core.ledger.lease import Lease
from tasks.core.versions.registry import Registry
from tasks.core.workspace import Workspace

MODEL = "loans"


def register(root: Path, racer: int, times: int, together: Any, say: Any) -> None:
    """Register the stored candidate so many times; says the numbers."""
    registry, candidate = Registry(root / "artifacts"), pickle.loads((root / "candidate.pickle").read_bytes())
    together.wait(60)
    say.put([registry.register(MODEL, f"{racer}-{each}", candidate)[0] for each in range(times)])


def promote(root: Path, racer: int, rounds: int, together: Any, say: Any) -> None:
    """In each round put another version in service, believing that the one of the round before still is."""
    workspace = Workspace.open(root, MODEL)
    for number in range(rounds):
        together.wait(60)
        current = workspace.ledger.head().state.current
        together.wait(60)
        believed = current.version if current else 0
        mine = racer + 1 if racer + 1 != believed else 9
        try:
            overrides.promote(workspace, mine, reason="mine", actor=f"racer {racer}", expected=believed)
            say.put((number, mine))
        except (LedgerConflict, SpecError) as error:
            say.put((number, str(error)))


def die_at_work(root: Path) -> None:
    """Take the lease, for ten minutes, and be killed."""
    with Lease(Workspace.open(root, MODEL).ledger, run="the dead run", key="k", actor="tests", reason=""):
        os.kill(os.getpid(), signal.SIGKILL)
