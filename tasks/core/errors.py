"""What can go wrong, drawn once.

    RorError                     1   anything else
    ├── SpecError                2   a model's file, or a setting of this machine, is wrong
    ├── InvalidRequest           2   what was asked for cannot be done: a parameter's value is wrong
    ├── DataError                3   data that no pipeline may see
    │   ├── UnreadableData
    │   └── UnpredictableData
    ├── VerificationError        4   an artifact or the ledger is not what was recorded
    │   ├── CorruptObject
    │   ├── EnvironmentMismatch
    │   ├── UntrustedTypes
    │   ├── ProbeMismatch
    │   ├── SignatureError
    │   └── NewerFormat
    ├── TrainingError            5   no challenger; the current version was kept
    ├── StoreError               1   the store could not be read or written
    │   ├── AlreadyExists
    │   └── NotFound
    ├── UnavailableData          1   data that cannot be read at the moment; whether they are good is not known
    ├── RunTimedOut              1   a run took longer than it may
    ├── Unfinished               *   what was decided stands, but batches are not predicted; * as what went wrong
    ├── LedgerConflict           1   another writer appended first
    └── LeaseHeld                0   another run of this model is in progress

The number is the exit code of `ror`. Every message says what, which value, and the next step.
"""

from __future__ import annotations

import errno
import traceback
from collections.abc import Iterable, Mapping
from pathlib import Path


class RorError(Exception):
    """Base of every error that a user is meant to read."""

    exit_code = 1

    def __reduce__(self) -> tuple[object, ...]:
        # Prefect pickles exceptions between processes; keyword-only constructors would not survive the default.
        return (_rebuild, (type(self), self.args, self.__dict__))


def _rebuild(cls: type[RorError], args: tuple[object, ...], attributes: dict[str, object]) -> RorError:
    error = cls.__new__(cls)
    error.args = args
    error.__dict__.update(attributes)
    return error


class SpecError(RorError):
    """A model's file, or a setting of this machine, cannot be used; `problems` holds all of it, one line each."""

    exit_code = 2

    def __init__(self, where: str, problems: list[str]):
        self.where, self.problems = where, problems
        super().__init__(_listed(where, problems))


class InvalidRequest(RorError):
    """What was asked for cannot be done; `problems` holds all that is wrong with it, one line each.

    `parameters` are the names that the functions of the core, the flows and the commands share: `until`, `older_than`;
    more than one where the values do not go together. A flow's form shows them as they are. The command line shows its
    own spelling of them, see `spelled`.
    """

    exit_code = 2

    def __init__(self, parameter: str | Iterable[str], problems: Iterable[str]):
        self.parameters = (parameter,) if isinstance(parameter, str) else tuple(parameter)
        self.problems = list(problems)
        super().__init__(_listed(", ".join(self.parameters), self.problems))

    def spelled(self, names: Mapping[str, str]) -> InvalidRequest:
        """The same error with the names that users know, such as `--until`, for those parameters that have one."""
        return InvalidRequest([names.get(name, name) for name in self.parameters], self.problems)


def _listed(what: str, problems: Iterable[str]) -> str:
    return "\n".join([f"{what}:", *(f"  - {problem}" for problem in problems)])


class DataError(RorError):
    """Data that must not reach a pipeline."""

    exit_code = 3


class UnreadableData(DataError):
    """A file that is not what its name says, is cut short, or is not there."""

    def __init__(self, file: str, reason: str):
        self.file, self.reason = file, reason
        super().__init__(f"{file} cannot be read: {reason}")


class UnpredictableData(DataError):
    """Data that satisfy the input schema, but on which a pipeline fails."""


class UnavailableData(RorError):
    """A file that the file system does not give at the moment: a network share that is gone, rights that are missing.
    The file itself may be good, so that its batch is not set aside."""

    def __init__(self, file: str, reason: str):
        self.file, self.reason = file, reason
        super().__init__(
            f"{file} cannot be read at the moment: {reason}. Nothing was decided on it. Check that the share is "
            "mounted and that this user may read the file, then run it again."
        )


class RunTimedOut(RorError, TimeoutError):
    """A run took longer than `[schedule] timeout_minutes`; its remaining steps are not done."""


class Unfinished(RorError):
    """A decision stands, and its batches are not predicted: the next run does it."""

    def __init__(self, decided: str, error: BaseException):
        self.exit_code = error.exit_code if isinstance(error, RorError) else 1
        reason = str(error) if isinstance(error, RorError) else f"{type(error).__name__}: {error}"
        super().__init__(
            f"{decided} This stands, but not all of its batches are predicted: {reason.rstrip('.')}. "
            "The next run predicts them."
        )


class VerificationError(RorError):
    """What the store holds is not what was recorded, or must not be loaded here."""

    exit_code = 4


class CorruptObject(VerificationError):
    """Bytes that differ from their digest, or a record that contradicts itself."""


class EnvironmentMismatch(VerificationError):
    """The version was made with other libraries than are installed here; `differences` holds all that a person may
    accept for it."""

    def __init__(self, message: str, differences: tuple[str, ...] = ()):
        self.differences = differences
        super().__init__(message)


class UntrustedTypes(VerificationError):
    """The version is saved in a form, or is made of types, that this deployment does not allow."""


class ProbeMismatch(VerificationError):
    """The pipeline loads, but no longer gives the answers it gave when it was registered."""


class SignatureError(VerificationError):
    """A version or an event that is not signed, signed wrongly, or by a key that is not trusted here."""


class NewerFormat(VerificationError):
    """A newer release wrote to this history, in a format that this one would not keep whole."""


class TrainingError(RorError):
    """A challenger could not be made."""

    exit_code = 5


class StoreError(RorError):
    """The store could not be read or written (permissions, disk, network)."""


class AlreadyExists(StoreError):
    """The object exists already. Nothing was written."""


class NotFound(StoreError):
    """There is no such object."""


class LedgerConflict(RorError):
    """Another writer appended first: read the ledger again and reconsider."""


class LeaseHeld(RorError):
    """Another run of this model holds the lease."""

    exit_code = 0


def in_short(error: Exception, *, withheld: bool) -> str:
    """What a library raised, and where. Its text is withheld where that may quote values of `data.private`."""
    frames = traceback.extract_tb(error.__traceback__)
    where = f" ({Path(frames[-1].filename).name}:{frames[-1].lineno})" if frames else ""
    text = "its text is withheld, because of `data.private`" if withheld else str(error).strip()
    return f"{type(error).__name__}: {text}{where}"


NEEDS_LINKS = (
    "the file system has no hard links, which creating without overwriting needs; use a folder on another one, such as "
    "a local disk"
)
NO_LINKS = frozenset(
    getattr(errno, name) for name in ("EPERM", "ENOTSUP", "EOPNOTSUPP", "ENOSYS") if hasattr(errno, name)
)
"""What the operating system says where there are no hard links."""

_PASSING = """
    EIO EREMOTEIO ESTALE ETIMEDOUT EAGAIN EBUSY EINTR EMFILE ENFILE ENOMEM
    ENOTCONN ECONNRESET ECONNABORTED ECONNREFUSED ENETDOWN ENETUNREACH EHOSTDOWN EHOSTUNREACH
"""
PASSING = frozenset(getattr(errno, name) for name in _PASSING.split() if hasattr(errno, name))
"""What the operating system says of a file or share that it may well give the next time."""
BARRED = frozenset({errno.EACCES, errno.EPERM})


def is_unavailable(error: BaseException) -> bool:
    """Whether this is about how a file is reached, and says nothing about what is in it. Arrow's own complaints about a
    file's content are an OSError, too, but without a number."""
    return isinstance(error, OSError) and error.errno in PASSING | BARRED


def may_pass(error: BaseException) -> bool:
    """Whether trying again may help: never where it would only ask for another answer, as with data that break their
    input schema, a gate, or an object that exists already."""
    cause = error.__cause__ if isinstance(error, UnavailableData | StoreError) else None
    return isinstance(cause, OSError) and cause.errno in PASSING
