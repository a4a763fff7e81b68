"""Values of private columns (features, key, target) never reach a message, whatever is wrong with them."""

from __future__ import annotations

import traceback
from collections.abc import Callable, Iterable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from sklearn.dummy import DummyClassifier
from sklearn.pipeline import Pipeline
from sklearn.preprocessing import FunctionTransformer, OneHotEncoder

from tasks.core.checks.performance import performance_checks, row_losses
from tasks.core.data.files import find_batches
from tasks.core.data.labels import Labels
from tasks.core.data.rows import labelled_rows
from tasks.core.data.source import Source
from tasks.core.schema.frames import conform
from tasks.core.schema.validation import validate
from tasks.core.spec import ModelSpec
from tasks.core.training.fit import fit, learn
from tasks.core.versions.loaded import LoadedVersion
from tasks.core.versions.persistence import Predictions, predict
from tests.helpers.training import ROWS, make_history, make_spec, put

WORD, NUMBER = "xyz" + "zy", 98765 * 10**4 + 4321
PRIVATE = ("income", "age", "city", "member", "id", "y")
SPEC = make_spec(data={"batches": "*.parquet", "private": PRIVATE})


def said(call: Callable[[], Any]) -> str:
    """All that a log would show of a call: what it returned, or the whole traceback of its error."""
    try:
        return repr(call())
    except Exception as error:  # noqa: BLE001 - whatever it is
        return "".join(traceback.format_exception(error))


def silent(*texts: str) -> None:
    for text in texts:
        assert WORD not in text
        assert str(NUMBER) not in text.replace(",", "").replace("_", "")
        assert f"{NUMBER:g}" not in text


def with_values(column: str, values: Iterable[Any]) -> pd.DataFrame:
    """The rows with the first values of a column replaced."""
    values = list(values)
    return ROWS.assign(**{column: pd.Series([*values, *ROWS[column].tolist()[len(values) :]], dtype=object)})


@pytest.fixture
def private(champion: LoadedVersion) -> LoadedVersion:
    """The version as it would be had its columns been private when it was trained."""
    features = tuple(replace(column, private=True) for column in champion.contract.features)
    return replace(champion, contract=replace(champion.contract, features=features))


SPOILT: dict[str, pd.DataFrame] = {
    "a word among numbers": with_values("age", [WORD]),
    "words": ROWS.assign(age=WORD),
    "new names": ROWS.assign(city=WORD),
    "numbers beyond the range": ROWS.assign(age=NUMBER, income=float(NUMBER)),
    "too many digits": ROWS.assign(age=NUMBER * 10**9),
    "more digits than any": with_values("age", [NUMBER * 10**20]),
    "bytes": ROWS.assign(city=WORD.encode(), age=WORD.encode()),
    "lists": ROWS.assign(age=[[WORD]] * 200),
    "mappings": ROWS.assign(city=[{WORD: NUMBER}] * 200),
    "half a character": ROWS.assign(city=pd.Series([f"{WORD}\ud800"] * 200, dtype=object)),
    "mixed": with_values("member", [WORD, NUMBER, 1.5]),
    "keys": ROWS.assign(id=[WORD] * 200),
    "keys of another kind": ROWS.assign(id=[[WORD]] * 200),
}


@pytest.mark.parametrize("case", SPOILT)
def test_what_is_checked(private: LoadedVersion, tmp_path: Path, case: str) -> None:
    """Violations, changes and coercions of files and frames show no private value, nor do errors of libraries."""
    rows = SPOILT[case]
    silent(said(lambda: conform(private.contract, rows).shape), said(lambda: private.predict(rows).values.shape))
    for ending in ("parquet", "csv"):
        try:
            put(tmp_path, rows, f"b.{ending}")
        except Exception:  # noqa: BLE001 - what pandas cannot write cannot arrive
            continue
        source = Source(tmp_path, f"b.{ending}")
        silent(said(lambda source=source: validate(private.contract, source, SPEC)))  # type: ignore[misc]
        silent(said(lambda source=source: validate(private.contract, source, make_spec())))  # type: ignore[misc]


HEADERLESS = f"{WORD},{NUMBER},{WORD},a,b,c\n"


@pytest.mark.parametrize(
    "content",
    [
        HEADERLESS,
        HEADERLESS.replace(",", ";"),
        ROWS.to_csv(index=False) + f"{WORD},{NUMBER}\n",
        ROWS.to_csv(index=False) + f'"{WORD}',
        ROWS.to_csv(index=False) + f'"{WORD},{NUMBER}\n',
        (ROWS.to_csv(index=False) + f"{WORD}å,{NUMBER},{WORD}å,{WORD}å,1,1\n").encode("latin-1"),
        f"<html>{WORD}</html>\n",
        f'[{{"id": "{WORD}"}}]\n',
        f"{WORD}\n",
    ],
)
@pytest.mark.parametrize("name", ["b.csv", "b.parquet"])
def test_files_that_do_not_parse(private: LoadedVersion, tmp_path: Path, content: str | bytes, name: str) -> None:
    """A file without its header, with a broken line or in another encoding is refused without what is in it."""
    (tmp_path / name).write_bytes(content.encode() if isinstance(content, str) else content)
    text = said(lambda: validate(private.contract, Source(tmp_path, name), SPEC))
    assert "Error" in text or "UnreadableData" in text or "problems=(" in text
    silent(text)


# --- labels --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("task", ["binary", "regression"])
@pytest.mark.parametrize(
    "target",
    [[WORD] * 200, [1, 0] * 99 + [WORD, "1"], [NUMBER + 0.5] * 200, [np.inf, NUMBER] * 100, [[NUMBER]] * 200,
     [pd.Timestamp(NUMBER, unit="s")] * 200, [WORD.encode()] * 200, [NUMBER * 10**8 + 1] * 200],
)  # fmt: skip
@pytest.mark.parametrize("ending", ["parquet", "csv"])
def test_targets_that_do_not_fit(tmp_path: Path, task: str, target: list[Any], ending: str) -> None:
    """Labels of the wrong kind are refused, and a fit on them fails, without showing one."""
    spec = make_spec(task=task, data={"batches": f"*.{ending}", "private": ["y"]})
    rows = ROWS.assign(
        y=pd.Series(target, dtype=object).astype(str) if ending == "parquet" and WORD in target else target
    )
    put(tmp_path, rows, f"1.{ending}")
    silent(said(lambda: learn(spec, _history(tmp_path, spec)).contract.names))


@pytest.mark.parametrize("key", [[WORD, "b"], [NUMBER, 2], [[WORD], ["b"]], [WORD.encode(), b"\xff"], [1.5, NUMBER]])
@pytest.mark.parametrize("value", [1, WORD, 0.5, [NUMBER]])
def test_label_files_that_do_not_fit(tmp_path: Path, key: list[Any], value: Any) -> None:
    """Label files whose keys or targets do not go together are refused without a key or a label."""
    spec = make_spec(data={"batches": "*.parquet", "labels": "labels/*", "private": ["id", "y"]})
    (tmp_path / "labels").mkdir()
    put(tmp_path, ROWS.drop(columns="y"))
    put(tmp_path, ROWS[["id", "y"]], "labels/1.parquet")
    put(tmp_path, pd.DataFrame({"id": key, "y": [value] * 2}), "labels/2.parquet")
    silent(said(lambda: _history(tmp_path, spec)[0].coverage))


def test_labels_of_another_kind_than_learned() -> None:
    """Labels that are words where the version learned numbers are refused as a whole."""
    answers = Predictions(np.array([0, 1]), np.array([[0.9, 0.1], [0.2, 0.8]]), (0, 1))
    target = np.array([WORD, WORD], dtype=object)
    text = said(lambda: row_losses(answers, target, "binary"))
    assert "The labels are text, and the version learned numbers" in text
    silent(text, said(lambda: performance_checks("1", answers, target, "binary", 1.0, private=True)))


def _history(root: Path, spec: ModelSpec) -> list[Any]:
    labels = Labels(root, spec)
    return [labelled_rows(root, batch, labels, spec.task) for batch in find_batches(root, spec)]


# --- pipelines -----------------------------------------------------------------------------------------------


def floats_only() -> Pipeline:
    """A pipeline that says which value it could not read."""
    return Pipeline([("read", FunctionTransformer(lambda X: X.astype(float))), ("model", DummyClassifier())])


def known_only() -> Pipeline:
    """A pipeline that says which names it does not know."""
    return Pipeline([("encode", OneHotEncoder()), ("model", DummyClassifier())])


def test_pipelines_that_quote_values(champion: LoadedVersion, private: LoadedVersion, tmp_path: Path) -> None:
    """What a pipeline says about a value it cannot use is withheld where columns are private, and shown elsewhere."""
    fitted = known_only().fit(conform(champion.contract, ROWS), ROWS["y"])
    strange = conform(champion.contract, ROWS.assign(city=WORD))
    assert WORD in said(lambda: predict(fitted, strange))
    hidden = said(lambda: replace(private, pipeline=fitted).predict(ROWS.assign(city=WORD)))
    assert "ValueError: its text is withheld, because of `data.private`" in hidden
    silent(hidden)

    for factory in (f"{__name__}:floats_only", f"{__name__}:known_only"):
        for columns in ((), ("city",)):
            spec = make_spec(pipeline={"factory": factory}, data={"batches": "*.parquet", "private": columns})
            history = make_history(tmp_path, spec, ROWS.assign(city=[WORD, *ROWS["city"][1:]]), ROWS)
            text = said(lambda spec=spec, history=history: fit(spec, history, first=True).gate)  # type: ignore[misc]
            assert "Fitting failed" in text or "cannot predict" in text or "gate" in text
            if columns:
                silent(text)


def test_one_class_only(tmp_path: Path) -> None:
    """That all labels are the same is said without which one, where they are private."""
    history = make_history(tmp_path, SPEC, ROWS.assign(y=NUMBER))
    text = said(lambda: learn(SPEC, history))
    assert "labels are the same: there is nothing to tell apart" in text
    silent(text)
