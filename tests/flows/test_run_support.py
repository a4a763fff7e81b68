"""A run that hangs ends after its time limit, whatever it hangs in."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import textwrap
import threading
import time
from contextlib import suppress
from pathlib import Path

import pytest

from flows.run_support import patience, time_limit
from flows.server import launch
from tasks.core.errors import RunTimedOut
from tasks.core.types import Outcome
from tests.helpers.model import Model

ENDLESS = """
    from sklearn.impute import SimpleImputer
    from sklearn.pipeline import make_pipeline
    from sklearn.preprocessing import OrdinalEncoder
    from sklearn.svm import SVC


    def endless():
        # libsvm looks for the last digit of a problem that has none, without a look at signals.
        kernel = SVC(kernel="linear", C=1e10, tol=1e-12)
        return make_pipeline(OrdinalEncoder(), SimpleImputer(), kernel)
"""


def run(model: Model, **asked: str) -> launch.Result:
    return launch.run(model.root, model.name, **asked)


def limit(model: Model, pipeline: str, minutes: float) -> None:
    model.write_spec(f'{pipeline}\n[schedule]\ncron = "0 6 * * *"\ntimeout_minutes = {minutes}\n')


@pytest.mark.usefixtures("prefect")
def test_a_fit_that_takes_too_long_is_interrupted(model: Model) -> None:
    """The run ends as TimedOut and says so in the history, the lease is free, and the version in service stays; no
    attempt to train is counted."""
    model.deliver("001")
    limit(model, "[pipeline]\nparameters = { max_iter = 10 }", 10)
    assert run(model).outcome is Outcome.RETRAINED

    limit(model, "[pipeline]\nparameters = { max_iter = 1000000 }", 0.05)
    with pytest.raises(RunTimedOut, match=r"longer than 0\.05 minutes \(\[schedule\] timeout_minutes\)"):
        run(model, action="retrain", reason="an endless one")
    head = model.workspace.ledger.head()
    assert (head.state.lease, head.state.current.version if head.state.current else 0) == (None, 1)
    event = model.workspace.ledger.event(head.seq)
    assert event.event == "failed" and "longer than 0.05 minutes" in event.body["error"]
    assert model.workspace.registry.versions(model.name) == [1]

    limit(model, "[pipeline]\nparameters = { max_iter = 10 }", 10)
    model.deliver("002")
    assert run(model).outcome is Outcome.RELOADED


SWALLOWS = """
    import time
    from sklearn.dummy import DummyClassifier


    class Swallows(DummyClassifier):
        def fit(self, X, y):
            try:
                time.sleep(60)
            except BaseException as error:  # as Cython does in the middle of a buffer's format
                raise ValueError("not a valid buffer format") from error


    def build():
        return Swallows()
"""


@pytest.mark.usefixtures("prefect")
def test_an_interruption_that_was_taken_for_an_error_is_one_still(model: Model) -> None:
    """Where a library turned the interruption into its own error, the run is out of time and counts no attempt."""
    (model.root / "src").mkdir()
    (model.root / "src/swallows.py").write_text(textwrap.dedent(SWALLOWS))
    model.deliver("001")
    limit(model, '[pipeline]\nfactory = "swallows:build"', 0.05)
    path = model.root / "deployments/loans.toml"
    path.write_text('code = ["src"]\n' + path.read_text())
    with pytest.raises(RunTimedOut, match=r"longer than 0\.05 minutes"):
        run(model)
    state = model.workspace.state()
    assert (state.decided, state.lease, state.newest) == (None, None, 0)


@pytest.mark.slow
def test_compiled_code_that_heeds_no_signal_ends_with_its_process(model: Model, tmp_path: Path) -> None:
    """Where nothing can interrupt a fit, its process ends a little after the limit and says where it was; the next run
    takes over its lease at once."""
    (model.root / "src").mkdir()
    (model.root / "src/endless.py").write_text(textwrap.dedent(ENDLESS))
    model.deliver("001")
    limit(model, '[pipeline]\nfactory = "endless:endless"', 0.05)
    spec = model.root / "deployments/loans.toml"
    spec.write_text(f'code = ["src"]\n{spec.read_text()}')
    command = [sys.executable, "-m", "flows.cli", "run", model.name, "--root", str(model.root)]
    said = tmp_path / "said.txt"
    with said.open("w") as file:
        environment = {**os.environ, "TMPDIR": str(tmp_path)}  # which a process that is ended cannot tidy
        process = subprocess.Popen(command, stderr=file, start_new_session=True, env=environment)
        assert process.wait(120) == 1
    with suppress(ProcessLookupError):
        os.killpg(process.pid, signal.SIGKILL)  # the embedded server, if it was left behind
    assert "Timeout (0:00:18" in said.read_text() and "svm/_base.py" in said.read_text()
    lease = model.workspace.ledger.head().state.lease
    assert lease is not None  # nobody gave it back

    limit(model, "[pipeline]\nparameters = { max_iter = 10 }", 10)
    done = subprocess.run(command, stderr=subprocess.PIPE, text=True, timeout=120, check=False)
    assert done.returncode == 0, done.stderr
    assert model.workspace.registry.versions(model.name) == [1]


def test_a_system_without_a_timer(monkeypatch: pytest.MonkeyPatch) -> None:
    """Where the system sends no signal by itself, a thread interrupts the block; nothing of it is left afterwards."""
    monkeypatch.delattr(signal, "setitimer")
    before = signal.getsignal(signal.SIGTERM)
    with pytest.raises(RunTimedOut), time_limit(0.005):
        end = time.monotonic() + 20
        while time.monotonic() < end:
            pass
    assert time.monotonic() < end - 10
    with time_limit(1):
        pass
    assert signal.getsignal(signal.SIGTERM) is before
    assert not [thread for thread in threading.enumerate() if isinstance(thread, threading.Timer)]


def test_what_ends_in_time_is_left_alone() -> None:
    """Nothing is left of the limit after the block, and an error of the block's own comes out as it is."""
    before = signal.getsignal(signal.SIGALRM)
    with pytest.raises(ZeroDivisionError), time_limit(0.01):
        _ = 1 / 0
    assert signal.getsignal(signal.SIGALRM) is before
    assert signal.getitimer(signal.ITIMER_REAL) == (0.0, 0.0)
    assert [patience(seconds) for seconds in (10, 300, 36_000)] == [15, 30, 60]
