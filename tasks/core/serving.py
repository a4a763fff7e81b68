"""What a service needs: load the version in service, verified, and predict with it.

Neither Prefect, Evidently nor anything that trains is imported. These names stay. A process that is forked after this
was imported computes with one thread; in the process itself thread pools stay as they are.
"""

from __future__ import annotations

from tasks.core.versions import threads as _threads
from tasks.core.versions.loaded import LoadedVersion
from tasks.core.versions.registry import Registry

__all__ = ["LoadedVersion", "Registry"]

_threads.guard_forks()
