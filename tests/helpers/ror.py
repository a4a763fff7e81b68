"""`ror`, called in this process."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

import pytest

from flows.cli import app, demo
from tasks.core.workspace import Workspace

QUICK = "[pipeline]\nparameters = { max_iter = 20 }\n"
"""A small pipeline: these tests are about who is in service, not about how well."""


def play(root: Path, months: list[demo.Month]) -> list[dict[str, Any]]:
    """The demo's months through the real flow; the timeline that comes of it."""
    demo._lay_out_model(root)
    workspace = Workspace.open(root, demo.MODEL)
    list(demo.run_months(workspace, months, months))
    return demo.timeline(workspace, months)


class Ror:
    """Calls `ror` in this process, and remembers what it said."""

    def __init__(self, root: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch):
        self._root, self._capsys, self._monkeypatch = root, capsys, monkeypatch
        self.out = self.err = ""

    def __call__(self, *words: str) -> int:
        self._monkeypatch.setattr(sys, "argv", ["ror", *words, "--root", str(self._root)])
        with pytest.raises(SystemExit) as ended:
            app.main()
        self.out, self.err = self._capsys.readouterr()
        return int(ended.value.code or 0)

    def json(self, *words: str) -> Any:
        assert self(*words, "--json") == 0, self.err
        return json.loads(self.out)
