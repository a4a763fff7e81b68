"""A pickle with code in it, put wherever somebody without the key can write: it is refused or ignored, and never runs.

Who can also write the history of an unsigned store can put any version in service: that is what signatures are for.
"""

from __future__ import annotations

import io
import json
import pickle
import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import joblib
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from tasks.core.errors import NotFound, RorError, VerificationError
from tasks.core.records import digest, from_json, to_json
from tasks.core.store import Store
from tasks.core.versions import registry
from tasks.core.versions.manifest import FileRecord, Manifest
from tasks.core.versions.registry import Registry
from tests.faults.deeds import MODEL, answers_of, in_child, look, perform

CURRENT = f"artifacts/{MODEL}/versions/00000002"
NEXT = f"artifacts/{MODEL}/versions/00000003"
LEDGER = f"artifacts/{MODEL}/ledger"
RUN = f"artifacts/{MODEL}/runs/00000004"
DATA = f"data/{MODEL}"


class Payload:
    """An object whose pickle runs code when it is loaded: it writes a file."""

    def __init__(self, marker: Path):
        self.marker = marker

    def __reduce__(self) -> tuple[Any, ...]:
        return Path.write_text, (self.marker, "your code ran")


@pytest.fixture
def root(roots: Path, tmp_path: Path) -> Path:
    """A root with v1 and v2 in service, and a batch to decide on."""
    return Path(shutil.copytree(roots / "grown", tmp_path / "root"))


@pytest.fixture
def marker(tmp_path: Path) -> Path:
    """A file that the payload would write."""
    return tmp_path / "marker"


def put(path: Path, data: bytes) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(data)


def as_joblib(payload: Payload) -> bytes:
    buffer = io.BytesIO()
    joblib.dump(payload, buffer)
    return buffer.getvalue()


def as_npy(payload: Payload) -> bytes:
    buffer = io.BytesIO()
    np.save(buffer, np.array([payload], dtype=object), allow_pickle=True)
    return buffer.getvalue()


def as_parquet(original: Path, payload: Payload) -> bytes:
    """The same table, with a column of the kind for which pyarrow once unpickled what the file's metadata hold
    (CVE-2023-47248), and the payload in pandas' own metadata as well."""
    table = pq.read_table(original)
    evil = {b"ARROW:extension:name": b"arrow.py_extension_type", b"ARROW:extension:metadata": pickle.dumps(payload)}
    fields = [pa.field(field.name, field.type, metadata=evil) for field in table.schema]
    about = {**(table.schema.metadata or {}), b"evil": pickle.dumps(payload)}
    buffer = io.BytesIO()
    pq.write_table(table.cast(pa.schema(fields, metadata=about)), buffer)
    return buffer.getvalue()


# --- in place of an object, or beside it ------------------------------------------------------------------------

REFUSED, IGNORED = "refused", "ignored"

Place = Callable[[Path, Payload], None]


def instead(path: str, made: Callable[[Payload], bytes] = as_joblib) -> Place:
    """The payload as a file of this name, whether there is one or not."""
    return lambda root, payload: put(root / path, made(payload))


def hidden_in(path: str) -> Place:
    """The payload in the metadata of a Parquet file that is otherwise as it was."""
    return lambda root, payload: put(root / path, as_parquet(root / path, payload))


def linked(root: Path, payload: Payload) -> None:
    elsewhere = root.parent / "elsewhere"
    put(elsewhere, as_joblib(payload))
    (root / CURRENT / "pipeline.joblib").unlink()
    (root / CURRENT / "pipeline.joblib").symlink_to(elsewhere)


def whole_version(root: Path, payload: Payload) -> None:
    """v3, with every digest as it should be and a manifest that says it passed; the history does not know it."""
    shutil.copytree(root / CURRENT, root / NEXT)
    put(root / NEXT / "pipeline.joblib", as_joblib(payload))
    manifest = from_json(Manifest, (root / NEXT / "manifest.json").read_bytes(), "manifest")
    data = (root / NEXT / "pipeline.joblib").read_bytes()
    files = {**manifest.files, "pipeline.joblib": FileRecord(digest(data), len(data))}
    put(root / NEXT / "manifest.json", to_json(replace(manifest, version=3, files=files)))


def other_manifest(root: Path, payload: Payload) -> None:
    """v2's pipeline, and its digest in v2's manifest as well."""
    whole_version(root, payload)
    for name in ("pipeline.joblib", "manifest.json"):
        text = (root / NEXT / name).read_bytes().replace(b'"version": 3', b'"version": 2')
        put(root / CURRENT / name, text)
    shutil.rmtree(root / NEXT)


def cut_off_history(root: Path, payload: Payload) -> None:
    """The digest of another v2 in the newest event, as whoever does not know the event's own digest would write it."""
    other_manifest(root, payload)
    newest = sorted((root / LEDGER).iterdir())[-1]
    found, sha256 = newest.read_bytes(), digest((root / CURRENT / "manifest.json").read_bytes())
    was = json.loads(found)["state_after"]["served"][-1]["manifest"]
    put(newest, found.replace(was.encode(), sha256.encode()))


PLACES: dict[str, tuple[Place, str]] = {
    "the pipeline": (instead(f"{CURRENT}/pipeline.joblib"), REFUSED),
    "the pipeline, as a plain pickle": (instead(f"{CURRENT}/pipeline.joblib", pickle.dumps), REFUSED),
    "the pipeline, as a link": (linked, REFUSED),
    "pipeline and manifest": (other_manifest, REFUSED),
    "pipeline, manifest and history": (cut_off_history, REFUSED),
    "the input schema": (instead(f"{CURRENT}/contract.json"), REFUSED),
    "the calibration": (instead(f"{CURRENT}/calibration.json"), REFUSED),
    "the evaluation": (instead(f"{CURRENT}/evaluation.json"), REFUSED),
    "the manifest": (instead(f"{CURRENT}/manifest.json"), REFUSED),
    "the known answers": (instead(f"{CURRENT}/probe.parquet"), REFUSED),
    "metadata of the known answers": (hidden_in(f"{CURRENT}/probe.parquet"), REFUSED),
    "metadata of the reference": (hidden_in(f"{CURRENT}/reference.parquet"), REFUSED),
    "the newest event": (instead(f"{LEDGER}/00000004.json"), REFUSED),
    "the next event": (instead(f"{LEDGER}/00000005.json"), REFUSED),
    "an event by far": (instead(f"{LEDGER}/00000099.json"), IGNORED),
    "a whole version": (whole_version, IGNORED),
    "the claim": (instead(f"{CURRENT}/claim.json"), IGNORED),
    "a page of a run": (instead(f"{RUN}/report.html"), IGNORED),
    "a decision": (instead(f"{RUN}/decision.json"), IGNORED),
    "an array beside the pipeline": (instead(f"{CURRENT}/pipeline.joblib_01.npy", as_npy), IGNORED),
    "another pipeline beside it": (instead(f"{CURRENT}/pipeline.pkl", pickle.dumps), IGNORED),
    "a module beside the pipeline": (instead(f"{CURRENT}/sklearn.py"), IGNORED),
    "a batch": (instead(f"{DATA}/batches/003.parquet"), IGNORED),
    "metadata of a batch": (hidden_in(f"{DATA}/batches/003.parquet"), IGNORED),
    "a batch that is a pickle by name": (instead(f"{DATA}/batches/004.pkl", pickle.dumps), IGNORED),
    "metadata of predictions": (hidden_in(f"{DATA}/predictions/002.parquet"), IGNORED),
}


@pytest.mark.parametrize(("place", "expected"), PLACES.values(), ids=PLACES)
def test_a_payload_never_runs(root: Path, marker: Path, place: Place, expected: str) -> None:
    """Loading, reading the history and a whole run refuse the payload or do not look at it; it never runs."""
    before = in_child(look, root).answer
    place(root, Payload(marker))
    registry._LOADED.clear()
    reader = Registry(Store(root / "artifacts"))
    if expected == REFUSED:
        with pytest.raises((VerificationError, NotFound)):
            _ = reader.load_current(MODEL).rest
        with pytest.raises((VerificationError, NotFound)):
            in_child(perform, "run", root)
    else:
        assert answers_of(reader.load_current(MODEL)) == before.answers
        outcome, _ = in_child(perform, "run", root).answer
        assert outcome in ("Reloaded", "Retrained", "Blocked")
        registry._LOADED.clear()
        assert answers_of(Registry(Store(root / "artifacts")).load_current(MODEL))
    for read in (reader.ledger(MODEL).events, lambda: reader.versions(MODEL)):
        try:
            read()
        except RorError:
            assert expected == REFUSED
    assert not marker.exists()
    pickle.loads(pickle.dumps(Payload(marker)))
    assert marker.exists(), "the payload would have run"


def test_what_was_hashed_is_what_is_unpickled(root: Path, marker: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A pipeline that is replaced while it is loaded does not get in: its bytes are read once."""
    reads: list[str] = []
    honest = Store.read

    def then_replaced(store: Store, path: str) -> bytes:
        data = honest(store, path)
        reads.append(path)
        if path.endswith("pipeline.joblib"):
            put(root / CURRENT / "pipeline.joblib", as_joblib(Payload(marker)))
        return data

    before = in_child(look, root).answer
    monkeypatch.setattr(Store, "read", then_replaced)
    registry._LOADED.clear()
    assert answers_of(Registry(Store(root / "artifacts")).load_current(MODEL)) == before.answers
    assert len(reads) == len(set(reads))
    assert not marker.exists()
    registry._LOADED.clear()
    with pytest.raises(VerificationError, match=r"pipeline\.joblib"):
        Registry(Store(root / "artifacts")).load_current(MODEL)
    assert not marker.exists()
