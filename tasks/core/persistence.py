"""Pipelines to bytes and back, the environment they need, and the known answers that prove they still work.

Nothing here decides whether bytes may be trusted: `tasks.core.registry` unpickles only bytes whose digest it checked.
"""

from __future__ import annotations

import hashlib
import importlib.metadata
import importlib.util
import io
import platform
import subprocess
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from inspect import isfunction
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from tasks.core.errors import EnvironmentMismatch, ProbeMismatch, UnpredictableData, in_short

if TYPE_CHECKING:
    import pandas as pd

MINOR = ("scikit-learn", "numpy", "scipy")
"""Always recorded, beside those that the pipeline's own classes come from: a pickled estimator is promised to load in
no other major.minor release."""

INFORMATIVE = ("joblib", "pandas")
"""Recorded for people: other releases of these read the same pickles, and the known answers are asked again."""

SMALL = 10_000
"""Rows up to which predicting uses one thread."""

PREDICTION, PROBABILITY = "ror:prediction", "ror:probability:"


@dataclass(frozen=True, slots=True)
class Environment:
    """What a version was made with."""

    python: str
    platform: str
    distributions: Mapping[str, str]
    """Name and version of every installed distribution that the pipeline's classes come from."""
    sources: Mapping[str, str]
    """sha256 of the source of the pipeline's modules that belong to no distribution."""
    git_commit: str | None


@dataclass(frozen=True, slots=True)
class Predictions:
    """Answers of a pipeline, row by row."""

    values: np.ndarray
    """Predicted class or number, shape (rows,)."""
    probabilities: np.ndarray | None
    """Shape (rows, classes), None where the pipeline has no predict_proba."""
    classes: tuple[Any, ...]

    @property
    def score(self) -> np.ndarray:
        """One column for drift checks: P(second class) where there are two, else the prediction itself."""
        if self.probabilities is not None and len(self.classes) == 2:
            return self.probabilities[:, 1]
        return self.values


def dump(pipeline: Any) -> bytes:
    import joblib

    buffer = io.BytesIO()
    joblib.dump(pipeline, buffer)
    return buffer.getvalue()


def load(data: bytes) -> Any:
    """Unpickle. The caller has verified these very bytes."""
    import joblib

    return joblib.load(io.BytesIO(data))


def predict(pipeline: Any, frame: pd.DataFrame, *, private: bool = False) -> Predictions:
    """Answers for a frame of contract columns, shape (rows, features).

    Raises UnpredictableData when the pipeline fails; without the library's text where some of the columns are private.
    """
    from threadpoolctl import threadpool_limits

    # For few rows a thread team costs more than it brings, and stalls when the machine is busy.
    with threadpool_limits(limits=1 if len(frame) <= SMALL else None):
        try:
            return _predict(pipeline, frame)
        except Exception as error:  # noqa: BLE001 - a pipeline is anybody's code
            reason = f"The pipeline cannot predict these {len(frame):,} rows: {in_short(error, withheld=private)}."
            # What was raised is not chained to it where logs would show its text.
            raise UnpredictableData(reason) from (None if private else error)


def _predict(pipeline: Any, frame: pd.DataFrame) -> Predictions:
    if not hasattr(pipeline, "predict_proba"):
        return Predictions(np.asarray(pipeline.predict(frame)), None, tuple(getattr(pipeline, "classes_", ())))
    probabilities = np.asarray(pipeline.predict_proba(frame))
    classes = pipeline.classes_
    return Predictions(np.asarray(classes)[probabilities.argmax(axis=1)], probabilities, tuple(classes.tolist()))


# --- environment ---------------------------------------------------------------------------------------------


def environment(pipeline: Any, root: Path) -> Environment:
    """The environment a pipeline was fitted in, as far as loading it depends on it."""
    modules = sorted({_module(part) for part in _parts(pipeline)} - {"builtins"})
    owners = importlib.metadata.packages_distributions()
    distributions = {*MINOR, *INFORMATIVE}
    sources = {}
    for module in modules:
        if found := owners.get(module.partition(".")[0]):
            distributions.update(found)
        elif digest := source_digest(module):
            sources[module] = digest
    return Environment(
        python=platform.python_version(),
        platform=platform.platform(),
        distributions={name: importlib.metadata.version(name) for name in sorted(distributions)},
        sources=sources,
        git_commit=_git_commit(root),
    )


def check_environment(recorded: Environment, what: str) -> None:
    """Raises EnvironmentMismatch, naming every pair of versions, before anything is unpickled."""
    problems = []
    if _minor(recorded.python) != _minor(platform.python_version()):
        problems.append(f"Python {recorded.python}, here {platform.python_version()}")
    for name, version in recorded.distributions.items():
        try:
            here = importlib.metadata.version(name)
        except importlib.metadata.PackageNotFoundError:
            problems.append(f"{name} {version}, here it is not installed")
            continue
        if name not in INFORMATIVE and _minor(here) != _minor(version):
            problems.append(f"{name} {version}, here {here}")
    for module, digest in recorded.sources.items():
        if source_digest(module) != digest:
            problems.append(f"another {module} than the one here: its source has changed or is gone")
    if problems:
        raise EnvironmentMismatch(
            f"{what} was made with {'; '.join(problems)}. Install the recorded versions, or retrain here: "
            "`ror run MODEL --action retrain --reason 'new environment'`."
        )


def source_digest(module: str) -> str | None:
    """sha256 of a module's source file, None where there is none."""
    try:
        spec = importlib.util.find_spec(module)
    except (ImportError, ValueError):
        return None
    if spec is None or not spec.origin or not Path(spec.origin).is_file():
        return None
    return hashlib.sha256(Path(spec.origin).read_bytes()).hexdigest()


def _minor(version: str) -> list[str]:
    return version.split(".")[:2]


def _parts(value: Any) -> Iterator[Any]:
    """An estimator and everything it is made of."""
    yield value
    if hasattr(value, "get_params"):
        for part in value.get_params(deep=False).values():
            yield from _parts(part)
    elif isinstance(value, Iterable) and isinstance(value, list | tuple):
        for part in value:
            yield from _parts(part)


def _module(part: Any) -> str:
    """Where a part's code lives: a function's own module, else its class's."""
    return str(getattr(part, "__module__", None) if isfunction(part) else type(part).__module__)


def _git_commit(root: Path) -> str | None:
    try:
        done = subprocess.run(
            ["git", "-C", str(root), "rev-parse", "HEAD"],
            capture_output=True,
            text=True,
            timeout=5,
            check=False,
        )
    except (OSError, subprocess.TimeoutExpired):
        return None
    return done.stdout.strip() if done.returncode == 0 else None


# --- known answers -------------------------------------------------------------------------------------------


def make_probe(pipeline: Any, frame: pd.DataFrame, *, private: bool = False) -> pd.DataFrame:
    """Input rows with the answers the pipeline gives now."""
    return frame.assign(**_answers(pipeline, frame, private))


def replay_probe(
    pipeline: Any,
    probe: pd.DataFrame,
    frame: pd.DataFrame,
    recorded: Environment,
    what: str,
    *,
    private: bool = False,
    fewer: bool = False,
) -> None:
    """Ask again, in the stored shape, and compare: exactly on the same platform, to 1e-9 elsewhere.

    `frame` holds the probe's inputs as the pipeline sees them; some of its columns may be private. `fewer`: rows were
    erased since, and a batch of another size may differ in the last bit, so that 1e-9 must do. Raises ProbeMismatch.
    """
    if fewer and not len(frame):
        return  # all of it was erased: nothing is left to ask
    try:
        answers = _answers(pipeline, frame, private)
    except UnpredictableData as error:
        raise ProbeMismatch(f"{what} no longer gives its known answers, but fails. Retrain.") from error
    exact = recorded.platform == platform.platform() and not fewer
    for name, now in answers.items():
        then = probe[name].to_numpy()
        if np.issubdtype(np.asarray(now).dtype, np.floating):
            now = np.asarray(now, dtype=float)
            same = np.array_equal(now, then) if exact else np.allclose(now, then, rtol=1e-9, atol=1e-12)
            worst = f", by up to {float(np.max(np.abs(now - then))):.3g}"
        else:
            same, worst = np.array_equal(now, then), ""
        if not same:
            raise ProbeMismatch(
                f"{what} no longer gives its known answers ({name.removeprefix('ror:')} differs{worst}). "
                "It stays unserved: a library has changed under it. Restore the environment or retrain."
            )


def _answers(pipeline: Any, frame: pd.DataFrame, private: bool) -> dict[str, np.ndarray]:
    predictions = predict(pipeline, frame, private=private)
    answers = {PREDICTION: predictions.values}
    if predictions.probabilities is not None:
        for index in range(predictions.probabilities.shape[1]):
            answers[f"{PROBABILITY}{index}"] = predictions.probabilities[:, index]
    return answers
