"""Reading is tried again where that may help; decisions are not."""

from __future__ import annotations

import threading
import time
from pathlib import Path

import pytest

from flows.server import launch
from tasks import retry
from tasks.core.errors import UnavailableData
from tasks.core.types import Outcome
from tests.helpers.model import Model

pytestmark = [
    pytest.mark.usefixtures("prefect"),
    pytest.mark.skipif(not Path("/proc/self/mem").exists(), reason="a file that really cannot be read is a Linux one"),
]

QUICK = "[pipeline]\nparameters = { max_iter = 10 }\n"


def unreadable(model: Model, batch: str) -> Path:
    """A batch whose file is an input/output error; where it lies in the meantime."""
    path = model.deliver(batch)
    aside = path.rename(path.with_suffix(".aside"))
    path.symlink_to("/proc/self/mem")
    return aside


def test_a_share_that_comes_back(model: Model) -> None:
    """A batch that cannot be read for a moment is decided on by the same run."""
    model.write_spec(QUICK)
    model.deliver("001")
    assert launch.run(model.root, model.name).outcome is Outcome.RETRAINED
    aside = unreadable(model, "002")
    later = threading.Timer(1.0, lambda: aside.replace(model.batches / "002.parquet"))
    later.start()
    assert launch.run(model.root, model.name).outcome is Outcome.RELOADED
    later.join()
    assert set(model.workspace.ledger.head().state.batches) == {"001", "002"}


def test_a_share_that_stays_away(model: Model, monkeypatch: pytest.MonkeyPatch) -> None:
    """The run ends in an error that says so, and decides nothing: the batch is not set aside, and is decided on once it
    can be read."""
    from flows import retrain_or_reload as flow

    monkeypatch.setattr(flow, "find_arrived", flow.find_arrived.with_options(retries=1, retry_delay_seconds=0.1))
    model.write_spec(QUICK)
    model.deliver("001")
    assert launch.run(model.root, model.name).outcome is Outcome.RETRAINED
    aside, before = unreadable(model, "002"), model.workspace.ledger.head()
    with pytest.raises(UnavailableData, match="Input/output error"):
        launch.run(model.root, model.name)
    assert model.workspace.ledger.head() == before
    aside.replace(model.batches / "002.parquet")
    assert launch.run(model.root, model.name).outcome is Outcome.RELOADED


def test_what_is_broken_is_not_tried_again(model: Model) -> None:
    """A batch that is cut short is set aside at once: the same bytes would be cut short again."""
    model.write_spec(QUICK)
    model.deliver("001")
    assert launch.run(model.root, model.name).outcome is Outcome.RETRAINED
    path = model.deliver("002")
    path.write_bytes(path.read_bytes()[:-500])
    began = time.monotonic()
    assert launch.run(model.root, model.name).outcome is Outcome.BLOCKED
    assert time.monotonic() - began < sum(retry.READING["retry_delay_seconds"])
