"""What a version was made with, and whether that is what is installed here."""

from __future__ import annotations

import importlib.metadata
import os
import platform
import subprocess
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from pydantic import SerializerFunctionWrapHandler, model_serializer

from tasks.core.errors import EnvironmentMismatch
from tasks.core.records import ITSELF, from_json, installed_release, to_json
from tasks.core.versions import opened, own_code
from tasks.core.versions.manifest import BESIDE

MINOR = ("scikit-learn", "numpy", "scipy")
"""Always recorded, with those that the pipeline's own classes come from: a pickled estimator is promised to load in
no other major.minor release."""

INFORMATIVE = ("joblib", "pandas", ITSELF)
"""Recorded for people: other releases of these read the same pickles, and the known answers are asked again."""


@dataclass(frozen=True, slots=True)
class Environment:
    """What a version was made with."""

    python: str
    platform: str
    distributions: Mapping[str, str]
    """Name and version of every installed distribution that the pipeline's bytes name."""
    sources: Mapping[str, str]
    """sha256 of the source of those modules, and of what they import, that belong to no distribution."""
    git_commit: str | None
    """Followed by DIRTY where tracked files, or the code, were not as that commit has them."""
    files: Mapping[str, str] = field(default_factory=dict)
    """sha256 of the files beside the code that loading or predicting opened, by their path below the folder."""
    read: Mapping[str, str] = field(default_factory=dict)
    """The same of what else a fit opened, and of what lies elsewhere, by their path below the root."""
    configuration: Mapping[str, Any] = field(default_factory=dict)
    """scikit-learn's settings that are not the default ones, as `sklearn.get_config` names them."""

    @model_serializer(mode="wrap")
    def _written(self, fields: SerializerFunctionWrapHandler) -> dict[str, Any]:
        written: dict[str, Any] = fields(self)
        return {name: value for name, value in written.items() if value or name not in LATER}


LATER = ("files", "read", "configuration")
"""Fields that are left out where there is nothing to say, as in the records of earlier releases."""


def environment_of(modules: Iterable[str], root: Path, code: Sequence[Path] = ()) -> Environment:
    """The environment that a pipeline of these modules, some of them in folders of `code`, was fitted in, as far as
    loading it depends on it."""
    modules = tuple(modules)
    distributions = {*MINOR, *INFORMATIVE, *own_code.distributions_of(modules)}
    return Environment(
        python=platform.python_version(),
        platform=platform.platform(),
        distributions={name: importlib.metadata.version(name) for name in sorted(distributions)},
        sources=own_code.digests_of(own_code.texts_of(modules, code)),
        git_commit=_git_commit(root, code),
    )


def recorded_in(record: Mapping[str, Any], where: str) -> Environment:
    """The environment that a manifest records. Raises CorruptObject, naming it, for a record of another shape."""
    return from_json(Environment, to_json(dict(record)), where)


def check_environment(
    recorded: Environment,
    what: str,
    *,
    accepted: Sequence[str] = (),
    texts: Callable[[], Mapping[str, str]] = dict,
    code: Sequence[Path] = (),
    from_record: Collection[str] = (),
) -> tuple[str, ...]:
    """What differs and is left to the known answers: other patch releases, and what a person `accepted`.

    `what` is model and version, `texts` gives the recorded source of its own modules, which are looked for in the
    folders of `code` too. Those that are to be taken `from_record` are not compared. Raises EnvironmentMismatch, naming
    everything else that differs, before anything is unpickled.
    """
    differences, notes = [], []
    installed: dict[str, str | None] = {name: installed_release(name) for name in recorded.distributions}
    installed["Python"] = platform.python_version()
    for name, then in {"Python": recorded.python, **recorded.distributions}.items():
        now = installed[name]
        if now is None or (name not in INFORMATIVE and _minor(now) != _minor(then)):
            differences.append(f"{name} {then}, here {now or 'it is not installed'}")
        elif now != then and name != ITSELF:
            notes.append(f"{name} {then}, here {now}")
    compared = {name: sha256 for name, sha256 in recorded.sources.items() if name not in from_record}
    changed = own_code.changed(compared, code)
    differences += [other_module(module, text) for module, text in changed.items()]
    files = opened.changed(recorded.files, code)
    differences += [other_file(name, sha256) for name, sha256 in files.items()]
    refused = [difference for difference in differences if difference not in accepted]
    if refused:
        raise EnvironmentMismatch(_refusal(what, refused, changed, texts, [*files]), tuple(differences))
    return (*notes, *(f"{difference}, as a person accepted" for difference in differences))


def other_module(module: str, here: str | None) -> str:
    """How a module of one's own that is not what was recorded is named; `here` is its text, None where there is none.
    People accept differences by these very words."""
    if here is None:
        return f"another {module} than here, where there is none"
    sha256 = own_code.digests_of({module: here})[module]
    return f"another {module} than here, where its source has changed (sha256 {sha256[:12]})"


def other_file(name: str, here: str | None) -> str:
    """The same of a file beside the code; `here` is its sha256."""
    state = f"its content has changed (sha256 {here[:12]})" if here else "there is none"
    return f"another {name} than here, where {state}"


def is_same(recorded: Environment, notes: Sequence[str]) -> bool:
    """Nothing that could move the last bit of an answer differs."""
    return recorded.platform == platform.platform() and not notes


def _refusal(
    what: str,
    refused: Sequence[str],
    changed: Mapping[str, str | None],
    texts: Callable[[], Mapping[str, str]],
    files: Sequence[str],
) -> str:
    model = what.split()[0]
    lines = [
        f"{what} was made with {'; '.join(refused)}. Restore that (`ror show {what} --requirements`), or retrain here "
        f"(`ror run {model} --action retrain --reason '...'`). If you know that it makes no difference: "
        f"`ror promote {what} --accept-environment --reason '...'` puts it in service all the same, on record."
    ]
    then = texts() if changed else {}
    for module, now in changed.items():
        if now is None:
            lines.append(f'{module}: name its folder in the model\'s file (`code = ["src"]`), or put it on PYTHONPATH.')
        elif module in then:
            lines.append(own_code.difference(module, then[module], now))
    if files:
        lines.append(f"{', '.join(files)}: as kept with the version, in {BESIDE}, where that is not too large.")
    return "\n".join(lines)


def _minor(version: str) -> list[str]:
    return version.split(".")[:2]


DIRTY = "-dirty"
"""As `git describe` writes it."""


def _git_commit(root: Path, code: Sequence[Path]) -> str | None:
    """None where there is no commit, or git does not say soon enough whether everything is committed."""
    commit = _git(root, "rev-parse", "HEAD")
    changes = _git(root, "status", "-s", "-uno")
    new = _git(root, "status", "-s", "--", *map(str, code)) if code else ""
    if not commit or changes is None or new is None:
        return None
    return f"{commit}{DIRTY}" if changes or new else commit


def _git(root: Path, *arguments: str) -> str | None:
    """What git answers; None where it fails."""
    # Without optional locks looking changes nothing in the repository, and stops nobody who commits meanwhile.
    quiet = {**os.environ, "GIT_OPTIONAL_LOCKS": "0"}
    command = ["git", "-C", str(root), *arguments]
    try:
        done = subprocess.run(command, env=quiet, capture_output=True, text=True, timeout=5, check=False)
    except (OSError, subprocess.TimeoutExpired):
        return None
    return done.stdout.strip() if done.returncode == 0 else None
