"""Fixtures: the real command, as a process, at a REST API over real TLS."""

import sys
from pathlib import Path

import pytest

sys.path[:0] = [str(Path(__file__).parent), str(Path(__file__).parent.parent / "admin")]

import rest_api as api  # noqa: E402 - after the path to it
from command_line import typed  # noqa: E402 - after the path to it


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
