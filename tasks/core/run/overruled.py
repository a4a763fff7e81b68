"""A correction that corrects nothing: of two label files the one whose name sorts last counts, whichever came last."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import pyarrow as pa
import pyarrow.compute as pc

from tasks.core.data.labels import LabelFile, Labels
from tasks.core.types import Check, CheckKind, Verdict


def check_overruled(labels: Labels, fresh: Sequence[Path], before: Sequence[Check]) -> list[Check]:
    """A warning about each label file that is `fresh`, or was named before, and has other labels than files that were
    there already and sort after it. `before` are the checks of the newest decision."""
    if labels.spec.data.labels is None or len(fresh) == len(labels.files):  # all came together: in their order
        return []
    again = {check.subject for check in before if check.kind is CheckKind.OVERRULED}
    checks = []
    for place, path in enumerate(labels.files):
        if path in fresh or path.name in again:
            later = [
                labels.file(other)
                for other in labels.files[place + 1 :]
                if other not in fresh and labels.share(path, other)
            ]
            if said := overruled(labels.file(path), later):
                checks.append(Check.of(CheckKind.OVERRULED, path.name, Verdict.WARN, said))
    return checks


def overruled(file: LabelFile, later: Sequence[LabelFile]) -> str:
    """How many labels of a file do not count, because files that sort after it have others for the same keys, and what
    to do; empty where there are none. `later` is in time order."""
    keys = file.keys()
    own = _by_key(keys.values, file.values)
    lost: set[str] = set()
    names = []
    for other in later:
        theirs = _by_key(other.keys(keys.kinds).values, other.values)
        both = own.join(theirs, "key", join_type="inner", right_suffix="_later")
        differ = pc.not_equal(both.column("label"), both.column("label_later"))
        if found := both.column("key").filter(differ).to_pylist():
            lost.update(found)
            names.append(other.name)
    if not lost:
        return ""
    stem, _, suffix = file.name.rpartition(".")
    better = f"{later[-1].name.rpartition('.')[0]}-{stem}.{suffix}"
    return (
        f"{len(lost):,} of {len(own):,} labels in {file.name} do not count: {', '.join(names)} has others for the same "
        f"keys, and sorts after it. If it corrects them, call it {better}, so that it sorts last"
    )


def _by_key(keys: pa.Array, labels: pa.Array) -> pa.Table:
    """The label of each key, as text: of rows with the same key the last one."""
    text = labels.cast(pa.string()) if not pa.types.is_null(labels.type) else pa.nulls(len(labels), pa.string())
    rows = pa.table({"key": keys.cast(pa.string()), "label": text, "row": pa.array(range(len(keys)), pa.int64())})
    rows = rows.filter(pc.and_(pc.is_valid(rows.column("key")), pc.is_valid(rows.column("label"))))
    last = rows.group_by("key").aggregate([("row", "max")]).column("row_max")
    return rows.take(last).select(["key", "label"])
