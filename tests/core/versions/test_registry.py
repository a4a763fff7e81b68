"""Versions: what registering promises, and what loading refuses."""

from __future__ import annotations

import gc
import json
import os
import pickle
import select
import shutil
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path
from typing import Any

import joblib
import numpy as np
import pytest

from tasks.core.errors import (
    CorruptObject,
    DataError,
    EnvironmentMismatch,
    NotFound,
    ProbeMismatch,
    SpecError,
    UntrustedTypes,
    VerificationError,
)
from tasks.core.ledger.state import State
from tasks.core.store import Store
from tasks.core.training.challenger import UNSEEN
from tasks.core.training.fit import features_of
from tasks.core.types import Served
from tasks.core.versions import persistence
from tasks.core.versions.loaded import LoadedVersion
from tasks.core.versions.manifest import Candidate
from tasks.core.versions.own_code import digests_of
from tasks.core.versions.registry import Registry
from tests.helpers.model import make_rows
from tests.helpers.training import Trained, make_spec, train
from tests.helpers.versions import Payload, put_in_service

FILES = [
    "pipeline.joblib",
    "contract.json",
    "reference.parquet",
    "probe.parquet",
    "calibration.json",
    "evaluation.json",
    "manifest.json",
]


SKOPS_TYPES = [
    "numpy.dtype",
    "sklearn.compose._column_transformer.make_column_selector",
    "sklearn.ensemble._hist_gradient_boosting.predictor.TreePredictor",
]
"""What the default pipeline is made of, beside what skops knows of scikit-learn."""


@pytest.fixture
def candidate(trained: Trained) -> Candidate:
    return trained.challenger.candidate


@pytest.fixture
def registry(tmp_path: Path) -> Registry:
    """An empty registry in a folder."""
    return Registry(tmp_path / "artifacts")


@pytest.fixture
def marker(tmp_path: Path) -> Path:
    """A file that a planted payload would write."""
    return tmp_path / "marker"


@pytest.fixture
def served(registry: Registry, candidate: Candidate) -> Served:
    """The candidate as v1."""
    version, sha256 = registry.register("loans", "key", candidate)
    return Served(version, sha256, data_end=3)


def folder(registry: Registry, version: int = 1, model: str = "loans") -> Path:
    return Path(registry.store.location) / model / "versions" / f"{version:08d}"


def same(left: persistence.Predictions, right: persistence.Predictions) -> bool:
    assert left.probabilities is not None
    assert right.probabilities is not None
    return np.array_equal(left.values, right.values) and np.array_equal(left.probabilities, right.probabilities)


# --- registering ---------------------------------------------------------------------------------------------


def test_a_loaded_version_predicts_as_it_was_trained(store: Store, candidate: Candidate) -> None:
    """A version that was registered and loaded again gives the very predictions of the fitted pipeline."""
    registry = Registry(store)
    version, _ = registry.register("loans", "key", candidate)
    rows = make_rows(200, seed=9)
    fitted = persistence.load(candidate.pipeline)
    loaded = registry.load("loans", version)
    seen = rows[candidate.contract.names].astype({"age": float, "member": float})
    assert same(loaded.predict(rows), persistence.predict(fitted, seen))


def test_plain_joblib_loads_a_pipeline(registry: Registry, served: Served) -> None:
    """The stored pipeline is an ordinary joblib file, and predicts the same without this program."""
    loaded = registry.load("loans", served)
    plain = joblib.load(folder(registry) / "pipeline.joblib")
    seen = loaded.reference[loaded.contract.names]
    expected = persistence.predict(loaded.pipeline, seen).probabilities
    assert np.array_equal(plain.predict_proba(seen), expected)


def test_a_version_exists_only_once_its_manifest_does(registry: Registry, candidate: Candidate) -> None:
    """A number that was claimed by a run that died is invisible, cannot be loaded, and is not used again."""
    claimed = registry.claim("loans", "died")
    version, _ = registry.register("loans", "key", candidate)
    assert (claimed, version) == (1, 2)
    assert registry.versions("loans") == [2]
    with pytest.raises(NotFound, match=r"00000001/manifest\.json"):
        registry.load("loans", 1)
    (folder(registry, 2) / "manifest.json").unlink()
    assert registry.versions("loans") == []
    assert registry.claim("loans", "next") == 3


def test_each_claim_is_another_number(store: Store) -> None:
    """Runs that register at the same moment never share a number."""
    registry = Registry(store)
    with ThreadPoolExecutor(8) as threads:
        numbers = list(threads.map(lambda run: registry.claim("loans", str(run)), range(8)))
    assert sorted(numbers) == list(range(1, 9))


def test_the_manifest_names_every_file(registry: Registry, served: Served) -> None:
    """The manifest holds digest and size of all that belongs to the version, but its claim and itself."""
    manifest, sha256 = registry.manifest("loans", served.version)
    on_disk = {file.name: file.stat().st_size for file in folder(registry).iterdir()}
    assert sha256 == served.manifest
    assert {name: record.size for name, record in manifest.files.items()} == {
        name: size for name, size in on_disk.items() if name not in ("claim.json", "manifest.json")
    }
    assert manifest.rows == sum(file.rows for file in manifest.training) > 1000


def test_an_interrupted_run_finds_its_own_version(registry: Registry, candidate: Candidate) -> None:
    """A run that registered and died adopts that version when asked again; other runs' versions are not its own."""
    version, sha256 = registry.register("loans", "mine", candidate)
    registry.claim("loans", "died")
    assert registry.adopt("loans", "mine", newer_than=0) == (version, sha256)
    assert registry.adopt("loans", "another question", newer_than=0) is None
    assert registry.adopt("loans", "died", newer_than=0) is None
    assert registry.adopt("loans", "mine", newer_than=version) is None


# --- what loading refuses ------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", FILES)
@pytest.mark.parametrize("where", [0.0, 0.5, 1.0])
def test_one_flipped_byte_is_refused(registry: Registry, served: Served, name: str, where: float) -> None:
    """A version of which any file differs by one byte, wherever, is refused as corrupt and by name."""
    file = folder(registry) / name
    data = bytearray(file.read_bytes())
    data[round(where * (len(data) - 1))] ^= 1
    file.write_bytes(bytes(data))
    with pytest.raises(CorruptObject, match=f"00000001/{name}") as caught:
        registry.load("loans", served)
    assert caught.value.exit_code == 4


def test_a_file_that_is_gone_is_refused(registry: Registry, served: Served) -> None:
    """A version that lost a file is not loaded without it."""
    (folder(registry) / "contract.json").unlink()
    with pytest.raises(NotFound, match=r"contract\.json does not exist"):
        registry.load("loans", served)


def test_a_planted_pipeline_is_never_unpickled(registry: Registry, served: Served, marker: Path) -> None:
    """A pipeline file that somebody replaced by one with code in it is refused before that code can run."""
    joblib.dump(Payload(marker), folder(registry) / "pipeline.joblib")
    with pytest.raises(CorruptObject, match="Nothing of it was loaded"):
        registry.load("loans", served)
    assert not marker.exists()
    joblib.load(folder(registry) / "pipeline.joblib")
    assert marker.exists(), "the payload would have run"


@pytest.mark.parametrize(("model", "version"), [("loans", 2), ("flights", 1)])
def test_a_version_in_another_place_is_refused(registry: Registry, served: Served, model: str, version: int) -> None:
    """A version that was copied to another number or another model is not loaded there."""
    shutil.copytree(folder(registry), folder(registry, version, model))
    with pytest.raises(CorruptObject, match="says it is loans v1: it was moved or copied"):
        registry.load(model, version)


def test_a_number_is_the_version_that_the_history_knows(
    registry: Registry, served: Served, candidate: Candidate, marker: Path
) -> None:
    """A version that was replaced as a whole, manifest and all, is not loaded by its number either, long after it
    served."""
    put_in_service(registry, served)
    for file in folder(registry).iterdir():
        file.unlink()
    folder(registry).rmdir()
    registry.register("loans", "key", replace(candidate, pipeline=pickle.dumps(Payload(marker))))
    with pytest.raises(CorruptObject, match="not the manifest that the history names"):
        registry.load("loans", 1)
    assert not marker.exists()


def test_a_record_that_names_too_little_is_refused(registry: Registry, candidate: Candidate, marker: Path) -> None:
    """A manifest without pipeline, known answers or a readable environment says which it is; nothing is unpickled."""
    wrongs: list[Any] = [
        lambda record: record["files"].pop("pipeline.joblib"),
        lambda record: record["files"].pop("probe.parquet"),
        lambda record: record["environment"].pop("python"),
    ]
    for wrong in wrongs:
        version, _ = registry.register("loans", "key", replace(candidate, pipeline=pickle.dumps(Payload(marker))))
        path = folder(registry, version) / "manifest.json"
        record = json.loads(path.read_bytes())
        wrong(record)
        path.write_text(json.dumps(record))
        with pytest.raises(CorruptObject, match=f"0{version}/manifest.json (names no|is not a valid Environment)"):
            registry.load("loans", version)
    assert not marker.exists()


def test_another_manifest_than_the_recorded_is_refused(registry: Registry, served: Served) -> None:
    """A manifest that is valid but not the one that the history names is refused."""
    manifest = folder(registry) / "manifest.json"
    manifest.write_text(manifest.read_text().replace('"a test"', '"an excuse"'))
    with pytest.raises(CorruptObject, match="not the manifest that the history names"):
        registry.load("loans", served)


@pytest.mark.parametrize(
    ("changes", "names"),
    [
        ({"python": "3.9.1"}, ["Python 3.9.1", "here 3."]),
        ({"distributions": {"scikit-learn": "1.2.0"}}, ["scikit-learn 1.2.0", "here 1."]),
        ({"distributions": {"numpy": "1.26.4", "scipy": "1.2.3"}}, ["numpy 1.26.4", "scipy 1.2.3"]),
        ({"distributions": {"not-installed-here": "4.5"}}, ["not-installed-here 4.5", "not installed"]),
    ],
)
def test_another_environment_is_refused_before_unpickling(
    registry: Registry, candidate: Candidate, marker: Path, changes: dict[str, Any], names: list[str]
) -> None:
    """A version made with other libraries is refused with both versions named, and nothing of it was unpickled."""
    foreign = replace(
        candidate, pipeline=pickle.dumps(Payload(marker)), environment=replace(candidate.environment, **changes)
    )
    version, _ = registry.register("loans", "key", foreign)
    with pytest.raises(EnvironmentMismatch) as caught:
        registry.load("loans", version)
    for name in names:
        assert name in str(caught.value)
    assert "ror run" in str(caught.value)
    assert not marker.exists()


def test_another_version_of_the_pipelines_own_package_is_refused(registry: Registry, candidate: Candidate) -> None:
    """A package that the pipeline's classes come from must be the recorded version, not only be there."""
    recorded = {**candidate.environment.distributions, "pytest": "0.1.0"}
    foreign = replace(candidate, environment=replace(candidate.environment, distributions=recorded))
    version, _ = registry.register("loans", "key", foreign)
    with pytest.raises(EnvironmentMismatch, match=r"pytest 0\.1\.0"):
        registry.load("loans", version)


def test_changed_source_of_the_pipelines_own_module_is_refused(registry: Registry, candidate: Candidate) -> None:
    """A module of one's own that the pipeline needs must be the one that it was made with."""
    foreign = replace(
        candidate, environment=replace(candidate.environment, sources={"tests.core.versions.test_registry": "0" * 64})
    )
    version, _ = registry.register("loans", "key", foreign)
    with pytest.raises(EnvironmentMismatch, match=r"tests\.core\.versions\.test_registry"):
        registry.load("loans", version)


def test_patch_releases_are_compatible(registry: Registry, candidate: Candidate) -> None:
    """A library that differs in its patch number only is accepted."""
    here = candidate.environment.distributions["numpy"]
    patched = {**candidate.environment.distributions, "numpy": f"{here.rpartition('.')[0]}.999"}
    foreign = replace(candidate, environment=replace(candidate.environment, distributions=patched))
    version, _ = registry.register("loans", "key", foreign)
    assert registry.load("loans", version).version == version


def test_verified_bytes_that_do_not_unpickle(registry: Registry, candidate: Candidate) -> None:
    """A pipeline whose bytes are as recorded and still do not load is a failed verification, not a crash."""
    version, _ = registry.register("loans", "key", replace(candidate, pipeline=b"no pickle"))
    with pytest.raises(VerificationError, match="could not be deserialized in this environment"):
        registry.load("loans", version)


@pytest.mark.parametrize(
    ("platform", "change", "refused"),
    [(None, 1e-12, True), ("another machine", 1e-12, False), ("another machine", 1e-6, True)],
)
def test_other_answers_than_recorded_are_refused(
    registry: Registry, candidate: Candidate, platform: str | None, change: float, refused: bool
) -> None:
    """Known answers must come out exactly on the platform they were recorded on, and to nine digits elsewhere."""
    probe = candidate.probe.copy()
    probe.loc[0, "ror:probability:1"] *= 1 + change
    environment = replace(candidate.environment, platform=platform or candidate.environment.platform)
    version, _ = registry.register("loans", "key", replace(candidate, probe=probe, environment=environment))
    if not refused:
        assert registry.load("loans", version).version == version
        return
    with pytest.raises(ProbeMismatch, match=r"loans v1 no longer gives its known answers \(probability:1 differs"):
        registry.load("loans", version)


def test_the_answers_name_their_version(registry: Registry, served: Served, caplog: pytest.LogCaptureFixture) -> None:
    """A service can log which version answered; it is in the log anyway, at INFO."""
    with caplog.at_level("INFO", logger="tasks.core.versions.loaded"):
        assert registry.load("loans", served).predict(make_rows(3, seed=9)).version == served.version
    assert caplog.messages == [f"loans v{served.version} predicted 3 rows"]


def test_awkward_rows_are_among_the_known_answers(candidate: Candidate) -> None:
    """One row has nothing in it, and one has categories that no training data had."""
    names = [column.name for column in candidate.contract.features if column.kind == "category"]
    inputs = candidate.probe[candidate.contract.names]
    assert inputs.isna().all(axis=1).sum() == 1
    assert names
    assert (inputs[names] == UNSEEN).all(axis=1).sum() == 1


def test_known_answers_are_asked_of_rows_as_they_arrive(candidate: Candidate, trained: Trained) -> None:
    """All known answers but the two awkward ones are about rows of the training data, in their own units: about scaled
    ones a pipeline could answer as before and be wrong on all that users send."""
    names = list(candidate.contract.names)
    rows = features_of(candidate.contract, trained.history)[names].drop_duplicates()
    found = candidate.probe[names].iloc[:-2].merge(rows, on=names, how="left", indicator=True)
    assert len(found) > 20
    assert (found["_merge"] == "both").all()
    assert candidate.probe["ror:probability:1"].nunique() > 10


def test_an_accepted_environment_serves_this_version(registry: Registry, candidate: Candidate) -> None:
    """Differences that a person accepted for a version are noted; what was not accepted is refused, loaded or not."""
    recorded = {**candidate.environment.distributions, "scipy": "0.1.0"}
    foreign = replace(candidate, environment=replace(candidate.environment, distributions=recorded))
    version, sha256 = registry.register("loans", "key", foreign)
    with pytest.raises(EnvironmentMismatch) as caught:
        registry.load("loans", version)
    accepted = Served(version, sha256, 3, accepts=caught.value.differences)
    loaded = registry.load("loans", accepted)
    assert loaded.notes == (f"{caught.value.differences[0]}, as a person accepted",)
    with pytest.raises(EnvironmentMismatch):
        registry.load("loans", version)


def test_changed_code_is_taken_from_the_record(registry: Registry, candidate: Candidate) -> None:
    """A version whose own code is another one here, or is gone, is loaded with the text that it keeps, and says so. One
    that is no pickle brings no code along: it is refused, and shows the difference."""
    name = "tests.core.versions.test_registry"
    text = Path(__file__).read_text().replace("your code ran", "another text")
    texts = {name: text, "desk_gone": "x = 1\n"}
    foreign = replace(candidate, sources=texts, environment=replace(candidate.environment, sources=digests_of(texts)))
    version, _ = registry.register("loans", "key", foreign)
    assert registry.load("loans", version).from_record == ("desk_gone", name)
    version, _ = registry.register("loans", "key", replace(foreign, form="skops"))
    with pytest.raises(EnvironmentMismatch) as caught:
        registry.load("loans", version)
    assert '-        return Path.write_text, (self.marker, "another text")' in str(caught.value)
    assert '+        return Path.write_text, (self.marker, "your code ran")' in str(caught.value)


def test_a_deployment_that_refuses_pickles(registry: Registry, served: Served, trained: Trained) -> None:
    """Where only skops is loaded a pickle is refused, also one that was loaded before; a skops version is loaded."""
    registry.load("loans", served)
    strict = Registry(registry.store, forms=("skops",), types=SKOPS_TYPES)
    with pytest.raises(UntrustedTypes, match="is saved as joblib, and only skops is loaded here"):
        strict.load("loans", served)
    spec = make_spec(pipeline={"parameters": {"max_iter": 10}, "format": "skops", "types": SKOPS_TYPES})
    candidate = train(trained.root, spec, trained.history).candidate
    version, _ = strict.register("loans", "another key", candidate)
    assert "pipeline.skops" in strict.manifest("loans", version)[0].files
    with pytest.raises(UntrustedTypes) as caught:
        strict.load_in_service("loans", State(served=(Served(9, "", data_end=1), served)))
    for forms in ("skops", ("pickle",)):
        with pytest.raises(SpecError, match=r"write forms=\('skops',\)"):
            Registry(registry.store, forms=forms)
    assert "promote" not in str(caught.value)  # what is before it is most likely a pickle, too
    rows = make_rows(50, seed=9)
    assert same(strict.load("loans", version).predict(rows), registry.load("loans", served).predict(rows))
    with pytest.raises(UntrustedTypes, match="types that the model's file does not allow"):
        Registry(registry.store, forms=("skops",)).load("loans", version)


def test_after_a_change_of_the_environment(
    registry: Registry, served: Served, candidate: Candidate, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The error proposes the newest version that was in service and loads here, else one that waits for approval, and
    never one that does not load; without any it says that none does."""
    elsewhere = replace(candidate.environment, distributions={**candidate.environment.distributions, "numpy": "1.26.4"})
    foreign = replace(candidate, environment=elsewhere)
    others = [Served(*registry.register("loans", f"key {number}", foreign), data_end=3) for number in range(3)]
    current, waiting = others[-1], Served(*registry.register("loans", "new", candidate), data_end=3)

    def said(*before: Served, waits: tuple[Served, ...] = ()) -> str:
        with pytest.raises(EnvironmentMismatch) as caught:
            registry.load_in_service("loans", State(served=(*before, current), waiting=waits))
        return str(caught.value).splitlines()[-1]

    assert said(served, *others[:2]).startswith(
        "v1 loads here: `ror promote loans v1 --reason '...'` checks v1 and puts"
    )
    assert said(*others[:2]) == "No other version that was in service or waits loads here (v3, v2)."
    assert said(served, waits=(waiting,)).endswith("checks v1 and puts it back in service.")
    assert said(others[0], waits=(waiting,)).endswith("checks v5 and puts it in service.")
    assert "loads here" not in said()


# --- reading -------------------------------------------------------------------------------------------------


def test_a_version_is_loaded_once_per_process(registry: Registry, served: Served) -> None:
    """The same bytes are verified and unpickled once, also when they are asked for through another registry."""
    first = registry.load("loans", served)
    assert registry.load("loans", served.version) is first
    assert Registry(registry.store.location).load("loans", served) is first


def test_two_versions_are_two_objects(registry: Registry, served: Served, candidate: Candidate) -> None:
    """Loading one version never gives another that was loaded before."""
    second, _ = registry.register("loans", "another key", candidate)
    assert registry.load("loans", served).version == served.version
    assert registry.load("loans", second).version == second


def test_the_current_version_is_the_ledgers(registry: Registry, served: Served) -> None:
    """The version in service is the one that the history names, and none before the history names one."""
    with pytest.raises(NotFound, match="`ror run loans` trains one"):
        registry.load_current("loans")
    put_in_service(registry, served)
    current = registry.load_current("loans")
    assert current.version == served.version
    assert repr(current) == f"<loans v{served.version}, sha256 {served.manifest[:12]}>"


def test_a_store_in_another_place_is_named(tmp_path: Path) -> None:
    """A service that was started in the wrong folder is told where it looked."""
    with pytest.raises(NotFound, match=rf"in {tmp_path}/elsewhere\. `ror run loans`"):
        Registry(tmp_path / "elsewhere").load_current("loans")


def test_a_frame_that_breaks_the_contract_is_refused(champion: LoadedVersion) -> None:
    """A service that asks with broken data gets every violation by name, not a wrong answer."""
    rows = make_rows(10).drop(columns="income")
    with pytest.raises(DataError, match="column 'income' is missing"):
        champion.predict(rows)
    rows = make_rows(10).assign(age="old", income="much")
    with pytest.raises(DataError, match=r"(?s)'income'.*'age'"):
        champion.predict(rows)


def test_refresh_follows_what_is_in_service(registry: Registry, served: Served, candidate: Candidate) -> None:
    """A service goes on with the same object until another version is in service, and then gets that one."""
    put_in_service(registry, served)
    first = registry.load_current("loans")
    assert first.refresh() is first
    version, sha256 = registry.register("loans", "another key", candidate)
    put_in_service(registry, Served(version, sha256, 4))
    assert first.refresh().version == version
    (folder(registry, version) / "pipeline.joblib").unlink()
    assert first.refresh().version == version, "it is in memory, verified"


def test_a_forked_worker_goes_on(registry: Registry, served: Served, candidate: Candidate) -> None:
    """A server that loads before it forks: its workers predict, and pick up a promotion."""
    put_in_service(registry, served)
    loaded = registry.load_current("loans")
    rows = make_rows(20, seed=9)
    expected = loaded.predict(rows)
    wake, woken = os.pipe()
    read, write = os.pipe()
    child = os.fork()
    if child == 0:
        try:
            answers = loaded.predict(rows)
            os.read(wake, 1)
            answer = f"{same(answers, expected)} v{loaded.refresh().predict(rows).version}"
        except BaseException as error:  # noqa: BLE001 - the child must never return into the test run
            answer = repr(error)
        os.write(write, answer.encode())
        os._exit(0)
    version, sha256 = registry.register("loans", "another key", candidate)
    put_in_service(registry, Served(version, sha256, 4))
    os.write(woken, b"x")
    ready, _, _ = select.select([read], [], [], 30)
    answer = os.read(read, 1000).decode() if ready else "it hangs"
    if not ready:
        os.kill(child, 9)
    os.waitpid(child, 0)
    for descriptor in (wake, woken, read, write):
        os.close(descriptor)
    assert answer == f"True v{version}"


def test_a_service_reads_only_what_predicting_needs(registry: Registry, served: Served) -> None:
    """The training sample is not read to serve; damaged, it is refused when somebody asks for it, and by a run."""
    put_in_service(registry, served)
    path = folder(registry) / "reference.parquet"
    path.write_bytes(path.read_bytes()[:-1])
    loaded = registry.load_current("loans")
    assert len(loaded.predict(make_rows(5)).values) == 5
    for use in (
        lambda: loaded.reference,
        lambda: registry.load_in_service("loans", registry.ledger("loans").head().state),
    ):
        with pytest.raises(CorruptObject, match=r"reference\.parquet is damaged"):
            use()


def test_the_garbage_collector_is_back_after_a_load(registry: Registry, served: Served) -> None:
    """It rests while a version is loaded, and goes on afterwards, also when loading failed."""
    registry.load("loans", served, fresh=True)
    assert gc.isenabled()
    (folder(registry) / "pipeline.joblib").write_bytes(b"damaged")
    with pytest.raises(CorruptObject):
        registry.load("loans", served, fresh=True)
    assert gc.isenabled()
