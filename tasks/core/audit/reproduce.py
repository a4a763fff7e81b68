"""Train a recorded version again from its record, compare what both predict, and write a receipt.

The record is the manifest: specification, seed, factory, parameters, and digests of the training files and of the
labels that were joined to them. What is not what it was is listed; then nothing is trained.
"""

from __future__ import annotations

import io
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from tasks.core import layout
from tasks.core.audit import removals
from tasks.core.audit.removals import Removal
from tasks.core.audit.training_record import cannot, recorded_holdout, recorded_manifest, recorded_training_rows
from tasks.core.checks import performance
from tasks.core.data.files import atomic_write
from tasks.core.data.rows import target_of
from tasks.core.errors import DataError, NotFound, RorError, SpecError, TrainingError, VerificationError
from tasks.core.ledger.events import last_state
from tasks.core.records import digest, to_json
from tasks.core.schema.contract import Contract
from tasks.core.schema.frames import conform
from tasks.core.spec import ModelSpec, parse_spec
from tasks.core.training.fit import FittedPipeline, learn_apart
from tasks.core.training.holdout import TrainingSet, features_of
from tasks.core.types import Served
from tasks.core.versions import namespaces, persistence
from tasks.core.versions.environment import Environment, environment_of, recorded_in
from tasks.core.versions.loaded import LoadedVersion
from tasks.core.versions.manifest import MANIFEST, PROBE, Manifest, training_digest
from tasks.core.versions.own_code import even, texts_of
from tasks.core.versions.persistence import PREDICTION, PROBABILITY, Predictions
from tasks.core.versions.threads import use
from tasks.core.workspace import Workspace

IDENTICAL, CLOSE, DIFFERENT = "identical", "within 1e-9", "different"
SEEDS = ("random_state", "random_seed", "seed")
"""What scikit-learn and those beside it call a seed."""
RELATIVE, ABSOLUTE = 1e-9, 1e-12
"""Tolerances of `within 1e-9`: those of the known answers on another platform."""


@dataclass(frozen=True, slots=True)
class Compared:
    """What the version answers on some rows, and what the newly trained pipeline does."""

    what: str
    """`known answers` or `gate rows`."""
    against: str
    """`the stored pipeline`, or `recorded answers` where that does not load here."""
    rows: int
    verdict: str
    stored: str
    """sha256 of the version's answers, column by column."""
    fresh: str
    """The same of the new ones."""
    column: str | None = None
    """The answer that differs most: `prediction`, or `probability of <class>`."""
    largest: float | None = None
    """The largest absolute difference; None for answers that are no numbers."""
    rows_different: int = 0


@dataclass(frozen=True, slots=True)
class Receipt:
    """The outcome of one reproduction."""

    model: str
    version: int
    manifest: str
    """sha256 of the version's manifest."""
    verdict: str
    """`identical`, `within 1e-9` or `different`."""
    message: str
    at: str
    """When it was done, UTC."""
    compared: tuple[Compared, ...]
    metrics: Mapping[str, float]
    """Of the new pipeline on the gate's rows."""
    metrics_then: Mapping[str, float]
    """As the manifest records them."""
    training: str
    """One digest of the training data: of the files and of the labels joined to them."""
    rows: int
    """Rows that were trained on."""
    seconds: float
    threads: tuple[Mapping[str, Any], ...]
    """Thread pools of numerical libraries: name, version, number of threads."""
    environment_then: Environment
    environment_now: Environment
    differences: tuple[str, ...] = ()
    """What else than the predictions is not as it was: libraries, platform, source code."""
    notes: tuple[str, ...] = ()
    """What else is worth knowing: labels that were put together again, a stored pipeline that does not load here."""

    @property
    def same(self) -> bool:
        """Whether the answers are the same, or differ by less than another platform may make them."""
        return self.verdict in (IDENTICAL, CLOSE)


def reproduce(workspace: Workspace, version: int) -> tuple[Receipt, Path]:
    """Train a version again, with as many threads as then; the receipt, and where it was written.

    Raises InvalidRequest for a version that does not exist, VerificationError when its record or its training data are
    not what they were (all of it is listed) or it cannot be trained here any more, StoreError.
    """
    started, now = time.monotonic(), datetime.now(UTC)
    events = {event.seq: event for event in workspace.ledger.events()}
    manifest, sha256 = recorded_manifest(workspace, version, events)
    stored, why_not = _stored(workspace, last_state(events).as_known(Served(version, sha256, 0)))
    removed = removals.removals(events, workspace.model)
    try:
        spec = parse_spec(dict(manifest.spec), f"{workspace.model} v{version}")
        code = spec.folders(workspace.root)
        history, notes = recorded_training_rows(workspace, spec, manifest, events)
        if manifest.threads:
            use(manifest.threads)
        with namespaces.at_work(code, spec.pipeline.factory):
            training, learned = learn_apart(spec, history, recorded_holdout(manifest, history))
            compared, fresh = _compare(workspace, spec, manifest, training, learned, stored, removed)
            modules = persistence.dump(learned.pipeline, spec.pipeline.format).modules
    except (DataError, SpecError, TrainingError) as error:
        raise VerificationError(cannot(workspace, version, [f"training fails here: {error}"])) from error
    if why_not:
        notes.append(f"the stored pipeline was not compared, because it does not load here: {why_not}")
    if not compared:
        folder = layout.version_folder(workspace.model, version)
        gone = [f"{path} was {item.words}" for path, item in removed.items() if path.startswith(f"{folder}/")]
        problems = [f"nothing is left to compare with: {why_not or 'there are no rows'}", *gone]
        raise VerificationError(cannot(workspace, version, problems))
    then = recorded_in(manifest.environment, f"{manifest.folder}/{MANIFEST}")
    here = environment_of(modules, workspace.root, code)
    verdict = max((item.verdict for item in compared), key=[IDENTICAL, CLOSE, DIFFERENT].index)
    if verdict != IDENTICAL and (unseeded := seedless(learned.pipeline)):
        notes.append(
            f"nothing seeds {', '.join(unseeded)}: each fit may be another one. A factory is given the model's seed, "
            "`def build(seed)`, to hand on as `random_state=seed`"
        )
    receipt = Receipt(
        model=workspace.model,
        version=version,
        manifest=sha256,
        verdict=verdict,
        message=_message(workspace.model, version, verdict, compared),
        at=now.isoformat(timespec="seconds"),
        compared=tuple(compared),
        metrics=_metrics(spec, fresh, training),
        metrics_then={name: metric.value for name, metric in manifest.metrics.items()},
        training=training_digest(manifest),
        rows=sum(len(part.rows) for part in training.learn),
        seconds=round(time.monotonic() - started, 2),
        threads=tuple(_threads()),
        environment_then=then,
        environment_now=here,
        differences=(
            *_differences(then, here),
            *_own_code(workspace, manifest, texts_of([*modules, spec.pipeline.factory.partition(":")[0]], code)),
            *_schema(learned, stored),
        ),
        notes=tuple(notes),
    )
    return receipt, _write(workspace, receipt, now)


def details(receipt: Receipt) -> Iterator[str]:
    """What else a person must know, one line each."""
    for item in receipt.compared:
        yield f"{item.what}: {_how(item)}, {item.rows:,} rows, compared with {item.against}."
    for name in sorted({*receipt.metrics, *receipt.metrics_then}):
        now, then = receipt.metrics.get(name), receipt.metrics_then.get(name)
        yield f"{name} on the gate's rows: {_number(now)}, recorded {_number(then)}."
    threads = ", ".join(f"{pool['library']} {pool['threads']}" for pool in receipt.threads) or "unknown"
    yield f"{receipt.rows:,} rows trained on in {receipt.seconds:.1f} s; threads: {threads}."
    for text in (*receipt.differences, *receipt.notes):
        yield f"{text[0].upper()}{text[1:].rstrip('.')}."


def seedless(pipeline: Any) -> list[str]:
    """Parameters of a pipeline and its steps that take a seed and have none."""
    parameters = pipeline.get_params(deep=True) if hasattr(pipeline, "get_params") else {}
    return sorted(name for name, value in parameters.items() if value is None and name.rpartition("__")[2] in SEEDS)


# --- the comparison ------------------------------------------------------------------------------------------


def _stored(workspace: Workspace, served: Served) -> tuple[LoadedVersion | None, str]:
    """The version itself, or why it does not load here."""
    try:
        return workspace.registry.load(workspace.model, served, fresh=True), ""
    except RorError as error:
        return None, str(error)


def _compare(
    workspace: Workspace,
    spec: ModelSpec,
    manifest: Manifest,
    training: TrainingSet,
    learned: FittedPipeline,
    stored: LoadedVersion | None,
    removed: Mapping[str, Removal],
) -> tuple[list[Compared], Predictions | None]:
    """On the known answers and on the gate's rows; and the new pipeline's answers on the latter.

    A version that does not load here is compared by its recorded answers alone.
    """
    contract, pipeline = learned.contract, learned.pipeline
    classes = () if spec.target in spec.data.private else tuple(getattr(pipeline, "classes_", ()))
    gate = training.gate if any(len(part.rows) for part in training.gate) else ()
    fresh = _ask(contract, pipeline, features_of(contract, gate)) if gate else None
    compared = []
    if (probe := _probe(workspace, manifest, removed)) is not None:
        answers = persistence.known_answers(pipeline, conform(contract, probe), private=contract.private)
        now = answers.columns
        if stored is None:
            columns = [name for name in probe if str(name) == PREDICTION or str(name).startswith(PROBABILITY)]
            then = {str(name): probe[name].to_numpy() for name in columns}
            if set(then) == set(now):
                told = persistence.telling(then, answers)
                then, now = ({name: side[name] for name in told} for side in (then, now))
        else:
            inputs = conform(stored.contract, probe)
            then = persistence.known_answers(stored.pipeline, inputs, private=stored.contract.private).columns
        against = "its recorded answers" if stored is None else "the stored pipeline"
        compared.append(_differ("known answers", against, then, now, classes))
    if stored is not None and fresh is not None:
        theirs = _ask(stored.contract, stored.pipeline, features_of(stored.contract, gate))
        compared.append(_differ("gate rows", "the stored pipeline", theirs.columns, fresh.columns, classes))
    return compared, fresh


def _probe(workspace: Workspace, manifest: Manifest, removed: Mapping[str, Removal]) -> pd.DataFrame | None:
    """The version's known answers, verified; None where they are damaged or were removed."""
    path, record = removals.now_at(f"{manifest.folder}/{PROBE}", manifest.files[PROBE], removed)
    try:
        data = workspace.registry.store.read(path)
    except NotFound:
        return None
    return pd.read_parquet(io.BytesIO(data)) if digest(data) == record.sha256 else None


def _ask(contract: Contract, pipeline: Any, frame: pd.DataFrame) -> Predictions:
    """Answers that do not depend on the order in which threads come to an end: forests add up what theirs say."""
    import joblib

    with joblib.parallel_config(backend="sequential"):
        return persistence.predict(pipeline, frame, private=contract.private)


def _differ(
    what: str, against: str, then: Mapping[str, np.ndarray], now: Mapping[str, np.ndarray], classes: Sequence[Any]
) -> Compared:
    """`classes` name the probabilities; empty where the target is private."""
    rows, verdict, column, largest = len(next(iter(now.values()))), IDENTICAL, None, None
    different = np.zeros(rows, dtype=bool)
    if set(then) != set(now):
        verdict, column, different = DIFFERENT, "the number of classes", ~different
    for name in [name for name in then if name in now]:
        same, close, gap = _gap(np.asarray(then[name]), np.asarray(now[name]))
        if len(then) > 1 and name == PREDICTION:
            gap = None  # a class, even where it is called by a number
        if same.all():
            continue
        different |= ~same
        verdict = CLOSE if close and verdict == IDENTICAL else verdict if close else DIFFERENT
        if column is None or (gap is not None and gap > (largest or 0.0)):
            column, largest = _named(name, classes), gap
    return Compared(what, against, rows, verdict, _digest(then), _digest(now), column, largest, int(different.sum()))


def _gap(theirs: np.ndarray, ours: np.ndarray) -> tuple[np.ndarray, bool, float | None]:
    """Which values are the same, whether all are within 1e-9, and the largest difference; None for no numbers."""
    if not all(np.issubdtype(side.dtype, np.number) for side in (theirs, ours)):
        same = theirs.astype(object) == ours.astype(object)
        return same, bool(same.all()), None
    theirs, ours = theirs.astype(float), ours.astype(float)
    same = (ours == theirs) | (np.isnan(ours) & np.isnan(theirs))
    close = bool(np.allclose(ours, theirs, rtol=RELATIVE, atol=ABSOLUTE, equal_nan=True))
    return same, close, float(np.max(np.abs(ours - theirs), initial=0.0, where=~same))


def _named(column: str, classes: Sequence[Any]) -> str:
    if not column.startswith(PROBABILITY):
        return column.removeprefix("ror:")
    place = int(column.removeprefix(PROBABILITY))
    return f"the probability of {classes[place]}" if classes else f"the probability of class {place + 1}"


def _digest(answers: Mapping[str, np.ndarray]) -> str:
    """sha256 over the answers as JSON: numbers are written so that they read back exactly."""
    return digest(to_json({name: np.asarray(values).tolist() for name, values in answers.items()}))


def _metrics(spec: ModelSpec, answers: Predictions | None, training: TrainingSet) -> dict[str, float]:
    if answers is None:
        return {}
    found = performance.metrics(answers, target_of(training.gate), spec.metric, spec.task, spec.seed)
    return {name: metric.value for name, metric in found.items()}


# --- the receipt ---------------------------------------------------------------------------------------------


def _message(model: str, version: int, verdict: str, compared: Sequence[Compared]) -> str:
    rows = sum(item.rows for item in compared)
    if verdict == IDENTICAL:
        return f"{model} v{version}: identical. Trained again, it gives the same answers, bit by bit, on {rows:,} rows."
    if verdict == CLOSE:
        worst = f"{max(item.largest or 0.0 for item in compared):.3g}"
        return (
            f"{model} v{version}: within 1e-9. Trained again, its answers differ by {worst} at most, on {rows:,} rows."
        )
    return f"{model} v{version}: " + "; ".join(
        f"{_how(item)} ({item.what})" for item in compared if item.verdict == DIFFERENT
    )


def _how(item: Compared) -> str:
    if item.verdict == IDENTICAL:
        return IDENTICAL
    by = f"by up to {item.largest:.3g} " if item.largest is not None else ""
    return f"{item.verdict} {by}on {item.column}, {item.rows_different:,} of {item.rows:,} rows"


def _number(value: float | None) -> str:
    return "not known" if value is None else f"{value:.10g}"


def _threads() -> Iterator[dict[str, Any]]:
    from threadpoolctl import threadpool_info

    for pool in threadpool_info():
        yield {"library": pool["internal_api"], "version": pool.get("version"), "threads": pool["num_threads"]}


def _differences(then: Environment, now: Environment) -> Iterator[str]:
    if then.python != now.python:
        yield f"Python {then.python} then, {now.python} now"
    if then.platform != now.platform:
        yield f"platform {then.platform} then, {now.platform} now"
    for name in sorted({*then.distributions, *now.distributions}):
        before, after = then.distributions.get(name, "none"), now.distributions.get(name, "none")
        if before != after:
            yield f"{name} {before} then, {after} now"


def _own_code(workspace: Workspace, manifest: Manifest, now: Mapping[str, str]) -> Iterator[str]:
    """Modules of the user's own, that of the factory included, that are not what they were; `now` are their texts."""
    try:
        then = workspace.registry.sources(manifest)
    except RorError as error:
        yield f"whether the source code has changed is unknown: {error}"
        return
    before, here = ({name: even(text) for name, text in texts.items()} for texts in (then, now))
    changed = sorted(name for name in {*before, *here} if before.get(name) != here.get(name))
    if changed:
        yield f"the source code of {', '.join(changed)} has changed since"


def _schema(learned: FittedPipeline, stored: LoadedVersion | None) -> Iterator[str]:
    if stored is not None and stored.contract != learned.contract:
        yield "the input schema inferred from its training data has changed since"


def _write(workspace: Workspace, receipt: Receipt, at: datetime) -> Path:
    path = workspace.data / "receipts" / f"v{receipt.version}-{at:%Y%m%dT%H%M%S%fZ}.json"
    with atomic_write(path) as temporary:
        temporary.write_bytes(to_json(receipt))
    return path
