"""Signatures through the commands and flows: keys in the environment, and a store that others may write to."""

from __future__ import annotations

from pathlib import Path

import pytest

from tasks.core.errors import SignatureError
from tasks.core.ledger.keys import new_pair, read_public_keys
from tasks.core.ledger.ledger import Ledger
from tasks.core.ledger.signing import SignatureState, Trust
from tasks.core.records import to_dict
from tasks.core.store import Store
from tasks.core.versions.registry import Registry
from tests.helpers.model import Model, make_rows
from tests.helpers.ror import QUICK, Ror
from tests.helpers.stranger import NONE, forge

pytestmark = pytest.mark.usefixtures("prefect")


@pytest.fixture
def key(tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch) -> str:
    """A key that this process signs with and trusts."""
    name, private, public = new_pair(tmp_path_factory.mktemp("keys"))
    monkeypatch.setenv("ROR_SIGNING_KEY", str(private))
    monkeypatch.setenv("ROR_TRUSTED_KEYS", str(public))
    return name


def store(model: Model) -> Store:
    return Store(model.workspace.store_location)


def reader(model: Model) -> Registry:
    """A service elsewhere: the public half in its configuration, and nothing else."""
    import os

    keys = read_public_keys(Path(os.environ["ROR_TRUSTED_KEYS"]))
    return Registry(store(model), Trust(keys, True))


@pytest.mark.slow
def test_everything_that_flows_make_is_signed(model: Model, ror: Ror, key: str) -> None:
    """With a key in the environment runs and promotions sign all they make; a service with the public half alone
    loads it, and what it needs to know is shown."""
    model.write_spec(QUICK)
    for batch in ("001", "002"):
        model.deliver(batch)
        assert ror("run", "loans", "--action", "retrain", "--reason", "grow") == 0, ror.err
    assert ror("promote", "loans", "v1", "--reason", "it was better") == 0, ror.err
    model.deliver("003")
    assert ror("run", "loans") == 0, ror.err

    service = reader(model)
    assert service.load_current("loans").version == 1
    assert len(service.load_current("loans").predict(make_rows(5)).values) == 5
    ledger = service.ledger("loans")
    events = ledger.events()
    assert {"started", "decided", "promoted"} <= {event.event for event in events}
    assert {ledger.signature_status(event.seq)[1].state for event in events} == {SignatureState.SIGNED}
    answer = ror.json("store", "keys", "loans")
    assert (answer["signing"], answer["trusted"], answer["required"], answer["refused"]) == (key, [key], True, None)
    assert answer["versions"] == [{"version": number, "signature": "signed", "key": key} for number in (1, 2)]
    assert [entry["seq"] for entry in answer["events"]] == [event.seq for event in reversed(events)][:10]
    assert {entry["key"] for entry in answer["events"]} == {key}


def test_a_forged_event_stops_a_run(grown: Model, ror: Ror, key: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """An earlier version that somebody without the key put back in service is neither served nor decided on: the run
    ends with exit code 4 and adds nothing, and the command says which entry it is."""
    sign_all(ror, monkeypatch)
    v1 = reader(grown).ledger("loans").head().state.served[0]
    forged = forge(store(grown), "promoted", {"served": to_dict(v1)})
    grown.deliver("003")
    for words in (("run", "loans"), ("status", "loans"), ("history", "loans"), ("show", "loans")):
        assert ror(*words) == 4
        assert f"ledger/{forged.seq:08d}.json is 'promoted' and not signed" in ror.err
    with pytest.raises(SignatureError, match="not signed"):
        reader(grown).load_current("loans")
    assert Ledger(store(grown), "loans", NONE).last() == forged.seq
    assert ror("store", "keys", "loans") == 0
    assert "The history is refused here" in ror.out
    newest = ror.json("store", "keys", "loans")["events"][0]
    assert newest == {"seq": forged.seq, "event": "promoted", "signature": "unsigned", "key": None}


def sign_all(ror: Ror, monkeypatch: pytest.MonkeyPatch) -> None:
    """Bring an old store under signatures, as the messages say."""
    assert ror("status", "loans") == 4
    assert "ROR_REQUIRE_SIGNATURE=0" in ror.err
    with monkeypatch.context() as patch:
        patch.setenv("ROR_REQUIRE_SIGNATURE", "0")
        assert ror("status", "loans") == 0
        assert ror("store", "keys", "loans", "--sign", "v1") == 0, ror.err
        assert ror("store", "keys", "loans", "--sign", "all") == 0, ror.err  # v1 has its signature, and keeps it
        assert "v2" in ror.out
        assert ror("run", "loans", "--action", "reload", "--reason", "signed from now on") == 0, ror.err
    assert ror("status", "loans") == 0, ror.err


def test_an_old_store_is_signed_without_a_fit(
    grown: Model, ror: Ror, key: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A model from before there was a key: its versions and its history are signed by two commands, and then all of it
    can be required."""
    sign_all(ror, monkeypatch)
    assert reader(grown).load_current("loans").version == 2
    assert reader(grown).versions("loans") == [1, 2]
    signed = {item["version"]: item["signature"] for item in ror.json("store", "keys", "loans")["versions"]}
    assert signed == {1: "signed", 2: "signed"}
    assert ror("promote", "loans", "v1", "--reason", "back") == 0, ror.err
    assert reader(grown).load_current("loans").version == 1


def test_a_machine_without_the_key_decides_nothing(
    grown: Model, ror: Ror, key: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Where only the public half is, a run and a promotion end with exit code 4 before anything is trained or written;
    looking, and what puts nothing in service, go on."""
    sign_all(ror, monkeypatch)
    monkeypatch.delenv("ROR_SIGNING_KEY")
    grown.deliver("003")
    before = reader(grown).store.objects("loans")
    for words in (("run", "loans"), ("promote", "loans", "v1", "--reason", "back")):
        assert ror(*words) == 4
        assert "this machine has no key to sign with" in ror.err
    assert reader(grown).store.objects("loans") == before
    assert ror("quarantine", "loans", "001", "--reason", "wrong labels") == 0, ror.err
    assert ror("status", "loans") == 0, ror.err
    assert "001" in ror.out
    assert reader(grown).load_current("loans").version == 2


def test_a_new_pair(ror: Ror, tmp_path: Path) -> None:
    """`ror store keys --new` makes a pair, says which half belongs where, and overwrites nothing."""
    assert ror("store", "keys", "--new", str(tmp_path / "keys")) == 0
    made = {file.suffix: file for file in (tmp_path / "keys").iterdir()}
    assert f"export ROR_SIGNING_KEY={made['.key']}" in ror.out
    assert f"export ROR_TRUSTED_KEYS={made['.pub']}" in ror.out
    assert ror("store", "keys", "--new", str(tmp_path / "keys")) == 2
    assert "never overwritten" in ror.err
    answer = ror.json("store", "keys", "--new", str(tmp_path / "more"))
    assert answer["public"] == str(tmp_path / "more" / f"{answer['key']}.pub")


def test_what_is_configured_is_shown(ror: Ror, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """Without a model the command shows whom this machine trusts, and a wrong configuration is an error."""
    assert ror.json("store", "keys") == {"signing": None, "trusted": [], "required": False}
    assert ror("store", "keys") == 0
    assert "is accepted, and no signature is checked" in ror.out
    name, private, public = new_pair(tmp_path / "keys")
    monkeypatch.setenv("ROR_SIGNING_KEY", str(private))
    monkeypatch.setenv("ROR_TRUSTED_KEYS", str(public))
    assert ror.json("store", "keys") == {"signing": name, "trusted": [name], "required": True}
    private.chmod(0o644)
    assert ror("store", "keys") == 2
    assert "chmod 600" in ror.err
    monkeypatch.setenv("ROR_SIGNING_KEY", str(public))
    assert ror("store", "keys") == 2
    assert "not an Ed25519 private key" in " ".join(ror.err.split())  # and not what to do with the wrong file's mode
    assert ror("store", "keys", "--sign", "v1") == 2
    assert "model:\n  - name the model" in ror.err
    assert ror("store", "keys", "loans", "--new", str(tmp_path / "new")) == 2
    assert not (tmp_path / "new").exists()
