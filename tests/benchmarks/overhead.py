"""What Prefect costs a run that reloads: wall and CPU beside the same core functions called without it.

    python -m tests.benchmarks.overhead [--rounds 9] [--no-embedded]

Whole processes, from the start of the interpreter to its end, on copies of one root where a batch waits:
    direct      a script that imports tasks.core alone and does what the flow does: lease, load and verify, check data,
                labels and drift (Evidently), decide, commit, predict, page, card and alerts
    server      `ror run` with a Prefect server already running on this machine
    embedded    `ror run` without one: it starts its own for this run
And `flow`, the flow beside those functions within one process that has imported everything, with the server running.

Alternated, medians, one round that warms up. CPU is user and system time of the process and of what it waited for: not
that of the server, which is told apart.
"""

from __future__ import annotations

import argparse
import itertools
import json
import os
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path

MODEL = "loans"
SPEC = "[pipeline]\nparameters = { max_iter = 10 }\n"

Taken = dict[str, list[tuple[float, float]]]
"""Wall and CPU seconds of every way, round by round."""


# --- without Prefect -----------------------------------------------------------------------------------------


def reload_directly(root: Path) -> str:
    """One run of the flow by its core functions alone; the outcome."""
    from tasks.core.decision.policy import decide
    from tasks.core.ledger.events import Decided
    from tasks.core.ledger.lease import Lease
    from tasks.core.ledger.state import State
    from tasks.core.predictions import predictions_path, write_predictions
    from tasks.core.records import to_json
    from tasks.core.reports import cards, page, service_history
    from tasks.core.reports.alerts import alerts
    from tasks.core.run import assess, labels
    from tasks.core.run.assess import Findings
    from tasks.core.run.conclude import conclude, left_in_service
    from tasks.core.run.work import find_work
    from tasks.core.types import Request
    from tasks.core.workspace import Workspace

    workspace, request = Workspace.open(root, MODEL), Request(actor="benchmark")
    work = find_work(workspace, request, workspace.ledger.head().state)
    with (
        tempfile.TemporaryDirectory() as pages,
        Lease(workspace.ledger, run="direct", key=work.key, actor="benchmark", reason="") as lease,
    ):
        state = lease.state
        work = find_work(workspace, request, state)
        versions = assess.load_versions(workspace, state)
        data = assess.check_data(workspace, state, work, versions)
        found = labels.check_performance(workspace, state, work, data.valid, versions.current, versions.predecessor)
        drift = assess.check_drift(workspace, state, work, data, versions)
        for name, snapshot in {"performance": found.snapshot, "drift": drift.snapshot}.items():
            if snapshot is not None:
                snapshot.save_html(f"{pages}/{name}.html")
        measured = Findings(data, replace(found, snapshot=None), replace(drift, snapshot=None))
        evidence = assess.collect(request, state, measured)
        decision = decide(evidence, workspace.spec.policy)

        def body(now: State) -> Decided:
            left = left_in_service(state, now, workspace.spec, decision, None)
            checked = assess.recheck(workspace, work, state, now, measured, left)
            return conclude(state, now, workspace.spec, checked, evidence, decision, None)

        event = lease.commit(body)
    decided = event.content_as(Decided)
    assert decided.in_service is not None and event.current is not None
    version = workspace.registry.load(MODEL, decided.in_service)
    for batch in decided.window:
        output = predictions_path(workspace, batch)
        write_predictions(root, batch.path, output, version, workspace.spec, "direct")
    current, previous = service_history.around(workspace.registry, MODEL, event.seq)
    made = workspace.registry.manifest(MODEL, event.current.version, event.current.manifest)[0]
    context = cards.CardContext(MODEL, event, current, previous, made)
    report = page.render(event, decided, MODEL, measured, made, [])
    for name, content in {"decision.json": to_json(decided), "report.html": report.encode()}.items():
        workspace.registry.store.create(f"{MODEL}/runs/{event.seq:08d}/{name}", content)
    (
        cards.decision_card(decided, context),
        cards.check_rows(decided.checks),
        cards.picture_card(context),
        alerts(workspace),
    )
    return decided.outcome.value


# --- measuring -----------------------------------------------------------------------------------------------


def alternate(ways: Mapping[str, Callable[[Path], None]], template: Path, rounds: int) -> Taken:
    """Every way on its own copy of the root, round after round; the first round does not count."""
    taken: Taken = {name: [] for name in ways}
    for number in range(rounds + 1):
        # Each way has every place in the order equally often: what one leaves in the caches favours none.
        names = list(itertools.islice(itertools.cycle(ways), number % len(ways), number % len(ways) + len(ways)))
        for name in names:
            with tempfile.TemporaryDirectory(prefix="overhead-") as folder:
                root = Path(folder) / "root"
                shutil.copytree(template, root)
                before, began = _cpu(), time.perf_counter()
                ways[name](root)
                seconds, cpu = time.perf_counter() - began, _cpu() - before
            if number:
                taken[name].append((seconds, cpu))
    return taken


def _cpu() -> float:
    """Of this process and of those it has waited for."""
    times = os.times()
    return times.user + times.system + times.children_user + times.children_system


def show(taken: Taken, base: str) -> None:
    wall, cpu = ({name: statistics.median(each[k] for each in times) for name, times in taken.items()} for k in (0, 1))
    for name in taken:
        line = f"{name:<10} wall {wall[name]:6.2f} s   CPU {cpu[name]:6.2f} s"
        if name != base:
            line += (
                f"   {wall[name] - wall[base]:+.2f} s wall ({wall[name] / wall[base]:.2f} x), "
                f"{cpu[name] - cpu[base]:+.2f} s CPU ({cpu[name] / cpu[base]:.2f} x)"
            )
        print(line, flush=True)


def process(environment: Mapping[str, str], *words: str) -> Callable[[Path], None]:
    def way(root: Path) -> None:
        command = [sys.executable, "-m", *words, "--root", str(root)]
        done = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
        assert done.returncode == 0 and "Reloaded" in done.stdout, done.stdout + done.stderr

    return way


def whole(template: Path, environment: Mapping[str, str], rounds: int, *, embedded: bool) -> None:
    alone = {name: value for name, value in environment.items() if name != "PREFECT_API_URL"}
    run = ("flows.cli", "run", MODEL, "--json")
    ways = {
        "direct": process(alone, "tests.benchmarks.overhead", "--part", "direct"),
        "server": process(environment, *run),
        **({"embedded": process(alone, *run)} if embedded else {}),
    }
    show(alternate(ways, template, rounds), "direct")


def within(template: Path, rounds: int) -> None:
    """In this process, whose environment names the server."""
    from flows.server import launch
    from tasks.core.versions import registry

    def direct(root: Path) -> None:
        registry._LOADED.clear()  # each loads the version itself
        assert reload_directly(root) == "Reloaded"

    def flow(root: Path) -> None:
        registry._LOADED.clear()
        assert launch.run(root, MODEL).outcome == "Reloaded"

    with launch.prefect_ready():
        show(alternate({"direct": direct, "flow": flow}, template, rounds), "direct")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=9)
    parser.add_argument("--no-embedded", action="store_true", help="leave out what takes longest")
    parser.add_argument("--part", choices=["all", "direct", "within"], default="all", help=argparse.SUPPRESS)
    parser.add_argument("--root", type=Path, help=argparse.SUPPRESS)
    asked = parser.parse_args()
    if asked.part == "direct":
        print(json.dumps({"outcome": reload_directly(asked.root)}))
        return
    if asked.part == "within":
        within(asked.root, asked.rounds)
        return
    from tests.helpers.model import Model
    from tests.helpers.server import running_server

    with tempfile.TemporaryDirectory(prefix="overhead-") as name:
        template = Model(Path(name) / "template")
        template.write_spec(SPEC)
        template.deliver("001")
        with running_server(Path(name)) as server:
            done = server.command("flows.cli", "run", MODEL, "--root", str(template.root))
            assert done.returncode == 0, done.stderr
            template.deliver("002")
            print(f"whole processes, medians of {asked.rounds}:", flush=True)
            whole(template.root, server.environment, asked.rounds, embedded=not asked.no_embedded)
            print(f"within one process that has imported everything, medians of {asked.rounds}:", flush=True)
            words = ["tests.benchmarks.overhead", "--part", "within", "--rounds", str(asked.rounds)]
            command = [sys.executable, "-m", *words, "--root", str(template.root)]
            subprocess.run(command, env=server.environment, check=True)


if __name__ == "__main__":
    main()
