"""What there is to train on, and whether what is trained could be judged."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from tasks.core.data.known_classes import with_classes
from tasks.core.data.labels import Labels
from tasks.core.data.rows import LabelledRows, labelled_rows
from tasks.core.errors import DataError
from tasks.core.ledger.state import State
from tasks.core.ledger.transitions import with_labels
from tasks.core.run.kept import looked_at
from tasks.core.run.work import Work
from tasks.core.spec import ModelSpec
from tasks.core.text import counted, named
from tasks.core.training.gate import Champion, unjudged
from tasks.core.training.holdout import GATE_BATCHES, GATE_ROWS, HOLDOUT_EVERY
from tasks.core.types import TOO_SMALL, Action, Decision, Labelled, Rule
from tasks.core.workspace import Workspace

PLENTY = 2 * HOLDOUT_EVERY * GATE_ROWS
"""Labelled rows that the version in service has not seen, of which the gate gets enough, whatever chance says: no file
is read to count them."""


def judgeable(
    workspace: Workspace, state: State, work: Work, labelled: Sequence[Labelled], decision: Decision
) -> Decision:
    """The decision, or a hold in place of a retrain that no comparison could put in service: it says what is missing.

    What a person asks for by hand is made: they look at it, and may promote it.
    """
    if decision.action is not Action.RETRAIN or decision.rule is Rule.BY_HAND or state.current is None:
        return decision
    champion, forgetting = workspace.manifest_of(state.current), workspace.spec.policy.forgetting
    after = with_labels(state, labelled, decision)
    kept = after.usable[-min(GATE_BATCHES, forgetting.window or GATE_BATCHES) :]
    seen = {file.batch for file in champion.training}
    if sum(after.batches[name].labelled_rows for name in kept if name not in seen) >= PLENTY:
        return decision
    try:
        history = training_rows(workspace, work, kept)
    except DataError:
        return decision  # the attempt to train says what is wrong
    found = unjudged(history, forgetting, champion)
    if found is None:
        return decision
    rows, size, more = found
    if more is None:
        ask = f"`ror run {workspace.model} --action retrain --reason '...'`"
        missing = (
            f"batches of about {size:,.0f} labelled rows {TOO_SMALL}: the newest keep {rows} rows that "
            f"v{state.current.version} has not seen, and {GATE_ROWS} are needed. Deliver larger ones, such as a week "
            f"in place of a day; or have one made by hand, {ask}, look at it, and promote it"
        )
    else:
        missing = (
            f"a new version could not be judged yet: {rows} of {GATE_ROWS} rows that v{state.current.version} has not "
            f"seen are kept for that; about {counted(more, 'more batch', 'more batches')} will bring them"
        )
    return replace(decision, action=Action.HOLD, reasons=(missing, *decision.reasons))


def training_labels(workspace: Workspace, work: Work, champion: Champion | None) -> Labels:
    """The labels to train on, of the classes that count while this champion is in service."""
    pipeline = getattr(champion, "pipeline", None)  # a version that does not load here has none
    spec = with_classes(workspace.root, workspace.spec, pipeline, work.batches, work.labels)
    return Labels.usable(workspace.root, spec, work.labels, work.owners, trusted=work.trusted)[0]


def absent(spec: ModelSpec, work: Work, usable: Sequence[str]) -> list[str]:
    """Batches that a fit would look at, in time order, and whose files are gone."""
    here = {batch.id for batch in work.batches}
    return [batch for batch in looked_at(spec, usable) if batch not in here]


def training_rows(
    workspace: Workspace, work: Work, usable: Sequence[str], labels: Labels | None = None
) -> list[LabelledRows]:
    """Labelled rows of the usable batches that a fit looks at, to train on, but for those that are `absent`. Raises
    DataError when one changed its bytes, or none is left."""
    labels = labels or training_labels(workspace, work, None)
    wanted = looked_at(workspace.spec, usable)
    on_disk = {batch.id: batch for batch in work.batches}
    altered = {batch.id for batch in work.altered}
    if changed := [batch for batch in wanted if batch in altered]:
        raise DataError(
            f"Cannot train: {named(changed)} changed after being decided on. Restore the original bytes: nothing is "
            "learned from others under a known name."
        )
    there = [on_disk[batch] for batch in wanted if batch in on_disk]
    if wanted and not there:
        raise DataError(f"Cannot train: of {counted(len(wanted), 'labelled batch', 'labelled batches')} none is there.")
    parts = [labelled_rows(workspace.root, batch, labels, workspace.spec.task) for batch in there]
    labelled = [part for part in parts if len(part.rows)]  # all labels of a batch may have been withdrawn
    if parts and not labelled:
        raise DataError("Cannot train: no batch has labels any more. What is said of label files and keys tells why.")
    return labelled
