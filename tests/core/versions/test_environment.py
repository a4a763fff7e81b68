"""What a version was made with, and what of it must be the same where it is loaded."""

from __future__ import annotations

import hashlib
import platform
import subprocess
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from sklearn.base import BaseEstimator, TransformerMixin
from sklearn.compose import ColumnTransformer
from sklearn.pipeline import FeatureUnion, make_pipeline
from sklearn.preprocessing import FunctionTransformer, StandardScaler

from tasks.core.errors import EnvironmentMismatch
from tasks.core.versions import persistence
from tasks.core.versions.environment import Environment, check_environment, environment_of, is_same


class Own(TransformerMixin, BaseEstimator):
    """A transformer of a project's own."""

    def fit(self, *_: Any) -> Own:
        return self

    def transform(self, frame: Any) -> Any:
        return frame


def own_function(frame: Any) -> Any:
    return frame


def recorded(pipeline: Any, root: Path) -> Environment:
    return environment_of(persistence.dump(pipeline).modules, root)


@pytest.mark.parametrize(
    "pipeline",
    [
        Own(),
        make_pipeline(StandardScaler(), Own()),
        make_pipeline(ColumnTransformer([("x", FeatureUnion([("own", Own())]), ["a"])])),
        make_pipeline(FunctionTransformer(own_function)),
    ],
    ids=["alone", "a step", "nested", "a function"],
)
def test_the_source_of_own_parts_is_recorded(pipeline: Any, tmp_path: Path) -> None:
    """The digest of a module that belongs to no installed package is recorded, however deep its part is nested."""
    digest = hashlib.sha256(Path(__file__).read_bytes()).hexdigest()
    assert recorded(pipeline, tmp_path).sources[__name__] == digest


def test_the_environment_names_what_pickles_depend_on(tmp_path: Path) -> None:
    """Python, platform and the libraries that scikit-learn's pickles depend on are always recorded."""
    found = recorded(StandardScaler(), tmp_path)
    assert found.python == platform.python_version()
    assert found.platform == platform.platform()
    assert {"scikit-learn", "numpy", "scipy", "joblib", "pandas"} <= set(found.distributions)
    assert (found.sources, found.git_commit) == ({}, None)


def test_the_commit_is_recorded_inside_a_repository(tmp_path: Path) -> None:
    """Under version control the commit is part of the environment."""
    who = ["-c", "user.name=t", "-c", "user.email=t@example.org"]
    for command in (["init", "-q"], [*who, "commit", "-q", "--allow-empty", "-m", "x"]):
        subprocess.run(["git", "-C", str(tmp_path), *command], check=True)
    commit = recorded(StandardScaler(), tmp_path).git_commit
    assert commit is not None
    assert len(commit) == 40
    (tmp_path / "data.csv").write_text("what is no code, and not tracked, changes no commit")
    (tmp_path / "src").mkdir()
    code = [tmp_path / "src"]
    assert environment_of([], tmp_path, code).git_commit == commit
    (tmp_path / "src" / "new.py").write_text("x = 1")
    assert environment_of([], tmp_path, code).git_commit == f"{commit}-dirty"
    subprocess.run(["git", "-C", str(tmp_path), "add", "src"], check=True)
    assert environment_of([], tmp_path).git_commit == f"{commit}-dirty"


# --- what must be the same -----------------------------------------------------------------------------------


@pytest.fixture
def here(tmp_path: Path) -> Environment:
    return recorded(make_pipeline(StandardScaler(), Own()), tmp_path)


def test_the_same_environment_needs_no_word(here: Environment) -> None:
    """Where nothing differs nothing is noted, and answers must be the very same."""
    assert check_environment(here, "loans v1") == ()
    assert is_same(here, ())


def test_patch_releases_are_noted(here: Environment) -> None:
    """Another patch release, and any release of what only reads, is left to the known answers, with a note."""
    major, minor = here.distributions["numpy"].split(".")[:2]
    other = {**here.distributions, "numpy": f"{major}.{minor}.999", "pandas": "0.1", "retrain-or-reload": "0.0.1"}
    notes = check_environment(replace(here, distributions=other), "loans v1")
    assert notes == (
        f"numpy {major}.{minor}.999, here {here.distributions['numpy']}",
        f"pandas 0.1, here {here.distributions['pandas']}",
    )
    assert not is_same(here, notes)


def test_every_difference_is_named_at_once(here: Environment) -> None:
    """A refusal names all that differs, both releases of each, and the three ways out."""
    other = replace(here, python="2.7.18", distributions={**here.distributions, "scipy": "0.1.0", "gone": "3.0"})
    with pytest.raises(EnvironmentMismatch) as caught:
        check_environment(other, "loans v1")
    assert caught.value.differences == (
        f"Python 2.7.18, here {platform.python_version()}",
        f"scipy 0.1.0, here {here.distributions['scipy']}",
        "gone 3.0, here it is not installed",
    )
    said = str(caught.value)
    assert all(difference in said for difference in caught.value.differences)
    for way in (
        "ror show loans v1 --requirements",
        "ror run loans --action retrain",
        "ror promote loans v1 --accept-environment",
    ):
        assert way in said


def test_what_a_person_accepted_is_no_obstacle(here: Environment) -> None:
    """Exactly the differences that were accepted pass, with a note; one more is refused again."""
    old = replace(here, distributions={**here.distributions, "scipy": "0.1.0"})
    with pytest.raises(EnvironmentMismatch) as caught:
        check_environment(old, "loans v1")
    accepted = caught.value.differences
    assert check_environment(old, "loans v1", accepted=accepted) == (f"{accepted[0]}, as a person accepted",)
    with pytest.raises(EnvironmentMismatch, match=r"was made with numpy 0\.1"):
        check_environment(
            replace(old, distributions={**old.distributions, "numpy": "0.1"}), "loans v1", accepted=accepted
        )


def test_changed_code_is_shown(here: Environment) -> None:
    """A changed module is refused with what changed in it; one that is not found, with where to put it."""
    other = replace(here, sources={__name__: "0" * 64, "desk_gone": "1" * 64})
    text = Path(__file__).read_text()
    with pytest.raises(EnvironmentMismatch) as caught:
        check_environment(other, "loans v1", texts=lambda: {__name__: f"{text}\nthis_line = 'is gone'\n"})
    said = str(caught.value)
    assert "-this_line = 'is gone'" in said
    assert 'desk_gone: name its folder in the model\'s file (`code = ["src"]`), or put it on PYTHONPATH.' in said
