"""What people's programs import: `Client` and `connect` (async), `Session` (blocking), and the views."""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from convoy.admin.client import Client, connect
    from convoy.admin.sync import Session

__all__ = ["Client", "Session", "connect"]

_HOME = {"Client": "convoy.admin.client", "connect": "convoy.admin.client", "Session": "convoy.admin.sync"}


def __getattr__(name: str) -> Any:
    """Load a public name when it is first used, so that a server does not load the client."""
    if name not in _HOME:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(_HOME[name]), name)
