"""Options that all commands share, and how errors spell the parameters of a command."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

from flows.cli import app
from tests.helpers.model import Model
from tests.helpers.ror import Ror

WHY = ("--reason", "a test")


def call(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, *words: str) -> tuple[int, str, str]:
    """Exit code, standard output and standard error of `ror` with just these words."""
    monkeypatch.setattr(sys, "argv", ["ror", *words])
    with pytest.raises(SystemExit) as ended:
        app.main()
    return int(ended.value.code or 0), *capsys.readouterr()


@pytest.mark.parametrize(
    "words",
    [("status", "loans", "--json"), ("verify", "loans", "--json"), ("store", "keys", "loans", "--json"), ("status",)],
)
def test_the_root_before_or_after_the_command(
    model: Model, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, words: tuple[str, ...]
) -> None:
    """`ror --root DIR status` is `ror status --root DIR`, also of a command of `ror store`."""
    before = call(capsys, monkeypatch, "--root", str(model.root), *words)
    after = call(capsys, monkeypatch, *words, "--root", str(model.root))
    assert before == after
    assert "loans" in before[1]


@pytest.mark.parametrize(
    ("variable", "first", "second", "wins"),
    [
        (None, None, None, "here"),
        ("variable", None, None, "variable"),
        ("variable", "first", None, "first"),
        ("variable", None, "second", "second"),
        ("variable", "first", "second", "second"),
        (None, "first", "second", "second"),
        (None, "first", ".", "here"),
    ],
)
@pytest.mark.parametrize("command", ["status", "verify"])
def test_the_most_specific_root_wins(
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
    command: str,
    variable: str | None,
    first: str | None,
    second: str | None,
    wins: str,
) -> None:
    """The command's own option before the one of `ror`, that before ROR_ROOT, that before the current folder."""
    for name in ("here", "variable", "first", "second"):
        (tmp_path / name / "deployments").mkdir(parents=True)
        (tmp_path / name / "deployments" / f"{name}.toml").touch()
    monkeypatch.chdir(tmp_path / "here")
    monkeypatch.delenv("ROR_ROOT", raising=False)
    monkeypatch.delenv("ROR_STORE", raising=False)
    if variable:
        monkeypatch.setenv("ROR_ROOT", str(tmp_path / variable))
    before = ["--root", str(tmp_path / first)] if first else []
    after = ["--root", second if second == "." else str(tmp_path / second)] if second else []
    _, _, err = call(capsys, monkeypatch, *before, command, "no-such-model", *after)
    assert f"Models here: {wins}." in err or f"Models: {wins}" in err


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (("status", "laons"), "model:\n  - there is no file "),
        (("verify", "laons"), "model:\n  - neither a file nor the store knows 'laons'"),
        (("run", "loans", "--action", "retrain"), "--reason:\n  - give one"),
        (("promote", "loans", "seven", *WHY), "version:\n  - invalid version 'seven'"),
        (("promote", "loans", "v1", "--expected", "x", *WHY), "--expected:\n  - invalid version 'x'"),
        (("diff", "loans", "x"), "VA:\n  - invalid version 'x'"),
        (("accept", "loans", "2024", *WHY), "batch:\n  - loans has no batch '2024'"),
        (("quarantine", "loans", "001", "--reason", " "), "--reason:\n  - must not be empty"),
        (("snooze", "loans", "--columns", "age", "--until", "soon", *WHY), "--until:\n  - invalid date 'soon'"),
        (("snooze", "loans", "--columns", ",", "--until", "now", *WHY), "--columns:\n  - name at least one column"),
        (("add", "loans", "."), "files:\n  - . is a folder"),
        (("init", ".", "--target", "y", "--name", "A B"), "--name:\n  - invalid name 'A B'"),
        (
            ("init", ".", "--target", "y", "--separator", "ab", "--encoding", "x"),
            "--separator, --encoding:\n  - separator = 'ab'",
        ),
        (("store", "prune", "loans", *WHY), "--keep, --older-than:\n  - give exactly one of them"),
        (("store", "prune", "loans", "--older-than", "5x", *WHY), "--older-than:\n  - invalid age '5x'"),
        (("store", "erase", "loans", "--key", " ", *WHY), "--key:\n  - must not be empty"),
        (("store", "keys", "loans", "--sign", "x"), "--sign:\n  - invalid version 'x'"),
        (("backtest", "loans", "--cost", "0"), "--cost:\n  - policy.retrain_cost"),
        (("verify", "loans", "--expect-head", "4"), "--expect-head:\n  - '4' is not NUMBER:SHA256"),
        (("status", "loans", "--at", "soon"), "--at:\n  - 'soon' is neither a date nor a time"),
    ],
)
def test_errors_name_what_was_typed(model: Model, ror: Ror, words: tuple[str, ...], said: str) -> None:
    """An error of the core about a parameter names the option or the argument of the command that ran."""
    model.deliver("001")
    assert ror(*words) == 2
    assert ror.err.startswith(f"error: {said}")


def test_debug_shows_where(model: Model, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    """With --debug the error comes out as it is, its cause with it."""
    monkeypatch.setattr(sys, "argv", ["ror", "--root", str(model.root), "status", "laons", "--debug"])
    with pytest.raises(Exception, match=r"^model:\n") as raised:
        app.main()
    assert raised.value.__cause__ is not None
