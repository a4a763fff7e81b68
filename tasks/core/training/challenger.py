"""A challenger: fitted, compared, and ready to be registered."""

from __future__ import annotations

import contextlib
import sys
import time
from collections.abc import Collection, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import pandas as pd

from tasks.core.checks.calibration import TARGET
from tasks.core.checks.declared import refuse_unknown
from tasks.core.data.files import find
from tasks.core.data.rows import LabelledRows, target_of
from tasks.core.errors import DataError
from tasks.core.records import to_dict
from tasks.core.schema.dtypes import as_seen
from tasks.core.schema.frames import conform
from tasks.core.spec import ModelSpec
from tasks.core.text import named
from tasks.core.training.choice import settle
from tasks.core.training.company import OTHERS, refuse_company
from tasks.core.training.doubt import doubts, with_doubts
from tasks.core.training.factory import is_default
from tasks.core.training.fit import CalibratedFit, fit
from tasks.core.training.gate import Champion, compare, rival_of
from tasks.core.types import Gate
from tasks.core.versions import namespaces, opened, persistence
from tasks.core.versions.environment import environment_of
from tasks.core.versions.manifest import Candidate, TrainingFile
from tasks.core.versions.own_code import texts_of
from tasks.core.versions.steps import idle_steps

UNSEEN = "a category that no training data had"


@dataclass(frozen=True)
class Challenger:
    """A fitted pipeline and the gate's verdict on it."""

    candidate: Candidate
    gate: Gate


def train(
    root: Path,
    spec: ModelSpec,
    history: Sequence[LabelledRows],
    champion: Champion | None,
    action: str,
    reasons: Sequence[str],
    known: Collection[str] = (),
    *,
    labelled: int | None = None,
    missing: Sequence[str] = (),
    threads: int | None = None,
) -> Challenger:
    """Fit on all labelled history but the gate's rows, compare with the champion on those, and collect the record.

    `labelled` are the labelled batches there were, where they were more than those of the history; `missing` names
    those that would belong to it and are gone. `threads` are those that this process has set, for the record.
    What is too good to be true stands behind the gate's reason, but for the columns, or the target, in `known`.
    Raises TrainingError when the pipeline cannot be fitted, DataError when the data contradict their own contract,
    SpecError, before anything is fitted, with all that the model's file names and the data do not have.
    """
    refuse_unknown(root, spec, history)
    with opened.noted() as paths, namespaces.at_work(spec.folders(root), spec.pipeline.factory):
        challenger = _train(root, spec, history, champion, action, reasons, known)
        if namespace := namespaces.active():
            namespace.read(opened.beside(paths, spec.folders(root)))
    candidate = challenger.candidate
    data_end = len(history) if labelled is None else labelled
    manifest = {**candidate.manifest, "data_end": data_end, "missing": tuple(missing), "threads": threads}
    return replace(challenger, candidate=replace(candidate, manifest=manifest, opened=frozenset(paths)))


def with_files(candidate: Candidate, root: Path, spec: ModelSpec, asked: Collection[str]) -> Candidate:
    """The candidate with a record of the files that its fit opened, and of those that a process that only `asked` it
    had to open: what of these lies beside its code is kept with it."""
    data = [*find(root, spec.data.batches), *(find(root, spec.data.labels) if spec.data.labels else ())]
    files = opened.beside(asked, spec.folders(root))
    others = {*candidate.opened, *asked} - {str(path) for path in files.values()}
    read = opened.below(others, root, data)
    environment = replace(candidate.environment, files=opened.digests_of(files), read=opened.digests_of(read))
    return replace(candidate, environment=environment, beside=opened.kept(files))


def _train(
    root: Path,
    spec: ModelSpec,
    history: Sequence[LabelledRows],
    champion: Champion | None,
    action: str,
    reasons: Sequence[str],
    known: Collection[str],
) -> Challenger:
    started, code = time.monotonic(), spec.folders(root)
    spec, choice = settle(spec, history, champion.manifest if champion else None)
    fitted = fit(spec, history, first=champion is None)
    if spec.pipeline.rows == "alone" and not is_default(spec):  # which is known not to look at other rows
        contract, hidden = fitted.contract, spec.target in spec.data.private
        rows, others = as_seen(contract, fitted.asked), as_seen(contract, fitted.sample[contract.names].iloc[:OTHERS])
        refuse_company(fitted.pipeline, rows, others, private=contract.private, hidden=hidden)
    training, truth = fitted.training, target_of(fitted.training.gate)
    rival = rival_of(spec, training, fitted.target, champion)
    gate, metrics, rival_metrics = compare(spec, fitted.answers, truth, rival)
    gate = replace(gate, reason="; ".join([gate.reason, *_idle(spec, fitted)]))
    gate = replace(gate, reason=with_doubts(gate.reason, _doubts(spec, fitted, truth), known))
    saved = persistence.dump(fitted.pipeline, spec.pipeline.format)
    if spec.pipeline.format == "skops":
        persistence.check_types(saved.data, spec.pipeline.types)
    candidate = Candidate(
        pipeline=saved.data,
        form=spec.pipeline.format,
        contract=fitted.contract,
        reference=fitted.reference,
        probe=persistence.make_probe(fitted.pipeline, _probe(fitted), contract=fitted.contract),
        calibration={name: to_dict(column) for name, column in fitted.calibration.items()},
        evaluation={
            "metrics": to_dict(metrics),
            "rival": gate.against,
            "rival_metrics": to_dict(rival_metrics),
            "gate": to_dict(gate),
            "importance": fitted.importance,
        },
        environment=replace(
            environment_of(saved.modules, root, code), configuration=namespaces.settings_of(fitted.pipeline)
        ),
        sources=texts_of([*saved.modules, spec.pipeline.factory.partition(":")[0]], code),
        manifest={
            "parent": champion.manifest.version if champion else None,
            "factory": spec.pipeline.factory,
            "parameters": dict(spec.pipeline.parameters),
            "spec": spec.recorded(),
            "seed": spec.seed,
            "training": [
                TrainingFile(
                    part.batch.id,
                    part.batch.path,
                    part.batch.sha256,
                    part.labels,
                    len(part.rows),
                    held_out=any(part.batch == other.batch for other in training.gate),
                )
                for part in training.learn
            ],
            "metrics": metrics,
            "champion_metrics": rival_metrics if rival and rival.version is not None else {},
            "gate": gate,
            "action": action,
            "reasons": list(reasons),
            "duration_seconds": round(time.monotonic() - started, 2),
            "peak_memory_mb": _peak_memory(),
            "choice": choice,
        },
    )
    return Challenger(candidate, gate)


def _idle(spec: ModelSpec, fitted: CalibratedFit) -> list[str]:
    """Steps that nothing reaches, which nobody would notice otherwise. The default pipeline has one for numbers and one
    for names, whatever columns there are."""
    found = [] if is_default(spec) else idle_steps(fitted.pipeline)
    if not found:
        return []
    advice = "see which names and types are asked for"
    if spec.pipeline.frames == "plain":
        advice = 'numbers are float64 and names text here: [pipeline] frames = "pandas" gives int64, bool and category'
    return [f"{named(found)} {'select' if len(found) > 1 else 'selects'} no column ({advice})"]


def _doubts(spec: ModelSpec, fitted: CalibratedFit, truth: np.ndarray) -> list[str]:
    """What is too good to be true about the training rows, and about the answers on the gate's rows."""
    features, learned = fitted.sample[fitted.contract.names], fitted.sample[TARGET].to_numpy()
    return doubts(spec, features, learned, fitted.answers, truth)


def _probe(fitted: CalibratedFit) -> pd.DataFrame:
    """Input rows whose answers are stored: a sample of the training rows, one row with nothing in it and one of
    categories that training never saw. Where other libraries begin to differ, it is on such rows.

    A pipeline that cannot answer one of the two is not asked for it.
    """
    contract, rows = fitted.contract, fitted.asked
    probe = conform(contract, rows)
    empty, unseen = rows.iloc[:1].astype(object), rows.iloc[:1].astype(object)
    empty[:] = None
    unseen[[column.name for column in contract.features if column.kind == "category"]] = UNSEEN
    for row in (empty, unseen):
        with contextlib.suppress(DataError):
            longer = conform(contract, pd.concat([probe.astype(object), row]).infer_objects())
            persistence.predict(fitted.pipeline, longer, contract=contract)
            probe = longer
    return probe


def _peak_memory() -> float:
    """Of this process so far, in MB."""
    try:
        import resource
    except ImportError:  # Windows
        import psutil

        memory = psutil.Process().memory_info()
        return round(getattr(memory, "peak_wset", memory.rss) / 2**20, 1)
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return round(peak / (2**20 if sys.platform == "darwin" else 2**10), 1)
