"""Two jobs beside each other: the curves of both in the same charts, and the settings that differ."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from typing import Any, Final

from starlette.responses import Response

from convoy.admin.views import JobDetail, JobView
from convoy.dashboard import curves, tabs
from convoy.dashboard import job as jobs
from convoy.dashboard.route import Call, Route
from convoy.errors import ConvoyError

MAX_ROWS: Final = 200  # settings that differ
MAX_VALUE: Final = 300  # characters of one
MAX_CHARTS: Final = 12  # metrics of both jobs


async def compare(call: Call) -> Response:
    """Show a job and another one."""
    detail = await call.client.job(tabs.job_id(call), brief=True)
    wanted, other, fault = call.query("with"), None, None
    if wanted:
        try:
            other = await call.client.job(await call.client.find(wanted), brief=True)
        except ConvoyError as problem:
            fault = problem
    named = await call.client.jobs(begins=detail.job.name, count=20)
    return await tabs.page(
        call,
        "job/compare.html",
        detail,
        wanted=wanted,
        other=other,
        fault=fault,
        suggested=[it for it in named if it.id != detail.job.id][:10],
        names=[curves.label(detail.job), curves.label(other.job)] if other else [],
        keys=_common(detail, other)[:MAX_CHARTS] if other else [],
        rows=list(differences(detail, other))[:MAX_ROWS] if other else [],
        facts=[(name, value, _facts(other.job)[name]) for name, value in _facts(detail.job).items()] if other else [],
    )


def _common(one: JobDetail, other: JobDetail) -> list[str]:
    return list(dict.fromkeys([*jobs.metrics(one), *jobs.metrics(other)]))


def _facts(job: JobView) -> dict[str, Any]:
    took = job.ended_at - job.started_at if job.ended_at and job.started_at else None
    return {"state": job.state, "rounds": job.round, "took": took, "submitter": job.submitter}


def differences(one: JobDetail, other: JobDetail) -> Iterator[tuple[str, str, str]]:
    """Yield the settings that differ: their place in job.yaml, and the value of each job; empty where it has none."""
    mine, its = dict(flat(one.spec)), dict(flat(other.spec))
    for place in dict.fromkeys([*mine, *its]):
        values = mine.get(place, ""), its.get(place, "")
        if values[0] != values[1]:
            yield place, values[0][:MAX_VALUE], values[1][:MAX_VALUE]


def flat(value: Any, place: str = "") -> Iterator[tuple[str, str]]:
    """Yield each setting with its place, such as `with.rounds`."""
    if isinstance(value, Mapping) and value:
        for key, it in value.items():
            yield from flat(it, f"{place}.{key}" if place else str(key))
    else:
        yield place, value if isinstance(value, str) else json.dumps(value)


ROUTES: Final = (Route("GET", "/jobs/{job}/compare", compare),)
