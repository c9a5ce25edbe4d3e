"""The rounds of a job: who took part in each and who was left out, one round with all sites, and how updates lie."""

from __future__ import annotations

import asyncio
import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Final

from starlette.responses import JSONResponse, Response

from convoy.admin.views import Contribution, JobDetail, LeftOut, RoundView
from convoy.dashboard import resources, series, tabs
from convoy.dashboard.route import Call, Route
from convoy.errors import NotFound, by_reason

COLUMNS: Final = 20  # rounds beside each other in the matrix
FEW_COLUMNS: Final = 8  # of a job whose rounds have more sites than lists of rounds tell: each is asked for as a whole
LISTED: Final = 100  # sites of a round that lists of rounds tell
PAGE: Final = 50  # sites below each other
MAX_NUMBER: Final = 100_000_000  # the highest round, and the highest page, that may be asked for
SPAN: Final = 200  # rounds in the charts of norms and cosines
AT_ONCE: Final = 4  # rounds that are asked for at the same time


@dataclass(frozen=True, slots=True)
class Cell:
    """How a site stands in a round: `took`, `out` or `none` (not asked), with the weight or the reason."""

    kind: str
    text: str


@dataclass(frozen=True, slots=True)
class Update:
    """The update of a site in a round: its norm, its cosine to the fold, and why it was left out, if it was.

    `x` and `y` are its place in a picture of 1000 by 400.
    """

    site: str
    norm: float
    cosine: float
    reason: str = ""
    x: float = 0.0
    y: float = 0.0


async def rounds(call: Call) -> Response:
    """Show the matrix of sites and rounds."""
    detail = await call.client.job(tabs.job_id(call))
    columns = COLUMNS if len(detail.members) <= LISTED else FEW_COLUMNS
    newest = detail.job.round + 1  # the round in which a job ended is not committed
    last = min(call.number("to", newest, MAX_NUMBER), newest)
    page = await call.client.round_page(detail.job.id, after=max(last - columns, 0), limit=columns)
    found = await _whole(call, detail, [made for made in page.rounds if made.round <= last])
    sites = sorted({member.site for member in detail.members} | {it.site for made in found for it in _sites(made)})
    pages = max(1, -(-len(sites) // PAGE))
    number = min(call.number("page", 1, MAX_NUMBER), pages)
    shown = sites[(number - 1) * PAGE : number * PAGE]
    cells = [cells_of(made) for made in found]
    none = Cell("none", "not asked")
    return await tabs.page(
        call,
        "job/rounds.html",
        detail,
        rounds=found,
        matrix=[(site, [column.get(site, none) for column in cells]) for site in shown],
        reasons=[(made.round, by_reason((it.site, it.reason) for it in made.left_out)) for made in found],
        older=last - columns if last > columns else 0,
        newer=min(last + columns, newest) if last < newest else 0,
        to=last,
        page=number,
        pages=pages,
        count=len(sites),
    )


async def _whole(call: Call, detail: JobDetail, found: Sequence[RoundView]) -> list[RoundView]:
    """Return the rounds with all of their sites: lists of rounds have some of each only."""
    limit = asyncio.Semaphore(AT_ONCE)

    async def whole(made: RoundView) -> RoundView:
        if (len(made.took_part), len(made.left_out)) == (made.took_part_count, made.left_out_count):
            return made
        async with limit:
            return await call.client.round(detail.job.id, made.round)

    return list(await asyncio.gather(*map(whole, found)))


def _sites(made: RoundView) -> Iterable[Contribution | LeftOut]:
    return [*made.took_part, *made.left_out]


def cells_of(made: RoundView) -> dict[str, Cell]:
    """Return how each site that was asked stands in a round."""
    took = {it.site: Cell("took", f"took part, weight {it.weight:g}") for it in made.took_part}
    return took | {it.site: Cell("out", f"left out: {it.reason}") for it in made.left_out}


async def one(call: Call) -> Response:
    """Show one round with all of its sites."""
    detail = await call.client.job(tabs.job_id(call))
    made = await call.client.round(detail.job.id, _number(call))
    total = sum(it.weight for it in made.took_part if math.isfinite(it.weight))
    costs = [(it.site, it.cost) for it in made.took_part if it.cost is not None]
    return await tabs.page(
        call,
        "job/round.html",
        detail,
        made=made,
        total=total,
        costs=resources.rows(costs)[:PAGE],
        number=made.round,
        phases=resources.PHASES,
        most=500,
        newest=max(detail.job.round, made.round),
    )


def _number(call: Call) -> int:
    text = call.path("round")
    if not (text.isascii() and text.isdecimal() and len(text) < 10):
        raise NotFound(f"there is no round {text[:40]!r}", fix="choose one on the page of rounds")
    return int(text)


async def updates(call: Call) -> Response:
    """Show how the updates of one round lie to the fold, and links to the charts of the newest rounds."""
    detail = await call.client.job(tabs.job_id(call))
    newest = detail.job.round
    number = min(call.number("round", newest, MAX_NUMBER), max(newest, 1))
    made = await call.client.round(detail.job.id, number) if newest else None
    found = placed(updates_of(made)) if made else []
    return await tabs.page(
        call,
        "job/updates.html",
        detail,
        number=number if made else 0,
        newest=newest,
        updates=found,
        most=max((it.norm for it in found), default=0.0),
        low=_low(found),
    )


def updates_of(made: RoundView) -> list[Update]:
    """Return the updates of a round whose norm and cosine are known, those that point farthest elsewhere first."""
    took = [(it.site, it.norm, it.cosine, "") for it in made.took_part]
    out = [(it.site, it.norm, it.cosine, it.reason) for it in made.left_out]
    found = [
        Update(site, norm, cosine, reason)
        for site, norm, cosine, reason in [*took, *out]
        if norm is not None and cosine is not None
    ]
    return sorted(found, key=lambda it: (it.cosine, -it.norm, it.site))


def placed(found: Sequence[Update]) -> list[Update]:
    """Return updates with their places: the cosine from left to right, the norm from 0 upwards."""
    most, low = max((it.norm for it in found), default=0.0) or 1.0, _low(found)
    return [
        Update(
            it.site,
            it.norm,
            it.cosine,
            it.reason,
            round(20 + 960 * (it.cosine - low) / (1 - low), 1),
            round(380 - 360 * (it.norm / most), 1),
        )
        for it in found
    ]


def _low(found: Sequence[Update]) -> float:
    """Return where the axis of cosines begins: at 0, or at -1 where an update points backwards."""
    return -1.0 if any(it.cosine < 0 for it in found) else 0.0


async def spread(call: Call) -> Response:
    """Return the norms or cosines of the newest rounds by site, for a chart: those that lie farthest off."""
    detail = await call.client.job(tabs.job_id(call))
    after = max(detail.job.round - SPAN, 0)
    page = await call.client.round_page(detail.job.id, after=after, limit=SPAN)
    field = "cosine" if call.query("of") == "cosine" else "norm"
    curves: dict[str, dict[float, float]] = {}
    cosines: dict[str, list[float]] = {}
    for made in page.rounds:
        for it in updates_of(made):
            curves.setdefault(it.site, {})[float(made.round)] = it.cosine if field == "cosine" else it.norm
            cosines.setdefault(it.site, []).append(it.cosine)
    chosen = sorted(curves, key=lambda site: math.fsum(cosines[site]) / len(cosines[site]))[: series.MAX_CURVES]
    return JSONResponse(series.chart("Round", {site: curves[site] for site in sorted(chosen)}))


ROUTES: Final = (
    Route("GET", "/jobs/{job}/rounds", rounds),
    Route("GET", "/jobs/{job}/rounds/{round}", one),
    Route("GET", "/jobs/{job}/updates", updates),
    Route("GET", "/jobs/{job}/updates/series", spread),
)
