"""What happens when, in virtual time: sites work, their answers arrive, sites go and come back."""

from __future__ import annotations

import heapq
import itertools
import math
from collections import defaultdict
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass, field
from typing import Final

from convoy.control.records import Question, SiteName
from convoy.model.arrays import Model
from convoy.sim.devices import Device
from convoy.sim.visits import Visited

NONE: Final[tuple[str, Mapping[str, str]]] = ("", {})
MOST_SIZES: Final = 1000


@dataclass(slots=True)
class Doing:
    """One task at one site: first its result is needed, then it arrives."""

    site: SiteName
    question: Question
    coming: Callable[[], Awaitable[Visited]]
    came: Visited | None = None
    over: bool = False  # nobody waits for it any more


@dataclass(frozen=True, slots=True)
class Drop:
    """A site drops out in the middle of a task."""

    doing: Doing


@dataclass(frozen=True, slots=True)
class Check:
    """A site may have gone, or may be back; `hours`: because its hours begin or end."""

    site: SiteName
    hours: bool


@dataclass(slots=True)
class Traffic:
    """Bytes of arrays that went to sites and came from them."""

    down: int = 0
    up: int = 0


@dataclass(slots=True)
class Schedule:
    """Everything that is to happen, in order; without devices all of it happens now, in the order of its tasks."""

    devices: Mapping[str, Device] = field(default_factory=dict)
    traffic: Traffic = field(default_factory=Traffic)
    _heap: list[tuple[float, int, Doing | Drop | Check]] = field(default_factory=list)
    _count: itertools.count[int] = field(default_factory=itertools.count)
    _tasks: int = 0  # of those in the heap
    _open: dict[SiteName, dict[str, Doing]] = field(default_factory=lambda: defaultdict(dict))  # at devices
    _holds: dict[SiteName, tuple[str, Mapping[str, str]]] = field(
        default_factory=dict
    )  # digests of a site's last model
    _sizes: dict[tuple[str, str], int] = field(default_factory=dict)

    def __post_init__(self) -> None:
        """Note when the hours of sites begin and end."""
        for site in self.devices:
            self._push(0.0, Check(SiteName(site), hours=True))

    def next(self, wake: float) -> float:
        """Return when the next thing happens, if that is not after `wake`, when the machine does something itself.

        Hours of a day come for ever: they count only while somebody waits for something.
        """
        at = self._heap[0][0] if self._heap and (self._tasks or wake < math.inf) else math.inf
        return at if at <= wake else math.inf

    def due(self, now: float) -> bool:
        """Whether anything else happens at this instant."""
        return bool(self._heap) and self._heap[0][0] <= now

    def first(self) -> Doing | Drop | Check:
        """Return what happens next."""
        return self._heap[0][2]

    def pop(self) -> None:
        """Take what happens next off: it has happened."""
        _, _, what = heapq.heappop(self._heap)
        self._tasks -= isinstance(what, Doing)

    def _push(self, at: float, what: Doing | Drop | Check) -> None:
        heapq.heappush(self._heap, (at, next(self._count), what))
        self._tasks += isinstance(what, Doing)

    # ---- tasks -----------------------------------------------------------------------------------------------------
    def begin(
        self,
        now: float,
        site: SiteName,
        question: Question,
        model: Model,
        start: Callable[[], Callable[[], Awaitable[Visited]]],
    ) -> None:
        """Give a site a task, unless it has it; `start` begins the work."""
        device = self.devices.get(site)
        if device is not None and question.id in self._open[site]:
            return
        size = self._missing(site, model)
        self.traffic.down += size
        doing = Doing(site, question, start())
        if device is None:
            self._push(now, doing)
            return
        self._open[site][question.id] = doing
        self._push(device.fetched(now, size), doing)

    def _missing(self, site: SiteName, model: Model) -> int:
        """Return the bytes of the tensors that a site was not sent with its last model."""
        held, known = self._holds.get(site, NONE)
        if held == model.digest:
            return 0
        self._holds[site] = model.digest, model.digests
        key = held, model.digest
        if key not in self._sizes:
            if len(self._sizes) >= MOST_SIZES:
                self._sizes.clear()
            there = set(known.values())
            self._sizes[key] = sum(
                array.nbytes for name, array in model.items() if model.digests.get(name) not in there
            )
        return self._sizes[key]

    def worked(self, now: float, doing: Doing, came: Visited) -> bool:
        """Note the result of a task that begins now; return whether it arrives at once."""
        device = self.devices.get(doing.site)
        if device is None:
            return True
        size = 0 if came.arrays is None else came.arrays.nbytes
        arrives, drops = device.answered(now, doing.question.kind, came.weight, size)
        doing.came = came
        if drops is None:
            self._push(arrives, doing)
        else:
            self._push(drops, Drop(doing))
        device.free_at = arrives if drops is None else drops
        return False

    def waits(self, now: float, doing: Doing) -> bool:
        """Whether a task waits for another one of its site; then it is noted anew."""
        device = self.devices.get(doing.site)
        if device is None or device.free_at <= now:
            return False
        self._push(device.free_at, doing)
        return True

    def arrived(self, doing: Doing) -> None:
        """Count what has arrived."""
        if doing.came is not None and doing.came.arrays is not None:
            self.traffic.up += doing.came.arrays.nbytes
        if doing.site in self._open:
            self._open[doing.site].pop(doing.question.id, None)

    def cancel(self, now: float, site: SiteName, question: str) -> None:
        """End a task that nobody waits for any more."""
        doing = self._open.get(site, {}).pop(question, None)
        if doing is not None:
            doing.over = True
            if doing.came is not None:
                self.devices[site].free_at = now

    def busy(self) -> list[SiteName]:
        """Return the sites that work at something now."""
        return [site for site, doing in self._open.items() if doing and self.devices[site].connected]

    # ---- sites -----------------------------------------------------------------------------------------------------
    def dropped(self, now: float, drop: Drop) -> bool:
        """Let a site drop out with all its tasks, unless the task at which it would is over; return whether it did."""
        if drop.doing.over:
            return False
        site = drop.doing.site
        device = self.devices[site]
        for doing in self._open.pop(site, {}).values():
            doing.over = True
        device.dropped_until = device.free_at = now + device.profile.back
        device.drops += 1
        self._push(device.dropped_until, Check(site, hours=False))
        return True

    def checked(self, now: float, check: Check) -> bool:
        """Return whether a site is there now."""
        device = self.devices[check.site]
        if check.hours and (change := device.changes(now)) < math.inf:
            self._push(change, Check(check.site, hours=True))
        return device.there(now)
