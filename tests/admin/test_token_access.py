"""The token of a process of the server: it reads jobs, their live metrics and results, and nothing else."""

import pytest

from convoy.admin import link, routes, token_access
from convoy.admin.token_access import TokenAccess
from convoy.control import rights
from convoy.errors import NotAllowed
from convoy.server.tracking import READER
from tests.admin import rest_api as api
from tests.admin.memory_coordinator import made_round
from tests.admin.test_rights_at_routes import named, outcome

READS = {"view", "logs", "download"}


@pytest.fixture
async def job(rest, tmp_path):
    rest.fake.may_go.clear()
    async with rest.client("lead@a.org") as convoy:
        made = (await convoy.submit(api.job_folder(tmp_path))).id
    rest.fake.kept[made].rounds.append(made_round(1, ["site-1"], {}))
    return made


@pytest.mark.parametrize("route", [it for it in routes.ROUTES if it.needs != "public"], ids=named)
async def test_it_opens_what_only_reads_jobs(rest, job, route):
    line = link.Link("127.0.0.1", rest.port, rest.logins.membership.root_pem)
    token = rest.logins.lend(READER)
    if route.path.endswith(("/watch", "/logs", "/points")):
        rest.fake.may_go.set()
    said = await outcome(line, route, token, job=job, site="site-1", admin="root@a.org")
    await line.close()
    if route.needs in READS:
        assert said in ("ok", "NotFound")
    else:
        assert said == "NotAllowed"
        assert rest.fake.noted[-1][0] == "server:tracker"


async def test_a_client_reads_with_it_on_the_loopback_address_and_never_logs_in(rest, job):
    root_pem = rest.logins.membership.root_pem.decode()
    there = TokenAccess("clinics", "::", rest.port, root_pem, rest.logins.lend(READER))
    async with token_access.connect(there) as client:
        assert (await client.job(job)).job.name == "tumours"
        assert [one.id for one in await client.jobs()] == [job]
    async with token_access.connect(TokenAccess("clinics", "127.0.0.1", rest.port, root_pem, "wrong")) as client:
        with pytest.raises(NotAllowed, match="takes this process's token no more"):
            await client.job(job)


def test_nobody_can_have_such_a_role():
    assert not set(rights.SERVICES) & set(rights.ROLES)
    assert rights.SERVICES["tracker"].keys() == READS
    assert not rights.may_operate("tracker")
