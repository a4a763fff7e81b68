"""The picture of losses over batches: what is joined, what is marked, and that nothing in it is markup of others."""

from __future__ import annotations

import base64
from dataclasses import replace
from xml.etree import ElementTree

import pytest

from tasks.core.ledger.state import State
from tasks.core.reports.loss_chart import NEWEST, as_address, picture, steps
from tasks.core.types import BatchRecord, LossPoint

SVG = "{http://www.w3.org/2000/svg}"


def served(*versions: int | None) -> dict[str, BatchRecord]:
    """Batches 001, 002, ..., each with the version that predicted it."""
    return {f"{n:03d}": BatchRecord("d", 100, "l", 100, 1, version) for n, version in enumerate(versions, start=1)}


def loss(batch: str, version: int, mean: float = 0.2) -> LossPoint:
    return LossPoint(batch, version, 100, mean, 0.04)


STATE = State(
    batches=served(None, 1, 1, 2, 2),
    losses=(loss("002", 1), loss("003", 1, 0.25), loss("004", 1, 0.3), loss("004", 2, 0.21), loss("001", 1)),
)


def drawn(state: State) -> ElementTree.Element:
    svg = picture(state, "loans")
    assert svg is not None
    return ElementTree.fromstring(svg)


def words(root: ElementTree.Element) -> list[str]:
    return [element.text or "" for element in root.iter(f"{SVG}text")]


def test_each_batch_counts_with_the_version_that_served_it() -> None:
    """What users saw is drawn; the version compared with it stands beside; nothing before the first version."""
    found = {step.batch: step for step in steps(STATE)}
    assert {batch: step.loss.mean if step.loss else None for batch, step in found.items()} == {
        "001": None, "002": 0.2, "003": 0.25, "004": 0.21, "005": None,
    }  # fmt: skip
    other = found["004"].other
    assert other is not None and (other.version, other.mean) == (1, 0.3)
    assert found["001"].other is None


def test_changes_of_version_are_marked() -> None:
    """Each stretch of one version is named, and a line stands where the first came and where another took over."""
    root = drawn(STATE)
    assert [text for text in words(root) if text.startswith("v")] == ["v1", "v2"]
    dashed = [line for line in root.iter(f"{SVG}line") if line.get("stroke") == "#c2410c" and line.get("x1") != "14"]
    vertical = [line for line in dashed if line.get("x1") == line.get("x2")]
    assert len(vertical) == 2


def test_what_was_set_aside_is_crossed() -> None:
    """Blocked, suspect and quarantined batches have a mark, and say which in the legend."""
    state = replace(STATE, blocked={"006": "d"}, suspect="005", quarantined=("003",))
    assert [step.mark for step in steps(state)] == ["", "", "quarantined", "", "suspect", "blocked"]
    root = drawn(state)
    assert "blocked, quarantined, suspect" in words(root)
    assert len(list(root.iter(f"{SVG}path"))) == 4


def test_higher_is_worse_and_all_fits() -> None:
    """A larger loss is drawn higher up, and no mark leaves the picture."""
    root = drawn(STATE)
    height = {c.get("cx"): float(c.get("cy", "nan")) for c in root.iter(f"{SVG}circle") if c.get("r") == "4.5"}
    first, second = list(height.values())[:2]  # 0.2 and 0.25
    assert second < first
    view = [float(part) for part in root.get("viewBox", "").split()]
    for line in root.iter(f"{SVG}line"):
        for name in ("y1", "y2"):
            assert 0 <= float(line.get(name, "nan")) <= view[3]


def test_only_the_newest_batches_are_drawn() -> None:
    """A long history does not become a thicket; the newest batch is named."""
    many = 3 * NEWEST
    state = State(batches=served(*[1] * many), losses=tuple(loss(f"{n:03d}", 1) for n in range(many - 20, many + 1)))
    assert [step.batch for step in steps(state)] == [f"{n:03d}" for n in range(2 * NEWEST + 1, many + 1)]
    assert f"{many:03d}" in words(drawn(state))


def test_nothing_labelled_nothing_drawn() -> None:
    """Before the first labels of a served batch there is no picture."""
    assert picture(State(batches=served(1)), "loans") is None


@pytest.mark.parametrize("mean", [0.0, 0.25, 1e-9, 12345.678])
def test_a_single_loss_of_any_size_is_drawn(mean: float) -> None:
    """One batch, no variance, any scale."""
    point = LossPoint("001", 1, 100, mean, 0.0)
    root = drawn(State(batches=served(1), losses=(point,)))
    assert any(text == "v1" for text in words(root))


def test_names_of_batches_are_escaped() -> None:
    """A file may be called anything; the picture stays well-formed and says just that."""
    odd = '"><script>&'
    state = State(batches={odd: BatchRecord("d", 9, "l", 9, 1, 1)}, losses=(loss(odd, 1),))
    assert odd in words(drawn(state))


def test_the_address_holds_the_picture() -> None:
    """An image's address that asks nobody for anything."""
    kind, _, data = as_address("<svg>ø</svg>").partition(",")
    assert (kind, base64.b64decode(data).decode()) == ("data:image/svg+xml;base64", "<svg>ø</svg>")
