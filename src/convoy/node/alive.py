"""Which processes of this machine live, and whether one of them still is the node of a kit."""

from __future__ import annotations

import os
from pathlib import Path


def command_of(pid: int) -> str:
    """Return a live process's command line; empty for one that has ended, or where /proc is not there."""
    try:
        state = Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()[0]
        words = Path(f"/proc/{pid}/cmdline").read_bytes().decode(errors="replace").split("\0")
    except (OSError, IndexError):
        return ""
    return "" if state in "ZX" else " ".join(words).strip()


def lives(pid: int, kit: Path) -> bool:
    """Return whether the process still is the node of this kit, and not another that got its number."""
    if not Path("/proc/self/stat").exists():
        return signalled(pid, 0)
    return str(kit) in command_of(pid)


def signalled(pid: int, sign: int) -> bool:
    """Send a signal; return whether there is such a process."""
    try:
        os.kill(pid, sign)
    except ProcessLookupError:
        return False
    return True
