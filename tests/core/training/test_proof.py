"""The clean process that a candidate must come to life in, before it becomes a version."""

from __future__ import annotations

import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import FunctionTransformer

from tasks.core.errors import TrainingError
from tasks.core.training import proof
from tasks.core.versions import persistence
from tasks.core.versions.environment import environment_of
from tasks.core.versions.manifest import Candidate
from tasks.core.versions.own_code import make_importable, texts_of
from tests.helpers.training import Trained

pytestmark = pytest.mark.proof


@pytest.fixture
def candidate(trained: Trained) -> Candidate:
    return trained.challenger.candidate


def with_step(candidate: Candidate, step: Any, root: Path) -> Candidate:
    """The candidate with one more step, which changes nothing, before its pipeline."""
    saved = persistence.dump(make_pipeline(step, persistence.load(candidate.pipeline)))
    return replace(
        candidate,
        pipeline=saved.data,
        environment=environment_of(saved.modules, root),
        sources=texts_of(saved.modules),
    )


def test_a_candidate_that_loads_anywhere_is_proved(candidate: Candidate) -> None:
    """A pipeline of library classes comes to life in a clean process and gives its known answers."""
    proof.prove(candidate, [])


def test_byte_code_is_written_by_nobody_who_wants_none(
    candidate: Candidate, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The clean process leaves none beside modules where this process writes none."""
    monkeypatch.setattr(sys, "path", [*sys.path])
    monkeypatch.setattr(sys, "dont_write_bytecode", True)
    (tmp_path / "desk_quiet.py").write_text("def same(frame):\n    return frame\n")
    make_importable([tmp_path])
    import desk_quiet  # type: ignore[import-not-found]

    proof.prove(with_step(candidate, FunctionTransformer(desk_quiet.same), tmp_path), [tmp_path])
    assert not (tmp_path / "__pycache__").exists()


def test_other_answers_are_refused(candidate: Candidate) -> None:
    """What the clean process answers must be what this one answered."""
    probe = candidate.probe.copy()
    probe.loc[0, "ror:probability:1"] += 1e-9
    with pytest.raises(TrainingError, match="a clean process cannot use it: It no longer gives its known answers"):
        proof.prove(replace(candidate, probe=probe), [])


def test_own_modules_must_be_where_a_worker_finds_them(
    candidate: Candidate, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A module that only this process can import is refused with the remedy; with its folder named it is proved."""
    monkeypatch.setattr(sys, "path", [*sys.path])
    (tmp_path / "desk_step.py").write_text(
        "from sklearn.base import BaseEstimator, TransformerMixin\n"
        "class Step(TransformerMixin, BaseEstimator):\n"
        "    def fit(self, X, y=None): return self\n"
        "    def transform(self, X): return X\n"
    )
    make_importable([tmp_path])
    import desk_step  # type: ignore[import-not-found]

    own = with_step(candidate, desk_step.Step(), tmp_path)
    assert list(own.sources) == ["desk_step"]
    with pytest.raises(TrainingError, match=r"another desk_step than here, where there is none.*code = \[\"src\"\]"):
        proof.prove(own, [])
    proof.prove(own, [tmp_path])


def test_folders_of_code_hide_nothing_there_either(
    candidate: Candidate, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As in a worker, a module of one's own that is called like an installed one stays behind it; what modules print
    while they are imported is no answer."""
    monkeypatch.setattr(sys, "path", [*sys.path])
    (tmp_path / "calendar.py").write_text("raise RuntimeError('the wrong one')\n")
    (tmp_path / "desk_loud.py").write_text("print('hello')\ndef same(X):\n    return X\n")
    make_importable([tmp_path])
    import desk_loud  # type: ignore[import-not-found]

    own = with_step(candidate, FunctionTransformer(desk_loud.same), tmp_path)
    proof.prove(own, [tmp_path])
    probe = own.probe.assign(**{"ror:probability:1": 0.5})
    with pytest.raises(TrainingError, match="a clean process cannot use it: It no longer gives its known answers"):
        proof.prove(replace(own, probe=probe), [tmp_path])


def test_the_current_folder_is_no_help(candidate: Candidate, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A module that lies in the folder where somebody happens to stand is not where a worker finds it."""
    monkeypatch.setattr(sys, "path", [*sys.path])
    (tmp_path / "desk_here.py").write_text("def same(X):\n    return X\n")
    make_importable([tmp_path])
    import desk_here  # type: ignore[import-not-found]

    own = with_step(candidate, FunctionTransformer(desk_here.same), tmp_path)
    monkeypatch.chdir(tmp_path)
    with pytest.raises(TrainingError, match="desk_here"):
        proof.prove(own, [])


def test_a_process_that_dies_is_no_proof(candidate: Candidate, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A pipeline whose loading ends the process is refused with what it left to read."""
    monkeypatch.setattr(sys, "path", [*sys.path])
    text = "def same(X):\n    return X\n"
    (tmp_path / "desk_dies.py").write_text(text)
    make_importable([tmp_path])
    import desk_dies  # type: ignore[import-not-found]

    own = with_step(candidate, FunctionTransformer(desk_dies.same), tmp_path)
    (tmp_path / "desk_dies.py").write_text(text + "import sys\nsys.exit('no licence on this machine')\n")
    own = replace(own, environment=environment_of(["desk_dies"], tmp_path))
    with pytest.raises(TrainingError, match="no licence on this machine"):
        proof.prove(own, [tmp_path])
