"""Where one model lives: its file, its data and its store. Small and cheap to open: tasks pass it around."""

from __future__ import annotations

import os
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

from tasks.core.ledger.ledger import Ledger
from tasks.core.spec import ModelSpec, load_spec
from tasks.core.store import Store
from tasks.core.versions.manifest import FORMS
from tasks.core.versions.own_code import make_importable
from tasks.core.versions.registry import Registry


@dataclass(frozen=True)
class Workspace:
    """`root` holds deployments/, data/ and artifacts/; `store` is a folder below it or a URL."""

    root: Path
    model: str
    store_location: str

    @classmethod
    def open(cls, root: str | Path | None, model: str) -> Workspace:
        """The root is by default the environment's ROR_ROOT, else the current folder; the store ROR_STORE, else
        `artifacts` below the root."""
        root = root_folder(root)
        return cls(root, model, os.environ.get("ROR_STORE") or str(root / "artifacts"))

    @cached_property
    def spec(self) -> ModelSpec:
        """The model's file. Its own code can be imported from here on."""
        spec = load_spec(self.root, self.model)
        make_importable(spec.folders(self.root))
        return spec

    @cached_property
    def registry(self) -> Registry:
        """The store, of which is loaded what the model's file allows."""
        pipeline = self.spec.pipeline
        forms = ("skops",) if pipeline.format == "skops" else FORMS
        return Registry(Store(self.store_location), forms=forms, types=pipeline.types)

    @property
    def ledger(self) -> Ledger:
        return self.registry.ledger(self.model)

    @property
    def data(self) -> Path:
        return self.root / "data" / self.model


def root_folder(root: str | Path | None) -> Path:
    """As it was named, else the environment's ROR_ROOT, else the current folder."""
    return Path(root or os.environ.get("ROR_ROOT") or ".").resolve()
