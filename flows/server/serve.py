"""`ror serve`: every deployment that is declared in this one process, with no work pool."""

from __future__ import annotations

from pathlib import Path

from flows.server import environment
from flows.server.client import connected, read_deployment, require_server
from flows.server.declarations import deployment, read_declared
from flows.server.deploy import apply_automations, forget_schedules, owned, preserve_manual_changes, refuse, roots_of


def serve_all(root: Path, *, moved_from: str | None = None) -> None:
    """Serve until Ctrl-C. Runs happen in processes of their own; the schedules go on with the next start.

    `moved_from` is the folder that this root was until now.

    Raises SpecError when no Prefect server is configured: on an embedded one no schedule would ever fire; and when the
    server has deployments of these names that work on another root.
    """
    declared = read_declared(root)
    ours = owned(declared, moved_from)
    environment.configure(verbose=True)
    require_server("ror serve")
    from prefect import serve

    made = [deployment(item, str(root), declared.models) for item in declared.deployments]
    with connected() as client:
        known = {one.full_name: read_deployment(client, one.full_name) for one in made}
        refuse(
            {
                one.full_name: roots.pop()
                for one in made
                if (found := known[one.full_name]) and (roots := roots_of(found, one) - ours)
            },
            "ror serve",
        )
        apply_automations(client, declared, ours)
        for one in made:
            if found := known[one.full_name]:
                preserve_manual_changes(one, found)
                forget_schedules(client, one, found)
    serve(*made, pause_on_shutdown=False)
