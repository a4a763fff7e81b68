"""What a row is: its key. The first batch that brought a key owns it, and no row counts twice.

A key that comes again mostly with other values names no row but an entity: a customer, month after month. Then a row is
known by its key and its batch; where a key names no row even within a batch, by its place alone. Without a key every
row is one of its own.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from enum import IntEnum
from functools import cached_property, lru_cache
from itertools import islice
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from tasks.core.data.arrow import (
    Numerals,
    as_floats,
    as_numbers,
    as_text,
    count_true,
    decoded,
    is_number,
    is_text,
    is_usable,
    reads_as_number,
)
from tasks.core.data.keys import keys_of
from tasks.core.data.source import Source
from tasks.core.errors import DataError
from tasks.core.spec import ModelSpec
from tasks.core.types import Batch

AGAIN = 0.25
"""Share of rows whose key was there before from which on their values are looked at: if most are other ones, the key
names no row. Exports that overlap share less, or repeat what they said."""
FEWEST = 10
"""Such rows that tell; of fewer nothing is concluded."""
LOOKS = 3
"""Batches whose values are looked at, the first ones beyond that share: what a key names is settled early, and looking
at all of history would cost more with every batch."""


class Names(IntEnum):
    """What a key tells apart."""

    ROW = 0
    ROW_OF_BATCH = 1
    """A row together with the batch that it came in."""
    NOTHING = 2
    """Not even the rows of one batch."""


@dataclass(frozen=True, slots=True)
class Repeats:
    """Rows of one batch whose key was there before, in the order in which batches own rows."""

    rows: int
    """Rows of the batch."""
    before: int
    """Those whose key an earlier batch brought."""
    within: int
    """The others, whose key a row further up in the batch has."""
    owners: tuple[str, ...]
    """Those earlier batches, the one with most of these rows first."""
    example: str
    """One of the keys."""


@dataclass(frozen=True)
class Identity:
    """Rows of batches by their keys. Rows are numbered through all batches; the origin of a row is the first one that
    has its key, which may be itself."""

    root: Path
    spec: ModelSpec
    batches: tuple[Batch, ...]
    """In the order in which they own rows."""

    @cached_property
    def names(self) -> Names:
        """What the key names, as these batches tell. It reads the keys of all of them, and few other values."""
        if self._mostly_other(self._origins_within):
            return Names.NOTHING
        return Names.ROW_OF_BATCH if self._mostly_other(self._origins) else Names.ROW

    def counted_before(self, batch: Batch) -> np.ndarray:
        """Numbers, in the batch, of the rows that count nowhere because they count elsewhere; sorted."""
        place = self._places.get(batch.id)
        if place is None or self.names is Names.NOTHING:
            return np.empty(0, dtype=np.int64)
        origins = self._origins(place) if self.names is Names.ROW else self._origins_within(place)
        return np.flatnonzero(origins != self._numbers(place))

    def repeats(self, batch: Batch) -> Repeats | None:
        """What of a batch was there before; None where nothing was, or where it is none of these batches."""
        place = self._places.get(batch.id)
        if place is None:
            return None
        origins = self._origins(place)
        again = np.flatnonzero(origins != self._numbers(place))
        if not len(again):
            return None
        start = self._starts[place]
        owners, counts = np.unique(self._batch_of(origins[origins < start]), return_counts=True)
        before = int(counts.sum())
        return Repeats(
            rows=len(origins),
            before=before,
            within=len(again) - before,
            owners=tuple(self.batches[owners[at]].id for at in np.argsort(-counts, kind="stable")),
            example=self._keys[start + again[0]].as_py(),
        )

    def restated(self, batch: Batch) -> int:
        """Rows of a batch that have other values than their origin. It reads the batch, and those of the origins."""
        place = self._places[batch.id]
        return self._other(place, self._origins(place))

    # --- keys ---

    @cached_property
    def _places(self) -> dict[str, int]:
        return {batch.id: place for place, batch in enumerate(self.batches)} if self.spec.key_columns else {}

    @cached_property
    def _parts(self) -> list[pa.Array]:
        """The keys of each batch; none of one whose keys cannot be read, as joining its labels says."""
        found = []
        for batch in self.batches:
            try:
                keys = keys_of(Source.of(self.root, self.spec, batch), self.spec).values
            except DataError:
                keys = pa.array([], pa.string())
            found.append(keys.cast(pa.large_string()))
        return found

    @cached_property
    def _keys(self) -> pa.Array:
        return pa.concat_arrays(self._parts)

    @cached_property
    def _starts(self) -> np.ndarray:
        return np.cumsum([0, *map(len, self._parts)])

    @cached_property
    def _codes(self) -> np.ndarray:
        """A number for each key, and one of its own for each row without."""
        codes = pc.fill_null(self._keys.dictionary_encode().indices, -1).to_numpy()
        return np.asarray(np.where(codes < 0, len(codes) + np.arange(len(codes)), codes))

    @cached_property
    def _first(self) -> np.ndarray:
        return _firsts(self._codes)

    def _numbers(self, place: int) -> np.ndarray:
        return np.arange(self._starts[place], self._starts[place + 1])

    def _batch_of(self, numbers: np.ndarray) -> np.ndarray:
        return np.searchsorted(self._starts, numbers, side="right") - 1

    def _origins(self, place: int) -> np.ndarray:
        return self._first[self._starts[place] : self._starts[place + 1]]

    def _origins_within(self, place: int) -> np.ndarray:
        """As if there were no other batch."""
        return int(self._starts[place]) + _firsts(self._codes[self._starts[place] : self._starts[place + 1]])

    # --- values ---

    def _mostly_other(self, origins_of: Callable[[int], np.ndarray]) -> bool:
        """Whether many rows have an origin, and most of them other values."""
        for place in islice(self._conspicuous(origins_of), LOOKS):
            origins = origins_of(place)
            if 2 * self._other(place, origins) > np.count_nonzero(origins != self._numbers(place)):
                return True
        return False

    def _conspicuous(self, origins_of: Callable[[int], np.ndarray]) -> Iterator[int]:
        """Batches with rows that came again, once those are AGAIN of all rows so far."""
        again = 0
        for place in range(len(self._parts)):
            found = int(np.count_nonzero(origins_of(place) != self._numbers(place)))
            again += found
            if found and again >= max(FEWEST, AGAIN * self._starts[place + 1]):
                yield place

    def _other(self, place: int, origins: np.ndarray) -> int:
        """How many rows of a batch have other values than these origins of them."""
        rows = np.flatnonzero(origins != self._numbers(place))
        owners = self._batch_of(origins[rows])
        other = 0
        for owner in np.unique(owners):
            mine = rows[owners == owner]
            other += self._unequal(place, mine, owner, origins[mine] - self._starts[owner])
        return other

    def _unequal(self, place: int, rows: np.ndarray, owner: int, origins: np.ndarray) -> int:
        """How many of these rows of one batch are unlike those of another one, pair by pair, in a column of both."""
        one, two = (Source.of(self.root, self.spec, self.batches[at]) for at in (place, owner))
        shared = [name for name in one.names if one.names.count(name) == two.names.count(name) == 1]
        aside = {*self.spec.key_columns, self.spec.time}
        names = [name for name in shared if name not in aside and name in (self.spec.features or shared)]
        names += [self.spec.target] if self.spec.target in {*shared} - {*names} else []
        unlike = np.zeros(len(rows), dtype=bool)
        for ours, theirs in zip(one.read(names).columns, two.read(names).columns, strict=True):
            unlike |= _unlike(
                _values(ours.take(pa.array(rows)), one.numerals), _values(theirs.take(pa.array(origins)), two.numerals)
            )
        return int(unlike.sum())


def identity_of(root: Path, spec: ModelSpec, batches: Sequence[Batch]) -> Identity:
    """The same object for as long as these batches have these bytes: a run asks several times."""
    plain = spec.model_copy(update={"classes": ()})  # of no concern here, and known to some callers only
    return _identity(root, plain.model_dump_json(), tuple(batches) if spec.key_columns else ())


@lru_cache(maxsize=4)
def _identity(root: Path, spec: str, batches: tuple[Batch, ...]) -> Identity:
    return Identity(root, ModelSpec.model_validate_json(spec), batches)


def _firsts(codes: np.ndarray) -> np.ndarray:
    """For each of these numbers the place of the first one that equals it, shape (rows,)."""
    _, first, inverse = np.unique(codes, return_index=True, return_inverse=True)
    return np.asarray(first[inverse])


def _values(column: pa.ChunkedArray, numerals: Numerals | None) -> pa.Array:
    """Values to be compared with those of another file: numbers as float64, also those of a text file, else text."""
    array = decoded(column.combine_chunks())
    if numerals is not None and is_text(array.type):
        fine = reads_as_number(array, numerals)
        if count_true(fine) == len(array) - array.null_count:
            array = as_numbers(array, numerals, fine)
    if is_number(array.type):
        return pa.array(as_floats(array))
    if is_usable(array.type):
        return as_text(array)
    return pa.array([None if value is None else str(value) for value in array.to_pylist()], pa.string())


def _unlike(ours: pa.Array, theirs: pa.Array) -> np.ndarray:
    """Pair by pair; two missing values are alike."""
    if pa.types.is_floating(ours.type) and pa.types.is_floating(theirs.type):
        one, two = ours.to_numpy(), theirs.to_numpy()
        return np.asarray((one != two) & ~(np.isnan(one) & np.isnan(two)))
    one, two = as_text(ours), as_text(theirs)
    alike = pc.or_(pc.fill_null(pc.equal(one, two), False), pc.and_(pc.is_null(one), pc.is_null(two)))
    return np.asarray(~alike.to_numpy(zero_copy_only=False))
