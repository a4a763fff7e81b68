"""The export of offending cells: which rows, which columns, why."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pyarrow.parquet as pq
import pytest

from tasks.core.data import source as sources
from tasks.core.errors import AlreadyExists, InvalidRequest, NotFound
from tasks.core.reports.violations import export
from tasks.core.types import Served
from tasks.core.workspace import Workspace
from tests.helpers.model import Model, make_rows
from tests.helpers.training import Trained
from tests.helpers.versions import put_in_service

CLEAN = make_rows(200, seed=9)


@pytest.fixture
def workspace(model: Model, trained: Trained) -> Workspace:
    """A model with v1 in service and nothing delivered."""
    registry = model.workspace.registry
    version, sha256 = registry.register("loans", "a run", trained.challenger.candidate)
    put_in_service(registry, Served(version, sha256, 3))
    return model.workspace


def cells(path: Path) -> list[tuple[Any, ...]]:
    """The rows of an export, with None where a cell is empty."""
    frame = pd.read_csv(path, dtype=object) if path.suffix == ".csv" else pq.read_table(path).to_pandas()
    return [tuple(None if pd.isna(cell) else cell for cell in row) for row in frame.itertuples(index=False)]


def spoilt(**first: list[Any]) -> pd.DataFrame:
    """Clean rows with the first values of some columns replaced."""
    return CLEAN.assign(
        **{
            name: pd.Series([*values, *CLEAN[name].tolist()[len(values) :]], dtype=object)
            for name, values in first.items()
        }
    )


def test_every_offending_cell_is_a_row(workspace: Workspace, model: Model) -> None:
    """Cells that do not fit are written with batch, row, key, column, value and reason, from every pending batch."""
    model.batches.mkdir(parents=True)
    spoilt(age=["41 years", "old"]).to_csv(model.batches / "004.csv", index=False)
    model.deliver("005", spoilt(income=[np.inf, 1.0, -np.inf], age=[2**60]))
    found = export(workspace, model.root / "out" / "cells.parquet")
    assert (found.batches, found.rows, found.problems) == (("004", "005"), 5, ())
    assert cells(model.root / "out" / "cells.parquet") == [
        ("004", 0, "9-0", "age", "41 years", "not a number"),
        ("004", 1, "9-1", "age", "old", "not a number"),
        ("005", 0, "9-0", "income", "inf", "infinite"),
        ("005", 2, "9-2", "income", "-inf", "infinite"),
        ("005", 0, "9-0", "age", str(2**60), "too many digits"),
    ]


@pytest.mark.parametrize(
    ("changed", "count", "column", "value", "reason"),
    [
        (spoilt(city=["Hamar"] * 40), 40, "city", "Hamar", "not seen in training"),
        (spoilt(city=[None] * 80), 80, "city", None, "missing"),
        (spoilt(age=[1000] * 60), 60, "age", "1000", "outside 18 to 79"),
        (CLEAN.assign(city=pd.Timestamp("2026-01-01")), 200, "city", "2026-01-01 00:00:00", "not a category"),
        (CLEAN.assign(city=b"\xff\xfe"), 200, "city", "b'\\xff\\xfe'", "not a category"),
        (CLEAN.assign(age=CLEAN["age"].astype(str)), 200, "age", str(CLEAN["age"][0]), "not a number"),
        (spoilt(city=["Hamar"], age=[1000]), 0, None, None, None),
    ],
)
def test_what_is_usual_is_left_out(
    workspace: Workspace,
    model: Model,
    changed: pd.DataFrame,
    count: int,
    column: str | None,
    value: str | None,
    reason: str | None,
) -> None:
    """Missing and unseen values and those outside the range are written where there are too many of them."""
    model.deliver("004", changed)
    output = model.root / "cells.parquet"
    assert export(workspace, output).rows == count
    if not count:
        assert not output.exists()
        return
    written = cells(output)
    assert len(written) == count
    assert written[0] == ("004", 0, "9-0", column, value, reason)


def test_private_values_stay_private(workspace: Workspace, model: Model) -> None:
    """Of private columns the export has neither values nor range, and no key where that is private."""
    model.write_spec('private = ["id", "age"]')
    model.deliver("004", spoilt(age=[1000] * 60, income=[np.inf]))
    export(model.workspace, model.root / "cells.csv")
    written = cells(model.root / "cells.csv")
    assert written[0] == ("004", "0", None, "income", "inf", "infinite")
    assert written[1] == ("004", "0", None, "age", None, "outside the training range")


def test_a_key_of_several_columns_is_its_first(workspace: Workspace, model: Model) -> None:
    """It says whose the row is, and is what an erasure looks for."""
    path = model.root / "deployments/loans.toml"
    path.write_text(path.read_text().replace('key = "id"', 'key = ["id", "city"]'))
    model.deliver("004", spoilt(income=[np.inf]))
    export(model.workspace, model.root / "cells.csv")
    assert cells(model.root / "cells.csv")[0][:4] == ("004", "0", "9-0", "income")


def test_what_has_no_rows_is_said(workspace: Workspace, model: Model) -> None:
    """A column that is missing and a file that cannot be read have no cells: they are named, the rest is written."""
    model.deliver("004", spoilt(age=["old"]).drop(columns=["income", "id"]).astype({"age": str}))
    (model.batches / "005.parquet").write_bytes(b"PAR1")
    found = export(workspace, model.root / "cells.csv")
    assert [problem.split(":")[0] for problem in found.problems] == ["004", "004", "005"]
    assert "'id' is missing" in found.problems[0] and "'income' is missing" in found.problems[1]
    assert found.rows == 200
    assert cells(model.root / "cells.csv")[0] == ("004", "0", None, "age", "old", "not a number")


def test_named_batches_and_others(workspace: Workspace, model: Model) -> None:
    """One batch by name, whatever became of it; one that does not exist is refused with those that do."""
    model.deliver("004", spoilt(income=[np.inf]))
    model.deliver("005", spoilt(income=[np.inf]))
    assert export(workspace, model.root / "cells.csv", "005").batches == ("005",)
    with pytest.raises(InvalidRequest, match=r"^batch:\n.*The newest here: 004, 005"):
        export(workspace, model.root / "other.csv", "006")


@pytest.mark.parametrize("chunk", [7, 64])
def test_rows_are_numbered_across_chunks(
    workspace: Workspace, model: Model, monkeypatch: pytest.MonkeyPatch, chunk: int
) -> None:
    """Rows are numbered from the beginning of the batch, however it is read."""
    monkeypatch.setattr(sources, "CHUNK_ROWS", chunk)
    model.deliver("004", CLEAN.assign(income=np.where(CLEAN.index % 50 == 3, np.inf, CLEAN["income"])))
    export(workspace, model.root / "cells.parquet")
    assert [cell[1] for cell in cells(model.root / "cells.parquet")] == [3, 53, 103, 153]


def test_nothing_is_overwritten(workspace: Workspace, model: Model) -> None:
    """A file that is there is left alone, an unknown ending is refused, and a failure leaves no part of a file."""
    model.deliver("004", spoilt(income=[np.inf]))
    (model.root / "cells.csv").write_text("mine")
    with pytest.raises(AlreadyExists, match="nothing is overwritten"):
        export(workspace, model.root / "cells.csv")
    assert (model.root / "cells.csv").read_text() == "mine"
    with pytest.raises(InvalidRequest, match=r"^output:\n.* must end in \.parquet or \.csv"):
        export(workspace, model.root / "cells.xlsx")


def test_before_the_first_version(model: Model) -> None:
    """Without a version in service there is nothing to compare data with, and that is said."""
    model.deliver("004")
    with pytest.raises(NotFound, match=r"No version of 'loans' is in service yet.*`ror run loans` trains one"):
        export(model.workspace, model.root / "cells.csv")
