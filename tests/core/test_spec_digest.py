"""The digest of a model's file: the same in every release for the same question, another for another question."""

from __future__ import annotations

import json
import tomllib
from pathlib import Path
from typing import Any

import pytest
from pydantic import Field

from tasks.core.spec import (
    FIELDS_V1,
    LATER,
    NO_QUESTION,
    ChecksSpec,
    CsvSpec,
    DataSpec,
    Expected,
    Forgetting,
    ModelSpec,
    PipelineSpec,
    PolicySpec,
    Section,
    parse_spec,
)
from tasks.core.training.factory import build

SPECS = Path(__file__).parent / "specs"
"""Models' files, and the specification of a manifest, as the first release read and wrote them; never edited."""

DIGESTS = {
    "minimal": "888197f704acdfff636d905153cdec7a25b9884f6d9967ac6dd7e3e3c35c5261",
    "flights": "40fa3be8d84c685673de4e6969dc092723a9e2101f8b578c259108fcb29054c2",
    "every_option": "c22a907fa3ec1cc8025ab1925b3d893ea182b10e8c25d06ea495240c2cf019de",
}

FIELDS = sorted(f"{section}.{name}".lstrip(".") for section, names in FIELDS_V1.items() for name in names)
VALUES = [path for path in FIELDS if path not in FIELDS_V1]


def file(name: str) -> dict[str, Any]:
    """The values of one of the stored files, a new copy each time."""
    return tomllib.loads((SPECS / f"{name}.toml").read_text(encoding="utf-8"))


def paths(canonical: Any, path: str = "") -> set[str]:
    """The path of every field in there; what is in `parameters` is the factory's own."""
    if isinstance(canonical, list):
        return set().union(*(paths(item, path) for item in canonical))
    if not isinstance(canonical, dict) or path == "pipeline.parameters":
        return set()
    below = {f"{path}.{name}".lstrip("."): value for name, value in canonical.items()}
    return below.keys() | set().union(*(paths(value, name) for name, value in below.items()))


def put(values: dict[str, Any], path: str, value: Any) -> dict[str, Any]:
    """The same values, in place, with one more; in a list of sections it is that of the first one."""
    *sections, name = path.split(".")
    section = values
    for part in sections:
        below = section.setdefault(part, {})
        section = below[0] if isinstance(below, list) else below
    section[name] = value
    return values


@pytest.mark.parametrize("name", DIGESTS)
def test_an_old_file_keeps_its_digest(name: str) -> None:
    """A file that an earlier release read has the digest that it had there, so that nothing is decided anew.

    Where this fails, a change of the program has made another question of every file: the change is to be mended, not
    the digest.
    """
    assert parse_spec(file(name), name).digest == DIGESTS[name]


def test_a_stored_specification_keeps_its_digest_and_its_pipeline() -> None:
    """What the manifest of an old version holds is read for ever, and `tasks.core.training:tabular` builds from it."""
    stored = json.loads((SPECS / "flights_in_manifest.json").read_text(encoding="utf-8"))
    assert stored["pipeline"]["factory"] == "tasks.core.training:tabular"
    spec = parse_spec(stored, "the manifest of v1")
    assert spec.digest == DIGESTS["flights"]
    assert [name for name, _ in build(spec).steps] == ["columns", "model"]


def test_the_files_use_every_option() -> None:
    """The digests that are held speak of all options of format v1: each has another value than its default there."""
    given = parse_spec(file("every_option"), "x").canonical()
    assert paths(given) == set(FIELDS)
    plain = parse_spec(file("minimal"), "x").canonical()
    same = {path for path in paths(plain) if path not in FIELDS_V1 and at(plain, path) == at(given, path)}
    assert same == {"policy.forgetting.half_life"}  # window and half_life exclude each other


def at(canonical: dict[str, Any], path: str) -> Any:
    """The value of one field."""
    value: Any = canonical
    for name in path.split("."):
        value = value[name]
    return value


# --- what changes it -----------------------------------------------------------------------------------------


OTHERS: dict[str, Any] = {
    "task": "multiclass",
    "target": "other",
    "key": "other",
    "time": "other",
    "features": ["rooms"],
    "categorical": [],
    "growing": [],
    "metric": "r2",
    "seed": 8,
    "slices": [],
    "code": [],
    "data.batches": "other/*",
    "data.labels": "other/*",
    "data.min_coverage": 0.6,
    "data.label_delay": 3,
    "data.overdue": 7,
    "data.settle": 1,
    "data.private": [],
    "data.csv.separator": "|",
    "data.csv.decimal": ".",
    "data.csv.encoding": "cp1252",
    "pipeline.factory": "houses:other",
    "pipeline.parameters": {"depth": 4},
    "pipeline.format": "joblib",
    "pipeline.types": [],
    "checks.sample_rows": 6000,
    "checks.drift_floor": 0.21,
    "checks.null_floor": 0.31,
    "checks.unseen_floor": 0.03,
    "checks.range_floor": 0.41,
    "checks.slice_rows": 51,
    "expected.name": "other",
    "expected.start": "12-21",
    "expected.until": "01-07",
    "expected.columns": [],
    "policy.retrain_cost": 0.11,
    "policy.retrain": 41,
    "policy.error": 0.26,
    "policy.forgetting.window": 13,
    "policy.forgetting.half_life": 8,
    "policy.max_age": 16,
    "policy.min_rows": 301,
    "policy.drift": "report",
    "policy.drift_weight": 0.51,
    "policy.on_change": "retrain",
    "policy.promotion": "auto",
    "policy.metric_floor": -1001,
}
"""For each option of format v1 another value than in the file that uses every option."""


def test_every_option_is_tried() -> None:
    """There is another value for each option of format v1."""
    assert set(OTHERS) == set(VALUES)


@pytest.mark.parametrize("path", OTHERS)
def test_every_option_changes_the_digest(path: str) -> None:
    """Another value of any option is another question."""
    values = file("every_option")
    if path == "policy.forgetting.half_life":
        put(values, "policy.forgetting", {})
    if path.startswith("expected."):  # by the name that specifications are stored under
        values["expected"] = [Expected.model_validate(item).model_dump() for item in values["expected"]]
    before = parse_spec(values, "x").digest
    assert parse_spec(put(values, path, OTHERS[path]), "x").digest != before


@pytest.mark.parametrize(
    "path",
    ["owner", "purpose", "runbook", "schedule.cron", "schedule.timezone", "schedule.timeout_minutes", "reports.keep"],
)
@pytest.mark.parametrize("name", ["flights", "every_option"])
def test_who_reads_it_and_when_it_runs_change_nothing(name: str, path: str) -> None:
    """Owner, purpose, runbook and schedule are no part of the question: nothing is decided again for them."""
    others = {"schedule.cron": "1 2 3 * *", "schedule.timezone": "Asia/Tokyo", "schedule.timeout_minutes": 7}
    others["reports.keep"] = "90d"
    values = put(file(name), path, others.get(path, "other"))
    assert parse_spec(values, "x").digest == DIGESTS[name]


def test_the_order_in_a_file_changes_nothing() -> None:
    """The same values in another order are the same question."""
    values = file("every_option")
    turned = {key: dict(reversed(it.items())) if isinstance(it, dict) else it for key, it in reversed(values.items())}
    assert list(turned) != list(values)
    assert parse_spec(turned, "x").digest == DIGESTS["every_option"]


def test_fields_may_be_left_out_of_the_canonical_form() -> None:
    """Whoever depends on less than a decision does, names what else is left out."""
    spec = parse_spec(file("every_option"), "x")
    assert spec.canonical({"policy", "slices"}).keys() == spec.canonical().keys() - {"policy", "slices"}
    assert not spec.canonical().keys() & NO_QUESTION


# --- later releases ------------------------------------------------------------------------------------------


class NewSection(Section):
    one: int = 1
    option: int = 3


class NewCsv(CsvSpec):
    option: int = 3


class NewData(DataSpec):
    option: int = 3
    csv: NewCsv = NewCsv()


class NewPipeline(PipelineSpec):
    option: int = 3


class NewChecks(ChecksSpec):
    option: int = 3


class NewExpected(Expected):
    option: int = 3


class NewForgetting(Forgetting):
    option: int = 3


class NewPolicy(PolicySpec):
    option: int = 3
    forgetting: NewForgetting = NewForgetting()


class Later(ModelSpec):
    """The specification of a later release: an option more in each section, a section more, and a wider `key`."""

    option: int = 3
    table: dict[str, int] = Field(default_factory=dict)
    section: NewSection = NewSection()
    maybe: NewSection | None = None
    key: str | tuple[str, ...] | None = None  # type: ignore[assignment]
    expected: tuple[NewExpected, ...] = ()
    data: NewData
    pipeline: NewPipeline = NewPipeline()
    checks: NewChecks = NewChecks()
    policy: NewPolicy = NewPolicy()


OPTIONS = ["option", *(f"{section}.option" for section in [*FIELDS_V1, "section", "maybe"] if section)]


@pytest.mark.parametrize("name", DIGESTS)
def test_a_later_release_keeps_the_digest(name: str) -> None:
    """Options that a later release adds, in any section, change no digest while they have their default; nor does an
    option that accepts more kinds of values than it did."""
    assert Later.model_validate(file(name)).digest == DIGESTS[name]


@pytest.mark.parametrize("path", [path for path in OPTIONS if not path.startswith("maybe")])
def test_writing_down_a_default_keeps_the_digest(path: str) -> None:
    """A later option that is written down with its default is the same question as without it."""
    assert Later.model_validate(put(file("every_option"), path, 3)).digest == DIGESTS["every_option"]


@pytest.mark.parametrize("path", OPTIONS)
def test_a_later_option_that_is_used_changes_the_digest(path: str) -> None:
    """A later option with another value than its default is another question, and each value one of its own."""
    used = [Later.model_validate(put(file("every_option"), path, value)).digest for value in (4, 5)]
    assert len({DIGESTS["every_option"], *used}) == 3


def test_only_what_is_used_of_a_later_section_counts() -> None:
    """A later section may grow as well: of its options those count that have another value than their default."""
    spec = Later.model_validate({**file("minimal"), "section": {"option": 4}, "key": ["a", "b"], "table": {"a": 1}})
    canonical = spec.canonical()
    assert (canonical["section"], canonical["key"], canonical["table"]) == ({"option": 4}, ["a", "b"], {"a": 1})


def test_what_a_version_keeps_is_read_by_an_earlier_release() -> None:
    """The recorded specification is all of it, without later options that are not used; read again it is the same."""
    for name in ("minimal", "every_option"):
        spec = parse_spec(file(name), "x")
        again = parse_spec(spec.recorded(), "x")
        assert (again.recorded(), again.digest) == (spec.recorded(), spec.digest)
        assert spec.owner and spec.recorded()["owner"] == spec.owner
    plain = parse_spec(file("minimal"), "x").recorded()
    assert {*plain} <= {*FIELDS_V1[""], *NO_QUESTION} - LATER
    told = parse_spec({**file("minimal"), "reports": {"keep": "90d"}}, "x").recorded()
    assert told == {**plain, "reports": {"keep": "90d"}}
    assert {*plain["data"]} == FIELDS_V1["data"]
