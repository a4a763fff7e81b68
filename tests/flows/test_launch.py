"""Starting a run from the command line: the environment that Prefect gets, and what Ctrl-C becomes."""

from __future__ import annotations

import os
import signal

import pytest

from flows import launch


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
    launch.configure(verbose=False)
    assert os.environ["DO_NOT_TRACK"] == "1"
    assert os.environ["PREFECT_SERVER_ANALYTICS_ENABLED"] == "true"
