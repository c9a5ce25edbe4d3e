"""What a job took at each site: seconds by phase, processor, memory, GPU, energy and bytes, in all or in one round."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Final

from starlette.responses import Response

from convoy.admin.views import CostView
from convoy.dashboard import tabs
from convoy.dashboard.route import Call, Route
from convoy.wire import values

PAGE: Final = 50  # sites on a page
MAX_PAGE: Final = 100_000  # the highest number of a page that may be asked for
PHASES: Final = ("fetching", "training", "checks", "waiting")


@dataclass(frozen=True, slots=True)
class Bar:
    """A part of a bar: what it is, how much, and from where to where, as per mille of the whole width."""

    name: str
    value: float
    start: float
    width: float


@dataclass(frozen=True, slots=True)
class Row:
    """What the answers of a site took, with bars of its seconds and of its bytes."""

    site: str
    cost: CostView
    seconds: list[Bar]
    moved: list[Bar]


def phases(cost: CostView) -> dict[str, float]:
    """Return the seconds of a cost by phase; waiting is what no phase at the site explains, such as the way there."""
    known = (cost.pull_s, cost.train_s, cost.release_s)
    return dict(zip(PHASES, (*known, max(cost.took_s - sum(known), 0.0)), strict=True))


def bars(parts: dict[str, float], whole: float) -> list[Bar]:
    """Return parts as they stand beside each other in a bar of which `whole` is the width."""
    found, start = [], 0.0
    for name, value in parts.items():
        width = 1000 * (value / whole) if whole > 0 else 0.0
        found.append(Bar(name, value, round(start, 1), round(width, 1)))
        start += width
    return [bar for bar in found if bar.width]


def rows(costs: Iterable[tuple[str, CostView]]) -> list[Row]:
    """Return a row for each site, those that took longest first."""
    known = sorted(costs, key=lambda it: (-sum(phases(it[1]).values()), it[0]))
    longest = max((sum(phases(cost).values()) for _, cost in known), default=0.0)
    most = max((cost.down + cost.up for _, cost in known), default=0)
    return [
        Row(
            site,
            cost,
            bars(phases(cost), longest),
            bars({"sent to the site": float(cost.down), "received from it": float(cost.up)}, float(most)),
        )
        for site, cost in known
    ]


async def resources(call: Call) -> Response:
    """Show what a job took, or one of its rounds."""
    detail = await call.client.job(tabs.job_id(call))
    number = call.number("round", 0, values.MAX_NUMBER)
    if number:
        made = await call.client.round(detail.job.id, number)
        costs = [(one.site, one.cost) for one in made.took_part if one.cost is not None]
    else:
        costs = [(member.site, member.cost) for member in detail.members if member.cost is not None]
    found = rows(costs)
    pages = max(1, -(-len(found) // PAGE))
    page = min(call.number("page", 1, MAX_PAGE), pages)
    return await tabs.page(
        call,
        "job/resources.html",
        detail,
        rows=found[(page - 1) * PAGE : page * PAGE],
        count=len(found),
        number=number,
        page=page,
        pages=pages,
        phases=PHASES,
    )


ROUTES: Final = (Route("GET", "/jobs/{job}/resources", resources),)
