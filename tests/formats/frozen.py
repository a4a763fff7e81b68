"""A frozen store: a model's root, what is to arrive next, and what was seen of it by the release that wrote it."""

from __future__ import annotations

import contextlib
import io
import json
import os
import shutil
import sys
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from unittest import mock

import pandas as pd

from flows.cli import app
from tasks.core.versions.loaded import LoadedVersion
from tasks.core.workspace import Workspace

FORMATS = Path(__file__).parent
ROWS = 5
"""Answers that are held for the version in service, of the first rows of the next batch."""


def stores() -> list[Path]:
    """Every frozen store of every format, `v1/signed` and the like."""
    return sorted(path.parent for path in FORMATS.glob("v*/*/root"))


@contextlib.contextmanager
def code_below(folder: Path) -> Iterator[None]:
    """Modules below a folder are forgotten at the end: the next store has others of these names."""
    before = [*sys.path]
    try:
        yield
    finally:
        sys.path[:] = before
        for name, module in [*sys.modules.items()]:
            if str(getattr(module, "__file__", None)).startswith(f"{folder}{os.sep}"):
                del sys.modules[name]


@dataclass(frozen=True)
class Frozen:
    """One store: `root/` as it was left, `next/` with files to be laid over it, `keys/` where it is signed."""

    folder: Path

    @property
    def root(self) -> Path:
        return self.folder / "root"

    @property
    def model(self) -> str:
        (spec,) = (self.root / "deployments").glob("*.toml")
        return spec.stem

    @property
    def expected(self) -> Mapping[str, Any]:
        return dict(json.loads((self.folder / "expected.json").read_text()))

    @contextlib.contextmanager
    def keys(self, *, sign: bool = True, required: bool = True) -> Iterator[None]:
        """Trust the key of a store that is signed: sign with it, and refuse what is not signed."""
        public, private = self.folder / "keys/public.pem", self.folder / "keys/private.pem"
        names = {}
        if public.exists():
            names = {"ROR_TRUSTED_KEYS": str(public), "ROR_REQUIRE_SIGNATURE": str(int(required))}
            names |= {"ROR_SIGNING_KEY": str(private)} if sign else {}
        with mock.patch.dict(os.environ, names):
            yield

    def ror(self, *words: str, **keys: bool) -> tuple[int, Any]:
        """`ror ... --json` in this process: its exit code and what it said, None where that is no JSON."""
        said, code = io.StringIO(), 0
        arguments = ["ror", *words, "--root", str(self.root), "--json"]
        with self.keys(**keys), mock.patch.object(sys, "argv", arguments), contextlib.redirect_stdout(said):
            try:
                app.main()
            except SystemExit as ended:
                code = int(ended.code or 0)
        try:
            return code, json.loads(said.getvalue())
        except json.JSONDecodeError:
            return code, None

    def answer(self, *words: str) -> Any:
        """The same of a command that must succeed."""
        code, said = self.ror(*words)
        assert code == 0, f"ror {' '.join(words)} ended with {code}: {said}"
        return said

    def deliver(self) -> None:
        """What is to arrive next arrives."""
        shutil.copytree(self.folder / "next", self.root, dirs_exist_ok=True)

    # --- what is seen of it ---

    def seen(self) -> dict[str, Any]:
        """What looking says: nothing is loaded for it, so it is the same in every environment."""
        verified, status = self.answer("verify", self.model), self.answer("status", self.model)
        fields = ("version", "outcome", "waiting", "barred", "blocked", "suspect", "quarantined", "accepted", "snoozed",
                  "pending_batches", "trained_on", "metrics")  # fmt: skip
        return {
            "verify": {name: verified[name] for name in ("ok", "objects", "versions", "events", "head", "signed")},
            "status": {name: status[name] for name in fields},
            "history": [
                [entry[name] for name in ("seq", "event", "outcome", "version", "actor")]
                for entry in self.answer("history", self.model)
            ],
        }

    @property
    def policy_version(self) -> int:
        """Of the rules that took the last decision."""
        last = max(seq for seq, event, *_ in self.expected["seen"]["history"] if event == "decided")
        path = self.root / f"artifacts/{self.model}/ledger/{last:08d}.json"
        return int(json.loads(path.read_text())["body"]["policy_version"])

    def current(self) -> LoadedVersion:
        """The version in service, verified. Raises as `Registry.load_current` does."""
        with self.keys():
            return Workspace.open(self.root, self.model).registry.load_current(self.model)

    def answers(self) -> list[Any]:
        """What the version in service answers to the first rows of the next batch: probabilities, or predictions."""
        (batch,) = (self.folder / "next/data" / self.model / "batches").glob("*")
        rows = pd.read_parquet(batch) if batch.suffix == ".parquet" else pd.read_csv(batch, sep=";", decimal=",")
        predicted = self.current().predict(rows.head(ROWS))
        return list((predicted.values if predicted.probabilities is None else predicted.probabilities).tolist())

    def decided(self) -> dict[str, Any]:
        """What a run decides, of what is there now."""
        _, said = self.ror("run", self.model)
        return {name: said[name] for name in ("outcome", "action", "version", "decided_now")}
