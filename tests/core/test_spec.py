"""A model's file: what is accepted, and how well a mistake is explained."""

from __future__ import annotations

import re
import tomllib
from datetime import date, datetime
from pathlib import Path
from typing import Any

import pytest

from tasks.core.errors import InvalidRequest, SpecError
from tasks.core.spec import load_spec, models, parse_spec
from tests.helpers.model import Model
from tests.helpers.training import make_spec

MINIMAL: dict[str, Any] = {
    "task": "binary",
    "target": "y",
    "owner": "tests",
    "purpose": "tests",
    "data": {"batches": "data/loans/batches/*"},
}


def problems(**changes: Any) -> list[str]:
    """What is wrong with a file that is fine but for these changes; None takes a key away."""
    values = {key: value for key, value in {**MINIMAL, **changes}.items() if value is not None}
    with pytest.raises(SpecError) as caught:
        parse_spec(values, "loans.toml")
    assert caught.value.exit_code == 2
    assert all(f"  - {problem}" in str(caught.value) for problem in caught.value.problems)
    return caught.value.problems


def test_a_file_is_read(model: Model) -> None:
    """The smallest useful file is a complete specification: the rest has defaults."""
    model.write_spec("[policy]\nretrain_cost = 0.1", late_labels=True)
    spec = load_spec(model.root, "loans")
    assert (spec.task, spec.target, spec.key, spec.data.labels) == ("binary", "y", "id", "data/loans/labels/*")
    assert (spec.policy.retrain_cost, spec.policy.max_age, spec.pipeline.factory) == (
        0.1,
        16,
        "tasks.core.training:tabular",
    )


@pytest.mark.parametrize(
    ("task", "metric"),
    [("binary", "roc_auc"), ("multiclass", "balanced_accuracy"), ("regression", "neg_mean_absolute_error")],
)
def test_the_metric_suits_the_task(task: str, metric: str) -> None:
    """Without a metric the one that suits the task is used; one that is given is kept."""
    assert parse_spec({**MINIMAL, "task": task}, "x").metric == metric
    assert parse_spec({**MINIMAL, "task": task, "metric": "r2"}, "x").metric == "r2"


@pytest.mark.parametrize(
    ("changes", "key", "close"),
    [
        ({"targett": "y"}, "targett = 'y'", "target"),
        ({"policy": {"retrain_costs": 0.1}}, "policy.retrain_costs = 0.1", "retrain_cost"),
        ({"data": {"batches": "*", "lables": "*"}}, "data.lables = '*'", "labels"),
    ],
)
def test_an_unknown_key_suggests_the_close_one(changes: dict[str, Any], key: str, close: str) -> None:
    """A misspelt key is named with its value, the one that was meant, and all that are allowed."""
    (problem,) = problems(**changes)
    assert problem.startswith(f"{key}: unknown key; did you mean {close!r}?")
    assert "Allowed: " in problem


@pytest.mark.parametrize(
    ("changes", "parts"),
    [
        ({"task": "ranking"}, ["task = 'ranking'", "'binary', 'multiclass' or 'regression'"]),
        ({"policy": {"retrain_cost": 0}}, ["policy.retrain_cost = 0", "greater than 0"]),
        ({"policy": {"drift": "always"}}, ["policy.drift = 'always'", "'early-warning', 'trigger' or 'report'"]),
        ({"policy": {"min_rows": "many"}}, ["policy.min_rows = 'many'", "integer"]),
        ({"data": {"batches": "*", "min_coverage": 2}}, ["data.min_coverage = 2", "less than or equal to 1"]),
        ({"data": {"batches": "/etc/*"}}, ["data.batches = '/etc/*'", "below the root"]),
        ({"data": {"batches": "../*"}}, ["data.batches = '../*'", "without '..'"]),
        ({"pipeline": {"factory": "no colon"}}, ["pipeline.factory = 'no colon'", "must match"]),
        ({"data": "batches/*"}, ["data = 'batches/*'"]),
        ({"seed": -1}, ["seed = -1", "greater than or equal to 0"]),
        ({"checks": {"slice_rows": 1}}, ["checks.slice_rows = 1", "greater than or equal to 10"]),
        (
            {"slices": ["city", "income"], "data": {"batches": "*", "private": ["income"]}},
            ["slices lists income, which data.private keeps secret"],
        ),
    ],
)
def test_a_bad_value_is_named_with_what_is_allowed(changes: dict[str, Any], parts: list[str]) -> None:
    """A value that cannot be used is named with its key and with what is allowed instead."""
    (problem,) = problems(**changes)
    for part in parts:
        assert part in problem


def test_a_value_with_two_kinds_names_both() -> None:
    """The age limit is a number or a word: a value that is neither is told so, always under its own key."""
    found = problems(policy={"max_age": "sometimes"})
    assert all(problem.startswith("policy.max_age = 'sometimes': ") for problem in found)
    assert "'never'" in " ".join(found)
    assert "integer" in " ".join(found)


def test_all_problems_are_listed_at_once() -> None:
    """Nobody has to mend a file one error at a time."""
    found = problems(task="ranking", owner=None, colour="red", policy={"min_rows": 1})
    assert len(found) == 4
    for part in ("task = 'ranking'", "owner: missing", "colour = 'red': unknown key", "policy.min_rows = 1"):
        assert part in "\n".join(found)


def test_late_labels_need_a_key() -> None:
    """Labels that arrive in files of their own cannot be joined without a key."""
    (problem,) = problems(data={"batches": "*", "labels": "labels/*"})
    assert problem == "data.labels needs key: late labels are joined by it"


def test_the_target_is_no_feature() -> None:
    """The answer must not be an input."""
    (problem,) = problems(features=["a", "y"])
    assert "features lists the target 'y'" in problem


def period(**changes: Any) -> dict[str, Any]:
    """An `[[expected]]` period; None takes a key away."""
    values = {"name": "Christmas", "from": "12-20", "until": "01-06", **changes}
    return {key: value for key, value in values.items() if value is not None}


def test_expected_periods_are_read() -> None:
    """A period is of every year, as text, or has full dates, as TOML dates or text; by default of all columns."""
    text = """
        [[expected]]
        name = "Christmas"
        from = "12-20"
        until = "01-06"
        columns = ["temp"]
        [[expected]]
        name = "strike"
        from = 2026-03-01
        until = "2026-03-08"
    """
    christmas, strike = parse_spec({**MINIMAL, **tomllib.loads(text)}, "x").expected
    assert (christmas.start, christmas.until, christmas.yearly, christmas.columns) == (
        "12-20",
        "01-06",
        True,
        ("temp",),
    )
    assert (strike.start, strike.until, strike.yearly, strike.columns) == ("2026-03-01", "2026-03-08", False, ())


def test_a_stored_specification_is_readable() -> None:
    """What a manifest holds of a specification is one: the same, with the same digest."""
    spec = parse_spec({**MINIMAL, "expected": [period()], "slices": ["city"]}, "x")
    again = parse_spec(spec.model_dump(mode="json"), "x")
    assert (again, again.digest) == (spec, spec.digest)


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"from": "13-40"}, "expected.0.from = '13-40': invalid date (month must be in 1..12)"),
        ({"from": "2026-02-30"}, "expected.0.from = '2026-02-30': invalid date"),
        ({"until": "6 January"}, "expected.0.until = '6 January': must be a date, 2026-12-20, or a day of every year"),
        ({"until": 106}, "expected.0.until = 106: must be a date"),
        ({"until": datetime(2026, 1, 6, 12)}, "must be a date"),
        (
            {"until": date(2026, 1, 6)},
            "expected.0: Christmas runs from 12-20 until 2026-01-06: write both as dates, or",
        ),
        (
            {"from": "2026-12-20", "until": "2026-01-06"},
            "expected.0: Christmas runs from 2026-12-20 until 2026-01-06: it",
        ),
        ({"from": None}, "expected.0.from: missing; First day"),
        ({"name": ""}, "expected.0.name = ''"),
        (
            {"colums": []},
            "expected.0.colums = []: unknown key; did you mean 'columns'? Allowed: columns, from, name, until",
        ),
    ],
)
def test_a_wrong_period_is_explained(changes: dict[str, Any], said: str) -> None:
    """A mistake in a period is named with its place among them, its value and what is allowed."""
    (problem,) = problems(expected=[period(**changes)])
    assert problem.startswith(said) or said in problem


def test_all_wrong_periods_are_listed_at_once() -> None:
    """Mistakes in several periods, and two in one of them, are told together."""
    found = problems(expected=[period(**{"from": "00-01", "until": "x"}), period(), period(until=date(2026, 1, 6))])
    assert [problem.split(" ")[0].rstrip(":") for problem in found] == [
        "expected.0.from",
        "expected.0.until",
        "expected.2",
    ]


def test_a_29th_of_february_is_a_day_of_every_year() -> None:
    """It need not be one of this year."""
    assert parse_spec({**MINIMAL, "expected": [period(**{"from": "02-29"})]}, "x").expected[0].start == "02-29"


def test_a_missing_file_lists_the_models(model: Model) -> None:
    """Who mistypes a model's name sees the models that there are."""
    (model.root / "deployments" / "flights.toml").write_text("")
    with pytest.raises(InvalidRequest, match=r"^model:\n.*Models here: flights, loans"):
        load_spec(model.root, "laons")
    assert models(model.root) == ["flights", "loans"]


def test_without_models_the_root_is_doubted(tmp_path: Path) -> None:
    """In an empty folder the message asks whether the root is right."""
    with pytest.raises(InvalidRequest, match=r"Models here: none\. Is this the right root\?"):
        load_spec(tmp_path, "loans")


@pytest.mark.parametrize("name", ["../loans", "Loans", "", "a b", "-loans"])
def test_a_name_that_is_no_name_is_refused(model: Model, name: str) -> None:
    """A model's name is a plain word, so that it can never point elsewhere."""
    with pytest.raises(InvalidRequest, match="lower-case letters"):
        load_spec(model.root, name)


@pytest.mark.parametrize("text", [b"task = ", b"\xff\xfe"])
def test_a_file_that_is_not_toml_is_named(model: Model, text: bytes) -> None:
    """A file that cannot be parsed is named, with the parser's reason."""
    (model.root / "deployments" / "loans.toml").write_bytes(text)
    with pytest.raises(SpecError, match=r"(?s)loans\.toml.*not valid TOML"):
        load_spec(model.root, "loans")


@pytest.mark.parametrize(
    ("csv", "message"),
    [
        ({"separator": "ab"}, "data.csv.separator = 'ab': must match"),
        ({"separator": "x"}, "data.csv.separator = 'x': must match"),
        ({"separator": "."}, "separator and decimal are both '.'"),
        ({"decimal": "'"}, "data.csv.decimal = \"'\": must be '.' or ','"),
        ({"thousands": "."}, "thousands and decimal are both '.'"),
        ({"thousands": "x"}, "data.csv.thousands = 'x': must be"),
        ({"strip": "-"}, "data.csv.strip = '-': must match"),
        ({"strip": "("}, "strip has one bracket only"),
        ({"missing": "?"}, "data.csv.missing = '?'"),
        ({"encoding": "utf-9"}, "data.csv.encoding = 'utf-9': unknown encoding"),
        ({"seperator": ";"}, "data.csv.seperator = ';': unknown key; did you mean 'separator'?"),
    ],
)
def test_how_csv_is_written_is_checked(csv: dict[str, str], message: str) -> None:
    """A separator of several letters, an unknown encoding and a misspelt key are refused with what is allowed."""
    with pytest.raises(SpecError) as caught:
        make_spec(data={"batches": "*", "csv": csv})
    assert message in str(caught.value)


@pytest.mark.parametrize(
    ("schedule", "said"),
    [
        ({"cron": "0 6 *"}, "schedule.cron = '0 6 *'"),
        ({"cron": "0 6 * * *", "timezone": "Oslo"}, "schedule.timezone = 'Oslo': unknown time zone"),
        ({"cron": "0 6 * * *", "overdue_hours": 0}, "schedule.overdue_hours = 0"),
        ({"timezone": "UTC"}, "schedule.cron: missing; Minute, hour"),
        ({"cron": "0 6 * * *", "zone": "UTC"}, "schedule.zone = 'UTC': unknown key; did you mean 'timezone'?"),
    ],
)
def test_a_wrong_schedule_is_said(schedule: dict[str, Any], said: str) -> None:
    """What Prefect would refuse later, or read as another time, is refused with the model's file."""
    with pytest.raises(SpecError, match=re.escape(said)):
        parse_spec({**MINIMAL, "schedule": schedule}, "x")
