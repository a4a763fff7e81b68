"""Pipelines to bytes and back, and the known answers that prove they still work.

Nothing here decides whether bytes may be trusted: `tasks.core.versions.registry` unpickles only bytes whose digest it
checked.
"""

from __future__ import annotations

import io
import pickle
import warnings
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import BrokenExecutor
from contextlib import nullcontext
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from tasks.core.errors import (
    CODE_OF_USERS,
    ProbeMismatch,
    RorError,
    TrainingError,
    UnavailablePipeline,
    UnpredictableData,
    UntrustedTypes,
)
from tasks.core.schema.dtypes import as_seen
from tasks.core.versions import steps
from tasks.core.versions.namespaces import company_of
from tasks.core.versions.threads import single, single_openmp

if TYPE_CHECKING:
    import pandas as pd

    from tasks.core.schema.contract import Contract

SMALL = 10_000
"""Rows up to which predicting uses one thread."""

MOST_PROBABLE = (
    "CalibratedClassifierCV", "DecisionTreeClassifier", "ExtraTreesClassifier", "GradientBoostingClassifier",
    "HistGradientBoostingClassifier", "LogisticRegression", "LogisticRegressionCV", "RandomForestClassifier",
)  # fmt: skip
"""Classifiers of scikit-learn whose `predict` answers the class of the largest probability, but for ties to the last
bit. The tests hold them to it, with every other classifier beside them."""

OF_THE_MACHINE = (MemoryError, OSError, BrokenExecutor)
"""What a pipeline raises for want of memory, of a file or of a process: no rows are to blame for it."""

PREDICTION, PROBABILITY = "ror:prediction", "ror:probability:"


@dataclass(frozen=True, slots=True)
class Predictions:
    """Answers of a pipeline, row by row."""

    values: np.ndarray
    """Predicted class or number, shape (rows,)."""
    probabilities: np.ndarray | None
    """Shape (rows, classes), None where the pipeline has no predict_proba."""
    classes: tuple[Any, ...]
    version: int | None = None
    """The version that answered, for logs; None for a pipeline that is none yet."""

    @property
    def score(self) -> np.ndarray:
        """One column for drift checks: P(second class) where there are two, else the prediction itself."""
        if self.probabilities is not None and len(self.classes) == 2:
            return self.probabilities[:, 1]
        return self.values

    @property
    def no_numbers(self) -> np.ndarray:
        """Rows whose answer, or a probability, is infinite or no number, shape (rows,)."""
        import pandas as pd

        each = np.asarray(self.values) if self.probabilities is None else self.probabilities
        wrong = ~np.isfinite(each) if each.dtype.kind == "f" else pd.isna(each)
        return np.asarray(wrong.any(axis=tuple(range(1, wrong.ndim))))

    @property
    def columns(self) -> dict[str, np.ndarray]:
        """All of it by column name, as known answers are stored, each of shape (rows,)."""
        each = () if self.probabilities is None else self.probabilities.T
        return {PREDICTION: self.values} | {f"{PROBABILITY}{place}": column for place, column in enumerate(each)}


@dataclass(frozen=True, slots=True)
class SerializedPipeline:
    """A pipeline as bytes."""

    data: bytes
    modules: tuple[str, ...]
    """Modules that these bytes name, sorted: loading imports them."""


def dump(pipeline: Any, form: str = "joblib") -> SerializedPipeline:
    """Raises TrainingError, with the remedy, for a pipeline that no other process could load."""
    saved = _SAVERS[form](pipeline)
    if "__main__" in saved.modules:
        raise TrainingError(
            "The pipeline uses classes or functions of the script that is running (`__main__`); no other process could "
            f"load it. {MOVE_IT}"
        )
    return saved


def load(data: bytes, form: str = "joblib", types: Sequence[str] = ()) -> Any:
    """Make a pipeline of bytes that the caller has verified: of these very bytes.

    `types` are the classes beyond scikit-learn's that skops may make. Raises UntrustedTypes, and whatever unpickling
    raises.
    """
    if form == "skops":
        import skops.io

        check_types(data, types, UntrustedTypes)
        return skops.io.loads(data, trusted=list(types))
    import joblib
    from sklearn.exceptions import InconsistentVersionWarning

    with warnings.catch_warnings():
        warnings.simplefilter("ignore", InconsistentVersionWarning)  # the environment was checked, and said so once
        return joblib.load(io.BytesIO(data))


def _pickled(pipeline: Any) -> SerializedPipeline:
    from joblib.numpy_pickle import NumpyPickler

    class Pickler(NumpyPickler):
        """Notes where every class and function lives that it writes down; the bytes are joblib's own."""

        def __init__(self, file: io.BytesIO):
            super().__init__(file)
            self.modules: set[str] = set()

        def reducer_override(self, value: Any) -> Any:
            if callable(value) and isinstance(module := getattr(value, "__module__", None), str):
                self.modules.add(module)
            return NotImplemented

    buffer = io.BytesIO()
    pickler = Pickler(buffer)
    try:
        pickler.dump(pipeline)
    except (pickle.PicklingError, AttributeError, TypeError) as error:
        raise TrainingError(f"The pipeline cannot be saved: {error}. {MOVE_IT}") from error
    return SerializedPipeline(buffer.getvalue(), tuple(sorted(pickler.modules - {"builtins"})))


def _written(pipeline: Any) -> SerializedPipeline:
    import json
    import zipfile

    import skops.io

    try:
        data = skops.io.dumps(pipeline)
    except Exception as error:
        raise TrainingError(f'skops cannot save this pipeline: {error}. `format = "joblib"` can.') from error
    with zipfile.ZipFile(io.BytesIO(data)) as archive:
        schema = json.loads(archive.read("schema.json"))
    return SerializedPipeline(
        data, tuple(sorted({*_named(schema), "skops"} - {"builtins"}))
    )  # it is needed to load them, too


_SAVERS: Mapping[str, Callable[[Any], SerializedPipeline]] = {"joblib": _pickled, "skops": _written}

MOVE_IT = (
    "Define them with `def` or `class` in a module of their own, in a folder that the model's file names: "
    '`code = ["src"]`.'
)


def _named(schema: Any) -> Iterator[str]:
    """Every module that a skops schema names."""
    if isinstance(schema, dict):
        if isinstance(module := schema.get("__module__"), str):
            yield module
        schema = list(schema.values())
    if isinstance(schema, list):
        for part in schema:
            yield from _named(part)


def check_types(data: bytes, types: Sequence[str], error: type[RorError] = TrainingError) -> None:
    """Raises this error for classes that a skops pipeline needs and that `types` does not allow."""
    import skops.io

    missing = sorted({*skops.io.get_untrusted_types(data=data)} - {*types})
    if missing:
        listed = ", ".join(f'"{name}"' for name in missing)
        raise error(
            f"The pipeline needs types that the model's file does not allow: {', '.join(missing)}. If you know that "
            f"they do no harm when they are loaded, add them: [pipeline] types = [{listed}]."
        )


def predict(
    pipeline: Any, frame: pd.DataFrame, *, contract: Contract | None = None, private: bool = False
) -> Predictions:
    """Answers for a frame of contract columns, shape (rows, features), in the types that the contract says.

    Raises UnpredictableData when the pipeline fails, or an answer is no finite number, and UnavailablePipeline for want
    of memory or of a file; without the library's text where some of the columns are private.
    """
    from joblib import parallel_config

    if contract is not None:
        frame, private = as_seen(contract, frame), contract.private
    # For few rows a thread team costs more than it brings, and stalls when the machine is busy.
    # And a forest's threads add up its trees in any order: the last bit of an answer would change from call to call.
    few = len(frame) <= SMALL
    try:
        in_turn = parallel_config(backend="sequential") if few else nullcontext()
        with company_of(pipeline), in_turn, single_openmp() if few else nullcontext():
            answers = _predict(pipeline, frame)
    except CODE_OF_USERS as error:
        kind = UnavailablePipeline if _is_of_the_machine(error) else UnpredictableData
        # What was raised is not chained to it where logs would show its text.
        said = steps.said_by(pipeline, error, withheld=private)
        raise kind(len(frame), said) from (None if private else error)
    if (wrong := answers.no_numbers).any():
        raise UnpredictableData(len(frame), _no_numbers(pipeline, frame, answers, wrong))
    return answers


def _is_of_the_machine(error: BaseException | None) -> bool:
    """Also where a library raised another error from it."""
    while error is not None and not isinstance(error, OF_THE_MACHINE):
        error = error.__cause__
    return error is not None


def _no_numbers(pipeline: Any, frame: pd.DataFrame, answers: Predictions, wrong: np.ndarray) -> str:
    """Which answers are no finite numbers, and which step made them."""
    places = np.flatnonzero(wrong)
    first = int(places[0])
    given = np.asarray(answers.values if answers.probabilities is None else answers.probabilities)[first]
    what = next(value for value in np.atleast_1d(given).tolist() if value is None or not np.isfinite(value))
    try:
        step = steps.infinite_step(pipeline, frame[first : first + 1])
    except Exception:  # noqa: BLE001 - asked step by step, a pipeline may do anything; its answer is known
        step = ""
    many = "the answer is" if len(frame) == 1 else f"{len(places):,} answers are"
    whose = f"; {step} makes {'it' if len(frame) == 1 else 'them'}" if step else ""
    at = "" if len(frame) == 1 else f", the first for row {first + 1:,}"
    return f"{many} no finite number ({what}{at}){whose}"


def _predict(pipeline: Any, frame: pd.DataFrame) -> Predictions:
    # Each call has a frame of its own: a step may change the one that it is given.
    if not hasattr(pipeline, "predict_proba"):
        return Predictions(np.asarray(pipeline.predict(frame.copy())), None, tuple(getattr(pipeline, "classes_", ())))
    probabilities = np.asarray(pipeline.predict_proba(frame.copy()))
    classes = np.asarray(pipeline.classes_)
    chosen = probabilities.argmax(axis=1)
    if not predicts_most_probable(pipeline):
        chosen = _places(np.asarray(pipeline.predict(frame.copy())), classes)
    return Predictions(classes[chosen], probabilities, tuple(classes.tolist()))


def predicts_most_probable(pipeline: Any) -> bool:
    """Whether `predict` is known to answer the class of the largest probability, and need not be asked: that would take
    as long again. By the class of the last step, which is scikit-learn's own."""
    last = pipeline
    while _is_sklearns(last, "Pipeline"):
        last = last.steps[-1][1]
    return _is_sklearns(last, *MOST_PROBABLE)


def _is_sklearns(step: Any, *names: str) -> bool:
    return type(step).__name__ in names and type(step).__module__.partition(".")[0] == "sklearn"


def _places(answers: np.ndarray, classes: np.ndarray) -> np.ndarray:
    """The place of each answer among the classes. Raises ValueError for one that is none of them."""
    import pandas as pd

    places: np.ndarray = pd.Index(classes).get_indexer(pd.Index(answers))
    if (places < 0).any():
        strange = answers[places < 0].tolist()[0]
        raise ValueError(f"predict() answers {strange!r}, which is none of its classes")
    return places


# --- known answers -------------------------------------------------------------------------------------------


def known_answers(pipeline: Any, frame: pd.DataFrame, *, contract: Contract | None = None) -> Predictions:
    """As `predict`, with one thread of every library, whatever the process uses: the last bit of a sum depends on how
    many there are."""
    with company_of(pipeline), single():  # in this order: who waits for a namespace holds up nobody
        return predict(pipeline, frame, contract=contract)


def make_probe(pipeline: Any, frame: pd.DataFrame, *, contract: Contract | None = None) -> pd.DataFrame:
    """Input rows with the answers the pipeline gives now."""
    return frame.assign(**known_answers(pipeline, frame, contract=contract).columns)


def telling(known: Mapping[str, np.ndarray], answers: Predictions) -> list[str]:
    """Names of the known answers to compare with these: not the prediction where it is the most probable class for
    every row, which the probabilities say already. Earlier releases stored that in place of what `predict` answers."""
    names = list(answers.columns)
    if answers.probabilities is None:
        return names
    each = np.column_stack([known[name] for name in names if name != PREDICTION])
    implied = np.array_equal(np.asarray(answers.classes)[each.argmax(axis=1)], known[PREDICTION])
    return names[1:] if implied else names


def replay_probe(
    pipeline: Any,
    probe: pd.DataFrame,
    frame: pd.DataFrame,
    what: str,
    *,
    exact: bool,
    contract: Contract | None = None,
) -> None:
    """Ask again, in the stored shape, and compare: the very same answers where they must be `exact`, else to 1e-9.

    `frame` holds the probe's inputs as the pipeline sees them; some of its columns may be private. Raises
    ProbeMismatch.
    """
    try:
        answers = known_answers(pipeline, frame, contract=contract)
    except UnpredictableData as error:
        raise ProbeMismatch(f"{what} no longer gives its known answers, but fails. {error} Retrain.") from error
    except UnavailablePipeline as error:
        raise ProbeMismatch(f"{what} does not give its known answers. {error}") from error
    known = {name: probe[name].to_numpy() for name in answers.columns}
    for name in telling(known, answers):
        now, then = answers.columns[name], known[name]
        if np.issubdtype(np.asarray(now).dtype, np.floating):
            now = np.asarray(now, dtype=float)
            same = np.array_equal(now, then) if exact else np.allclose(now, then, rtol=1e-9, atol=1e-12)
            worst = f", by up to {float(np.max(np.abs(now - then))):.3g}"
        else:
            same, worst = np.array_equal(now, then), ""
        if not same:
            raise ProbeMismatch(
                f"{what} no longer gives its known answers ({name.removeprefix('ror:')} differs{worst}). "
                "Not served: a library or its own code changed since registration. Restore that or retrain."
            )
