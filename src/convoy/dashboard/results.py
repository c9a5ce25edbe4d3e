"""The results of a job: files to download, tables and pictures of its statistics, metrics of models at sites."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from itertools import pairwise
from typing import Any, Final
from urllib.parse import quote

from starlette.responses import JSONResponse, Response, StreamingResponse

from convoy.admin import findings, streams
from convoy.admin.views import JobDetail
from convoy.dashboard import series, tabs
from convoy.dashboard.route import Call, Route
from convoy.errors import ConvoyError, NotFound
from convoy.spec import cross_metrics

PAGE: Final = 100  # files on a page
MAX_PAGE: Final = 100_000  # the highest number of a page that may be asked for
MAX_ROWS: Final = 200  # of one table of the statistics
MAX_TABLES: Final = 40  # of the statistics
MAX_HEAT: Final = 60  # models, and sites, of one table of metrics
MAX_BARS: Final = 200  # of one picture
SHADES: Final = 6  # of a table of metrics, from the lowest value to the highest


@dataclass(frozen=True, slots=True)
class Heat:
    """One metric of models at sites: a row for each model, with the value and its shade at each site."""

    metric: str
    sites: list[str]
    rows: list[tuple[str, list[tuple[float, int] | None]]]


@dataclass(frozen=True, slots=True)
class Picture:
    """A picture of the statistics: `bars` are (label, value, per mille of the highest); lines are a chart by number."""

    name: str
    kind: str
    number: int
    bars: list[tuple[str, float, float]]


async def results(call: Call) -> Response:
    """Show the results of a job."""
    detail = await call.client.job(tabs.job_id(call), brief=True)
    names = sorted(detail.results, key=lambda name: (name.startswith("artifacts/"), name))
    pages = max(1, -(-len(names) // PAGE))
    page = min(call.number("page", 1, MAX_PAGE), pages)
    document, fault = await _statistics(call, detail)
    return await tabs.page(
        call,
        "job/results.html",
        detail,
        names=[(name, quote(name)) for name in names[(page - 1) * PAGE : page * PAGE]],
        count=len(names),
        page=page,
        pages=pages,
        heats=heats(detail.job.metrics),
        tables=list(findings.tables(document))[:MAX_TABLES],
        pictures=pictures(document),
        most=MAX_ROWS,
        fault=fault,
        live=f"/jobs/{detail.job.id}/live?parts=results",
    )


async def _statistics(call: Call, detail: JobDetail) -> tuple[Mapping[str, Any], ConvoyError | None]:
    """Return the statistics of a job, empty where there are none, and why they cannot be read."""
    if findings.FILE not in detail.results:
        return {}, None
    try:
        return findings.read(await call.client.result(detail.job.id, findings.FILE, findings.MAX_BYTES)), None
    except ConvoyError as problem:
        return {}, problem


def heats(metrics: Mapping[str, float]) -> list[Heat]:
    """Return the table of each metric that is of a model at a site, with shades from the lowest to the highest."""
    found = []
    for metric, table in cross_metrics.tables(metrics).items():
        sites = list(dict.fromkeys(site for row in table.values() for site in row))[:MAX_HEAT]
        values = [value for row in table.values() for value in row.values() if series.finite(value) is not None]
        low, high = min(values, default=0.0), max(values, default=0.0)
        rows = [
            (model, [(row[it], _shade(row[it], low, high)) if it in row else None for it in sites])
            for model, row in list(table.items())[:MAX_HEAT]
        ]
        found.append(Heat(metric, sites, rows))
    return found


def _shade(value: float, low: float, high: float) -> int:
    if series.finite(value) is None or high <= low:
        return 0
    return round((SHADES - 1) * ((value / 2 - low / 2) / (high / 2 - low / 2)))  # halves: the distance may overflow


def pictures(document: Mapping[str, Any]) -> list[Picture]:
    """Return the pictures of statistics that a page can draw: histograms and bars here, lines as charts."""
    found = []
    for number, (name, kind, picture) in enumerate(findings.pictures(document)):
        if kind == "lines":
            found.append(Picture(name, kind, number, []))
        elif kind == "bars":
            found.append(Picture(name, kind, number, _bars(picture["labels"], picture["heights"])))
        elif kind == "histogram":
            edges = picture["edges"]
            labels = [f"{low:g} to {high:g}" for low, high in pairwise(edges)]
            found.append(Picture(name, kind, number, _bars(labels, picture["counts"])))
    return found[: findings.MAX_PICTURES]


def _bars(labels: list[Any], values: list[float]) -> list[tuple[str, float, float]]:
    most = max((abs(value) for value in values), default=0.0) or 1.0
    shown = list(zip(labels, values, strict=False))[:MAX_BARS]
    return [(str(label)[:100], float(value), round(1000 * abs(value) / most, 1)) for label, value in shown]


async def lines(call: Call) -> Response:
    """Return the numbers of a picture of lines, for a chart."""
    detail = await call.client.job(tabs.job_id(call), brief=True)
    document, fault = await _statistics(call, detail)
    if fault is not None:
        raise fault
    wanted = call.number("picture", 0, MAX_PAGE)
    for number, (_, kind, picture) in enumerate(findings.pictures(document)):
        if number == wanted and kind == "lines":
            curves = {
                str(line.get("label", "") or f"line {place}")[:100]: dict(zip(line["x"], line["y"], strict=True))
                for place, line in enumerate(picture["lines"][: series.MAX_CURVES], 1)
            }
            return JSONResponse(series.chart(str(picture.get("x", "") or "x")[:100], curves))
    raise NotFound("there is no such picture", fix="reload the page of results")


async def download(call: Call) -> Response:
    """Send one file of the results as it comes from the server."""
    job, name = tabs.job_id(call), call.path("name")
    if name not in (await call.client.job(job, brief=True)).results:
        raise NotFound(f"the job has no result {name[:100]!r}", fix="choose one on the page of results")
    chunks = await streams.begun(call.client.read(job, name))
    saved = quote(name.rsplit("/", 1)[-1], safe="")
    headers = {"content-disposition": f"attachment; filename*=UTF-8''{saved}"}
    return StreamingResponse(chunks, media_type="application/octet-stream", headers=headers)


ROUTES: Final = (
    Route("GET", "/jobs/{job}/results", results),
    Route("GET", "/jobs/{job}/results/lines", lines),
    Route("GET", "/jobs/{job}/results/files/{name:path}", download),
)
