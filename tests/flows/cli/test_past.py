"""`ror status --at`: what was in service at some time, through the command."""

from __future__ import annotations

import re
from datetime import UTC, datetime, timedelta

import pytest

from flows.server import environment
from tests.helpers.model import Model
from tests.helpers.ror import Ror

pytestmark = pytest.mark.usefixtures("prefect")


def test_a_day_tells_all_its_versions(grown: Model, ror: Ror) -> None:
    """After a rollback by hand, the day has v1, v2 and v1 again, each with who, why, data and metrics."""
    assert ror("promote", "loans", "v1", "--reason", "v2 was slow") == 0, ror.err
    seqs = [entry["seq"] for entry in ror.json("history", "loans")]
    first = ror.json("status", "loans", "--at", "2000-01-01")["first"]["since"]
    days = [datetime.fromisoformat(first).date(), datetime.now(UTC).date()]
    answers = [ror.json("status", "loans", "--at", f"{day}") for day in dict.fromkeys(days)]  # midnight may pass
    told = [found for answer in answers for found in answer["in_service"]]
    entries = dict.fromkeys((found["version"], found["seq"]) for found in told)
    assert list(entries) == list(zip((1, 2, 1), seqs, strict=True))
    again = told[-1]
    assert again["by"] == f"{environment.actor()} (rolled back)"
    assert (again["reasons"], again["until"], again["batches"]) == (["v2 was slow"], None, ["001"])
    assert again["since"] == ror.json("status", "loans")["since"]
    assert told[0]["by"] == f"{environment.actor()}, who asked for it"
    assert told[0]["metrics"] == ror.json("show", "loans", "v1")["metrics"]
    assert told[0]["training_sha256"] == ror.json("status", "loans")["trained_on"]["sha256"]
    assert ror("status", "loans", "--at", f"{days[-1]}") == 0
    assert re.findall(r"^ ?loans v(\d)", ror.out, flags=re.M)[-2:] == ["2", "1"]
    assert "(rolled back)" in ror.out and "v2 was slow" in ror.out and "until now" in ror.out


def test_a_moment_has_one_version(grown: Model, ror: Ror) -> None:
    """A moment, in any zone, answers with the version of then, until when, and what took its place."""
    v2 = datetime.fromisoformat(ror.json("status", "loans")["since"])
    before, there = (moment.astimezone().isoformat() for moment in (v2 - timedelta(microseconds=1), v2))
    (found,) = ror.json("status", "loans", "--at", before)["in_service"]
    assert (found["version"], found["replaced_by"], datetime.fromisoformat(found["until"])) == (1, 2, v2)
    (found,) = ror.json("status", "loans", "--at", there)["in_service"]
    assert (found["version"], found["until"]) == (2, None)
    assert ror("status", "loans", "--at", before) == 0
    assert "UTC, then v2" in ror.out


def test_nothing_then(grown: Model, ror: Ror) -> None:
    """Before the first version it is said since when there is one; before any run, that there never was."""
    assert ror("status", "loans", "--at", "2000-01-01") == 0
    assert re.search(r"No version of loans was in service on 2000-01-01 \(UTC\)\. The first was v1, from 20", ror.out)
    grown.name = "other"
    grown.write_spec()
    assert ror("status", "other", "--at", "2000-01-01T12:00") == 0
    assert "at 2000-01-01 12:00:00 UTC, and none has been since." in ror.out
    answers = ror.json("status", "--at", "2000-01-01")
    assert {answer["model"]: (answer["in_service"], bool(answer["first"])) for answer in answers} == {
        "loans": ([], True),
        "other": ([], False),
    }


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("2999-01-01", "--at:\n  - 2999-01-01 00:00 UTC is not known yet"),
        ("last week", "--at:\n  - 'last week' is neither a date nor a time"),
    ],
)
def test_what_cannot_be_answered(grown: Model, ror: Ror, text: str, said: str) -> None:
    """A time to come, or none at all, is a wrong call."""
    assert ror("status", "loans", "--at", text) == 2
    assert said in ror.err
