"""`ror diff`: what differs between two versions, through the command."""

from __future__ import annotations

import json
import re
import sys

import pytest

from tests.helpers.model import Model, make_rows
from tests.helpers.ror import QUICK, Ror

pytestmark = pytest.mark.usefixtures("prefect")


def section(text: str, name: str) -> str:
    """One section of what is printed."""
    found = re.search(rf"^ {name} .*?→ v\d.*?(?=\n\s*\n)", text, flags=re.M | re.S)
    assert found, f"no section {name!r} in:\n{text}"
    return found.group()


def test_two_versions(grown: Model, ror: Ror) -> None:
    """Every section that differs is shown with both values, those that do not are named; without a second version it
    is the one in service."""
    assert ror("diff", "loans", "v1", "v2") == 0, ror.err
    text = ror.out
    shown = {version: ror.json("show", "loans", version) for version in ("v1", "v2")}
    rows = {version: sum(file["rows"] for file in record["training"]) for version, record in shown.items()}
    assert f"{rows['v1']:,} → {rows['v2']:,} ({rows['v2'] - rows['v1']:+,})" in section(text, "data")
    assert re.search(r"batches added +002: [\d,]+ rows", section(text, "data"))
    metrics = section(text, "metrics")
    assert "not measured on the same rows" in metrics and "on v2's rows" in metrics and "gate of v1" in metrics
    assert f"{shown['v1']['metrics']['roc_auc']['value']:.4g} (" in metrics
    assert "v1 → v2" in section(text, "importance")
    assert f"{shown['v1']['files']['contract.json']['size']:,} → " in section(text, "files")
    assert re.search(r"^Identical: specification, environment, own code\.", text, flags=re.M)
    assert (ror("diff", "loans", "1"), ror.out) == (0, text)


def test_json_has_everything(grown: Model, ror: Ror) -> None:
    """For scripts both values of everything, unrounded."""
    found = ror.json("diff", "loans", "v1", "v2")
    assert {"model", "a", "b", "made", "data", "schema", "specification", "environment", "code", "importance",
            "metrics", "files"} == set(found)  # fmt: skip
    assert (found["a"], found["b"], found["specification"], found["environment"]) == (1, 2, [], [])
    assert [batch["batch"] for batch in found["data"]["added"]] == ["002"]
    first, second = (ror.json("show", "loans", version) for version in ("v1", "v2"))
    pair = next(pair for pair in found["metrics"]["compared"] if pair["name"] == "loss")
    assert (pair["a"], pair["b"]) == (second["champion_metrics"]["loss"], second["metrics"]["loss"])
    assert found["metrics"]["gates"] == [first["gate"], second["gate"]]
    back = ror.json("diff", "loans", "v2", "v1")
    assert (back["data"]["removed"], back["data"]["rows"]) == (found["data"]["added"], found["data"]["rows"][::-1])


def test_another_specification(grown: Model, ror: Ror) -> None:
    """What was changed in the model's file is told by its dotted name."""
    grown.write_spec(QUICK.replace("20", "15") + "[policy]\nmax_age = 5\n")
    assert ror("run", "loans", "--action", "retrain", "--reason", "smaller") == 0, ror.err
    assert ror("diff", "loans", "v2", "v3") == 0
    text = section(ror.out, "specification")
    assert re.search(r"pipeline\.parameters\.max_iter +20 → 15", text)
    assert re.search(r"policy\.max_age +16 → 5", text)
    assert "Identical: data" in ror.out


OWN = """from tasks.core.training import tabular

STEPS = 5  # {remark}


def pipeline(task, seed):
    return tabular(task, seed, max_iter=STEPS)
"""


def test_own_code(grown: Model, ror: Ror, monkeypatch: pytest.MonkeyPatch) -> None:
    """What was changed in modules of the project's own is shown line by line."""
    monkeypatch.setattr("sys.path", [*sys.path])
    (grown.root / "src").mkdir()
    grown.write_spec('[pipeline]\nfactory = "compared_code:pipeline"\n')
    path = grown.root / "deployments" / "loans.toml"
    path.write_text('code = ["src"]\n' + path.read_text())
    for remark in ("a few", "plenty"):
        (grown.root / "src" / "compared_code.py").write_text(OWN.format(remark=remark))
        assert ror("run", "loans", "--action", "retrain", "--reason", remark) == 0, ror.err
    assert ror("diff", "loans", "v3", "v4") == 0
    assert re.search(r"compared_code +lines: 1 added, 1 removed", section(ror.out, "own code"))
    assert "-STEPS = 5  # a few\n" in ror.out and "+STEPS = 5  # plenty\n" in ror.out


def test_private_values_are_not_shown(grown: Model, ror: Ror) -> None:
    """Columns that are private by now are hidden in what was recorded before, in words and in JSON."""
    grown.deliver("003", make_rows(seed=3).assign(city="Secretville", age=777))
    assert ror("accept", "loans", "003", "--reason", "it is so") == 0, ror.err
    assert ror("run", "loans", "--action", "retrain", "--reason", "more") == 0, ror.err
    assert ror("diff", "loans", "v2", "v3") == 0
    assert re.search(r"(?<![\d.])777\b", section(ror.out, "input schema")) and "Secretville" in ror.out
    path = grown.root / "deployments" / "loans.toml"
    path.write_text(path.read_text().replace("settle = 0\n", 'settle = 0\nprivate = ["city", "age"]\n'))
    assert ror("diff", "loans", "v2", "v3") == 0
    schema = section(ror.out, "input schema")
    assert "1 category new (private)" in schema and "another range (private)" in schema
    for text in (ror.out, json.dumps(ror.json("diff", "loans", "v2", "v3")["schema"])):
        assert not re.search(r"Secretville|(?<![\d.])777\b", text)


def test_a_version_and_itself(grown: Model, ror: Ror) -> None:
    """Everything is identical."""
    assert ror("diff", "loans", "v2", "v2") == 0
    every = "made, data, input schema, specification, environment, own code, importance, metrics, files"
    assert f"Identical: {every}." in ror.out


@pytest.mark.parametrize("words", [("v1", "v9"), ("v9", "v1"), ("v9",)])
def test_an_unknown_version(grown: Model, ror: Ror, words: tuple[str, ...]) -> None:
    """A version that does not exist is a wrong call, which names those that do."""
    assert ror("diff", "loans", *words) == 2
    assert "loans has no such version. Versions: v1, v2" in ror.err


def test_removed_files_are_not_known(grown: Model, ror: Ror) -> None:
    """Where files of a version are gone, what they held is said not to be known, and the rest is told."""
    for name in ("contract.json", "evaluation.json", "calibration.json"):
        (grown.root / "artifacts/loans/versions/00000001" / name).unlink()
    assert ror("diff", "loans", "v1", "v2") == 0
    assert "Not known: input schema: its file is no longer in the store." in ror.out
    assert "Not known: importance: its files are no longer in the store." in ror.out
    assert "metrics" in ror.out and "batches added" in ror.out


def test_altered_files_are_refused(grown: Model, ror: Ror) -> None:
    """What was altered is not compared."""
    path = grown.root / "artifacts/loans/versions/00000001/contract.json"
    path.write_text(path.read_text().replace("Oslo", "Rome"))
    assert ror("diff", "loans", "v1", "v2") == 4
    assert "contract.json is damaged or was replaced" in ror.err
