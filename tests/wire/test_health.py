"""The health port: it is open at once, and what answers there is loaded by the first client."""

import asyncio
import importlib
import socket
import subprocess
import sys

import pytest

from convoy.errors import BadInput
from convoy.wire import health

HOST = "127.0.0.1"


def free_port():
    with socket.socket() as sock:
        sock.bind((HOST, 0))
        return sock.getsockname()[1]


async def get(port, path):
    reader, writer = await asyncio.open_connection(HOST, port)
    writer.write(f"GET {path} HTTP/1.1\r\nHost: {HOST}\r\nConnection: close\r\n\r\n".encode())
    answer = await reader.read()
    writer.close()
    head, _, body = answer.decode().partition("\r\n\r\n")
    return int(head.split()[1]), body


@pytest.fixture
def vitals():
    return health.Vitals(ready=lambda: "no server yet", becomes_ready=asyncio.Event().wait, metrics=list)


async def test_many_clients_that_come_first_are_all_answered(vitals):
    port = free_port()
    async with health.serving(vitals, host=HOST, port=port):
        answers = await asyncio.gather(*(get(port, path) for path in ["/livez", "/readyz"] * 10))
    assert answers == [(200, "alive\n"), (503, "no server yet\n")] * 10


async def test_a_port_without_clients_is_closed_with_its_node(vitals):
    port = free_port()
    for turns in (0, 3):  # before the port is watched, and while it is
        async with health.serving(vitals, host=HOST, port=port):
            for _ in range(turns):
                await asyncio.sleep(0)
        with pytest.raises(ConnectionRefusedError):
            await get(port, "/livez")


async def test_a_client_that_leaves_with_the_node_holds_nothing_up(vitals):
    port = free_port()
    async with health.serving(vitals, host=HOST, port=port):
        _, writer = await asyncio.open_connection(HOST, port)
        writer.close()
    with pytest.raises(ConnectionRefusedError):
        await get(port, "/livez")


async def test_a_port_that_cannot_answer_ends_no_node_and_answers_when_it_can(vitals, monkeypatch, capsys):
    port, real, failures = free_port(), importlib.import_module, iter([ImportError("no uvicorn")])

    def failing(name):
        if problem := next(failures, None):
            raise problem
        return real(name)

    monkeypatch.setattr(health.importlib, "import_module", failing)
    async with health.serving(vitals, host=HOST, port=port):
        reader, writer = await asyncio.open_connection(HOST, port)
        assert await reader.read() == b""  # closed
        writer.close()
        assert await get(port, "/livez") == (200, "alive\n")
    assert "the health port cannot answer" in capsys.readouterr().out


async def test_a_port_that_was_used_is_free_for_the_next_node(vitals):
    port = free_port()
    for _ in range(2):
        async with health.serving(vitals, host=HOST, port=port):
            assert await get(port, "/livez") == (200, "alive\n")


async def test_a_port_that_is_taken_is_said_before_any_client_comes(vitals):
    with socket.socket() as other:
        other.bind((HOST, 0))
        other.listen()
        with pytest.raises(BadInput, match="cannot be opened"):
            async with health.serving(vitals, host=HOST, port=other.getsockname()[1]):
                pass


def test_what_speaks_http_is_not_loaded_with_the_port():
    code = "import sys; from convoy.wire import health; print('uvicorn' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout == "False\n"
