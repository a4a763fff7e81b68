"""Frames in the types of pandas, where a model's file asks for them, made at one place."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from sklearn.compose import ColumnTransformer, make_column_selector
from sklearn.linear_model import LogisticRegression
from sklearn.model_selection import GridSearchCV
from sklearn.pipeline import FeatureUnion, make_pipeline
from sklearn.preprocessing import OneHotEncoder, OrdinalEncoder, StandardScaler

from tasks.core.records import from_json, to_json
from tasks.core.schema.contract import CATEGORIES, Contract, infer
from tasks.core.schema.dtypes import as_seen
from tasks.core.schema.frames import conform, frame
from tasks.core.training.challenger import train as train_challenger
from tasks.core.types import Gate
from tasks.core.versions import loading
from tasks.core.versions.steps import idle_steps
from tests.helpers.model import make_rows
from tests.helpers.training import make_history, make_spec, put

PANDAS = {"frames": "pandas"}


def people(rows: int = 300) -> pd.DataFrame:
    rng = np.random.default_rng(0)
    return pd.DataFrame(
        {
            "id": np.arange(rows),
            "count": rng.integers(0, 9, rows),
            "amount": rng.normal(size=rows),
            "whole": np.round(rng.normal(size=rows)),
            "gaps": pd.array(np.where(rng.random(rows) < 0.1, None, rng.integers(0, 5, rows)), dtype="Int64"),
            "member": rng.random(rows) < 0.5,
            "asked": pd.array(np.where(rng.random(rows) < 0.1, None, rng.random(rows) < 0.5), dtype="boolean"),
            "city": rng.choice(["Oslo", "Bergen", "Narvik"], rows, p=[0.5, 0.3, 0.2]),
            "name": [f"n{row}" for row in range(rows)],
            "code": rng.integers(100, 104, rows),
            "y": rng.integers(0, 2, rows),
        }
    )


def seen(root: Path, data: pd.DataFrame, file: str = "one.parquet", **pipeline: Any) -> tuple[Contract, pd.DataFrame]:
    source = put(root, data, file)
    contract = infer([source], make_spec(pipeline={**PANDAS, **pipeline}, categorical=["code"]))
    return contract, as_seen(contract, frame(contract, source))


@pytest.mark.parametrize("file", ["one.parquet", "one.csv"])
def test_types_are_those_of_training(tmp_path: Path, file: str) -> None:
    """Integers without gaps, booleans, and names of few levels have their types; with gaps, integers are floats and
    booleans objects. A text file has no types: there whole numbers are integers."""
    _, found = seen(tmp_path, people(), file)
    types = {name: str(kind) for name, kind in found.dtypes.items()}
    assert types == {
        "count": "int64", "amount": "float64", "whole": "int64" if file.endswith("csv") else "float64",
        "gaps": "float64", "member": "bool", "asked": "object", "city": "category", "name": "object",
        "code": "category",
    }  # fmt: skip
    assert set(found.asked.dropna().map(type)) == {bool}
    assert people().member.tolist() == found.member.tolist()


def test_categories_are_in_the_contracts_order(tmp_path: Path) -> None:
    """The same codes in every frame, whatever levels it has; what was never seen is missing."""
    contract, found = seen(tmp_path, people())
    assert list(found.city.cat.categories) == ["Oslo", "Bergen", "Narvik"]
    few = as_seen(contract, conform(contract, people().iloc[:3].assign(city=["Bergen", "Vadsø", None])))
    assert list(few.city.cat.categories) == ["Oslo", "Bergen", "Narvik"]
    assert few.city.isna().tolist() == [False, True, True]


def test_names_of_many_levels_stay_text(tmp_path: Path) -> None:
    """As many levels as a contract lists are categories, one more is none."""
    data = people()
    for levels, kind in ((CATEGORIES, "category"), (CATEGORIES + 1, "object")):
        data["name"] = [f"n{row % levels}" for row in range(len(data))]
        assert str(seen(tmp_path, data)[1].name.dtype) == kind


def test_values_that_do_not_fit_keep_their_type(tmp_path: Path) -> None:
    """A gap where training had none, or half a number among whole ones, is not rounded away."""
    contract, _ = seen(tmp_path, people())
    rows = conform(contract, people().iloc[:2].assign(count=[1.5, 2], member=[True, None]))
    found = as_seen(contract, rows)
    assert found["count"].tolist() == [1.5, 2.0]
    assert found.member.tolist()[0] is True and pd.isna(found.member[1])


def test_a_frame_that_was_converted_stays_as_it_is(tmp_path: Path) -> None:
    """The door may be passed twice, and parts of a frame as the whole."""
    contract, found = seen(tmp_path, people())
    pd.testing.assert_frame_equal(as_seen(contract, found), found)
    parts = [as_seen(contract, found.iloc[:100]), as_seen(contract, found.iloc[100:])]
    pd.testing.assert_frame_equal(pd.concat(parts), found)


def test_frames_are_plain_by_default(tmp_path: Path) -> None:
    """Float64 and text, and the contract's bytes know nothing of types, as in versions registered before."""
    source = put(tmp_path, people(), "one.parquet")
    contract = infer([source], make_spec(categorical=["code"]))
    plain = frame(contract, source)
    assert as_seen(contract, plain) is plain and b"dtype" not in to_json(contract)
    typed, _ = seen(tmp_path, people())
    assert from_json(Contract, to_json(typed), "contract.json") == typed


def by_type() -> Any:
    """A pipeline that selects columns by the types of pandas."""
    return make_pipeline(
        ColumnTransformer(
            [
                ("names", OneHotEncoder(handle_unknown="ignore"), make_column_selector(dtype_include="category")),
                ("flags", "passthrough", make_column_selector(dtype_include="bool")),
                ("whole", StandardScaler(), make_column_selector(dtype_include="int64")),
                ("rest", "passthrough", ["income"]),
            ]
        ),
        LogisticRegression(),
    )


def test_a_pipeline_that_selects_by_type_gets_its_columns(tmp_path: Path) -> None:
    """With the types of pandas every selector finds its columns, in training, in the stored version and for a frame of
    a service; without, each step that finds none is named in the gate's reason."""
    rows = make_rows(400, seed=1).assign(income=lambda data: data.income.fillna(0))

    def made(**pipeline: Any) -> tuple[Any, Gate]:
        spec = make_spec(pipeline={"factory": f"{__name__}:by_type", **pipeline})
        history = make_history(tmp_path, spec, rows)
        found = train_challenger(tmp_path, spec, history, None, "retrain", ["a test"])
        return found.candidate, found.gate

    candidate, gate = made(**PANDAS)
    assert "no column" not in gate.reason
    _, pipeline = loading.revive(candidate.files(), "joblib", "v1", exact=True)
    columns = {name: list(chosen) for name, _, chosen in pipeline.steps[0][1].transformers_}
    assert columns == {"names": ["city"], "flags": ["member"], "whole": ["age"], "rest": ["income"]}
    assert candidate.reference.dtypes.astype(str).isin(["float64", "object", "int64"]).all()

    _, gate = made()
    for step in ("'names' (OneHotEncoder)", "'flags' (passthrough)", "'whole' (StandardScaler)"):
        assert f"step 'columntransformer' > {step}" in gate.reason
    assert 'select no column (numbers are float64 and names text here: [pipeline] frames = "pandas"' in gate.reason


def test_steps_that_select_nothing_are_named() -> None:
    """At whatever depth: in a union, in a search, in a nested pipeline; those that select something are not."""
    data = pd.DataFrame({"x": [0.0, 1.0, 2.0, 3.0], "c": ["a", "b", "a", "b"]})
    inner = ColumnTransformer(
        [
            ("cat", OrdinalEncoder(), make_column_selector(dtype_include="category")),
            ("num", StandardScaler(), make_column_selector(dtype_include="number")),
        ],
        remainder="drop",
    )
    union = FeatureUnion([("left", make_pipeline(inner)), ("right", ColumnTransformer([("x", "passthrough", ["x"])]))])
    search = GridSearchCV(make_pipeline(union, LogisticRegression()), {"logisticregression__C": [1.0]}, cv=2)
    found = idle_steps(search.fit(data, [0, 0, 1, 1]))
    assert found == ["step 'featureunion' > 'left' > 'columntransformer' > 'cat' (OrdinalEncoder)"]
