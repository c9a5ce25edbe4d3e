"""Fixtures: a REST API that runs."""

import pytest

from tests.admin import rest_api as api


@pytest.fixture(scope="session")
def prod(tmp_path_factory):
    """Kits, made once; nothing writes into them."""
    return api.provisioned(tmp_path_factory.mktemp("provisioned"))


@pytest.fixture
async def rest(tmp_path, prod):
    made = api.make(tmp_path, prod)
    async with made.serving():
        yield made
        for task in made.fake.running.values():
            task.cancel()
