"""The packages that a version was made with, as a file that `pip install -r` accepts."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass

from tasks.core.errors import CorruptObject
from tasks.core.records import ITSELF
from tasks.core.versions.environment import DIRTY
from tasks.core.versions.manifest import Manifest

NAME = re.compile(r"[A-Za-z0-9](?:[A-Za-z0-9._-]*[A-Za-z0-9])?", re.ASCII)
VERSION = re.compile(r"[A-Za-z0-9]+(?:[._+!-][A-Za-z0-9]+)*", re.ASCII)


@dataclass(frozen=True, slots=True)
class Requirements:
    """What it takes to rebuild the environment of a version."""

    model: str
    version: int
    python: str
    platform: str
    requirements: tuple[str, ...]
    """`name==version` of every recorded distribution but this program."""
    program: str | None
    """Version of this program; it is installed as it was here, not from an index."""
    sources: Mapping[str, str]
    """sha256 of the source of modules that belong to no distribution: no package index has them."""
    git_commit: str | None

    @property
    def text(self) -> str:
        """The lines of a requirements file; what pip cannot install is in comments."""
        lines = [
            f"# {self.model} v{self.version}: the packages that its pipeline was made with",
            f"# Python {self.python} on {self.platform}",
        ]
        if self.program:
            lines.append(f"# {ITSELF} {self.program}, installed as it is here")
        lines += [f"# module {module} without a package, sha256 {sha256}" for module, sha256 in self.sources.items()]
        if self.git_commit:
            commit = self.git_commit.removesuffix(DIRTY)
            more = ", with changes that were not committed" if commit != self.git_commit else ""
            lines.append(f"# git commit {commit}{more}")
        # What is recorded must not become an instruction to pip by a line break in it.
        return "\n".join([*(" ".join(line.split()) for line in lines), *self.requirements]) + "\n"


def requirements(manifest: Manifest) -> Requirements:
    """The packages of a version. Raises CorruptObject for an invalid name or version: pip may read it as an option."""
    environment, pins = manifest.environment, []
    distributions = dict(environment["distributions"])
    program = distributions.pop(ITSELF, None)
    for name, version in distributions.items():
        if not (NAME.fullmatch(name) and VERSION.fullmatch(version)):
            raise CorruptObject(
                f"The record of {manifest.model} v{manifest.version} names the distribution {name!r} {version!r}, "
                "which pip cannot install. It was altered: restore it from a backup."
            )
        pins.append(f"{name}=={version}")
    return Requirements(
        model=manifest.model,
        version=manifest.version,
        python=environment["python"],
        platform=environment["platform"],
        requirements=tuple(pins),
        program=program,
        sources=environment.get("sources") or {},
        git_commit=environment.get("git_commit"),
    )
