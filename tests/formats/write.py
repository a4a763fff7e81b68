"""Freeze small stores as this release writes them: `python -m tests.formats.write v2`, by hand, once at each release.

Every store is a model that lived through a story, told with the commands that its user has. Together the stories hold
every kind of event, and most of what can be in one. What was frozen is never written again.
"""

from __future__ import annotations

import dataclasses
import getpass
import json
import os
import platform
import re
import shutil
import socket
import sys
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from unittest import mock

import numpy as np
import pandas as pd

from flows.server import launch
from tasks.core.ledger import lease
from tasks.core.ledger.events import Event
from tasks.core.ledger.signing import UNSIGNED_KINDS
from tasks.core.ledger.state import State
from tasks.core.records import from_json
from tests import isolation
from tests.formats.frozen import FORMATS, Frozen, code_below
from tests.helpers.model import make_rows

EXAMPLE = "example"
"""Host and user of the history: nothing of where it is written may be in it."""
MOST = 2 * 1024**2
"""Bytes of all stores of a format."""
ROWS = 600
QUICK = {"pipeline": "parameters = { max_iter = 10, max_leaf_nodes = 7 }"}
SMALL = {"checks": "sample_rows = 100"}
TINY = {"pipeline": "parameters = { max_iter = 3, max_leaf_nodes = 4 }"}
SKOPS = ["example_steps.Tamed", "numpy.dtype", "sklearn.compose._column_transformer.make_column_selector"]
"""What the factory's pipelines are made of that skops does not know."""
STEPS = '''"""A step of the user's own."""

import numpy as np
from sklearn.base import BaseEstimator, TransformerMixin


class Tamed(TransformerMixin, BaseEstimator):
    """Large values are pulled in."""

    def fit(self, X, y=None):
        self.n_features_in_ = X.shape[1]
        return self

    def transform(self, X):
        return np.sign(X) * np.log1p(np.abs(X))
'''
FACTORY = '''"""A factory of the user's own."""

from sklearn.compose import make_column_selector, make_column_transformer
from sklearn.impute import SimpleImputer
from sklearn.linear_model import LogisticRegression, Ridge
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import OneHotEncoder

from example_steps import Tamed


def build(task, alpha=1.0):
    columns = make_column_transformer(
        (make_pipeline(SimpleImputer(), Tamed()), make_column_selector(dtype_include="number")),
        (OneHotEncoder(handle_unknown="ignore"), make_column_selector(dtype_exclude="number")),
    )
    model = Ridge(alpha=alpha) if task == "regression" else LogisticRegression(C=1 / alpha)
    return make_pipeline(columns, model)
'''


@dataclass(frozen=True)
class Story(Frozen):
    """A store that is being written."""

    top: str = 'task = "binary"'
    data: str = ""
    sections: dict[str, str] = field(default_factory=lambda: dict(QUICK))
    late: bool = False
    """Labels come in files of their own."""

    name = "loans"

    def __post_init__(self) -> None:
        self.write_spec()

    def write_spec(self, **sections: str) -> None:
        """The model's file; `sections` are added to what it has, for as long as no other is written."""
        labels = f'labels = "data/{self.name}/labels/*"\n' if self.late else ""
        text = (
            f'{self.top}\ntarget = "y"\nkey = "id"\nowner = "{EXAMPLE}"\npurpose = "Frozen: reads for ever."\n'
            f'[data]\nbatches = "data/{self.name}/batches/*"\nsettle = 0\n{labels}{self.data}\n'
        )
        text += "".join(f"[{name}]\n{lines}\n" for name, lines in {**SMALL, **self.sections, **sections}.items())
        path = self.root / "deployments" / f"{self.name}.toml"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)

    def deliver(self, batch: str, rows: pd.DataFrame | None = None, *, below: str = "root") -> None:
        """A batch arrives; without its labels where those come late."""
        rows = self.rows(batch) if rows is None else rows
        self._put(below, "batches", batch, rows.drop(columns="y", errors="ignore") if self.late else rows)

    def label(self, batch: str, share: float = 1.0, *, below: str = "root") -> None:
        """Labels of so many of a batch's rows arrive, as one more file of labels."""
        rows = self.rows(batch)[["id", "y"]]
        self._put(below, "labels", f"{batch}-{share:g}", rows.head(int(len(rows) * share)))

    def rows(self, batch: str) -> pd.DataFrame:
        return make_rows(ROWS, seed=int(batch)).round(2)

    def _put(self, below: str, kind: str, name: str, rows: pd.DataFrame) -> None:
        folder = self.folder / below / "data" / self.name / kind
        folder.mkdir(parents=True, exist_ok=True)
        if "separator" in self.data:
            rows.to_csv(folder / f"{name}.csv", sep=";", decimal=",", index=False)
        else:
            rows.to_parquet(folder / f"{name}.parquet", index=False)

    def run(self, outcome: str, *, retrain: bool = False, **keys: bool) -> None:
        """A run, which must come out so."""
        asked = ("--action", "retrain", "--reason", "the story wants it") if retrain else ()
        code, said = self.ror("run", self.name, *asked, **keys)
        assert said and said["outcome"] == outcome, f"{self.folder.name}: {outcome} expected, got {code}: {said}"
        print(f"{self.folder.name}: {said['outcome']}, v{said['version']}", flush=True)

    def hand(self, *words: str, **keys: bool) -> None:
        """A person does something, which must succeed."""
        code, said = self.ror(*words, "--reason", "the story wants it", **keys)
        assert code == 0, f"{self.folder.name}: ror {words} ended with {code}: {said}"
        print(f"{self.folder.name}: {' '.join(words)}", flush=True)

    def end(self) -> None:
        """What will arrive later is laid beside the store, and what is seen of all of it is written down."""
        self.deliver("090", below="next")
        if self.late:
            self.label("090", below="next")
        for page in self.root.rglob("runs/*/*.html"):
            page.unlink()  # what is large, and is only looked at
        seen = {"seen": self.seen(), "answers": self.answers()}
        with tempfile.TemporaryDirectory() as elsewhere:
            copy = Frozen(Path(elsewhere) / self.folder.name)
            shutil.copytree(self.folder, copy.folder)
            seen["again"] = copy.decided()
            Frozen.deliver(copy)
            seen["next"] = copy.decided()
            seen["reproduced"] = copy.answer("reproduce", self.name, f"v{seen['next']['version']}")["verdict"]
        (self.folder / "expected.json").write_text(json.dumps(seen, indent=1) + "\n")


# --- the stories ---------------------------------------------------------------------------------------------


def unsigned(folder: Path) -> Story:
    """All that can happen to a model, by itself and by hand."""
    it = Story(
        folder,
        'task = "binary"\nslices = ["city"]\nrunbook = "https://example.org/runbook"\ngrowing = ["age"]\n'
        'expected = [{ name = "Christmas", from = "12-20", until = "01-06", columns = ["income"] }]',
        sections={**QUICK, "schedule": 'cron = "0 6 * * 1"'},
        late=True,
    )
    it.deliver("001")
    it.run("Held")
    it.label("001")
    it.run("Retrained")
    it.deliver("002")
    it.run("Reloaded")
    it.label("002", 0.5)
    it.deliver("003", it.rows("003").drop(columns="age"))
    it.run("Blocked")
    it.label("002")
    it.deliver("003")
    it.run("Reloaded")
    it.hand("snooze", it.name, "--columns", "income,prediction", "--until", "2999-12-31")
    it.label("003")
    it.deliver("004", make_rows(ROWS, seed=4, shift=1.5))
    it.run("Reloaded")
    it.hand("quarantine", it.name, "002")
    it.hand("release", it.name, "002")
    it.hand("quarantine", it.name, "003")
    it.label("004")
    it.deliver("005")
    it.label("005")
    it.run("Retrained")
    it.write_spec(pipeline="parameters = { max_iter = -1 }")
    it.run("RetrainFailed", retrain=True)
    it.write_spec(policy="metric_floor = 0.9999")
    it.run("Kept", retrain=True)
    it.write_spec(policy='promotion = "approve"')
    it.run("AwaitingApproval", retrain=True)
    it.hand("promote", it.name, "v4")
    it.write_spec(pipeline="parameters = { max_iter = 1, learning_rate = 1e-9 }")
    it.run("Kept", retrain=True)
    it.hand("promote", it.name, "v5")
    it.write_spec()
    for batch in ("006", "007"):
        it.deliver(batch)
        it.label(batch)
    it.run("RolledBack")
    it.write_spec(policy='on_change = "block"')
    it.deliver("008", sparse(it.rows("008")))
    it.run("Blocked")
    it.hand("accept", it.name, "008")
    it.run("Held")
    it.deliver("009", sparse(it.rows("009")))
    it.write_spec(pipeline='factory = "sys:exit"')
    it.ror("run", it.name, "--action", "retrain", "--reason", "it is ended in the middle of training")
    it.write_spec()
    it.run("Held")
    it.label("008")
    it.deliver("010")
    it.run("Held")
    return it


def signed(folder: Path) -> Story:
    """The first version was made before there was a key; people without it speak about batches."""
    it = Story(folder)
    it.deliver("001")
    it.run("Retrained")
    _, made = it.ror("store", "keys", "--new", str(folder / "keys"))
    Path(made["private"]).rename(folder / "keys/private.pem")  # *.key is left out of the repository
    Path(made["public"]).rename(folder / "keys/public.pem")
    code, _ = it.ror("store", "keys", it.name, "--sign", "v1", required=False)
    assert code == 0
    it.deliver("002")
    it.run("Reloaded", required=False)
    it.hand("snooze", it.name, "--columns", "city", "--until", "2999-12-31", sign=False)
    it.hand("quarantine", it.name, "001", sign=False)
    it.hand("release", it.name, "001", sign=False)
    it.run("Retrained", retrain=True)
    it.hand("promote", it.name, "v1")
    it.deliver("003")
    it.run("Reloaded")
    it.deliver("004", make_rows(ROWS, seed=4, flip=1.0))
    it.run("Held")
    return it


def pruned(folder: Path) -> Story:
    """Three classes, in CSV files as some countries write them; the first versions are removed on record."""
    it = Graded(folder, 'task = "multiclass"', data='csv = { separator = ";", decimal = "," }', sections=TINY)
    for batch in ("001", "002", "003"):
        it.deliver(batch)
        it.run("Retrained", retrain=True)
    it.hand("store", "prune", it.name, "--keep", "1")
    it.deliver("004")
    it.run("Reloaded")
    return it


def erased(folder: Path) -> Story:
    """Rows of two people were erased, from batches, labels and what versions keep of them; one column is private."""
    it = Story(folder, data='private = ["income"]', sections=TINY, late=True)
    for batch, outcome in (("001", "Retrained"), ("002", "Reloaded")):
        it.deliver(batch)
        it.label(batch)
        it.run(outcome)
    it.deliver("003")
    it.run("Reloaded")
    for key in ("1-3", "3-9"):  # v1 keeps the first one among its samples
        it.hand("store", "erase", it.name, "--key", key)
    it.label("003")
    it.run("Retrained", retrain=True)
    it.deliver("004")
    it.run("Reloaded")
    return it


def skops(folder: Path) -> Story:
    """Versions that are no pickles, and hold a class of the user's own; a fit looks at the newest batches only."""
    write_code(folder)
    pipeline = f'format = "skops"\ntypes = {json.dumps(SKOPS)}\nfactory = "example_pipeline:build"'
    it = Story(
        folder,
        'task = "binary"\ncode = ["src"]',
        sections={"pipeline": pipeline, "policy.forgetting": "window = 2"},
    )
    it.deliver("001")
    it.run("Retrained")
    it.deliver("002")
    it.run("Reloaded")
    return it


def own_code(folder: Path) -> Story:
    """A regression with factory and steps of the user's own, which changed since: accepted by a person, on record."""
    source = write_code(folder)
    it = Continuous(
        folder,
        'task = "regression"\ncode = ["src"]',
        sections={"pipeline": 'factory = "example_pipeline:build"\nparameters = { alpha = 2.0 }'},
    )
    for batch in ("001", "002"):
        it.deliver(batch)
        it.run("Retrained", retrain=True)
    with (source / "example_steps.py").open("a") as file:
        file.write("\n\n# Reviewed, and nothing else was changed.\n")
    it.hand("promote", it.name, "v2", "--accept-environment")
    it.deliver("003")
    it.run("Reloaded")
    return it


def sparse(rows: pd.DataFrame) -> pd.DataFrame:
    """Changed content: every other age is missing."""
    return rows.assign(age=rows["age"].where(rows.index % 2 == 0))


def write_code(folder: Path) -> Path:
    """Modules of the user's own, and where they are."""
    source = folder / "root/src"
    source.mkdir(parents=True)
    (source / "example_steps.py").write_text(STEPS)
    (source / "example_pipeline.py").write_text(FACTORY)
    return source


class Graded(Story):
    """Three classes, called by names."""

    def rows(self, batch: str) -> pd.DataFrame:
        rows = super().rows(batch)
        return rows.assign(y=np.where(rows["y"] == 0, "low", np.where(rows["age"] > 50, "high", "middle")))


class Continuous(Story):
    """A number to predict."""

    def rows(self, batch: str) -> pd.DataFrame:
        rows = super().rows(batch)
        noise = np.random.default_rng(int(batch)).normal(0, 1, len(rows))
        return rows.assign(y=3.0 * rows["y"] + rows["income"].fillna(0.0) + noise)


STORIES: dict[str, Callable[[Path], Story]] = {
    "unsigned": unsigned,
    "signed": signed,
    "pruned": pruned,
    "erased": erased,
    "skops": skops,
    "own-code": own_code,
}


# --- freezing ------------------------------------------------------------------------------------------------


def freeze(target: Path) -> None:
    """Write the stores, all or none. Raises FileExistsError where there are some: they are never written again."""
    if target.exists():
        raise FileExistsError(f"{target} is there already: what was frozen is never written again.")
    secrets = machine()
    with tempfile.TemporaryDirectory() as folder, anonymous(), launch.prefect_ready():
        made = Path(folder) / target.name
        for name, told in STORIES.items():
            with code_below(made):
                told(made / name).end()
        check_anonymous(made, [*secrets, folder])
        check_covered(made)
        check_small(made)
        shutil.copytree(made, target)


@contextmanager
def anonymous() -> Iterator[None]:
    """This machine has the name of none, and so has its user."""
    libc = "-".join(filter(None, platform.libc_ver()))
    general = "-".join(filter(None, (platform.system(), platform.machine(), "with" if libc else "", libc)))
    with (
        mock.patch.dict(os.environ, {"LOGNAME": EXAMPLE}),
        mock.patch.object(socket, "gethostname", return_value=EXAMPLE),
        mock.patch.object(platform, "platform", return_value=general),
        mock.patch.object(lease, "_boot", return_value=EXAMPLE),
    ):
        yield


def machine() -> list[str]:
    """What must not be in a store: where it is written, and by whom."""
    boot = Path("/proc/sys/kernel/random/boot_id")
    names = [f"{getpass.getuser()}@", f"@{socket.gethostname()}", platform.platform(), str(FORMATS.parents[1])]
    return [*names, str(Path.home()) + os.sep, *([boot.read_text().strip()] if boot.exists() else [])]


def check_anonymous(folder: Path, secrets: list[str]) -> None:
    """Raises ValueError naming every file that says on which machine it was written."""
    words = re.compile(b"|".join(re.escape(secret.encode()) for secret in secrets))
    found = {path: words.search(path.read_bytes()) for path in folder.rglob("*") if path.is_file()}
    told = [f"{path.relative_to(folder)}: {match[0]!r}" for path, match in found.items() if match]
    if told:
        raise ValueError("These name the machine they were written on:\n" + "\n".join(told))


def check_covered(folder: Path) -> None:
    """Raises ValueError naming every kind of event and every field of the state that no story brings about."""
    events = [
        from_json(Event, path.read_bytes(), str(path)) for path in folder.glob("*/root/artifacts/*/ledger/*.json")
    ]
    kinds = {*UNSIGNED_KINDS, "decided", "promoted", "erased"} - {event.event for event in events}
    empty = State()
    fields = {
        item.name
        for item in dataclasses.fields(State)
        if all(getattr(event.state_after, item.name) == getattr(empty, item.name) for event in events)
    }
    if kinds or fields:
        raise ValueError(f"No story has events {sorted(kinds)} and state {sorted(fields)}.")


def check_small(folder: Path) -> None:
    """Raises ValueError for more than the repository should carry for ever."""
    size = sum(path.stat().st_size for path in folder.rglob("*") if path.is_file())
    if size > MOST:
        raise ValueError(f"The stores have {size:,} bytes; {MOST:,} are to be enough.")


def main() -> None:
    isolation.enter()  # Prefect reads its environment once, when it is imported
    match sys.argv[1:]:
        case [name] if re.fullmatch(r"v[1-9]\d*", name):
            freeze(FORMATS / name)
        case _:
            sys.exit("usage: python -m tests.formats.write v2")


if __name__ == "__main__":
    main()
