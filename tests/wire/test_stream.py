"""Streams, the door and the way to it: real TLS on loopback."""

import asyncio
import errno
import socket
import ssl
from dataclasses import replace

import pytest

from convoy.errors import NotAllowed, RemoteFault, Unreachable
from convoy.wire import convoy_pb2 as pb
from convoy.wire import door as doors
from convoy.wire import stream as streams
from convoy.wire import tls
from convoy.wire.budget import Budget, Rate
from convoy.wire.frames import LENGTH, MAX_FRAME
from convoy.wire.proxy import proxy_for
from convoy.wire.stream import hear, speak

ROOMY = Budget(Rate(1e6, 1e9, 1))


async def echo(stream):
    """Say back what is heard."""
    while (up := await stream.read(pb.Up)) is not None:
        await stream.write(up)


async def test_messages_of_every_size_come_back_as_they_went(door):
    async with door(echo) as way:
        stream = await way.dial()
        for size in (0, 1, 16_384, 100_000, 3_000_000):
            sent = pb.Up(log=pb.Log(job="j", offset=size, data=bytes(size)))
            _, heard = await asyncio.gather(stream.write(sent, sent), stream.read(pb.Up))
            assert heard == sent == await stream.read(pb.Up)
        stream.close()


async def test_all_bytes_that_have_come_are_taken_at_once_and_then_the_end_is_a_loss(door):
    sent = asyncio.Event()

    async def send(stream):
        await stream.give(memoryview(bytes(60_000)))
        sent.set()

    async with door(send) as way:
        stream, taken = await way.dial(), memoryview(bytearray(100_000))
        await sent.wait()
        assert await stream.take(taken) == 60_000  # TLS has them in four records
        with pytest.raises(Unreachable, match="in the middle of a transfer"):
            await stream.take(taken)
        stream.close()


async def test_an_end_between_two_messages_is_an_end_and_one_within_a_message_is_a_loss(door):
    async def leave(stream):
        await stream.write(pb.Down(ping=pb.Ping()))

    async def break_off(stream):
        await stream._do(lambda: stream.sock.send(LENGTH.pack(100) + b"half"))

    async with door(leave) as way:
        stream = await way.dial()
        assert (await stream.read(pb.Down)).WhichOneof("it") == "ping"
        assert await stream.read(pb.Down) is None
        stream.close()
    async with door(break_off) as way:
        stream = await way.dial()
        with pytest.raises(Unreachable, match="in the middle of a message"):
            await stream.read(pb.Down)
        stream.close()


async def test_a_frame_over_the_limit_is_refused_before_its_bytes_come(door):
    async def announce(stream):
        await stream._do(lambda: stream.sock.send(LENGTH.pack(MAX_FRAME + 1)))
        await stream.read(pb.Up)

    async with door(announce) as way:
        stream = await way.dial()
        with pytest.raises(RemoteFault, match="announced"):
            await stream.read(pb.Down)
        stream.close()


async def test_who_is_silent_for_too_long_is_gone_and_who_only_pings_is_not(door, monkeypatch):
    monkeypatch.setattr(streams, "SILENCE_S", 0.5)
    monkeypatch.setattr(streams, "PING_S", 0.05)
    words = asyncio.Queue()

    async def ping(stream):
        await speak(stream, words, pb.Down(ping=pb.Ping()))

    async def nothing(stream):
        await stream.read(pb.Up)

    async with door(ping) as way:
        stream = await way.dial()
        for _ in range(20):
            assert (await hear(stream, pb.Down, ROOMY)).WhichOneof("it") == "ping"
        words.put_nowait(pb.Down(receipt=pb.Receipt(job="j")))
        words.put_nowait(None)
        while (down := await hear(stream, pb.Down, ROOMY)).WhichOneof("it") == "ping":
            pass
        assert down.receipt.job == "j"
        assert await hear(stream, pb.Down, ROOMY) is None
        stream.close()
    async with door(nothing) as way:
        stream = await way.dial()
        with pytest.raises(Unreachable, match="is gone"):
            await hear(stream, pb.Down, ROOMY)
        stream.close()


async def test_who_spoke_while_this_process_stood_still_is_not_gone(door, monkeypatch):
    loop, stood_still, heard = asyncio.get_running_loop(), [0.0], asyncio.Event()
    time = loop.time
    monkeypatch.setattr(loop, "time", lambda: time() + sum(stood_still))

    async def ping(stream):
        await stream.read(pb.Up)
        await stream.write(pb.Down(ping=pb.Ping()))
        stood_still.append(100.0)
        await heard.wait()

    async with door(ping) as way:
        stream = await way.dial()
        await stream.write(pb.Up())
        assert (await hear(stream, pb.Down, ROOMY)).HasField("ping")
        heard.set()
        stream.close()


async def test_a_stream_that_is_cut_is_lost_to_whoever_reads_it(door):
    async with door(echo) as way:
        stream = await way.dial()
        reading = asyncio.create_task(stream.read(pb.Down))
        await stream.write(pb.Up())
        assert await reading == pb.Down()
        reading = asyncio.create_task(stream.read(pb.Down))
        await asyncio.wait({reading}, timeout=0.01)
        stream.cut()
        assert await reading is None
        stream.close()


# ---- who gets in ----------------------------------------------------------------------------------------------
@pytest.mark.parametrize("who", ["stranger", "expired"])
async def test_a_certificate_that_the_root_does_not_know_or_that_is_over_never_gets_in(who, door):
    served = []

    async def serve(stream):
        served.append(stream)

    async with door(serve, site=who) as way:
        with pytest.raises(Unreachable, match=r"certificate|unknown ca"):  # noqa: PT012 - TLS 1.3 tells it late
            stream = await way.dial()
            try:
                await stream.read(pb.Down)
            finally:
                stream.close()
    assert not served


async def test_a_client_without_a_certificate_or_with_tls_below_1_3_never_gets_in(door, identities):
    async def serve(stream):
        raise AssertionError("it got in")

    async with door(serve) as way:
        bare = ssl.create_default_context(cafile=str(identities["site"].root_file))
        old = tls.site_context(identities["site"])
        old.minimum_version = old.maximum_version = ssl.TLSVersion.TLSv1_2
        with pytest.raises(ssl.SSLError, match=r"(?i)version"):
            await asyncio.open_connection("127.0.0.1", way.port, ssl=old)
        reader, writer = await asyncio.open_connection("127.0.0.1", way.port, ssl=bare)
        with pytest.raises(ssl.SSLError, match=r"(?i)certificate.required"):
            await reader.read()
        writer.close()


async def test_only_a_sites_certificate_names_a_site(door):
    names = asyncio.Queue()

    async def serve(stream):
        try:
            names.put_nowait(tls.peer_of(stream.sock, "ours").name)
        except NotAllowed as problem:
            names.put_nowait(str(problem))

    for who, name in (("site", "site-1"), ("admin", "spiffe://ours/admin/ada@example.org")):
        async with door(serve, site=who) as way:
            stream = await way.dial()
            assert name in await names.get()
            stream.close()


async def test_a_servers_certificate_does_not_open_the_door(door):
    async def serve(stream):
        raise AssertionError("it got in")

    async with door(serve, site="server") as way:
        with pytest.raises(Unreachable, match=r"unsupported certificate|bad certificate"):  # noqa: PT012 - told late
            stream = await way.dial()
            try:
                await stream.read(pb.Down)
            finally:
                stream.close()


async def test_a_server_that_the_root_does_not_know_is_not_spoken_to(door):
    async with door(echo, server="impostor") as way:
        with pytest.raises(NotAllowed, match="does not belong to this project"):
            await way.dial()


async def test_when_too_many_shake_hands_the_oldest_goes_and_sites_get_in(door, monkeypatch):
    monkeypatch.setattr(doors, "HANDSHAKES", 5)
    async with door(echo) as way:
        loiterers = [socket.create_connection(("127.0.0.1", way.port)) for _ in range(20)]
        stream = await way.dial()
        await stream.write(pb.Up())
        assert await stream.read(pb.Up) == pb.Up()
        stream.close()
        loiterers[0].setblocking(False)
        assert await asyncio.get_running_loop().sock_recv(loiterers[0], 1) == b""
        for loiterer in loiterers:
            loiterer.close()


async def test_a_handshake_that_takes_too_long_is_ended(door, monkeypatch):
    monkeypatch.setattr(doors, "HANDSHAKE_S", 0.1)
    async with door(echo) as way:
        reader, writer = await asyncio.open_connection("127.0.0.1", way.port)
        assert await reader.read() == b""
        writer.close()


async def test_a_bug_behind_the_door_ends_its_own_connection_alone(door):
    async def stumble(stream):
        if (await stream.read(pb.Up)).WhichOneof("it") == "ping":
            raise KeyError("a bug")
        await stream.write(pb.Up())

    async with door(stumble) as way:
        first, second = await way.dial(), await way.dial()
        await first.write(pb.Up(ping=pb.Ping()))
        assert await first.read(pb.Up) is None
        await second.write(pb.Up())
        assert await second.read(pb.Up) == pb.Up()
        first.close()
        second.close()


async def test_a_bug_in_front_of_the_door_costs_one_connection_and_the_next_is_let_in(door, monkeypatch):
    enter, stumbles = doors.Waiting.enter, [KeyError("a bug")]

    def stumble(self, who, end, where):
        if stumbles:
            raise stumbles.pop()
        enter(self, who, end, where)

    monkeypatch.setattr(doors.Waiting, "enter", stumble)
    async with door(echo) as way:
        with pytest.raises(Unreachable):
            await way.dial()
        stream = await way.dial()
        await stream.write(pb.Up())
        assert await stream.read(pb.Up) == pb.Up()
        stream.close()


async def test_a_door_that_nobody_can_come_to_any_more_ends_who_opened_it(identities):
    sock = doors.bound("127.0.0.1", 0, setting="none")
    with pytest.raises(ExceptionGroup) as told:  # noqa: PT012 - it comes out of the context
        async with doors.Door(sock, lambda: tls.server_context(identities["server"]), echo, lambda _: None):
            sock.shutdown(socket.SHUT_RDWR)
            await asyncio.Event().wait()
    assert [problem.errno for problem in told.value.exceptions] == [errno.EINVAL]


async def test_a_server_that_is_not_there_is_named(identities):
    sock = doors.bound("127.0.0.1", 0, setting="none")
    port = sock.getsockname()[1]
    sock.close()
    with pytest.raises(Unreachable, match=f"127.0.0.1:{port} is not reached") as told:
        await doors_way(port, identities).dial()
    assert isinstance(told.value.__cause__, ConnectionRefusedError)


def doors_way(port, identities):
    from convoy.wire.dial import Way

    return Way("127.0.0.1", port, identities["site"])


# ---- through a proxy ------------------------------------------------------------------------------------------
class Proxy:
    """An HTTP proxy that opens tunnels to this machine, if the login is right."""

    def __init__(self, login=""):
        self.login, self.asked = login, []

    async def tunnel(self, reader, writer):
        head = (await reader.readuntil(b"\r\n\r\n")).decode()
        self.asked.append(head.split("\r\n")[0])
        if self.login and f"Proxy-Authorization: Basic {self.login}\r\n" not in head:
            writer.write(b"HTTP/1.1 407 Proxy Authentication Required\r\n\r\n")
            writer.close()
            return
        port = head.split(" ")[1].rpartition(":")[2]
        theirs, ours = await asyncio.open_connection("127.0.0.1", int(port))
        writer.write(b"HTTP/1.1 200 Connection established\r\nVia: test\r\n\r\n")

        async def copy(source, target):
            while data := await source.read(1 << 16):
                target.write(data)
            target.close()

        await asyncio.gather(copy(reader, ours), copy(theirs, writer))


async def test_a_site_reaches_its_server_through_the_proxy_of_its_environment(door, monkeypatch):
    proxy = Proxy(login="aXQ6c2VjcmV0")  # it:secret
    async with door(echo) as way, await asyncio.start_server(proxy.tunnel, "127.0.0.1", 0) as listening:
        address = f"127.0.0.1:{listening.sockets[0].getsockname()[1]}"
        monkeypatch.setenv("https_proxy", f"http://it:secret@{address}")
        monkeypatch.delenv("no_proxy", raising=False)
        monkeypatch.delenv("NO_PROXY", raising=False)
        (await way.dial()).close()  # this machine is reached without a proxy
        assert proxy.asked == []
        far = replace(way, host="server")  # a name that the proxy alone can resolve
        stream = await far.dial()
        await stream.write(pb.Up(ping=pb.Ping()))
        assert (await stream.read(pb.Up)).WhichOneof("it") == "ping"
        stream.close()
        assert proxy.asked == [f"CONNECT server:{way.port} HTTP/1.1"]
        monkeypatch.setenv("https_proxy", f"http://it:wrong@{address}")
        with pytest.raises(Unreachable, match=r"refuses a tunnel.*\n.*407"):
            await far.dial()
        monkeypatch.setenv("no_proxy", "server")
        with pytest.raises(Unreachable, match="is not reached"):
            await far.dial()
        assert len(proxy.asked) == 2


@pytest.mark.parametrize("host", ["localhost", "LOCALHOST.", "fl.localhost", "127.0.0.1", "127.8.8.8", "::1", "[::1]"])
def test_this_machine_is_never_behind_a_proxy(host, monkeypatch):
    monkeypatch.setenv("https_proxy", "http://proxy.invalid:3128")
    monkeypatch.delenv("no_proxy", raising=False)
    assert proxy_for(host) is None
    assert proxy_for("10.0.0.1") is not None


async def test_every_address_is_one_socket_for_both_families():
    with doors.opened("::", 0) as sock:
        sock.listen()
        port = sock.getsockname()[1]
        for host in ("127.0.0.1", "::1") if sock.family == socket.AF_INET6 else ("127.0.0.1",):
            _, writer = await asyncio.open_connection(host, port)
            writer.close()
            await writer.wait_closed()
