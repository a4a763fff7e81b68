"""What child processes do to a store: one deed, killed at one call, and a look at what is left.

Children are forked from a server that has imported all this and has never touched a store: obstore does not survive
a fork, while importing everything anew would take seconds for each of hundreds of kills.
"""

from __future__ import annotations

import hashlib
import json
import os
import pickle
import re
import shutil
import signal
import tempfile
from collections.abc import Callable
from dataclasses import dataclass, field
from multiprocessing import get_context
from pathlib import Path
from typing import Any

from tests.helpers.model import Model

from tests.helpers.model import make_rows  # isort: skip  (sets up Prefect's environment)

import pandas as pd
from prefect import Task
from prefect.logging import disable_run_logger
from threadpoolctl import threadpool_limits

from flows import retrain_or_reload as story
from flows.server import environment
from tasks import alert
from tasks import predict as prediction
from tasks import publish as publication
from tasks.core import overrides
from tasks.core.errors import InvalidRequest, NotFound
from tasks.core.ledger.ledger import Ledger
from tasks.core.records import to_dict
from tasks.core.store import Store
from tasks.core.versions import registry
from tasks.core.versions.loaded import LoadedVersion
from tasks.core.versions.manifest import Candidate
from tasks.core.versions.registry import Registry

MODEL = "loans"
CANDIDATE = "candidate.pickle"
QUICK = "[pipeline]\nparameters = { max_iter = 10 }\n"
CALLS = [name for name in ("create", "read", "exists", "objects", "folders", "remove") if hasattr(Store, name)]
FRESH = make_rows(50, seed=99)


# --- deeds -----------------------------------------------------------------------------------------------------


def register(root: Path) -> str:
    """Put the stored candidate in the store as the training task does: adopt what this very run registered before."""
    made = Registry(root / "artifacts")
    candidate = pickle.loads((root / CANDIDATE).read_bytes())
    version, _ = made.adopt(MODEL, "a run", newer_than=0) or made.register(MODEL, "a run", candidate)
    return f"v{version}"


def promote(root: Path) -> str:
    """Put v1 back in service by hand; told that it is there already is as good."""
    try:
        overrides.promote(Model(root).workspace, 1, reason="as before", actor="ann", expected=2)
    except (InvalidRequest, registry.CorruptObject, overrides.LedgerConflict):
        if in_service(root) != 1:
            raise
    return "v1"


def run(root: Path) -> str:
    """One run of the whole main flow, as the rules decide; the name of its state."""
    return _flow(root)


def retrain(root: Path) -> str:
    """One run that is asked to retrain."""
    return _flow(root, action="retrain", reason="the world has changed")


def _flow(root: Path, **asked: str) -> str:
    """The functions of flow and tasks themselves, without the engine, the server and the artifacts of Prefect."""
    for name, task in list(vars(story).items()):
        if isinstance(task, Task):
            setattr(story, name, task.fn)
    for name in ("create_link_artifact", "create_markdown_artifact", "create_table_artifact", "emit_event"):
        setattr(publication, name, lambda *_, **__: None)
    alert.emit_event = lambda *_, **__: None
    with disable_run_logger(), threadpool_limits(1):
        state = story.retrain_or_reload.fn(model=MODEL, root=str(root), actor=environment.actor(), **asked)
    return str(state.name)


DEEDS: dict[str, Callable[[Path], str]] = {f.__name__: f for f in (register, promote, run, retrain)}


# --- being killed ----------------------------------------------------------------------------------------------


@dataclass
class Calls:
    """Counts every call of a store, and every batch that is predicted; kills this process at one of them."""

    kill_at: int | None = None
    after: bool = False
    made: list[str] = field(default_factory=list)

    def watch(self) -> None:
        for name in CALLS:
            setattr(Store, name, self._counted(name, getattr(Store, name)))
        prediction.write_predictions = self._counted("predictions", prediction.write_predictions)

    def _counted(self, name: str, function: Callable[..., Any]) -> Callable[..., Any]:
        def counted(*args: Any, **named: Any) -> Any:
            self.made.append(f"{name} {args[1]}")
            now = len(self.made) == self.kill_at
            if now and not self.after:
                os.kill(os.getpid(), signal.SIGKILL)
            try:
                return function(*args, **named)
            finally:
                if now:
                    os.kill(os.getpid(), signal.SIGKILL)

        return counted


# --- looking at it ---------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Seen:
    """What a new process finds."""

    current: int | None
    answers: str | None
    """Digest of what the version in service predicts for new rows."""
    versions: dict[int, str]
    """Every complete version with the digest of its predictions."""
    events: list[str]
    decisions: list[str]
    """Every decision, and every promotion, without what names a run, a version or a moment."""
    predicted: dict[str, str]
    """Every batch that is predicted, with the digest of the answers."""


def look(root: Path) -> Seen:
    """Raises what loading raises, and CorruptObject where the chain of the history is broken."""
    workspace = Model(root).workspace
    store = workspace.registry
    registry._LOADED.clear()
    versions = {number: answers_of(store.load(MODEL, number, fresh=True)) for number in store.versions(MODEL)}
    registry._LOADED.clear()
    try:
        current = store.load_current(MODEL)
    except NotFound:
        if workspace.ledger.head().state.current is not None:
            raise
        current = None
    events = workspace.ledger.events()
    return Seen(
        current=current.version if current else None,
        answers=answers_of(current) if current else None,
        versions=versions,
        events=[event.event for event in events],
        decisions=[essence(e.body, e.reason) for e in events if e.event in ("decided", "promoted")],
        predicted={path.stem: predicted(path) for path in sorted((workspace.data / "predictions").glob("*.parquet"))},
    )


def in_service(root: Path) -> int | None:
    current = Ledger(Store(root / "artifacts"), MODEL).head().state.current
    return current.version if current else None


def answers_of(version: LoadedVersion) -> str:
    answers = version.predict(FRESH)
    assert answers.probabilities is not None
    return hashlib.sha256(answers.values.tobytes() + answers.probabilities.tobytes()).hexdigest()


def predicted(path: Path) -> str:
    return hashlib.sha256(
        pd.read_parquet(path).drop(columns=["version", "run"]).to_csv(index=False).encode()
    ).hexdigest()


def essence(body: Any, reason: str) -> str:
    """What was decided and why. A killed run may have used up a number: versions are left out."""

    def plain(value: Any) -> Any:
        if isinstance(value, dict):
            return {k: plain(v) for k, v in value.items() if k not in ("version", "manifest", "current")}
        if isinstance(value, list):
            return [plain(item) for item in value]
        return re.sub(r"\bv\d+\b", "vN", value) if isinstance(value, str) else value

    return json.dumps([plain(to_dict(dict(body))), reason], sort_keys=True)


# --- in a process of its own -----------------------------------------------------------------------------------


@dataclass(frozen=True)
class Ended:
    """How a child ended."""

    exit_code: int | None
    answer: Any = None


def in_child(work: Callable[..., Any], *arguments: Any, timeout: float = 120) -> Ended:
    """Call `work` in a new process. Raises what it raised."""
    context = get_context("forkserver")
    context.set_forkserver_preload(["tests.faults.zygote"])
    mine, its = context.Pipe(duplex=False)
    process = context.Process(target=_child, args=(its, work, arguments))
    process.start()
    its.close()
    answer = None
    try:
        if mine.poll(timeout):
            answer = mine.recv()
    except EOFError:  # killed before it could answer
        pass
    process.join(timeout)
    if isinstance(answer, Exception):
        raise answer
    return Ended(process.exitcode, answer)


def _child(pipe: Any, work: Callable[..., Any], arguments: tuple[Any, ...]) -> None:
    try:
        pipe.send(work(*arguments))
    except Exception as error:  # noqa: BLE001 - it is raised in the parent
        pipe.send(error)


def perform(deed: str, root: Path, kill_at: int | None = None, after: bool = False) -> tuple[str, list[str]]:
    """Carry out a deed; what came of it, and the calls it took."""
    tempfile.tempdir = str(root)  # what a killed process cannot tidy goes with its root
    calls = Calls(kill_at, after)
    calls.watch()
    return DEEDS[deed](root), calls.made


def recover(deed: str, root: Path) -> tuple[Seen, str, Seen]:
    """What is there after a kill, how the same deed ends now, and what is there then."""
    before = look(root)
    return before, DEEDS[deed](root), look(root)


# --- where it all starts ---------------------------------------------------------------------------------------


def prepare(root: Path) -> None:
    """Roots to begin from: `batch` holds one batch; `trained` v1 and a batch like it; `changed` v1 and a batch in which
    everything is the other way round; `grown` v2 as well, which learned that; `empty` a candidate and no store.
    """
    Model(root / "empty").write_spec(QUICK)
    honest = Registry.register

    def kept(self: Registry, model: str, run_key: str, candidate: Candidate) -> tuple[int, str]:
        (root / "empty" / CANDIDATE).write_bytes(pickle.dumps(candidate))
        return honest(self, model, run_key, candidate)

    Registry.register = kept  # type: ignore[method-assign]  # in this process, which only prepares
    model = Model(root / "batch")
    model.write_spec(QUICK)
    model.deliver("001", rows=700)
    for name, begin, deed, flip in (
        ("trained", "batch", run, 0.0),
        ("changed", "batch", run, 1.0),
        ("grown", "changed", retrain, 1.0),
    ):
        shutil.copytree(root / begin, root / name)
        if (outcome := deed(root / name)) != "Retrained":
            raise AssertionError(f"{name}: {outcome}")
        Model(root / name).deliver("003" if begin == "changed" else "002", rows=700, flip=flip)
