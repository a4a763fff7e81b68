"""The proof that another process can load a candidate, before it becomes a version.

`python -m tasks.core.training.proof` reads the candidate's files from its standard input, loads them as a worker
would, asks for the known answers, and prints what was wrong and which files were opened for it.
"""

from __future__ import annotations

import json
import os
import pickle
import subprocess
import sys
import tempfile
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

from tasks.core.errors import EnvironmentMismatch, RorError, TrainingError
from tasks.core.versions import opened
from tasks.core.versions.environment import Environment, check_environment
from tasks.core.versions.manifest import Candidate
from tasks.core.versions.own_code import make_importable
from tasks.core.versions.persistence import MOVE_IT

ENVIRONMENT = ("PATH", "HOME", "LANG", "TZ", "LD_LIBRARY_PATH", "PYTHONPATH", "SYSTEMROOT")
"""Variables that the clean process has; the last one is what Python needs on Windows."""
SECONDS = 600
"""After which a pipeline that does not finish loading is given up."""


@dataclass(frozen=True)
class _Question:
    """What goes to the clean process."""

    files: dict[str, bytes]
    form: str
    types: tuple[str, ...]
    environment: Environment
    code: tuple[Path, ...]
    """Folders of the model's own modules."""


def prove(
    candidate: Candidate, code: Iterable[Path], types: Sequence[str] = (), environment: Sequence[str] = ()
) -> frozenset[str]:
    """Load a candidate in a clean process and ask for its known answers; the paths of the files that it opened.

    That process sees what a worker sees: installed packages, PYTHONPATH and the folders of `code`; neither the current
    folder nor what this process has in memory, and of its environment ENVIRONMENT and the variables that are named.
    Raises TrainingError saying what failed there.
    """
    needed = ("contract.json", "probe.parquet", f"pipeline.{candidate.form}")
    files = {name: data for name, data in candidate.files().items() if name in needed}
    question = _Question(files, candidate.form, tuple(types), candidate.environment, tuple(code))
    quiet = ["-B"] if sys.dont_write_bytecode else []  # of the environment it has a service's only
    try:
        with tempfile.TemporaryDirectory() as folder:
            done = subprocess.run(
                [sys.executable, "-P", *quiet, "-m", "tasks.core.training.proof"],
                input=pickle.dumps(question),
                capture_output=True,
                timeout=SECONDS,
                check=False,
                cwd=folder,
                env=_clean(environment),
            )
    except subprocess.TimeoutExpired:
        raise TrainingError(f"The pipeline did not load within {SECONDS} s in a clean process.") from None
    if done.returncode:
        said = done.stdout.decode(errors="replace").strip() or done.stderr.decode(errors="replace").strip()[-2000:]
        said = said or f"it ended with {done.returncode}."
        left = sorted({*os.environ} - {*ENVIRONMENT, *environment})
        if missing := [name for name in left if f"'{name}'" in said]:  # as a KeyError of os.environ writes it
            said = f"{said} {_not_there(missing)}"
        raise TrainingError(f"The pipeline was fitted, but a clean process cannot use it: {said}")
    try:
        return frozenset(json.loads(done.stdout))
    except ValueError:
        raise TrainingError(
            "The pipeline was fitted, but the clean process ended without an answer: does its code end the process?"
        ) from None


def _clean(names: Iterable[str]) -> dict[str, str]:
    """The environment of the clean process. What PYTHONPATH names is found from any folder."""
    kept = {name: os.environ[name] for name in (*ENVIRONMENT, *names) if name in os.environ}
    if path := kept.get("PYTHONPATH"):
        kept["PYTHONPATH"] = os.pathsep.join(os.path.abspath(entry) for entry in path.split(os.pathsep) if entry)  # noqa: PTH100
    return kept


def _not_there(names: Sequence[str]) -> str:
    listed = ", ".join(f'"{name}"' for name in names)
    return (
        f"Of the environment it has what a service has: {', '.join(ENVIRONMENT)}. If every service is going to have "
        f"{', '.join(names)} too, say so in the model's file: [pipeline] environment = [{listed}]."
    )


def _main() -> int:
    # The parent's pickle names this module by its real name, whatever `-m` calls it here.
    from tasks.core.versions import loading

    question = pickle.load(sys.stdin.buffer)
    # What modules print, or processes that they start, is not an answer: it goes where errors go.
    answer = os.dup(1)
    os.dup2(2, 1)
    make_importable(question.code)
    wrong = ""
    with opened.noted() as paths:
        try:
            check_environment(question.environment, "It", code=question.code)
            with opened.by_pipeline():
                settings = question.environment.configuration
                loading.revive(question.files, question.form, "It", question.types, exact=True, settings=settings)
        except EnvironmentMismatch as error:
            wrong = f"there it finds {'; '.join(error.differences)}. {MOVE_IT}"
        except RorError as error:
            wrong = str(error)
    with os.fdopen(answer, "w", encoding="utf-8") as out:
        out.write(wrong or json.dumps(sorted(paths)))
    return 1 if wrong else 0


if __name__ == "__main__":
    sys.exit(_main())
