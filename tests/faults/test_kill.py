"""SIGKILL before and after every call that changes the store: what is there always loads, and the same deed then
succeeds. Between two changes there is nothing new to find: of the calls that only look, a few are tried."""

from __future__ import annotations

import json
import os
import random
import shutil
import signal
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from functools import cache
from pathlib import Path
from subprocess import Popen
from typing import Any

import pytest

from tests.faults.deeds import Seen, in_child, look, perform, recover

BEGIN = {"register": "empty", "promote": "grown", "first run": "batch", "retrain": "changed", "reload": "trained"}
"""Each deed, and the root it begins from."""

DEED = {"first run": "run", "reload": "run"}
CHANGES = ("create", "remove", "predictions")
"""Calls that leave something else behind than they found."""

LEAST = 80
"""Kills that there are at least, all deeds together."""

slow = pytest.mark.slow

Point = tuple[int, bool]
"""The number of a call, and whether it has taken effect."""


class Undisturbed:
    """A deed that nobody kills: its calls, and what is there before and after."""

    def __init__(self, roots: Path, scratch: Path, name: str):
        self.name, self.deed, self.start = name, DEED.get(name, name), roots / BEGIN[name]
        self.scratch = scratch / name.replace(" ", "-")
        root = self.copy("undisturbed")
        self.before: Seen = in_child(look, root).answer
        self.outcome, self.calls = in_child(perform, self.deed, root).answer
        self.after: Seen = in_child(look, root).answer

    def copy(self, name: str) -> Path:
        # Linked: nothing that is there is ever written again, whoever is killed.
        shutil.copytree(self.start, self.scratch / name, copy_function=os.link)
        return self.scratch / name

    def points(self) -> Iterator[Point]:
        for number, call in enumerate(self.calls, 1):
            if call.split()[0] in CHANGES:
                yield from ((number, False), (number, True))
            elif number % 20 == 0:
                yield number, False

    def kill(self, point: Point) -> None:
        """Kill it there, look, do it again, compare."""
        number, done = point
        where = f"{self.name}, killed {'after' if done else 'before'} call {number}: {self.calls[number - 1]}"
        root = self.copy(f"{number}-{done}")
        ended = in_child(perform, self.deed, root, number, done)
        # 255: the server that forked it could not say how it ended, which is no matter: it had no time to answer.
        assert ended.answer is None and ended.exit_code in (-signal.SIGKILL, 255), where
        left, outcome, final = in_child(recover, self.deed, root).answer

        # What is in service loads and answers as before, or as after where the commit was reached.
        committed = len(left.decisions) > len(self.before.decisions)
        expected = self.after if committed else self.before
        assert (left.answers, left.decisions) == (expected.answers, expected.decisions), where
        # Whatever is visible was loaded, and answers as it should: nothing half done is among it.
        assert set(left.versions.values()) <= set(self.after.versions.values()), where
        # The same deed ends as if nothing had happened.
        assert outcome == self.outcome or self.name == "register", where
        assert final.answers == self.after.answers, where
        assert final.decisions == self.after.decisions, where
        assert final.predicted == self.after.predicted, where
        assert list(final.versions.values()) == list(self.after.versions.values()), where
        shutil.rmtree(root)


Undisturbing = Callable[[str], Undisturbed]


@pytest.fixture(scope="module")
def undisturbed(roots: Path, tmp_path_factory: pytest.TempPathFactory) -> Undisturbing:
    """Gives a deed by its name; each is carried out once."""
    scratch = tmp_path_factory.mktemp("kills")
    return cache(lambda name: Undisturbed(roots, scratch, name))


@slow
def test_there_are_enough_places_to_be_killed(undisturbed: Undisturbing) -> None:
    """Register, promote and three kinds of run change the store at least forty times, and end as they should."""
    places = {name: len(list(undisturbed(name).points())) for name in BEGIN}
    print(f"\n{sum(places.values())} places to be killed at: {places}")
    assert sum(places.values()) >= LEAST
    outcomes = {name: undisturbed(name).outcome for name in BEGIN}
    assert outcomes == {
        "register": "v1", "promote": "v1", "first run": "Retrained", "retrain": "Retrained", "reload": "Reloaded"
    }  # fmt: skip


@pytest.mark.parametrize(
    "name", ["register", "promote", *(pytest.param(name, marks=slow) for name in ("first run", "retrain", "reload"))]
)
def test_killed_at_any_call(undisturbed: Undisturbing, name: str) -> None:
    """Killed before or after any change, a deed leaves all that was there; done again it ends as an undisturbed one."""
    deed = undisturbed(name)
    with ThreadPoolExecutor(2) as threads:
        list(threads.map(deed.kill, deed.points()))


# --- whole runs ------------------------------------------------------------------------------------------------

FLOWS = 10


def differences(one: Any, other: Any, where: str = "") -> Iterator[str]:
    """Where two decisions, or lists of them, are not the same, with what stands there."""
    if isinstance(one, str) and isinstance(other, str) and one[:1] == other[:1] == "[":
        one, other = json.loads(one), json.loads(other)
    if isinstance(one, dict) and isinstance(other, dict):
        for name in sorted({*one, *other}):
            yield from differences(one.get(name), other.get(name), f"{where}.{name}")
    elif isinstance(one, list) and isinstance(other, list) and len(one) == len(other):
        for place, (its, theirs) in enumerate(zip(one, other, strict=True)):
            yield from differences(its, theirs, f"{where}[{place}]")
    elif one != other:
        yield f"{where}: {one!r} and {other!r}"


def test_differences_are_named() -> None:
    """Fields of decisions, at any depth, that are not the same."""
    one, other = (json.dumps([{"checks": [{"value": value}], "same": 1}, "why"]) for value in (1.0, 2.0))
    assert [*differences([one], [other])] == ["[0][0].checks[0].value: 1.0 and 2.0"]
    assert [*differences([one], [one])] == []


@slow
def test_whole_runs_killed_at_any_moment(roots: Path, ror: Callable[..., Popen[str]], tmp_path: Path) -> None:
    """`ror run`, killed at ten moments spread over its objects in the store, then run again to its end."""
    asked = ["--action", "retrain", "--reason", "the world has changed", "--json"]

    def copy(name: str) -> Path:
        shutil.copytree(roots / "changed", tmp_path / name)
        return tmp_path / name

    def objects(root: Path) -> int:
        return sum(path.is_file() for path in (root / "artifacts").rglob("*"))

    def wait_for_objects(process: Popen[str], root: Path, count: int) -> None:
        while objects(root) - there < count and process.poll() is None:
            time.sleep(0.005)

    calm = copy("undisturbed")
    there = objects(calm)
    process = ror("run", "loans", *asked, "--root", calm)
    wait_for_objects(process, calm, 1)
    began = time.monotonic()
    assert process.wait(120) == 0, process.communicate()
    lasted = time.monotonic() - began
    made = objects(calm) - there
    before, after = in_child(look, roots / "changed").answer, in_child(look, calm).answer
    assert after.current == 2

    def kill(number: int) -> str:
        root = copy(f"flow-{number}")
        process = ror("run", "loans", *asked, "--root", root)
        chance = random.Random(number).random()
        by_time = number % 2
        wait_for_objects(process, root, 1 if by_time else 1 + number * (made - 2) // FLOWS)
        time.sleep(chance * (lasted if by_time else 0.05))
        os.killpg(process.pid, signal.SIGKILL)
        process.communicate(timeout=30)
        if process.returncode == 0:
            return "ended before"
        left = f"killed with {objects(root) - there:2} of {made} objects"
        if number % 4:
            seen, outcome, final = in_child(recover, "retrain", root).answer
        else:
            seen = in_child(look, root).answer
            again = ror("run", "loans", *asked, "--root", root)
            said = again.communicate(timeout=120)
            assert again.returncode == 0, said
            outcome, final = json.loads(said[0])["outcome"], in_child(look, root).answer
        assert seen.answers == (after if len(seen.decisions) == 2 else before).answers, left
        assert set(seen.versions.values()) <= set(after.versions.values()), left
        assert outcome == "Retrained", left
        assert final.decisions == after.decisions, [left, *differences(final.decisions, after.decisions)]
        assert [final.answers, final.predicted] == [after.answers, after.predicted], left
        assert list(final.versions.values()) == list(after.versions.values()), left
        return f"{left}, {len(seen.versions)} versions, last in the history: {seen.events[-1]}"

    with ThreadPoolExecutor(2) as threads:
        ends = list(threads.map(kill, range(FLOWS)))
    print("\n" + "\n".join(ends))
    assert ends.count("ended before") <= FLOWS // 4
