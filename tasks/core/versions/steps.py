"""The steps of a pipeline by name: in which one it raised, or made a number that is none."""

from __future__ import annotations

import traceback
from collections.abc import Iterator
from typing import Any

import numpy as np

from tasks.core.errors import in_short
from tasks.core.versions.namespaces import company_of


def said_by(pipeline: Any, error: BaseException, *, withheld: bool) -> str:
    """What was raised, with the step of the pipeline that raised it where one did."""
    step = raising_step(pipeline, error)
    return f"{step} raises {in_short(error, withheld=withheld)}" if step else in_short(error, withheld=withheld)


def raising_step(pipeline: Any, error: BaseException) -> str:
    """The innermost step that has a name and was at work when this was raised: `step 'columns' > 'text'
    (TfidfVectorizer)`; empty where none was."""
    path: list[str] = []
    parent = named = pipeline
    for frame, _ in traceback.walk_tb(error.__traceback__):
        at_work = frame.f_locals.get("self")
        if at_work is parent or not hasattr(at_work, "get_params"):
            continue
        if (name := _name_in(parent, at_work)) is not None:
            path.append(name)
            named = at_work
        parent = at_work
    return _called(path, named) if path else ""


def infinite_step(pipeline: Any, frame: Any) -> str:
    """The step that made a number that is none of these rows: the first whose output has an infinity, else the last;
    empty where there are no steps."""
    steps = _steps(pipeline)
    with company_of(pipeline):
        for name, output in _outputs(pipeline, frame):
            if _has_infinity(output):
                return _called([name], dict(steps)[name])
    return _called([steps[-1][0]], steps[-1][1]) if steps else ""


def _outputs(pipeline: Any, frame: Any) -> Iterator[tuple[str, Any]]:
    """Each step but the last, and what it makes of these rows, which stay as they are."""
    frame = frame.copy()
    for name, step in _steps(pipeline)[:-1]:
        if step is None or step == "passthrough" or not hasattr(step, "transform"):
            continue
        frame = step.transform(frame)
        yield name, frame


def idle_steps(pipeline: Any) -> list[str]:
    """Steps of a fitted pipeline that select no column, so that nothing reaches them: of every ColumnTransformer in it,
    at whatever depth."""
    return [_called(path, step) for path, step in _idle(pipeline, [], set())]


def _idle(estimator: Any, path: list[str], seen: set[int]) -> Iterator[tuple[list[str], Any]]:
    if id(estimator) in seen or not hasattr(estimator, "get_params") or isinstance(estimator, type):
        return
    seen.add(id(estimator))
    fitted = getattr(estimator, "transformers_", None)
    if fitted is not None:
        for name, step, columns in fitted:
            if step == "drop" or name == "remainder":
                continue
            if _selects_nothing(columns):
                yield [*path, name], step
            else:
                yield from _idle(step, [*path, name], seen)
        return
    for held in vars(estimator).values():
        pairs = held.items() if isinstance(held, dict) else held if isinstance(held, list | tuple) else [(None, held)]
        for pair in pairs:
            name, step = pair[:2] if isinstance(pair, tuple) and len(pair) > 1 else (None, pair)
            yield from _idle(step, [*path, name] if isinstance(name, str) else path, seen)


def _selects_nothing(columns: Any) -> bool:
    if isinstance(columns, str | int | slice) or callable(columns):
        return False
    chosen = np.asarray(columns)
    return not (chosen.any() if chosen.dtype == bool else len(chosen))


def _steps(pipeline: Any) -> list[tuple[str, Any]]:
    return list(getattr(pipeline, "steps", ()))


def _called(path: list[str], step: Any) -> str:
    return f"step {' > '.join(map(repr, path))} ({step if isinstance(step, str) else type(step).__name__})"


def _name_in(parent: Any, child: Any) -> str | None:
    """What an estimator calls one that it is made of: it lists them as (name, step, ...), or in a dict."""
    for held in getattr(parent, "__dict__", {}).values():
        pairs = list(held.items()) if isinstance(held, dict) else held if isinstance(held, list | tuple) else []
        for pair in pairs:
            if isinstance(pair, tuple) and len(pair) > 1 and pair[1] is child and isinstance(pair[0], str):
                return pair[0]
    return None


def _has_infinity(output: Any) -> bool:
    values = np.asarray(getattr(output, "data", output) if hasattr(output, "tocsr") else output)
    return values.dtype.kind == "f" and bool(np.isinf(values).any())


def differing_step(pipeline: Any, one: Any, other: Any, places: np.ndarray) -> str:
    """The first step that makes something else of the rows of `one` at these places than of the first rows of `other`,
    which are the same, else the last step; empty where there are no steps."""
    steps = _steps(pipeline)
    with company_of(pipeline):
        for (name, before), (_, now) in zip(_outputs(pipeline, one), _outputs(pipeline, other), strict=True):
            if not _same(_dense(before)[places], _dense(now)[: len(places)]):
                return _called([name], dict(steps)[name])
    return _called([steps[-1][0]], steps[-1][1]) if steps else ""


def _dense(output: Any) -> np.ndarray:
    return np.asarray(output.toarray() if hasattr(output, "toarray") else output)


def _same(one: np.ndarray, other: np.ndarray) -> bool:
    if one.shape != other.shape:
        return False
    if one.dtype.kind in "fiub" and other.dtype.kind in "fiub":
        return bool(np.allclose(one.astype(float), other.astype(float), rtol=1e-6, atol=1e-9, equal_nan=True))
    missing = (one != one) & (other != other)  # a missing value is not equal to itself
    return bool(np.all((one == other) | missing))
