"""What importing brings along, and who may import whom."""

from __future__ import annotations

import ast
import re
import shutil
import subprocess
import sys
import textwrap
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]


def run(*command: str, cwd: Path = ROOT) -> str:
    """The output of a fresh process; it must succeed."""
    done = subprocess.run(command, cwd=cwd, capture_output=True, text=True, timeout=50, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def brought_in(statement: str, *packages: str) -> list[str]:
    """Those of the packages that a fresh interpreter has loaded after the statement."""
    script = f"{statement}\nimport sys\nprint(*[name for name in {packages!r} if name in sys.modules])"
    return run(sys.executable, "-c", script).split()


def test_a_service_needs_no_web_and_no_training() -> None:
    """A process that only serves loads neither Prefect, Evidently, scikit-learn nor anything of the web."""
    heavy = ("prefect", "evidently", "sklearn", "fastapi", "starlette", "uvicorn", "litestar", "plotly", "cryptography")
    assert brought_in("import tasks.core.serving", *heavy) == []


def test_looking_is_quick() -> None:
    """`ror status` loads nothing that takes long to import."""
    heavy = ("prefect", "evidently", "sklearn", "pandas", "pyarrow", "numpy", "joblib", "psutil", "cryptography")
    assert brought_in("from flows.cli.app import app", *heavy) == []


def test_evidently_is_loaded_when_it_measures() -> None:
    """Importing the heaviest modules of the core does not load Evidently: that waits until it measures something."""
    statement = "import tasks.core.run.assess, tasks.core.checks.performance, tasks.core.training.challenger"
    assert brought_in(statement, "evidently", "prefect") == []


def test_a_foreign_folder_is_no_obstacle(tmp_path: Path) -> None:
    """The packages are found from any folder, also one that has folders called tasks and flows."""
    for name in ("tasks", "flows"):
        (tmp_path / name).mkdir()
    script = "import tasks.core.serving, flows.cli; print(tasks.core.serving.__file__)"
    assert run(sys.executable, "-c", script, cwd=tmp_path).strip() == str(ROOT / "tasks" / "core" / "serving.py")


def test_other_systems() -> None:
    """What only Linux or Unix has is not needed to import what runs, serves and looks; memory is measured all the same,
    and the doctor says in one line what is missing."""
    script = """
        import os, signal, sys
        import psutil  # which needs it on Linux
        sys.modules["resource"] = None
        for name in ("SIGALRM", "setitimer", "pthread_sigmask"):
            delattr(signal, name)
        del os.fork, os.register_at_fork
        import flows.cli.app, flows.server.launch, tasks.core.run.assess, tasks.core.serving
        from tasks.core.doctor import deployment
        from tasks.core.training import challenger
        print(challenger._peak_memory() > 10, *[found.text for found in deployment.system()], sep="|")
    """
    measured, lacks = run(sys.executable, "-c", textwrap.dedent(script)).strip().split("|")
    assert measured == "True" and "no timer that interrupts a wait" in lacks


def test_the_layers_are_kept() -> None:
    """Flows use tasks, tasks use the core, never the other way round; Evidently has one importer."""
    output = run(str(Path(sys.executable).with_name("lint-imports")))
    assert "0 broken" in output


@pytest.mark.parametrize(
    ("module", "line", "broken"),
    [
        ("tasks/core/data/files.py", "import tasks.core.run.work", "core: each package on its own floor BROKEN"),
        ("tasks/core/text.py", "import rich", "core knows neither Prefect nor a terminal BROKEN"),
        ("tasks/core/versions/loaded.py", "import tasks.core.checks.drift", "a service needs no web"),
        ("tasks/core/run/assess.py", "import evidently", "Evidently is imported by one module BROKEN"),
    ],
)
def test_a_wrong_import_is_noticed(tmp_path: Path, module: str, line: str, broken: str) -> None:
    """The contracts can fail: one line in a copy of the program breaks the one that it should break."""
    for name in ("flows", "tasks"):
        shutil.copytree(ROOT / name, tmp_path / name, ignore=shutil.ignore_patterns("__pycache__"))
    shutil.copy(ROOT / "pyproject.toml", tmp_path)
    with (tmp_path / module).open("a") as file:
        file.write(f"{line}\n")
    command = [str(Path(sys.executable).with_name("lint-imports")), "--no-cache"]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, timeout=50, check=False)
    assert done.returncode == 1 and broken in " ".join(done.stdout.split()), done.stdout


def test_no_test_module_imports_another() -> None:
    """What several tests share is in tests/helpers: a test module or a conftest is nobody's library."""
    wrong = []
    for path in sorted((ROOT / "tests").rglob("*.py")):
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.ImportFrom) and (node.module or "").startswith("tests."):
                names = [*str(node.module).split("."), *(alias.name for alias in node.names)]
                wrong += [
                    f"{path.relative_to(ROOT)}:{node.lineno}" for name in names if re.match("test_|conftest", name)
                ]
    assert wrong == []
