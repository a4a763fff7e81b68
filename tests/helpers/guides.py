"""The guides of deployments/README.md, and a place on this machine to follow them in."""

from __future__ import annotations

import os
import re
import shlex
import site
import subprocess
import sys
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from tests.helpers.quiet import Watch
from tests.helpers.server import REPOSITORY, free_port, started, stop

FOLDER = REPOSITORY / "deployments"


def guide(title: str) -> list[list[str]]:
    """The commands of one chapter, block by block."""
    text = (FOLDER / "README.md").read_text(encoding="utf-8")
    chapter = re.split(r"^## ", text, flags=re.M)
    (found,) = [part for part in chapter if part.startswith(title)]
    blocks = re.findall(r"```bash\n(.*?)```", found, flags=re.S)
    return [[line for line in block.splitlines() if line.strip()] for block in blocks]


@dataclass
class Unit:
    """A systemd unit, as far as it says what is started."""

    lines: list[tuple[str, str]]

    @classmethod
    def read(cls, *paths: Path) -> Unit:
        text = "\n".join(path.read_text(encoding="utf-8") for path in paths)
        return cls([(key, value) for key, value in re.findall(r"^(\w+)=(.*)$", text, flags=re.M)])

    def all(self, key: str) -> list[str]:
        return [value for name, value in self.lines if name == key]

    def one(self, key: str) -> str:
        (value,) = self.all(key)
        return value

    def environment(self) -> dict[str, str]:
        words = [word for value in self.all("Environment") for word in shlex.split(value)]
        return {name: value for name, _, value in (word.partition("=") for word in words)}


@dataclass
class Place:
    """A folder in the place of /, a port in the place of 4200, and this user in the place of `ror`."""

    folder: Path
    watch: Watch
    port: int = field(default_factory=free_port)
    running: dict[str, subprocess.Popen[Any]] = field(default_factory=dict)

    def here(self, text: str) -> str:
        """What a guide or a unit says, for this place."""
        for path in ("/opt/ror", "/srv/ror", "/etc/ror", "/etc/systemd", "/var/lib/ror", "/backup"):
            text = re.sub(rf"(?<![\w.}}/]){path}", f"{self.folder}{path}", text)
        text = re.sub(r"runuser -u \w+ -- | -[og] (ror|10001)\b", "", text).replace("%H", "here")
        text = text.replace("127.0.0.1:4200", f"127.0.0.1:{self.port}").replace("--port 4200", f"--port {self.port}")
        # The libraries are borrowed from this environment: what is installed anew is the project itself, by a pip that
        # may reach its registry.
        text = re.sub(r"python3 -m venv (\S+)", rf"{sys.executable} -m venv \1 && borrow \1", text)
        install = rf"env -u PYTHONPATH \1 install --quiet --no-deps {REPOSITORY}"
        return re.sub(r"(\S+/pip) install \.", install, text)

    def environment(self) -> dict[str, str]:
        """As bare as a service's."""
        known = re.compile("PIP_|LANG$|https?_proxy$|ROR_TESTS_", re.I)
        kept = {name: value for name, value in os.environ.items() if known.match(name)}
        home = {"HOME": str(self.folder), "PATH": "/usr/local/bin:/usr/bin:/bin", "OMP_NUM_THREADS": "1"}
        return {**kept, **home, "COLUMNS": "200", **self.watch.environment()}

    def follow(self, commands: list[str]) -> str:
        """Carry out one block of a guide; what it printed."""
        lines: list[str] = []
        said = ""
        for command in [*commands, "systemctl daemon-reload"]:
            if not command.startswith("systemctl "):
                lines.append(self.here(command))
                continue
            said += self._bash(lines)
            lines = []
            self._systemctl(*(word for word in command.split()[1:] if not word.startswith("--")))
        return said

    def _bash(self, lines: list[str]) -> str:
        borrow = f"borrow() {{ {shlex.join([sys.executable, '-c', BORROW])} $1; }}"
        script = "\n".join(["set -e", borrow, *(line.replace(" && ", "\n") for line in lines)])  # -e stops at each
        done = subprocess.run(
            ["bash", "-c", script], cwd=REPOSITORY, env=self.environment(),
            capture_output=True, text=True, timeout=240, check=False,
        )  # fmt: skip
        assert done.returncode == 0, (script, done.stdout, done.stderr)
        return done.stdout

    def _systemctl(self, verb: str, *units: str) -> None:
        for name in units:
            if verb in ("stop", "restart") and name in self.running:
                stop(self.running.pop(name))
            if verb in ("enable", "restart"):
                self.start(name)

    def start(self, name: str) -> None:
        """What systemd would start for a unit that the guide has installed, with its drop-ins."""
        units = self.folder / "etc/systemd/system"
        unit = Unit.read(units / f"{name}.service", *(units / f"{name}.service.d").glob("*.conf"))
        environment = {key: self.here(value) for key, value in unit.environment().items()}
        for path in unit.all("EnvironmentFile"):
            for line in Path(self.here(path)).read_text().splitlines():
                key, _, value = line.partition("=")
                environment[key] = value
        for path in unit.all("StateDirectory"):
            (self.folder / "var/lib" / path).mkdir(parents=True, exist_ok=True)
        command = shlex.split(self.here(unit.one("ExecStart")))
        self.running[name] = started(command, {**self.environment(), **environment}, Path("/"))


BORROW = f"""
import sys
from pathlib import Path
venv = Path(sys.argv[1])
(packages,) = venv.glob("lib/python*/site-packages")
(packages / "borrowed.pth").write_text({site.getsitepackages()[0]!r} + chr(10))
script = Path(sys.executable).parent / "prefect"
made = venv / "bin/prefect"
made.write_text("#!" + str(venv / "bin/python") + chr(10) + script.read_text().partition(chr(10))[2])
made.chmod(0o755)
"""
