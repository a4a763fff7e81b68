"""Starting a run from the command line: the environment that Prefect gets, and what Ctrl-C becomes."""

from __future__ import annotations

import errno
import os
import pwd
import re
import signal
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from flows.run_support import concluded
from flows.server import client, environment, launch
from flows.server.embedded import EmbeddedServer
from flows.server.environment import configure
from tasks.core.errors import RorError, SpecError
from tasks.core.types import Outcome


@pytest.fixture
def heard() -> Iterator[None]:
    """Ctrl-C reaches this process: one that a shell started in the background ignores it."""
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    yield
    signal.signal(signal.SIGINT, before)


@pytest.mark.usefixtures("heard")
def test_interrupt_stays_an_interrupt() -> None:
    """Ctrl-C that Prefect turns into an error of its own reaches the command as Ctrl-C; other errors stay theirs."""
    with pytest.raises(KeyboardInterrupt), launch._interruptible():
        try:
            os.kill(os.getpid(), signal.SIGINT)
            signal.pause()
        except KeyboardInterrupt:
            raise ValueError("bookkeeping was cut short") from None
    with pytest.raises(ValueError, match="really"), launch._interruptible():
        raise ValueError("really")
    assert signal.getsignal(signal.SIGINT) is signal.default_int_handler


def test_what_the_user_set_wins(monkeypatch: pytest.MonkeyPatch) -> None:
    """Telemetry is off unless the user's environment says otherwise."""
    monkeypatch.delenv("DO_NOT_TRACK", raising=False)
    monkeypatch.setenv("PREFECT_SERVER_ANALYTICS_ENABLED", "true")
    configure(verbose=False)
    assert os.environ["DO_NOT_TRACK"] == "1"
    assert os.environ["PREFECT_SERVER_ANALYTICS_ENABLED"] == "true"


@pytest.mark.skipif(sys.platform != "linux", reason="only GNU's OpenMP says how long it waits busily")
@pytest.mark.parametrize("given", [None, "ACTIVE"])
def test_threads_of_a_fit_do_not_wait_busily(given: str | None) -> None:
    """OpenMP, when a flow loads it, is told to let others have the core that a thread waits on: a fit beside something
    else would take a hundred times as long. Whoever sets it otherwise gets that."""
    environment = {name: value for name, value in os.environ.items() if name != "OMP_WAIT_POLICY"}
    environment |= {"OMP_DISPLAY_ENV": "VERBOSE"} | ({"OMP_WAIT_POLICY": given} if given else {})
    command = [sys.executable, "-c", "import flows.retrain_or_reload, sklearn.ensemble"]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=60, check=True)
    turns = {int(number) for number in re.findall(r"GOMP_SPINCOUNT = '(\d+)'", done.stderr)}
    assert turns and (turns == {0}) == (given is None)


@pytest.mark.usefixtures("prefect")
@pytest.mark.parametrize("given", [None, "60"])
def test_heartbeats_are_for_who_wants_them(given: str | None) -> None:
    """`ror run` sends none, for its end would wait for them; whoever sets them gets them."""
    script = (
        "from flows.server import launch\nfrom prefect.settings import PREFECT_FLOWS_HEARTBEAT_FREQUENCY as frequency\n"
        "with launch.prefect_ready():\n    print(frequency.value())"
    )
    environment = {**os.environ, "PREFECT_API_URL": str(client.server_url())}
    environment |= {"PREFECT_FLOWS_HEARTBEAT_FREQUENCY": given} if given else {}
    command = [sys.executable, "-c", script]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=60, check=True)
    assert done.stdout.strip() == str(given)


PROXIES = ("http_proxy", "https_proxy", "all_proxy", "no_proxy")


@pytest.fixture
def set_proxies(monkeypatch: pytest.MonkeyPatch) -> Callable[..., None]:
    """Sets these variables of proxies, in capitals, and no others."""

    def set_only(**given: str) -> None:
        for name in (*PROXIES, *map(str.upper, PROXIES)):
            monkeypatch.setenv(name, "")  # so that what is set in the test goes with it
            monkeypatch.delenv(name)
        for name, value in given.items():
            monkeypatch.setenv(name, value)

    return set_only


@pytest.mark.parametrize(
    ("given", "wanted"),
    [
        ({}, None),
        ({"HTTP_PROXY": "http://proxy:3128"}, "127.0.0.1,localhost,::1"),
        ({"ALL_PROXY": "http://proxy:3128", "NO_PROXY": ".corp, localhost"}, ".corp,localhost,127.0.0.1,::1"),
        ({"HTTPS_PROXY": "http://proxy:3128", "no_proxy": "*"}, "*"),
    ],
)
def test_this_machine_is_asked_without_a_proxy(
    set_proxies: Callable[..., None], given: dict[str, str], wanted: str | None
) -> None:
    """A company's proxy that is set for all addresses is not asked for this machine's own; what was excepted stays."""
    set_proxies(**given)
    configure(verbose=False)
    assert os.environ.get("no_proxy") == wanted
    if given.get("no_proxy") != "*":
        assert os.environ.get("NO_PROXY") == wanted


def test_a_proxy_that_was_asked_is_named(set_proxies: Callable[..., None], monkeypatch: pytest.MonkeyPatch) -> None:
    """Where a configured server is asked through a proxy and does not answer, either may be at fault; no password is
    shown."""
    monkeypatch.setattr(client, "server_url", lambda: "http://prefect.corp:4200/api")
    set_proxies(HTTP_PROXY="http://ann:secret@proxy:3128")
    with (
        pytest.raises(RorError, match=r"through the proxy http://proxy:3128: HTTP_PROXY") as told,
        client.server_errors(),
    ):
        raise RuntimeError("connection refused")
    assert "secret" not in str(told.value)
    set_proxies(HTTP_PROXY="http://proxy:3128", NO_PROXY=".corp")
    with pytest.raises(RorError) as told, client.server_errors():
        raise RuntimeError("connection refused")
    assert "proxy" not in str(told.value)


def test_a_user_without_a_home(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Prefect's files go to a temporary folder, which is said; what a user chose and cannot be written is refused."""
    (tmp_path / "file").touch()
    monkeypatch.setenv("HOME", str(tmp_path / "file"))
    monkeypatch.delenv("PREFECT_HOME")
    configure(verbose=False)
    home = Path(os.environ["PREFECT_HOME"])
    assert home.is_dir() and not home.is_relative_to(tmp_path)
    assert "Set PREFECT_HOME" in capsys.readouterr().err
    home.rmdir()
    monkeypatch.setenv("PREFECT_HOME", str(tmp_path / "file/prefect"))
    with pytest.raises(SpecError, match=r"PREFECT_HOME:\n.*file/prefect cannot be written"):
        configure(verbose=False)


def test_a_user_whom_the_system_does_not_know(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Without HOME and without an entry for the user's number `~` is nowhere: it is not made where the command is
    called, and a PREFECT_HOME that begins with it is refused."""

    def unknown(number: int) -> None:
        raise KeyError(number)

    monkeypatch.setattr(pwd, "getpwuid", unknown)
    monkeypatch.delenv("HOME")
    monkeypatch.delenv("PREFECT_HOME")
    monkeypatch.chdir(tmp_path)
    configure(verbose=False)
    Path(os.environ["PREFECT_HOME"]).rmdir()
    assert "~/.prefect cannot be written (this user has no home)" in capsys.readouterr().err
    monkeypatch.setenv("PREFECT_HOME", "~/prefect")
    with pytest.raises(SpecError, match=r"~/prefect cannot be written: this user has no home"):
        configure(verbose=False)
    assert [*tmp_path.iterdir()] == []


@pytest.mark.parametrize("chosen", [None, "/etc/prefect/profiles.toml"])
def test_the_profile_of_a_home_that_can_only_be_read(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, chosen: str | None
) -> None:
    """The server that a user has configured there is still asked, unless the environment names other profiles."""
    profiles = tmp_path / ".prefect/profiles.toml"
    profiles.parent.mkdir()
    profiles.write_text('active = "ours"\n[profiles.ours]\nPREFECT_API_URL = "http://prefect.example/api"\n')

    def read_only(**_: Any) -> None:
        raise OSError(errno.EROFS, "Read-only file system")

    monkeypatch.setattr(tempfile, "TemporaryFile", read_only)
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.delenv("PREFECT_HOME")
    for name in ("PREFECT_PROFILES_PATH", "PREFECT_API_URL", "PREFECT_PROFILE"):
        monkeypatch.delenv(name, raising=False)
    if chosen:
        monkeypatch.setenv("PREFECT_PROFILES_PATH", chosen)
    configure(verbose=False)
    assert os.environ["PREFECT_PROFILES_PATH"] == (chosen or str(profiles))
    if not chosen:
        ask = "from flows.server.client import server_url; print(server_url())"
        said = subprocess.run([sys.executable, "-c", ask], capture_output=True, text=True, check=True)
        assert said.stdout.strip() == "http://prefect.example/api"
    Path(os.environ["PREFECT_HOME"]).rmdir()
    monkeypatch.delenv("PREFECT_PROFILES_PATH")


def test_a_user_without_a_name(monkeypatch: pytest.MonkeyPatch) -> None:
    """A container with a number for a user has no entry for it; the history names the number."""
    for name in ("LOGNAME", "USER", "LNAME", "USERNAME"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setattr(os, "getuid", lambda: 3_000_000_000)
    assert environment.actor().startswith("uid-3000000000@")


@pytest.mark.parametrize(
    ("program", "said"),
    [
        ("raise OSError('unable to open database file')", r"exit code 1 \(OSError: unable to open database file\)"),
        ("raise SystemExit(3)", r"exit code 3\. "),
        ("import time; time.sleep(60)", r"did not answer within 2 s"),
    ],
)
def test_an_embedded_server_that_does_not_start(monkeypatch: pytest.MonkeyPatch, program: str, said: str) -> None:
    """The cause is named, at once where the server has ended, and with where its files are."""
    monkeypatch.setattr(EmbeddedServer, "_instances", {})

    def run_instead(self: EmbeddedServer) -> subprocess.Popen[Any]:
        return subprocess.Popen([sys.executable, "-c", program])

    monkeypatch.setattr(EmbeddedServer, "_run_uvicorn_command", run_instead)
    with pytest.raises(RorError, match=said) as told:
        EmbeddedServer().start(timeout=2 if "sleep" in program else 60)
    assert os.environ["PREFECT_HOME"] in str(told.value)


def test_a_run_by_hand_has_the_root_that_is_deployed(tmp_path: Path) -> None:
    """Its events name the root as `ror deploy` does, with links followed, through whichever link it was called."""
    given: dict[str, str] = {}

    def flow(**parameters: Any) -> SimpleNamespace:
        given.update(parameters)
        return SimpleNamespace(name=Outcome.HELD, message="")

    (tmp_path / "root").mkdir()
    (tmp_path / "link").symlink_to(tmp_path / "root")
    launch._call(flow, tmp_path / "link", "loans", {})
    assert given["root"] == str(tmp_path / "root")


def test_what_was_decided_outlives_prefect(tmp_path: Path) -> None:
    """A server that goes away after the decision changes neither outcome nor exit code; before it, it is an error."""

    def flow(outcome: Outcome | None, **_: Any) -> None:
        if outcome:
            concluded(outcome, "v1 in service")
        raise RuntimeError("connection refused")

    result = launch._call(flow, tmp_path, "loans", {"outcome": Outcome.BLOCKED})
    assert (result.outcome, result.message, result.exit_code) == (Outcome.BLOCKED, "v1 in service", 3)
    assert "connection refused" in result.untold
    with pytest.raises(RorError, match="connection refused"):
        launch._call(flow, tmp_path, "loans", {"outcome": None})
