"""Erasing a key: it is gone from every byte, everything still works, and a kill leaves something whole."""

from __future__ import annotations

import json
import os
import re
import shutil
import signal
import subprocess
import sys
import textwrap
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from tasks.core.audit import removals
from tasks.core.audit.reproduce import reproduce
from tasks.core.errors import CorruptObject, InvalidRequest, LedgerConflict, SpecError, StoreError, VerificationError
from tasks.core.ledger import events, keys, signing
from tasks.core.ledger.lease import Lease
from tasks.core.ledger.state import State, Substitute
from tasks.core.ledger.transitions import transition
from tasks.core.predictions import predictions_path, read_predictions, write_predictions
from tasks.core.removal import erase, erase_files, erase_plan, prune
from tasks.core.reports import status
from tasks.core.run import assess
from tasks.core.run.labels import check_performance
from tasks.core.run.trainable import training_rows
from tasks.core.run.work import find_work
from tasks.core.spec import CsvSpec
from tasks.core.training.holdout import holdout_rows
from tasks.core.types import Action, Attempt, AttemptOutcome, Labelled, Request, Served
from tasks.core.versions.manifest import read_parquet
from tasks.core.versions.registry import Registry
from tasks.core.workspace import Workspace
from tests.helpers.events import decided
from tests.helpers.model import Model, make_rows
from tests.helpers.training import train
from tests.helpers.versions import put_in_service

WHO: dict[str, Any] = {"reason": "a request of March 3", "actor": "ann"}
ROWS = 300


def rows(seed: int) -> pd.DataFrame:
    """The same people in every batch, a row each."""
    return make_rows(ROWS, seed).assign(id=[f"client-{row:04d}" for row in range(ROWS)])


@pytest.fixture(scope="session")
def kept_once(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, str]:
    """The root of a model with v1 and v2, in service, and a key whose row is among the known answers of v1.

    Batches are a Parquet file, a CSV file and a folder; labels come in CSV and Parquet files,
    called by the batch that they are of: the key names people.
    """
    model = Model(tmp_path_factory.mktemp("kept"))
    model.write_spec("[pipeline]\nparameters = { max_iter = 10 }\n", late_labels=True)
    workspace, data = model.workspace, model.root / "data/loans"
    frames = [rows(seed) for seed in (1, 2, 3)]
    for folder in ("batches/003", "labels"):
        (data / folder).mkdir(parents=True)
    first, second, third = (frame.drop(columns="y") for frame in frames)
    first.to_parquet(data / "batches/001.parquet", index=False, row_group_size=100, compression="zstd")
    second.to_csv(data / "batches/002.csv", index=False)
    third[:200].to_parquet(data / "batches/003/a.parquet", index=False)
    third[200:].to_parquet(data / "batches/003/b.parquet", index=False)
    frames[0][["id", "y"]].to_csv(data / "labels/001.csv", index=False)
    frames[1][["id", "y"]].to_parquet(data / "labels/002.parquet", index=False)
    frames[2][["id", "y"]].to_csv(data / "labels/003.csv", index=False)
    work = find_work(workspace, Request(), State())
    history = training_rows(workspace, work, ("001", "002", "003"))
    champion = None
    for number in (1, 2):
        found = train(model.root, workspace.spec, history, champion)
        version, sha256 = workspace.registry.register("loans", f"run {number}", found.candidate)
        served = Served(version, sha256, number)
        champion = workspace.registry.load("loans", version)
        record = decided(
            Action.RETRAIN,
            in_service=served,
            attempt=Attempt(number, AttemptOutcome.REGISTERED, version, sha256, gate=found.gate),
            window=work.batches if number == 1 else (),
            window_rows=(ROWS,) * 3 if number == 1 else (),
            labelled=tuple(Labelled(part.batch.id, part.labels, len(part.rows), part.coverage, 0) for part in history),
            label_files=work.label_digest,
        )
        with Lease(workspace.ledger, run="r", key=work.key, actor="tests", reason="") as lease:
            lease.commit(lambda _, record=record: record)
    for batch in work.batches:
        output = predictions_path(workspace, batch)
        write_predictions(model.root, batch.path, output, champion, workspace.spec, "r")
    probe = pd.read_parquet(model.root / "artifacts/loans/versions/00000001/probe.parquet")
    key = first["id"][first["income"].isin(probe["income"].dropna())].iloc[0]
    surround(workspace, key)
    return model.root, key


def surround(workspace: Workspace, key: str) -> None:
    """What else may hold a key: pages and records of runs, copies of pages, exports, caches, what a kill left."""
    store, data = workspace.registry.store, workspace.data
    page = f"<html><p>{key} is odd; {key}9 is not, nor is x-{key}.</p></html>".encode()
    store.create("loans/runs/00000002/decision.json", json.dumps({"said": f"because of {key}.", "n": 4}).encode())
    store.create("loans/runs/00000002/report.html", page)
    for folder in ("reports/00000002", "exports", "backtest/fits"):
        (data / folder).mkdir(parents=True)
    (data / "reports/00000002/report.html").write_bytes(page)
    cells = pd.DataFrame({"batch": "001", "row": [1, 2], "key": [key, "client-9999"], "column": "age", "value": "x"})
    cells.to_csv(data / "exports/violations.csv", index=False)
    cells.to_parquet(data / "exports/violations.parquet", index=False)
    (data / "backtest/fits/0123.npz").write_bytes(b"losses")
    rows(1).to_parquet(data / f"predictions/.001.parquet.{'0' * 32}")


@pytest.fixture
def key(kept_once: tuple[Path, str]) -> str:
    return kept_once[1]


@pytest.fixture
def workspace(kept_once: tuple[Path, str], tmp_path: Path) -> Iterator[Workspace]:
    """A copy of that model, to be changed."""
    shutil.copytree(kept_once[0], tmp_path, dirs_exist_ok=True)
    yield Model(tmp_path).workspace


def state(workspace: Workspace) -> State:
    return workspace.ledger.head().state


def everywhere(root: Path, key: str) -> list[str]:
    """Files that hold the key: in their bytes, their names, or the values of any column."""
    word = re.compile(rf"(?<![\w-]){re.escape(key)}(?![\w-])")
    found = []
    for path in sorted(root.rglob("*")):
        if not path.is_file():
            continue
        data = path.read_bytes()
        texts = [path.name, data.decode("utf-8", "replace")]
        if data[:4] == b"PAR1":
            texts += [str(value) for column in pq.read_table(path).columns for value in column.to_pylist()]
        if any(word.search(text) for text in texts):
            found.append(path.relative_to(root).as_posix())
    return found


def samples(workspace: Workspace, version: int) -> tuple[pd.DataFrame, pd.DataFrame]:
    """Reference and known answers of a version, as a fresh process loads them."""
    loaded = Registry(workspace.store_location).load("loans", version, fresh=True)
    return loaded.reference, read_parquet(loaded._registry.file(loaded.manifest, "probe.parquet"))


def is_in(sample: pd.DataFrame, workspace: Workspace, version: int, features: pd.Series) -> bool:
    """Whether the income of a row is in a sample: as it is in the known answers, or scaled in the reference."""
    income, there = workspace.registry.load("loans", version).calibration["income"], features["income"]
    return bool(np.isin([there, (there - income["center"]) / income["scale"]], sample["income"]).any())


# --- it is gone -----------------------------------------------------------------------------------------------


def test_it_is_nowhere(workspace: Workspace, key: str) -> None:
    """Of a key that was in batches, labels, predictions, exports, reports and samples nothing is left in any byte."""
    before = everywhere(workspace.root, key)
    assert len(before) >= 12
    done = erase.erase(workspace, key, **WHO)
    assert everywhere(workspace.root, key) == []
    assert done.seq and done.stays == () and done.learned == (1, 2)
    assert {place.path for place in done.places} >= {path for path in before if not path.startswith("artifacts/")}
    what = {place.what: place.count for place in done.places}
    assert what["batch 001"] == what["batch 002"] == what["batch 003"] == 1
    assert what["known answers of v1"] == 2, "the row, and the one like it in categories that nobody has"
    assert what["reference of v1"] >= 2
    with pytest.raises(InvalidRequest, match="not found"):
        erase.erase(workspace, key, **WHO)


def test_of_several_columns_the_first_says_whose_a_row_is(workspace: Workspace, key: str) -> None:
    """All rows of the person go, whatever the other columns say; rows that share one of those stay."""
    path = workspace.root / "deployments/loans.toml"
    path.write_text(path.read_text().replace('key = "id"', 'key = ["id", "city"]'))
    with pytest.raises(InvalidRequest, match="not found"):
        erase.erase(Model(workspace.root).workspace, "Bergen", **WHO)
    erase.erase(Model(workspace.root).workspace, key, **WHO)
    assert not everywhere(workspace.root, key)


def test_nothing_else_is_gone(workspace: Workspace, key: str) -> None:
    """Every other row, label and prediction is as it was: order, types, compression, metadata, bytes of CSV, times."""
    files = {
        path: path.stat().st_mtime_ns
        for path in workspace.data.rglob("*")
        if path.is_file() and path.suffix in (".parquet", ".csv") and not path.name.startswith(".")
    }
    before = {path: pq.read_table(path) if path.suffix == ".parquet" else path.read_bytes() for path in files}
    erase.erase(workspace, key, **WHO)
    for path, was in before.items():
        assert path.stat().st_mtime_ns == files[path]
        if isinstance(was, bytes):
            lines = was.splitlines(keepends=True)
            kept = [line for line in lines if not re.search(rf"\b{key}\b".encode(), line)]
            assert path.read_bytes() == b"".join(kept) and len(kept) == len(lines) - 1
            continue
        now = pq.read_table(path)
        name = "key" if "key" in was.column_names else "id"
        kept_rows = was.filter(pa.array([value != key for value in was.column(name).to_pylist()]))
        assert now.equals(kept_rows) and now.schema.names == was.schema.names
    assert pq.ParquetFile(workspace.data / "batches/001.parquet").metadata.row_group(0).column(0).compression == "ZSTD"


def test_the_samples_are_without_it(workspace: Workspace, key: str) -> None:
    """The version's own samples lose just those rows; the version loads, and gives the answers it is known for."""
    batch = pd.read_parquet(workspace.data / "batches/001.parquet").set_index("id")
    before = samples(workspace, 1)
    assert all(is_in(sample, workspace, 1, batch.loc[key]) for sample in before)
    erase.erase(workspace, key, **WHO)
    after = samples(workspace, 1)
    assert not any(is_in(sample, workspace, 1, batch.loc[key]) for sample in after)
    assert len(after[1]) == len(before[1]) - 2
    assert len(before[0]) - 3 <= len(after[0]) < len(before[0])
    assert after[0].dtypes.equals(before[0].dtypes)


def test_one_event_and_no_key(workspace: Workspace, key: str) -> None:
    """One tombstone says who, when, why, what was replaced by what; what was decided stays decided."""
    before = workspace.ledger.head()
    done = erase.erase(workspace, key, **WHO)
    events = workspace.ledger.events()[before.seq :]
    assert [event.event for event in events] == ["started", "erased", "renewed"]
    event = events[1]
    assert (event.seq, event.actor, event.reason) == (done.seq, "ann", "a request of March 3")
    assert set(event.body["batches"]) == {"001", "002", "003"}
    assert event.body["versions"] == [1, 2]
    assert event.state_after.by_hand == before.state.by_hand
    assert event.state_after.served == before.state.served
    assert "a key erased" in status.history(workspace.ledger)[-1].deed
    now = State()
    for each in workspace.ledger.events():
        now = transition(now, each)
        assert now == each.state_after


def test_the_next_run_has_nothing_to_do(workspace: Workspace, key: str) -> None:
    """Rewritten batches are not altered, labels are not corrected, and the question is answered already."""
    before = find_work(workspace, Request(), state(workspace))
    assert before.decided is not None
    erase.erase(workspace, key, **WHO)
    now = state(workspace)
    work = find_work(workspace, Request(), now)
    assert (work.altered, work.pending, work.decided) == ((), (), before.decided)
    versions = assess.load_versions(workspace, now)
    assert versions.current and versions.predecessor
    found = check_performance(workspace, now, work, (), versions.current, versions.predecessor)
    assert (found.labelled, found.blocked, found.checks) == ((), (), ())
    assert {batch: record.rows for batch, record in now.batches.items()} == dict.fromkeys(("001", "002", "003"), 299)


def test_it_can_be_trained_again(workspace: Workspace, key: str) -> None:
    """A later version is trained on what is left; the predictions that were written still count."""
    erase.erase(workspace, key, **WHO)
    now = state(workspace)
    work = find_work(workspace, Request(), now)
    history = training_rows(workspace, work, now.usable)
    assert [len(part.rows) for part in history] == [299 if part.labels else 0 for part in history]
    champion = workspace.registry.load_in_service("loans", now)
    assert train(workspace.root, workspace.spec, history, champion).gate.rows > 0
    for batch in work.batches:
        path = predictions_path(workspace, batch)
        assert len(read_predictions(path, batch.sha256, 299, np.arange(299)).values) == 299


def test_the_gate_keeps_the_rows_it_kept(workspace: Workspace, key: str) -> None:
    """However often rows are erased, the holdout of a batch has the people that it had, less those: a version is never
    measured on rows that it was trained on."""

    def kept() -> list[set[str]]:
        people = []
        for batch in find_work(workspace, Request(), state(workspace)).batches[:2]:
            read = pd.read_csv if batch.path.endswith(".csv") else pd.read_parquet
            names = read(workspace.root / batch.path)["id"]
            people.append({*names.iloc[holdout_rows(batch, len(names))]})
        return people

    before, gone = kept(), {key, "client-0200", "client-0000", "client-0299"}
    for person in sorted(gone):
        erase.erase(workspace, person, **WHO)
    assert kept() == [people - gone for people in before]


def test_who_erased_it_is_told(workspace: Workspace, key: str) -> None:
    """For whoever misses the rows: of a batch, of a version's training data, of an object of the store."""
    done = erase.erase(workspace, key, **WHO)
    events = {event.seq: event for event in workspace.ledger.events()}
    told = removals.erased_rows(events)
    assert {*told} == {"001", "002", "003"}
    assert re.fullmatch(
        rf"rows of it were erased by ann on \d{{4}}-..-.. \(entry {done.seq}\): a request of March 3", told["001"]
    )
    path = "loans/versions/00000001/reference.parquet"
    now = state(workspace).replaced[path]
    assert removals.removals(events, "loans")[path].replacement == Substitute(now.path, now.sha256, now.size)


def test_the_history_never_names_it(workspace: Workspace, key: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Neither through the name of a file that is called by the key, nor through what a library says when it fails."""
    rows(1)[["id"]].to_csv(workspace.data / f"exports/{key}.csv", index=False)
    quoted = f"Expected 2 columns, got 3: {key},x,y"

    def fails(*_: Any) -> None:
        raise ValueError(quoted)

    with monkeypatch.context() as patch:
        patch.setattr(erase_plan, "write_without", fails)
        with pytest.raises(StoreError, match=re.escape("got 3: [erased],x,y")):
            erase.erase(workspace, key, **WHO)
    assert workspace.ledger.events()[-1].event == "failed"
    done = erase.erase(workspace, key, **WHO)
    assert f"data/loans/exports/{key}.csv" in [place.path for place in done.places]
    assert "data/loans/exports/[erased].csv" in workspace.ledger.event(done.seq or 0).body["files"]
    assert not [name for name in everywhere(workspace.root, key) if name.startswith("artifacts/")]


def test_a_version_trained_afterwards_is_reproduced(workspace: Workspace, key: str) -> None:
    """Which rows were kept for its gate follows from the batches as they were delivered: so it is trained again."""
    erase.erase(workspace, key, **WHO)
    spec, now = workspace.spec, state(workspace)
    history = training_rows(workspace, find_work(workspace, Request(), now), ("001", "002"))
    found = train(workspace.root, spec, history, workspace.registry.load("loans", 2))
    version, _ = workspace.registry.register("loans", "afterwards", found.candidate)
    assert reproduce(workspace, version)[0].verdict == "identical"


def test_one_after_another(workspace: Workspace, key: str) -> None:
    """A second key is erased from what the first erasure left; of each sample one object is there."""
    other = "client-0001" if key != "client-0001" else "client-0002"
    erase.erase(workspace, key, **WHO)
    erase.erase(workspace, other, **WHO)
    assert everywhere(workspace.root, key) == everywhere(workspace.root, other) == []
    names = [item.path.rsplit("/", 1)[1] for item in workspace.registry.store.objects("loans/versions/00000002")]
    assert sum(name.startswith("reference") for name in names) == 1
    assert sum(name.startswith("probe") for name in names) == 1
    assert all(samples(workspace, version) for version in (1, 2))


def test_a_pruned_version_is_skipped(workspace: Workspace, key: str) -> None:
    """Of a version without payload nothing is searched or replaced; a prune removes replacements, too."""
    other = "client-0001" if key != "client-0001" else "client-0002"
    erase.erase(workspace, key, **WHO)
    number, _ = workspace.registry.register("loans", "later", train_again(workspace))
    promote(workspace, number)
    prune.prune(workspace, keep=0, **WHO)
    left = [item.path.rsplit("/", 1)[1] for item in workspace.registry.store.objects("loans/versions/00000001")]
    assert left == ["claim.json", "contract.json", "evaluation.json", "manifest.json"]
    done = erase.erase(workspace, other, **WHO)
    assert done.learned == (2, number)
    assert not any("v1" in place.what for place in done.places)
    assert everywhere(workspace.root, other) == []


def train_again(workspace: Workspace) -> Any:
    now = state(workspace)
    work = find_work(workspace, Request(), now)
    return train(workspace.root, workspace.spec, training_rows(workspace, work, now.usable)).candidate


def promote(workspace: Workspace, number: int) -> None:
    manifest, sha256 = workspace.registry.manifest("loans", number)
    put_in_service(workspace.registry, Served(number, sha256, manifest.data_end))


# --- what is refused, and what stays --------------------------------------------------------------------------


def test_a_dry_run_writes_nothing(workspace: Workspace, key: str) -> None:
    """It finds the same places, and leaves every byte as it is."""
    before = {path: path.read_bytes() for path in workspace.root.rglob("*") if path.is_file()}
    planned = erase.erase(workspace, key, dry_run=True, **WHO)
    assert {path: path.read_bytes() for path in workspace.root.rglob("*") if path.is_file()} == before
    assert replace(erase.erase(workspace, key, **WHO), seq=None) == planned


@pytest.mark.parametrize(
    ("words", "said"),
    [
        ({"key": "client-7777"}, "^key:\n  - not found"),
        ({"key": " "}, "^key:\n  - must not be empty"),
        ({"reason": ""}, "^reason:\n  - must not be empty"),
        ({"actor": ""}, "^actor:\n  - must not be empty"),
        ({"reason": "client-0005 asked"}, "^reason:\n  - must not contain the key"),
    ],
)
def test_what_is_refused(workspace: Workspace, words: dict[str, str], said: str) -> None:
    """A key that is nowhere, or words that are missing or name the key: nothing is written."""
    before = workspace.ledger.head()
    with pytest.raises(InvalidRequest, match=said):
        erase.erase(workspace, **{"key": "client-0005", **WHO, **words})
    assert workspace.ledger.head() == before


def test_a_model_without_a_key(workspace: Workspace) -> None:
    """Rows that nothing identifies cannot be found."""
    path = workspace.root / "deployments/loans.toml"
    lines = path.read_text().splitlines()
    path.write_text("\n".join(line for line in lines if not line.startswith(("key", "labels"))))
    with pytest.raises(SpecError, match="it has no `key`"):
        erase.erase(Model(workspace.root).workspace, "client-0005", **WHO)


def test_a_run_at_work_is_waited_for(workspace: Workspace, key: str) -> None:
    """While a run holds the lease nothing is erased: it reads what would be replaced."""
    before = everywhere(workspace.root, key)
    with Lease(workspace.ledger, run="r", key="k", actor="tests", reason="") as lease:
        with pytest.raises(LedgerConflict, match="is at work"):
            erase.erase(workspace, key, **WHO)
        lease.commit(lambda now: decided(in_service=now.current))
    assert everywhere(workspace.root, key) == before
    assert erase.erase(workspace, key, **WHO).seq
    with Lease(workspace.ledger, run="r", key="k", actor="tests", reason=""):
        pass  # it was given back


def test_predictions_that_are_still_to_come(workspace: Workspace, key: str) -> None:
    """While predictions of the last decision are not written, nothing is erased: they would be made from the row."""
    work = find_work(workspace, Request(), state(workspace))
    with Lease(workspace.ledger, run="r", key=work.key, actor="tests", reason="") as lease:
        lease.commit(lambda now: decided(in_service=now.current, window=work.batches[:1], window_rows=(ROWS,)))
    predictions_path(workspace, work.batches[0]).unlink()
    with pytest.raises(LedgerConflict, match="Predictions for 001 are not written yet"):
        erase.erase(workspace, key, **WHO)


def test_what_is_never_changed_is_named(workspace: Workspace, key: str) -> None:
    """History and records that hold the key stay, and are listed; so are references to it in rows of others, files
    that cannot be read, and batches that are not there any more."""
    from tasks.core import overrides

    overrides.quarantine(workspace, "002", reason=f"{key} complained", actor="eve")
    others = rows(4).drop(columns="y").assign(id=[f"other-{row:04d}" for row in range(ROWS)], city=key)
    others.to_parquet(workspace.data / "batches/004.parquet")
    (workspace.data / "notes.bin").write_bytes(f"\0\1{key}\0".encode())
    (workspace.data / "batches/001.parquet").unlink()
    done = erase.erase(workspace, key, **WHO)
    stays = "\n".join(done.stays)
    assert "loans/ledger/00000005.json holds the key's text" in stays
    assert "data/loans/batches/004.parquet: column 'city' names the key in 300 rows of others" in stays
    assert "data/loans/notes.bin holds the key's text" in stays
    assert any("v1 was trained on 001, which are no longer here" in line for line in done.unknown)


def test_a_batch_that_was_altered_stays_altered(workspace: Workspace, key: str) -> None:
    """Erasing does not hide that somebody changed a batch after it was decided on."""
    path = workspace.data / "batches/001.parquet"
    pd.read_parquet(path).assign(age=50).to_parquet(path, index=False)
    erase.erase(workspace, key, **WHO)
    work = find_work(workspace, Request(), state(workspace))
    assert [batch.id for batch in work.altered] == ["001"]


def test_a_short_key_is_no_word() -> None:
    """Numbers of few digits are not looked for in texts: they could be any number."""
    assert erase_files.KeyMatcher.of("1234").pattern is None
    assert erase_files.KeyMatcher.of("123456").count(b"of 123456 and 1234567, 0.123456-1") == 1
    assert erase_files.KeyMatcher.of("a<b&c").erased(b"<p>a&lt;b&amp;c</p>") == b"<p>[erased]</p>"


def test_no_event_puts_another_pipeline_in_place(workspace: Workspace, key: str) -> None:
    """What an event says of a replacement counts for samples, never for what is unpickled; its digest is checked."""
    erase.erase(workspace, key, **WHO)
    now = state(workspace).replaced["loans/versions/00000001/probe.parquet"]
    path = workspace.root / "artifacts" / now.path
    path.write_bytes(path.read_bytes()[:-1] + b"x")
    with pytest.raises(CorruptObject, match=r"probe-\w+\.parquet is damaged"):
        Registry(workspace.store_location).load("loans", 1, fresh=True)
    pipeline = "loans/versions/00000001/pipeline.joblib"
    body = replace(
        workspace.ledger.event(6).content_as(events.Erased),
        replaced={pipeline: Substitute(now.path, now.sha256, now.size)},
    )
    workspace.ledger.append(workspace.ledger.head(), body, run="", key="", actor="eve", reason="x")
    (workspace.root / "artifacts" / pipeline).unlink()
    with pytest.raises(StoreError, match=r"pipeline\.joblib does not exist"):
        Registry(workspace.store_location).load("loans", 1, fresh=True)


def test_where_signatures_are_required(workspace: Workspace, key: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """An erasure says what stands for a file, so that it has to be signed: without the key nothing is written, with it
    a process that trusts the key accepts the history."""
    _, private, public = keys.new_pair(workspace.root / "keys")
    monkeypatch.setenv(keys.TRUSTED_KEYS, str(public))
    before = everywhere(workspace.root, key)
    with pytest.raises(VerificationError):
        erase.erase(Workspace.open(workspace.root, "loans"), key, **WHO)
    assert everywhere(workspace.root, key) == before
    monkeypatch.setenv(keys.SIGNING_KEY, str(private))
    monkeypatch.setenv(keys.REQUIRE, "0")
    done = erase.erase(Workspace.open(workspace.root, "loans"), key, **WHO)
    monkeypatch.delenv(keys.SIGNING_KEY)
    monkeypatch.delenv(keys.REQUIRE)
    event, status = Workspace.open(workspace.root, "loans").ledger.signature_status(done.seq or 0)
    assert (event.event, status.state) == ("erased", signing.SignatureState.SIGNED)
    assert everywhere(workspace.root / "data", key) == []


# --- kills ----------------------------------------------------------------------------------------------------

KILLED = """
    import os, signal, sys
    from pathlib import Path
    from tasks.core.removal import erase as erasure, prune as removal
    from tasks.core.store import Store
    from tasks.core.workspace import Workspace
    root, what, key, place = sys.argv[1], sys.argv[2], sys.argv[3], int(sys.argv[4])
    calls = 0
    def counted(call):
        def wrapped(*arguments, **words):
            global calls
            calls += 1
            if calls == place:
                os.kill(os.getpid(), signal.SIGKILL)
            return call(*arguments, **words)
        return wrapped
    Store.create, Store.remove = counted(Store.create), counted(Store.remove)
    Path.replace, Path.unlink = counted(Path.replace), counted(Path.unlink)
    workspace = Workspace.open(root, "loans")
    who = dict(reason="a request of March 3", actor="ann")
    if what == "erase":
        erasure.erase(workspace, key, **who)
    else:
        removal.prune(workspace, keep=0, **who)
    print(calls)
"""


def command(root: Path, what: str, key: str, place: int = 0) -> subprocess.CompletedProcess[str]:
    """The command in a process of its own, killed before its n-th call that writes; 0: not at all."""
    words = [sys.executable, "-c", textwrap.dedent(KILLED), str(root), what, key, str(place)]
    return subprocess.run(words, capture_output=True, text=True, timeout=120, check=False, env=dict(os.environ))


@pytest.mark.slow
def test_a_killed_erasure_is_completed(kept_once: tuple[Path, str], tmp_path: Path) -> None:
    """SIGKILL before every call that writes: the version in service loads, and the same command again completes it;
    then the key is nowhere, no batch counts as altered, and what was decided stands."""
    once, key = kept_once
    shutil.copytree(once, tmp_path / "0")
    whole = command(tmp_path / "0", "erase", key)
    calls = int(whole.stdout)
    assert calls >= 24
    for place in range(1, calls + 1):
        root = tmp_path / str(place)
        shutil.copytree(once, root)
        assert command(root, "erase", key, place).returncode == -signal.SIGKILL
        check(root, key)
        shutil.rmtree(root)


def check(root: Path, key: str) -> None:
    """After a kill: it loads, is completed, and nothing is amiss."""
    workspace = Workspace.open(root, "loans")
    before = state(workspace)
    assert Registry(workspace.store_location).load("loans", 2, fresh=True).version == 2
    try:
        erase.erase(workspace, key, **WHO)
    except InvalidRequest as error:
        assert "not found" in str(error)
    assert everywhere(root, key) == []
    work = find_work(workspace, Request(), state(workspace))
    assert work.altered == work.pending == ()
    assert work.decided == (before.decided.seq if before.decided else None)
    assert Registry(workspace.store_location).load("loans", 2, fresh=True).version == 2
    originals = [
        item.path for item in workspace.registry.store.objects("loans") if item.path in state(workspace).replaced
    ]
    assert originals == []
    for new in state(workspace).replaced.values():
        assert workspace.registry.store.exists(new.path)


@pytest.mark.slow
def test_a_killed_prune_is_completed(kept_once: tuple[Path, str], tmp_path: Path) -> None:
    """SIGKILL before every call that writes; the next prune leaves what an undisturbed one leaves."""
    once, _ = kept_once
    base = tmp_path / "base"
    shutil.copytree(once, base)
    workspace = Workspace.open(base, "loans")
    for _ in range(2):
        number, _ = workspace.registry.register("loans", "later", train_again(workspace))
        promote(workspace, number)
    for place in range(1, 11):
        root = tmp_path / str(place)
        shutil.copytree(base, root)
        killed = command(root, "prune", "", place)
        if killed.returncode == 0:
            assert int(killed.stdout) == place - 1 == 9
            break
        assert killed.returncode == -signal.SIGKILL
        again = Workspace.open(root, "loans")
        assert Registry(again.store_location).load_current("loans").version == 4
        prune.prune(again, keep=0, **WHO)
        assert sorted(state(again).pruned) == [1, 2]
        left = [
            item.path
            for item in again.registry.store.objects("loans/versions")
            if prune.PAYLOAD.fullmatch(item.path.split("/")[-1])
        ]
        assert {path.split("/")[2] for path in left} == {"00000003", "00000004"}
        assert [event.event for event in again.ledger.events()].count("pruned") == 1


def test_the_line_above_a_header_stays(tmp_path: Path) -> None:
    """A file that names its separator on the first line is written again with that line, without the person's row."""
    (tmp_path / "b.csv").write_bytes(b"sep=;\r\nid;x\r\n1;2\r\n7;3\r\n8;4\r\n")
    found = erase_files.key_rows(tmp_path / "b.csv", ["id"], "7", CsvSpec())
    assert found is not None
    erase_files.write_without(tmp_path / "b.csv", tmp_path / "new.csv", found.rows, CsvSpec(), {})
    assert (tmp_path / "new.csv").read_bytes() == b"sep=;\r\nid;x\r\n1;2\r\n8;4\r\n"
