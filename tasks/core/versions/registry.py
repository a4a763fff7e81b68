"""Versions: register, verify, load. Import-light, for services: neither Prefect nor Evidently comes along.

Registry("artifacts").load_current("flights").predict(frame)
"""

from __future__ import annotations

import contextlib
import gc
import json
import uuid
from collections.abc import Iterable, Iterator, Mapping, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

from tasks.core import layout
from tasks.core.errors import (
    AlreadyExists,
    CorruptObject,
    InvalidRequest,
    NotFound,
    SignatureError,
    SpecError,
    StoreError,
    UntrustedTypes,
    VerificationError,
)
from tasks.core.ledger.keys import SIGNING_KEY
from tasks.core.ledger.ledger import Ledger, pruned
from tasks.core.ledger.signing import SignatureStatus, Trust
from tasks.core.ledger.state import State
from tasks.core.records import digest, from_dict, from_json, to_dict, to_json
from tasks.core.store import Store
from tasks.core.text import named
from tasks.core.types import Served
from tasks.core.versions.loaded import LoadedVersion
from tasks.core.versions.manifest import (
    CLAIM,
    ERASABLE,
    FORMAT_VERSION,
    FORMS,
    MANIFEST,
    PROBE,
    SIGNATURE,
    SOURCES,
    Candidate,
    FileRecord,
    Manifest,
    parse_manifest,
    predicts,
)

if TYPE_CHECKING:
    from tasks.core.schema.contract import Contract


class Registry:
    """The versions of every model in one store.

    `trust` says which signatures count, by default as the environment does. `forms` are the forms of pipelines that are
    loaded: ("skops",) refuses to unpickle. `types` are the classes, besides scikit-learn's own, that skops may make.
    `code` are folders with modules of the pipelines' own: from the first load on they can be imported. All of it says
    what this deployment trusts; the store has no say in it. Raises SpecError for keys that cannot be used, or that are
    in the store, and for unknown forms.
    """

    def __init__(
        self,
        store: Store | str | Path,
        trust: Trust | None = None,
        *,
        forms: Sequence[str] = FORMS,
        types: Sequence[str] = (),
        code: Iterable[Path] = (),
    ):
        self.store = store if isinstance(store, Store) else Store(store)
        self.trust = Trust.from_environment() if trust is None else trust
        self.trust.check_outside(self.store.folder)
        self._forms, self._types, self._code = tuple(forms), tuple(types), tuple(code)
        if isinstance(forms, str) or not {*forms} <= {*FORMS}:
            raise SpecError("forms", [f"{forms!r} is not a list of {' and '.join(FORMS)}; write forms=('skops',)"])

    def ledger(self, model: str) -> Ledger:
        """The history of one model."""
        return Ledger(self.store, model, self.trust)

    # --- registering ---

    def claim(self, model: str, run_key: str) -> int:
        """Take the next number. A claim without a manifest is invisible and harmless: gaps are fine."""
        number = (self._numbers(model) or [0])[-1] + 1
        at, by = datetime.now(UTC).isoformat(timespec="seconds"), uuid.uuid4().hex  # no two claims have the same bytes
        claim = to_json({"run_key": run_key, "at": at, "by": by})
        while True:
            try:
                self.store.create(layout.version_path(model, number, CLAIM), claim)
                return number
            except AlreadyExists:
                number += 1

    def register(self, model: str, run_key: str, candidate: Candidate) -> tuple[int, str]:
        """Claim a number, put the files, put the manifest last; returns (version, manifest digest).

        A version exists if and only if its manifest does. Raises StoreError; nothing that exists is ever touched.
        Raises VerificationError when it would have to be signed and this process has no key.
        """
        self.trust.check_may_sign(f"A version of {model}")
        number = self.claim(model, run_key)
        files = candidate.files()
        for name, data in files.items():
            self.store.create(layout.version_path(model, number, name), data, durable=True)
        manifest = from_dict(
            Manifest,
            {
                **candidate.manifest,
                "format_version": FORMAT_VERSION,
                "model": model,
                "version": number,
                "run_key": run_key,
                "created": datetime.now(UTC).isoformat(timespec="seconds"),
                "files": {name: FileRecord(digest(data), len(data)) for name, data in files.items()},
                "environment": to_dict(candidate.environment),
            },
        )
        data = to_json(manifest)
        if signature := self.trust.sign_manifest(data):
            self.store.create(layout.version_path(model, number, SIGNATURE), signature, durable=True)
        self.store.create(layout.version_path(model, number, MANIFEST), data, durable=True)
        return number, digest(data)

    def adopt(self, model: str, run_key: str, newer_than: int) -> tuple[int, str] | None:
        """A complete version that this very run registered before it died, if there is one. What is not signed, where
        it must be, is not its own."""
        for number in reversed(self._numbers(model)):
            if number <= newer_than:
                return None
            with contextlib.suppress(NotFound, SignatureError):
                manifest, sha256 = self.manifest(model, number)
                if manifest.run_key == run_key:
                    return number, sha256
        return None

    def sign(self, model: str, version: int) -> str:
        """Sign a version that was registered without the key, because a person vouches for it; returns the key's id.

        Raises VerificationError when this process has no key, or the version is not what it and the history say (its
        files are checked, as far as they are there; nothing is unpickled), AlreadyExists when it has a signature.
        """
        from tasks.core.ledger import events

        path = layout.version_path(model, version, MANIFEST)
        data = self.store.read(path)
        named = events.named_manifests({event.seq: event for event in self.ledger(model).events()}).get(version)
        if named and digest(data) not in named:
            raise CorruptObject(
                f"{path} is not the manifest that the history names. It was altered: nothing was signed."
            )
        manifest = parse_manifest(data, path, model, version)
        for name in manifest.files:
            with contextlib.suppress(NotFound):  # removed, on record
                self.file(manifest, name)
        signature = self.trust.sign_manifest(data)
        if signature is None or self.trust.signing is None:
            raise VerificationError(f"There is no key to sign with here: set {SIGNING_KEY}.")
        self.store.create(layout.version_path(model, version, SIGNATURE), signature, durable=True)
        return self.trust.signing

    # --- reading ---

    def versions(self, model: str) -> list[int]:
        """Numbers of the complete versions, oldest first."""
        return [n for n in self._numbers(model) if self.store.exists(layout.version_path(model, n, MANIFEST))]

    def manifest(self, model: str, version: int, expected: str | None = None) -> tuple[Manifest, str]:
        """A version's record and its digest. Raises NotFound, CorruptObject when it is not the expected one, and
        SignatureError when it is not signed as it must be here."""
        path = layout.version_path(model, version, MANIFEST)
        data = self.store.read(path)
        sha256 = digest(data)
        if expected and sha256 != expected:
            raise CorruptObject(
                f"{path} is not the manifest that the history names (sha256 {sha256[:12]}, recorded {expected[:12]}). "
                "It was altered: restore it from a backup."
            )
        if self.trust.keys:
            remedy = f"If it is yours, sign it where the key is: `ror store keys {model} --sign v{version}`."
            self.trust.refuse(self.trust.of_manifest(data, self._signature(model, version)), path, remedy)
        return parse_manifest(data, path, model, version), sha256

    def manifest_of(self, model: str, served: Served) -> Manifest:
        """The record of a version that the history names. Raises as `manifest` does."""
        return self.manifest(model, served.version, served.manifest)[0]

    def unknown(self, model: str, version: int, parameter: str = "version") -> InvalidRequest:
        """The error for a version that was asked for, as this parameter, and does not exist: it names those that do."""
        known = ", ".join(f"v{number}" for number in self.versions(model)) or "none"
        return InvalidRequest(parameter, [f"{model} has no version v{version}. Versions: {known}"])

    def signature_status(self, model: str, version: int) -> SignatureStatus:
        """What the signature of a version is worth here; nothing is refused for it. Raises NotFound or StoreError."""
        data = self.store.read(layout.version_path(model, version, MANIFEST))
        return self.trust.of_manifest(data, self._signature(model, version))

    def load(self, model: str, served: Served | int, *, fresh: bool = False, whole: bool = True) -> LoadedVersion:
        """Load one version, verified. Nothing is unpickled before manifest, environment and digests are checked.

        A mere number means the version that the history knows by it, if it knows one.

        The files that predicting does not need are verified at once too, if the `whole` version is asked for.

        Raises VerificationError (CorruptObject, SignatureError, EnvironmentMismatch, ProbeMismatch), NotFound or
        StoreError; another version is never loaded instead. The same version is loaded once per process, unless
        `fresh` is asked for.
        """
        known = self.ledger(model).named(served) if isinstance(served, int) else served
        number = served if isinstance(served, int) else served.version
        accepted = known.accepts if known else ()
        manifest, sha256 = self.manifest(model, number, known.manifest if known else None)
        # All that a load may be refused for is part of the key: what was loaded before gets round nothing.
        trusted = (tuple(self.trust.keys), self.trust.required)
        key = (self.store.location, model, sha256, accepted, self._forms, self._types, self._code, trusted)
        cached = None if fresh else _LOADED.get(key)
        if cached is None:
            with _gc_paused():
                cached = _LOADED[key] = self._load(manifest, sha256, accepted)
            while len(_LOADED) > _KEEP_LOADED:
                _LOADED.pop(next(iter(_LOADED)), None)  # another thread may have been quicker
        if whole:
            _ = cached.rest
        return cached

    def load_current(self, model: str) -> LoadedVersion:
        """The version in service, ready to predict. Raises NotFound when there is none yet, and what `load` raises."""
        return self.load_in_service(model, self.ledger(model).head().state, whole=False)

    def load_in_service(self, model: str, state: State, *, whole: bool = True) -> LoadedVersion:
        """The version that this state has in service. Raises as `load_current` does.

        Where it fails, the error names the newest version that was in service before and that does load here, else one
        that waits for approval, with the command that puts it in service: a person decides that. It says so where none
        does.
        """
        if state.current is None:
            where = self.store.folder or self.store.location
            raise NotFound(f"No version of {model!r} is in service yet in {where}. `ror run {model}` trains one.")
        try:
            return self.load(model, state.current, whole=whole)
        except (VerificationError, NotFound) as error:
            if instead := self._instead(model, state):
                error.args = (f"{error}\n{instead}",)
            raise

    def _instead(self, model: str, state: State) -> str:
        """What could take the place of the version in service; empty where there is no other."""
        out = {*state.barred, *state.pruned, *(served.version for served in state.served[-1:])}
        known = sorted((*state.served, *state.waiting), key=lambda it: (it in state.waiting, -it.version))
        others = {served.version: served for served in known if served.version not in out}
        for version, served in others.items():
            with contextlib.suppress(VerificationError, StoreError):
                self.load(model, served, whole=False)
                puts = "puts it" if served in state.waiting else "puts it back"
                command = f"`ror promote {model} v{version} --reason '...'`"
                return f"v{version} loads here: {command} checks v{version} and {puts} in service."
        if not others:
            return ""
        tried = named([f"v{version}" for version in others])
        return f"No other version that was in service or waits loads here ({tried})."

    def _load(self, manifest: Manifest, sha256: str, accepted: Sequence[str]) -> LoadedVersion:
        from tasks.core.versions import environment, loading, namespaces, own_code

        what = f"{manifest.model} v{manifest.version}"
        if not manifest.form or not {"contract.json", PROBE} <= {*manifest.files}:
            raise CorruptObject(f"{manifest.folder}/{MANIFEST} names no pipeline, contract.json or {PROBE}.")
        if manifest.form not in self._forms:
            raise UntrustedTypes(
                f"{what} is saved as {manifest.form}, and only {' and '.join(self._forms)} is loaded here ([pipeline] "
                f"format). `ror run {manifest.model} --action retrain --reason '...'` makes a version that is."
            )
        recorded = environment.recorded_in(manifest.environment, f"{manifest.folder}/{MANIFEST}")
        own_code.make_importable(self._code)
        from_record = self._from_record(manifest, recorded.sources, accepted)
        notes = environment.check_environment(
            recorded,
            what,
            accepted=accepted,
            texts=lambda: self.sources(manifest),
            code=self._code,
            from_record=from_record,
        )
        here = {
            name: own_code.text_here(name, self._code) or "" for name in recorded.sources if name not in from_record
        }
        namespace = namespaces.namespace_of(self._code, {**here, **from_record}, from_record, recorded.files)
        files = {name: self.file(manifest, name) for name in manifest.files if predicts(name)}
        # With rows erased from the known answers, a batch of another size may give another last digit.
        whole = digest(files[PROBE]) == manifest.files[PROBE].sha256
        exact = whole and environment.is_same(recorded, notes)
        contract, pipeline = loading.revive(
            files,
            manifest.form,
            what,
            self._types,
            exact=exact,
            namespace=namespace,
            settings=recorded.configuration,
            factory=manifest.factory,
        )
        kept = tuple(sorted(from_record))
        return LoadedVersion(manifest.model, manifest.version, sha256, manifest, contract, pipeline, notes, kept, self)

    def _from_record(
        self, manifest: Manifest, digests: Mapping[str, str], accepted: Sequence[str] = ()
    ) -> dict[str, str]:
        """Text of those modules of a version that are to be imported from its record: the source here is another one,
        or there is none. What a person accepted is taken as it is here.

        A version that is no pickle brings no code along: what may be imported is what the folders hold.
        """
        from tasks.core.versions import environment, own_code

        if manifest.form != "joblib":
            return {}
        changed = own_code.changed(digests, self._code)
        other = [name for name, text in changed.items() if environment.other_module(name, text) not in accepted]
        then = self.sources(manifest) if other else {}
        return {name: then[name] for name in other if name in then}

    def from_record(self, model: str, served: Served) -> tuple[str, ...]:
        """Names of the modules that a version brings along, because they are not here as they were recorded. Nothing
        is imported. Raises NotFound, VerificationError or StoreError."""
        manifest = self.manifest_of(model, served)
        return tuple(sorted(self._from_record(manifest, manifest.environment.get("sources") or {}, served.accepts)))

    def sources(self, manifest: Manifest) -> dict[str, str]:
        """Text of the modules of its own that a version is made of, by name, verified."""
        return dict(json.loads(self.file(manifest, SOURCES))) if SOURCES in manifest.files else {}

    def file(self, manifest: Manifest, name: str) -> bytes:
        """One file of a version, verified; where rows were erased from it, what the history names in its place.

        Raises NotFound when it is gone, saying who removed it, and why, where that is on record; CorruptObject or
        StoreError.
        """
        path = f"{manifest.folder}/{name}"
        try:
            return self._verified(path, manifest.files[name])
        except NotFound:
            ledger = self.ledger(manifest.model)
            state = ledger.head().state
            if told := pruned(ledger, state, manifest.version):
                raise NotFound(told) from None
            new = state.replaced.get(path)
            if new is None or name not in ERASABLE:  # no event can put another pipeline in place of the recorded one
                raise
            return self._verified(new.path, FileRecord(new.sha256, new.size))

    def contract(self, model: str, served: Served) -> Contract:
        """A version's input schema, verified, without its pipeline. Raises NotFound, CorruptObject or StoreError."""
        from tasks.core.schema.contract import Contract

        data = self.file(self.manifest_of(model, served), "contract.json")
        return from_json(Contract, data, f"{model} v{served.version} contract.json")

    def _verified(self, path: str, record: FileRecord) -> bytes:
        data = self.store.read(path)
        found = digest(data)
        if found != record.sha256:
            raise CorruptObject(
                f"{path} is damaged or was replaced (sha256 {found[:12]}, recorded {record.sha256[:12]}; "
                f"{len(data):,} bytes, recorded {record.size:,}). Nothing of it was loaded. "
                "Restore the file from a backup."
            )
        return data

    def forget(self, model: str) -> None:
        """Drop what this process holds of a model's versions: rows were erased from them."""
        for key in [key for key in [*_LOADED] if key[:2] == (self.store.location, model)]:
            _LOADED.pop(key, None)

    def _signature(self, model: str, version: int) -> bytes | None:
        try:
            return self.store.read(layout.version_path(model, version, SIGNATURE))
        except NotFound:
            return None

    def _numbers(self, model: str) -> list[int]:
        return layout.numbers(self.store.folders(layout.folder(model, layout.VERSIONS)))


_LOADED: dict[tuple[Any, ...], LoadedVersion] = {}
_KEEP_LOADED = 16


@contextlib.contextmanager
def _gc_paused() -> Iterator[None]:
    """Without the garbage collector: a load imports and makes many objects, all to stay, and it would look through
    them again and again."""
    enabled = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if enabled:
            gc.enable()
