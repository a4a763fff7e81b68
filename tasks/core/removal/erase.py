"""Erasing a key: a person's rows go from data, samples and reports, on record, and the record does not name the key.

In this order, so that a kill leaves either nothing done or an erasure on record that the same command completes:
everything is written beside what it will replace; one event says what; then files are swapped and originals removed.
The version in service loads at every moment.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator

from tasks.core.data.files import is_unchanged
from tasks.core.errors import InvalidRequest, LeaseHeld, LedgerConflict, RorError, SpecError, StoreError
from tasks.core.ledger.lease import Lease
from tasks.core.overrides import BY_HAND, check_words
from tasks.core.predictions import predictions_path
from tasks.core.removal.erase_files import ERASED, whole_word
from tasks.core.removal.erase_plan import Erasure, plan_of
from tasks.core.workspace import Workspace


def erase(workspace: Workspace, key: str, *, reason: str, actor: str, dry_run: bool = False) -> Erasure:
    """Erase the rows of one key wherever this model holds them; of a key of several columns the first one says whose
    a row is.

    Under the lease: no run reads what is being replaced, or registers a version that was trained on it. Raises
    SpecError for a model without a key column, InvalidRequest for a reason or an actor that contains the key and for a
    key that is not found, LedgerConflict while a run is at work, DataError for a file that cannot be rewritten safely,
    StoreError.
    """
    check_words(reason, actor)
    key = key.strip()
    if not workspace.spec.key_columns:
        raise SpecError(workspace.model, ["it has no `key`: rows of one person cannot be found"])
    if not key:
        raise InvalidRequest("key", ["must not be empty"])
    for name, value in (("reason", reason), ("actor", actor)):
        if whole_word(key).search(value):
            raise InvalidRequest(name, ["must not contain the key: the history keeps it, and is never changed"])
    plan = plan_of(workspace, key)
    if not plan.places and not plan.remains.removed:
        nowhere = f"not found in anything that {workspace.model} keeps; nothing was written"
        raise InvalidRequest("key", [nowhere, *plan.stays, *plan.unknown])
    if dry_run:
        return plan.result(None)
    try:
        with Lease(workspace.ledger, run=BY_HAND, key="", actor=actor, reason=reason) as lease, _redact_key(key):
            _complete(workspace)
            plan = plan_of(workspace, key)
            seq = None
            if plan.places:
                plan.prepare()
                seq = lease.record(plan.body).seq
            plan.carry_out()
            lease.give_back()
    except LeaseHeld as other:
        raise LedgerConflict(f"{other} Nothing was erased; wait for it, and run this again.") from None
    finally:
        plan.clean_up()
    workspace.registry.forget(workspace.model)
    return plan.result(seq)


@contextlib.contextmanager
def _redact_key(key: str) -> Iterator[None]:
    """What goes wrong is noted in the history, too: libraries quote rows, and files may be called by the key."""
    try:
        yield
    except Exception as error:
        if not whole_word(key).search(str(error)):
            raise
        said = whole_word(key).sub(ERASED, str(error))
        if not isinstance(error, RorError):
            raise StoreError(said) from None
        error.args = (said,)
        raise


def _complete(workspace: Workspace) -> None:
    """Raises LedgerConflict while predictions of the last decision are still to be written, from data as they are."""
    decided = workspace.state().decided
    if decided is None:
        return
    record = workspace.ledger.decision(decided.seq)
    for batch in record.window if record.in_service else ():
        if not predictions_path(workspace, batch).exists() and is_unchanged(workspace.root, batch):
            raise LedgerConflict(
                f"Predictions for {batch.id} are not written yet: a run is in progress, or was killed. Nothing was "
                f"erased; `ror run {workspace.model}` completes it, then run this again."
            )
