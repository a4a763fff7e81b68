"""The flow that predicts any file: the same as `ror predict`, for the UI and for schedules."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pandas as pd
import pytest

from tests.helpers.model import Model, make_rows
from tests.helpers.ror import Ror

pytestmark = pytest.mark.usefixtures("prefect")


def predict(model: Model, file: str, output: str | None = None) -> Any:
    from flows.predict import predict as flow

    return flow(model.name, file, output, root=str(model.root), return_state=True)


def test_a_file_is_predicted_as_the_command_does(grown: Model, ror: Ror) -> None:
    """By the version in service, into a folder of its own; the history stays as it is."""
    head = grown.workspace.ledger.head().seq
    make_rows(80, seed=7).drop(columns="y").to_csv(grown.root / "new.csv", index=False)
    state = predict(grown, "new.csv")
    assert (state.name, state.is_completed()) == ("Predicted", True)
    written = grown.root / "data/loans/predictions/by-hand/new.parquet"
    assert "predicted by v2" in state.message and str(written) in state.message
    assert ror("predict", "loans", str(grown.root / "new.csv"), "-o", str(grown.root / "same.parquet")) == 0
    columns = ["id", "prediction", "probability", "version"]
    pd.testing.assert_frame_equal(
        pd.read_parquet(written)[columns], pd.read_parquet(grown.root / "same.parquet")[columns]
    )
    assert grown.workspace.ledger.head().seq == head


def test_it_is_written_once(grown: Model) -> None:
    """Asked twice, the first file stays; other data are not written over it."""
    make_rows(50, seed=7).to_parquet(grown.root / "a.parquet")
    make_rows(50, seed=8).to_parquet(grown.root / "b.parquet")
    assert predict(grown, "a.parquet", "out/x.parquet").name == "Predicted"
    before = (grown.root / "out/x.parquet").read_bytes()
    again = predict(grown, "a.parquet", "out/x.parquet")
    assert (again.name, again.message.endswith("it was there already")) == ("Predicted", True)
    state = predict(grown, "b.parquet", "out/x.parquet")
    assert state.is_failed() and "nothing is overwritten" in state.message
    assert (grown.root / "out/x.parquet").read_bytes() == before


@pytest.mark.parametrize("missing", [True, False])
def test_what_no_pipeline_may_see_is_blocked(grown: Model, missing: bool) -> None:
    """A file that is not there, or that breaks the input schema, ends the run as Blocked and says why."""
    path = Path(grown.root / "new.parquet")
    if not missing:
        make_rows(50, seed=7).drop(columns=["age", "city"]).to_parquet(path)
    state = predict(grown, "new.parquet")
    assert (state.name, state.is_failed()) == ("Blocked", True)
    assert ("there is no such file" if missing else "age") in state.message
    assert not (grown.root / "data/loans/predictions/by-hand").exists()
