"""Two models may both have a `pipeline.py`: each is built, fitted, loaded and asked with modules of its own.

Pickles name modules by their bare names, and a process has one module of each name. As long as nothing clashes a
model's modules are imported as any others. Where a name means another file or another text for another model or
version, it has a namespace: while that is at work its modules stand in `sys.modules`, and nobody whose names clash with
it is at work in another thread.
"""

from __future__ import annotations

import itertools
import os
import sys
import threading
import weakref
from collections import ChainMap
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass, field
from pathlib import Path
from types import ModuleType
from typing import Any

from tasks.core.versions import configuration, opened, own_code

PATIENCE = 5.0
"""Seconds that a call leaves precedence to those that came first. It may be asked by a thread that somebody at work has
started, and waits for: then the first in the queue waits for it, too, and no turn would ever end."""


class Namespace:
    """What the names of a model's own modules mean to it."""

    def __init__(self, code: Sequence[Path], *, resident: bool) -> None:
        self.code = list(code)
        self.places: dict[str, str] = {}
        """Where each top-level name lives: its folder, empty for one that is in none of `code`."""
        self.texts: dict[str, str] = {}
        self.recorded: dict[str, str] = {}
        """Text of those modules that come from a version's record, as the folders hold others or none."""
        self.files: dict[str, str] = {}
        """sha256 of files beside the code that its modules are known to have read."""
        self.resident = resident
        """Its modules stay in `sys.modules`: the first of their names, and just what an import finds."""
        self._users = 0
        self._modules: dict[str, ModuleType] = {}
        self._outside: dict[str, ModuleType] = {}
        self._ahead: list[str] = []
        self._finder = own_code.Recorded(ChainMap(self.recorded, self.texts), self.code, self.places)

    def agrees(self, places: Mapping[str, str], texts: Mapping[str, str], recorded: Collection[str]) -> bool:
        """Whether every name that both have means the same to both, and there is one."""
        return (
            not self.places.keys().isdisjoint(places)
            and all(self.places.get(top, place) == place for top, place in places.items())
            and all(self.texts.get(name, text) == text for name, text in texts.items())
            and not opened.changed(self.files, self.code)
            and all((name in self.recorded) == (name in recorded) for name in self.texts.keys() & texts.keys())
        )

    def add(self, places: Mapping[str, str], texts: Mapping[str, str], recorded: Mapping[str, str]) -> None:
        """Names that agree with those it has."""
        self.places.update(places)
        self.texts.update(texts)
        self.recorded.update(recorded)

    def read(self, files: Iterable[str]) -> None:
        """Its modules read these files beside the code, and may hold what is in them: when one is edited, a later fit
        or load gets modules of its own."""
        here = ((name, opened.file_here(name, self.code)) for name in files)
        self.files.update(opened.digests_of({name: path for name, path in here if path}))

    def clashes(self, other: Namespace) -> bool:
        """Whether both cannot be at work at once."""
        return other is not self and not self.places.keys().isdisjoint(other.places)

    @contextmanager
    def at_work(self) -> Iterator[None]:
        """Its names mean its modules, for this thread and those that it starts. It waits for those that clash, and
        for those that clash and came first.

        Inside another namespace's work that one is interrupted meanwhile, so that a thread that waits here holds up
        nobody; it keeps its place, and goes on before those that came after it.
        """
        outer, before = active(), _THREAD.ticket
        if outer is self:
            yield
            return
        ticket = before or next(_TICKETS)
        if outer is not None:
            outer.leave()
        try:
            self.enter(ticket)
            _THREAD.active, _THREAD.ticket = self, ticket
            try:
                yield
            finally:
                _THREAD.active, _THREAD.ticket = outer, before
                self.leave()
        finally:
            if outer is not None:
                outer.enter(ticket)

    def enter(self, ticket: int) -> None:
        """Begin to work in this thread, once it is its turn."""
        with _TURNS.changed:
            waiting = (ticket, self)
            _TURNS.waiting.append(waiting)
            try:
                if not _TURNS.changed.wait_for(lambda: self._is_free() and self._is_next(ticket), PATIENCE):
                    _TURNS.changed.wait_for(self._is_free)
            finally:
                _TURNS.waiting.remove(waiting)
                _TURNS.changed.notify_all()
            self._users += 1
            if self._users == 1 and not self.resident:
                self._put_in()
                _end_workers()

    def leave(self) -> None:
        """End it."""
        with _TURNS.changed:
            self._users -= 1
            if not self._users and not self.resident:
                self._take_out()
                _end_workers()
            _TURNS.changed.notify_all()

    def _is_free(self) -> bool:
        """Nobody that clashes is at work."""
        return not any(other._users for other in _ALL if self.clashes(other))

    def _is_next(self, ticket: int) -> bool:
        """Nobody that clashes came first."""
        return not any(first < ticket and self.clashes(other) for first, other in _TURNS.waiting)

    def _put_in(self) -> None:
        self._outside = self._taken()
        sys.modules.update(self._modules)
        self._ahead = own_code.put_ahead(self.code)
        sys.meta_path.insert(0, self._finder)

    def _take_out(self) -> None:
        self._modules = self._taken()
        sys.modules.update(self._outside)
        self._outside = {}
        own_code.take_back(self._ahead)
        sys.meta_path.remove(self._finder)

    def _taken(self) -> dict[str, ModuleType]:
        names = [name for name in [*sys.modules] if name.partition(".")[0] in self.places]
        return {name: sys.modules.pop(name) for name in names}

    def after_fork(self, *, working: bool) -> None:
        """In the child there is only the thread that forked: what others were at, nobody ends there."""
        if self._users and not working and not self.resident:
            self._take_out()
        self._users = int(working)


@dataclass
class _Turns:
    """Who waits for whom. A fork may come at any time: the child gets a new one."""

    changed: threading.Condition = field(default_factory=threading.Condition)
    waiting: list[tuple[int, Namespace]] = field(default_factory=list)
    """With their tickets: a lower one came first."""
    of_parent: Any = None
    """joblib's processes that a fork has left to the parent."""


class _Here(threading.local):
    """What this thread does."""

    active: Namespace | None = None
    ticket: int = 0
    """Of the outermost work, 0 outside any."""


_TURNS = _Turns()
_TICKETS = itertools.count(1)
_ALL: list[Namespace] = []
_THREAD = _Here()


def _before_fork() -> None:
    _TURNS.changed.acquire()  # nobody's modules are just being put in or taken out


def _after_fork() -> None:
    _TURNS.changed, _TURNS.waiting, _TURNS.of_parent = threading.Condition(), [], _workers()
    for namespace in _ALL:
        namespace.after_fork(working=namespace is _THREAD.active)


if hasattr(os, "register_at_fork"):
    os.register_at_fork(
        before=_before_fork, after_in_parent=lambda: _TURNS.changed.release(), after_in_child=_after_fork
    )


def _end_workers() -> None:
    """joblib keeps processes for later calls, with the modules that they have imported: of somebody else by then."""
    executor = _workers()
    if executor is not None and executor is not _TURNS.of_parent:
        executor.shutdown(wait=True)


def _workers() -> Any:
    kept = sys.modules.get("joblib.externals.loky.reusable_executor")
    return getattr(kept, "_executor", None)


def namespace_of(
    code: Sequence[Path],
    texts: Mapping[str, str],
    recorded: Mapping[str, str] | None = None,
    files: Iterable[str] = (),
) -> Namespace | None:
    """The namespace of a model with these folders whose own modules have these texts, by name; None where it has no
    modules of its own. Those `recorded` are not taken from the folders; `files` beside them are read by them."""
    recorded = recorded or {}
    places = {name.partition(".")[0]: "" for name in texts}
    for folder in reversed(code):
        places |= {top: str(folder) for top in _tops(folder)}
    if not places:
        return None
    lines = {name: own_code.even(text) for name, text in texts.items()}
    with _TURNS.changed:
        for namespace in _ALL:
            if namespace.agrees(places, lines, recorded):
                break
        else:
            alone = all(namespace.places.keys().isdisjoint(places) for namespace in _ALL)
            resident = alone and not recorded and not _strange(code, {*texts, *places})
            namespace = Namespace(code, resident=resident)
            _ALL.append(namespace)
        namespace.add(places, lines, recorded)
        namespace.read(files)
        namespace.code += [folder for folder in code if folder not in namespace.code]
        return namespace


def _tops(folder: Path) -> Iterator[str]:
    """Top-level modules and packages of a folder; not those that an installed one hides."""
    if folder.is_dir():
        names = [path.stem for path in folder.glob("*.py")] + [
            path.parent.name for path in folder.glob("*/__init__.py")
        ]
        yield from (name for name in names if own_code.is_own(name))


def _strange(code: Sequence[Path], modules: Collection[str]) -> bool:
    """Whether an import in this process gives, or has given, another file for one of these modules."""
    for name in modules:
        here, held = own_code.file_of(name, code), getattr(sys.modules.get(name), "__file__", None)
        if here and (own_code.file_of(name) != here or (held and Path(held) != here)):
            return True
    return False


# --- whose a pipeline is -------------------------------------------------------------------------------------


@dataclass(frozen=True)
class _Company:
    """What a pipeline answers by, besides itself."""

    namespace: Namespace | None
    settings: Mapping[str, Any]


_NONE = _Company(None, {})
_WHOSE: dict[int, _Company] = {}
_SETTINGS: dict[tuple[Namespace | None, str], dict[str, Any]] = {}
"""What importing modules set, which happens once: by namespace, and by factory, or its module for a load."""


def belongs(pipeline: Any, namespace: Namespace | None, settings: Mapping[str, Any] | None = None) -> None:
    """Note by which modules, and under which settings of scikit-learn, a pipeline answers, for as long as it lives."""
    if namespace is not None or settings:
        _WHOSE[id(pipeline)] = _Company(namespace, settings or {})
        weakref.finalize(pipeline, _WHOSE.pop, id(pipeline), None)


def settings_of(pipeline: Any) -> Mapping[str, Any]:
    """scikit-learn's settings that a pipeline answers under, those left out that are the default."""
    return _WHOSE.get(id(pipeline), _NONE).settings


@contextmanager
def company_of(pipeline: Any) -> Iterator[None]:
    """The modules that a pipeline answers by are at work, and its settings hold."""
    company = _WHOSE.get(id(pipeline), _NONE)
    at_work = company.namespace.at_work() if company.namespace else nullcontext()
    with at_work, configuration.applied(company.settings):
        yield


def settings_set(before: Mapping[str, Any], by: str) -> dict[str, Any]:
    """scikit-learn's settings that were made `by` a factory, or, where it is just a factory's module, by what a load of
    its pipelines imports: now, or when it was first imported in this process. Those of other factories' modules are
    not among them; `before` are those that held before."""
    made = {name: value for name, value in configuration.changed().items() if before.get(name) != value}
    module = by.partition(":")[0]
    known = _SETTINGS.get((active(), module), {}) | _SETTINGS.get((active(), by), {})
    _SETTINGS[active(), by] = known | made
    return known | made


@contextmanager
def at_work(code: Sequence[Path], factory: str) -> Iterator[None]:
    """The modules of the model with these folders are at work, as they are now; `factory` is that of its pipeline."""
    own_code.make_importable(code)
    namespace = namespace_of(code, own_code.texts_of([factory.partition(":")[0]], code))
    if namespace is None:
        yield
    else:
        with namespace.at_work():
            yield


def active() -> Namespace | None:
    """The namespace that is at work in this thread."""
    return _THREAD.active


def forget() -> None:
    """Everything that was noted, as in a new process."""
    with _TURNS.changed:
        _ALL.clear()
        _WHOSE.clear()
        _SETTINGS.clear()
