"""The pages Who ran what and What left: jobs of the site's history, one job, and sums by day."""

from __future__ import annotations

import asyncio
import datetime as dt
import time
from typing import Final

from starlette.responses import JSONResponse, Response

from convoy.dashboard import paging, site_state
from convoy.dashboard.route import Route
from convoy.dashboard.site_state import Side, Turn
from convoy.errors import NotFound
from convoy.owner import consent, differences
from convoy.owner.account import Account, Day

PAGE: Final = 50  # jobs on a page
MAX_ANSWERS: Final = 500  # answers of one job, the newest
MAX_DAYS: Final = 60  # days with their sums, the newest
CHART_DAYS: Final = 30  # in the chart, up to today


async def jobs(turn: Turn) -> Response:
    """Show a page of the jobs that ran here."""
    template = "own/_jobs_live.html" if turn.request.headers.get("hx-target") == "rows" else "own/jobs.html"
    number = turn.number("page", 1, paging.MAX_PAGE)
    return turn.page(template, rows=await _jobs(turn)(turn.seen), search=turn.query("search"), number=number)


async def watch_jobs(turn: Turn) -> Response:
    """Push the list as it changes."""
    return site_state.push(turn, {"rows": _jobs(turn)})


def _jobs(turn: Turn) -> site_state.Part:
    async def rows(seen: Side) -> str:
        text = turn.query("search").lower()
        found = [it for it in reversed(seen.accounts.jobs.values()) if _matches(it, text)]
        return turn.text("own/_jobs.html", page=paging.paged(turn, found, PAGE, "/ran"))

    return rows


def _matches(account: Account, text: str) -> bool:
    fields = (account.name, account.submitter, account.org, account.digest, *account.data)
    return account.job.startswith(text) or any(text in it.lower() for it in fields)


async def job(turn: Turn) -> Response:
    """Show one job."""
    account = _account(turn)
    return turn.page("own/job.html", job=account, facts=await _facts(turn)(turn.seen))


async def watch_job(turn: Turn) -> Response:
    """Push one job as it changes."""
    _account(turn)
    return site_state.push(turn, {"facts": _facts(turn)})


def _facts(turn: Turn) -> site_state.Part:
    id_ = turn.path("job")

    async def facts(seen: Side) -> str:
        account = seen.accounts.jobs.get(id_)
        if account is None:
            raise NotFound("this job is no longer in the history of the site", why="newer ones have taken its place")
        answers = await asyncio.to_thread(turn.site_state.watch.book.answers, id_, MAX_ANSWERS + 1)
        stayed = [it for it in reversed(seen.accounts.stayed) if it.job == id_]
        shown, more = answers[:MAX_ANSWERS], len(answers) > MAX_ANSWERS
        return turn.text("own/_job.html", job=account, answers=shown, more=more, stayed=stayed)

    return facts


async def files(turn: Turn) -> Response:
    """Show the files of a job that ran here, while its bundle is kept."""
    account = _account(turn)
    bundle = await asyncio.to_thread(consent.kept_bundle, turn.kit, account.digest)
    if bundle is None:
        raise NotFound(
            f"the files of {account.name} are not here any more",
            why="a site keeps 128 MiB of bundles, those that ran last",
            fix="ask its submitter; the digest in the history tells whether the files are the same",
        )
    shown = await asyncio.to_thread(differences.shown, bundle.files)
    return turn.page("own/files.html", job=account, files=shown)


def _account(turn: Turn) -> Account:
    found = turn.seen.accounts.jobs.get(turn.path("job"))
    if found is None:
        raise NotFound("the history of this site has no such job", fix="go to the list of jobs that ran here")
    return found


async def left(turn: Turn) -> Response:
    """Show what left, by day and by job."""
    return turn.page("own/left.html", rows=await _left(turn)(turn.seen))


async def watch_left(turn: Turn) -> Response:
    """Push the sums as they change."""
    return site_state.push(turn, {"rows": _left(turn)})


def _left(turn: Turn) -> site_state.Part:
    async def rows(seen: Side) -> str:
        days = sorted(seen.accounts.days.items(), reverse=True)[:MAX_DAYS]
        newest = list(reversed(seen.accounts.jobs.values()))[:PAGE]
        return turn.text("own/_left.html", days=days, jobs=newest, total=len(seen.accounts.jobs))

    return rows


async def series(turn: Turn) -> Response:
    """Return what left on each of the last days, for a chart."""
    today = dt.date.today()  # noqa: DTZ011 - days are of this machine, as in the table
    days = [today - dt.timedelta(days=back) for back in reversed(range(CHART_DAYS))]
    found = [turn.seen.accounts.days.get(day.isoformat(), Day()) for day in days]
    return JSONResponse(
        {
            "whole": True,
            "x": {"label": "Day", "kind": "time", "values": [time.mktime(day.timetuple()) for day in days]},
            "series": [
                {"label": "Answers that left", "values": [it.answers for it in found]},
                {"label": "Answers that stayed", "values": [it.stayed for it in found]},
                {"label": "Jobs refused", "values": [it.refused for it in found]},
            ],
        }
    )


ROUTES: Final = (
    Route("GET", "/ran", jobs),
    Route("GET", "/ran/live", watch_jobs),
    Route("GET", "/ran/{job}", job),
    Route("GET", "/ran/{job}/live", watch_job),
    Route("GET", "/ran/{job}/files", files),
    Route("GET", "/left", left),
    Route("GET", "/left/live", watch_left),
    Route("GET", "/left/series", series),
)
