"""Files that are whole or not there, onto the disk, of exactly the mode they should have."""

from __future__ import annotations

import os
import secrets
from pathlib import Path


def write(path: Path, data: bytes, *, mode: int) -> None:
    """Write a file of exactly this mode, all or nothing, and onto the disk."""
    temporary = path.with_name(f".{path.name}.{secrets.token_hex(4)}")
    descriptor = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL, mode)
    try:
        with os.fdopen(descriptor, "wb") as file:
            os.fchmod(file.fileno(), mode)  # whatever the umask says
            file.write(data)
            file.flush()
            os.fsync(file.fileno())
        temporary.replace(path)
    finally:
        temporary.unlink(missing_ok=True)
