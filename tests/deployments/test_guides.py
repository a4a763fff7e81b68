"""The guides tell the truth: every command of them that can run here is run, every file is read by what reads it."""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
import yaml

from flows.server.environment import NO_TELEMETRY, QUIET
from tests.helpers.database import postgresql
from tests.helpers.guides import FOLDER, Place, Unit, guide
from tests.helpers.model import Model, make_rows
from tests.helpers.quiet import Watch
from tests.helpers.server import REPOSITORY, Server, free_port, started, stop, wait_for

README = (FOLDER / "README.md").read_text(encoding="utf-8")
UNITS = sorted((FOLDER / "systemd").glob("*.service"))
COMPOSE = yaml.safe_load((FOLDER / "docker-compose.yml").read_text(encoding="utf-8"))
SERVICES = COMPOSE["services"]

QUICK = "PREFECT_WORKER_QUERY_SECONDS=1\n"
"""The worker's loop, quicker: waiting for it is no part of what is tested."""

LOGIN, DATABASE_PASSWORD = "admin:right/+word", "not'easy @:/"


# --- the files -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("path", UNITS, ids=lambda path: path.stem)
def test_systemd_accepts_the_units(path: Path, tmp_path: Path) -> None:
    """`systemd-analyze verify` has nothing to say, the program being where the guide puts it."""
    if not shutil.which("systemd-analyze"):
        pytest.skip("systemd-analyze is not installed (Debian: systemd)")
    program = tmp_path / "bin/prefect"
    program.parent.mkdir()
    program.write_text("#!/bin/sh\n")
    program.chmod(0o755)
    for unit in UNITS:
        (tmp_path / unit.name).write_text(unit.read_text().replace("/opt/ror/bin/prefect", str(program)))
    dropin = tmp_path / "ror-server.service.d"
    dropin.mkdir()
    shutil.copy(FOLDER / "systemd/ror-server-postgresql.conf", dropin / "postgresql.conf")
    command = ["systemd-analyze", "verify", "--man=no", str(tmp_path / path.name)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)
    assert (done.returncode, done.stdout + done.stderr) == (0, "")
    (tmp_path / path.name).write_text((tmp_path / path.name).read_text().replace("Restart=always", "Restart=maybe"))
    done = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)
    assert "maybe" in done.stderr  # it does look


@pytest.mark.parametrize("path", UNITS, ids=lambda path: path.stem)
def test_units_shut_the_process_in(path: Path) -> None:
    """A unit may write its own state and, the worker, the root in one mount; the group of a reader is let in by the
    worker alone."""
    unit = Unit.read(path)
    assert unit.one("ProtectSystem") == "strict"
    assert unit.one("NoNewPrivileges") == "yes"
    assert unit.all("ReadWritePaths") == (["/srv/ror"] if "worker" in path.stem else [])
    assert unit.one("UMask") == ("0027" if "worker" in path.stem else "0077")
    assert unit.environment()["PREFECT_HOME"] == f"/var/lib/{unit.one('StateDirectory')}"


def test_everything_that_is_started_is_quiet() -> None:
    """What switches telemetry off is the same in the program, the units, the image and each block of the guide that
    starts something."""
    wanted = {f"{name}={value}" for name, value in NO_TELEMETRY.items()}
    for path in UNITS:
        assert NO_TELEMETRY.items() <= Unit.read(path).environment().items()
    assert all(word in (FOLDER / "Dockerfile").read_text() for word in wanted)
    for block in re.findall(r"```bash\n(.*?)```", README, flags=re.S):
        if re.search(r"^prefect server|^ror serve|ror deploy$", block, flags=re.M) and "compose" not in block:
            assert all(word in block for word in wanted), block


def test_no_secret_is_in_a_file() -> None:
    """A password is asked for, never set; files of secrets are made for their owner alone, and the image has none."""
    secret = re.compile(r"(PASSWORD|AUTH_STRING|SIGNING_KEY|API_KEY|LOGIN)\s*[=:]\s*(\S+)")
    for path in (path for path in FOLDER.rglob("*") if path.is_file()):
        for name, value in secret.findall(path.read_text(encoding="utf-8")):
            assert value.startswith(("${", "...", "user:password")), (path.name, name, value)
    for line in re.findall(r"^install .*\.env$", README, flags=re.M):
        assert line.startswith("install -m 0600 /dev/null /etc/ror/")
    assert "**/*.env" in (FOLDER / "Dockerfile.dockerignore").read_text()


def test_compose_file_asks_for_what_it_needs() -> None:
    """Nothing starts without passwords; the server waits for its database and is reached from this machine only; the
    root is one mount, since a hard link cannot cross two."""
    text = (FOLDER / "docker-compose.yml").read_text()
    used = set(re.findall(r"\$\{(\w+):\?", text))
    assert used == {"ROR_LOGIN", "ROR_DATABASE_PASSWORD"} and all(f"`{name}=" in README for name in used)
    assert all(port.startswith("127.0.0.1:") for service in SERVICES.values() for port in service.get("ports", []))
    assert SERVICES["server"]["depends_on"]["postgres"]["condition"] == "service_healthy"
    assert SERVICES["worker"]["volumes"] == SERVICES["ror"]["volumes"] == ["${ROR_FOLDER:-/srv/ror}:/srv/ror"]
    assert (FOLDER / SERVICES["server"]["build"]["context"]).resolve() == REPOSITORY
    assert (REPOSITORY / SERVICES["server"]["build"]["dockerfile"]).is_file()
    named = {word for line in guide("Docker")[1] for word in line.split() if word in ("ror", "worker", "server")}
    assert named <= {*SERVICES}


def test_docker_accepts_the_compose_file(monkeypatch: pytest.MonkeyPatch) -> None:
    """Docker's own parser, where it is installed: the file is valid, and says which variable is missing."""
    command = ["docker", "compose", "-f", str(FOLDER / "docker-compose.yml")]
    if not shutil.which("docker") or subprocess.run([*command[:2], "version"], capture_output=True).returncode:
        pytest.skip("`docker compose` is not installed")
    monkeypatch.setenv("ROR_DATABASE_PASSWORD", "a")
    done = subprocess.run([*command, "config", "-q"], capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode and "ROR_LOGIN" in done.stderr
    monkeypatch.setenv("ROR_LOGIN", "a:b")
    subprocess.run([*command, "config", "-q"], check=True, timeout=60)


CHAPTERS = {
    "Laptop": "test_laptop",
    "One server": "test_one_server",
    "Docker Compose": "test_compose",
    "Backup": "test_one_server",
    "Upgrade": "test_one_server",
}


def test_every_command_is_looked_at() -> None:
    """No chapter has commands that no test here knows of."""
    chapters = [part for part in re.split(r"^## ", README, flags=re.M)[1:] if "```bash" in part]
    assert [part.splitlines()[0].split(",")[0] for part in chapters] == [*CHAPTERS]
    assert all(any(name.startswith(test) for name in globals()) for test in CHAPTERS.values())


# --- followed ------------------------------------------------------------------------------------------------


def a_model(root: Path) -> Model:
    model = Model(root)
    model.write_spec("[pipeline]\nparameters = { max_iter = 10 }\n")
    model.deliver("001")
    return model


def run(server: Server, name: str = "any-model") -> str:
    """Ask for a run by REST; the name of the state that a worker brought it to."""
    wait_for(lambda: name in server.deployments(), 300)
    key = server.start(name, {"model": "loans"})
    return str(wait_for(lambda: server.finished(key), 300))


@pytest.mark.slow
def test_laptop(tmp_path: Path) -> None:
    """Server and `ror serve`, as the guide starts them in two terminals: a run ends in its state, and nothing reaches
    for another machine."""
    model, watch, port = a_model(tmp_path), Watch(tmp_path), free_port()
    kept = {name: value for name, value in os.environ.items() if name not in (*QUIET, "PYTHONPATH")}
    programs = f"{Path(sys.executable).parent}:{os.environ['PATH']}"
    environment = {**kept, **watch.environment(os.environ.get("PYTHONPATH", "")), "PATH": programs}
    server = Server(f"http://127.0.0.1:{port}/api", environment)

    def terminal(block: list[str], home: str) -> subprocess.Popen[bytes]:
        script = "\n".join([*block[:-1], f"exec {block[-1]}"]).replace("4200", str(port))
        return started(["bash", "-c", script], {**environment, "PREFECT_HOME": str(tmp_path / home)}, model.root)

    first, second = guide("Laptop")
    terminals = [terminal(first, "server")]
    try:
        wait_for(lambda: server.call("GET", "/health") is True, 300)
        terminals.append(terminal(second, "client"))
        assert run(server) == "Retrained"
    finally:
        for process in reversed(terminals):
            stop(process)
    assert watch.hosts() == {"127.0.0.1"}


@pytest.mark.slow
def test_one_server(place: Place) -> None:
    """The guide is followed with the very units: install, start, deploy, a run, PostgreSQL apart; then a backup that is
    proved, and an upgrade. Nothing reaches for another machine."""
    install, start, by_hand, _ = guide("One server")
    assert install[0].startswith("useradd ")  # the one line that is not run: it would change this machine
    place.follow(install[1:])
    installed = {path.parent.name for path in (place.folder / "opt/ror-1").glob("lib/*/site-packages/*/py.typed")}
    assert {"flows", "tasks"} <= installed  # what is installed has types for whoever imports it
    secrets = place.folder / "etc/ror"
    assert oct(secrets.stat().st_mode)[-3:] == "700"
    assert {oct(path.stat().st_mode)[-3:] for path in secrets.iterdir()} == {"600"}
    (secrets / "server.env").write_text(f"PREFECT_SERVER_API_AUTH_STRING={LOGIN}\n")
    (secrets / "worker.env").write_text(f"PREFECT_API_AUTH_STRING={LOGIN}\n{QUICK}")
    model = a_model(place.folder / "srv/ror")
    url = f"http://127.0.0.1:{place.port}/api"
    server = Server(url, {"PREFECT_API_AUTH_STRING": LOGIN})

    place.follow(start)
    wait_for(lambda: server.call("GET", "/health") is True, 300)
    wait_for(lambda: server.call("POST", "/work_pools/ror/workers/filter", {}), 60)
    said = place.follow(by_hand)
    assert "All is well" in said and "libraries" in said
    (program,) = re.findall(r"^ok +program +(.*)$", said, flags=re.M)
    assert program.startswith("retrain-or-reload ")
    assert server.call("GET", "/admin/settings")["server"]["analytics_enabled"] is False
    assert run(server) == "Retrained"

    (backup,) = guide("Backup")
    programs = f"PATH={place.folder}/opt/ror/bin:$PATH"
    assert "loans" in place.follow([programs, *backup])
    (upgrade,) = guide("Upgrade")
    place.follow(upgrade)
    wait_for(lambda: server.call("GET", "/health") is True, 300)
    assert (place.folder / "opt/ror").resolve().name == "ror-2"
    model.deliver("002", make_rows(seed=2))
    assert run(server) == "Reloaded"
    place.follow([programs, *backup])  # again: what is new is added
    assert Model(place.folder / "backup").workspace.ledger.head().seq == model.workspace.ledger.head().seq
    assert place.watch.hosts() == {"127.0.0.1"}


@pytest.mark.slow
def test_compose(place: Place, tmp_path: Path) -> None:
    """What each service of the Compose file would start, with its environment and a real PostgreSQL whose database is
    made as the guide for one server says: healthy when the file says so, closed without the password, and at work."""
    place.follow(guide("Docker Compose")[0][:-1])
    place.follow(["python3 -m venv /opt/ror-1 && /opt/ror-1/bin/pip install . && ln -sfn /opt/ror-1 /opt/ror"])
    model = a_model(place.folder / "srv/ror")
    given = {"ROR_LOGIN": LOGIN, "ROR_DATABASE_PASSWORD": DATABASE_PASSWORD, "ROR_FOLDER": str(model.root)}
    with postgresql() as address:
        port = make_database(place, address)

        def local(text: str) -> str:
            text = re.sub(r"\$\{(\w+)(:[?-][^}]*)?\}", lambda found: given[found[1]], text)
            text = text.replace("server:4200", "127.0.0.1:4200").replace("0.0.0.0", "127.0.0.1")
            return place.here(text.replace("/tmp/", f"{tmp_path}/tmp/"))

        def environment(name: str) -> dict[str, str]:
            moved = {"PREFECT_SERVER_DATABASE_HOST": "127.0.0.1", "PREFECT_SERVER_DATABASE_PORT": port}
            own = {key: local(value) for key, value in SERVICES[name]["environment"].items()}
            image = dict(re.findall(r"(\w+)=(\S+)", (FOLDER / "Dockerfile").read_text().partition("ENV ")[2]))
            own |= {key: moved[key] for key in own if key in moved}
            path = f"{place.folder}/opt/ror/bin:/usr/bin:/bin"
            return {**place.environment(), **image, **own, "PATH": path}

        def command(name: str) -> list[str]:
            words = [place.port if word == "4200" else local(word) for word in SERVICES[name]["command"]]
            return [f"{place.folder}/opt/ror/bin/{words[0]}", *map(str, words[1:])]

        def by_hand(*words: str, **settings: str) -> subprocess.CompletedProcess[str]:
            assert SERVICES["ror"]["entrypoint"] == ["ror"]
            return subprocess.run(
                [f"{place.folder}/opt/ror/bin/ror", *words], env={**environment("ror"), **settings},
                cwd=tmp_path, capture_output=True, text=True, timeout=120, check=False,
            )  # fmt: skip

        place.running["server"] = started(command("server"), environment("server"), tmp_path)
        check = [local(word) for word in SERVICES["server"]["healthcheck"]["test"][1:]]
        wait_for(lambda: not subprocess.run(check, env=environment("server"), capture_output=True).returncode, 300)
        place.running["worker"] = started(command("worker"), environment("worker"), tmp_path)
        server = Server(f"http://127.0.0.1:{place.port}/api", {"PREFECT_API_AUTH_STRING": LOGIN})
        done = by_hand("deploy")
        assert done.returncode == 0, done.stderr
        assert run(server) == "Retrained"
        wrong = json.loads(by_hand("doctor", "--json", PREFECT_API_AUTH_STRING="admin:wrong").stdout)
        assert [item["text"] for item in wrong["findings"] if "refuses what is set" in item["text"]]
        done = by_hand("doctor")
        assert done.returncode == 0 and "telemetry        off" in re.sub(r" +", " " * 8, done.stdout), done.stdout
        tables = psql(place, address, "select count(*) from flow_run", database="prefect")
        assert int(tables) >= 1  # it is this database that the server used
        for process in reversed(place.running.values()):
            stop(process)
        place.running.clear()
    assert place.watch.elsewhere() == []


def make_database(place: Place, address: str) -> str:
    """User and database, by the guide's commands; the prompt for a password is answered beside it. Its port."""
    create, database, *_ = guide("One server")[3]
    assert create.endswith("createuser --pwprompt prefect") and database.endswith("createdb --owner=prefect prefect")
    for line in (create.replace(" --pwprompt", ""), database):
        subprocess.run(["bash", "-c", place.here(line)], env=superuser(place, address), check=True, timeout=60)
    quoted = DATABASE_PASSWORD.replace("'", "''")
    psql(place, address, f"alter role prefect password '{quoted}'")
    names = Unit.read(FOLDER / "systemd/ror-server-postgresql.conf").environment()
    theirs = SERVICES["server"]["environment"]
    assert {**names, "PREFECT_SERVER_DATABASE_HOST": "postgres"}.items() <= theirs.items()  # the unit's drop-in
    return superuser(place, address)["PGPORT"]


def superuser(place: Place, address: str) -> dict[str, str]:
    found = re.fullmatch(r"\S+://(\w+):(\w+)@([\d.]+):(\d+)/(\w+)", address)
    assert found
    names = ("PGUSER", "PGPASSWORD", "PGHOST", "PGPORT", "PGDATABASE")
    return {**place.environment(), **dict(zip(names, found.groups(), strict=True))}


def psql(place: Place, address: str, text: str, database: str = "postgres") -> str:
    command = ["psql", "-qtA", "-d", database, "-c", text]
    done = subprocess.run(
        command, env=superuser(place, address), capture_output=True, text=True, timeout=60, check=False
    )
    assert done.returncode == 0, done.stderr
    return done.stdout.strip()
