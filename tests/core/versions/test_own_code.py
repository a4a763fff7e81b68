"""A project's own modules: which belong to a pipeline, and what changed in them."""

from __future__ import annotations

import hashlib
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from tasks.core.errors import RorError
from tasks.core.versions import own_code


@pytest.fixture
def code(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """A folder of modules on the search path: `desk_features` uses `desk_helpers`, and a package uses its own parts."""
    monkeypatch.setattr(sys, "path", [*sys.path])
    before = {*sys.modules}
    files = {
        "desk_features.py": "import json, numpy\nimport desk_helpers\n\ndef f():\n    from desk_late import x\n",
        "desk_helpers.py": "from sklearn.base import BaseEstimator\n",
        "desk_late.py": "x = 1\n",
        "desk_stranger.py": "y = 2\n",
        "desk_package/__init__.py": "",
        "desk_package/above.py": "z = 3\n",
        "desk_package/parts/__init__.py": "",
        "desk_package/parts/one.py": "from ..above import z\nfrom . import two\n",
        "desk_package/parts/two.py": "",
    }
    for name, text in files.items():
        path = tmp_path / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    own_code.make_importable([tmp_path])
    yield tmp_path
    for name in {*sys.modules} - before:
        if name.startswith("desk_"):
            del sys.modules[name]


def test_what_a_module_imports_belongs_to_it(code: Path) -> None:
    """All own modules that a module imports, also inside functions, are part of it; libraries and others are not."""
    assert list(own_code.texts_of(["desk_features"])) == ["desk_features", "desk_helpers", "desk_late"]


def test_relative_imports_are_followed(code: Path) -> None:
    """Within a package its parts, and the packages around them, belong together."""
    assert list(own_code.texts_of(["desk_package.parts.one"])) == [
        "desk_package",
        "desk_package.above",
        "desk_package.parts",
        "desk_package.parts.one",
        "desk_package.parts.two",
    ]


@pytest.mark.parametrize(
    "module", ["sklearn.pipeline", "json", "tasks.core.training.fit", "no_such_module", "__main__"]
)
def test_installed_modules_are_not_kept(module: str) -> None:
    """What a package's version identifies, or what is no module, has no text of its own."""
    assert own_code.texts_of([module]) == {}


def test_what_only_type_checkers_import_is_no_part(code: Path) -> None:
    """What stands under `if TYPE_CHECKING:` never runs, so that it is not what a module does; its `else:` is."""
    (code / "desk_features.py").write_text(
        "import typing\nfrom typing import TYPE_CHECKING\n"
        "if TYPE_CHECKING:\n    import desk_helpers\nelse:\n    import desk_late\n"
        "if typing.TYPE_CHECKING:\n    import desk_stranger\n"
    )
    assert list(own_code.texts_of(["desk_features"])) == ["desk_features", "desk_late"]


def test_this_programs_modules_are_followed_where_asked_for(code: Path) -> None:
    """What a module imports of this program belongs to it then, with the packages around that; libraries do not."""
    (code / "desk_features.py").write_text("import json, pyarrow\nfrom tasks.core.records import to_dict\n")
    found = own_code.texts_with_program(["desk_features"])
    assert list(found) == [
        "desk_features",
        "tasks",
        "tasks.core",
        "tasks.core.errors",
        "tasks.core.records",
    ]
    assert own_code.libraries_of(found) == {"pyarrow", "pydantic"}


def test_a_module_of_this_program_that_is_not_found_is_named() -> None:
    """Nothing is taken as empty: a wrong name is an error, and says which."""
    with pytest.raises(RorError, match=r"tasks\.core\.no_such"):
        own_code.texts_with_program(["tasks.core.no_such"])


def test_looking_runs_nothing(code: Path) -> None:
    """Where a module comes from is found without importing the packages around it, also one without `__init__.py`: they
    might fail, and nobody has compared them with what was recorded yet."""
    (code / "desk_package" / "__init__.py").write_text("raise RuntimeError('imported')\n")
    (code / "desk_package" / "plain").mkdir()
    (code / "desk_package" / "plain" / "deep.py").write_text("from . import near\n")
    (code / "desk_package" / "plain" / "near.py").write_text("")
    assert list(own_code.texts_of(["desk_package.plain.deep"])) == [
        "desk_package",
        "desk_package.plain.deep",
        "desk_package.plain.near",
    ]
    assert own_code.text_here("desk_package.no_such") is None
    assert "desk_package" not in sys.modules


def test_what_cannot_be_parsed_is_kept_all_the_same(code: Path) -> None:
    """A module that is no Python of this release may be imported only elsewhere: its text is kept, and is the end of
    the search."""
    (code / "desk_late.py").write_text("print 'in the old way'\n")
    assert list(own_code.texts_of(["desk_features"])) == ["desk_features", "desk_helpers", "desk_late"]


def test_what_is_installed_for_editing_is_ones_own(code: Path) -> None:
    """The version of a package that is installed for editing does not say which code it is: its text is kept."""
    about = code / "desk-1.0.dist-info"
    about.mkdir()
    (about / "METADATA").write_text("Metadata-Version: 2.1\nName: desk\nVersion: 1.0\n")
    (about / "top_level.txt").write_text("desk_late\n")
    (about / "direct_url.json").write_text('{"url": "file:///desk", "dir_info": {"editable": true}}')
    for editable in (True, False):
        if not editable:
            (about / "direct_url.json").unlink()
        for found in (own_code._owners, own_code._is_for_editing):
            found.cache_clear()
        assert list(own_code.texts_of(["desk_late"])) == (["desk_late"] if editable else [])
    own_code._owners.cache_clear()
    own_code._is_for_editing.cache_clear()


def test_the_digest_is_that_of_the_file(code: Path) -> None:
    """Anybody can compare a digest with the file's own, line ends included."""
    (code / "desk_late.py").write_bytes(b"x = 1\r\ny = '\xc3\xb8'\r\n")
    digest = hashlib.sha256((code / "desk_late.py").read_bytes()).hexdigest()
    assert own_code.digests_of(own_code.texts_of(["desk_late"])) == {"desk_late": digest}


def test_line_ends_are_no_change(code: Path) -> None:
    """A module that was checked out with other line ends is the same, whichever were recorded; other text is not, and
    what is gone is named."""
    unix, windows = "x = 1\ny = 2\n", "x = 1\r\ny = 2\r\n"
    for then in (unix, windows):
        recorded = own_code.digests_of({"desk_late": then})
        for here in (unix, windows, "x = 1\ry = 2\r"):
            (code / "desk_late.py").write_bytes(here.encode())
            assert own_code.changed(recorded) == {}
        (code / "desk_late.py").write_text("x = 1\n\ny = 2\n")
        assert own_code.changed({**recorded, "desk_gone": "0"}) == {
            "desk_late": "x = 1\n\ny = 2\n",
            "desk_gone": None,
        }


def test_the_difference_is_short() -> None:
    """A change is shown as a diff with the lines that changed, and not without end."""
    assert own_code.difference("m", "a\nb\nc\n", "a\nB\nc\n").splitlines() == [
        "--- m, recorded",
        "+++ m, here",
        "@@ -1,3 +1,3 @@",
        " a",
        "-b",
        "+B",
        " c",
    ]
    long = own_code.difference("m", "", "\n".join(map(str, range(500)))).splitlines()
    assert len(long) == own_code.DIFF_LINES + 1
    assert long[-1] == "... 463 more lines"


def test_folders_come_last_and_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A folder of modules hides nothing that is installed, and is added once."""
    monkeypatch.setattr(sys, "path", [*sys.path])
    before = [*sys.path]
    own_code.make_importable([tmp_path])
    own_code.make_importable([tmp_path])
    assert sys.path == [*before, str(tmp_path)]
