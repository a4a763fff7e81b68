"""`ror`: manual triggers and read-only views. What only reads imports neither Prefect, Evidently nor scikit-learn."""

from __future__ import annotations

import atexit
import gc
import sys
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.text import Text
from typer.core import TyperArgument, TyperCommand

from flows.cli import audit, backtest, diff, doctor, onboarding, overrides, run, server, show, status, store, terminal
from flows.cli.options import ROOT, ROOT_HELP
from tasks.core.errors import InvalidRequest, RorError

app = typer.Typer(
    name="ror",
    help="Retrain or reload: keep scikit-learn models in production honest.",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)

INTERRUPTED = 130
"""Typer turns Ctrl-C into this exit code, without a word."""


class Command(TyperCommand):
    """A command of `ror`: errors about its parameters name them as its help does, `--until`, or `version`."""

    def invoke(self, ctx: Any) -> Any:
        """Run the command. Raises InvalidRequest with parameters spelled as on the command line."""
        try:
            return super().invoke(ctx)
        except InvalidRequest as error:
            raise error.spelled({param.name: _spelling(param) for param in self.params}) from error


def _spelling(param: Any) -> str:
    """The long form of an option, the name of an argument."""
    return str(param.display_name_raw if isinstance(param, TyperArgument) else max(param.opts, key=len))


@app.callback()
def common_options(
    root: Annotated[
        Path,
        typer.Option("--root", envvar=ROOT, help=f"{ROOT_HELP} The same option after the command takes precedence."),
    ] = Path(),
) -> None:
    """Options before the command: commands read them, see `options.Root`."""


for command in (
    *(run.demo, run.run, status.status, status.history, run.predict),
    *(onboarding.init, onboarding.add),
    *(overrides.promote, overrides.accept, overrides.quarantine, overrides.release, overrides.snooze),
    *(show.show, show.report),
    *(audit.verify, audit.reproduce, diff.diff, backtest.backtest),
    *(server.serve, server.deploy, server.notify),
    doctor.doctor,
):
    app.command(cls=Command)(command)

store_app = typer.Typer(
    help="The store: signatures, and removals, which are recorded in the history.", no_args_is_help=True
)
app.add_typer(store_app, name="store")
store_app.command(cls=Command)(store.keys)
store_app.command(cls=Command)(store.prune)
store_app.command(cls=Command)(store.erase)


def main() -> None:
    """Entry point: every error a user can meet is one screen, and has its exit code."""
    debug = "--debug" in sys.argv
    terminal.accept_any_text()
    atexit.register(gc.freeze)  # or the interpreter ends by looking for cycles among a million objects: up to a second
    try:
        app()
    except RorError as error:
        if debug:
            raise
        terminal.err.print(Text.assemble(("error: ", "bold red"), str(error)))
        sys.exit(error.exit_code)
    except SystemExit as ended:
        if ended.code == INTERRUPTED:
            terminal.err.print("Interrupted. Recorded decisions are kept; run the command again to continue.")
        raise
    except Exception as error:
        if debug:
            raise
        terminal.err.print(
            Text.assemble(("unexpected error: ", "bold red"), f"{type(error).__name__}: {error}. --debug shows where.")
        )
        sys.exit(1)
