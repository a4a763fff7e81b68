"""Thread pools: what services, forks and runs do with them."""

from __future__ import annotations

import os
import subprocess
import sys
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor

import joblib
import numpy as np
import pandas as pd
import pytest
from sklearn.linear_model import LinearRegression
from threadpoolctl import threadpool_info, threadpool_limits

from tasks.core.versions import persistence, threads

FRAME = pd.DataFrame({"x": np.linspace(0, 1, 200), "z": np.linspace(1, 0, 200)})
PIPELINE = LinearRegression().fit(FRAME, FRAME.x)

FORKS = """
import os, signal, sys, threading
import numpy as np
import pandas as pd
from sklearn.ensemble import HistGradientBoostingClassifier
from threadpoolctl import threadpool_info
import tasks.core.serving
from tasks.core.versions import persistence, threads

rng = np.random.default_rng(0)
frame = pd.DataFrame(rng.normal(size=(50_000, 3)), columns=list("xyz"))
pipeline = HistGradientBoostingClassifier(max_iter=3).fit(frame, frame.x > 0)
expected = persistence.predict(pipeline, frame).values

def answers():
    return bool((persistence.predict(pipeline, frame).values == expected).all())

def child():
    signal.alarm(30)  # what hangs is ended
    found = [answers()]
    late = threading.Thread(target=lambda: found.append(answers()))
    late.start(); late.join()
    persistence.known_answers(pipeline, frame[:50])
    one = {pool["num_threads"] for pool in threadpool_info()} == {1}
    os._exit(0 if found == [True, True] and one else 1)

def fork():
    pid = os.fork()
    if pid == 0:
        child()
    ended.append(os.waitpid(pid, 0)[1])

ended, before = [], threadpool_info()
fork()
apart = threading.Thread(target=lambda: (answers(), fork()))
apart.start(); apart.join()
held, let_go = threading.Event(), threading.Event()
def hold():
    with threads.single():
        held.set(); let_go.wait()
holder = threading.Thread(target=hold)
holder.start(); held.wait()
fork()
let_go.set(); holder.join()
print(ended, threadpool_info() == before)
"""


@pytest.mark.skipif(not hasattr(os, "fork"), reason="nothing forks here")
def test_a_fork_after_many_rows() -> None:
    """A service that has answered many rows with several threads forks, from any of its threads, also while another one
    replays known answers: the child answers the same in all of its threads, and the parent's pools stay."""
    environment = {**os.environ, "OMP_NUM_THREADS": "2", "OPENBLAS_NUM_THREADS": "2"}
    done = subprocess.run(
        [sys.executable, "-c", FORKS], capture_output=True, text=True, timeout=200, check=False, env=environment
    )
    assert done.stdout.split() == ["[0,", "0,", "0]", "True"], done.stdout + done.stderr


@pytest.fixture
def two() -> Iterator[None]:
    """Pools of two threads, as services have them."""
    with threadpool_limits(2):
        yield


def sizes() -> list[tuple[str, int]]:
    return [(pool["user_api"], pool["num_threads"]) for pool in threadpool_info()]


@pytest.mark.usefixtures("two")
def test_a_burst_leaves_the_pools_as_they_were() -> None:
    """Threads that answer at the same time, known answers among them, do not take each other's setting for the one to
    restore."""
    before = sizes()
    start = threading.Barrier(8)

    def ask(number: int) -> None:
        start.wait()
        for _ in range(20):
            (persistence.known_answers if number % 2 else persistence.predict)(PIPELINE, FRAME)

    with ThreadPoolExecutor(8) as pool:
        list(pool.map(ask, range(8)))
    assert sizes() == before


@pytest.mark.usefixtures("two")
def test_few_rows_leave_blas_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    """For few rows this thread has one thread of OpenMP, as long as it takes; BLAS, which all share, keeps its own.
    Known answers have one of both; many rows have what there is."""
    seen: list[set[tuple[str, int]]] = []

    def answer(*_: object) -> persistence.Predictions:
        seen.append({*sizes()})
        return persistence.Predictions(np.zeros(len(FRAME)), None, ())

    monkeypatch.setattr(persistence, "_predict", answer)
    persistence.predict(PIPELINE, FRAME)
    persistence.known_answers(PIPELINE, FRAME)
    monkeypatch.setattr(persistence, "SMALL", 10)
    persistence.predict(PIPELINE, FRAME)
    assert seen == [{("openmp", 1), ("blas", 2)}, {("openmp", 1), ("blas", 1)}, {("openmp", 2), ("blas", 2)}]


def test_pools_are_looked_for_when_there_may_be_others(monkeypatch: pytest.MonkeyPatch) -> None:
    """Not at every call where models take turns, whose modules come and go; where something was imported, once more."""
    looked: list[int] = []
    monkeypatch.setattr(threads, "ThreadpoolController", lambda: looked.append(len(sys.modules)))
    threads._found.cache_clear()
    for imported in ("desk_one", "desk_two"):
        for _ in range(3):
            with monkeypatch.context() as at_work:
                at_work.setitem(sys.modules, "desk_at_work", sys)
                at_work.setitem(sys.modules, "desk_at_work.more", sys)
                at_work.setitem(sys.modules, "desk_at_work.late", sys)
                threads._pools()
            threads._pools()
        assert len(looked) == (2 if imported == "desk_one" else 4)
        monkeypatch.setitem(sys.modules, imported, sys)
    threads._found.cache_clear()


@pytest.mark.parametrize(("given", "found"), [("3", 3), ("3,2", 3), ("0", None), ("many", None), ("", None)])
def test_how_many_there_are(monkeypatch: pytest.MonkeyPatch, given: str, found: int | None) -> None:
    """What the environment says counts; where it says nothing that is a number, the cores that may be used."""
    monkeypatch.setenv("OMP_NUM_THREADS", given)
    assert threads.fair() == (found or joblib.cpu_count())
    assert threads.fair(3) == (found or max(1, joblib.cpu_count() // 3))
    assert threads.fair(10_000) == (found or 1)


def test_a_run_sets_them_for_good(two: None) -> None:
    """BLAS and OpenMP alike, until somebody sets them again; known answers keep their own number, and give it back."""
    threads.use(1)
    assert {number for _, number in sizes()} == {1}
    threads.use(2)
    persistence.known_answers(PIPELINE, FRAME)
    assert {number for _, number in sizes()} == {2}
