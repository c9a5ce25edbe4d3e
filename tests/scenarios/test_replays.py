"""What was said once and is heard again: a bundle counts once, and for nobody but who signed it."""

import pytest

from convoy.admin import connect
from convoy.errors import Refused
from tests.federation import ADMIN, Federation
from tests.scenarios.conftest import adding, put_job

pytestmark = pytest.mark.scenario
EVE = "eve@example.org"


@pytest.fixture(scope="module")
def one(tmp_path_factory):
    made = Federation(tmp_path_factory.mktemp("replays") / "fed", sites=1, people={EVE: ("org", "lead")})
    yield made.up()
    made.down()


async def ended(convoy, job):
    return [seen.job.state async for seen in convoy.watch(job)][-1]


async def test_a_bundle_that_is_heard_again_is_the_same_job_and_nobody_elses(one, tmp_path):
    async with connect(one.prod / ADMIN, server="localhost") as ada, connect(one.prod / EVE, server="localhost") as eve:
        data = await ada.pack(put_job(tmp_path / "job", {"train.py": adding()}, with_={"rounds": 1}))
        with pytest.raises(Refused, match="signed by somebody else"):
            await eve.send(data)
        first = await ada.send(data)
        assert await ended(ada, first.id) == "completed"
        done = await ada.job(first.id)
        assert (await ada.send(data)).id == first.id
        assert await ada.job(first.id) == done
        with pytest.raises(Refused, match="signed by somebody else"):
            await eve.send(data)
        assert [job.id for job in await ada.jobs()] == [first.id]
