"""Strangers who connect and say nothing, or say it without end, keep nobody out: neither sites nor people."""

import socket
import ssl
from contextlib import ExitStack

import pytest

from convoy.admin import connections
from convoy.wire import door
from tests.federation import Federation

pytestmark = pytest.mark.scenario
MANY = 600
assert max(door.HANDSHAKES, connections.WAITING) < MANY
HALF = {
    "nothing": b"",
    "half a head": b"GET /api/v1/login HTTP/1.1\r\nHost: localhost\r\nX-Slow: ",
    "half a body": b"POST /api/v1/login HTTP/1.1\r\nHost: localhost\r\nContent-Length: 60000\r\n\r\n{",
}


@pytest.fixture(scope="module")
def one(tmp_path_factory):
    made = Federation(tmp_path_factory.mktemp("doors") / "fed", sites=1)
    yield made.up()
    made.down()


def ports(made):
    text = (made.prod / "server/startup/convoy.yaml").read_text()
    fed = int(next(line for line in text.splitlines() if "fed_port" in line).rpartition(" ")[2])
    return fed, made.admin_port


@pytest.fixture
def strangers():
    """Connections that stay open until the test is over."""
    with ExitStack() as stack:

        def connect(port):
            return stack.enter_context(socket.create_connection(("127.0.0.1", port)))

        yield connect, stack


def test_half_open_handshakes_keep_no_site_and_no_person_out(one, strangers):
    connect, _ = strangers
    for port in ports(one):
        first = connect(port)
        for _ in range(MANY):
            connect(port)
        first.settimeout(5)
        assert first.recv(1) == b""  # the oldest went
    site = one.nodes["site-1"]
    site.stop()
    site.start()
    with one.session(patience_s=5) as session:
        assert [known.connected for known in session.sites()] == [True]


@pytest.mark.parametrize("said", HALF.values(), ids=HALF.keys())
def test_requests_that_never_end_keep_no_person_out(said, one, strangers):
    connect, stack = strangers
    context = ssl.create_default_context(cafile=str(one.prod / "server/startup/root.crt"))
    for _ in range(MANY):
        stranger = stack.enter_context(context.wrap_socket(connect(one.admin_port), server_hostname="localhost"))
        stranger.sendall(said)
    with one.session(patience_s=5) as session:
        assert session.status().project == "bench"


@pytest.mark.parametrize(
    "head",
    [
        b"GET /" + b"x" * 20_000 + b" HTTP/1.1\r\n\r\n",
        b"GET / HTTP/1.1\r\n" + b"".join(b"H%d: x\r\n" % n for n in range(3000)) + b"\r\n",
        b"GET / HTTP/1.1\r\nHost: " + b"x" * 20_000,
    ],
    ids=["path", "count", "size"],
)
def test_a_head_that_is_too_large_is_refused(head, one, strangers):
    connect, stack = strangers
    context = ssl.create_default_context(cafile=str(one.prod / "server/startup/root.crt"))
    stranger = stack.enter_context(context.wrap_socket(connect(one.admin_port), server_hostname="localhost"))
    stranger.settimeout(5)
    stranger.sendall(head)
    assert stranger.recv(1 << 16).startswith(b"HTTP/1.1 400 ")
