"""`ror`: manual triggers and read-only views. What only reads imports neither Prefect, Evidently nor scikit-learn."""

from __future__ import annotations

import atexit
import gc
import sys

import typer
from rich.text import Text

from flows.cli import audit, backtest, diff, doctor, onboarding, overrides, run, server, show, status, store, terminal
from tasks.core.errors import RorError

app = typer.Typer(
    name="ror",
    help="Retrain or reload: keep scikit-learn models in production honest.",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)

INTERRUPTED = 130
"""Typer turns Ctrl-C into this exit code, without a word."""


for command in (
    *(run.demo, run.run, status.status, status.history, run.predict),
    *(onboarding.init, onboarding.add),
    *(overrides.promote, overrides.accept, overrides.quarantine, overrides.release, overrides.snooze),
    *(show.show, show.report),
    *(audit.verify, audit.reproduce, diff.diff, backtest.backtest),
    *(server.serve, server.deploy, server.notify),
    doctor.doctor,
):
    app.command()(command)

store_app = typer.Typer(help="The store: who signs what is in it, and what is removed on record.", no_args_is_help=True)
app.add_typer(store_app, name="store")
store_app.command()(store.keys)
store_app.command()(store.prune)
store_app.command()(store.erase)


def main() -> None:
    """Entry point: every error a user can meet is one screen, and has its exit code."""
    debug = "--debug" in sys.argv
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
            terminal.err.print("Interrupted. What was decided stands; run it again to go on.")
        raise
    except Exception as error:
        if debug:
            raise
        terminal.err.print(
            Text.assemble(("unexpected error: ", "bold red"), f"{type(error).__name__}: {error}. --debug shows where.")
        )
        sys.exit(1)
