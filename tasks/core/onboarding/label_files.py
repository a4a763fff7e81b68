"""A label file looked at before it is copied: what of it a run would set aside, and what it would find nothing for."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pyarrow.compute as pc

from tasks.core.data.arrow import as_text, target_values
from tasks.core.data.files import find, label_files, named_batches
from tasks.core.data.keys import label_errors
from tasks.core.data.known_classes import ENOUGH, with_classes
from tasks.core.data.labels import Labels
from tasks.core.data.source import Source
from tasks.core.errors import DataError, NotFound, VerificationError
from tasks.core.run.labels import stray_labels
from tasks.core.run.matching import check_keys
from tasks.core.types import Batch
from tasks.core.workspace import Workspace


def look_at_labels(workspace: Workspace, file: Path) -> tuple[int, list[str]]:
    """How many rows a label file anywhere has, and what of it is strange: keys that no batch has or that have two
    labels, labels that are no class, one class only. Raises DataError for what a run would set aside."""
    root, spec = workspace.root, workspace.spec
    source = Source(file.parent, file.name, spec.data.csv)
    needed = [*spec.key_columns, spec.target]
    source.adopt(needed)
    if missing := [name for name in needed if name not in source.names]:
        near = "".join(source.nearly(name) for name in missing)
        raise DataError(f"{file}: column {' and '.join(map(repr, missing))} is missing, which labels need{near}.")
    state = workspace.state()
    found = named_batches(find(root, spec.data.batches, state.order), state.batches)
    batches = [Batch(name, path.relative_to(root).as_posix(), "") for name, path in found]
    earlier = [path for path in label_files(root, spec, state.order) if path != file]
    files = [*earlier, file]
    known = with_classes(root, spec, _in_service(workspace), batches, earlier)
    spec = known if known.classes else with_classes(root, spec, None, batches, files)
    own = Labels(root, spec, [file]).file(file)
    with label_errors(str(file)):
        values = target_values(own.values.drop_null(), spec.task, private=spec.target in spec.data.private)
    labels, _ = Labels.usable(root, spec, files)
    notes = [check.summary for check in stray_labels(labels, [own.path])]
    if spec.task != "regression" and len(values) >= ENOUGH and pc.count_distinct(own.values).as_py() == 1:
        what = "the same" if spec.target in spec.data.private else repr(as_text(own.values.drop_null())[0].as_py())
        notes.append(f"all {len(values):,} labels in {own.name} are {what}; rows that are in no file stay unlabelled")
    if batches:
        checks = check_keys(labels, batches, batches, [file], ()).checks
        notes += [check.summary for check in checks if check.subject == own.name]
    return len(own.values), notes


def _in_service(workspace: Workspace) -> Any:
    """The pipeline whose classes count; None where there is none that loads, of which a run says why."""
    try:
        return workspace.registry.load_current(workspace.model).pipeline
    except (NotFound, VerificationError):
        return None
