"""`ror`: manual triggers and read-only views. What only reads imports neither Prefect, Evidently nor scikit-learn."""

from __future__ import annotations

import atexit
import gc
import shlex
import sys
from enum import StrEnum
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.text import Text

from flows import compare, doctor, hands, intake, keys, production, proofs, removals, replays, reports, terminal
from flows.options import Debug, Json, Model, Root, Verbose, open_workspace
from tasks.core import views
from tasks.core.errors import RorError, SpecError
from tasks.core.records import from_dict, to_dict
from tasks.core.spec import models
from tasks.core.state import Decided, State
from tasks.core.types import Outcome, Request
from tasks.core.work import check_request
from tasks.core.workspace import Workspace

app = typer.Typer(
    name="ror",
    help="Retrain or reload: keep scikit-learn models in production honest.",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)

INTERRUPTED = 130
"""Typer turns Ctrl-C into this exit code, without a word."""


class ActionChoice(StrEnum):
    auto = "auto"
    reload = "reload"
    retrain = "retrain"


@app.command()
def demo(root: Root = Path(), debug: Debug = False) -> None:
    """Run a year of New York flights, month by month, and show what was decided and why."""
    from flows.demo import run_demo

    run_demo(root.resolve())


@app.command()
def run(
    model: Model,
    action: Annotated[ActionChoice, typer.Option(help="auto: the rules decide.")] = ActionChoice.auto,
    batch: Annotated[str | None, typer.Option(help="Decide on this batch only.")] = None,
    reason: Annotated[str | None, typer.Option(help="Why, for the history; needed unless the action is auto.")] = None,
    root: Root = Path(),
    as_json: Json = False,
    verbose: Verbose = False,
    debug: Debug = False,
) -> None:
    """Check what arrived, decide, and carry it out."""
    from flows import launch

    check_request(Request(action=action.value, reason=reason))
    workspace = open_workspace(root, model)
    before = workspace.ledger.head().state
    with terminal.working(f"{model}: checking and deciding ..."), launch.prefect_ready(verbose=verbose):
        result = launch.run(workspace.root, model, action=action.value, batch=batch, reason=reason)
    state = workspace.ledger.head().state
    decided = _decided(workspace, state)
    fresh = state.decided != before.decided
    if as_json:
        terminal.print_json(_run_json(result.outcome, result.message, state, decided, fresh))
    elif result.outcome is Outcome.SKIPPED or decided is None:
        terminal.out.print(Text(f"{model}: {result.outcome.value}. {result.message}"))
    else:
        terminal.decision(decided, model, rules=verbose)
        if not fresh:
            terminal.out.print("  Nothing new has arrived since that decision; it stands, and nothing was done again.")
    raise typer.Exit(result.exit_code)


def _run_json(outcome: Outcome, message: str, state: State, decided: Decided | None, fresh: bool) -> dict[str, Any]:
    answer: dict[str, Any] = {
        "outcome": outcome.value,
        "message": message,
        "version": state.current.version if state.current else None,
        "action": None,
        "reasons": [],
        "seq": state.decided.seq if state.decided else None,
        "decided_now": fresh,
        "blocked": [],
        "attempt": None,
    }
    if decided and outcome is not Outcome.SKIPPED:
        answer |= {
            "action": decided.decision.action.value,
            "reasons": list(decided.decision.reasons),
            "blocked": [to_dict(item) for item in decided.blocked],
            "attempt": to_dict(decided.attempt) if decided.attempt else None,
        }
    return answer


@app.command()
def status(
    model: Annotated[str | None, typer.Argument(help="Name of the model; none: all of them.")] = None,
    at: Annotated[
        str | None,
        typer.Option(
            help="Instead: what was in service then. A day (2013-06-01: every version of that day, in order) or a time "
            "(2013-06-01T12:00, '2013-06-01 12:00+02:00'); without a zone it is UTC."
        ),
    ] = None,
    root: Root = Path(),
    as_json: Json = False,
    debug: Debug = False,
) -> None:
    """Which version is in service, since when, why, trained on which data, justified by which metrics."""
    names = [model] if model is not None else models(root)
    if not names:
        raise SpecError(str(root / "deployments"), ["no models here; is --root right? `ror demo` makes one"])
    if at is not None:
        from flows import past

        past.show_past(names, at, root, as_json, many=model is None)
        return
    if model is None:
        answers = [views.status(open_workspace(root, name)) for name in names]
        if as_json:
            terminal.print_json(answers)
        else:
            rows = [
                [
                    a["model"],
                    terminal.version(a["version"]),
                    a["outcome"] or "-",
                    terminal.when(a["since"]),
                    str(len(a["pending_batches"])),
                ]
                for a in answers
            ]
            terminal.show(terminal.table(["model", "version", "last run", "in service since", "pending"], rows))
        return
    answer = views.status(open_workspace(root, model))
    if as_json:
        terminal.print_json(answer)
        return
    rows = [
        ["version in service", terminal.version(answer["version"])],
        ["since", terminal.when(answer["since"])],
        *([["put there by", _by_hand(by)]] if (by := answer["promoted"]) else []),
        ["last decision", f"{answer['decision'] or 'none yet'}: {'; '.join(answer['reasons'])}".rstrip(": ")],
    ]
    if answer["next_retrain"]:
        rows.append(["next retrain", answer["next_retrain"]])
    if trained := answer["trained_on"]:
        rows += [
            ["made because", "; ".join(answer["made_because"])],
            [
                "trained on",
                f"{trained['rows']:,} rows of {terminal.span(trained['batches'])} (sha256 {trained['sha256'][:12]})",
            ],
        ]
    for name, metric in answer["metrics"].items():
        interval = f" ({metric['low']:.4g} to {metric['high']:.4g})" if metric["low"] is not None else ""
        rows.append(
            [
                f"{name}, before service",
                f"{metric['value']:.4g}{interval} on {metric['rows']:,} rows it never saw",
            ]
        )
    if seen := answer["prequential"]:
        rows.append(
            [
                "loss, in service",
                f"{seen['loss']:.4g} on {seen['rows']:,} rows of {terminal.span(seen['batches'])}",
            ]
        )
        rows.append(["newest with labels", _labelled(seen["each"][-1])])
    rows.append(["pending batches", ", ".join(answer["pending_batches"]) or "none"])
    rows += _asks(answer)
    for name in ("arriving", "unlabelled"):
        if answer[name]:
            rows.append([name, ", ".join(str(item) for item in answer[name])])
    terminal.show(terminal.table([answer["model"], ""], rows))


@app.command()
def history(
    model: Model,
    root: Root = Path(),
    as_json: Json = False,
    limit: Annotated[int, typer.Option("--limit", "-n", help="Newest entries to show on the terminal.")] = 30,
    replay: Annotated[
        bool,
        typer.Option("--replay", help="What the policies of --policy would have decided, without a fit."),
    ] = False,
    policy: replays.OtherPolicies = None,
    debug: Debug = False,
) -> None:
    """Everything that was ever decided about a model, with its reasons; the chain is checked on the way."""
    if replay or policy:
        replays.what_if(model, policy or [], root, as_json)
        return
    entries = views.history(open_workspace(root, model).ledger)
    if as_json:
        terminal.print_json(entries)
        return
    rows = [
        [
            str(entry["seq"]),
            terminal.when(entry["at"]),
            entry["outcome"] or entry["event"],
            terminal.version(entry["version"]),
            entry["batch"] or terminal.span(entry["window"] or entry["blocked"]),
            entry["actor"],
            _why(entry),
        ]
        for entry in entries[-limit:]
    ]
    terminal.show(terminal.table(["#", "at (UTC)", "outcome", "in service", "batches", "by", "why"], rows))


@app.command()
def predict(
    model: Model,
    file: Annotated[Path, typer.Argument(help="Parquet or CSV file with the model's input columns.")],
    output: Annotated[Path, typer.Option("--output", "-o", help="Parquet file to write; never overwritten.")],
    root: Root = Path(),
    debug: Debug = False,
) -> None:
    """Predictions for a file with the version in service, verified first."""
    from tasks.core.predictions import predict_file

    version, there = predict_file(open_workspace(root, model), file, output, "by hand")
    kept = " It was there already, and was left as it is." if there else ""
    terminal.out.print(f"{output}: predicted by {model} v{version}.{kept}", markup=False)


BY_HAND = (hands.promote, hands.accept, hands.quarantine, hands.release, hands.snooze)
PROOFS = (proofs.verify, proofs.reproduce, compare.diff, replays.backtest)
PRODUCTION = (production.serve, production.deploy, production.notify)
DATA = (intake.init, intake.add)
for command in (*DATA, *BY_HAND, reports.show, reports.report, *PROOFS, *PRODUCTION):
    app.command()(command)

store = typer.Typer(help="The store: who signs what is in it, and what is removed on record.", no_args_is_help=True)
app.add_typer(store, name="store")
store.command()(keys.keys)
store.command()(removals.prune)
store.command()(removals.erase)


app.command()(doctor.doctor)


def _asks(answer: dict[str, Any]) -> list[list[str]]:
    """What waits for a person, with the command that it takes."""
    model = answer["model"]
    rows = [["waiting for approval", f"v{v}: `{views.promotion(model, v)}`"] for v in answer["waiting"]]
    for batch in answer["blocked"]:
        ways = "repair it and deliver it again"
        if batch in answer["changed"]:
            ways += f", or let it stand: `ror accept {model} {batch} --reason '...'`"
        rows.append(["set aside", f"{batch}: {ways}"])
    held = [("suspect", answer["suspect"])] if answer["suspect"] else []
    for name, batch in held + [("quarantined", batch) for batch in answer["quarantined"]]:
        rows.append([name, f"labels of {batch}: `ror release {model} {batch} --reason '...'` lets them count"])
    if answer["accepted"]:
        rows.append(["accepted, not learned", ", ".join(answer["accepted"])])
    for item in answer["snoozed"]:
        columns, words = ", ".join(item["columns"]), shlex.quote(",".join(item["columns"]))
        end = f"`ror snooze {model} --columns {words} --until now --reason '...'` ends it sooner"
        rows.append(["snoozed", f"{columns}: until {item['until']}, by {item['actor']}: {item['reason']}; {end}"])
    return rows + [["barred", f"v{v}, rolled back: `{views.promotion(model, v)}`"] for v in answer["barred"]]


# --- helpers -------------------------------------------------------------------------------------------------


def _decided(workspace: Workspace, state: State) -> Decided | None:
    return from_dict(Decided, workspace.ledger.event(state.decided.seq).body) if state.decided else None


def _by_hand(promotion: dict[str, Any]) -> str:
    was = f" ({promotion['was']})" if promotion["was"] else ""
    return f"{promotion['actor']}{was}: {promotion['reason']}"


def _why(entry: dict[str, Any]) -> str:
    reasons = "; ".join(entry["reasons"])
    return f"{entry['deed']}: {reasons}" if entry["deed"] else reasons


def _labelled(batch: dict[str, Any]) -> str:
    """The loss of what users saw of one batch, with coverage and lag of its labels beside it."""
    late = f", {batch['lag']} {'batch' if batch['lag'] == 1 else 'batches'} later" if batch["lag"] else ""
    return f"{batch['batch']}: {batch['loss']:.4g} by v{batch['version']} ({batch['coverage']:.0%} of its rows{late})"


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


if __name__ == "__main__":
    main()
