"""What this machine (or this container) has to offer: cores, memory, GPUs."""

from __future__ import annotations

import os
from pathlib import Path


def cores() -> float:
    """Return how many cores this process may use."""
    if hasattr(os, "sched_getaffinity"):
        return float(len(os.sched_getaffinity(0)))
    return float(os.cpu_count() or 1)


def memory() -> int:
    """Return bytes of memory: the machine's, or the container's limit where that is less."""
    total = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    limit = Path("/sys/fs/cgroup/memory.max")
    if limit.is_file() and (text := limit.read_text().strip()).isdigit():
        return min(total, int(text))
    return total


def gpus() -> float:
    """Return how many NVIDIA GPUs the kernel shows."""
    return float(sum(1 for device in Path("/dev").glob("nvidia[0-9]*") if device.name[6:].isdigit()))
