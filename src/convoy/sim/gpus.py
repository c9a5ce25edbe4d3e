"""Which of a simulation's workers works on which GPU, and how many workers fit: numbers in, numbers out."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Final

from convoy.errors import BadInput

VARIABLE: Final = "CUDA_VISIBLE_DEVICES"
ROUNDING: Final = 1e-9  # 1 / (1 / 49) is less than 49


def visible(count: float, variable: str | None) -> tuple[str, ...]:
    """Return the names of this machine's GPUs: those of CUDA_VISIBLE_DEVICES where it is set, else their numbers."""
    if not count:
        return ()
    if variable is None:
        return tuple(map(str, range(int(count))))
    found = []
    for name in variable.split(","):
        if not name.strip() or name.strip() == "-1":  # CUDA ignores what follows
            break
        found.append(name.strip())
    return tuple(found)


def check(each: float) -> None:
    """Raise `BadInput` unless sites can have so many GPUs: a part of one, or a whole number of them."""
    if not (0 < each <= 1 or (each > 1 and each.is_integer())):
        raise BadInput(
            f"--gpus-per-site {each:g} is no share of GPUs", fix="give a fraction, such as 0.25, or a whole number"
        )


def slots(devices: Sequence[str], each: float) -> list[str]:
    """Return the value of CUDA_VISIBLE_DEVICES for each worker that fits; the first ones share no GPU."""
    if each <= 1:
        return list(devices) * math.floor(1 / each + ROUNDING)
    size = int(each)
    return [",".join(devices[start : start + size]) for start in range(0, len(devices) - size + 1, size)]


def room(machines: Sequence[tuple[float, float]], each: float | None) -> int:
    """Return how many workers fit on machines, given as cores and GPUs: one for each core, or share of a GPU."""
    if each is None:
        return sum(int(cores) for cores, _ in machines)
    return sum(min(int(cores), len(slots([""] * int(gpus), each))) for cores, gpus in machines)


def demand(place: str, found: float, each: float) -> None:
    """Raise `BadInput` where there are fewer GPUs than one site wants."""
    if found >= max(1.0, each):
        return
    what = "no GPU is at hand" if not found else f"{found:g} GPUs are at hand, and one site wants {each:g}"
    raise BadInput(what, why=place, fix="leave --gpus-per-site out to work on CPUs, or use machines with GPUs")


def workers(asked: int | None, sites: int, most: int, place: str) -> int:
    """Return how many workers to start: as many as are asked for, or as fit and have a site. Raises `BadInput`."""
    if asked is not None and asked > most:
        raise BadInput(f"{asked} workers do not fit: there is room for {most}", why=place, fix=f"give --workers {most}")
    return min(most if asked is None else asked, sites)
