"""The waiting: who says half of what it wants has to leave; who has said all of it stays."""

import asyncio
import ssl

import pytest

from convoy.admin import connections
from tests.admin import rest_api as api


@pytest.fixture
def strangers(rest):
    """Open connections to the API that end with the test."""
    opened = []
    context = ssl.create_default_context(cadata=rest.logins.membership.root_pem.decode())

    async def connect():
        reader, writer = await asyncio.open_connection("localhost", rest.port, ssl=context)
        opened.append(writer)
        return reader, writer

    yield connect
    for writer in opened:
        writer.transport.abort()


@pytest.fixture
def few(monkeypatch):
    """Five may wait, and nobody goes because of the time; it comes before the API that reads it."""
    monkeypatch.setattr(connections, "WAITING", 5)
    monkeypatch.setattr(connections, "REQUEST_S", 3600)


ASK = b"GET /api/v1/login HTTP/1.1\r\nHost: localhost\r\n"
UPLOAD = b"POST /api/v1/login HTTP/1.1\r\nHost: localhost\r\nContent-Length: 100\r\n\r\n{"


async def gone(reader):
    """Wait for the end of a connection."""
    try:
        return await reader.read() == b""
    except (ConnectionError, ssl.SSLError):
        return True


@pytest.mark.parametrize("said", [b"", ASK], ids=["nothing", "half"])
async def test_a_first_request_that_takes_too_long_ends_its_connection(said, strangers, monkeypatch):
    monkeypatch.setattr(connections, "REQUEST_S", 0.1)
    reader, writer = await strangers()
    writer.write(said)
    assert await gone(reader)


async def test_a_second_request_that_takes_too_long_ends_its_connection(strangers, monkeypatch):
    reader, writer = await strangers()
    writer.write(ASK + b"\r\n")
    assert b"nonce" in await reader.readuntil(b"}")
    monkeypatch.setattr(connections, "REQUEST_S", 0.1)
    writer.write(ASK)
    assert await gone(reader)


async def test_a_connection_that_rests_between_requests_stays(strangers, monkeypatch):
    monkeypatch.setattr(connections, "REQUEST_S", 0.1)
    reader, writer = await strangers()
    writer.write(ASK + b"\r\n")
    assert b"nonce" in await reader.readuntil(b"}")
    ended, _ = await asyncio.wait({asyncio.create_task(gone(reader))}, timeout=0.3)
    assert not ended


@pytest.mark.parametrize("said", [b"", ASK, UPLOAD], ids=["nothing", "half a head", "half a body"])
async def test_of_too_many_who_wait_the_oldest_goes_and_others_are_served(said, few, rest, strangers):
    oldest, writer = await strangers()
    writer.write(said)
    for _ in range(10):
        _, writer = await strangers()
        writer.write(said)
    async with rest.client() as convoy:
        assert (await convoy.status()).project == "clinics"
    async with asyncio.timeout(10):
        assert await gone(oldest)


async def test_a_handshake_that_takes_too_long_is_ended(rest, monkeypatch):
    monkeypatch.setattr(connections, "HANDSHAKE_S", 0.1)
    reader, writer = await asyncio.open_connection("127.0.0.1", rest.port)
    assert await gone(reader)
    writer.close()


async def test_who_is_being_answered_does_not_wait(few, rest, strangers, tmp_path):
    rest.fake.may_go.clear()
    async with rest.client() as convoy:
        job = await convoy.submit(api.job_folder(tmp_path))
        watching = aiter(convoy.watch(job.id))
        assert (await anext(watching)).job.id == job.id
        for _ in range(10):
            await strangers()
        rest.fake.may_go.set()
        assert [seen.job.state async for seen in watching][-1] == "completed"
