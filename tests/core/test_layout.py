"""Paths of objects: spelled and taken apart by one module, the same in every release."""

from __future__ import annotations

import pytest

from tasks.core import layout
from tasks.core.layout import ObjectPath

PATHS = {
    "loans/versions/00000003/manifest.json": ObjectPath("loans", "versions", 3, "manifest.json"),
    "loans/ledger/00000042.json": ObjectPath("loans", "ledger", 42, "00000042.json"),
    "loans/runs/00000042/report.html": ObjectPath("loans", "runs", 42, "report.html"),
}


def test_paths_are_what_they_are_in_every_store_there_is():
    """No release may look for objects elsewhere: these texts never change."""
    spelled = [
        layout.version_path("loans", 3, "manifest.json"),
        layout.event_path("loans", 42),
        layout.run_path("loans", 42, layout.REPORT),
    ]
    assert spelled == list(PATHS)
    assert layout.aside_path("loans", 4, b"") == "loans/ledger/torn-00000004-e3b0c44298fc.json"
    assert layout.replacement_path(spelled[2], b"") == "loans/runs/00000042/report-e3b0c44298fc.html"


@pytest.mark.parametrize(("path", "parts"), PATHS.items())
def test_a_path_is_taken_apart_into_what_it_was_made_of(path, parts):
    """Model, folder, number and name."""
    assert layout.parse(path) == parts


@pytest.mark.parametrize(
    "path",
    ["loans", "loans/readme.md", "loans/versions/00000003", "loans/versions/3/manifest.json", "loans/ledger/copy.json",
     "loans/ledger/00000001/00000001.json", "loans/versions/٠٠٠٠٠٠٠٣/manifest.json", "loans/runs/00000042/"],
)  # fmt: skip
def test_what_is_foreign_has_no_number(path):
    """Nothing of a store is read or removed because its path merely looks like one of ours."""
    assert layout.parse(path).number is None


def test_names_that_repairs_and_erasures_give_are_told_from_others():
    """A torn event that was moved aside, and what stands for an object from which rows were erased."""
    aside = layout.parse(layout.aside_path("loans", 4, b"{"))
    assert aside.is_aside and aside.number is None
    for path in ("loans/versions/00000003/probe.parquet", "loans/runs/00000042/report.html"):
        assert layout.parse(layout.replacement_path(path, b"new")).is_replacement
        assert not layout.parse(path).is_replacement
    assert layout.numbers(["00000010", "copy", "00000002"]) == [2, 10]
