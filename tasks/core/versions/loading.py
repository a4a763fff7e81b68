"""Files of a version, whose digests were checked, to a pipeline that gives its known answers.

A version in the store and a candidate that is not in it yet (`tasks.core.training.proof`) come to life by the same
steps.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from contextlib import nullcontext
from typing import TYPE_CHECKING, Any

from tasks.core.errors import CODE_OF_USERS, RorError, VerificationError
from tasks.core.records import from_json
from tasks.core.schema import frames
from tasks.core.schema.contract import Contract
from tasks.core.versions import persistence
from tasks.core.versions.configuration import changed, put_back
from tasks.core.versions.manifest import read_parquet
from tasks.core.versions.namespaces import Namespace, belongs, settings_set

if TYPE_CHECKING:
    import pandas as pd


def revive(
    files: Mapping[str, bytes],
    form: str,
    what: str,
    types: Sequence[str] = (),
    *,
    exact: bool,
    namespace: Namespace | None = None,
    settings: Mapping[str, Any] | None = None,
) -> tuple[Contract, Any]:
    """Input schema and pipeline, once the known answers were given again, by the modules of this namespace and under
    these settings of scikit-learn.

    Raises CorruptObject, UntrustedTypes, ProbeMismatch, or VerificationError where the bytes cannot be deserialized
    here.
    """
    contract = from_json(Contract, files["contract.json"], f"{what} contract.json")
    try:
        with namespace.at_work() if namespace else nullcontext(), put_back():
            before = changed()
            pipeline = persistence.load(files[f"pipeline.{form}"], form, types)
            found = settings_set(before)
        belongs(pipeline, namespace, {**found, **(settings or {})})
    except RorError:
        raise
    except CODE_OF_USERS as error:
        raise VerificationError(
            f"{what}: the pipeline could not be deserialized in this environment: {error!r}"
        ) from error
    answer(pipeline, contract, read_parquet(files["probe.parquet"]), what, exact=exact)
    return contract, pipeline


def answer(pipeline: Any, contract: Contract, probe: pd.DataFrame, what: str, *, exact: bool) -> None:
    """Ask for the known answers. Raises ProbeMismatch where others come, or none."""
    if len(probe):  # all of them may have been erased
        inputs = frames.conform(contract, probe)
        persistence.replay_probe(pipeline, probe, inputs, what, exact=exact, contract=contract)
