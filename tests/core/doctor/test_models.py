"""What `ror doctor` looks at of every model: its file, code, data and history."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from tasks.core.doctor import models
from tasks.core.doctor.deployment import SKEW_MAX, Diagnosis, Level, gather
from tasks.core.ledger.events import Failed
from tasks.core.ledger.lease import Lease
from tasks.core.workspace import Project
from tests.helpers.events import arrived, decide, decided
from tests.helpers.model import Model


def look(model: Model) -> dict[str, Diagnosis]:
    return {finding.name.removeprefix(f"{model.name}: "): finding for finding in every(model)}


def every(model: Model) -> Iterator[Diagnosis]:
    yield from models.model(model.root, model.name)
    yield from models.history(model.workspace.store_location, model.name, model.root)


def test_a_model_that_is_well(model: Model) -> None:
    """File, code, batches, labels, room for predictions, and an empty history: ok each, and nothing is left behind."""
    model.deliver("001")
    model.deliver("002")
    before = sorted(model.root.rglob("*"))
    found = look(model)
    assert list(found) == ["loans", "code", "batches", "labels", "predictions", "history"]
    assert {finding.level for finding in found.values()} == {Level.OK}
    assert found["batches"].text == "2 batches, newest 002.parquet"
    assert found["labels"].text == "in the batches, column 'y'"
    assert sorted(model.root.rglob("*")) == before


def test_every_problem_of_a_file_is_a_line(model: Model) -> None:
    """A file that is not valid says all that is wrong with it; its history is looked at all the same."""
    path = model.root / "deployments/loans.toml"
    path.write_text(path.read_text().replace('"binary"', '"binry"') + "\n[policy]\nretrain_cst = 1\n")
    *problems, history = every(model)
    assert [(item.name, item.level) for item in problems] == [("loans", Level.FAIL)] * 2
    assert "binry" in problems[0].text and "retrain_cst" in problems[1].text
    assert history.level is Level.OK
    path.write_text("task = ")
    assert "not valid TOML" in next(every(model)).text


def test_names_that_the_data_do_not_have(model: Model) -> None:
    """A column that no batch has is a failure with the nearest name; corrected as it says, it is gone."""
    model.deliver("001", rows=20)
    path = model.root / "deployments/loans.toml"
    path.write_text(path.read_text().replace("[data]", 'time = "ages"\n[data]'))
    found = look(model)["names"]
    assert (found.level, found.text) == (Level.FAIL, "time: no column is called 'ages'; did you mean 'age'?")
    assert "deployments/loans.toml" in found.remedy
    path.write_text(path.read_text().replace('"ages"', '"age"'))
    assert "names" not in look(model)


def test_one_broken_model_does_not_hide_another(model: Model) -> None:
    """All models of a root are looked at; where there is none, that is said."""
    model.deliver("001")
    (model.root / "deployments/broken.toml").write_text("task = ")
    found = gather(models.checks(model.workspace.project), 5)
    assert {item.name for item in found if item.level is Level.FAIL} == {"broken"}
    assert "loans: predictions" in {item.name for item in found if item.level is Level.OK}
    (none,) = gather(models.checks(Project(model.root / "elsewhere", "memory://")), 5)
    assert none.level is Level.FAIL and none.remedy.startswith("Is this the right root?")


def test_batches_that_cannot_be_used(model: Model) -> None:
    """A folder that is missing, nothing in it that matches, two of one name, and an empty file."""
    missing = look(model)["batches"]
    assert (missing.level, missing.text) == (Level.FAIL, f"there is no folder {model.batches}")
    assert "data.batches" in missing.remedy
    model.batches.mkdir(parents=True)
    (model.batches / "notes.txt").write_text("hello")
    nothing = look(model)["batches"]
    assert (nothing.level, nothing.text) == (
        Level.WARN, f"nothing matches 'data/loans/batches/*'; 1 other files are in {model.batches}",
    )  # fmt: skip
    model.deliver("001")
    (model.batches / "002.parquet").touch()
    assert look(model)["batches"].text == "002.parquet is empty"
    (model.batches / "001.csv").write_text("id,y\n1,1\n")
    first, second = (item for item in every(model) if item.name == "loans: batches")
    assert (first.level, first.text) == (Level.FAIL, "batches/001.csv, batches/001.parquet are both batch '001'")
    assert first.remedy.startswith("If they hold the same rows, move all but one out of the folder")
    assert second.text == "002.parquet is empty"


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can become somebody who may not read")
def test_data_of_somebody_else(model: Model, tmp_path: Path) -> None:
    """Data that this user may not read, and a folder that it may not write to, are told apart from missing ones."""
    path = model.deliver("001")
    path.chmod(0o600)
    for folder in (tmp_path, *tmp_path.parents[:-2]):
        folder.chmod(0o755)
    os.seteuid(65534)
    try:
        found = look(model)
    finally:
        os.seteuid(0)
    assert found["batches"].text == "001.parquet cannot be read: Permission denied"
    assert found["predictions"].level is Level.FAIL
    assert "Permission denied" in found["predictions"].text


def test_labels_that_come_later(model: Model) -> None:
    """Their folder must be there; that none has arrived yet is worth a word."""
    model.write_spec(late_labels=True)
    model.deliver("001")
    assert look(model)["labels"].level is Level.FAIL
    model.labels.mkdir()
    assert look(model)["labels"].level is Level.WARN
    (model.labels / "001.csv").write_text("id,y\n1-0,1\n")
    assert look(model)["labels"].text == "1 label files, newest 001.csv"


def test_code_is_found_without_importing_it(model: Model) -> None:
    """A factory's module is looked for in the model's own folders, and not run."""
    model.write_spec('[pipeline]\nfactory = "wizardry.pipelines:make"\n')
    lost = look(model)["code"]
    assert (lost.level, lost.text) == (Level.FAIL, "there is no module wizardry")
    package = model.root / "src/wizardry"
    package.mkdir(parents=True)
    (package / "__init__.py").write_text("raise SystemExit('imported')")
    path = model.root / "deployments/loans.toml"
    path.write_text('code = ["src"]\n' + path.read_text())
    assert look(model)["code"].text.startswith("there is no module wizardry.pipelines, also in ")
    (package / "pipelines.py").write_text("raise SystemExit('imported')")
    assert look(model)["code"].text == "wizardry.pipelines of src is found"
    assert "wizardry" not in sys.modules


TAKE = """
import os, sys
from tasks.core.ledger.lease import Lease
from tasks.core.workspace import Project
from tasks.core.workspace import Workspace
Lease(Workspace.open(sys.argv[1], "loans").ledger, run="doomed", key="k", actor="t", reason="").__enter__()
os._exit(9)
"""


def test_who_is_at_work(model: Model) -> None:
    """A run that is alive is named, and one that died without a word is told apart from it."""
    model.deliver("001")
    with Lease(model.workspace.ledger, run="busy-bee", key="k", actor="t", reason=""):
        alive = look(model)["lease"]
    assert alive.level is Level.OK
    assert f"run busy-bee (process {os.getpid()}" in alive.text and "is at work" in alive.text
    found = look(model)
    assert "lease" not in found
    assert found["history"].text.startswith("2 entries, newest 20")
    assert subprocess.run([sys.executable, "-c", TAKE, str(model.root)], check=False, timeout=60).returncode == 9
    assert "run doomed" in (dead := look(model)["lease"]).text and "the next run takes over" in dead.text


def test_a_history_from_the_future(model: Model) -> None:
    """An entry that is newer than now says that a clock is wrong: here, or where it was written."""
    ledger = model.workspace.ledger
    later = datetime.now(UTC) + timedelta(seconds=SKEW_MAX + 60)
    head = replace(ledger.head(), at=later.isoformat(timespec="microseconds"))
    ledger.append(head, Failed("none"), run="r", key="k", actor="t", reason="")
    found = look(model)
    assert found["history"].level is Level.OK
    assert found["clock"].level is Level.FAIL
    assert "behind the newest entry of the history" in found["clock"].text


def test_batches_that_are_gone(model: Model) -> None:
    """A batch that was decided on and is not there is a warning with its name, unless the model's file says that it may
    be gone."""
    model.deliver("002")
    for name in ("001", "002"):
        decide(model.workspace, decided(in_service=None, **arrived(name)))
    assert look(model)["gone"].level is Level.WARN and "is gone (001)" in look(model)["gone"].text
    model.write_spec("keep = 1")
    assert "gone" not in look(model)
    model.write_spec('keep = "2y"')
    found = [finding for finding in every(model) if "goes by the dates in names" in finding.text]
    assert [finding.level for finding in found] == [Level.WARN] and "none in 002" in found[0].text


def test_a_damaged_history(model: Model, monkeypatch: pytest.MonkeyPatch) -> None:
    """A torn entry fails with what repairs it; keys that cannot be used do not keep the history from being read."""
    with Lease(model.workspace.ledger, run="r", key="k", actor="t", reason=""):
        pass
    location = model.workspace.store_location
    monkeypatch.setenv("ROR_TRUSTED_KEYS", str(model.root / "nowhere"))
    (found,) = models.history(location, "loans", model.root)
    assert found.level is Level.OK and "signatures were not checked" in found.text
    monkeypatch.delenv("ROR_TRUSTED_KEYS")
    path = Path(location) / "loans/ledger/00000002.json"
    path.write_bytes(path.read_bytes()[:40])
    failed = {item.name: item for item in gather(models.checks(model.workspace.project), 5)}["loans: history"]
    assert failed.level is Level.FAIL
    assert "ror verify loans --repair" in failed.text
