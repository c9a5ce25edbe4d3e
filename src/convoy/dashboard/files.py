"""The files of a job's bundle: the list, the text of one, and the same files submitted again under one's own name."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from typing import Final

from starlette.responses import RedirectResponse, Response

from convoy.dashboard import tabs
from convoy.dashboard.route import Call, Route
from convoy.errors import NotFound

PAGE: Final = 200  # files on a page
MAX_PAGE: Final = 1000  # the highest number of a page that may be asked for
MAX_BYTES: Final = 512 << 10  # of a file whose text is shown
MAX_LINES: Final = 10_000  # of it
MAX_NAME: Final = 1000  # characters of a file's name


@dataclass(frozen=True, slots=True)
class Text:
    """A file as a page shows it: its lines, or why there are none; `cut`: there is more of it."""

    lines: list[str]
    problem: str = ""
    cut: bool = False


def text_of(data: bytes) -> Text:
    """Return the text of a file, within limits; what is no UTF-8 text is named as such."""
    part = data[:MAX_BYTES]
    if b"\0" in part:
        return Text([], "It is a binary file.")
    try:
        text = part.decode()
    except UnicodeDecodeError as problem:
        if len(data) == len(part) or problem.start < len(part) - 3:  # else a character was cut in two
            return Text([], "It is not text in UTF-8.")
        text = part[: problem.start].decode()
    lines = text.replace("\r\n", "\n").removesuffix("\n").split("\n")
    return Text(lines[:MAX_LINES], cut=len(data) > len(part) or len(lines) > MAX_LINES)


async def files(call: Call) -> Response:
    """Show the list of the files."""
    return await _listed(call, "job/files.html")


async def ask(call: Call) -> Response:
    """Show the files that a person is about to submit again, and ask whether they want to."""
    return await _listed(call, "job/clone.html")


async def _listed(call: Call, template: str) -> Response:
    detail = await call.client.job(tabs.job_id(call), brief=True)
    bundle = await call.services.bundles.of(call.client, detail.job.id)
    names = sorted(bundle.files)
    pages = max(1, -(-len(names) // PAGE))
    page = min(call.number("page", 1, MAX_PAGE), pages)
    shown = [
        (name, len(bundle.files[name]), hashlib.sha256(bundle.files[name]).hexdigest())
        for name in names[(page - 1) * PAGE : page * PAGE]
    ]
    return await tabs.page(call, template, detail, files=shown, count=len(names), bundle=bundle, page=page, pages=pages)


async def read(call: Call) -> Response:
    """Show the text of one file."""
    detail = await call.client.job(tabs.job_id(call), brief=True)
    bundle = await call.services.bundles.of(call.client, detail.job.id)
    name = call.request.query_params.get("name", "")[:MAX_NAME]
    if name not in bundle.files:
        raise NotFound(f"the job has no file {name[:100]!r}", fix="choose one in the list of its files")
    data = bundle.files[name]
    text = text_of(bytes(data[: MAX_BYTES + 1]))
    return await tabs.page(call, "job/file.html", detail, name=name, size=len(data), text=text)


async def clone(call: Call) -> Response:
    """Submit the files again, signed by this person, and show the new job."""
    job = tabs.job_id(call)
    sent = await call.client.submit_files((await call.services.bundles.of(call.client, job)).files)
    await call.services.federation_state.look()
    return RedirectResponse(f"/jobs/{sent.id}?done=clone", 303)


ROUTES: Final = (
    Route("GET", "/jobs/{job}/files", files),
    Route("GET", "/jobs/{job}/files/read", read),
    Route("GET", "/jobs/{job}/clone", ask),
    Route("POST", "/jobs/{job}/clone", clone),
)
