"""The proof that another process can load a candidate, before it becomes a version.

`python -m tasks.core.training.proof` reads the candidate's files from its standard input, loads them as a worker
would, asks for the known answers, and prints what was wrong.
"""

from __future__ import annotations

import contextlib
import pickle
import subprocess
import sys
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

from tasks.core.errors import EnvironmentMismatch, RorError, TrainingError
from tasks.core.versions.environment import Environment, check_environment
from tasks.core.versions.manifest import Candidate
from tasks.core.versions.own_code import make_importable
from tasks.core.versions.persistence import MOVE_IT

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


def prove(candidate: Candidate, code: Iterable[Path], types: Sequence[str] = ()) -> None:
    """Load a candidate in a clean process and ask for its known answers.

    That process sees what a worker sees: installed packages, PYTHONPATH and the folders of `code`; neither the current
    folder nor what this process has in memory. Raises TrainingError saying what failed there.
    """
    needed = ("contract.json", "probe.parquet", f"pipeline.{candidate.form}")
    files = {name: data for name, data in candidate.files().items() if name in needed}
    question = _Question(files, candidate.form, tuple(types), candidate.environment, tuple(code))
    try:
        done = subprocess.run(
            [sys.executable, "-P", "-m", "tasks.core.training.proof"],
            input=pickle.dumps(question),
            capture_output=True,
            timeout=SECONDS,
            check=False,
        )
    except subprocess.TimeoutExpired:
        raise TrainingError(f"The pipeline did not load within {SECONDS} s in a clean process.") from None
    if done.returncode:
        said = done.stdout.decode(errors="replace").strip() or done.stderr.decode(errors="replace").strip()[-2000:]
        said = said or f"it ended with {done.returncode}."
        raise TrainingError(f"The pipeline was fitted, but a clean process cannot use it: {said}")


def _main() -> int:
    # The parent's pickle names this module by its real name, whatever `-m` calls it here.
    from tasks.core.versions import loading

    question = pickle.load(sys.stdin.buffer)
    make_importable(question.code)
    wrong = ""
    with contextlib.redirect_stdout(sys.stderr):  # what modules print when they are imported is not an answer
        try:
            check_environment(question.environment, "It", code=question.code)
            loading.revive(question.files, question.form, "It", question.types, exact=True)
        except EnvironmentMismatch as error:
            wrong = f"there it finds {'; '.join(error.differences)}. {MOVE_IT}"
        except RorError as error:
            wrong = str(error)
    print(wrong)
    return 1 if wrong else 0


if __name__ == "__main__":
    sys.exit(_main())
