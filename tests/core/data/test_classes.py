"""Labels are of the model's classes: of their kind where that is exact, unlabelled where they are none."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest

from tasks.core.data.files import find_batches
from tasks.core.data.known_classes import with_classes
from tasks.core.data.labels import Labels
from tasks.core.errors import DataError, SpecError
from tasks.core.spec import ModelSpec
from tests.helpers.training import make_spec, put

ROWS = 100
HERE = {"batches": "b*"}
LATE = {"batches": "b*", "labels": "labels/*"}
YES_NO = ["yes", "no"] * (ROWS // 2)


def root_with(root: Path, *files: Any, ending: str = "parquet") -> Path:
    """A batch for each list of labels."""
    for number, y in enumerate(files, start=1):
        put(root, pd.DataFrame({"id": range(ROWS), "x": range(ROWS), "y": y}), f"b{number}.{ending}")
    return root


def read(root: Path, spec: ModelSpec, batch: int = 0) -> tuple[list[Any], int]:
    """Labels of a batch, and how many were none."""
    labels = Labels(root, spec)
    one = find_batches(root, spec)[batch]
    values = labels.of(one).values.to_pylist()
    return values, next((found.strays for found in labels.answers.values()), 0)


def found(root: Path, spec: ModelSpec, pipeline: Any = None) -> tuple[Any, ...]:
    return with_classes(root, spec, pipeline, find_batches(root, spec), Labels(root, spec).files).classes


@pytest.mark.parametrize(
    ("classes", "y"),
    [
        ((0, 1), ["0", "1"] * 50),
        ((0, 1), [" 0", "1.0"] * 50),
        ((0, 1), [0.0, 1.0] * 50),
        ((0, 1), ["false", "true"] * 50),
        (("0", "1"), [0, 1] * 50),
        (("0", "1"), [0.0, 1.0] * 50),
        (("no", "yes"), ["no ", "\tyes"] * 50),
        ((False, True), ["False", "TRUE"] * 50),
        ((False, True), ["0", "1"] * 50),
    ],
    ids=str,
)
@pytest.mark.parametrize("ending", ["csv", "parquet"])
def test_labels_are_brought_to_the_kind_of_the_classes(tmp_path: Path, classes: Any, y: Any, ending: str) -> None:
    """Numbers beside text, blanks around a word: the same class, in every format."""
    if ending == "csv" and classes == ("0", "1") and isinstance(y[0], float):
        pytest.skip("a text file with 0.0 holds the text 0.0")
    values, strays = read(root_with(tmp_path, y, ending=ending), make_spec(data=HERE, classes=classes))
    assert [int(v) if not isinstance(v, str) else v for v in values[:2]] == [
        c if isinstance(c, str) else int(c) for c in classes
    ]
    assert strays == 0 and None not in values


@pytest.mark.parametrize(
    ("classes", "usual", "stray"),
    [
        (("yes", "no"), YES_NO, "?"),
        (("yes", "no"), YES_NO, "Yes"),
        ((0, 1), [0, 1] * 50, 9),
        ((0, 1), ["0", "1"] * 50, "n/a"),
        ((0, 1), [0.0, 1.0] * 50, 0.5),
        ((101, 102), ["101", "102"] * 50, "1e2x"),
    ],
    ids=str,
)
def test_what_is_no_class_makes_its_row_unlabelled(tmp_path: Path, classes: Any, usual: Any, stray: Any) -> None:
    """One value that is no class leaves the others alone; more than one in twenty, and the file is not trusted."""
    spec = make_spec(data=HERE, classes=classes)
    few, many = [*usual[:-5], *[stray] * 5], [*usual[:-6], *[stray] * 6]
    root_with(tmp_path, few, many)
    values, strays = read(tmp_path, spec)
    assert strays == 5 and values.count(None) == 5 and len({*values}) == 3
    with pytest.raises(DataError, match=r"b2\.parquet: 6 of its 100 labels are none of the classes") as caught:
        read(tmp_path, spec, 1)
    assert str(stray) in str(caught.value) and "classes = [" in str(caught.value)


def test_private_labels_are_counted_and_not_shown(tmp_path: Path) -> None:
    """Neither classes nor strays of a private target are in the message."""
    root_with(tmp_path, ["secret"] * ROWS)
    with pytest.raises(DataError) as caught:
        read(tmp_path, make_spec(data={**HERE, "private": ["y"]}, classes=["open", "shut"]))
    assert "100 of its 100" in str(caught.value)
    assert not any(word in str(caught.value) for word in ("secret", "open", "shut"))


def test_a_label_file_that_is_set_aside_holds_up_no_other(tmp_path: Path) -> None:
    """Labels of other files count; why one does not is said with its name."""
    spec = make_spec(data=LATE, classes=["yes", "no"])
    root_with(tmp_path, YES_NO)
    (tmp_path / "labels").mkdir()
    put(tmp_path, pd.DataFrame({"id": range(50), "y": YES_NO[:50]}), "labels/1.parquet")
    put(tmp_path, pd.DataFrame({"id": range(ROWS), "y": [3] * ROWS}), "labels/2.csv")
    labels, problems = Labels.usable(tmp_path, spec, Labels(tmp_path, spec).files)
    assert labels.of(find_batches(tmp_path, spec)[0]).known == 50
    assert (
        len(problems) == 1
        and "labels/2.csv: 100 of its 100 labels are none of the classes 'yes', 'no': '3'" in problems[0]
    )


# --- which classes -------------------------------------------------------------------------------------------


class Fitted:
    classes_ = np.array(["n", "y"])


def test_the_models_file_comes_before_the_version_and_that_before_the_data(tmp_path: Path) -> None:
    """`classes`, else what the version in service learned, else the first labels."""
    root_with(tmp_path, YES_NO)
    assert found(tmp_path, make_spec(data=HERE, classes=["a", "b"]), Fitted()) == ("a", "b")
    assert found(tmp_path, make_spec(data=HERE), Fitted()) == ("n", "y")
    assert found(tmp_path, make_spec(data=HERE)) == ("no", "yes")
    assert found(tmp_path, make_spec(data=HERE, task="regression")) == ()


@pytest.mark.parametrize(
    ("first", "classes"),
    [
        ([*YES_NO[:-2], "yes ", "?"], ("no", "yes")),
        ([*([0, 1] * 49), 0, 7], (0, 1)),
        ([True, False] * 50, (False, True)),
        ([*([1.0, 0.0] * 49), None, 1.0], (0, 1)),
        ([*YES_NO[:-1], None], ("no", "yes")),
    ],
    ids=str,
)
def test_two_classes_stay_two(tmp_path: Path, first: Any, classes: Any) -> None:
    """A stray value or a blank in the first batch makes a binary model no model of three classes."""
    root_with(tmp_path, first)
    assert found(tmp_path, make_spec(data=HERE)) == classes


def test_a_batch_of_one_class_says_too_little(tmp_path: Path) -> None:
    """Where only one class was delivered the next batch is asked as well."""
    root_with(tmp_path, ["yes"] * ROWS, YES_NO, ["maybe"] * ROWS)
    assert found(tmp_path, make_spec(data=HERE)) == ("no", "yes")


def test_the_first_batch_decides_the_kind(tmp_path: Path) -> None:
    """Numbers first: text that writes them is brought to numbers; and the other way round."""
    for first, second, kind in (([0, 1] * 50, ["0", "1"] * 50, int), (["0", "1"] * 50, [0, 1] * 50, str)):
        root_with(tmp_path, first, second)
        spec = make_spec(data=HERE)
        spec = spec.model_copy(update={"classes": found(tmp_path, spec)})
        assert {type(value) for batch in (0, 1) for value in read(tmp_path, spec, batch)[0]} == {kind}


def test_late_labels_of_two_kinds(tmp_path: Path) -> None:
    """One label file with numbers and one with the same as text are labels of one kind."""
    root_with(tmp_path, YES_NO)
    (tmp_path / "labels").mkdir()
    put(tmp_path, pd.DataFrame({"id": range(50), "y": [0, 1] * 25}), "labels/1.parquet")
    put(tmp_path, pd.DataFrame({"id": range(50, ROWS), "y": ["0", "1"] * 25}), "labels/2.parquet")
    spec = make_spec(data=LATE)
    assert found(tmp_path, spec) == (0, 1)
    assert read(tmp_path, spec.model_copy(update={"classes": (0, 1)}))[0] == [0, 1] * 50


def test_more_classes_than_two(tmp_path: Path) -> None:
    """Codes beside a word are text, and a later batch that has codes only is text as well."""
    root_with(tmp_path, [*(["101", "102"] * 40), *(["other"] * 20)], ["101", "102"] * 50, ending="csv")
    spec = make_spec(data=HERE, task="multiclass")
    assert found(tmp_path, spec) == ("101", "102", "other")
    again = spec.model_copy(update={"classes": ("101", "102", "other")})
    assert read(tmp_path, again, 1) == (["101", "102"] * 50, 0)


@pytest.mark.parametrize(
    ("options", "problem"),
    [
        ({"classes": ["a"]}, "binary needs two"),
        ({"classes": ["a", "b", "c"]}, "binary needs two"),
        ({"classes": ["a", "a"]}, "different values"),
        ({"classes": ["a", 1]}, "of one kind"),
        ({"classes": [0.5, 1.5]}, "classes"),
        ({"classes": [0, 1], "task": "regression"}, "a regression has none"),
    ],
    ids=str,
)
def test_classes_that_cannot_be_are_refused(options: Any, problem: str) -> None:
    """The model's file is refused with what is wrong."""
    with pytest.raises(SpecError, match=problem):
        make_spec(**options)
