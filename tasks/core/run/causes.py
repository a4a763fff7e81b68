"""What a failure depended on, as a digest: what was set aside, failed or was refused is looked at again once that is
something else, and not before."""

from __future__ import annotations

import json
from collections.abc import Iterable

from tasks.core.ledger.state import State
from tasks.core.records import digest, installed_release
from tasks.core.run.kept import gone
from tasks.core.types import AttemptOutcome, Batch
from tasks.core.versions.environment import INFORMATIVE, MINOR
from tasks.core.versions.own_code import digests_of, libraries_of, texts_of
from tasks.core.workspace import Workspace


def looked_with(workspace: Workspace, state: State) -> str:
    """One digest for all that decides, beside its bytes, whether a batch is set aside: the model's file, the version
    in service and this release."""
    served = state.current.manifest if state.current else None
    return digest(json.dumps([workspace.spec.digest, served, installed_release()]).encode())


def settled(workspace: Workspace, state: State) -> set[str]:
    """Batches that were set aside and looked at with just what there is now."""
    if not state.causes:
        return set()
    now = looked_with(workspace, state)
    return {batch for batch, cause in state.causes.items() if cause.looked == now}


def trained_with(workspace: Workspace, state: State, batches: Iterable[Batch]) -> str:
    """One digest for all that decides, beside labels, how an attempt to train comes out: what the model's file says of
    it, own code and libraries, and which batches to learn from are gone or were altered."""
    spec = workspace.spec
    texts = texts_of([spec.pipeline.factory.partition(":")[0]], spec.folders(workspace.root))
    libraries = sorted({*libraries_of(texts), *MINOR, *INFORMATIVE})
    here = {batch.id: batch.sha256 for batch in batches}
    # A batch of this very run has no digest in the state yet.
    known = {name: state.batches[name].sha256 for name in state.usable}
    altered = [name for name, sha256 in known.items() if name in here and sha256 not in ("", here[name])]
    missing = [name for name in gone(spec, state, here) if name in known]
    releases = {name: installed_release(name) for name in libraries}
    # Earlier releases failed where a batch was gone, and had one list of both: what failed so is made again.
    depends = [spec.training_digest, digests_of(texts), releases, altered, *([missing] if missing else [])]
    return digest(json.dumps(depends).encode())


def is_mended(workspace: Workspace, state: State, batches: Iterable[Batch]) -> bool:
    """Whether the last attempt to train could come out otherwise now. What an earlier release refused says nothing of
    what it depended on; what failed there is made again."""
    attempt = state.attempt
    if attempt is None or attempt.outcome not in (AttemptOutcome.FAILED, AttemptOutcome.REFUSED):
        return False
    if not attempt.looked:
        return attempt.outcome is AttemptOutcome.FAILED
    return attempt.looked != trained_with(workspace, state, batches)
