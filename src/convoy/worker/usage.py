"""What this process has used: processor seconds, and the most memory."""

from __future__ import annotations

import resource
import sys
from typing import Final

from convoy.control.costs import Cost

UNIT: Final = 1 if sys.platform == "darwin" else 1024  # bytes in which the system counts memory


def usage() -> Cost:
    """Return the processor seconds of this process and of its children that have ended, and its peak of memory."""
    own, ended = (resource.getrusage(who) for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN))
    seconds = own.ru_utime + own.ru_stime + ended.ru_utime + ended.ru_stime
    return Cost(cpu_s=seconds, memory=max(own.ru_maxrss, ended.ru_maxrss) * UNIT)


def since(before: Cost) -> Cost:
    """Return what was used after an earlier `usage`: seconds since then, and the peak of memory."""
    now = usage()
    return Cost(cpu_s=max(now.cpu_s - before.cpu_s, 0.0), memory=now.memory)
