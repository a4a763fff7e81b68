"""The README tells the truth: every command in it runs, its example file is valid, its tables are complete."""

from __future__ import annotations

import re
import shlex
import shutil
import sys
import tomllib
from pathlib import Path

import pytest

from flows.cli import app, demo
from tasks.core.spec import PolicySpec, parse_spec
from tasks.core.types import Outcome
from tasks.core.versions.registry import Registry
from tests.helpers.model import make_rows
from tests.helpers.ror import play

REPOSITORY = Path(__file__).resolve().parents[1]
README = (REPOSITORY / "README.md").read_text(encoding="utf-8")

INSTALL_AND_RUN = "python3 -m venv .venv && . .venv/bin/activate && pip install -e '.[demo]' && ror demo"
INSTALL_AND_TEST = "pip install -e '.[dev]' && pytest"
ELSEWHERE = {
    INSTALL_AND_RUN: "its parts are what .ci/run and test_demo do",
    INSTALL_AND_TEST: "the last line of .ci/run",
    "ror serve": "tests/flows/server/test_serve.py",
    "ror backtest flights": "tests/flows/test_backtest.py",
    "ror doctor": "tests/flows/server/test_doctor.py",
}


def commands() -> list[str]:
    blocks = re.findall(r"```bash\n(.*?)```", README, flags=re.S)
    return [line for block in blocks for line in block.splitlines() if line.strip()]


def test_two_commands_stand_first() -> None:
    """The first command installs and runs the main job, the second installs and tests; CI ends with the second."""
    assert commands()[:2] == [INSTALL_AND_RUN, INSTALL_AND_TEST]
    assert (REPOSITORY / ".ci/run").read_text().rstrip().endswith(INSTALL_AND_TEST)


@pytest.mark.slow
@pytest.mark.usefixtures("prefect")
def test_every_command_runs(
    tmp_path: Path, year: list[demo.Month], monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Each `ror` command of the README exits 0 after the demo, in the order it stands there."""
    play(tmp_path, year[:4])
    shutil.copy(tmp_path / "data/flights/batches/2013-04.parquet", tmp_path / "december.in.parquet")
    for number in (1, 2):
        make_rows(seed=number).rename(columns={"y": "defaulted"}).to_parquet(tmp_path / f"2026-0{number}.parquet")
    monkeypatch.chdir(tmp_path)
    wanted = [line for line in commands() if line not in ELSEWHERE]
    assert len(wanted) >= 6
    for line in wanted:
        words = shlex.split(line.replace("data/flights/batches/2013-12.parquet", "december.in.parquet"))
        assert words[0] == "ror", line
        monkeypatch.setattr(sys, "argv", words)
        with pytest.raises(SystemExit) as ended:
            app.main()
        assert not ended.value.code, (line, capsys.readouterr())
    answers = Registry("artifacts").load_current("flights").predict(year[4].flights)
    assert answers.probabilities is not None and answers.probabilities.shape == (len(year[4].flights), 2)


def test_example_file_is_valid() -> None:
    """The model file that the README shows is accepted as it stands."""
    money, example, code, schedule = re.findall(r"```toml\n(.*?)```", README, flags=re.S)
    for more in (code, schedule):
        parse_spec({**tomllib.loads(example), **tomllib.loads(more)}, "README.md")
    assert PolicySpec.model_validate(tomllib.loads(money)["policy"]).retrain == 12
    spec = parse_spec(tomllib.loads(example), "README.md")
    assert spec.policy.max_age == 16


def test_every_state_is_explained() -> None:
    """The table of final states has every one of them."""
    rows = re.findall(r"^\| `(\w+)` \| (\w+) \|", README, flags=re.M)
    assert {name: kind == "failed" for name, kind in rows} == {state.value: state.failed for state in Outcome}


def test_every_exit_code_is_explained() -> None:
    """The table of exit codes has each code that an error or an outcome ends with."""
    from flows.server.launch import EXIT_CODES
    from tasks.core import errors

    defined = {
        cls.exit_code for cls in vars(errors).values() if isinstance(cls, type) and issubclass(cls, errors.RorError)
    }
    explained = {int(code) for code in re.findall(r"^\| (\d) \|", README, flags=re.M)}
    assert defined | set(EXIT_CODES.values()) == explained


PLACES = ("/opt/ror", "/srv/ror", "/backup", "/tmp")
"""Folders of a server or container that the guides speak of, whatever machine they are read on."""


def test_nothing_names_a_path_of_one_machine() -> None:
    """No document or source names somebody's home, or the folder that this checkout is in."""
    homes = re.compile(r"/home/\w+/|/Users/\w+/|/root/")
    here = REPOSITORY.as_posix() + "/"
    texts = [path for folder in ("flows", "tasks", "deployments") for path in (REPOSITORY / folder).rglob("*.*")]
    texts += [REPOSITORY / name for name in ("README.md", "CHANGELOG.md", "CONTRIBUTING.md", "pyproject.toml")]
    for path in (path for path in texts if path.suffix != ".pyc"):
        text = path.read_text(encoding="utf-8")
        assert not homes.search(text), path
        assert here in {f"{place}/" for place in PLACES} or here not in text, path
