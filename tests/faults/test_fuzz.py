"""A thousand flipped bits and truncations, over all kinds of object in a store: refused before unpickling, or harmless.

Every alteration is of one object; then the version in service is loaded as by a new process, and asked.
"""

from __future__ import annotations

import random
import shutil
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from tasks.core.errors import NotFound, VerificationError
from tasks.core.ledger.ledger import Ledger
from tasks.core.ledger.state import State
from tasks.core.records import digest
from tasks.core.store import Store
from tasks.core.versions import persistence, registry
from tasks.core.versions.registry import Registry
from tests.faults.deeds import MODEL, answers_of

ALTERATIONS = 1_000
SEED = 20_260

REFUSED, HARMLESS = "refused", "harmless"
LOADED = [
    "manifest.json", "contract.json", "pipeline.joblib", "reference.parquet", "probe.parquet", "calibration.json",
    "evaluation.json",
]  # fmt: skip
"""Files of a version that loading reads and checks, all of them."""
PAGE = "a run's page"
NEVER_LOADED = ["claim.json", "decision.json", PAGE]
HEAD, OLDER = "newest event", "older event"


@dataclass(frozen=True)
class Attacked:
    """A store with v1 and v2, of which v2 is in service and gives `answers`."""

    folder: Path
    answers: str
    state: State
    """By the newest event."""
    trusted: set[str]
    """Digests of the pipelines that were registered."""
    unpickled: list[str]
    """Digests of all that was unpickled since."""

    def load(self) -> str:
        """What a new process would answer, once it read all that belongs to the version."""
        registry._LOADED.clear()
        loaded = Registry(Store(self.folder)).load_current(MODEL)
        answers = answers_of(loaded)
        _ = loaded.rest
        return answers

    def kinds(self) -> dict[str, list[Path]]:
        """The objects by kind: those of v2, the events, and those of every run."""
        events = sorted((self.folder / MODEL / "ledger").iterdir())
        version = self.folder / MODEL / "versions/00000002"
        runs = sorted((self.folder / MODEL / "runs").glob("*/*"))
        found = {path.name: [path] for path in sorted(version.iterdir())} | {HEAD: events[-1:], OLDER: events[:-1]}
        for path in runs:
            found.setdefault(PAGE if path.suffix == ".html" else path.name, []).append(path)
        return found


@pytest.fixture
def attacked(roots: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Attacked]:
    folder = tmp_path / "artifacts"
    shutil.copytree(roots / "grown" / "artifacts", folder)
    unpickled: list[str] = []
    honest = persistence.load

    def noted(data: bytes, *others: Any) -> Any:
        unpickled.append(digest(data))
        return honest(data, *others)

    monkeypatch.setattr(persistence, "load", noted)
    before = answers_of(Registry(Store(folder)).load_current(MODEL))
    trusted = {digest(path.read_bytes()) for path in folder.rglob("pipeline.joblib")}
    state = Ledger(Store(folder), MODEL).head().state
    yield Attacked(folder, before, state, trusted, unpickled)
    registry._LOADED.clear()


def alter(data: bytes, chance: random.Random) -> bytes:
    """One bit flipped, or in one case of five the end cut off."""
    if chance.random() < 0.2:
        return data[: chance.randrange(len(data))]
    place, bit = chance.randrange(len(data)), chance.randrange(8)
    return data[:place] + bytes([data[place] ^ (1 << bit)]) + data[place + 1 :]


@pytest.mark.slow
def test_a_thousand_alterations(attacked: Attacked) -> None:
    """Each of a thousand altered objects is refused by its name before it is unpickled, or changes no prediction."""
    chance, kinds, table = random.Random(SEED), attacked.kinds(), Counter[tuple[str, str]]()
    assert set(kinds) == {*LOADED, *NEVER_LOADED, HEAD, OLDER}
    for number in range(ALTERATIONS):
        kind = list(kinds)[number % len(kinds)]
        path = chance.choice(kinds[kind])
        whole = path.read_bytes()
        path.write_bytes(alter(whole, chance))
        try:
            outcome = _outcome(attacked, kind, path)
        finally:
            path.write_bytes(whole)
        table[kind, outcome] += 1
    print(f"\n{'object':20} {REFUSED:>10} {HARMLESS:>10}")
    for kind in kinds:
        print(f"{kind:20} {table[kind, REFUSED]:>10} {table[kind, HARMLESS]:>10}")

    assert set(attacked.unpickled) <= attacked.trusted
    assert table.total() == ALTERATIONS
    assert table[HEAD, REFUSED] > 0.9 * (table[HEAD, REFUSED] + table[HEAD, HARMLESS])
    assert {kind for kind, outcome in table if outcome == HARMLESS}.isdisjoint({*LOADED, OLDER})
    assert {kind for kind, outcome in table if outcome == REFUSED}.isdisjoint(NEVER_LOADED)
    assert attacked.load() == attacked.answers


def _outcome(attacked: Attacked, kind: str, path: Path) -> str:
    """Fails where loading answers otherwise than before, crashes, or refuses without naming the object."""
    try:
        assert attacked.load() == attacked.answers
        if kind == OLDER:  # loading reads the newest event only; whoever reads the history checks the chain
            Ledger(Store(attacked.folder), MODEL).events()
        assert Ledger(Store(attacked.folder), MODEL).head().state == attacked.state
        return HARMLESS
    except (VerificationError, NotFound) as error:
        where = path.relative_to(attacked.folder).as_posix()
        said = str(error)
        assert where in said, said
        return REFUSED
