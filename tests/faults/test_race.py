"""Many processes at one store: no version is lost, one promotion wins, one run decides."""

from __future__ import annotations

import json
import multiprocessing
import random
import shutil
import sys
import time
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path
from subprocess import Popen
from typing import Any

import psutil
import pytest

from tasks.core.ledger.events import Body, Renewed, Started
from tasks.core.ledger.ledger import Ledger
from tasks.core.ledger.state import LeaseRecord
from tasks.core.store import Store
from tasks.core.types import Served
from tasks.core.versions.registry import Registry
from tests.faults import racers
from tests.faults.deeds import FRESH, in_child, perform
from tests.helpers.model import Model
from tests.helpers.server import REPOSITORY
from tests.helpers.versions import put_in_service

SPAWN = multiprocessing.get_context("spawn")
RACERS, REGISTRATIONS, ROUNDS = 8, 50, 10


def race(work: Callable[..., None], root: Path, times: int) -> list[Any]:
    """What eight processes said that did this work at once."""
    together, said = SPAWN.Barrier(RACERS), SPAWN.Queue()
    processes = [SPAWN.Process(target=work, args=(root, each, times, together, said)) for each in range(RACERS)]
    for process in processes:
        process.start()
    answers = []
    while len(answers) < (RACERS if work is racers.register else RACERS * times):
        answers.append(said.get(timeout=120))
    for process in processes:
        process.join(60)
    assert [process.exitcode for process in processes] == [0] * RACERS
    return answers


@pytest.fixture
def root(roots: Path, tmp_path: Path) -> Path:
    """A root with a candidate and no store."""
    return Path(shutil.copytree(roots / "empty", tmp_path / "race"))


@pytest.mark.slow
def test_of_four_hundred_registrations_none_is_lost(root: Path) -> None:
    """Eight processes that register fifty versions each make four hundred, each with a number of its own."""
    numbers = sorted(number for answer in race(racers.register, root, REGISTRATIONS) for number in answer)
    assert numbers == list(range(1, RACERS * REGISTRATIONS + 1))
    registry = Registry(root / "artifacts")
    assert registry.versions("loans") == numbers
    keys = {registry.manifest("loans", number)[0].run_key for number in numbers}
    assert keys == {f"{racer}-{each}" for racer in range(RACERS) for each in range(REGISTRATIONS)}
    answers = [registry.load("loans", n, fresh=True).predict(FRESH) for n in random.Random(0).sample(numbers, 10)]
    assert all((each.probabilities == answers[0].probabilities).all() for each in answers)


@pytest.mark.slow
def test_one_promotion_wins_each_round(root: Path) -> None:
    """Of eight people who replace the same version at once one wins; the others are told, and the history holds."""
    racers.register(root, 0, RACERS + 1, multiprocessing.Barrier(1), SPAWN.SimpleQueue())
    registry = Registry(root / "artifacts")
    for number in registry.versions("loans"):  # a version that the history does not know cannot be promoted
        put_in_service(registry, Served(number, registry.manifest("loans", number)[1], data_end=1))
    before = registry.ledger("loans").head().seq
    said = race(racers.promote, root, ROUNDS)
    won = {
        number: [mine for each, mine in said if each == number and isinstance(mine, int)] for number in range(ROUNDS)
    }
    assert [len(winners) for winners in won.values()] == [1] * ROUNDS
    lost = [why for _, why in said if isinstance(why, str)]
    assert len(lost) == (RACERS - 1) * ROUNDS
    assert all("of loans is in service, not" in why and "nothing was changed" in why for why in lost)
    events = Ledger(Store(root / "artifacts"), "loans").events()
    promoted = [event.current.version for event in events[before:] if event.current]
    assert promoted == [won[number][0] for number in range(ROUNDS)]
    assert Registry(root / "artifacts").load_current("loans").version == won[ROUNDS - 1][0]


@pytest.mark.slow
def test_of_three_runs_one_trains(model: Model, ror: Callable[..., Popen[str]]) -> None:
    """While one of three overlapping runs trains, the others end Skipped and name it; nothing is trained twice."""
    trained = model.root / "go"
    model.write_spec(
        f'[pipeline]\nfactory = "tests.faults.pipelines:waiting"\nparameters = {{ until = "{trained.as_posix()}" }}'
    )
    model.deliver("001", rows=700)
    runs = [ror("run", "loans", "--root", model.root, "--json") for _ in range(3)]
    deadline = time.monotonic() + 100
    while sum(run.poll() is None for run in runs) > 1 and time.monotonic() < deadline:
        time.sleep(0.1)
    ended = [run for run in runs if run.poll() is not None]
    started = model.workspace.ledger.event(1)
    trained.touch()
    said = [json.loads(run.communicate(timeout=120)[0]) for run in runs]
    assert [run.returncode for run in runs] == [0, 0, 0], said
    assert len(ended) == 2
    skipped = [answer["message"] for answer in said if answer["outcome"] == "Skipped"]
    assert len(skipped) == 2
    assert all(started.run in message for message in skipped)
    assert [answer["outcome"] for answer in said].count("Retrained") == 1
    assert [event.event for event in model.workspace.ledger.events()] == ["started", "decided"]
    assert model.workspace.registry.versions("loans") == [1]


# --- leases that nobody gives back -----------------------------------------------------------------------------


@pytest.fixture
def batch(roots: Path, tmp_path: Path) -> Path:
    """A root with one batch to decide on."""
    return Path(shutil.copytree(roots / "batch", tmp_path / "batch"))


def outcome(root: Path) -> str:
    """How a run ends that starts now."""
    return str(in_child(perform, "run", root).answer[0])


@pytest.mark.parametrize("buried", [True, False], ids=["gone", "a zombie"])
def test_a_killed_run_holds_nobody_up(batch: Path, buried: bool) -> None:
    """A run goes on at once where the one before it was killed on this host, though its lease lasts ten minutes more.

    Also where nobody has asked how it ended: such a process is still listed, as in a container without an init.
    """
    die = "import sys; from pathlib import Path; from tests.faults import racers; racers.die_at_work(Path(sys.argv[1]))"
    process = Popen([sys.executable, "-c", die, str(batch)], cwd=REPOSITORY)
    try:
        deadline = time.monotonic() + 60
        while psutil.Process(process.pid).status() != psutil.STATUS_ZOMBIE and time.monotonic() < deadline:
            time.sleep(0.05)
        if buried:
            process.wait(60)
        lease = Model(batch).workspace.ledger.head().state.lease
        assert lease is not None
        assert lease.pid == process.pid
        assert outcome(batch) == "Retrained"
    finally:
        process.wait(60)


def test_a_lease_of_another_host_runs_out(batch: Path) -> None:
    """Whether a process of another host is alive cannot be known: the next run is skipped until the lease runs out."""
    ledger = Model(batch).workspace.ledger

    def append(body: Body) -> None:
        ledger.append(ledger.head(), body, run="a run elsewhere", key="k", actor="tests", reason="")

    def in_seconds(number: int) -> str:
        return (datetime.now(UTC) + timedelta(seconds=number)).isoformat()

    lease = LeaseRecord(0, "a run elsewhere", in_seconds(600), "another-host", "boot", 1, 0.0)
    append(Started(lease))
    assert outcome(batch) == "Skipped"
    append(Renewed(in_seconds(1)))
    time.sleep(1)
    assert outcome(batch) == "Retrained"
    assert [event.event for event in ledger.events()] == ["started", "renewed", "started", "decided"]
