"""The curves of a job: metrics of its rounds, and live metrics by site; also as numbers for the charts."""

from __future__ import annotations

import glob
from contextlib import aclosing
from typing import Final

from starlette.responses import JSONResponse, Response

from convoy.admin.views import JobView, PointView
from convoy.control.records import JOB_ID
from convoy.dashboard import job as jobs
from convoy.dashboard import series, tabs
from convoy.dashboard.histories import History
from convoy.dashboard.route import Call, Route

MAX_POINTS: Final = 100_000  # of a job that are read for one page
MAX_NAME: Final = 500  # characters of a metric's name in an address
MAX_CHARTS: Final = 24  # metrics of rounds on one page
PHASES: Final = ("train", "evaluate", "test")


async def curves(call: Call) -> Response:
    """Show the curves of a job."""
    detail = await call.client.job(tabs.job_id(call), brief=True)
    allowed = tabs.may(call, "logs", detail.job)
    points = await _points(call, detail.job.id) if allowed else []
    keys = sorted({key for point in points for key in point.values})
    chosen = _chosen(call)
    key = chosen["key"] if chosen["key"] in keys else next(iter(keys), "")
    return await tabs.page(
        call,
        "job/curves.html",
        detail,
        metrics=jobs.metrics(detail)[:MAX_CHARTS],
        allowed=allowed,
        keys=keys,
        phases=[phase for phase in PHASES if any(point.phase == phase for point in points)],
        sites=sorted({point.site for point in points}),
        cut=len(points) == MAX_POINTS,
        chosen=chosen | {"key": key},
        overs=series.OVERS,
    )


async def rounds(call: Call) -> Response:
    """Return the numbers of one metric of rounds; of two jobs, if the address names another."""
    first = tabs.job_id(call)
    found = {first: await call.services.histories.of(call.client, first)}
    if JOB_ID.fullmatch(second := call.query("with")):
        found[second] = await call.services.histories.of(call.client, second)
    return JSONResponse(series.of_rounds(await _labelled(call, found), _key(call)))


async def _labelled(call: Call, found: dict[str, History]) -> dict[str, History]:
    """Return the histories under names that a person knows; of a single job, under the name of the metric."""
    if len(found) == 1:
        return dict.fromkeys([_key(call)], *found.values())
    return {label((await call.client.job(job, brief=True)).job): history for job, history in found.items()}


def label(job: JobView) -> str:
    """Return a job's name and the beginning of its id, which others of that name do not have."""
    return f"{job.name} {job.id[:8]}"


async def live_metrics(call: Call) -> Response:
    """Return the numbers of one live metric."""
    chosen, key = _chosen(call), _key(call)
    found = await _points(call, tabs.job_id(call), key=key, site=chosen["site"])
    kept = [point for point in found if chosen["phase"] in ("", point.phase)]
    along = chosen["over"] or series.over(kept)
    return JSONResponse(series.of_points(kept, key, along))


async def _points(call: Call, job: str, *, key: str = "", site: str = "") -> list[PointView]:
    """Return live metrics of a job, at most `MAX_POINTS`."""
    found: list[PointView] = []
    async with aclosing(call.client.points(job, site=site or None, key=glob.escape(key))) as points:
        async for point in points:
            found.append(point)
            if len(found) == MAX_POINTS:
                break
    return found


def _key(call: Call) -> str:
    return call.request.query_params.get("key", "")[:MAX_NAME]


def _chosen(call: Call) -> dict[str, str]:
    """Return what a person has chosen to see; empty: everything, and the x axis that suits the points."""
    phase, over = call.query("phase"), call.query("over")
    return {
        "key": _key(call),
        "site": call.query("site"),
        "phase": phase if phase in PHASES else "",
        "over": over if over in series.OVERS else "",
    }


ROUTES: Final = (
    Route("GET", "/jobs/{job}/curves", curves),
    Route("GET", "/jobs/{job}/series", rounds),
    Route("GET", "/jobs/{job}/points", live_metrics),
)
