"""Modules of two models, or of two versions, that have the same names."""

from __future__ import annotations

import importlib
import os
import signal
import sys
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from sklearn.model_selection import GridSearchCV

from tasks.core.versions import configuration, namespaces, own_code, persistence
from tasks.core.versions.namespaces import Namespace, at_work, namespace_of

STEP = """
import numpy as np
from sklearn.base import BaseEstimator, RegressorMixin
from desk_factor import FACTOR


class Times(RegressorMixin, BaseEstimator):
    def __init__(self, shift=0):
        self.shift = shift

    def fit(self, X, y):
        self.fitted_ = FACTOR
        return self

    def predict(self, X):
        from desk_late import PLUS

        return np.full(len(X), float(FACTOR + self.shift + PLUS))

    def score(self, X, y):
        return float(FACTOR)


def build(seed):
    return Times()
"""


@pytest.fixture(autouse=True)
def clean(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Each test begins as a process does."""
    monkeypatch.setattr(sys, "path", [*sys.path])
    monkeypatch.setattr(own_code, "_ADDED", set())
    namespaces.forget()
    yield
    namespaces.forget()
    for name in [name for name in sys.modules if name.startswith("desk_")]:
        del sys.modules[name]


def folder(root: Path, name: str, factor: int) -> Path:
    """Code of a model: `desk_steps` is the same in all, what it imports is not."""
    code = root / name
    code.mkdir()
    (code / "desk_steps.py").write_text(STEP)
    (code / "desk_factor.py").write_text(f"FACTOR = {factor}\n")
    (code / "desk_late.py").write_text("PLUS = 0.5\n")
    return code


def built(code: Path, factory: str = "desk_steps:build") -> Any:
    """A pipeline as a run builds it; it belongs to its modules from then on."""
    with at_work([code], factory):
        pipeline = importlib.import_module("desk_steps").build(0)
        namespaces.belongs(pipeline, namespaces.active())
        return pipeline.fit(None, None)


def answer(pipeline: Any) -> float:
    return float(persistence.predict(pipeline, pd.DataFrame({"x": [1.0]})).values[0])


def until(true: Callable[[], bool]) -> None:
    """Wait for what another thread does."""
    end = time.monotonic() + 20
    while not true():
        assert time.monotonic() < end
        time.sleep(0.001)


def test_each_model_has_modules_of_its_own(tmp_path: Path) -> None:
    """Two models with modules of the same names are built with their own, and answer by them in any order, also where
    a module is first imported when they are asked. Outside, the first one's are found as ever."""
    a, b = (built(folder(tmp_path, name, factor)) for name, factor in (("a", 1), ("b", 2)))
    assert (a.fitted_, b.fitted_) == (1, 2)
    assert [answer(b), answer(a), answer(b)] == [2.5, 1.5, 2.5]
    assert sys.modules["desk_factor"].FACTOR == 1
    assert type(a).__module__ == type(b).__module__ == "desk_steps"


def test_what_does_not_clash_is_imported_as_ever(tmp_path: Path) -> None:
    """The modules of a single model stay where any others are, and two models of one folder share them."""
    code = folder(tmp_path, "a", 1)
    first, second = built(code), built(code)
    assert type(first) is type(second) is sys.modules["desk_steps"].Times
    with at_work([code], "desk_steps:build"):
        assert namespaces.active() is not None
        assert namespaces.active().resident  # type: ignore[union-attr]


def test_bytes_find_the_modules_that_they_name(tmp_path: Path) -> None:
    """Each pipeline is saved by bare names and comes back from its bytes with its own classes."""
    for name, factor in (("a", 1), ("b", 2)):
        code = folder(tmp_path, name, factor)
        with at_work([code], "desk_steps:build"):
            saved = persistence.dump(built(code))
        assert "desk_steps" in saved.modules
        namespace = namespace_of([code], own_code.texts_of(["desk_steps"], [code]))
        assert namespace is not None
        with namespace.at_work():
            loaded = persistence.load(saved.data)
        namespaces.belongs(loaded, namespace)
        assert answer(loaded) == factor + 0.5


def test_an_edit_is_another_module(tmp_path: Path) -> None:
    """What was built with a module's earlier text goes on with it in the same process; what is built next has the new
    one, though it is as long and as old as the other."""
    code = folder(tmp_path, "a", 1)
    first = built(code)
    (code / "desk_factor.py").write_text("FACTOR = 7\n")
    second = built(code)
    assert [answer(first), answer(second), answer(first)] == [1.5, 7.5, 1.5]


def test_recorded_modules_take_the_place_of_those_that_changed(tmp_path: Path) -> None:
    """A namespace of recorded texts imports those, also packages and what has no folder any more; what lies beside
    them is found by `__file__`."""
    code = folder(tmp_path, "a", 1)
    recorded = {
        "desk_pack": "",
        "desk_pack.near": "from pathlib import Path\nHERE = Path(__file__).parent\n",
        "desk_gone.deep": "from desk_pack.near import HERE\nfrom desk_factor import FACTOR\n",
        "desk_factor": "FACTOR = 9\n",
    }
    namespace = namespace_of([code], recorded, recorded)
    assert namespace is not None
    with namespace.at_work():
        deep = importlib.import_module("desk_gone.deep")
    assert deep.FACTOR == 9
    assert code / "desk_pack" == deep.HERE
    assert "desk_gone.deep" not in sys.modules
    assert answer(built(code)) == 1.5


def test_names_that_are_of_the_process_are_put_back(tmp_path: Path) -> None:
    """A service may have a module of its own of that name: it keeps it, and the model gets its own."""
    (tmp_path / "desk_factor.py").write_text("FACTOR = 100\n")
    sys.path.insert(0, str(tmp_path))
    ours = importlib.import_module("desk_factor")
    sys.path.remove(str(tmp_path))
    before = [*sys.path]
    pipeline = built(folder(tmp_path, "a", 1))
    assert answer(pipeline) == 1.5
    assert sys.modules["desk_factor"] is ours
    assert [path for path in sys.path if path not in before] == [str(tmp_path / "a")]


def test_the_search_path_is_left_alone(tmp_path: Path) -> None:
    """Namespaces that do not clash begin and end in any order, and folders that are added meanwhile, by another thread
    as well as by this one, stay. Nobody's folder is missing while another model is at work."""
    first, second = ((tmp_path / name) for name in ("first", "second"))
    for code, module in ((first, "desk_one"), (second, "desk_two")):
        code.mkdir()
        (code / f"{module}.py").write_text("HERE = 'folder'\n")
    own_code.make_importable([first, second])
    before = [*sys.path]
    recorded = ({"desk_one": "HERE = 'record'\n"}, {"desk_two": "HERE = 'record'\n"})
    one, two = (namespace_of([code], texts, texts) for code, texts in zip((first, second), recorded, strict=True))
    assert one is not None
    assert two is not None
    late = tmp_path / "late"
    one.enter(1)
    assert importlib.import_module("desk_two").HERE == "folder"
    two.enter(2)
    own_code.make_importable([late])
    found = [importlib.import_module(name).HERE for name in ("desk_one", "desk_two")]
    one.leave()
    two.leave()
    assert found == ["record", "record"]
    assert sys.path == [*before, str(late)]
    assert importlib.import_module("desk_one").HERE == "folder"


def test_names_are_looked_for_in_the_folders_of_their_model(tmp_path: Path) -> None:
    """Also those that no import in a text names: modules, packages and what lies in a folder without `__init__.py`."""
    found = {}
    for name, factor in (("a", 1), ("b", 2)):
        code = folder(tmp_path, name, factor)
        (code / "desk_unread.py").write_text(f"NAME = {name!r}\n")
        for below in ("desk_packed", "desk_spread"):
            (code / below).mkdir()
            (code / below / "near.py").write_text(f"NAME = {name!r}\n")
        (code / "desk_packed" / "__init__.py").write_text("")
        (code / "desk_steps.py").write_text(f"{STEP}\nfrom desk_spread.near import NAME\n")
        (code / "desk_spread" / "far.py").write_text(f"NAME = {name!r}\n")
        with at_work([code], "desk_steps:build"):
            modules = ("desk_unread", "desk_packed.near", "desk_spread.near", "desk_spread.far")
            found[name] = {importlib.import_module(module).NAME for module in modules}
    assert found == {"a": {"a"}, "b": {"b"}}


@pytest.mark.slow
def test_reused_workers_have_no_modules_of_another_model(tmp_path: Path) -> None:
    """joblib's processes are kept for the next search: each is scored with the code of its own model."""
    found = []
    for name, factor in (("a", 1), ("b", 2)):
        code = folder(tmp_path, name, factor)
        with at_work([code], "desk_steps:build"):
            search = GridSearchCV(importlib.import_module("desk_steps").build(0), {"shift": [0, 1]}, n_jobs=2, cv=2)
            search.fit(np.zeros((8, 1)), np.zeros(8))
        found.append(search.best_score_)
    assert found == [1.0, 2.0]


def test_threads_take_turns_where_names_clash(tmp_path: Path) -> None:
    """Threads that ask two models at once each get answers of their own; those of one model do not wait for each
    other, and one that is asked within another's answer is no deadlock."""
    a, b = (built(folder(tmp_path, name, factor)) for name, factor in (("a", 1), ("b", 2)))
    wrong: list[float] = []

    def ask(pipeline: Any, expected: float) -> None:
        for _ in range(50):
            with namespaces.company_of(pipeline):
                found = answer(b if pipeline is a else a), answer(pipeline)
            if found[1] != expected or found[0] != 4 - expected:
                wrong.append(expected)

    threads = [threading.Thread(target=ask, args=asked) for asked in ((a, 1.5), (b, 2.5)) * 2]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
    assert not any(thread.is_alive() for thread in threads)
    assert wrong == []


def test_the_same_namespace_is_no_queue(tmp_path: Path) -> None:
    """Two threads are at work in one namespace at the same time."""
    namespace = namespace_of([folder(tmp_path, "a", 1)], {})
    assert namespace is not None
    both = threading.Barrier(2, timeout=20)
    met: list[int] = []

    def work(namespace: Namespace) -> None:
        with namespace.at_work():
            met.append(both.wait())

    threads = [threading.Thread(target=work, args=(namespace,)) for _ in range(2)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(30)
    assert sorted(met) == [0, 1]


def test_who_came_first_is_next(tmp_path: Path) -> None:
    """A model that is asked without a pause does not hold up another for ever: calls that come after the other one's
    wait for it. What a call asks inside itself keeps its place."""
    a, b = (built(folder(tmp_path, name, factor)) for name, factor in (("a", 1), ("b", 2)))
    order: list[str] = []

    def ask(pipeline: Any, name: str) -> None:
        with namespaces.company_of(pipeline):
            order.append(name)

    with ThreadPoolExecutor(3) as elsewhere, namespaces.company_of(a):
        for waiting, (pipeline, name) in enumerate([(b, "b"), (a, "a"), (b, "b")]):
            elsewhere.submit(ask, pipeline, name)
            until(lambda waiting=waiting: len(namespaces._TURNS.waiting) == waiting + 1)  # type: ignore[misc]
        ask(a, "inside")
    assert order == ["inside", "b", "a", "b"]


def test_a_busy_model_lets_others_in(tmp_path: Path) -> None:
    """Overlapping calls to one model leave no moment without one; another is asked all the same, and soon."""
    a, b = (built(folder(tmp_path, name, factor)) for name, factor in (("a", 1), ("b", 2)))
    ended = threading.Event()

    def busy() -> None:
        while not ended.is_set():
            with namespaces.company_of(a):
                time.sleep(0.01)

    with ThreadPoolExecutor(4) as elsewhere:
        for _ in range(3):
            elsewhere.submit(busy)
        try:
            until(lambda: namespaces._WHOSE[id(a)].namespace._users == 3)  # type: ignore[union-attr]
            assert elsewhere.submit(lambda: [answer(b) for _ in range(5)]).result(namespaces.PATIENCE) == [2.5] * 5
        finally:
            ended.set()


def test_threads_that_work_starts_are_let_in(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A call that waits for threads which ask the same model is no deadlock, though another model's call waits for it
    and stands before them."""
    monkeypatch.setattr(namespaces, "PATIENCE", 0.05)
    a, b = (built(folder(tmp_path, name, factor)) for name, factor in (("a", 1), ("b", 2)))
    with ThreadPoolExecutor(1) as elsewhere, ThreadPoolExecutor(2) as own:
        with namespaces.company_of(a):
            other = elsewhere.submit(answer, b)
            until(lambda: len(namespaces._TURNS.waiting) == 1)
            assert [*own.map(answer, [a, a, a], timeout=20)] == [1.5, 1.5, 1.5]
            assert not other.done()
        assert other.result(20) == 2.5


def test_who_gives_up_stands_in_nobody_s_way(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Whoever is interrupted while it waits, as by Ctrl-C, waits no more, and the work around it goes on."""
    a, b = (built(folder(tmp_path, name, factor)) for name, factor in (("a", 1), ("b", 2)))

    def interrupted(namespace: Namespace) -> bool:
        if namespace is namespaces._WHOSE[id(b)].namespace:
            raise KeyboardInterrupt
        return True

    with namespaces.company_of(a):
        with monkeypatch.context() as patched, pytest.raises(KeyboardInterrupt):
            patched.setattr(Namespace, "_is_free", interrupted)
            answer(b)
        assert namespaces._TURNS.waiting == []
        assert answer(a) == 1.5
    assert [answer(b), answer(a)] == [2.5, 1.5]


def test_settings_are_of_those_who_made_them(tmp_path: Path) -> None:
    """Of two models with one folder the second one, whose modules set nothing, has nothing of the first one's settings;
    a later load of the first has them still, and so has a fit by another factory of its module."""
    code = tmp_path / "src"
    code.mkdir()
    (code / "desk_a.py").write_text("import sklearn\nsklearn.set_config(transform_output='pandas')\n")
    (code / "desk_b.py").write_text("")
    found = {}
    for factory in ("desk_a:build", "desk_b:build", "desk_a:build", "desk_a:other"):
        module = factory.partition(":")[0]
        with at_work([code], factory), configuration.put_back():
            before = configuration.changed()
            importlib.import_module(module)
            found[factory] = namespaces.settings_set(before, factory if factory == "desk_a:other" else module)
    pandas = {"transform_output": "pandas"}
    assert found == {"desk_a:build": pandas, "desk_b:build": {}, "desk_a:other": pandas}


@pytest.mark.skipif(not hasattr(os, "fork"), reason="nothing forks here")
@pytest.mark.filterwarnings("ignore:.*multi-threaded.*fork:DeprecationWarning")
def test_a_fork_leaves_what_other_threads_are_at(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A child that is forked while another thread asks a model has the modules that the process has outside, and
    answers of every model; what the forking thread itself is at goes on. joblib's processes are its parent's, which
    it does not end."""
    parent = os.getpid()

    class Workers:
        def shutdown(self, *, wait: bool) -> None:
            assert os.getpid() == parent

    a, b = (built(folder(tmp_path, name, factor)) for name, factor in (("a", 1), ("b", 2)))
    workers, held, let_go = Workers(), threading.Event(), threading.Event()
    monkeypatch.setattr(namespaces, "_workers", lambda: workers)

    def hold() -> None:
        with namespaces.company_of(b):
            held.set()
            let_go.wait(20)

    def child(factor: int) -> int:
        """Its exit code."""
        pid = os.fork()
        if pid == 0:
            code = 1
            try:
                signal.alarm(20)  # what hangs is ended
                here = importlib.import_module("desk_factor").FACTOR
                code = int([here, answer(b), answer(a), answer(b)] != [factor, 2.5, 1.5, 2.5])
            finally:
                os._exit(code)
        return os.waitpid(pid, 0)[1]

    with ThreadPoolExecutor(1) as elsewhere:
        elsewhere.submit(hold)
        assert held.wait(20)
        assert sys.modules["desk_factor"].FACTOR == 2
        try:
            assert child(1) == 0
        finally:
            let_go.set()
    with namespaces.company_of(b):
        assert child(2) == 0
    assert [answer(a), answer(b)] == [1.5, 2.5]


def test_no_own_modules_no_namespace(tmp_path: Path) -> None:
    """Pipelines of libraries only, and empty folders, cost nothing."""
    assert namespace_of([], {}) is None
    assert namespace_of([tmp_path], {}) is None
    with at_work([], "tasks.core.training:tabular"):
        assert namespaces.active() is None


def test_a_pipeline_leaves_nothing_behind(tmp_path: Path) -> None:
    """What is noted of a pipeline ends with it: a service may load many."""
    pipeline = built(folder(tmp_path, "a", 1))
    number = id(pipeline)
    assert number in namespaces._WHOSE
    del pipeline
    assert number not in namespaces._WHOSE
