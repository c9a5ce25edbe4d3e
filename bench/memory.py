"""What a server and its workers hold of memory, and a cgroup of a given size for them."""

from __future__ import annotations

import os
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

CGROUP_V1 = Path("/sys/fs/cgroup/memory")
CGROUP_V2 = Path("/sys/fs/cgroup")


def unreclaimable(pids: list[int]) -> int:
    """Return the anonymous and shared memory of processes in bytes; processes that are gone count nothing."""
    total = 0
    for pid in pids:
        try:
            lines = Path(f"/proc/{pid}/status").read_text().splitlines()
        except OSError:
            continue
        total += sum(int(line.split()[1]) << 10 for line in lines if line.startswith(("RssAnon", "RssShmem")))
    return total


def resident(pids: list[int]) -> int:
    """Return the resident memory of processes in bytes, with the pages that they share counted in each."""
    total = 0
    for pid in pids:
        with suppress(OSError, IndexError):
            total += int(Path(f"/proc/{pid}/statm").read_text().split()[1]) * os.sysconf("SC_PAGESIZE")
    return total


def family(pid: int) -> list[int]:
    """Return the id of a process and those of all that it and its children started."""
    children: dict[int, list[int]] = {}
    for stat in Path("/proc").glob("[0-9]*/stat"):
        with suppress(OSError, IndexError):
            parent = int(stat.read_text().rsplit(")", 1)[1].split()[1])
            children.setdefault(parent, []).append(int(stat.parent.name))
    found = [pid]
    for one in found:
        found += children.get(one, [])
    return found


@dataclass
class Peak:
    """The highest value seen."""

    value: int = 0


@contextmanager
def watched(
    pids: Callable[[], list[int]],
    every_s: float = 0.005,
    measure: Callable[[list[int]], int] = unreclaimable,
) -> Iterator[Peak]:
    """Sample the memory of `pids()` for as long as the context lasts."""
    peak, over = Peak(), threading.Event()

    def look() -> None:
        while not over.wait(every_s):
            peak.value = max(peak.value, measure(pids()))

    thread = threading.Thread(target=look)
    thread.start()
    try:
        yield peak
    finally:
        over.set()
        thread.join()


@contextmanager
def cgroup(limit: int) -> Iterator[list[str] | None]:
    """Make a memory cgroup of `limit` bytes; yield the words that put a command into it, None where there is none."""
    first = CGROUP_V1 if CGROUP_V1.is_dir() else CGROUP_V2
    folder = first / f"convoy-bench-{os.getpid()}"
    size = "memory.limit_in_bytes" if first is CGROUP_V1 else "memory.max"
    try:
        folder.mkdir()
        (folder / size).write_text(str(limit))
    except OSError:
        yield None
        return
    try:
        yield ["sh", "-c", f'echo $$ > {folder}/cgroup.procs && exec "$@"', "sh"]
    finally:
        folder.rmdir()


def oom_kills(words: list[str]) -> int:
    """Return how many processes of a cgroup the kernel has killed."""
    folder = Path(words[2].split("> ")[1].split("/cgroup.procs")[0])
    for name in ("memory.oom_control", "memory.events"):
        if (folder / name).exists():
            for line in (folder / name).read_text().splitlines():
                if line.startswith("oom_kill "):
                    return int(line.split()[1])
    return 0
