"""What a simulation says beside its results: virtual time, bytes moved, and what each kind of device did."""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Final

from convoy.sim.schedule import Schedule

FILE: Final = "simulation.json"


@dataclass(frozen=True, slots=True)
class Moment:
    """How far a simulation was when a round was committed, counted from its beginning."""

    round: int
    virtual_s: float
    bytes_down: int  # of arrays that went to sites
    bytes_up: int


@dataclass(slots=True)
class Kind:
    """What the devices of one profile did; `busy_s`: virtual seconds of work and sending, all devices together."""

    sites: int = 0
    tasks: int = 0
    drops: int = 0
    busy_s: float = 0.0


@dataclass(slots=True)
class Summary:
    """The moments of a simulation, and its devices by profile."""

    sites: int
    seed: str
    rounds: list[Moment] = field(default_factory=list)
    devices: dict[str, Kind] = field(default_factory=dict)

    def committed(self, number: int, at: float, schedule: Schedule) -> None:
        """Note a round."""
        self.rounds.append(Moment(number, at, schedule.traffic.down, schedule.traffic.up))

    def ended(self, schedule: Schedule) -> None:
        """Note what the devices did."""
        for device in schedule.devices.values():
            kind = self.devices.setdefault(device.kind, Kind())
            kind.sites += 1
            kind.tasks += device.tries
            kind.drops += device.drops
            kind.busy_s += device.busy_s

    @property
    def last(self) -> Moment:
        """The last moment."""
        return self.rounds[-1] if self.rounds else Moment(0, 0.0, 0, 0)

    def write(self, folder: Path) -> None:
        """Write it as JSON into a folder."""
        (folder / FILE).write_text(json.dumps(asdict(self), indent=1))
