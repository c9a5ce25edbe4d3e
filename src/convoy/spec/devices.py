"""The `devices` of a simulate.yaml: how fast sites work, what their links carry and when they are there."""

from __future__ import annotations

import math
import re
from typing import Annotated, Any, Final

from pydantic import AfterValidator, BaseModel, BeforeValidator, ConfigDict, Field

from convoy.spec import names
from convoy.spec.fields import Duration, Rate, duration

DAY_S: Final = 86_400.0
_CLOCK: Final = re.compile(r"([01]?\d|2[0-3]):([0-5]\d)\s*-\s*([01]?\d|2[0-4]):([0-5]\d)", re.ASCII)
_STRICT: Final = ConfigDict(frozen=True, extra="forbid", strict=True)


def _hours(value: Any) -> tuple[float, float]:
    """Return the seconds of a day from and to which a site is there; `to` may be before `from`, in the next day."""
    found = _CLOCK.fullmatch(value.strip()) if isinstance(value, str) else None
    if found is None:
        raise ValueError("hours of a day such as 22:00-06:00")
    from_h, from_m, to_h, to_m = map(int, found.groups())
    begin, end = from_h * 3600.0 + from_m * 60.0, to_h * 3600.0 + to_m * 60.0
    if begin == end or end > DAY_S:
        raise ValueError("hours of a day such as 22:00-06:00")
    return begin, end


EVERY: Final = "*"


def _kinds(value: Any) -> dict[str, float]:
    """Return the time of tasks by kind; one time is that of every kind."""
    return {str(kind): duration(one) for kind, one in (value if isinstance(value, dict) else {EVERY: value}).items()}


def _spans(value: Any) -> tuple[tuple[float, float], ...]:
    return tuple(map(_hours, value if isinstance(value, list | tuple) else [value]))


def _shared(profiles: dict[str, Profile]) -> dict[str, Profile]:
    if not sum(profile.share for profile in profiles.values()):
        raise ValueError("at least one profile with a share above 0")
    return profiles


class Profile(BaseModel):
    """A kind of device; rates are bytes a second."""

    model_config = _STRICT

    share: float = Field(1.0, ge=0, le=1e9)  # of the sites, beside the shares of the other profiles
    speed: float = Field(1.0, gt=0, le=1e9)  # work is done so many times as fast
    down: Rate = math.inf
    up: Rate = math.inf
    drops: float = Field(0.0, ge=0, lt=1)  # the chance that the site goes away during a task
    back: Duration = 600.0  # how long it then stays away
    available: Annotated[tuple[tuple[float, float], ...], BeforeValidator(_spans)] = ()


class Devices(BaseModel):
    """All kinds of devices, and the work of a task; times are virtual seconds."""

    model_config = _STRICT

    work: Annotated[dict[str, float], BeforeValidator(_kinds)] = {}  # by kind of task, at speed 1
    per_weight: Duration = 0.0  # for each unit of the answer's weight, such as an example
    spread: float = Field(0.0, ge=0, le=10)  # the standard deviation of the logarithm of a task's work
    profiles: Annotated[dict[Annotated[str, AfterValidator(names.word)], Profile], AfterValidator(_shared)]

    def work_s(self, kind: str) -> float:
        """Return the work of a kind of task, in seconds at speed 1."""
        return self.work.get(kind, self.work.get(EVERY, 0.0))
