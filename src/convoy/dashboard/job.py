"""A job: its state, the round now, what has happened, its sites; abort it, clone it, delete it."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

from markupsafe import Markup
from starlette.responses import RedirectResponse, Response

from convoy.admin.views import JobDetail, MemberView
from convoy.dashboard import feed, live, tabs, watching
from convoy.dashboard.route import Call, Route
from convoy.dashboard.watching import Parts, Watched
from convoy.spec import cross_metrics

SHOWN: Final = 30  # sites on the page of a job; the page of its resources has them all
CHARTS: Final = 4  # metrics on the page of a job; the page of its curves has them all
ORDER: Final = {"refused": 0, "away": 1, "starting": 2, "ready": 3, "ended": 4}


async def job(call: Call) -> Response:
    """Show a job."""
    detail = await call.client.job(tabs.job_id(call))
    shown = Watched(call, {}, detail)
    keys = metrics(detail)
    return await tabs.page(
        call,
        "job/overview.html",
        detail,
        now=_now(shown),
        feed=_feed(shown),
        sites=_sites(shown),
        fault=_fault(shown),
        keys=keys[:CHARTS],
        more=len(keys) > CHARTS,
        done=tabs.DONE.get(call.query("done"), ""),
        live=f"/jobs/{detail.job.id}/live?parts=all",
    )


async def watch(call: Call) -> Response:
    """Push the job as it changes: its head, and the other parts of the page that asks."""
    parts = PARTS.get(call.query("parts"), {})
    return live.push(call, watching.events(call, tabs.job_id(call), parts))


def metrics(detail: JobDetail) -> list[str]:
    """Return the names of a job's metrics, those of the newest rounds first, without tables of models at sites."""
    names = dict.fromkeys(detail.job.metrics)
    for made in reversed(detail.rounds):
        names |= dict.fromkeys(made.metrics)
    return [name for name in names if not cross_metrics.NAME.fullmatch(name)]


def _now(watched: Watched) -> Markup:
    waits = [it for it in watched.detail.members if it.reason and it.state in ("starting", "away", "ready")]
    waiting = sorted(waits, key=_rank)[:SHOWN]
    return watched.call.text("job/_now.html", detail=watched.detail, going=watched.going, waiting=waiting)


def _feed(watched: Watched) -> Markup:
    told = feed.entries(watched.detail, watched.noticed)
    return watched.call.text("job/_feed.html", entries=told, base=f"/jobs/{watched.detail.job.id}")


def _sites(watched: Watched) -> Markup:
    members = sorted(watched.detail.members, key=_rank)
    rest = len(members) - SHOWN
    base = f"/jobs/{watched.detail.job.id}"
    return watched.call.text("job/_sites.html", members=members[:SHOWN], rest=rest, base=base)


def _fault(watched: Watched) -> Markup:
    return watched.call.text("job/_traceback.html", traceback=watched.detail.traceback, ended=not watched.going)


def _rank(member: MemberView) -> tuple[int, str]:
    return ORDER.get(member.state, 9), member.site


def _ended(watched: Watched) -> Markup:
    return watched.call.text("job/_ended.html", going=watched.going, base=f"/jobs/{watched.detail.job.id}")


PARTS: Final[Mapping[str, Parts]] = {
    "all": {"now": _now, "feed": _feed, "sites": _sites, "traceback": _fault},
    "results": {"results": _ended},
}


async def abort(call: Call) -> Response:
    """End the job, and show it again when all its processes have ended."""
    job = tabs.job_id(call)
    await call.client.abort(job)
    await call.services.federation_state.look()
    return RedirectResponse(f"/jobs/{job}?done=abort", 303)


async def delete(call: Call) -> Response:
    """Delete the ended job and its results, and show the list."""
    await call.client.delete(tabs.job_id(call))
    await call.services.federation_state.look()
    return RedirectResponse("/jobs", 303)


ROUTES: Final = (
    Route("GET", "/jobs/{job}", job),
    Route("GET", "/jobs/{job}/live", watch),
    Route("POST", "/jobs/{job}/abort", abort),
    Route("POST", "/jobs/{job}/delete", delete),
)
