"""Places at the REST API: one person keeps nobody else out, and operators get in whatever others do."""

import asyncio
import json
import ssl
import time
from contextlib import AsyncExitStack, aclosing

import pytest

from convoy.admin import admission, link, reading
from convoy.admin.slots import Slots
from convoy.errors import Refused, Unreachable
from tests.admin import rest_api as api

MEMBER, LEAD = "look@a.org", "lead@a.org"


def test_one_holder_has_its_places_and_the_last_ones_are_for_operators():
    places = Slots("requests", total=4, each=2, reserve=1)
    with places.taken("a", operator=False), places.taken("a", operator=False):
        with pytest.raises(Refused, match="a has too many requests open"), places.taken("a", operator=False):
            pass
        with places.taken("b", operator=False):
            with pytest.raises(Unreachable, match="accepts no more"), places.taken("c", operator=False):
                pass
            with places.taken("c", operator=True):
                pass
    with places.taken("a", operator=False):
        pass


async def test_who_waits_for_a_place_gets_it_in_time_and_a_second_upload_of_one_person_waits_for_the_first():
    places = Slots("uploads", total=3, each=1, reserve=1)
    order, free = [], {name: asyncio.Event() for name in ("a1", "a2", "b1")}

    async def upload(name):
        async with places.queued(name[0], operator=False):
            order.append(name)
            await free[name].wait()

    tasks = [asyncio.create_task(upload(name)) for name in free]
    await asyncio.sleep(0)
    assert order == ["a1", "b1"]
    free["a1"].set()
    await tasks[0]
    await asyncio.sleep(0)
    assert order == ["a1", "b1", "a2"]
    for event in free.values():
        event.set()
    await asyncio.gather(*tasks)


async def test_a_member_who_opens_more_and_more_watches_shuts_nobody_out(rest, tmp_path):
    rest.fake.may_go.clear()
    async with rest.client(LEAD) as lead, AsyncExitStack() as stack:
        job = (await lead.submit(api.job_folder(tmp_path))).id
        headers = {"authorization": f"Bearer {rest.bearer(MEMBER)}"}

        async def watch():
            line = link.Link("localhost", rest.port, rest.logins.membership.root_pem)
            stack.push_async_callback(line.close)
            await stack.enter_async_context(line.open("GET", f"/api/v1/jobs/{job}/watch", headers=headers))

        for _ in range(admission.MAX_OF_ONE):
            await watch()
        for _ in range(50):
            with pytest.raises(Refused, match=r"look@a\.org has too many requests open"):
                await watch()
        assert (await lead.job(job)).job.id == job
        async with rest.client("boss@a.org") as boss:
            await boss.revoke("site-1")
        assert rest.fake.revoked == ["site-1"]
        rest.fake.may_go.set()


async def test_two_hundred_silent_streams_of_one_person_are_cut_and_others_hear_of_changes(rest):
    headers = {"authorization": f"Bearer {rest.bearer(MEMBER)}"}
    links = [link.Link("localhost", rest.port, rest.logins.membership.root_pem) for _ in range(4)]
    opened, refused = [], []
    async with AsyncExitStack() as stack:
        for line in links:
            stack.push_async_callback(line.close)
        for number in range(200):
            asked = links[number % 4].open("GET", "/api/v1/changes", headers=headers)
            try:
                opened.append(link.lines(await stack.enter_async_context(asked)))
            except Refused as problem:
                refused.append(problem.what)
        assert (len(opened), len(refused)) == (admission.MAX_OF_ONE, 200 - admission.MAX_OF_ONE)
        assert set(refused) == {"look@a.org has too many requests open"}
        async with rest.client() as other, aclosing(other.changes()) as items:
            first = await anext(items)
            await other.enable("site-2", enabled=False)
            assert (await anext(items)).number > first.number
        for lines in opened:
            assert json.loads(await anext(lines))["number"] == 0
    assert len(rest.fake.hearers) <= admission.MAX_OF_ONE


@pytest.fixture
def raw(rest):
    """Open connections on which a request is said by hand."""
    opened, context = [], ssl.create_default_context(cadata=rest.logins.membership.root_pem.decode())

    async def connect(method, path, who, length):
        reader, writer = await asyncio.open_connection("localhost", rest.port, ssl=context)
        opened.append(writer)
        head = f"{method} /api/v1{path} HTTP/1.1\r\nHost: localhost\r\nContent-Length: {length}\r\n"
        writer.write(f"{head}Authorization: Bearer {rest.bearer(who)}\r\n\r\n".encode())
        return reader, writer

    yield connect
    for writer in opened:
        writer.transport.abort()


async def answered(reader):
    """Return status and body of an answer."""
    head = (await reader.readuntil(b"\r\n\r\n")).decode()
    length = int(next(line for line in head.lower().splitlines() if line.startswith("content-length")).split(":")[1])
    return int(head.split()[1]), json.loads(await reader.readexactly(length))


async def test_two_trickled_uploads_of_one_person_keep_nobody_from_submitting(rest, raw, tmp_path):
    for _ in range(2):
        _, writer = await raw("POST", "/jobs", LEAD, 1 << 20)
        writer.write(b"C")
    async with rest.client("lead@b.org") as other:
        await other.submit(api.job_folder(tmp_path))


BODIES = ("/renew", "/invites", "/federation", "/jobs", "/authority")


@pytest.mark.parametrize("path", BODIES)
async def test_a_request_that_trickles_is_cut(path, rest, raw, monkeypatch):
    monkeypatch.setattr(reading, "BODY_S", 0.2)
    reader, writer = await raw("POST", path, "root@a.org", 10_000)
    writer.write(b"{")
    status, said = await answered(reader)
    assert (status, said["what"]) == (400, "the request took too long")


@pytest.mark.parametrize("path", BODIES)
@pytest.mark.parametrize("loss", ["revoked", "removed"])
async def test_a_request_that_is_held_open_does_nothing_once_its_sender_may_do_nothing(path, loss, rest, raw):
    reader, writer = await raw("POST", path, "root@a.org", 2)
    writer.write(b"{")
    await writer.drain()
    while not is_answering():  # noqa: ASYNC110 - nothing but the server's own task knows
        await asyncio.sleep(0)
    if loss == "revoked":
        rest.logins.membership.revoke("root@a.org", time.time())
    else:
        people = {name: who for name, who in rest.logins.membership.now.participants.items() if name != "root@a.org"}
        rest.logins.membership.take(
            type(rest.logins.membership.now)("clinics", 2, people), rest.logins.membership.root_pem
        )
    writer.write(b"}")
    status, said = await answered(reader)
    assert (status, said["kind"]) == (403, "NotAllowed")


def is_answering():
    """Return whether the server has begun with a request."""
    return any("run_asgi" in [frame.f_code.co_name for frame in task.get_stack()] for task in asyncio.all_tasks())
