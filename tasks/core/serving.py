"""What a service needs: load the version in service, verified, and predict with it.

Neither Prefect, Evidently nor anything that trains is imported. These names stay.
"""

from __future__ import annotations

from tasks.core.versions.loaded import LoadedVersion
from tasks.core.versions.registry import Registry

__all__ = ["LoadedVersion", "Registry"]
