"""A verified version in memory, ready to predict."""

from __future__ import annotations

import json
import logging
from collections.abc import Mapping
from dataclasses import dataclass, replace
from functools import cached_property
from typing import TYPE_CHECKING, Any

from tasks.core.versions.manifest import Manifest, predicts, read_parquet

if TYPE_CHECKING:
    import pandas as pd

    from tasks.core.schema.contract import Contract
    from tasks.core.versions.persistence import Predictions
    from tasks.core.versions.registry import Registry

log = logging.getLogger(__name__)


@dataclass(frozen=True, repr=False)
class LoadedVersion:
    """A verified version, ready to predict."""

    model: str
    version: int
    digest: str
    manifest: Manifest
    contract: Contract
    pipeline: Any
    notes: tuple[str, ...]
    """What differs from where it was made, and does not change its known answers."""
    from_record: tuple[str, ...]
    """Modules of its own that were imported as recorded, because they are not here or have changed."""
    _registry: Registry

    def __repr__(self) -> str:
        return f"<{self.model} v{self.version}, sha256 {self.digest[:12]}>"  # for logs: the record is pages long

    def predict(self, frame: pd.DataFrame) -> Predictions:
        """Answers for a frame that satisfies the contract; they name the version, and so does the log (at INFO).

        Raises DataError naming every violation, or saying how the pipeline failed.
        """
        from tasks.core.schema import frames
        from tasks.core.versions import persistence

        inputs = frames.conform(self.contract, frame)
        answers = persistence.predict(self.pipeline, inputs, private=self.contract.private)
        log.info("%s v%d predicted %d rows", self.model, self.version, len(inputs))
        return replace(answers, version=self.version)

    def refresh(self) -> LoadedVersion:
        """The version that is in service now: this very object as long as it is the one.

        Costs one look at the newest entry of the history. Raises as `Registry.load_current` does; until it succeeds,
        this version goes on to predict.
        """
        state = self._registry.ledger(self.model).head().state
        if state.current and (state.current.version, state.current.manifest) == (self.version, self.digest):
            return self
        return self._registry.load_in_service(self.model, state, whole=False)

    @cached_property
    def rest(self) -> Mapping[str, bytes]:
        """The files that predicting does not need, by name: read and verified when one of them is first used.

        Raises CorruptObject, NotFound or StoreError.
        """
        return {name: self._registry.file(self.manifest, name) for name in self.manifest.files if not predicts(name)}

    @cached_property
    def reference(self) -> pd.DataFrame:
        """A sample of the training data, shape (rows, columns). Raises as `rest` does."""
        return read_parquet(self.rest["reference.parquet"])

    @cached_property
    def calibration(self) -> Mapping[str, Any]:
        """What drift of each column is measured against, by column. Raises as `rest` does."""
        return dict(json.loads(self.rest["calibration.json"]))
