"""The READMEs tell the truth: each command in them runs, links lead somewhere, tables are complete and what is made is
fresh. deployments/README.md has guides, which tests/deployments follow."""

from __future__ import annotations

import re
import shlex
import shutil
import sys
import tomllib
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import typer

from flows.cli import app, demo
from tasks.core.spec import PolicySpec, parse_spec
from tasks.core.types import Outcome
from tests import reference
from tests.helpers.model import make_rows
from tests.helpers.ror import Ror, play

REPOSITORY = Path(__file__).resolve().parents[1]
README = (REPOSITORY / "README.md").read_text(encoding="utf-8")
READMES = {
    path: (REPOSITORY / path).read_text(encoding="utf-8")
    for path in ("README.md", "flows/README.md", "tasks/README.md", "data/README.md", "artifacts/README.md")
}
"""In the order in which their commands are run, one after the other in one folder."""
GUIDES = (REPOSITORY / "deployments/README.md").read_text(encoding="utf-8")
PAGES = sorted(
    path.relative_to(REPOSITORY).as_posix()
    for path in (*REPOSITORY.glob("*.md"), *REPOSITORY.glob("*/README.md"), *REPOSITORY.glob(".github/**/*.md"))
)

INSTALL_AND_RUN = "python3 -m venv .venv && . .venv/bin/activate && pip install -e '.[demo]' && ror demo"
INSTALL_AND_TEST = "pip install -e '.[dev]' && pytest"
ELSEWHERE = {
    INSTALL_AND_RUN: "tests/flows/cli/test_demo.py",
    INSTALL_AND_TEST: ".ci/run",
    "ror backtest flights": "tests/flows/test_backtest.py",
    "ror doctor": "tests/flows/server/test_doctor.py",
}
"""Commands that are not run here, and what runs them."""


def blocks(text: str, language: str) -> list[str]:
    return re.findall(rf"```{language}\n(.*?)```", text, flags=re.S)


def commands(text: str) -> list[str]:
    return [line for block in blocks(text, "bash") for line in block.splitlines() if line.strip()]


# --- commands ------------------------------------------------------------------------------------------------


def test_two_commands_stand_first() -> None:
    """The first command installs and runs the main job, the second installs and tests; CI ends with the second."""
    assert commands(README)[:2] == [INSTALL_AND_RUN, INSTALL_AND_TEST]
    assert (REPOSITORY / ".ci/run").read_text().rstrip().endswith(INSTALL_AND_TEST)


def test_what_is_not_run_here_is_run_elsewhere() -> None:
    """A command that is left out here is still in a README, and what is said to run it exists."""
    told = {line for text in READMES.values() for line in commands(text)}
    assert {*ELSEWHERE} <= told
    assert all((REPOSITORY / place).is_file() for place in ELSEWHERE.values())


@pytest.mark.slow
@pytest.mark.usefixtures("prefect")
def test_every_command_runs(
    tmp_path: Path, year: list[demo.Month], monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Each `ror` command of the READMEs exits 0 after the demo, in the order it stands there; then the services run."""
    play(tmp_path, year[:4])
    shutil.copy(tmp_path / "data/flights/batches/2013-04.parquet", tmp_path / "december.in.parquet")
    for number in (1, 2):
        make_rows(seed=number).rename(columns={"y": "defaulted"}).to_parquet(tmp_path / f"2026-0{number}.parquet")
    monkeypatch.chdir(tmp_path)
    wanted = [line for text in READMES.values() for line in commands(text) if line not in ELSEWHERE]
    assert len(wanted) >= 20
    for line in wanted:
        words = shlex.split(line.replace("data/flights/batches/2013-12.parquet", "december.in.parquet"))
        assert words[0] == "ror", line
        monkeypatch.setattr(sys, "argv", words)
        with pytest.raises(SystemExit) as ended:
            app.main()
        assert not ended.value.code, (line, capsys.readouterr())
    for text in READMES.values():
        for block in blocks(text, "python"):
            names = {"frame": year[4].flights}
            exec(block, names)
            assert names["answers"].probabilities.shape == (len(year[4].flights), 2)


def loans(number: int, rows: int) -> pd.DataFrame:
    """A month of loans, as the front page shows what comes of them."""
    random = np.random.default_rng(number)
    income = random.lognormal(10.4, 0.45, rows).round(-2)
    amount = (income * random.uniform(0.1, 0.9, rows)).round(-2)
    rate = random.normal(7, 2, rows).clip(2, 16).round(2)
    branch = random.choice(["north", "south", "harbour", "online"], rows, p=[0.3, 0.25, 0.15, 0.3])
    months = random.integers(0, 240, rows)
    risk = 3.5 * (amount / income - 0.5) + 0.45 * (rate - 7) + (branch == "online") - 0.008 * months - 2.4
    defaulted = (random.random(rows) < 1 / (1 + np.exp(-risk))).astype(int)
    seconds = np.sort(random.integers(0, 28 * 24 * 3600, rows))
    return pd.DataFrame({
        "loan_id": np.arange(rows) + number * 100_000,
        "applied_at": pd.Timestamp(f"2026-{number:02d}-01") + pd.to_timedelta(seconds, unit="s"),
        "branch": branch, "income": income, "amount": amount, "interest_rate": rate, "months_as_customer": months,
        "defaulted": defaulted,
    })  # fmt: skip


@pytest.mark.slow
@pytest.mark.usefixtures("prefect")
def test_own_data_end_as_shown(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """What the front page shows of four months of loans is what the commands print, line by line."""
    monkeypatch.chdir(tmp_path)
    ror = Ror(tmp_path, capsys, monkeypatch)
    for number, rows in ((1, 2_400), (2, 2_250)):
        loans(number, rows).to_parquet(f"2026-0{number}.parquet")
    said = []
    for line in blocks(README, "bash")[2].splitlines():
        assert ror(*shlex.split(line)[1:]) == 0, ror.err
        said += ror.out.splitlines()
    shown, blocked = (block.splitlines() for block in blocks(README, "text"))
    assert [line for line in shown if not any(line in each for each in said)] == []

    batches = tmp_path / "data/loans/batches"
    loans(3, 2_310).to_parquet(batches / "2026-03.parquet")
    assert ror("run", "loans") == 0
    calm = "v1 stays: data and performance are as expected"
    assert "Reloaded" in ror.out and calm in ror.out and calm in README
    loans(4, 2_280).drop(columns="interest_rate").to_parquet(batches / "2026-04.parquet")
    assert ror("run", "loans") == 3
    assert [line for line in blocked if line not in ror.out] == []


def test_the_services_are_the_same() -> None:
    """The service on the front page is the one of artifacts/README.md, and uses the stable face."""
    (front,), (page,) = blocks(README, "python"), blocks(READMES["artifacts/README.md"], "python")
    assert front == page and front.startswith("from tasks.core.serving import Registry\n")


# --- what is listed is complete ------------------------------------------------------------------------------


def test_the_front_page_is_short() -> None:
    """A newcomer reads at most 150 lines."""
    assert len(README.splitlines()) <= 150


def test_example_files_are_valid() -> None:
    """The model's file that the guides show is accepted as it stands, also with the parts that are shown apart."""
    example, *parts = blocks(GUIDES, "toml")
    assert parse_spec(tomllib.loads(example), "README.md").policy.max_age == 16
    for part in parts:
        parse_spec({**tomllib.loads(example), **tomllib.loads(part)}, "README.md")
    (money,) = blocks(READMES["tasks/README.md"], "toml")
    assert PolicySpec.model_validate(tomllib.loads(money)["policy"]).retrain == 12


@pytest.mark.parametrize("name", reference.TABLES)
def test_what_is_made_is_fresh(name: str) -> None:
    """Tables that are made from the program are what it would make now; else: `python -m tests.reference --write`."""
    text = (REPOSITORY / name).read_text(encoding="utf-8")
    assert text == reference.written(text, reference.TABLES[name]())


def test_every_command_and_option_is_told() -> None:
    """Whatever Typer has registered is in flows/README.md, which is found out here in another way than it is made."""
    page = READMES["flows/README.md"]
    for path, command in registered(typer.main.get_command(app.app), "ror"):
        (line,) = re.findall(rf"^\| `{path}[ `].*$", page, flags=re.M)
        for parameter in (each for each in command.params if each.param_type_name == "option"):
            assert all(f"`{name}`" in line or f"`{name}`" in page.rpartition("\n## ")[2] for name in parameter.opts)


def registered(command: typer.core.TyperGroup, path: str) -> Iterator[tuple[str, typer.core.TyperCommand]]:
    for name in command.list_commands(None):
        inner = command.get_command(None, name)
        yield from registered(inner, f"{path} {name}") if hasattr(inner, "commands") else [(f"{path} {name}", inner)]


def test_every_state_is_explained() -> None:
    """The table of final states has every one of them."""
    rows = re.findall(r"^\| `(\w+)` \| (\w+) \|", READMES["flows/README.md"], flags=re.M)
    assert {name: kind == "failed" for name, kind in rows} == {state.value: state.failed for state in Outcome}


def test_every_exit_code_is_explained() -> None:
    """The table of exit codes has each code that an error or an outcome ends with."""
    from flows.server.launch import EXIT_CODES
    from tasks.core import errors

    defined = {
        cls.exit_code for cls in vars(errors).values() if isinstance(cls, type) and issubclass(cls, errors.RorError)
    }
    explained = {int(code) for code in re.findall(r"^\| (\d+) \|", READMES["flows/README.md"], flags=re.M)}
    assert {*defined, *EXIT_CODES.values(), app.INTERRUPTED} == explained


def test_the_map_has_every_room() -> None:
    """The map of tasks/core names each layer, from the roof down, as the import contract has them."""
    contracts = tomllib.loads((REPOSITORY / "pyproject.toml").read_text())["tool"]["importlinter"]["contracts"]
    (layers,) = [each["layers"] for each in contracts if each.get("containers") == ["tasks.core"]]
    rooms = READMES["tasks/README.md"].rpartition("\n## The map")[2]
    told = [name for cell in re.findall(r"^\| (`.*?) \|", rooms, flags=re.M) for name in re.findall(r"`(\w+)`", cell)]
    assert told == [name for layer in layers for name in layer.split(" | ")]


# --- links ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("page", PAGES)
def test_links_lead_somewhere(page: str) -> None:
    """A link to a file or a chapter of this repository finds it."""
    folder = (REPOSITORY / page).parent
    text = re.sub(r"```.*?```", "", (REPOSITORY / page).read_text(encoding="utf-8"), flags=re.S)
    for target in re.findall(r"\]\(([^)\s]+)\)", text):
        if re.match(r"https?:", target):
            continue
        path, _, anchor = target.partition("#")
        found = (folder / path).resolve() if path else REPOSITORY / page
        assert found.exists() and found.is_relative_to(REPOSITORY), target
        assert not anchor or anchor in anchors(found.read_text(encoding="utf-8")), target


def anchors(text: str) -> set[str]:
    """What hosts make of the headings: lower case, hyphens for spaces, no other punctuation."""
    titles = re.findall(r"^#+ (.+)$", re.sub(r"```.*?```", "", text, flags=re.S), flags=re.M)
    return {re.sub(r"[^\w\- ]", "", title.lower()).replace(" ", "-") for title in titles}


@pytest.mark.parametrize("page", [page for page in PAGES if page != "CHANGELOG.md"])
def test_files_that_are_named_exist(page: str) -> None:
    """Source files that a page sends its reader to are where it says."""
    named = re.findall(
        r"`((?:flows|tasks|tests|deployments)/[\w./]+)`", (REPOSITORY / page).read_text(encoding="utf-8")
    )
    assert [path for path in named if not (REPOSITORY / path).exists()] == []


PLACES = ("/opt/ror", "/srv/ror", "/backup", "/tmp")
"""Folders of a server or container that the guides speak of, whatever machine they are read on."""


def test_nothing_names_a_path_of_one_machine() -> None:
    """No document or source names somebody's home, or the folder that this checkout is in."""
    homes = re.compile(r"/home/\w+/|/Users/\w+/|/root/")
    here = REPOSITORY.as_posix() + "/"
    texts = [path for folder in ("flows", "tasks", "deployments") for path in (REPOSITORY / folder).rglob("*.*")]
    texts += [REPOSITORY / name for name in (*PAGES, "pyproject.toml")]
    for path in (path for path in texts if path.suffix != ".pyc"):
        text = path.read_text(encoding="utf-8")
        assert not homes.search(text), path
        assert here in {f"{place}/" for place in PLACES} or here not in text, path
