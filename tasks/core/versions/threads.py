"""Threads of numerical libraries: how many a process uses, and what a fork leaves of them.

OpenMP counts for each thread by itself: by its specification `nthreads-var` belongs to the thread that sets it. BLAS
mostly counts for the whole process. So a thread of a service may have a single thread of OpenMP for a while, and BLAS
is left alone there: two that set and restore it at the same time would leave it at one.
"""

from __future__ import annotations

import os
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from functools import lru_cache

from threadpoolctl import ThreadpoolController

from tasks.core.versions import namespaces

_turn = threading.RLock()
"""Held by who sets the pools of the whole process."""


def fair(runs: int = 1) -> int:
    """Threads for one of the runs that may be at work at once: OMP_NUM_THREADS where it is set, else its part of the
    cores that this process may use, by its affinity and its container's share; at least 1."""
    given = os.environ.get("OMP_NUM_THREADS", "").partition(",")[0]
    if given.isdecimal() and int(given):
        return int(given)
    import joblib

    return max(1, int(joblib.cpu_count()) // runs)


def use(threads: int) -> None:
    """From now on: OpenMP in this thread, BLAS in all of them. For a process that has one thing to do, such as a run or
    a reproduction; a service never calls it."""
    with _turn:
        _pools().limit(limits=threads)


@contextmanager
def single_openmp() -> Iterator[None]:
    """One thread of OpenMP in this thread until the block ends; other threads have what they had."""
    with _pools().select(user_api="openmp").limit(limits=1):
        yield


@contextmanager
def single() -> Iterator[None]:
    """One thread of every library until the block ends; one such block at a time in a process."""
    with _turn, _pools().limit(limits=1):
        yield


@lru_cache(maxsize=1)
def guard_forks() -> None:
    """From now on a process that is forked from this one computes with one thread. The teams of OpenMP are not there
    after a fork, and it would wait for them for ever."""
    if hasattr(os, "register_at_fork"):
        os.register_at_fork(before=_pools, after_in_child=_after_fork)


def _after_fork() -> None:
    global _turn
    _turn = threading.RLock()  # another thread may have held it, which is not there any more
    _pools().limit(limits=1)


def _pools() -> ThreadpoolController:
    return _found(len(sys.modules), namespaces.active())


@lru_cache(maxsize=8)
def _found(modules: int, at_work: namespaces.Namespace | None) -> ThreadpoolController:
    """Looked for again when modules were imported since: they may bring pools, and looking takes milliseconds. Models
    that are asked in turn have modules of their own, so that their number is another one each time."""
    return ThreadpoolController()
