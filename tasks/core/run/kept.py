"""Which batches that were decided on are gone, which of them may be, and which a fit would look at."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from datetime import timedelta

from tasks.core.data.files import in_order
from tasks.core.ledger.state import State
from tasks.core.spec import ModelSpec
from tasks.core.text import counted, days_of, named


def looked_at(spec: ModelSpec, usable: Sequence[str]) -> list[str]:
    """Those of the labelled batches that a fit looks at, in time order: with a window the newest ones only. A batch of
    it that is gone is not made up for by an older one."""
    window = spec.policy.forgetting.window
    return list(usable[-window:] if window else usable)


def gone(spec: ModelSpec, state: State, here: Collection[str]) -> list[str]:
    """Batches that were decided on and are not `here`, but for those that may be gone; in time order."""
    return [name for name in _kept(spec, state) if name not in here]


def words(missing: Sequence[str]) -> str:
    """What is said of batches that are gone, in one sentence, and what to do about it."""
    it = ("was", "is", "it", "it") if len(missing) == 1 else ("were", "are", "them", "they")
    return (
        f"{counted(len(missing), 'batch', 'batches')} that {it[0]} decided on {it[1]} gone ({named(missing)}): what is "
        f"trained now learns without {it[2]}. Restore {it[2]}; if {it[3]} may be gone, say with data.keep how many are "
        "kept"
    )


def undated(spec: ModelSpec, names: Collection[str]) -> list[str]:
    """Names of batches that say no day, where `data.keep` is an age; these are never too old."""
    from tasks.core.data.dates import dates_in_name  # loads Arrow, which nothing else here needs

    return [name for name in names if dates_in_name(name) is None] if isinstance(spec.data.keep, str) else []


def _kept(spec: ModelSpec, state: State) -> list[str]:
    """Those of the batches that were decided on that have to be there, in time order."""
    names, keep = in_order(state.batches, state.order), spec.data.keep
    if keep is None:
        first = looked_at(spec, state.usable)[:1]
        return names[names.index(first[0]) :] if first and spec.policy.forgetting.window else names
    if isinstance(keep, int):
        return names[-keep:]
    from tasks.core.data.dates import dates_in_name

    days = {name: span[1] for name in names if (span := dates_in_name(name))}
    newest = max(days.values(), default=None)
    age = timedelta(days_of(keep))
    return [name for name in names if newest is None or newest - days.get(name, newest) < age]
