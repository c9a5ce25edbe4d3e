"""Fixtures: a dashboard that serves, over a REST API that runs, and a person's browser without a screen."""

import os
import shutil
from contextlib import asynccontextmanager
from dataclasses import dataclass

import httpx
import pytest

from convoy.dashboard import serve
from convoy.dashboard.guard import Session
from tests.admin import rest_api as api
from tests.dashboard.chromium import Chromium


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
async def logged_in(client, interval_s=0.1):
    async with (
        serve.serving(client, interval_s=interval_s) as session,
        httpx.AsyncClient(base_url=f"http://127.0.0.1:{session.port}", trust_env=False) as http,
    ):
        answer = await http.get(session.url)
        assert answer.status_code == 303, answer.text
        yield Shown(session, http)


@pytest.fixture(scope="session")
def prod(tmp_path_factory):
    return api.provisioned(tmp_path_factory.mktemp("provisioned"))


@pytest.fixture
async def rest(tmp_path, prod):
    made = api.make(tmp_path, prod)
    async with made.serving():
        yield made
        for task in made.fake.running.values():
            task.cancel()


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
