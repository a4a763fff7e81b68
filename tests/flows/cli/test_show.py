"""The page of a run, from the flow to `ror report`: what a person opens, also where change was expected."""

from __future__ import annotations

import json
import re
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from flows.server import launch
from flows.server.environment import actor
from tasks.core.ledger.events import Decided
from tasks.core.records import from_dict
from tasks.core.types import Outcome, Verdict
from tests.helpers.model import Model, make_rows
from tests.helpers.ror import QUICK, Ror

CHRISTMAS = """
[[expected]]
name = "Christmas"
from = "12-20"
until = "01-06"
columns = ["income", "city", "prediction"]
"""


def decided_last(model: Model) -> Decided:
    ledger = model.workspace.ledger
    done = ledger.head().state.decided
    assert done is not None
    return from_dict(Decided, ledger.event(done.seq).body)


def page_of(ror: Ror) -> str:
    return Path(ror.json("report", "loans")["page"]).read_text(encoding="utf-8")


def test_every_run_has_a_page(grown: Model, ror: Ror) -> None:
    """A reload keeps its page, without Evidently's megabytes; a retrain keeps those beside it, linked."""
    assert ror("report", "loans") == 0
    told = ror.json("report", "loans")
    page = Path(told["page"])
    assert str(page) in (ror("report", "loans"), ror.out)[1]
    assert {"drift.html", "performance.html", "report.html", "decision.json"} >= set(told["files"])
    assert 'href="performance.html"' in page.read_text(encoding="utf-8")
    assert ror("run", "loans") == 0
    grown.deliver("003", make_rows(seed=3))
    assert ror("run", "loans", "--action", "reload", "--reason", "look only") == 0
    told = ror.json("report", "loans")
    assert set(told["files"]) == {"decision.json", "report.html"}
    text = page_of(ror)
    assert "Reloaded" in text and "look only" in text and "Every column" in text
    for column in ("income", "age", "city", "member", "the prediction"):
        assert f'<td class="name">{column}</td>' in text


def test_a_page_can_be_taken_elsewhere(grown: Model, ror: Ror, tmp_path: Path) -> None:
    """With -o the page and Evidently's are copied; nothing is overwritten, and asking again changes nothing."""
    folder = tmp_path / "elsewhere"
    assert ror("report", "loans", "-o", str(folder)) == 0
    assert ror("report", "loans", "-o", str(folder)) == 0
    names = {path.name for path in folder.iterdir()}
    assert {"report.html", "decision.json"} <= names
    (folder / "report.html").write_text("mine")
    assert ror("report", "loans", "-o", str(folder)) == 2
    assert "report.html exists already, with other content" in ror.err
    assert (folder / "report.html").read_text() == "mine"


def test_an_entry_without_a_page(grown: Model, ror: Ror) -> None:
    """Only decisions have one; the error names those that do."""
    assert ror("report", "loans", "999") == 2
    assert re.search(r"entry:\n  - 999 has no page. The newest entries that have one: \d+", ror.err)


def test_before_the_first_decision(model: Model, ror: Ror) -> None:
    """Nothing was decided: the error says which command does."""
    assert ror("report", "loans") == 1
    assert "`ror run loans`" in ror.err


def test_expected_change_is_on_record_and_retrains_nothing(grown: Model, ror: Ror) -> None:
    """At Christmas what moves is a warning with the reason, beside the same days of last year; the same rows in March
    are drift."""
    grown.write_spec(QUICK + '[policy]\ndrift = "trigger"\n' + CHRISTMAS)
    moved = make_rows(seed=7, shift=2.0)
    for name in ("2024-12-24", "2025-12-24"):
        grown.deliver(name, moved.assign(id=[f"{name}-{row}" for row in range(len(moved))]))
        assert launch.run(grown.root, "loans").outcome is not Outcome.RETRAINED
    evidence = decided_last(grown).evidence
    assert evidence is not None and evidence.drift.measured
    assert (evidence.drift.drifted, evidence.drift.prediction) == ((), False)
    warned = {check.name: check.summary for check in decided_last(grown).checks if check.verdict is Verdict.WARN}
    assert warned["drift:income"].endswith("but expected: Christmas, 12-20 to 01-06")
    text = page_of(ror)
    assert "the same period last year" in text and '<polyline class="year"' in text
    grown.deliver("2026-03-02", moved.assign(id=[f"m{row}" for row in range(len(moved))]))
    assert ror("run", "loans") == 0
    evidence = decided_last(grown).evidence
    assert evidence is not None and "income" in evidence.drift.drifted


def test_a_snooze_quiets_what_it_names_only(grown: Model, ror: Ror) -> None:
    """A snoozed column that moves is a warning that says who and why; the prediction, not snoozed, is judged."""
    assert ror("snooze", "loans", "--columns", "income", "--until", "2999-12-31", "--reason", "new price list") == 0
    grown.deliver("003", make_rows(seed=3, shift=2.0))
    assert ror("run", "loans") == 0
    checks = {check.name: check for check in decided_last(grown).checks}
    assert checks["drift:income"].verdict is Verdict.WARN
    assert f"snoozed until 2999-12-31 by {actor()}: new price list" in checks["drift:income"].summary
    assert checks["drift:the prediction"].verdict is Verdict.FAIL


@pytest.mark.parametrize("shown", ["decision", "page", "ledger"])
def test_a_private_column_moves_unseen(grown: Model, ror: Ror, shown: str) -> None:
    """That a private column moved is said everywhere, its values nowhere."""
    path = grown.root / "deployments" / "loans.toml"
    path.write_text(path.read_text().replace("settle = 0\n", 'settle = 0\nprivate = ["city"]\n'))
    grown.deliver("003", make_rows(seed=3).assign(city="Secretville"))
    assert ror("run", "loans") == 0
    run = Path(ror.json("report", "loans")["page"]).parent
    texts = {
        "decision": (run / "decision.json").read_text(encoding="utf-8"),
        "page": "".join(path.read_text(encoding="utf-8") for path in run.glob("*.html")),
        "ledger": json.dumps([event.body for event in grown.workspace.ledger.events()], default=str),
    }
    assert "city" in texts[shown]
    assert "Secretville" not in texts[shown]


READING = """
import sys
from flows.cli import app
sys.argv = ["ror", *{command!r}.split(), "--root", {root!r}]
try:
    app.main()
except SystemExit as ended:
    assert not ended.code, ended.code
"""
SERVING = """
import sys
import pandas as pd
from tasks.core.versions.registry import Registry
rows = pd.read_parquet({root!r} + "/data/loans/batches/002.parquet")
assert len(Registry({root!r} + "/artifacts").load_current("loans").predict(rows).values) == len(rows)
"""


@pytest.mark.parametrize(
    ("script", "command", "absent"),
    [
        (READING, "status loans", {"evidently", "prefect", "sklearn"}),
        (READING, "history loans", {"evidently", "prefect", "sklearn"}),
        (READING, "report loans", {"evidently", "prefect", "sklearn"}),
        (READING, "status loans --at 2000-01-01", {"evidently", "prefect", "sklearn", "pandas", "numpy"}),
        (READING, "show loans v1 --requirements", {"evidently", "prefect", "sklearn", "pandas", "numpy"}),
        (READING, "diff loans v1 v2", {"evidently", "prefect", "sklearn"}),
        (SERVING, "", {"evidently", "prefect"}),
    ],
)
def test_reading_and_serving_do_not_load_evidently(
    grown_once: Path, script: str, command: str, absent: set[str]
) -> None:
    """Evidently takes seconds to import: who only reads, or serves predictions, never pays for it."""
    text = (
        script.format(command=command, root=str(grown_once))
        + f"print([n for n in {sorted(absent)!r} if n in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", text], capture_output=True, text=True, check=True)
    assert done.stdout.splitlines()[-1] == "[]"


def test_a_run_killed_before_its_page_gets_one_from_the_next(grown: Model, ror: Ror) -> None:
    """What a run decided and did not show is shown by the next run, whatever else has arrived, from what the history
    keeps."""
    grown.deliver("003", make_rows(seed=3))
    assert ror("run", "loans") == 0
    page = Path(ror.json("report", "loans")["page"])
    for path in page.parent.iterdir():
        path.unlink()
    grown.deliver("004", make_rows(seed=4))
    assert ror("run", "loans") == 0
    assert "interrupted before it could draw" in page.read_text(encoding="utf-8")


def test_a_broken_batch_shows_every_column(grown: Model, ror: Ror) -> None:
    """Of a batch that is set aside the page names every feature: the missing one, the broken one, and those that are
    as they should be."""
    grown.deliver("003", make_rows(seed=3).drop(columns="income").assign(age="old"))
    assert ror("run", "loans") == 3
    text = page_of(ror)
    rows = dict(re.findall(r'<td class="name">(\w+)</td>.*?<b class="(\w+)">', text, flags=re.S))
    assert rows == {"income": "fail", "age": "fail", "city": "pass", "member": "pass"}


@pytest.mark.parametrize("task", ["multiclass", "regression"])
def test_answers_of_a_private_target_are_not_drawn(model: Model, ror: Ror, task: str) -> None:
    """The prediction's distribution is made of the target's values: where that is private it is judged, not shown."""
    model.write_spec(QUICK, task=task)
    path = model.root / "deployments" / "loans.toml"
    path.write_text(path.read_text().replace("settle = 0\n", 'settle = 0\nprivate = ["y"]\n'))
    for batch in ("001", "002"):
        rows = make_rows(seed=int(batch), shift=2.0 * (batch == "002"))
        income = rows["income"].fillna(0)
        named = np.select([income < -0.5, income < 0.5], ["SECRETA", "SECRETB"], "SECRETC")
        model.deliver(batch, rows.assign(y=income * 1e6 + 777_000_000 if task == "regression" else named))
        assert ror("run", "loans") == 0, ror.err
    folder = Path(ror.json("report", "loans")["page"]).parent
    page = (folder / "report.html").read_text(encoding="utf-8")
    assert '<td class="name">the prediction</td>' in page
    texts = page + "".join(path.read_text(encoding="utf-8") for path in folder.glob("drift.html"))
    assert not re.search("SECRET[ABC]|77[67]\\d{6}|7\\.7[67]\\d*e\\+08", texts)


def test_a_file_is_no_folder(grown: Model, ror: Ror, tmp_path: Path) -> None:
    """A page is not copied to where a file is; the file stays what it was."""
    (tmp_path / "taken").write_text("mine")
    assert ror("report", "loans", "-o", str(tmp_path / "taken")) == 1
    assert "taken is not a folder" in ror.err
    assert (tmp_path / "taken").read_text() == "mine"


def test_requirements_are_printed_for_pip(grown: Model, ror: Ror) -> None:
    """Nothing but the file goes to the standard output, in full lines; --json has the same for scripts."""
    assert ror("show", "loans", "v1", "--requirements") == 0
    pins = [line for line in ror.out.splitlines() if not line.startswith("#")]
    told = ror.json("show", "loans", "v1", "--requirements")
    environment = ror.json("show", "loans", "v1")["environment"]
    others = {name: here for name, here in environment["distributions"].items() if name != "retrain-or-reload"}
    assert told["requirements"] == pins == [f"{name}=={here}" for name, here in others.items()]
    assert {name: told[name] for name in ("python", "platform", "sources", "git_commit")} == {
        name: environment[name] for name in ("python", "platform", "sources", "git_commit")
    }
    assert (told["model"], told["version"], ror.json("show", "loans", "--requirements")["version"]) == ("loans", 1, 2)


@pytest.mark.parametrize("words", [("--violations",), ("-o", "file.txt"), ("--batch", "001")])
def test_requirements_go_alone(grown: Model, ror: Ror, words: tuple[str, ...]) -> None:
    """They are written by the shell; options of --violations do not go with them."""
    assert ror("show", "loans", "v1", "--requirements", *words) == 2
    assert "--requirements:\n  - use it alone" in ror.err
