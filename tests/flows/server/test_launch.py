"""Starting a run from the command line: the environment that Prefect gets, and what Ctrl-C becomes."""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
from collections.abc import Iterator

import pytest

from flows.server import client, launch
from flows.server.environment import configure


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
