"""scikit-learn's configuration, as `sklearn.set_config` changes it: of a thread, in no pickle, and part of an answer.

What a pipeline was built under is recorded with its version and holds while that fits or answers, and for nobody else.
"""

from __future__ import annotations

import threading
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from functools import cache
from typing import Any

FOR_PEOPLE = ("display", "print_changed_only")
"""Settings that say how an estimator is shown."""


@cache
def _defaults() -> Mapping[str, Any]:
    """As scikit-learn begins: a new thread has that, whatever others have set."""
    from sklearn import get_config

    found: dict[str, Any] = {}
    thread = threading.Thread(target=lambda: found.update(get_config()))
    thread.start()
    thread.join()
    return found


def changed() -> dict[str, Any]:
    """Settings of this thread that are not the default ones, by name."""
    from sklearn import get_config

    known = _defaults()
    return {name: value for name, value in get_config().items() if name not in FOR_PEOPLE and value != known.get(name)}


@contextmanager
def put_back() -> Iterator[None]:
    """What is set inside, as modules do when they are imported, is as it was afterwards."""
    from sklearn import config_context

    with config_context():
        yield


@contextmanager
def applied(settings: Mapping[str, Any]) -> Iterator[None]:
    """These settings hold inside; those that this release of scikit-learn does not know are left out."""
    if not settings:
        yield
        return
    from sklearn import config_context

    with config_context(**{name: value for name, value in settings.items() if name in _defaults()}):
        yield
