"""A project's own code: modules that belong to no installed package. A version keeps their text.

An installed package has a version that says which code it is; a module in a folder, or one that is installed for
editing, has only its text.
"""

from __future__ import annotations

import ast
import difflib
import hashlib
import importlib.metadata
import json
import sys
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from functools import cache, lru_cache
from importlib.abc import InspectLoader, MetaPathFinder
from importlib.machinery import ModuleSpec, PathFinder
from importlib.util import spec_from_loader
from pathlib import Path
from typing import Any

from tasks.core.errors import RorError

OURS = ("tasks", "flows")
"""Of this program: recorded by its version."""

LIBRARIES = ("sklearn", "numpy", "scipy", "joblib", "pandas")
"""Of most pipelines: known without a look at every installed package, which takes a tenth of a second."""

DIFF_LINES = 40

UNREADABLE = "\N{REPLACEMENT CHARACTER}"
"""In the text of a module that is not UTF-8, which only its file has as it is."""


_ADDED: set[str] = set()
"""Folders of models that were put on the search path here."""


def make_importable(folders: Iterable[Path]) -> None:
    """Add folders to the end of this process's search path, so that nothing that is installed is hidden by them."""
    for folder in map(str, folders):
        if folder not in sys.path:
            sys.path.append(folder)
            _ADDED.add(folder)


def search_path(folders: Sequence[Path]) -> list[str]:
    """Where modules of a model with these folders are looked for: not in those of other models."""
    own = [str(folder) for folder in folders]
    others = _ADDED - {*own}
    path = [entry for entry in sys.path if entry not in others]
    return path + [folder for folder in own if folder not in path]


def put_ahead(folders: Sequence[Path]) -> list[str]:
    """Let these folders come before those of other models on the search path, which processes that are started now
    take over. What was added for it is for `take_back`; nothing that is on the path is moved."""
    own = [str(folder) for folder in folders]
    others = _ADDED - {*own}
    place = next((number for number, entry in enumerate(sys.path) if entry in others), len(sys.path))
    added = [folder for folder in own if folder not in sys.path[:place]]
    sys.path[place:place] = added
    return added


def take_back(added: Iterable[str]) -> None:
    """Each of these folders is on the search path once less: the first time that it is."""
    for folder in added:
        if folder in sys.path:
            sys.path.remove(folder)


def texts_of(modules: Iterable[str], code: Sequence[Path] = ()) -> dict[str, str]:
    """The source of these modules and of all that they import, as far as it belongs to no installed package, by name.

    They are looked for where a model with the folders `code` finds them. Imports are read from the text, also those
    inside functions. Those under `if TYPE_CHECKING:` are left out, and what is imported by a computed name is not seen.
    """
    return _reached(modules, is_own, code)


def texts_with_program(modules: Iterable[str], code: Sequence[Path] = ()) -> dict[str, str]:
    """The source that `texts_of` gives, and that of this program's modules.

    Raises RorError for a module of this program that is imported and has no source here: which code it is would be
    unknown.
    """

    def absent(module: str) -> None:
        if _is_ours(module):
            raise RorError(
                f"The source of {module}, a module of this program, is not found: is the installation complete, with "
                "its .py files?"
            )

    return _reached(modules, lambda module: _is_ours(module) or is_own(module), code, absent)


def libraries_of(texts: Mapping[str, str]) -> set[str]:
    """Names of the installed distributions that these sources import, those of LIBRARIES and this program left out."""
    names = (name for module, text in texts.items() for name, _ in _imports(module, text, is_package=False))
    return distributions_of(name for name in names if not _is_ours(name))


def digests_of(texts: Mapping[str, str]) -> dict[str, str]:
    """sha256 of each text."""
    return {name: hashlib.sha256(text.encode()).hexdigest() for name, text in texts.items()}


def text_here(module: str, code: Sequence[Path] = ()) -> str | None:
    """A module's source as it would be imported here, None where there is none."""
    path = file_of(module, code)
    return _text(path) if path else None


def even(text: str) -> str:
    """A text with the line ends of this interpreter: those of a check-out on another system change no code."""
    return text.replace("\r\n", "\n").replace("\r", "\n")


def changed(digests: Mapping[str, str], code: Sequence[Path] = ()) -> dict[str, str | None]:
    """The source here of those modules whose digest is another one, line ends aside; None where there is none."""
    found = {}
    for module, digest in digests.items():
        text = text_here(module, code)
        if text is None or digest not in _spellings(text):
            found[module] = text
    return found


def _spellings(text: str) -> set[str]:
    """Digests of a text as it is, and with the line ends of either system."""
    lines = even(text)
    return {*digests_of({"here": text, "lf": lines, "crlf": lines.replace("\n", "\r\n")}).values()}


def brings_along(version: int, modules: Iterable[str]) -> str:
    """What people are told of a version whose modules are imported from its record."""
    names = ", ".join(modules)
    return (
        f"v{version} goes on with its recorded {names}: here it is another, or none. The next version has what is here."
    )


class Recorded(MetaPathFinder, InspectLoader):
    """Imports modules from texts: those that were looked at, whatever a file or its byte code holds meanwhile. The
    `tops`, top-level names, that have no text come from the folders of `code`, whatever another model has there."""

    def __init__(self, texts: Mapping[str, str], code: Sequence[Path], tops: Collection[str] = ()):
        self._texts, self._code, self._tops = texts, code, tops

    def find_spec(self, fullname: str, path: Any = None, target: Any = None) -> ModuleSpec | None:
        """Of the modules that have a text, of folders around them that are not here, and of the top-level names."""
        spec = self._of_text(fullname)
        if spec is None and fullname in self._tops:
            spec = PathFinder.find_spec(fullname, search_path(self._code))
            if spec is not None and spec.loader is None:
                # Of folders without `__init__.py`, which would be looked for on the search path of all again.
                spec.submodule_search_locations = [*(spec.submodule_search_locations or ())]
        return spec

    def _of_text(self, fullname: str) -> ModuleSpec | None:
        if fullname not in self._texts:
            around = any(name.startswith(f"{fullname}.") for name in self._texts) and not _folders(fullname, self._code)
            return ModuleSpec(fullname, None, is_package=True) if around else None
        if UNREADABLE in self._texts[fullname]:
            return None
        spec = spec_from_loader(fullname, self, origin=str(self._file(fullname)), is_package=self.is_package(fullname))
        if spec is not None:
            spec.has_location = True  # what lies beside the code is found by `__file__`
            if spec.submodule_search_locations is not None:
                spec.submodule_search_locations.append(str(self._file(fullname).parent))
        return spec

    def get_source(self, fullname: str) -> str:
        """The recorded text."""
        return self._texts[fullname]

    def is_package(self, fullname: str) -> bool:
        """Whether another recorded module, or a folder here, is below it."""
        here = file_of(fullname, self._code)
        return any(name.startswith(f"{fullname}.") for name in self._texts) or bool(here and here.stem == "__init__")

    def _file(self, module: str) -> Path:
        """Where the module is, or would be."""
        folder, name = (self._code[0] if self._code else Path()), module.replace(".", "/")
        below = f"{name}/__init__.py" if self.is_package(module) else f"{name}.py"
        return file_of(module, self._code) or folder / below


def difference(module: str, then: str, now: str | None) -> str:
    """What has changed in a module since, as a unified diff of at most DIFF_LINES lines."""
    lines = list(
        difflib.unified_diff(
            then.splitlines(), (now or "").splitlines(), f"{module}, recorded", f"{module}, here", n=1, lineterm=""
        )
    )
    more = [f"... {len(lines) - DIFF_LINES} more lines"] if len(lines) > DIFF_LINES else []
    return "\n".join([*lines[:DIFF_LINES], *more])


def distributions_of(modules: Iterable[str]) -> set[str]:
    """Names of the installed distributions that modules come from, those of LIBRARIES left out."""
    tops = {module.partition(".")[0] for module in modules} - {*LIBRARIES} - sys.stdlib_module_names
    return {name for top in tops for name in _owners().get(top, ())}


@cache
def _owners() -> Mapping[str, Sequence[str]]:
    return importlib.metadata.packages_distributions()


def _is_ours(module: str) -> bool:
    return module.partition(".")[0] in OURS


def is_own(module: str) -> bool:
    """It belongs to no installed package, so that only its source says which code it is."""
    top = module.partition(".")[0]
    if top in (*OURS, *LIBRARIES, "__main__", *sys.stdlib_module_names):
        return False
    return all(_is_for_editing(name) for name in _owners().get(top, ()))


@cache
def _is_for_editing(distribution: str) -> bool:
    """Its version says nothing of its code (PEP 610)."""
    text = importlib.metadata.distribution(distribution).read_text("direct_url.json")
    return bool(text and json.loads(text).get("dir_info", {}).get("editable"))


def file_of(module: str, code: Sequence[Path] = ()) -> Path | None:
    """The Python file that importing a module would read, None where there is none.

    Nothing is imported for it: `importlib.util.find_spec` would run the packages around the module, before their
    content was looked at.
    """
    package, _, name = module.rpartition(".")
    if package:
        folders = _folders(package, code)
        near = [path for folder in folders for path in (folder / name / "__init__.py", folder / f"{name}.py")]
    else:
        spec = _top(module, code)
        near = [Path(spec.origin)] if spec and spec.origin else []
    return next((path for path in near if path.suffix == ".py" and path.is_file()), None)


def _folders(package: str, code: Sequence[Path]) -> list[Path]:
    """Where the modules of a package are."""
    above, _, name = package.rpartition(".")
    if above:
        return [folder / name for folder in _folders(above, code) if (folder / name).is_dir()]
    spec = _top(package, code)
    return [Path(folder) for folder in (spec.submodule_search_locations or ())] if spec else []


def _top(module: str, code: Sequence[Path]) -> ModuleSpec | None:
    """What an import of a top-level module would find, were it not imported yet: what this process holds may be of
    another model, or older than its file."""
    if module in OURS and module in sys.modules:  # of which there is one
        return sys.modules[module].__spec__
    for finder in sys.meta_path:
        if isinstance(finder, Recorded):
            continue
        path = search_path(code) if finder is PathFinder and code else None
        try:
            spec = finder.find_spec(module, path)
        except (ImportError, ValueError, AttributeError):
            continue
        if spec is not None:
            return spec
    return None


def _text(path: Path) -> str:
    return path.read_bytes().decode("utf-8", errors="replace")  # not read_text: line ends are part of the digest


def _parents(module: str) -> Iterator[str]:
    """`a` and `a.b` of `a.b.c`: importing it runs them, too."""
    while "." in module:
        module = module.rpartition(".")[0]
        yield module


def _reached(
    modules: Iterable[str],
    follow: Callable[[str], bool],
    code: Sequence[Path] = (),
    absent: Callable[[str], None] = lambda _: None,
) -> dict[str, str]:
    """The source of these modules and of all that they import, by name, as far as `follow` says; `absent` is called
    with a module that has none here."""
    found: dict[str, str] = {}
    waiting = [(module, True) for module in modules]
    while waiting:
        name, is_module = waiting.pop()
        if name in found or not follow(name):
            continue
        path = file_of(name, code)
        if path is None:
            if is_module and not _folders(name, code):
                absent(name)
            continue
        found[name] = _text(path)
        waiting += _imports(name, found[name], is_package=path.stem == "__init__")
        waiting += [(parent, True) for parent in _parents(name)]
    return dict(sorted(found.items()))


@lru_cache(maxsize=1024)
def _imports(module: str, text: str, *, is_package: bool) -> tuple[tuple[str, bool], ...]:
    """Every name that a module's text imports, and whether it must be a module; of `from a import b`, `a` must be one,
    and `a.b` may be. Nothing where the text is no Python of this release.

    Kept by the text, as parsing takes by far the longest.
    """
    package = module if is_package else module.rpartition(".")[0]
    try:
        tree = ast.parse(text)
    except (SyntaxError, ValueError):  # imported only where it works, or never: whoever imports it is told
        return ()
    modules, perhaps = set[str](), set[str]()
    for node in _that_run(tree):
        if isinstance(node, ast.Import):
            modules.update(alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            base = node.module or ""
            if node.level:
                above = package.split(".")[: len(package.split(".")) - node.level + 1]
                base = ".".join([*above, *([base] if base else [])])
            modules.add(base)
            perhaps.update(f"{base}.{alias.name}" for alias in node.names)
    return tuple((name, name in modules) for name in sorted(modules | perhaps))


def _that_run(node: ast.AST) -> Iterator[ast.AST]:
    """All below a node but what stands under `if TYPE_CHECKING:`, which no interpreter ever runs."""
    for child in ast.iter_child_nodes(node):
        if isinstance(child, ast.If) and _is_for_types(child.test):
            for other in child.orelse:
                yield other
                yield from _that_run(other)
        else:
            yield child
            yield from _that_run(child)


def _is_for_types(test: ast.expr) -> bool:
    """`TYPE_CHECKING`, or `typing.TYPE_CHECKING`."""
    name = test.id if isinstance(test, ast.Name) else test.attr if isinstance(test, ast.Attribute) else ""
    return name == "TYPE_CHECKING"
