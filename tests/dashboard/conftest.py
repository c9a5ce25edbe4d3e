"""Fixtures: a dashboard that serves, over a REST API or a federation that runs, and a person's browser."""

import os
import re
import shutil
import subprocess
import sys
from contextlib import asynccontextmanager, contextmanager
from dataclasses import dataclass
from pathlib import Path

import httpx
import pytest

from convoy.dashboard import serve
from convoy.dashboard.guard import Session
from tests.admin import conftest as admin
from tests.dashboard.chromium import Chromium
from tests.federation import ADMIN, Federation
from tests.scenarios.conftest import GATES, Gate

prod, rest = admin.prod, admin.rest  # fixtures
PICTURES = os.environ.get("CONVOY_PICTURES")  # a folder that keeps the pictures, for whoever wants to look at them


@dataclass
class Shown:
    """A dashboard that serves, and an HTTP client that has logged in by its address."""

    session: Session
    http: httpx.AsyncClient

    @property
    def origin(self):
        return f"http://127.0.0.1:{self.session.port}"

    async def get(self, path, **headers):
        return await self.http.get(path, headers=headers)

    async def post(self, path, form=None, **headers):
        given = {"origin": self.origin, "sec-fetch-site": "same-origin"} | headers
        return await self.http.post(path, data={"csrf": self.session.csrf} | (form or {}), headers=given)


@asynccontextmanager
async def logged_in(client):
    async with (
        serve.serving(client) as session,
        httpx.AsyncClient(base_url=f"http://127.0.0.1:{session.port}", trust_env=False) as http,
    ):
        answer = await http.get(session.url)
        assert answer.status_code == 303, answer.text
        yield Shown(session, http)


async def stream(shown, path):
    """Yield the events of a stream, each with its name and its data, until whoever reads has enough."""
    async with shown.http.stream("GET", path, timeout=60) as answer:
        assert answer.headers["content-type"].startswith("text/event-stream")
        name, data = "", []
        async for line in answer.aiter_lines():
            if line.startswith("event: "):
                name = line.removeprefix("event: ")
            elif line.startswith("data: "):
                data.append(line.removeprefix("data: "))
            else:
                yield name, "\n".join(data)
                data = []


@pytest.fixture
async def shown(rest):
    """The dashboard of a project_admin."""
    async with rest.client() as client, logged_in(client) as made:
        yield made


@pytest.fixture(scope="session")
def chromium(tmp_path_factory):
    found = shutil.which("chromium")
    if found is None:
        if os.environ.get("CI"):
            pytest.fail("CI must have Debian's chromium: `make test` installs it")
        pytest.skip("there is no chromium here; `make test` as root on Debian installs it")
    with Chromium.started(found, tmp_path_factory.mktemp("chromium")) as made:
        yield made


@contextmanager
def gated(folder):
    """A federation of two sites with gates."""
    made = Federation(folder / "fed", sites=2, settings=GATES)
    made.gates = [Gate(node.kit / "local") for node in made.nodes.values()]
    made.up()
    yield made
    made.down()


@contextmanager
def dashboard(fed, who=ADMIN):
    """Run `convoy dashboard` as a person does; give its process and the address that it prints."""
    command = [sys.executable, "-m", "convoy.cli.main", "dashboard", "--no-open", "--kit", str(fed.prod / who)]
    command += ["--server", f"localhost:{fed.admin_port}"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as process:
        try:
            yield process, process.stdout.readline().strip()
        finally:
            process.kill()


@contextmanager
def logged_in_tab(chromium, process, url):
    """A tab that has logged in by the printed address, and its origin; nothing in it complains."""
    assert re.fullmatch(r"http://127\.0\.0\.1:\d+/\?token=[\w-]{43}", url)
    with chromium.page() as made:
        made.process, made.origin = process, url.split("/?")[0]
        made.look()
        made.open(url)
        yield made
        assert made.complaints() == []


@pytest.fixture
def page(fed, chromium):
    """A tab of the admin of the federation that the test's file has up."""
    with dashboard(fed) as (process, url), logged_in_tab(chromium, process, url) as made:
        yield made


def photograph(page, folder, name):
    data = page.photograph((Path(PICTURES) if PICTURES else folder) / f"{name}.png")
    assert len(data) > 10_000  # a blank page has some 5 kB
