"""`python -m bench.peers`: NVIDIA FLARE and Flower doing the jobs of `make bench` on this machine, now."""

from __future__ import annotations

import argparse
import os
import sys
import tempfile
from pathlib import Path

from bench.peer import Peer, PeerTimes
from bench.peer_flower import FLOWER
from bench.peer_nvflare import NVFLARE

PEERS = (NVFLARE, FLOWER)
MB = 1_000_000
JOBS = ((10_000, 10), (MB, 5), (100 * MB, 5))  # (bytes, rounds)


def main() -> None:
    """Measure, and print a row a job."""
    options = argparse.ArgumentParser(description=__doc__)
    options.add_argument("--small", action="store_true", help="leave the job of 100 MB out")
    options.add_argument("only", nargs="*", choices=[[], *(peer.name for peer in PEERS)], help="default: all")
    chosen = options.parse_args()
    jobs = JOBS[:-1] if chosen.small else JOBS
    print(f"{os.cpu_count()} cores, load {os.getloadavg()[0]:.1f}", file=sys.stderr)
    heads = ("peer", "model x rounds x 2 sites", "ready", "first task", "whole job", "round")
    show(heads)
    for peer in PEERS:
        if chosen.only and peer.name not in chosen.only:
            continue
        with tempfile.TemporaryDirectory(prefix="convoy-peers-") as folder:
            for (size, rounds), times in zip(jobs, peer.measures(Path(folder) / peer.name, jobs), strict=True):
                show(cells(peer, size, rounds, times))
        print(f"{peer.name} done, load {os.getloadavg()[0]:.1f}: {peer.note}", file=sys.stderr)


def cells(peer: Peer, size: int, rounds: int, times: PeerTimes) -> tuple[str, ...]:
    """Return a row as text."""
    seconds = (times.ready_s, times.first_s, times.whole_s, times.round_s)
    return (peer.requirement, f"{size / MB:g} MB x {rounds}", *(f"{value:.2f} s" for value in seconds))


def show(row: tuple[str, ...]) -> None:
    """Print a row at once: the next one takes a while."""
    print(
        "  ".join(cell.ljust(width) for cell, width in zip(row, (14, 24, 8, 10, 9, 7), strict=True)).rstrip(),
        flush=True,
    )


if __name__ == "__main__":
    main()
