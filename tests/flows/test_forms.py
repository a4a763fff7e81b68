"""Errors of flows about what was asked for: they name a box of the form, as Prefect shows it."""

from __future__ import annotations

from typing import Any

import pytest
from prefect import Flow
from prefect.logging import disable_run_logger

from flows.promote import promote
from flows.reproduce import reproduce
from flows.retrain_or_reload import retrain_or_reload
from flows.verify import verify
from tasks.core.errors import InvalidRequest
from tests.helpers.model import Model


@pytest.mark.parametrize(
    ("flow", "asked", "box"),
    [
        (retrain_or_reload, {"model": "laons"}, "model"),
        (retrain_or_reload, {"model": "loans", "action": "retrain", "reason": ""}, "reason"),
        (promote, {"model": "loans", "version": 9, "reason": "a test"}, "version"),
        (promote, {"model": "loans", "version": 9, "reason": " "}, "reason"),
        (verify, {"model": "laons"}, "model"),
        (verify, {"model": "loans", "expect_head": "4"}, "expect_head"),
        (verify, {"model": None, "expect_head": f"4:{'a' * 64}"}, "model"),
        (reproduce, {"model": "loans", "version": 9}, "version"),
    ],
)
def test_errors_name_a_box_of_the_form(model: Model, flow: Flow[Any, Any], asked: dict[str, Any], box: str) -> None:
    """The error's parameter is one of the flow's own, and the message begins with its name."""
    with disable_run_logger(), pytest.raises(InvalidRequest) as raised:
        flow.fn(**asked, root=str(model.root))
    assert raised.value.parameters == (box,)
    assert str(raised.value).startswith(f"{box}:\n  - ")
    assert box in flow.parameters.properties
