"""Submit: a folder is uploaded or read here, checked, shown with its digests, and signed after a confirmation."""

from __future__ import annotations

import asyncio
import hmac
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Final

from starlette.responses import PlainTextResponse, RedirectResponse, Response

from convoy import errors
from convoy.admin import reading
from convoy.dashboard import drafts
from convoy.dashboard.drafts import Draft
from convoy.dashboard.route import Call, Route
from convoy.errors import BadInput, ConvoyError, Refused
from convoy.flows import findings
from convoy.trust import bundle, folders

AROUND: Final = 2  # lines of a file that are shown before and after the one of a finding
MAX_SHOWN: Final = 200  # characters of a line that are shown
MAX_PATH: Final = 4096  # characters of a path that is typed: Linux accepts no longer one
MAX_FINDINGS: Final = 50  # that a page shows with their lines
MAX_FILES: Final = 500  # that a page lists; the digest of the list covers all of them
_WHERE: Final = re.compile(r"(.+?):(\d{1,9})(?::\d{1,9})?")


@dataclass(frozen=True, slots=True)
class Finding:
    """Something that is wrong, with the lines of the file around it: their numbers and texts."""

    what: str
    why: str
    fix: str
    file: str
    line: int  # 0: the file as a whole
    lines: list[tuple[int, str]]


async def form(call: Call) -> Response:
    """Show where a folder can be dropped or named."""
    limits = {"files": bundle.MAX_FILES, "bytes": bundle.MAX_BYTES}
    return call.page("submit.html", skipped=sorted(folders.SKIPPED), limits=limits)


async def upload(call: Call) -> Response:
    """Take the files of a folder from the browser; answer with the address of the page that shows them."""
    kept = call.services.drafts
    if kept.uploading:
        raise Refused("another upload is being received", fix="wait until it has ended, and choose the folder again")
    kept.uploading = True
    try:
        data = await reading.body(call.request, drafts.MAX_UPLOAD, lambda: None)
        files, left_out = await asyncio.to_thread(drafts.unframed, data)
    finally:
        kept.uploading = False
    return PlainTextResponse(f"/submit/{kept.add('uploaded from the browser', files, left_out).id}")


async def read(call: Call) -> Response:
    """Read a folder of this machine."""
    text = call.form.get("folder", "").strip()
    try:
        files = await asyncio.to_thread(_gathered, text)
    except OSError as problem:
        raise errors.of_files(problem) or BadInput("the folder cannot be read", why=str(problem)) from problem
    return RedirectResponse(f"/submit/{call.services.drafts.add(text, files).id}", 303)


def _gathered(text: str) -> dict[str, bytes]:
    """Return the files of a job's folder. Raises `BadInput`; a folder that is none is not walked through."""
    if not text or "\0" in text or len(text) > MAX_PATH:
        raise BadInput("this names no folder", fix="type the path of a job folder on this computer")
    try:
        folder = Path(text).expanduser()
    except RuntimeError as problem:
        raise BadInput(f"{text!r} is no path", why=str(problem)) from problem
    if not folder.is_absolute():
        raise BadInput(f"{text!r} is not a whole path", fix="begin it with / or ~")
    if not (folder / "job.yaml").is_file():
        raise BadInput(f"{folder} has no job.yaml", fix="`convoy job new NAME` writes a job folder that runs")
    return folders.gather_job(folder)


async def draft(call: Call) -> Response:
    """Show what is to be submitted: what the checks found, and the files with their digests."""
    found = call.services.drafts.get(call.path("draft"))
    checked = await asyncio.to_thread(_checked, call, found)
    listed, digest = await asyncio.to_thread(lambda: (list(found.listed()), found.digest()))
    return call.page(
        "submit/draft.html",
        draft=found,
        job=checked.job,
        problems=[_finding(problem, found.files) for problem in checked.problems[:MAX_FINDINGS]],
        more=max(len(checked.problems) - MAX_FINDINGS, 0),
        shadowed=checked.shadowed,
        listed=listed[:MAX_FILES],
        count=len(listed),
        size=sum(size for _, size, _ in listed),
        digest=digest,
    )


def _checked(call: Call, found: Draft) -> findings.Findings:
    """Return what the checks find, which know the sites as they were seen last."""
    sites = call.services.federation_state.seen.sites
    room = {site.name: (site.cpu, float(site.memory), site.gpu) for site in sites if site.connected}
    return findings.find(found.files, [site.name for site in sites] or None, room)


async def send(call: Call) -> Response:
    """Sign the files that the person has confirmed, and submit them."""
    kept, name = call.services.drafts, call.path("draft")
    found = kept.get(name)
    digest = await asyncio.to_thread(found.digest)
    if not hmac.compare_digest(call.form.get("digest", "").encode(), digest.encode()):
        raise BadInput("these are not the files that were confirmed", fix="look at the page again, and confirm it")
    if (await asyncio.to_thread(_checked, call, found)).problems:
        raise BadInput("the checks have found problems", fix=f"go back to /submit/{name}, which shows them")
    kept.take(name)  # before anything waits: a second click submits nothing
    packed = found.signed or await call.client.signed(found.files)
    try:
        sent = await call.client.send(packed)
    except ConvoyError:
        kept.restore(replace(found, signed=packed))  # signed anew it would be another job, and both might run
        raise
    return RedirectResponse(f"/jobs/{sent.id}", 303)


def _finding(problem: BadInput, files: Mapping[str, bytes]) -> Finding:
    """Return a problem with the lines of the file where it is."""
    what = problem.what.removeprefix(f"{problem.where}: ")
    place = _WHERE.fullmatch(problem.where)
    if place is None or place[1] not in files:
        return Finding(what, problem.why, problem.fix, problem.where, 0, [])
    line = int(place[2])
    return Finding(what, problem.why, problem.fix, place[1], line, list(_around(files[place[1]], line)))


def _around(data: bytes, line: int) -> Iterator[tuple[int, str]]:
    """Yield the lines around one, with their numbers."""
    every = data.decode(errors="replace").removesuffix("\n").split("\n")
    for number in range(max(line - AROUND, 1), min(line + AROUND, len(every)) + 1):
        yield number, every[number - 1].rstrip("\r")[:MAX_SHOWN]


ROUTES: Final = (
    Route("GET", "/submit", form),
    Route("POST", "/submit/upload", upload, reads="body"),
    Route("POST", "/submit/folder", read),
    Route("GET", "/submit/{draft}", draft),
    Route("POST", "/submit/{draft}", send),
)
