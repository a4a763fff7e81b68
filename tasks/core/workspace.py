"""Where models live: a project is a folder of them and their store, a workspace is one of them: its file, its data, its
versions and its history. Small and cheap to open: tasks pass them around."""

from __future__ import annotations

import os
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING

from tasks.core.errors import InvalidRequest
from tasks.core.ledger.ledger import Ledger
from tasks.core.ledger.state import State
from tasks.core.spec import MODEL_NAME, ModelSpec, load_spec, models
from tasks.core.store import Store
from tasks.core.types import Served
from tasks.core.versions.manifest import FORMS, Manifest
from tasks.core.versions.registry import Registry

if TYPE_CHECKING:
    from tasks.core.data.source import Source
    from tasks.core.types import Batch


@dataclass(frozen=True)
class Project:
    """What concerns all models: `root` holds deployments/ and data/; `store_location` is a folder or a URL."""

    root: Path
    store_location: str
    asked: str = field(default="", compare=False)
    """The root as it was asked for: absolute, with its links as they are. Empty where it was not."""

    @classmethod
    def open(cls, root: str | Path | None = None) -> Project:
        """The root is by default the environment's ROR_ROOT, else the current folder; the store ROR_STORE, else
        `artifacts` below the root."""
        given = root or os.environ.get("ROR_ROOT") or "."
        folder = Path(given).resolve()
        asked = os.path.abspath(given)  # noqa: PTH100 - links stay
        return cls(folder, os.environ.get("ROR_STORE") or str(folder / "artifacts"), asked)

    @property
    def models(self) -> list[str]:
        """Names of the models that have a file here, sorted."""
        return models(self.root)

    def require_models(self) -> list[str]:
        """Names of the models that have a file here, sorted. Raises InvalidRequest where there is none."""
        if found := self.models:
            return found
        where = (self.root / "deployments").resolve()
        raise InvalidRequest("root", [f"there are no models in {where}. `ror demo` makes one"])

    @property
    def known(self) -> list[str]:
        """Names of the models that have a file here or objects in the store, sorted. Raises StoreError."""
        stored = [name for name in Store(self.store_location).folders("") if MODEL_NAME.fullmatch(name)]
        return sorted({*self.models, *stored})

    @property
    def registry(self) -> Registry:
        """The versions of all models, to look at: what may be loaded of them, each model's own file says."""
        return Registry(Store(self.store_location))

    def workspace(self, model: str) -> Workspace:
        """One of its models; its file is read when it is first asked for."""
        return Workspace(self, model)


@dataclass(frozen=True)
class Workspace:
    """One model of a project."""

    project: Project
    model: str

    @classmethod
    def open(cls, root: str | Path | None, model: str) -> Workspace:
        """A model of the project that `Project.open` gives for this root."""
        return Project.open(root).workspace(model)

    @property
    def root(self) -> Path:
        """The project's folder, which holds deployments/ and data/."""
        return self.project.root

    @property
    def store_location(self) -> str:
        """The project's store: a folder or a URL."""
        return self.project.store_location

    @cached_property
    def spec(self) -> ModelSpec:
        """The model's file. Raises SpecError with every problem in it."""
        return load_spec(self.root, self.model)

    @cached_property
    def registry(self) -> Registry:
        """The store, of which is loaded what the model's file allows, with the code that it names."""
        spec, pipeline = self.spec, self.spec.pipeline
        forms = ("skops",) if pipeline.format == "skops" else FORMS
        store = Store(self.store_location)
        return Registry(store, forms=forms, types=pipeline.types, code=spec.folders(self.root))

    @property
    def ledger(self) -> Ledger:
        """The model's history."""
        return self.registry.ledger(self.model)

    def state(self) -> State:
        """What the history says now. Raises CorruptObject and SignatureError as `Ledger.head` does."""
        return self.ledger.head().state

    def manifest_of(self, served: Served) -> Manifest:
        """The record of a version that the history names. Raises NotFound, CorruptObject and SignatureError."""
        return self.registry.manifest_of(self.model, served)

    def in_service(self) -> Manifest | None:
        """The record of the version in service, None before there is one. Raises as `state` and `manifest_of` do."""
        current = self.state().current
        return self.manifest_of(current) if current else None

    def source(self, batch: Batch) -> Source:
        """A batch's rows, read as the model's file says. Raises UnreadableData and UnavailableData."""
        from tasks.core.data.source import Source

        return Source.of(self.root, self.spec, batch)

    @property
    def data(self) -> Path:
        """The folder with the model's data."""
        return self.root / "data" / self.model
