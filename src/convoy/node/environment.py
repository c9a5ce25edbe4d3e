"""The environment variables of a node's workers: what they take from the node's own, and what it adds."""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path
from typing import Final

from convoy.node import cores

KEPT: Final = ("PATH", "LANG", "LC_ALL", "TZ", "LD_LIBRARY_PATH", "VIRTUAL_ENV", "PYTHONPATH")
KEPT_PREFIXES: Final = ("OMP_", "OPENBLAS_", "MKL_", "CUDA_", "NVIDIA_", "SSL_CERT_")
MARK: Final = "CONVOY_NODE_FOLDER"


def of_all(extra: Mapping[str, str]) -> dict[str, str]:
    """Return what every worker of this node has, whatever its job; `extra`: what the node's owner adds."""
    kept = {key: value for key, value in os.environ.items() if key in KEPT or key.startswith(KEPT_PREFIXES)}
    return {
        **kept,
        **cores.brief(),
        "PYTHONFAULTHANDLER": "1",  # a crash in native code prints its place to the job's log
        **extra,
        "PYTHONUNBUFFERED": "1",
        "CONVOY_NODE_PID": str(os.getpid()),
    }


def mark(home: Path) -> dict[str, str]:
    """Return the variable by which the processes of a node are found once it is gone; `home`: its working folder."""
    return {MARK: str(home.resolve())}
