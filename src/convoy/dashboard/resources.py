"""What a job took at each site: seconds by phase, processor, memory, GPU, energy and bytes, in all or in one round."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Final

from starlette.responses import Response

from convoy.admin.views import Contribution, CostView, MemberView
from convoy.dashboard import paging, tabs
from convoy.dashboard.route import Call, Route
from convoy.wire import values

PAGE: Final = 25  # sites on a page: each row has two bars and 14 numbers
PHASES: Final = ("fetching", "training", "checks", "waiting")


@dataclass(frozen=True, slots=True)
class Bar:
    """A part of a bar: what it is, how much, and from where to where, as per mille of the whole width."""

    name: str
    value: float
    start: float
    width: float


@dataclass(frozen=True, slots=True)
class Spent:
    """What the answers of a site took; `seconds` are those of all phases."""

    site: str
    cost: CostView
    seconds: float


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


def known(sites: Iterable[MemberView | Contribution]) -> list[Spent]:
    """Return what the answers of sites took, as far as it is known; those that took longest come first."""
    found = [Spent(it.site, it.cost, sum(phases(it.cost).values())) for it in sites if it.cost is not None]
    return sorted(found, key=lambda it: (-it.seconds, it.site))


def rows(shown: Sequence[Spent], of: Sequence[Spent]) -> list[Row]:
    """Return rows for some of the sites; their bars compare them with all sites."""
    longest = max((it.seconds for it in of), default=0.0)
    most = max((it.cost.down + it.cost.up for it in of), default=0)
    return [
        Row(
            it.site,
            it.cost,
            bars(phases(it.cost), longest),
            bars({"sent to the site": float(it.cost.down), "received from it": float(it.cost.up)}, float(most)),
        )
        for it in shown
    ]


async def resources(call: Call) -> Response:
    """Show what a job took, or one of its rounds."""
    number = call.number("round", 0, values.MAX_NUMBER)
    detail = await call.client.job(tabs.job_id(call), brief=bool(number))
    sites = (await call.client.round(detail.job.id, number)).took_part if number else detail.members
    found = known(sites)
    path = f"/jobs/{detail.job.id}/resources"
    page = paging.paged(call, paging.named(call, found), PAGE, path, keep=("search", "round"))
    return await tabs.page(
        call,
        "job/resources.html",
        detail,
        rows=rows(page.rows, found),
        number=number,
        page=page,
        phases=PHASES,
    )


ROUTES: Final = (Route("GET", "/jobs/{job}/resources", resources),)
