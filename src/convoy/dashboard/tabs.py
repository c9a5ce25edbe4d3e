"""The frame of a job's pages: its head, the tabs that lead to each, and what may be done to the job."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Final

from markupsafe import Markup
from starlette.responses import Response

from convoy.admin import job_reference
from convoy.admin.views import JobDetail, JobView
from convoy.control import rights
from convoy.control.records import JOB_ID
from convoy.dashboard.route import Call
from convoy.errors import NotFound


@dataclass(frozen=True, slots=True)
class Tab:
    """One of a job's pages; it is offered to whom has the right over the job."""

    path: str
    label: str
    right: rights.Right


TABS: Final = (
    Tab("", "Overview", "view"),
    Tab("/curves", "Curves", "view"),
    Tab("/rounds", "Rounds", "view"),
    Tab("/updates", "Updates", "view"),
    Tab("/resources", "Resources", "view"),
    Tab("/logs", "Logs", "logs"),
    Tab("/results", "Results", "download"),
    Tab("/files", "Files", "clone"),
    Tab("/compare", "Compare", "view"),
)
DONE: Final = {"abort": "The job is aborted.", "clone": "The job was submitted under your name."}


def job_id(call: Call) -> str:
    """Return the id of the job whose page this is. Raises `NotFound` for what is no id."""
    found = call.path("job")
    if not JOB_ID.fullmatch(found):
        raise NotFound(
            f"there is no job {found[:40]!r}",
            why="the address of a job has its whole id",
            fix="search for the job's name in the list of jobs",
        )
    return found


def may(call: Call, right: rights.Right, job: JobView) -> bool:
    """Return whether to offer what needs this right over the job."""
    return call.may(right, org=job.org, submitter=job.submitter)


def head(call: Call, job: JobView) -> Markup:
    """Return the head of a job's pages."""
    return call.text("job/_head.html", job=job, ended=job.state in job_reference.ENDED)


def verbs(call: Call, job: JobView) -> Markup:
    """Return the buttons for what the person may do to the job, and what makes sense now."""
    ended = job.state in job_reference.ENDED
    allowed = {
        "abort": may(call, "abort", job) and not ended,
        "clone": may(call, "clone", job) and call.may("submit"),
        "delete": may(call, "delete", job) and ended,
    }
    return call.text("job/_verbs.html", job=job, allowed=allowed)


async def page(call: Call, template: str, detail: JobDetail, **values: Any) -> Response:
    """Return one of a job's pages: the template's content below the head and the tabs."""
    job = detail.job
    values = {"live": f"/jobs/{job.id}/live"} | values
    return call.page(
        template,
        job=job,
        detail=detail,
        base=f"/jobs/{job.id}",
        tabs=[tab for tab in TABS if may(call, tab.right, job)],
        head=head(call, job),
        verbs=verbs(call, job),
        going=job.state not in job_reference.ENDED,
        **values,
    )
