"""Which batches may be gone, and what is trained without those that are."""

from __future__ import annotations

from pathlib import Path

import pytest

from tasks.core.errors import DataError, SpecError
from tasks.core.ledger.state import State
from tasks.core.run import kept
from tasks.core.run.trainable import absent, training_rows
from tasks.core.run.work import find_work
from tasks.core.spec import ModelSpec, parse_spec
from tasks.core.types import BatchRecord, Request
from tests.helpers.model import Model
from tests.helpers.training import make_spec

MONTHS = [f"2024-{month}" for month in range(1, 13)]
"""In natural order, which is not that of text; names of one digit say no day."""


def decided(*names: str) -> State:
    return State(batches={name: BatchRecord(name, 10, labels="l", labelled_rows=10) for name in names}, natural=True)


def spec_of(keep: int | str | None = None, window: int | None = None) -> ModelSpec:
    policy = {"forgetting": {"window": window}} if window else {}
    return make_spec(data={"batches": "batches/*", "keep": keep}, policy=policy)


@pytest.mark.parametrize(
    ("keep", "window", "missed"),
    [(None, None, 11), (None, 3, 2), (3, None, 2), (1, 3, 0), (12, 3, 11), (99, None, 11)],
)
def test_which_batches_may_be_gone(keep: int | None, window: int | None, missed: int) -> None:
    """Those beyond the newest `keep`; where that is not said, those that a fit looks at have to be there. Only the
    newest is here."""
    found = kept.gone(spec_of(keep, window), decided(*MONTHS), {MONTHS[-1]})
    assert found == MONTHS[11 - missed : 11]
    if found:
        said = kept.words(found)
        assert said.startswith(f"{missed} batches that were decided on are gone") and "data.keep" in said


def test_an_age_goes_by_the_names() -> None:
    """Batches older than that, by the newest name; a name that says no day is never too old, and is told."""
    names = ["2023-01", "2023-12", "2024-02", "2024-03-01_part", "extra"]
    spec = spec_of("12w")
    assert kept.gone(spec, decided(*names), {"2024-03-01_part"}) == ["2023-12", "2024-02", "extra"]
    assert kept.gone(spec_of("2y"), decided(*names), {"2024-03-01_part"}) == ["2023-01", "2023-12", "2024-02", "extra"]
    assert kept.gone(spec_of("99999y"), decided(*names), {"extra"}) == names[:4]
    assert kept.undated(spec, names) == ["extra"] and kept.undated(spec_of(3), names) == []


@pytest.mark.parametrize("keep", [0, -1, True, "5x", "2 years", 1.5, ""])
def test_what_keep_may_be(keep: object) -> None:
    """Anything but a number of batches or an age is refused in one line that says what is allowed."""
    values = make_spec().model_dump(mode="json")
    values["data"] |= {"keep": keep}
    with pytest.raises(SpecError, match="use a number of batches, such as 24, or an age: 90d, 12w or 2y") as refused:
        parse_spec(values, "loans.toml")
    assert len(refused.value.problems) == 1


def test_what_a_fit_does_without(tmp_path: Path) -> None:
    """What is gone is skipped and named; within a window no older batch takes its place, and what is older is not
    asked for. One that changed under its name is refused, but not beyond the window; so is it if none is left."""
    model = Model(tmp_path)
    model.write_spec("[policy.forgetting]\nwindow = 3\n")
    files = {name: model.deliver(name, rows=40) for name in ("001", "002", "003", "004")}
    workspace = model.workspace
    before = find_work(workspace, Request(), State()).batches
    state = State(batches={one.id: BatchRecord(one.sha256, 40, "l", 40) for one in before}, natural=True)

    def learned() -> list[str]:
        work = find_work(workspace, Request(), state)
        return [part.batch.id for part in training_rows(workspace, work, state.usable)]

    def without() -> list[str]:
        return absent(workspace.spec, find_work(workspace, Request(), state), state.usable)

    assert learned() == ["002", "003", "004"]
    files["001"].write_bytes(b"changed")
    files["003"].unlink()
    assert learned() == ["002", "004"] and without() == ["003"]
    files["002"].write_bytes(b"changed")
    with pytest.raises(DataError, match="002 changed after being decided on"):
        learned()
    for name in ("001", "002", "004"):
        files[name].unlink()
    with pytest.raises(DataError, match="of 3 labelled batches none is there"):
        learned()
