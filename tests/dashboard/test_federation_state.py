"""When the dashboard looks at its server: when that tells of a change, once, and not more than once a second."""

import asyncio
import itertools
import re
import time
from contextlib import aclosing

from convoy.admin.changes import ChangeView
from convoy.admin.client import Client
from convoy.dashboard import federation_state
from convoy.dashboard.federation_state import FederationState
from convoy.dashboard.merging import paced
from convoy.errors import Refused
from tests import virtual
from tests.dashboard.conftest import logged_in, stream


def looks(items_at, *, until_s, look_s):
    """Return when somebody looks who is told at these times, and what was told last by then."""

    async def main():
        found, clock = [], asyncio.get_running_loop()

        async def told():
            for number, at in enumerate(items_at):
                await virtual.until(at)
                yield number
            await virtual.until(until_s)

        async with aclosing(paced(told(), federation_state.PAUSE_S)) as items:
            async for number in items:
                found.append((clock.time(), number))
                await asyncio.sleep(look_s)
        return found

    return virtual.run(main())


def test_a_flood_of_changes_is_at_most_one_look_a_second_and_the_last_change_is_seen():
    found = looks([at / 1000 for at in range(10_000)], until_s=20, look_s=0.2)
    assert all(after[0] - before[0] >= federation_state.PAUSE_S for before, after in itertools.pairwise(found))
    assert len(found) <= 11
    assert found[-1][1] == 9_999


def test_changes_during_a_look_are_one_more_look():
    assert [number for _, number in looks([0, 1, 2, 3], until_s=60, look_s=10)] == [0, 3]


def test_without_a_change_nobody_looks():
    assert looks([0, 500], until_s=1000, look_s=0.2) == [(0, 0), (500, 1)]


async def test_never_two_looks_at_once(rest, monkeypatch):
    monkeypatch.setattr(federation_state, "PAUSE_S", 0.0)
    inside, most, me = 0, 0, Client.me

    async def counted(client):
        nonlocal inside, most
        inside += 1
        most = max(most, inside)
        try:
            return await me(client)
        finally:
            inside -= 1

    monkeypatch.setattr(Client, "me", counted)
    async with rest.client() as client, logged_in(client) as shown:
        for _ in range(5):
            rest.fake.tell()
            await asyncio.gather(shown.post("/sites/site-1/disable"), shown.post("/sites/site-1/enable"))
    assert most == 1


async def test_a_change_reaches_a_page_without_being_asked_for(rest):
    async with rest.client() as client, logged_in(client) as shown, aclosing(stream(shown, "/sites/live")) as coming:
        async for name, data in coming:
            if name == "rows" and "disabled" in data:
                break
            if name == "pulse" and not rest.fake.disabled:
                async with rest.client("boss@b.org") as other:
                    await other.enable("site-2", enabled=False)


async def test_a_stream_that_breaks_is_said_and_opened_again(rest):
    broken, whole, opened = asyncio.Event(), rest.fake.changes, []

    async def breaking():
        opened.append(len(opened))
        if len(opened) > 1:
            async with aclosing(whole()) as items:
                async for item in items:
                    yield item
        yield ChangeView(number=1, at=time.time())
        await broken.wait()

    rest.fake.changes = breaking
    said = []
    async with rest.client() as client, logged_in(client) as shown, aclosing(stream(shown, "/sites/live")) as coming:
        async for name, data in coming:
            broken.set()
            if name == "banner":
                said.append("ended the stream early" in data)
            if said[-2:] == [True, False]:
                break
    assert said == [False, True, False]
    assert len(opened) >= 2


async def test_strips_are_those_of_the_server_from_the_first_moment_on_the_clock_of_this_machine(rest):
    now, fake = time.time(), rest.fake
    fake.started_at = now - 1800
    fake.known.changes.clear()
    for ago, how in ((1800, "away"), (1200, "connected"), (600, "away"), (300, "connected")):
        fake.known.note("site-1", now - ago, how)
    told, skew = fake.presence, 7200.0  # the server's clock is ahead

    def skewed():
        said = told().model_dump()
        said = said | {"now": said["now"] + skew, "since": said["since"] + skew}
        for site in said["sites"]:
            site["at"] = [at + skew for at in site["at"]]
        return type(told()).model_validate(said)

    fake.presence = skewed
    async with rest.client() as client, logged_in(client) as shown:
        page = (await shown.get("/sites/site-1")).text
        overview = (await shown.get("/")).text
    found = re.findall(r'<rect class="(\w+)" x="([\d.]+)"', page)
    assert [how for how, _ in found] == ["unknown", "away", "connected", "away", "connected"]
    wanted = [0, 500, 1000 - 1000 / 3, 1000 - 1000 / 6, 1000 - 1000 / 12]
    assert all(abs(float(at) - want) < 10 for (_, at), want in zip(found, wanted, strict=True))
    for text in (page, overview):
        assert "The server started at" in text


async def test_a_gap_is_filled_by_what_the_server_saw_meanwhile(rest):
    async with rest.client() as client:
        seen = FederationState(client)
        await seen.look()
        port, client.link.port, client._bearer = client.link.port, 9, ""
        await seen.look()
        assert seen.seen.fault
        assert seen.hour.strip("site-1", time.time())[-1].standing == "unknown"
        rest.fake.known.note("site-1", time.time(), "away")
        rest.fake.known.note("site-1", time.time(), "connected")
        client.link.port = port
        await client.link.close()
        await seen.look()
        assert not seen.seen.fault
        hows = [it.standing for it in seen.hour.strip("site-1", time.time())]
    assert hows == ["unknown", "connected", "away", "connected"]


async def test_a_look_that_fails_is_repeated_though_nothing_has_changed(rest):
    status, asked = rest.fake.status, []

    def sometimes():
        asked.append(len(asked))
        if len(asked) == 3:
            raise Refused("the server is busy")
        return status()

    rest.fake.status = sometimes
    said = []
    async with rest.client() as client, logged_in(client) as shown, aclosing(stream(shown, "/sites/live")) as coming:
        async for name, data in coming:
            if name == "pulse" and len(asked) < 3:
                rest.fake.tell()
            if name == "banner":
                said.append("the server is busy" in data)
            if said[-2:] == [True, False]:
                break
    assert said == [False, True, False]
