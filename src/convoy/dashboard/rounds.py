"""The rounds of a job: who took part in each and who was left out, one round with all sites, and how updates lie."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

from starlette.responses import JSONResponse, Response

from convoy.admin.views import RoundView
from convoy.dashboard import paging, resources, series, tabs
from convoy.dashboard.route import Call, Route
from convoy.errors import NotFound, by_reason

COLUMNS: Final = 20  # rounds beside each other in the matrix
FEW_COLUMNS: Final = 8  # of a job with more sites than lists of rounds tell
LISTED: Final = 100  # sites of a round that lists of rounds tell
PAGE: Final = 50  # sites below each other in the matrix
LONG_PAGE: Final = 100  # sites below each other in a table of one round
SLOWEST: Final = 20  # sites whose costs the page of a round shows
PLACED: Final = 500  # updates in the picture of them, those that point farthest elsewhere
MAX_NUMBER: Final = 100_000_000  # the highest round that may be asked for
SPAN: Final = 200  # rounds in the charts of norms and cosines
MOST_PLACES: Final = 5_000  # sites times rounds that a server reads for them: of jobs with many sites, fewer rounds
FEWEST: Final = 5  # rounds in these charts, however many sites there are


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
    detail = await call.client.job(tabs.job_id(call), brief=True)
    many = len(detail.members) > LISTED
    columns = FEW_COLUMNS if many else COLUMNS
    newest = detail.job.round + 1  # the round in which a job ended is not committed
    last = min(call.number("to", newest, MAX_NUMBER), newest)
    sites = [member.site for member in paging.named(call, detail.members)]
    page = paging.paged(call, sorted(sites), PAGE, f"/jobs/{detail.job.id}/rounds", keep=("search", "to"))
    found = await _between(call, detail.job.id, max(last - columns, 0), last, page.rows if many else ())
    cells = [cells_of(made) for made in found]
    none = Cell("none", "not asked")
    return await tabs.page(
        call,
        "job/rounds.html",
        detail,
        rounds=found,
        matrix=[(site, [column.get(site, none) for column in cells]) for site in page.rows],
        reasons={made.round: by_reason((it.site, it.reason) for it in made.left_out) for made in found if not many},
        older=last - columns if last > columns else 0,
        newer=min(last + columns, newest) if last < newest else 0,
        to=last,
        page=page,
    )


async def _between(call: Call, job: str, after: int, last: int, sites: Sequence[str]) -> list[RoundView]:
    """Return the rounds after one up to another, each with these sites, or with the first `LISTED`."""
    found: list[RoundView] = []
    more = True
    while more and after < last:  # a page of rounds ends sooner where each has many sites
        page = await call.client.round_page(job, after=after, limit=last - after, sites=sites)
        found += [made for made in page.rounds if made.round <= last]
        more, after = page.more and bool(page.rounds), page.rounds[-1].round if page.rounds else last
    return found


def cells_of(made: RoundView) -> dict[str, Cell]:
    """Return how each site that was asked stands in a round."""
    took = {it.site: Cell("took", f"took part, weight {it.weight:g}") for it in made.took_part}
    return took | {it.site: Cell("out", f"left out: {it.reason}") for it in made.left_out}


async def one(call: Call) -> Response:
    """Show one round with all of its sites, a page at a time."""
    detail = await call.client.job(tabs.job_id(call), brief=True)
    many = len(detail.members) > LISTED  # then their costs are on a page of their own
    made = await call.client.round(detail.job.id, _number(call), brief=many)
    total = sum(it.weight for it in made.took_part if math.isfinite(it.weight))
    costs = resources.known(made.took_part)
    path = f"/jobs/{detail.job.id}/rounds/{made.round}"
    took, out = paging.named(call, made.took_part), paging.named(call, made.left_out)
    return await tabs.page(
        call,
        "job/round.html",
        detail,
        made=made,
        total=total,
        took=paging.paged(call, took, LONG_PAGE, path, keep=("search", "out")),
        out=paging.paged(call, out, LONG_PAGE, path, keep=("search", "page"), name="out"),
        costs=resources.rows(costs[:SLOWEST], costs),
        many=many,
        number=made.round,
        phases=resources.PHASES,
        newest=max(detail.job.round, made.round),
    )


def _number(call: Call) -> int:
    text = call.path("round")
    if not (text.isascii() and text.isdecimal() and len(text) < 10):
        raise NotFound(f"there is no round {text[:40]!r}", fix="choose one on the page of rounds")
    return int(text)


async def updates(call: Call) -> Response:
    """Show how the updates of one round lie to the fold, and links to the charts of the rounds up to it."""
    detail = await call.client.job(tabs.job_id(call), brief=True)
    newest = detail.job.round
    number = min(call.number("round", newest, MAX_NUMBER), max(newest, 1))
    made = await call.client.round(detail.job.id, number, brief=True) if newest else None
    found = placed(updates_of(made)) if made else []
    return await tabs.page(
        call,
        "job/updates.html",
        detail,
        number=number if made else 0,
        newest=newest,
        updates=found[:PLACED],
        count=len(found),
        page=paging.paged(
            call, paging.named(call, found), LONG_PAGE, f"/jobs/{detail.job.id}/updates", keep=("search", "round")
        ),
        asked=call.number("round", 0, MAX_NUMBER),
        curves=series.MAX_CURVES,
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
    """Return the norms or cosines of rounds up to one, for a chart: of the sites that lie farthest off in that one."""
    job = (await call.client.job(tabs.job_id(call), brief=True)).job
    last = min(call.number("round", job.round, MAX_NUMBER), job.round)
    farthest = updates_of(await call.client.round(job.id, last, brief=True)) if last else []
    sites = sorted(it.site for it in farthest[: series.MAX_CURVES])
    span = max(FEWEST, min(SPAN, MOST_PLACES // max(len(farthest), 1)))
    curves: dict[str, dict[float, float]] = {site: {} for site in sites}
    for made in await _between(call, job.id, max(last - span, 0), last, sites) if sites else []:
        for it in updates_of(made):
            curves[it.site][float(made.round)] = it.cosine if call.query("of") == "cosine" else it.norm
    return JSONResponse(series.chart("Round", curves))


ROUTES: Final = (
    Route("GET", "/jobs/{job}/rounds", rounds),
    Route("GET", "/jobs/{job}/rounds/{round}", one),
    Route("GET", "/jobs/{job}/updates", updates),
    Route("GET", "/jobs/{job}/updates/series", spread),
)
