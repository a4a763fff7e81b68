"""The lease: one run of a model at a time."""

from __future__ import annotations

import contextlib
import os
import socket
import threading
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from functools import cache
from pathlib import Path
from types import TracebackType

from tasks.core.errors import (
    LeaseHeld,
    LedgerConflict,
    StoreError,
    VerificationError,
)
from tasks.core.ledger.events import Body, Decided, Event, EventKind, Failed, Renewed, Started
from tasks.core.ledger.ledger import Ledger
from tasks.core.ledger.state import LeaseRecord, State

LEASE_TTL = timedelta(minutes=10)


class Lease:
    """The right to decide for one model, held while the `with` block runs.

    A `started` event takes it and its number is the fencing token; `renewed` events keep it alive from a thread;
    `decided` or `failed` gives it back. No run is ever locked out for longer than the time to live, and a dead process
    on this host is noticed at once. Clock skew may cost time, never safety: every append is compare-and-swap.
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
            # Fenced off: a later run holds the lease, there is nothing to give back. And a store that cannot even note
            # an error must not hide it.
            with contextlib.suppress(LeaseHeld, *([StoreError] if error else [])):
                self.record(lambda _: Failed(said[:2000]))

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
        """End without a decision, where none was to be made: the lease runs out now."""
        self._stop.set()
        now = datetime.now(UTC).isoformat(timespec="seconds")
        self.record(lambda _: Renewed(now))
        self._released = True

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
            process_started=psutil.Process().create_time(),
        )


@cache
def _boot() -> str:
    """Identifies this boot of this machine, so that a process number from before a restart means nothing."""
    linux = Path("/proc/sys/kernel/random/boot_id")
    if linux.exists():
        return linux.read_text().strip()
    import psutil

    return str(int(psutil.boot_time()))


def is_alive(lease: LeaseRecord) -> bool:
    """Whether the run that holds it may still be at work."""
    if datetime.fromisoformat(lease.expires) < datetime.now(UTC):
        return False
    if lease.host != socket.gethostname():
        return True
    if lease.boot != _boot():
        return False
    import psutil

    try:
        process = psutil.Process(lease.pid)
        if process.status() == psutil.STATUS_ZOMBIE:  # dead, and its parent has not asked how it ended
            return False
        return abs(process.create_time() - lease.process_started) < 1
    except psutil.NoSuchProcess:
        return False
