"""The lease: one run of a model at a time."""

from __future__ import annotations

import contextlib
import os
import socket
import threading
import time
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from functools import cache
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING

from tasks.core.errors import (
    LeaseHeld,
    LedgerConflict,
    StoreError,
    VerificationError,
)
from tasks.core.ledger.events import Body, Decided, Event, EventKind, Failed, Renewed, Started
from tasks.core.ledger.ledger import Ledger
from tasks.core.ledger.state import LeaseRecord, State
from tasks.core.text import second

if TYPE_CHECKING:
    from psutil import Process

LEASE_TTL = timedelta(minutes=10)

GIVEN_BACK = "1970-01-01T00:00:00+00:00"
"""The expiry of a lease that its run gave back, which therefore stands for nothing, however alive its process is."""


class Lease:
    """The right to decide for one model, held while the `with` block runs.

    A `started` event takes it and its number is the fencing token; `renewed` events keep it alive from a thread;
    `decided` or `failed` gives it back. Where the process can be looked at, it decides: see `is_alive`. Elsewhere no
    run is locked out for longer than the time to live. A run that is taken for dead wrongly, or clock skew, may cost
    time, never safety: every append is compare-and-swap, and a later lease fences the earlier one off.
    """

    def __init__(self, ledger: Ledger, *, run: str, key: str, actor: str, reason: str, ttl: timedelta = LEASE_TTL):
        self._ledger, self._ttl = ledger, ttl
        self._common = {"run": run, "key": key, "actor": actor, "reason": reason}
        self._write = threading.Lock()
        self._stop = threading.Event()
        self._released = False
        self.token = 0
        self.state = State()
        """The state this run decides on: the one it found when it took the lease."""

    def __enter__(self) -> Lease:
        """Raises LeaseHeld, naming the other run, while that one is alive; VerificationError when what this run will
        decide could not be signed."""
        self._ledger.check_may_append(EventKind.DECIDED)
        while True:
            head = self._ledger.head()
            if head.state.lease and is_alive(head.state.lease):
                other = head.state.lease
                raise LeaseHeld(f"Run {other.run} (process {other.pid} on {other.host}) is at work on this model.")
            try:
                event = self._ledger.append(head, Started(self._mine()), **self._common)
                break
            except LedgerConflict:
                continue
        self.token, self.state = event.seq, event.state_after
        threading.Thread(target=self._renew, name="lease", daemon=True).start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._stop.set()
        if not self._released:
            said = f"{kind.__name__}: {error}" if kind else "the run ended without a decision"
            if kind and not issubclass(kind, Exception):  # Ctrl-C, a cancellation, a time limit: no fault of the run's
                said = f"it was ended from outside ({said.removesuffix(': ')})"
            failed = Failed(said[:2000])
            try:
                self._record_failed(failed)
            except StoreError:
                # This process may live on, as a notebook or a server does, and would keep the lease as long.
                threading.Thread(target=self._give_back_later, args=(failed,), name="lease", daemon=True).start()
                if error is None:  # a store that cannot even note an error must not hide it
                    raise

    def commit(self, build: Callable[[State], Decided]) -> Event:
        """Append the run's `decided` event: `build(state)` gives its body for the newest state.

        It is called again when another writer (a promotion by hand, say) appended in between, so that the run
        reconsiders instead of overruling. Raises LeaseHeld when a later run has fenced this one off.
        """
        event = self.record(build)
        self._released = True
        self._stop.set()
        return event

    def record(self, build: Callable[[State], Body]) -> Event:
        """Append an event, with the body that `build` gives for the newest state, and keep the lease.

        Raises LeaseHeld as `commit` does.
        """
        with self._write:
            while True:
                head = self._ledger.head()
                lease = head.state.lease
                if lease is None or lease.token != self.token:
                    other = lease.run if lease else "a later run"
                    raise LeaseHeld(f"This run lost its lease to {other} and stops without a decision.")
                try:
                    return self._ledger.append(head, build(head.state), **self._common)
                except LedgerConflict:
                    continue

    def give_back(self) -> None:
        """End without a decision, where none was to be made."""
        self._stop.set()
        self.record(lambda _: Renewed(GIVEN_BACK))
        self._released = True

    def _record_failed(self, body: Failed) -> None:
        with contextlib.suppress(LeaseHeld):  # fenced off: a later run holds the lease, there is nothing to give back
            self.record(lambda _: body)

    def _give_back_later(self, body: Failed) -> None:
        while True:
            time.sleep(self._ttl.total_seconds() / 4)
            try:
                self._record_failed(body)
                return
            except VerificationError:
                return  # this history cannot be continued, by nobody
            except StoreError:
                continue

    def _renew(self) -> None:
        def later(_: State) -> Renewed:
            if self._stop.is_set():  # given back while this thread waited for its turn: it must not live on
                raise LeaseHeld("This run gave its lease back.")
            return Renewed((datetime.now(UTC) + self._ttl).isoformat(timespec="seconds"))

        while not self._stop.wait(self._ttl.total_seconds() / 4):
            try:
                self.record(later)
            except (LeaseHeld, VerificationError):
                return  # the commit will say so
            except StoreError:
                continue  # the store may answer again before the lease runs out

    def _mine(self) -> LeaseRecord:
        import psutil

        return LeaseRecord(
            token=0,
            run=self._common["run"],
            expires=(datetime.now(UTC) + self._ttl).isoformat(timespec="seconds"),
            host=socket.gethostname(),
            boot=_boot(),
            pid=os.getpid(),
            process_started=_began(psutil.Process()),
        )


@cache
def _boot() -> str:
    """Identifies the processes that a process number is one of: this boot of this machine, and on Linux the namespace.

    Containers of one host may share its name, and its boot, and still count their processes each for itself.
    """
    linux = Path("/proc/sys/kernel/random/boot_id")
    if linux.exists():
        namespace = Path("/proc/self/ns/pid")
        return " ".join([linux.read_text().strip(), *([str(namespace.readlink())] if namespace.is_symlink() else [])])
    import psutil

    return str(int(psutil.boot_time()))


def _began(process: Process) -> float:
    """When a process began, so that a number that is used again is not taken for it. On Linux in seconds after the
    boot: the time of day is made of them and of the clock, which is set now and then."""
    import psutil

    return float(process.create_time() - (psutil.boot_time() if psutil.LINUX else 0.0))


def can_be_looked_at(lease: LeaseRecord) -> bool:
    """Whether the process that holds it is one of those that this process sees: the same boot, the same namespace. The
    host's name says nothing, for containers share it. A lease of an earlier release names no namespace."""
    return lease.boot == _boot()


def is_alive(lease: LeaseRecord) -> bool:
    """Whether the run that holds it may still be at work.

    Where its process can be looked at, that alone decides: it may be too busy to renew its lease, for compiled code may
    hold the interpreter for hours. Elsewhere only the expiry does.
    """
    if lease.expires == GIVEN_BACK:
        return False
    import psutil

    unexpired = datetime.fromisoformat(lease.expires) >= datetime.now(UTC)
    if not can_be_looked_at(lease):
        return unexpired
    try:
        process = psutil.Process(lease.pid)
        if process.status() == psutil.STATUS_ZOMBIE:  # dead, and its parent has not asked how it ended
            return False
        return abs(_began(process) - lease.process_started) < 1
    except psutil.NoSuchProcess:
        return False
    except psutil.AccessDenied:  # another user's, on a system that does not show such
        return unexpired


def ends(lease: LeaseRecord) -> str:
    """Until when others wait for a run that is at work: "until it has ended", say."""
    at_latest = "" if can_be_looked_at(lease) else f", or until {second(lease.expires)} UTC if its process is gone"
    return f"until it has ended{at_latest}"
