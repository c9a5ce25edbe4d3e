"""Devices in virtual time: which site has which, how long a task takes there, and when the site is there."""

from __future__ import annotations

import math
import random
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

from convoy.spec.devices import DAY_S, Devices, Profile

Hours = Sequence[tuple[float, float]]  # seconds of a day, from and to; none: the whole day


@dataclass(slots=True)
class Device:
    """One site's device. All times are virtual seconds from the start of the simulation, which is midnight."""

    site: str
    kind: str  # the name of its profile
    profile: Profile
    spec: Devices
    seed: str
    free_at: float = 0.0  # when it has done what it was given
    dropped_until: float = 0.0
    connected: bool = True
    tries: int = 0  # tasks begun
    drops: int = 0
    busy_s: float = 0.0
    _hours: Hours = ()

    def __post_init__(self) -> None:
        """Merge the hours once."""
        self._hours = merged(self.profile.available)

    def there(self, at: float) -> bool:
        """Whether the site is there at a time."""
        return at >= self.dropped_until and within(self._hours, at)

    def changes(self, at: float) -> float:
        """Return when its hours begin or end next; infinity if it is always there."""
        return next_change(self._hours, at)

    def fetched(self, at: float, size: int) -> float:
        """Return when bytes that are sent at a time are there."""
        return later(self._hours, at, size / self.profile.down)

    def answered(self, at: float, kind: str, weight: float, size: int) -> tuple[float, float | None]:
        """Return when the answer of a task that begins now is at the server; and when the site drops out, if it does.

        What chance decides follows from the seed, the site and how many tasks it has begun.
        """
        self.tries += 1
        dice = random.Random(f"{self.seed}/{self.site}/{self.tries}")  # noqa: S311 - a draw, not a secret
        work = (self.spec.work_s(kind) + self.spec.per_weight * weight) / self.profile.speed
        takes = work * dice.lognormvariate(0.0, self.spec.spread) + size / self.profile.up
        falls, when = dice.random(), dice.random()
        if falls < self.profile.drops:
            self.busy_s += when * takes
            return math.inf, later(self._hours, at, when * takes)
        self.busy_s += takes
        return later(self._hours, at, takes), None


def devices(spec: Devices, sites: Sequence[str], seed: str) -> dict[str, Device]:
    """Return the device of each site: as many of each profile as its share says, drawn by the seed."""
    kinds = _counted({name: profile.share for name, profile in spec.profiles.items()}, len(sites))
    random.Random(f"{seed}/devices").shuffle(kinds)  # noqa: S311 - a draw, not a secret
    return {
        site: Device(site, kind, spec.profiles[kind], spec, seed)
        for site, kind in zip(sorted(sites), kinds, strict=True)
    }


def _counted(shares: dict[str, float], count: int) -> list[str]:
    """Return `count` names in the proportions of their shares, by largest remainder."""
    whole = sum(shares.values())
    exact = {name: count * share / whole for name, share in shares.items()}
    number = {name: int(value) for name, value in exact.items()}
    rest = sorted(shares, key=lambda name: (number[name] - exact[name], name))  # the largest remainder first
    for name in rest[: count - sum(number.values())]:
        number[name] += 1
    return [name for name, many in number.items() for _ in range(many)]


# ---- hours of a day ------------------------------------------------------------------------------------------------
ALWAYS: Final[Hours] = ()


def merged(hours: Hours) -> Hours:
    """Return hours as sorted spans that do not touch, none over midnight; none for a whole day."""
    spans = sorted(
        part for begin, end in hours for part in ([(begin, end)] if begin < end else [(begin, DAY_S), (0.0, end)])
    )
    found: list[tuple[float, float]] = []
    for begin, end in spans:
        if found and begin <= found[-1][1]:
            found[-1] = (found[-1][0], max(found[-1][1], end))
        elif begin < end:
            found.append((begin, end))
    return ALWAYS if found == [(0.0, DAY_S)] else tuple(found)


def within(hours: Hours, at: float) -> bool:
    """Whether a time is within merged hours of its day."""
    return not hours or any(begin <= at % DAY_S < end for begin, end in hours)


def next_change(hours: Hours, at: float) -> float:
    """Return the next time after `at` at which merged hours begin or end; infinity if they never do."""
    if not hours:
        return math.inf
    day = at - at % DAY_S
    edges = (day + more + edge for more in (0.0, DAY_S) for span in hours for edge in span)
    return min(edge for edge in edges if edge > at and within(hours, edge) != within(hours, at))


def later(hours: Hours, at: float, takes: float) -> float:
    """Return when something is done that takes so many seconds of merged hours and is begun at a time."""
    if not hours:
        return at + takes
    days, rest = divmod(takes, sum(end - begin for begin, end in hours))
    if rest == 0 and days:  # it is done at the end of hours, not at the beginning of the next ones
        days, rest = days - 1, sum(end - begin for begin, end in hours)
    at += days * DAY_S
    while True:
        change = next_change(hours, at)
        if within(hours, at):
            if at + rest <= change:
                return at + rest
            rest -= change - at
        at = change
