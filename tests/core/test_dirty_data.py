"""Whatever arrives is checked, coerced and reported, or refused by column and reason: never a crash, never silence."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pandas as pd
import pytest

from tasks.core.checks.calibration import SCORE, calibration_of
from tasks.core.checks.drift import check_drift
from tasks.core.data.arrow import sample_rows
from tasks.core.data.source import Source
from tasks.core.errors import DataError, RorError
from tasks.core.schema.contract import Contract, infer
from tasks.core.schema.frames import conform, frame
from tasks.core.schema.validation import Validation, validate
from tasks.core.spec import CsvSpec, ModelSpec
from tasks.core.types import Verdict
from tasks.core.versions.loaded import LoadedVersion
from tasks.core.versions.persistence import predict
from tests.core import dirty
from tests.core.dirty import FRAMES, VALUES, Accepted, Changed, Coerced, Outcome, Refused, Warned
from tests.core.dirty_files import FILES, FOLDERS
from tests.helpers.training import ROWS, make_history, make_spec


def nothing_is_silent(version: LoadedVersion, seen: pd.DataFrame) -> None:
    """What follows on accepted data: answers for every row, and one drift check for every feature, with a verdict."""
    seen = seen.iloc[sample_rows(len(seen), 20_000, 0)].reset_index(drop=True)
    answers = predict(version.pipeline, seen)
    assert len(answers.values) == len(seen)
    report = check_drift(version.reference, seen.assign(**{SCORE: answers.score}), calibration_of(version))
    for name in version.contract.names:
        (check,) = [check for check in report.checks if check.name == f"drift:{name}"]
        assert check.verdict in Verdict and check.summary


def every_feature_is_reported(contract: Contract, found: Validation) -> None:
    assert [check.name for check in found.changes] == [f"content:{name}" for name in contract.names]
    assert all(check.summary and check.value is not None and check.threshold for check in found.changes)


def look(version: LoadedVersion, root: Path, name: str, csv: dict[str, str]) -> tuple[Validation, pd.DataFrame]:
    """A delivered file on its way to the pipeline. Raises DataError where it is refused."""
    spec = make_spec(data={"batches": "*", "csv": csv})
    source = Source(root, name, CsvSpec(**csv))
    found = validate(version.contract, source, spec)
    if found.problems:
        raise DataError("\n".join(found.problems))
    return found, frame(version.contract, source)


def judge(version: LoadedVersion, expected: Outcome, root: Path, name: str, csv: dict[str, str]) -> None:
    if isinstance(expected, Refused):
        with pytest.raises(DataError) as caught:
            look(version, root, name, csv)
        assert expected.message in str(caught.value)
        return
    found, seen = look(version, root, name, csv)
    every_feature_is_reported(version.contract, found)
    failed = {check.name: check.summary for check in found.changes if check.verdict is Verdict.FAIL}
    warned = [check.summary for check in found.changes if check.verdict is Verdict.WARN]
    if isinstance(expected, Changed):
        assert list(failed) == [f"content:{expected.column}"]
        assert expected.summary in failed[f"content:{expected.column}"]
        assert len(failed[f"content:{expected.column}"]) < 300
    else:
        assert not failed
    assert warned == ([expected.summary] if isinstance(expected, Warned) else [])
    if isinstance(expected, Coerced | Accepted):
        assert found.coercions == ((expected.note,) if isinstance(expected, Coerced) else ())
    if expected.same:
        clean = conform(version.contract, ROWS.head(len(seen)))
        pd.testing.assert_frame_equal(seen, clean)
    nothing_is_silent(version, seen)


@pytest.mark.parametrize("case", VALUES)
def test_values_in_a_file(champion: LoadedVersion, tmp_path: Path, case: str) -> None:
    """Values and types of any kind in a Parquet file."""
    make, expected, _ = VALUES[case]
    make(ROWS).to_parquet(tmp_path / "b.parquet", index=False)
    judge(champion, expected, tmp_path, "b.parquet", {})


@pytest.mark.parametrize("case", [*VALUES, *FRAMES])
def test_frames_of_a_service(champion: LoadedVersion, case: str) -> None:
    """The same and more in the frame of a service: answers, or one error that names every violation."""
    make, expected = FRAMES[case] if case in FRAMES else (VALUES[case][0], VALUES[case][2] or VALUES[case][1])
    data = make(ROWS)
    if isinstance(expected, Refused):
        with pytest.raises(DataError) as caught:
            champion.predict(data)
        assert expected.message in str(caught.value)
        return
    assert len(champion.predict(data).values) == len(data)
    seen = conform(champion.contract, data)
    if expected.same:
        pd.testing.assert_frame_equal(seen, conform(champion.contract, ROWS.head(len(data))))


@pytest.mark.parametrize("case", FILES)
def test_files(champion: LoadedVersion, tmp_path: Path, case: str) -> None:
    """Files in any encoding, with any separator, cut, damaged, or of another kind than their name says."""
    name, content, csv, expected = FILES[case]
    content = content(tmp_path) if callable(content) else content
    (tmp_path / name).write_bytes(content.encode() if isinstance(content, str) else content)
    judge(champion, expected, tmp_path, name, csv)


@pytest.mark.parametrize("case", FOLDERS)
def test_folders(champion: LoadedVersion, tmp_path: Path, case: str) -> None:
    """Folders whose files differ in columns, types or kind."""
    parts, expected = FOLDERS[case]
    (tmp_path / "b").mkdir()
    for name, rows in parts.items():
        if isinstance(rows, bytes):
            (tmp_path / "b" / name).write_bytes(rows)
        else:
            (rows.to_csv if name.endswith(".csv") else rows.to_parquet)(tmp_path / "b" / name, index=False)
    judge(champion, expected, tmp_path, "b", {})


def test_the_matrix_is_large() -> None:
    """The matrix has at least eighty cases, and each says what comes of it."""
    assert 2 * len(VALUES) + len(FRAMES) + len(FILES) + len(FOLDERS) >= 80


# --- training ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("case", [case for case in VALUES if case not in ("100,000 names", "1,000 more columns")])
def test_training_on_dirty_values(tmp_path: Path, case: str) -> None:
    """Training on any of it ends in a version whose own data satisfy its contract and that answers, or is refused by
    column: each column is a feature, or listed as set aside."""
    from tasks.core.training.fit import learn

    spec = make_spec()
    rows = VALUES[case][0](ROWS)
    try:
        learned = learn(spec, make_history(tmp_path, spec, rows, rows))
    except RorError as error:
        assert "column '" in str(error) or len(rows) < 2
        return
    assert {*learned.contract.names, *learned.contract.ignored} == set(rows.columns)
    source = Source(tmp_path, "001.parquet")
    found = validate(learned.contract, source, spec)
    every_feature_is_reported(learned.contract, found)
    assert [check.summary for check in found.changes if check.verdict is Verdict.FAIL] == []
    assert len(predict(learned.pipeline, frame(learned.contract, source)).values) == len(rows)


@pytest.mark.parametrize("ending", ["parquet", "csv"])
@pytest.mark.parametrize("name", ["<script>", "a.b", "0", "æøå", "a b", 'quo"te', "back\\slash", "line\nbreak", "ror"])
def test_features_of_any_name(tmp_path: Path, name: str, ending: str) -> None:
    """A feature may be called anything: it is learned, checked by its name, and answered on."""
    from tasks.core.training.fit import learn

    spec: ModelSpec = make_spec(data={"batches": f"*.{ending}"})
    rows = ROWS.rename(columns={"age": name})
    for number in (1, 2):
        path = tmp_path / f"{number}.{ending}"
        (rows.to_csv if ending == "csv" else rows.to_parquet)(path, index=False)
    from tasks.core.data.files import find_batches
    from tasks.core.data.labels import Labels
    from tasks.core.data.rows import labelled_rows

    labels = Labels(tmp_path, spec)
    learned = learn(spec, [labelled_rows(tmp_path, b, labels, spec.task) for b in find_batches(tmp_path, spec)])
    source = Source(tmp_path, f"1.{ending}")
    every_feature_is_reported(learned.contract, validate(learned.contract, source, spec))
    assert name in learned.contract.names
    assert len(predict(learned.pipeline, frame(learned.contract, source)).values) == 200


def test_a_thousand_features(tmp_path: Path) -> None:
    """A contract of a thousand columns is inferred and checked, each with a check of its own."""
    wide: Any = dirty.VALUES["1,000 more columns"][0](ROWS)
    wide.to_parquet(tmp_path / "b.parquet", index=False)
    source = Source(tmp_path, "b.parquet")
    contract = infer([source], make_spec())
    assert len(contract.names) == 1004
    every_feature_is_reported(contract, validate(contract, source, make_spec()))
