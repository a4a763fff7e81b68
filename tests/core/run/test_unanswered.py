"""What a pipeline fails on although it satisfies the input schema: row, step and column, with few calls."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from sklearn.compose import ColumnTransformer, TransformedTargetRegressor
from sklearn.feature_extraction.text import TfidfVectorizer
from sklearn.linear_model import LinearRegression, LogisticRegression
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import FunctionTransformer, OneHotEncoder

from tasks.core.data import source as sources
from tasks.core.errors import ProbeMismatch, UnavailablePipeline
from tasks.core.run.unanswered import CALLS, unanswered
from tasks.core.schema.contract import infer
from tasks.core.schema.frames import frame
from tasks.core.spec import ModelSpec
from tasks.core.versions import loading, persistence
from tests.helpers.training import make_spec, put
from tests.helpers.versions import make_manifest


def rows(count: int = 400, seed: int = 0) -> pd.DataFrame:
    rng = np.random.default_rng(seed)
    x = rng.normal(size=count)
    city = rng.choice(["Oslo", "Bergen"], count).astype(object)
    words = np.array(
        [" ".join(rng.choice(["late", "broken", "nice", "thanks"], 3)) for _ in range(count)], dtype=object
    )
    return pd.DataFrame({"id": np.arange(count) + 1000, "x": x, "city": city, "words": words, "y": (x > 0).astype(int)})


class Version:
    """A version as `unanswered` knows it, without a store."""

    def __init__(self, root: Path, pipeline: Any, spec: ModelSpec, target: str = "y"):
        trained = put(root, rows(), "trained.parquet")
        self.manifest = make_manifest(1)
        self.model, self.contract = "loans", infer([trained], spec)
        inputs = frame(self.contract, trained)
        self.pipeline = pipeline.fit(inputs, rows()[target])
        self.known = persistence.make_probe(self.pipeline, inputs.iloc[:8])

    def still_answers(self) -> None:
        loading.answer(self.pipeline, self.contract, self.known, "loans v1", exact=False)


def ask(root: Path, version: Version, batch: pd.DataFrame, spec: ModelSpec) -> tuple[str, ...]:
    return unanswered(version, put(root, batch, "batch.parquet"), spec)  # type: ignore[arg-type]


def encoder(**parameters: Any) -> Any:
    columns = ColumnTransformer(
        [("city", OneHotEncoder(**parameters), ["city"]), ("words", TfidfVectorizer(), "words")], remainder="drop"
    )
    return make_pipeline(columns, LogisticRegression())


def test_a_batch_that_can_be_predicted_has_no_problem(tmp_path: Path) -> None:
    """Nothing is said of a batch like those of training."""
    spec = make_spec()
    assert ask(tmp_path, Version(tmp_path, encoder(), spec), rows(seed=1), spec) == ()


@pytest.mark.parametrize(
    ("column", "value", "step", "shown"),
    [
        ("city", "Stavanger", "'columntransformer' > 'city' (OneHotEncoder)", "which is 'Stavanger' there"),
        ("words", None, "'columntransformer' > 'words' (TfidfVectorizer)", "which is missing there"),
    ],
)
def test_rows_step_and_column_are_named(tmp_path: Path, column: str, value: Any, step: str, shown: str) -> None:
    """The rows that fail are counted, the first is named by its key; with the step, the library's words, the column
    and its value, how many rows could be predicted, and the ways out."""
    spec = make_spec()
    version = Version(tmp_path, encoder(), spec)
    batch = rows(seed=1)
    batch.loc[[17, 230], column] = value
    said, out = ask(tmp_path, version, batch, spec)
    assert "cannot predict 2 of 400 rows (the first is row 18, id 1017)" in said
    assert f"step {step} raises ValueError: " in said
    assert f"it is column '{column}', {shown}; 398 of 400 rows can be predicted" in said
    assert "repair the data" in out and "ror run loans --action retrain" in out


def test_later_chunks_are_looked_at_too(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Rows are counted over the whole file, however it is read."""
    monkeypatch.setattr(sources, "CHUNK_ROWS", 100)
    spec = make_spec()
    version = Version(tmp_path, encoder(), spec)
    batch = rows(seed=1)
    batch.loc[[150, 350], "city"] = "Stavanger"
    said, _ = ask(tmp_path, version, batch, spec)
    assert "2 of 400 rows (the first is row 151, id 1150)" in said


def test_no_value_of_a_private_column_is_shown(tmp_path: Path) -> None:
    """Neither the value nor the library's text, which may quote it; the column is named."""
    spec = make_spec(data={"batches": "*.parquet", "private": ["city", "id"]})
    version = Version(tmp_path, encoder(), spec)
    batch = rows(seed=1)
    batch.loc[17, "city"] = "Stavanger"
    said = " ".join(ask(tmp_path, version, batch, spec))
    assert "column 'city'" in said and "row 18" in said and "text is withheld" in said
    assert "Stavanger" not in said and "1017" not in said


def test_the_pipeline_is_asked_fifty_times_at_most(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """However many rows fail, a search asks the pipeline CALLS times; then it says what it knows."""
    spec = make_spec()
    version = Version(tmp_path, encoder(), spec)
    batch = rows(seed=1)
    batch.loc[::3, "city"] = "Stavanger"
    asked = []

    def counted(pipeline: Any, rows: pd.DataFrame, **options: Any) -> persistence.Predictions:
        asked.append(len(rows))
        return predict(pipeline, rows, **options)

    predict = persistence.predict
    monkeypatch.setattr(persistence, "predict", counted)
    said, _ = ask(tmp_path, version, batch, spec)
    once, known = 1, 1  # the whole file, and the known answers
    assert len(asked) == CALLS + once + known
    assert "rows and more (the first is row 1, id 1000)" in said and "column 'city'" in said


def only_x(frame: pd.DataFrame) -> pd.DataFrame:
    return frame[["x"]]


def refuses_many(frame: pd.DataFrame) -> pd.DataFrame:
    if len(frame) > 300:
        raise ValueError("too many at once")
    return frame[["x"]]


def test_rows_that_fail_only_together_are_said_so(tmp_path: Path) -> None:
    """Where every part can be predicted, no row is blamed: the library's error stands alone."""
    spec = make_spec()
    quiet = make_pipeline(FunctionTransformer(only_x), LogisticRegression())
    version = Version(tmp_path, quiet, spec)
    version.pipeline.steps[0][1].func = refuses_many
    said, _ = ask(tmp_path, version, rows(seed=1), spec)
    assert "cannot predict these 400 rows together, though none of them alone" in said
    assert "too many at once" in said and "column" not in said


def fails(error: BaseException) -> Any:
    def step(frame: pd.DataFrame) -> pd.DataFrame:
        raise error

    return step


def test_a_pipeline_that_no_longer_gives_its_known_answers_is_to_blame(tmp_path: Path) -> None:
    """Then no batch is set aside: the version fails its own proof."""
    spec = make_spec()
    version = Version(tmp_path, make_pipeline(FunctionTransformer(only_x), LogisticRegression()), spec)
    version.pipeline.steps[0][1].func = fails(ValueError("a library changed"))
    with pytest.raises(ProbeMismatch, match="known answers"):
        ask(tmp_path, version, rows(seed=1), spec)


@pytest.mark.parametrize(
    "error", [MemoryError("no room"), FileNotFoundError("rates.csv"), PermissionError("rates.csv")]
)
@pytest.mark.parametrize("wrapped", [False, True])
def test_want_of_memory_or_of_a_file_is_not_the_batchs_fault(tmp_path: Path, error: Exception, wrapped: bool) -> None:
    """Nothing is set aside for what this machine lacks, also where a library made another error of it."""
    spec = make_spec()
    version = Version(tmp_path, make_pipeline(FunctionTransformer(only_x), LogisticRegression()), spec)
    raised: Exception = error
    if wrapped:
        raised = ValueError("it did not work")
        raised.__cause__ = error
    version.pipeline.steps[0][1].func = fails(raised)
    with pytest.raises(UnavailablePipeline, match="says nothing about the rows"):
        ask(tmp_path, version, rows(seed=1), spec)


def test_an_infinite_answer_is_named_by_row_key_and_step(tmp_path: Path) -> None:
    """An answer that overflowed is no number: the row, its key, the step and the column are named."""
    spec = make_spec(task="regression")
    explodes = TransformedTargetRegressor(LinearRegression(), func=np.log1p, inverse_func=np.expm1)
    numbers = ColumnTransformer([("keep", "passthrough", ["x"])])
    version = Version(tmp_path, make_pipeline(numbers, explodes), spec)
    batch = rows(seed=1)
    batch.loc[5, "x"] = 1e6
    said, _ = ask(tmp_path, version, batch, spec)
    assert "cannot predict 1 of 400 rows (row 6, id 1005)" in said
    assert "the answer is no finite number (inf); step 'transformedtargetregressor'" in said
    assert "it is column 'x', which is 1000000.0 there" in said


def test_known_rows_may_have_been_erased(tmp_path: Path) -> None:
    """Without a row of training to take values from, rows and step are still named."""
    spec = make_spec()
    version = Version(tmp_path, encoder(), spec)
    version.known = version.known.iloc[:0]
    batch = rows(seed=1)
    batch.loc[17, "city"] = "Stavanger"
    said, _ = ask(tmp_path, version, batch, spec)
    assert "row 18" in said and "OneHotEncoder" in said and "it is column" not in said


def test_the_version_as_it_is_loaded_has_what_is_asked_of_it() -> None:
    """The stand-in of these tests has no more than a loaded version."""
    from tasks.core.versions.loaded import LoadedVersion

    assert {"known", "still_answers"} <= set(vars(LoadedVersion))
    assert {"model", "contract", "pipeline"} <= set(LoadedVersion.__dataclass_fields__)
