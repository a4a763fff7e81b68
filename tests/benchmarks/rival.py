"""MLflow and pins at the work of `tests.benchmarks.store`, in an environment of their own.

A script, run by that benchmark with the interpreter of a throw-away environment: it needs nothing of this project.
Every line it reads is a command (`way`), every line it writes is the seconds that took, or why it could not be done.
"""

from __future__ import annotations

import contextlib
import importlib.metadata
import json
import logging
import os
import sys
import time
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

os.environ.update(MLFLOW_DISABLE_TELEMETRY="true", DO_NOT_TRACK="1", GIT_PYTHON_REFRESH="quiet")
warnings.simplefilter("ignore")
logging.disable(logging.WARNING)


def mlflow_ways(folder: Path, pipeline: Any, file: Path) -> dict[str, Callable[[], object]]:
    """Log, register and set the alias; and load by alias. SQLite beside a folder of artifacts, as for one machine."""
    import joblib
    import mlflow
    import numpy as np
    import pandas as pd

    mlflow.set_tracking_uri(f"sqlite:///{folder}/mlflow.db")
    mlflow.set_experiment(experiment_id=mlflow.create_experiment("benchmark", (folder / "mlruns").as_uri()))
    client = mlflow.MlflowClient()
    rows = pd.read_parquet(folder / "rows.parquet")
    example = rows.astype(dict.fromkeys(rows.select_dtypes("number").columns, np.float64)).head(100)

    def log(**options: Any) -> None:
        with mlflow.start_run():
            logged = mlflow.sklearn.log_model(pipeline, name="model", registered_model_name="model", **options)
        client.set_registered_model_alias("model", "champion", logged.registered_model_version)

    pickled = {"serialization_format": "cloudpickle"}
    return {
        "mlflow as it comes": log,
        "mlflow pickle": lambda: log(**pickled),
        "mlflow pickle, requirements given": lambda: log(**pickled, pip_requirements=["scikit-learn"]),
        "mlflow pickle, input_example": lambda: log(**pickled, input_example=example),
        "mlflow load": lambda: mlflow.sklearn.load_model("models:/model@champion"),
        "mlflow pyfunc load": lambda: mlflow.pyfunc.load_model("models:/model@champion"),
        "joblib there": lambda: joblib.load(file),
    }


def pins_ways(folder: Path, pipeline: Any) -> dict[str, Callable[[], object]]:
    """Write and read a pin on a board that is a folder."""
    import pins

    board = pins.board_folder(str(folder / "pins"), allow_pickle_read=True)
    return {
        "pins": lambda: board.pin_write(pipeline, "model", type="joblib", force_identical_write=True),
        "pins load": lambda: board.pin_read("model"),
    }


def answer(way: Callable[[], object]) -> dict[str, object]:
    began = time.perf_counter()
    try:
        with contextlib.redirect_stdout(sys.stderr):
            way()
    except Exception as error:  # noqa: BLE001 - whatever a rival says is its result
        return {"error": f"{type(error).__name__}: {str(error).splitlines()[0][:150]}"}
    return {"seconds": time.perf_counter() - began}


def main() -> None:
    import joblib

    folder, file = Path(sys.argv[1]), Path(sys.argv[2])
    os.chdir(folder)
    pipeline = joblib.load(file)
    ways = {**mlflow_ways(folder, pipeline, file), **pins_ways(folder, pipeline)}
    names = ("mlflow", "pins", "scikit-learn", "numpy", "pandas")
    print(json.dumps({name: importlib.metadata.version(name) for name in names}), flush=True)
    for line in sys.stdin:
        print(json.dumps(answer(ways[line.strip()])), flush=True)


if __name__ == "__main__":
    main()
