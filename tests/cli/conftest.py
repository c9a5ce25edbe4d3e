"""Fixtures: the real command, as a process, at a REST API over real TLS."""

import pytest

from tests.admin import rest_api as api
from tests.cli.command_line import typed


@pytest.fixture
async def rest(tmp_path):
    made = api.make(tmp_path)
    async with made.serving():
        yield made
        for task in made.fake.running.values():
            task.cancel()


@pytest.fixture
def convoy(rest, tmp_path):
    """Type a command as somebody with a kit."""

    async def run(*words, who="root@a.org", stdin=""):
        env = {"CONVOY_KIT": str(rest.prod / who), "CONVOY_SERVER": f"localhost:{rest.port}"}
        return await typed(*words, cwd=tmp_path, stdin=stdin, env=env)

    return run
