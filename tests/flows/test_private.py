"""Private values in whole runs: decisions, logs, pages of the terminal and the history hold none."""

from __future__ import annotations

import logging
from pathlib import Path

import pandas as pd
import pytest

from flows.server import launch
from tasks.core.errors import RorError
from tasks.core.types import Outcome
from tests.helpers.model import Model, make_rows
from tests.helpers.ror import QUICK, Ror

pytestmark = pytest.mark.usefixtures("prefect")

WORD, NUMBER = "xyz" + "zy", 98_700_000


def secret(seed: int, **changes: object) -> pd.DataFrame:
    """Rows whose every name, key and label holds the word, and whose ages begin at the number."""
    rows = make_rows(400, seed=seed)
    rows = rows.assign(
        id=WORD + rows["id"], city=WORD + rows["city"], age=rows["age"] + NUMBER, y=WORD + rows["y"].astype(str)
    )
    return rows.assign(**changes)


@pytest.mark.slow
def test_no_run_says_a_private_value(model: Model, ror: Ror, tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    """A model lives through good, changed, broken and damaged batches and labels of another kind; nothing that it
    records or prints has a private value in it."""
    caplog.set_level(logging.DEBUG)
    model.write_spec('private = ["id", "city", "age", "y"]\n' + QUICK)
    bad_line = make_rows(5, seed=7).to_csv(index=False) + f"{WORD},{NUMBER}\n"
    steps: list[tuple[str, pd.DataFrame | str, Outcome | None]] = [
        ("001", secret(1), Outcome.RETRAINED),
        ("002", secret(2), Outcome.RELOADED),
        ("003", secret(3, city=f"{WORD} town", age=NUMBER * 7), None),
        ("004", secret(4, age=f"{WORD} years"), Outcome.BLOCKED),
        ("005", bad_line, Outcome.BLOCKED),
        ("006", secret(6, y=[1.5 + NUMBER] * 400), None),
        ("007", secret(7).rename(columns={"age": WORD, "city": str(NUMBER)}), Outcome.BLOCKED),
    ]
    said = []
    for name, rows, expected in steps:
        if isinstance(rows, str):
            (model.batches / f"{name}.csv").write_text(rows)
        else:
            model.deliver(name, rows)
        try:
            result = launch.run(model.root, model.name)
            assert expected in (None, result.outcome), result.message
            said.append(result.message)
        except RorError as error:
            said.append(str(error))
    result = launch.run(model.root, model.name, action="retrain", reason="what became of all that")
    said.append(result.message)
    for command in ("status", "history", "show"):
        ror(command, "loans")
        said += [ror.out, ror.err]
    ror("show", "loans", "--violations", "-o", str(tmp_path / "cells.csv"))
    said += [ror.out, ror.err, (tmp_path / "cells.csv").read_text(), caplog.text]
    store = model.root / "artifacts" / "loans"
    records = [*(store / "ledger").iterdir(), *store.glob("runs/*/*.json"), *store.glob("versions/*/manifest.json")]
    said += [path.read_text() for path in (*records, *store.glob("versions/*/evaluation.json"))]
    assert len(said) > 15
    for text in said:
        assert WORD not in text
        assert str(NUMBER)[:5] not in text.replace(",", "")
