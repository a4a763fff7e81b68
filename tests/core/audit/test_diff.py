"""What differs between two versions, section by section."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from tasks.core.audit.diff import Change, Differences, VersionRecord, differences, flat, recorded
from tasks.core.errors import CorruptObject
from tasks.core.records import to_dict
from tasks.core.schema.contract import Column
from tasks.core.types import Gate, Metric, Verdict
from tasks.core.versions.loaded import LoadedVersion
from tasks.core.versions.manifest import FileRecord, Manifest, TrainingFile
from tasks.core.versions.registry import Registry
from tests.helpers.training import Trained

SHARES = {"income": 0.5, "age": 0.3, "city": 0.2, "member": 0.0}


@pytest.fixture
def first(champion: LoadedVersion) -> VersionRecord:
    """A version with all of its record."""
    return VersionRecord(champion.manifest, champion.contract, SHARES, {"mine": "a = 1\nb = 2\n", "mine.old": ""})


def second(first: VersionRecord, **changes: Any) -> VersionRecord:
    """A later version, the same but for these fields of its manifest."""
    return replace(first, manifest=replace(first.manifest, version=2, **changes))


def with_columns(first: VersionRecord, change: Callable[[Column], Column | None]) -> VersionRecord:
    """A later version whose input schema has these columns instead; None leaves one out."""
    assert first.contract is not None
    columns = tuple(column for old in first.contract.features if (column := change(old)) is not None)
    return replace(second(first), contract=replace(first.contract, features=columns))


def pairs(changes: tuple[Change, ...] | None) -> dict[str, tuple[Any, Any]]:
    assert changes is not None
    return {change.name: (change.a, change.b) for change in changes}


def test_a_version_is_identical_to_itself(first: VersionRecord) -> None:
    """No section differs."""
    found = differences(first, first)
    assert found.data.identical and found.data.same == 3
    assert found.schema is not None and found.schema.identical and found.schema.same == 4
    assert found.metrics.identical and found.metrics.same_rows
    assert (found.made, found.specification, found.environment, found.importance, found.files) == ((),) * 5
    assert found.code == ()


# --- data -----------------------------------------------------------------------------------------------------


def test_batches_come_go_and_change(first: VersionRecord) -> None:
    """Batches of one of them only are told with rows and digests, those of both that are not alike with what is not."""
    one, two, three = first.manifest.training
    corrected = replace(two, labels="l" * 64, rows=two.rows - 5)
    four = TrainingFile("004", "004.parquet", "f" * 64, "e" * 64, 100)
    kept = replace(three, held_out=not three.held_out)
    found = differences(first, second(first, training=(corrected, kept, four))).data
    assert [(batch.batch, batch.rows, batch.sha256, batch.labels) for batch in found.added] == [
        ("004", 100, "f" * 64, "e" * 64)
    ]
    assert [batch.batch for batch in found.removed] == [one.batch]
    told = {item.batch: pairs(item.changes) for item in found.changed}
    assert told == {
        two.batch: {"labels": (two.labels, "l" * 64), "rows": (two.rows, two.rows - 5)},
        three.batch: {"held_out": (three.held_out, not three.held_out)},
    }
    assert found.same == 0 and not found.identical
    assert found.rows == (first.manifest.rows, two.rows - 5 + three.rows + 100)
    assert found.digests[0] != found.digests[1]


# --- specification and environment ----------------------------------------------------------------------------


def test_every_key_is_told_with_both_values(first: VersionRecord) -> None:
    """Nested keys are dotted; what only one has is None in the other."""
    spec = {**first.manifest.spec}
    spec["policy"] = {**spec["policy"], "max_age": 3}
    spec["features"] = ["age", "city"]
    parameters = {"max_iter": 20, "learning_rate": 0.2}
    found = pairs(differences(first, second(first, spec=spec, parameters=parameters, seed=7)).specification)
    assert found == {
        "features": (None, ["age", "city"]),
        "seed": (0, 7),
        "policy.max_age": (first.manifest.spec["policy"]["max_age"], 3),
        "pipeline.parameters.max_iter": (10, 20),
        "pipeline.parameters.learning_rate": (None, 0.2),
    }


def test_a_key_that_a_newer_release_brought_is_no_change(first: VersionRecord) -> None:
    """An option that is off is the same as one that did not exist; the other way round, too."""
    with_option = second(first, spec={**first.manifest.spec, "brand_new": None})
    assert differences(first, with_option).specification == differences(with_option, first).specification == ()


def test_flat_mappings() -> None:
    """Lists of mappings are numbered, other lists are values, and 1 is not True."""
    nested = {"a": {"b": 1, "c": [1, 2]}, "expected": ({"name": "Christmas"}, {"name": "Easter"}), "none": {}, "l": ()}
    assert flat(nested) == {
        "a.b": 1,
        "a.c": [1, 2],
        "expected.1.name": "Christmas",
        "expected.2.name": "Easter",
        "l": [],
    }


def test_a_switch_is_no_number(first: VersionRecord) -> None:
    """From 1 to true is a change."""
    one, true = (second(first, parameters={"warm": value}) for value in (1, True))
    assert pairs(differences(one, true).specification) == {"pipeline.parameters.warm": (1, True)}


def test_environments(first: VersionRecord) -> None:
    """Python, distributions that came, went or moved, and own modules are told."""
    environment = {**first.manifest.environment, "python": "3.12.1", "sources": {"mine.features": "a" * 64}}
    environment["distributions"] = {**environment["distributions"], "scipy": "9.9.9", "lightgbm": "4.0"}
    del environment["distributions"]["joblib"]
    recorded_here = first.manifest.environment
    found = pairs(differences(first, second(first, environment=environment)).environment)
    assert found == {
        "python": (recorded_here["python"], "3.12.1"),
        "sources.mine.features": (None, "a" * 64),
        "distributions.scipy": (recorded_here["distributions"]["scipy"], "9.9.9"),
        "distributions.lightgbm": (None, "4.0"),
        "distributions.joblib": (recorded_here["distributions"]["joblib"], None),
    }


def test_own_code(first: VersionRecord) -> None:
    """Modules of no package are told line by line, also those of one of them only."""
    found = differences(first, replace(second(first), sources={"mine": "a = 1\nb = 3\nc = 4\n", "mine.new": "d = 5\n"}))
    assert found.code is not None
    assert [(change.module, change.added, change.removed) for change in found.code] == [
        ("mine", 2, 1),
        ("mine.new", 1, 0),
        ("mine.old", 0, 0),
    ]
    lines = ("--- mine, v1", "+++ mine, v2", "@@ -1,2 +1,3 @@", " a = 1", "-b = 2", "+b = 3", "+c = 4")
    assert found.code[0].lines == lines
    assert differences(first, replace(second(first), sources=None)).code is None
    other = {name: text.replace("\n", "\r\n") for name, text in (first.sources or {}).items()}
    assert differences(first, replace(second(first), sources=other)).code == ()  # line ends are no change


def test_how_it_was_made(first: VersionRecord) -> None:
    """When, from which version, why and at what cost."""
    found = pairs(differences(first, second(first, parent=1, reasons=("drift",), duration_seconds=99.0)).made)
    assert found["parent"] == (None, 1)
    assert found["reasons"] == (first.manifest.reasons, ("drift",))
    assert found["duration_seconds"][1] == 99.0


# --- input schema ---------------------------------------------------------------------------------------------


def test_columns_come_and_go(first: VersionRecord) -> None:
    """A column of one of them only is told with its kind; so is one that is no input any more."""
    fewer = with_columns(first, lambda column: None if column.name == "age" else column)
    assert fewer.contract is not None
    fewer = replace(fewer, contract=replace(fewer.contract, ignored=("age", "id", "y")))
    for found, came in ((differences(first, fewer), False), (differences(fewer, first), True)):
        assert found.schema is not None
        there, gone = (found.schema.added, found.schema.removed)[:: 1 if came else -1]
        assert [(column.name, column.kind) for column in there] == [("age", "number")]
        assert (gone, found.schema.same) == ((), 3)
        listed = (found.schema.no_longer_ignored, found.schema.now_ignored)[:: 1 if came else -1]
        assert listed == (("age",), ())


def test_columns_change(first: VersionRecord) -> None:
    """Kind, range, null rate and categories; their order alone is no change."""

    def change(column: Column) -> Column:
        match column.name:
            case "age":
                return replace(column, high=120.0, null_rate=0.25, type="double")
            case "member":
                return replace(column, kind="category", categories=("yes",), low=None, high=None)
            case "city":
                return replace(column, categories=("Oslo", "Bodø", "Bergen"))
        return column

    assert first.contract is not None
    old = {column.name: column for column in first.contract.features}
    schema = differences(first, with_columns(first, change)).schema
    assert schema is not None
    found = {column.name: column for column in schema.changed}
    assert pairs(found["age"].changes) == {
        "high": (old["age"].high, 120.0),
        "null_rate": (0.0, 0.25),
        "type": (old["age"].type, "double"),
    }
    assert pairs(found["member"].changes)["kind"] == ("boolean", "category")
    assert (found["city"].changes, found["city"].added, found["city"].removed) == ((), ("Bodø",), ("Tromsø",))
    assert (found["city"].new, found["city"].gone, found["city"].capped) == (1, 1, False)
    assert schema.same == 1

    def turned(column: Column) -> Column:
        return replace(column, categories=column.categories and column.categories[::-1])

    schema = differences(first, with_columns(first, turned)).schema
    assert schema is not None and schema.identical


def test_a_full_list_of_categories_is_said_to_be(first: VersionRecord) -> None:
    """Where more categories were there than are listed, one can leave the list by its rank alone."""

    def change(column: Column) -> Column:
        return replace(column, categories=("Oslo",), other_share=0.4) if column.name == "city" else column

    schema = differences(first, with_columns(first, change)).schema
    assert schema is not None
    assert [(column.gone, column.capped) for column in schema.changed] == [(2, True)]


@pytest.mark.parametrize("where", ["first", "second", "its file then", "its file now"])
def test_private_values_are_not_in_it(first: VersionRecord, where: str) -> None:
    """Wherever a column is called private, its range and categories are in no field; that they differ is."""

    def secret(column: Column) -> Column:
        if column.name == "city":
            return replace(column, categories=("SECRETVILLE",), private=where == "second")
        return replace(column, low=-777.5, high=777.5, private=where == "second") if column.name == "age" else column

    a, b = first, with_columns(first, secret)
    assert a.contract is not None
    if where == "first":
        a = replace(
            a, contract=replace(a.contract, features=tuple(replace(c, private=True) for c in a.contract.features))
        )
    if where == "its file then":
        spec = {**a.manifest.spec, "data": {**a.manifest.spec["data"], "private": ["age", "city"]}}
        a = replace(a, manifest=replace(a.manifest, spec=spec))
    found = differences(a, b, ("age", "city") if where == "its file now" else ())
    assert found.schema is not None
    told = {column.name: column for column in found.schema.changed}
    assert (told["city"].new, told["city"].gone, told["city"].added, told["city"].removed) == (1, 3, (), ())
    assert told["age"].private and told["age"].hidden and "low" not in pairs(told["age"].changes)
    text = json.dumps(to_dict(found), ensure_ascii=False)
    assert not any(word in text for word in ("SECRETVILLE", "777.5", "Oslo", "Bergen", "Tromsø"))


# --- importance, metrics, files -------------------------------------------------------------------------------


def test_importance_largest_change_first(first: VersionRecord) -> None:
    """Columns are in the order of how much their share moved; equal shares are left out."""
    shares = {"income": 0.2, "age": 0.25, "city": 0.2, "new": 0.35}
    found = pairs(differences(first, replace(second(first), importance=shares)).importance)
    assert list(found.items()) == [
        ("new", (None, 0.35)),
        ("income", (0.5, 0.2)),
        ("age", (0.3, 0.25)),
        ("member", (0.0, None)),
    ]


def metric(value: float, rows: int = 300) -> dict[str, Metric]:
    return {"loss": Metric(value, value - 0.1, value + 0.1, rows)}


def test_metrics_on_other_rows(first: VersionRecord) -> None:
    """Numbers measured on the rows of different gates are marked as such; those of one gate are comparable."""
    one, two, three = first.manifest.training
    rows = replace(first, manifest=replace(first.manifest, metrics=metric(0.2), parent=None))
    same = differences(rows, second(rows, metrics=metric(0.3))).metrics
    assert same.same_rows and not same.identical
    assert [(pair.name, pair.a, pair.b) for pair in same.each] == [
        ("loss", *metric(0.2).values(), *metric(0.3).values())
    ]
    elsewhere = (one, two, replace(three, labels="0" * 64))
    assert not differences(rows, second(rows, training=elsewhere)).metrics.same_rows
    assert not differences(rows, second(rows, parent=1)).metrics.same_rows
    assert not differences(rows, second(rows, metrics={})).metrics.same_rows


@pytest.mark.parametrize("turned", [False, True])
def test_parent_and_child_are_compared_on_the_childs_rows(first: VersionRecord, turned: bool) -> None:
    """Where one was the champion at the other's gate, both are told on the rows of that gate, in either order, with
    how many of them the champion had learned from."""
    gate = Gate(Verdict.PASS, "better than v1", 280, against="v1")
    child = second(first, parent=1, metrics=metric(0.1), champion_metrics=metric(0.4), gate=gate)
    order = (child, first) if turned else (first, child)
    found = differences(*order).metrics
    assert [(pair.a, pair.b) for pair in found.compared] == [
        (*metric(0.1 if turned else 0.4).values(), *metric(0.4 if turned else 0.1).values())
    ]
    assert found.seen == 20
    assert found.gates == tuple(item.manifest.gate for item in order)
    stranger = replace(child, manifest=replace(child.manifest, parent=9))
    assert differences(first, stranger).metrics.compared == ()


def test_files_by_size(first: VersionRecord) -> None:
    """Files whose bytes differ are told by their sizes, also those of one of them only."""
    files = {**first.manifest.files, "contract.json": FileRecord("0" * 64, 5), "sources.json": FileRecord("1" * 64, 7)}
    del files["probe.parquet"]
    before = first.manifest.files
    assert pairs(differences(first, second(first, files=files)).files) == {
        "contract.json": (before["contract.json"].size, 5),
        "sources.json": (None, 7),
        "probe.parquet": (before["probe.parquet"].size, None),
    }


# --- from the store -------------------------------------------------------------------------------------------


@pytest.fixture
def stored(trained: Trained, tmp_path: Path) -> tuple[Registry, Manifest, Path]:
    """A registered version, and its folder."""
    registry = Registry(tmp_path)
    version, _ = registry.register("loans", "key", trained.challenger.candidate)
    return registry, registry.manifest("loans", version)[0], tmp_path / "loans" / "versions" / "00000001"


def test_the_record_is_read(stored: tuple[Registry, Manifest, Path], champion: LoadedVersion) -> None:
    """Input schema and importance come from the version's files, verified; the pipeline is not read."""
    registry, manifest, folder = stored
    (folder / "pipeline.joblib").unlink()
    found = recorded(registry, manifest)
    assert found.contract == champion.contract
    assert found.importance is not None and set(found.importance) == {"income", "age", "city", "member"}
    assert found.sources == {}
    (folder / "contract.json").write_bytes(b"{}")
    with pytest.raises(CorruptObject, match=r"contract\.json is damaged or was replaced"):
        recorded(registry, manifest)


def test_own_code_is_read(trained: Trained, tmp_path: Path) -> None:
    """The text of a version's own modules comes from its file; where that was removed it is not known."""
    registry, texts = Registry(tmp_path), {"mine": "a = 1\n"}
    version, _ = registry.register("loans", "key", replace(trained.challenger.candidate, sources=texts))
    manifest, _ = registry.manifest("loans", version)
    assert recorded(registry, manifest).sources == texts
    (tmp_path / "loans" / "versions" / "00000001" / "sources.json").unlink()
    assert recorded(registry, manifest).sources is None


def test_importance_of_an_older_record(stored: tuple[Registry, Manifest, Path]) -> None:
    """Where the evaluation is gone, the weights that the drift checks use say the same."""
    registry, manifest, folder = stored
    importance = recorded(registry, manifest).importance
    (folder / "evaluation.json").unlink()
    assert recorded(registry, manifest).importance == importance


def test_what_was_removed_is_not_known(stored: tuple[Registry, Manifest, Path]) -> None:
    """With its files removed a version still differs in all that its manifest has."""
    registry, manifest, folder = stored
    for name in ("contract.json", "evaluation.json", "calibration.json"):
        (folder / name).unlink()
    bare = recorded(registry, manifest)
    found: Differences = differences(bare, second(bare, seed=9))
    assert (found.schema, found.importance) == (None, None)
    assert pairs(found.specification) == {"seed": (0, 9)}
