"""Stores of every format ever shipped still read, load, decide and reproduce."""

from __future__ import annotations

import platform
import re
import shutil
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

from tasks.core.decision.policy import POLICY_VERSION
from tasks.core.errors import EnvironmentMismatch
from tests.formats import write
from tests.formats.frozen import Frozen, code_below, stores

NAMES = {folder: f"{folder.parent.name}/{folder.name}" for folder in stores()}


def thawed(folder: Path, elsewhere: Path) -> Frozen:
    """A copy of a frozen store, to be changed."""
    store = Frozen(elsewhere / folder.name)
    shutil.copytree(folder, store.folder)
    for key in store.folder.glob("keys/private.pem"):
        key.chmod(0o600)  # what git does not keep
    return store


@pytest.fixture(params=NAMES, ids=NAMES.values())
def store(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Frozen]:
    """A copy of each frozen store."""
    with code_below(tmp_path):
        yield thawed(request.param, tmp_path)


@pytest.fixture
def at_home(store: Frozen) -> bool:
    """Whether the version in service was made in an environment like this one."""
    try:
        store.current()
    except EnvironmentMismatch:
        return False
    return True


@pytest.fixture
def usable(store: Frozen, at_home: bool, prefect: None) -> Frozen:
    """A store whose version in service loads here: where it was made with other libraries, a person accepts them."""
    if not at_home and (code := accept_environment(store)):
        assert code == EnvironmentMismatch.exit_code
        pytest.skip(f"{store.folder.name}: its version does not give its known answers with the libraries here")
    return store


def accept_environment(store: Frozen) -> int:
    """What a person does whose libraries are others; the exit code."""
    version = f"v{store.expected['seen']['status']['version']}"
    return store.ror("promote", store.model, version, "--accept-environment", "--reason", "an old format")[0]


# --- everywhere ----------------------------------------------------------------------------------------------


def test_there_are_stores() -> None:
    """Of the first format there is one of every kind: what the other tests find is not nothing."""
    kinds = ("erased", "own-code", "pruned", "signed", "skops", "unsigned")
    assert {f"v1/{kind}" for kind in kinds} <= {*NAMES.values()}


def test_it_reads_as_it_did(store: Frozen) -> None:
    """`verify` finds nothing amiss, and verify, status and history say of an old store what they said of it when it was
    written: counts, the head, who is in service, what is set aside, and the outcome of every decision."""
    assert store.seen() == store.expected["seen"]


# --- where its version loads ---------------------------------------------------------------------------------


def test_it_is_served(usable: Frozen) -> None:
    """The version in service answers as it did."""
    np.testing.assert_allclose(usable.answers(), usable.expected["answers"], rtol=1e-9)


def test_nothing_is_decided_anew(store: Frozen, at_home: bool, prefect: None) -> None:
    """A run of this release to which nothing has arrived since repeats the last decision, and writes no other."""
    if not at_home:
        pytest.skip(f"{store.folder.name}: its version was made with other libraries, and accepting them asks anew")
    if store.policy_version != POLICY_VERSION:
        pytest.skip(f"{store.folder.name}: decided under policy {store.policy_version}, and this is {POLICY_VERSION}")
    assert store.expected["again"]["decided_now"] is False
    assert store.decided() == store.expected["again"]


@pytest.mark.slow
def test_it_goes_on(usable: Frozen, at_home: bool) -> None:
    """What arrives next is decided as the release that wrote the store decided it, the version in service is made again
    from its record, with the same answers, and what this release appended is whole."""
    usable.deliver()
    assert usable.decided() == usable.expected["next"]
    assert usable.answer("verify", usable.model)["ok"]
    code, receipt = usable.ror("reproduce", usable.model, f"v{usable.expected['next']['version']}")
    if code and not at_home:
        pytest.skip(f"{usable.folder.name}: other libraries make another version: {receipt and receipt['message']}")
    assert code == 0
    assert receipt["verdict"] in ("identical", "within 1e-9")


# --- elsewhere -----------------------------------------------------------------------------------------------


def test_another_environment_is_accepted_first(tmp_path: Path, prefect: None, monkeypatch: pytest.MonkeyPatch) -> None:
    """With another Python an old version is refused; once a person has accepted that, it answers as it did."""
    (folder,) = (folder for folder, name in NAMES.items() if name == "v1/unsigned")
    store = thawed(folder, tmp_path)
    monkeypatch.setattr(platform, "python_version", lambda: "3.99.0")
    with pytest.raises(EnvironmentMismatch, match=r"here 3\.99\.0"):
        store.current()
    assert accept_environment(store) == 0
    np.testing.assert_allclose(store.answers(), store.expected["answers"], rtol=1e-9)


# --- the writer ----------------------------------------------------------------------------------------------


def test_what_was_frozen_is_never_written_again(tmp_path: Path) -> None:
    """The writer refuses a format of which there are stores, and leaves them as they are."""
    (tmp_path / "v1").mkdir()
    with pytest.raises(FileExistsError, match="never written again"):
        write.freeze(tmp_path / "v1")
    assert not [*(tmp_path / "v1").iterdir()]


def test_a_store_that_names_its_machine_is_not_frozen(tmp_path: Path) -> None:
    """The writer refuses stores in which the machine or its user is named."""
    (tmp_path / "00000001.json").write_text('{"actor": "ann@laptop"}')
    (tmp_path / "00000002.json").write_text('{"actor": "example@example"}')
    with pytest.raises(ValueError, match=r"00000001\.json: b'@laptop'$"):
        write.check_anonymous(tmp_path, ["@laptop"])


def test_they_name_no_machine() -> None:
    """No frozen store has a path of the machine it was written on, or a host that is not the example."""
    words = re.compile(
        rb'"host": "(?!example")|"boot": "(?!example")|"actor": "(?!example@example")|/home/|/Users/|/tmp/'
    )
    files = [path for folder in NAMES for path in folder.rglob("*") if path.is_file()]
    assert not [path for path in files if words.search(path.read_bytes())]
