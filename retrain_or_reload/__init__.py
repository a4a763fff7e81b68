"""The way in: this program's packages are called `flows` and `tasks`, and a folder of the user's may hold the same.

Python imports whichever comes first on its path, so that somebody else's module would be executed in place of ours.
This package, whose name nobody else has, looks before anything of them is imported.
"""

from __future__ import annotations

import os
import sys
from importlib.machinery import PathFinder
from pathlib import Path

OURS = ("flows", "tasks")
EXIT_CODE = 2
"""Something on this machine is set in a way that cannot be used."""


def stranger() -> str | None:
    """One line about a module that hides one of this program's; None where there is none. Nothing is imported."""
    here = Path(__file__).parent.resolve().parent  # not the file's own link: some installers link file by file
    for name in OURS:
        held = sys.modules.get(name)
        spec = held.__spec__ if held is not None else PathFinder.find_spec(name)
        folders = [Path(folder) for folder in (spec.submodule_search_locations or ())] if spec else []
        if spec is not None and here / name not in [folder.resolve() for folder in folders]:
            where = Path(spec.origin) if spec.origin else folders[0] if folders else Path(name)
            where = where.parent if where.name == "__init__.py" else where
            return (
                f"{where} has the name of a package of this program, `{name}`, and comes before it on Python's path. "
                f"Nothing of it was run. Rename it, or take {where.parent} off the path: it is in PYTHONPATH, or it is "
                "the folder of the script, which `python -P` leaves out."
            )
    return None


def main() -> None:
    """`ror`. Where a module of the user's hides one of this program's it ends with that, in one line."""
    if said := stranger():
        print(f"ror: {said}", file=sys.stderr)
        sys.exit(EXIT_CODE)
    os.environ.setdefault("PYTHONSAFEPATH", "1")  # nor in processes that are started from here, by their folder
    from flows.cli.app import main as ror

    ror()
