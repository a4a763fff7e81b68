"""The values that pass between the parts, as they are stored and read."""

from __future__ import annotations

import pytest

from tasks.core.records import from_dict, to_dict
from tasks.core.types import Check, CheckKind, Verdict

NAMES = [
    (CheckKind.DRIFT, "temp", "drift:temp"),
    (CheckKind.CONTENT, "a:b", "content:a:b"),
    (CheckKind.CONTENT, "", "content:"),
    (CheckKind.SLICE, "carrier=AA", "slice:carrier=AA"),
    (CheckKind.LABELS, "2026-01", "labels:2026-01"),
    (CheckKind.ARRIVALS, None, "arrivals"),
]


@pytest.mark.parametrize(("kind", "subject", "name"), NAMES)
def test_a_check_is_stored_by_kind_and_subject(kind: CheckKind, subject: str | None, name: str) -> None:
    """One field holds both, a name with a colon or without letters among them, and both are read from it again."""
    check = Check.of(kind, subject, Verdict.WARN, "it moved", 0.2, 0.1, 0.5)
    stored = {"name": name, "verdict": "warn", "summary": "it moved", "value": 0.2, "threshold": 0.1, "weight": 0.5}
    assert to_dict(check) == stored
    read = from_dict(Check, stored)
    assert (read, read.kind, read.subject) == (check, kind, subject or "")


@pytest.mark.parametrize("name", ["nulls:wind", "something new"])
def test_a_kind_of_another_release_is_read(name: str) -> None:
    """A check of a kind that is not known here has its whole name as its subject."""
    check = from_dict(Check, {"name": name, "verdict": "warn", "summary": "it is new"})
    assert (check.kind, check.subject) == (CheckKind.OTHER, name)
    assert to_dict(check)["name"] == name
