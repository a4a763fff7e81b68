"""The audit: everything that is wrong is listed at once, nothing is changed, and what is harmless is only noted."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from collections.abc import Callable
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from tasks.core import overrides
from tasks.core.audit import entries, verify
from tasks.core.audit.report import Report, markdown, signed, summary, verdict
from tasks.core.errors import CorruptObject, InvalidRequest, VerificationError
from tasks.core.ledger.events import Event, Pruned
from tasks.core.ledger.keys import new_pair, read_private_key, read_public_keys
from tasks.core.ledger.lease import Lease
from tasks.core.ledger.signing import Trust
from tasks.core.records import digest, from_json, to_dict, to_json
from tasks.core.store import Store
from tasks.core.types import Action, Attempt, AttemptOutcome, Served
from tasks.core.versions.registry import Registry
from tasks.core.workspace import Workspace
from tests.helpers.events import arrived, decided
from tests.helpers.model import Model
from tests.helpers.training import Trained

LEDGER, V1, V2 = "loans/ledger", "loans/versions/00000001", "loans/versions/00000002"
PAYLOAD = ("pipeline.joblib", "contract.json", "reference.parquet", "probe.parquet", "calibration.json")


def fill(root: Path, trained: Trained, trust: Trust | None = None) -> Workspace:
    """Two versions, decided on one after the other as runs do it, then the first put back by hand: five entries."""
    Model(root).write_spec()
    workspace = Workspace.open(root, "loans")
    registry = Registry(workspace.store_location, trust)
    for number in (1, 2):
        version, sha256 = registry.register("loans", f"run {number}", trained.challenger.candidate)
        attempt = Attempt(number, AttemptOutcome.REGISTERED, version, sha256, gate=trained.challenger.gate)
        record = decided(
            Action.RETRAIN, in_service=Served(version, sha256, number), attempt=attempt, **arrived(f"00{number}")
        )
        with Lease(registry.ledger("loans"), run="r", key="k", actor="tests", reason="") as lease:
            event = lease.commit(lambda _, record=record: record)
        registry.store.create(f"loans/runs/{event.seq:08d}/decision.json", to_json(record))
    return workspace


@pytest.fixture(scope="module")
def filled(trained: Trained, tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("filled")
    overrides.promote(fill(root, trained), 1, reason="a test", actor="ann")
    return root


@pytest.fixture
def workspace(filled: Path, tmp_path: Path) -> Workspace:
    """A copy of that store, to be damaged."""
    shutil.copytree(filled, tmp_path, dirs_exist_ok=True)
    return Workspace.open(tmp_path, "loans")


def look(workspace: Workspace, **options: Any) -> Report:
    return verify.audit(workspace.registry, workspace.model, **options)


def path_of(workspace: Workspace, path: str) -> Path:
    return workspace.root / "artifacts" / path


def said(report: Report, *, damage: bool = True) -> dict[str, str]:
    """What is damaged, or noted, by object."""
    return {remark.path: remark.text for remark in (report.damage if damage else report.notes)}


def rewritten(workspace: Workspace, number: int, **changes: Any) -> None:
    """Write an entry anew with other content, as somebody with access to the store could."""
    path = path_of(workspace, f"{LEDGER}/{number:08d}.json")
    path.write_bytes(json.dumps({**json.loads(path.read_bytes()), **changes}, indent=1).encode())


def tampered(workspace: Workspace, number: int, **changes: Any) -> None:
    """The same, with every later entry's digest of the one before it adapted: the chain holds."""
    rewritten(workspace, number, **changes)
    for later in range(number + 1, workspace.ledger.last() + 1):
        before = path_of(workspace, f"{LEDGER}/{later - 1:08d}.json").read_bytes()
        rewritten(workspace, later, prev=digest(before))


# --- all is well ----------------------------------------------------------------------------------------------


def test_a_store_that_nobody_touched_is_well(workspace: Workspace) -> None:
    """Nothing is damaged, nothing noted; every object was looked at, and the head is named with its digest."""
    report = look(workspace)
    files = [path for path in path_of(workspace, "loans").rglob("*") if path.is_file()]
    head = workspace.ledger.head()
    assert report.ok and report.remarks == ()
    assert (report.objects, report.versions, report.events) == (len(files), 2, 5)
    assert report.bytes == sum(path.stat().st_size for path in files)
    assert report.head == f"5:{head.digest}"
    assert "all is well" in verdict(report)
    assert "all is well" in markdown(report)


def test_nothing_is_changed(workspace: Workspace) -> None:
    """An audit of a damaged store leaves every file as it was."""
    path_of(workspace, f"{V1}/pipeline.joblib").write_bytes(b"")
    path_of(workspace, f"{LEDGER}/00000005.json").write_bytes(b"")
    files = {path: path.read_bytes() for path in path_of(workspace, "").rglob("*") if path.is_file()}
    assert not look(workspace).ok
    assert {path: path.read_bytes() for path in path_of(workspace, "").rglob("*") if path.is_file()} == files


def test_a_store_in_memory(trained: Trained) -> None:
    """The same checks run where there is no folder to look into."""
    registry = Registry(Store("memory://"))
    registry.register("loans", "key", trained.challenger.candidate)
    report = verify.audit(registry, "loans")
    assert (report.ok, report.versions, report.head) == (True, 1, None)
    assert "no entry of the history names it" in said(report, damage=False)[f"{V1}/manifest.json"]


def test_an_audit_is_light(tmp_path: Path) -> None:
    """Without loading anything, neither scikit-learn nor Prefect is imported."""
    script = (
        "import sys\nfrom tasks.core.audit.verify import audit\n"
        "from tasks.core.versions.registry import Registry\naudit(Registry(sys.argv[1]), 'loans')\n"
        "print(*[name for name in ('sklearn', 'prefect', 'evidently') if name in sys.modules])"
    )
    done = subprocess.run(
        [sys.executable, "-c", script, str(tmp_path)], capture_output=True, text=True, timeout=60, check=True
    )
    assert done.stdout.strip() == ""


# --- versions -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", [*PAYLOAD, "evaluation.json", "manifest.json", "claim.json"])
@pytest.mark.parametrize("harm", ["flipped", "cut", "gone"])
def test_every_file_of_a_version_is_checked(workspace: Workspace, name: str, harm: str) -> None:
    """A flipped bit, a cut and a missing file are found in every file of a version; only its claim may be gone, and of
    a claim it is the run key that is compared."""
    path = path_of(workspace, f"{V1}/{name}")
    data = bytearray(path.read_bytes())
    place = data.index(b'"run_key"') + 15 if name == "claim.json" else len(data) // 2
    data[place] ^= 1
    path.unlink()
    if harm != "gone":
        path.write_bytes(bytes(data) if harm == "flipped" else path.name.encode()[:3])
    report = look(workspace)
    if (name, harm) == ("claim.json", "gone"):
        assert report.ok and f"{V1}/claim.json" in said(report, damage=False)
        return
    assert set(said(report)) == {f"{V1}/{name}"}


def test_all_damage_is_listed_at_once(workspace: Workspace) -> None:
    """Damage in two versions and in the history comes in one report, and in one message."""
    path_of(workspace, f"{V1}/pipeline.joblib").write_bytes(b"x")
    path_of(workspace, f"{V2}/probe.parquet").unlink()
    rewritten(workspace, 3, reason="another")
    report = look(workspace)
    assert set(said(report)) == {f"{V1}/pipeline.joblib", f"{V2}/probe.parquet", f"{LEDGER}/00000004.json"}
    assert "3 damaged or missing" in summary(report)
    assert all(path in summary(report) and path in markdown(report) for path in said(report))


def test_a_manifest_that_is_not_the_recorded_one(workspace: Workspace) -> None:
    """A manifest that was written anew, all consistent in itself, is not the one that the history names."""
    path = path_of(workspace, f"{V2}/manifest.json")
    path.write_bytes(json.dumps({**json.loads(path.read_bytes()), "seed": 7}).encode())
    report = look(workspace)
    assert "is not the one that the history names" in said(report)[f"{V2}/manifest.json"]
    assert "by entry 4" in said(report)[f"{V2}/manifest.json"]


def test_a_version_in_another_place(workspace: Workspace) -> None:
    """A version that was copied to another number says where it belongs."""
    shutil.copytree(path_of(workspace, V1), path_of(workspace, "loans/versions/00000009"))
    text = said(look(workspace))["loans/versions/00000009/manifest.json"]
    assert "says it is loans v1" in text


def test_a_version_that_is_gone(workspace: Workspace) -> None:
    """A version whose whole folder is gone is missing as long as the history names it."""
    shutil.rmtree(path_of(workspace, V2))
    assert "entry 4 of the history names it" in said(look(workspace))[f"{V2}/manifest.json"]


def test_records_are_such_records(trained: Trained, tmp_path: Path) -> None:
    """Files whose bytes are the recorded ones, but which nobody can use, are found, too."""
    registry = Registry(tmp_path)
    probe = trained.challenger.candidate.probe.drop(columns=["ror:prediction", "age"])
    registry.register("loans", "key", replace(trained.challenger.candidate, probe=probe))
    assert "no column 'age', 'ror:prediction'" in said(verify.audit(registry, "loans"))[f"{V1}/probe.parquet"]


# --- notes ----------------------------------------------------------------------------------------------------


def test_what_is_harmless_is_noted(workspace: Workspace) -> None:
    """Abandoned numbers with age and run key, leftovers that obstore does not list, and foreign files are notes."""
    at = (datetime.now(UTC) - timedelta(days=3, hours=1)).isoformat(timespec="seconds")
    claim = path_of(workspace, "loans/versions/00000003/claim.json")
    claim.parent.mkdir()
    claim.write_bytes(to_json({"run_key": "run 3", "at": at}))
    for name in (f"{V1}/pipeline.joblib#1", f"{V1}/notes.txt", "loans/readme.md", f"{LEDGER}/copy.json"):
        path_of(workspace, name).write_text("x")
    path_of(workspace, "loans/runs/broken").symlink_to("nowhere")
    report = look(workspace)
    assert report.ok
    notes = said(report, damage=False)
    assert "claimed 3 days ago by run key run 3, without a manifest" in notes["loans/versions/00000003/claim.json"]
    assert "left by a write that was killed" in notes[f"{V1}/pipeline.joblib#1"]
    assert "the manifest does not name it" in notes[f"{V1}/notes.txt"]
    assert {"loans/readme.md", f"{LEDGER}/copy.json", "loans/runs/broken"} <= set(notes)
    assert "6 notes" in verdict(report)


def test_a_version_of_a_killed_run_is_noted(workspace: Workspace, trained: Trained) -> None:
    """A complete version that no entry names is harmless: its run was killed between registering and deciding."""
    workspace.registry.register("loans", "run 3", trained.challenger.candidate)
    report = look(workspace)
    assert report.ok
    assert "run key run 3" in said(report, damage=False)["loans/versions/00000003/manifest.json"]


# --- the history ----------------------------------------------------------------------------------------------


def _gap(workspace: Workspace) -> None:
    path_of(workspace, f"{LEDGER}/00000003.json").unlink()


def _flipped(workspace: Workspace) -> None:
    path = path_of(workspace, f"{LEDGER}/00000002.json")
    path.write_bytes(path.read_bytes().replace(b'"format_version": 2', b'"format_version": 3'))


def _promoted_by_forgery(workspace: Workspace) -> None:
    event = workspace.ledger.event(4)
    state = replace(event.state_after, served=event.state_after.served[:1])
    tampered(workspace, 4, state_after=to_dict(state), current=to_dict(state.current))


CASES: dict[str, tuple[Callable[[Workspace], None], dict[int, str]]] = {
    "an entry is missing": (_gap, {3: "missing"}),
    "a byte was changed": (_flipped, {3: "does not follow from entry 2"}),
    "a reason was changed, and the chain mended": (
        lambda w: tampered(w, 4, body={"outcome": "x"}),
        {4: "its content cannot be followed"},
    ),
    "the state was forged, and the chain mended": (_promoted_by_forgery, {4: "served", 5: "served"}),
    "the version in service contradicts the state": (
        lambda w: tampered(w, 5, current=None),
        {5: "contradicts itself about the version in service"},
    ),
    "time runs backwards": (
        lambda w: tampered(w, 2, at="2001-01-01T00:00:00.000000+00:00"),
        {2: "is dated 2001-01-01T00:00:00.000000+00:00, before"},
    ),
    "an entry is of an unknown kind": (lambda w: tampered(w, 5, event="elected"), {5: "the unknown kind 'elected'"}),
    "an entry says another number": (lambda w: tampered(w, 5, seq=6), {5: "says it is entry 6"}),
    "the beginning was cut off": (lambda w: tampered(w, 1, prev="a" * 64), {1: "beginning was cut off"}),
    "an entry in the middle is no record": (
        lambda w: path_of(w, f"{LEDGER}/00000003.json").write_bytes(b"{}"),
        {3: "is not a valid Event"},
    ),
}


@pytest.mark.parametrize("case", CASES)
def test_the_history_is_followed(workspace: Workspace, case: str) -> None:
    """Gaps, altered entries, forged states and impossible times are found where they are, past earlier damage."""
    harm, expected = CASES[case]
    harm(workspace)
    found = said(look(workspace))
    for seq, text in expected.items():
        assert text in found[f"{LEDGER}/{seq:08d}.json"]
    ledger = [path for path in found if path.startswith(LEDGER)]
    assert len(ledger) <= len(expected) + 1


def test_the_fold_is_followed_past_a_gap(workspace: Workspace) -> None:
    """After an entry that cannot be read, the next is not blamed for what nobody can know."""
    _gap(workspace)
    assert set(said(look(workspace))) == {f"{LEDGER}/00000003.json"}


def test_what_runs_wrote_is_compared(workspace: Workspace) -> None:
    """A decision among the run's files that is not what the history says, or that the history does not know."""
    runs = path_of(workspace, "loans/runs")
    decision = runs / "00000002/decision.json"
    decision.write_bytes(decision.read_bytes().replace(b'"outcome": "Reloaded"', b'"outcome": "Blocked"'))
    shutil.copytree(runs / "00000004", runs / "00000077")
    (runs / "00000004/report.html").write_text("<p>")
    found = said(look(workspace))
    assert "is not what the history says" in found["loans/runs/00000002/decision.json"]
    assert "the history has no decision 77" in found["loans/runs/00000077"]
    assert "of 1 page no digest is recorded" in verdict(look(workspace))


def test_a_cut_off_history_is_noticed(workspace: Workspace) -> None:
    """Without its newest entries a history looks whole; who noted an earlier head notices."""
    head = look(workspace).head
    assert head is not None
    noted = verify.expectation(head[: 2 + verify.LEAST_DIGITS])
    assert look(workspace, expected=noted).ok
    path_of(workspace, f"{LEDGER}/00000005.json").unlink()
    assert look(workspace).ok
    assert (
        "the history ends at entry 4: it was cut off"
        in said(look(workspace, expected=noted))[f"{LEDGER}/00000005.json"]
    )
    wrong = verify.expectation(f"4:{'0' * 64}")
    assert "rewritten" in said(look(workspace, expected=wrong))[f"{LEDGER}/00000004.json"]


@pytest.mark.parametrize("text", ["", "5", "5:abc", "0:" + "a" * 64, "x:" + "a" * 64, "5:" + "g" * 64, "5:" + "a" * 65])
def test_what_is_expected_is_a_number_and_a_digest(text: str) -> None:
    """Anything else than NUMBER:SHA256 is wrong use."""
    with pytest.raises(InvalidRequest, match=r"^expect_head:\n.*NUMBER:SHA256"):
        verify.expectation(text)


# --- a torn head ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("data", [b"", b'{\n "format_version": 1,\n "se', b"\0" * 400])
def test_a_torn_head_is_moved_aside(workspace: Workspace, data: bytes) -> None:
    """Empty, cut or zeroed by a power cut, the newest entry is damage until it is moved aside; then all goes on."""
    path = path_of(workspace, f"{LEDGER}/00000005.json")
    path.write_bytes(data)
    with pytest.raises(CorruptObject, match="`ror verify loans --repair`"):
        workspace.ledger.head()
    report = look(workspace)
    assert "`ror verify loans --repair`" in said(report)[f"{LEDGER}/00000005.json"]
    assert (report.head, report.versions) == (None, 2)
    done = entries.repair(workspace.registry.store, "loans")
    assert done is not None and "is moved aside" in done.text and not done.damage
    aside = path_of(workspace, f"{LEDGER}/torn-00000005-{digest(data)[:12]}.json")
    assert aside.read_bytes() == data and not path.exists()
    report = look(workspace)
    assert report.ok and report.head is not None and report.head.startswith("4:")
    assert "moved aside" in said(report, damage=False)[f"{LEDGER}/{aside.name}"]
    overrides.promote(workspace, 1, reason="again", actor="ann")
    assert look(workspace).ok


def test_a_repair_that_was_killed_is_finished(workspace: Workspace) -> None:
    """A copy that is there already, from a repair that was killed before it removed the original, is no obstacle."""
    path_of(workspace, f"{LEDGER}/00000005.json").write_bytes(b"")
    path_of(workspace, f"{LEDGER}/torn-00000005-{digest(b'')[:12]}.json").write_bytes(b"")
    assert entries.repair(workspace.registry.store, "loans") is not None
    assert look(workspace).ok


@pytest.mark.parametrize(
    "harm",
    [
        lambda w: None,
        lambda w: rewritten(w, 5, event="elected"),
        lambda w: path_of(w, f"{LEDGER}/00000005.json").write_bytes(b"{}"),
        lambda w: path_of(w, f"{LEDGER}/00000003.json").write_bytes(b""),
        lambda w: shutil.rmtree(path_of(w, LEDGER)),
    ],
    ids=["whole", "another kind", "another record", "torn, and not the newest", "no history"],
)
def test_nothing_else_is_moved(workspace: Workspace, harm: Callable[[Workspace], None]) -> None:
    """An entry that is whole, altered, or not the newest stays where it is: that needs a backup, not a repair."""
    harm(workspace)
    before = sorted(path_of(workspace, "loans").rglob("*"))
    assert entries.repair(workspace.registry.store, "loans") is None
    assert sorted(path_of(workspace, "loans").rglob("*")) == before


def test_a_run_at_work_is_not_disturbed(workspace: Workspace) -> None:
    """While the entry before says that a run is at work, nothing is moved; once it is dead, it is."""
    with Lease(workspace.ledger, run="r", key="k", actor="tests", reason="") as lease:
        torn = path_of(workspace, f"{LEDGER}/{lease.token + 1:08d}.json")
        torn.write_bytes(b"")
        with pytest.raises(VerificationError, match="may be at work on loans: nothing was moved"):
            entries.repair(workspace.registry.store, "loans")
        assert torn.exists()
        torn.unlink()


def test_more_than_a_torn_head_is_refused(workspace: Workspace) -> None:
    """When the entry before the torn one cannot be read either, nothing is moved."""
    for seq in (4, 5):
        path_of(workspace, f"{LEDGER}/{seq:08d}.json").write_bytes(b"")
    with pytest.raises(VerificationError, match="and so may be what it follows"):
        entries.repair(workspace.registry.store, "loans")
    assert path_of(workspace, f"{LEDGER}/00000005.json").exists()


# --- removal on record ----------------------------------------------------------------------------------------


def record(workspace: Workspace, kind: str, body: dict[str, Any]) -> None:
    """An entry that removes something, as its command writes it."""
    head = workspace.ledger.head()
    path = path_of(workspace, f"{LEDGER}/{head.seq:08d}.json")
    event = from_json(Event, path.read_bytes(), str(path))
    later = replace(
        event,
        seq=head.seq + 1,
        prev=head.digest,
        event=kind,
        actor="ann",
        reason="a wish",
        body=body,
        at=event.at,
        sha256=None,
    )
    path_of(workspace, f"{LEDGER}/{later.seq:08d}.json").write_bytes(to_json(later))


def about_objects(report: Report, *, damage: bool = True) -> dict[str, str]:
    """The same as `said`, without the history."""
    return {path: text for path, text in said(report, damage=damage).items() if not path.startswith(LEDGER)}


def test_what_was_pruned_is_no_damage(workspace: Workspace) -> None:
    """Files that an entry says were removed are noted with who, when and why; one that is still there is not done."""
    files = [f"{V2}/{name}" for name in ("pipeline.joblib", "reference.parquet", "probe.parquet", "calibration.json")]
    record(workspace, "pruned", {"versions": [2], "files": files})
    found = about_objects(look(workspace))
    assert set(found) == set(files)
    assert all("The removal was interrupted; run `ror store prune` again" in text for text in found.values())
    for path in files:
        path_of(workspace, path).unlink()
    report = look(workspace)
    assert about_objects(report) == {}
    today = datetime.now(UTC).date().isoformat()
    assert about_objects(report, damage=False) == dict.fromkeys(files, f"removed by ann on {today}: a wish")


def test_the_version_in_service_is_never_pruned(workspace: Workspace) -> None:
    """An entry that says so excuses nothing: no prune touches that version."""
    body = Pruned((1,), (f"{V1}/pipeline.joblib",), 1)
    ledger = workspace.ledger
    ledger.append(ledger.head(), body, run="r", key="", actor="eve", reason="none")
    path_of(workspace, f"{V1}/pipeline.joblib").unlink()
    assert "v1 is in service, and entry 6 pruned it" in about_objects(look(workspace))[f"{V1}/manifest.json"]


def test_what_was_erased_is_checked_where_it_is_now(workspace: Workspace) -> None:
    """An object that took the place of another is checked like any other; the one that it replaced must be gone."""
    old, new = f"{V2}/probe.parquet", f"{V2}/probe-erased.parquet"
    data = path_of(workspace, old).read_bytes()
    path_of(workspace, new).write_bytes(data)
    body = {"replaced": {old: {"path": new, "sha256": digest(data), "size": len(data)}}}
    record(workspace, "erased", body)
    assert "run `ror store erase` again" in about_objects(look(workspace))[old]
    path_of(workspace, old).unlink()
    report = look(workspace)
    assert about_objects(report) == {} and set(about_objects(report, damage=False)) == {old}
    path_of(workspace, new).write_bytes(data[:-1])
    assert "is damaged or was replaced" in about_objects(look(workspace))[new]
    path_of(workspace, new).unlink()
    assert "missing" in about_objects(look(workspace))[new]


def test_a_record_of_removal_excuses_only_what_is_ever_removed(workspace: Workspace) -> None:
    """No entry can make up for a manifest that is gone, or for another pipeline in place of the recorded one."""
    manifest, old, new = f"{V2}/manifest.json", f"{V2}/pipeline.joblib", f"{V2}/pipeline-other.joblib"
    record(workspace, "pruned", {"versions": [2], "files": [manifest, f"{LEDGER}/00000001.json", 7]})
    record(workspace, "erased", {"replaced": {old: {"path": new, "sha256": digest(b"x"), "size": 1}}})
    path_of(workspace, manifest).unlink()
    assert set(about_objects(look(workspace))) == {manifest}
    shutil.copy(path_of(workspace, f"{V1}/manifest.json"), path_of(workspace, manifest))
    path_of(workspace, old).unlink()
    path_of(workspace, new).write_bytes(b"x")
    assert "missing" in about_objects(look(workspace))[old]


@pytest.mark.parametrize("body", [{}, {"files": None}, {"replaced": []}, {"replaced": {f"{V2}/x": None}}])
@pytest.mark.parametrize("kind", ["pruned", "erased"])
def test_a_removal_that_says_nothing_usable(workspace: Workspace, kind: str, body: dict[str, Any]) -> None:
    """An entry of these kinds with another body is read without a failure, and excuses nothing."""
    record(workspace, kind, body)
    assert about_objects(look(workspace)) == {}
    path_of(workspace, f"{V2}/pipeline.joblib").unlink()
    assert set(about_objects(look(workspace))) == {f"{V2}/pipeline.joblib"}


# --- loading and signatures -----------------------------------------------------------------------------------


def test_which_versions_load_here(workspace: Workspace) -> None:
    """Every version is tried; one that does not load is damage only when it is the one in service."""
    manifest = path_of(workspace, f"{V2}/manifest.json")
    values = json.loads(manifest.read_bytes())
    values["environment"]["distributions"]["scikit-learn"] = "0.1.0"
    assert [item.loads for item in look(workspace, load=True).loads or ()] == [True, True]
    manifest.write_bytes(json.dumps(values).encode())
    tampered(workspace, 4)
    for seq in (4, 5):  # as if it had been registered so
        path = path_of(workspace, f"{LEDGER}/{seq:08d}.json")
        recorded = workspace.ledger.event(4).body["attempt"]["manifest"]
        text = path.read_bytes().replace(recorded.encode(), digest(manifest.read_bytes()).encode())
        path.write_bytes(text)
    rewritten(workspace, 5, prev=digest(path_of(workspace, f"{LEDGER}/00000004.json").read_bytes()))
    report = look(workspace, load=True)
    assert report.loads is not None
    assert [(item.version, item.loads) for item in report.loads] == [(1, True), (2, False)]
    assert "scikit-learn 0.1.0, here" in report.loads[1].why_not
    assert not any("does not load" in text for text in said(report).values())


def test_the_version_in_service_must_load(workspace: Workspace) -> None:
    """With loading, a version in service that does not load here is damage, with the reason."""
    path_of(workspace, f"{V1}/pipeline.joblib").write_bytes(b"x")
    report = look(workspace, load=True)
    assert "v1 is in service and does not load here" in said(report)[V1]
    assert [item.loads for item in report.loads or ()] == [False, True]


def test_signatures_are_counted_and_judged(trained: Trained, tmp_path: Path) -> None:
    """With trusted keys, what is signed is counted, and what is refused for its signature is damage."""
    _, private, public = new_pair(tmp_path / "keys")
    trust = Trust(read_public_keys(public), True, read_private_key(private))
    fill(tmp_path, trained, trust)
    registry = Registry(tmp_path / "artifacts", trust)
    report = verify.audit(registry, "loans")
    assert report.ok and report.signed is not None
    assert (report.signed.signed, report.signed.unsigned) == (2 + report.events, 0)
    assert "refused here" in signed(report)
    store = tmp_path / "artifacts"
    (store / V1 / "manifest.sig").unlink()
    entry = store / LEDGER / f"{report.events:08d}.json"
    entry.write_bytes(entry.read_bytes().replace(b'"reason": ""', b'"reason": "x"'))
    found = said(verify.audit(registry, "loans"))
    assert "is not signed" in found[f"{V1}/manifest.json"]
    assert "wrong signature" in found[f"{LEDGER}/{entry.name}"]
    stranger = Trust(read_public_keys(new_pair(tmp_path / "other")[2]), True)
    assert "not trusted here" in said(verify.audit(Registry(store, stranger), "loans"))[f"{V2}/manifest.json"]


# --- which models ---------------------------------------------------------------------------------------------


def test_models_that_only_the_store_knows(workspace: Workspace) -> None:
    """All models are those with a file and those in the store; one that neither knows is wrong use."""
    (workspace.root / "deployments/loans.toml").unlink()
    (workspace.root / "deployments/rents.toml").write_text("not even TOML")
    assert [item.model for item in verify.workspaces(workspace.root, None)] == ["loans", "rents"]
    assert [item.model for item in verify.workspaces(workspace.root, "loans")] == ["loans"]
    with pytest.raises(InvalidRequest, match=r"^model:\n.*Models: loans, rents"):
        verify.workspaces(workspace.root, "lones")
    assert verify.audit(verify.registry_of(Workspace.open(workspace.root, "loans"), load=False), "loans").ok
    with pytest.raises(InvalidRequest, match=r"^root:\n.*no models in"):
        verify.workspaces(workspace.root / "deployments", None)
