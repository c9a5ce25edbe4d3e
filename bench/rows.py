"""A number beside its budget, the floor and the peers; and the table of them."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field

from bench.peer import PeerTimes


@dataclass(frozen=True)
class Row:
    """One number: `ours` and `budget` in `unit`; less is better."""

    what: str
    ours: float
    budget: float
    unit: str
    floor: float | None = None
    peer: Callable[[list[PeerTimes]], float] | None = None  # seconds of the same at a peer
    note: str = ""
    theirs: Mapping[str, float] = field(default_factory=dict)  # the same in `unit`, by what pip installs


def show(rows: Sequence[Row], times: Mapping[str, list[PeerTimes]], what: str) -> None:
    """Print the table; `what` heads its first column."""
    peers = list(dict.fromkeys([*times, *(name for row in rows for name in row.theirs)]))
    heads = (what, "ours", "budget", "", "floor", *peers, "note")
    table = [heads, *(cells(row, {peer: times.get(peer, []) for peer in peers}) for row in rows)]
    widths = [max(len(row[place]) for row in table) for place in range(len(heads))]
    for row in table:
        print("  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip())


def cells(row: Row, times: Mapping[str, list[PeerTimes]]) -> tuple[str, ...]:
    """Return a row as text."""
    bounded = row.budget < float("inf")
    verdict = ("ok" if row.ours <= row.budget else "OVER") if bounded else ""
    low = "-" if row.floor is None else f"{row.floor:.3g} {row.unit}"
    budget = f"{row.budget:.3g} {row.unit}" if bounded else "-"
    beside = [_beside(row, peer, jobs) for peer, jobs in times.items()]
    return (row.what, f"{row.ours:.3g} {row.unit}", budget, verdict, low, *beside, row.note)


def _beside(row: Row, peer: str, jobs: list[PeerTimes]) -> str:
    if peer in row.theirs:
        return f"{row.theirs[peer]:.3g} {row.unit}"
    return f"{row.peer(jobs):.3g} s" if row.peer and jobs else "-"
