"""A site's transfers leave their connections to the next, but not with a certificate that another has replaced."""

import asyncio
import os

from convoy.site.line import Line
from convoy.wire import convoy_pb2 as pb
from convoy.wire.pump import Pump

REQUEST = pb.PullRequest(ranges=[pb.Range(start=0, end=4)])


async def test_a_connection_that_was_in_use_while_the_certificate_was_renewed_is_not_used_again(door, tmp_path):
    (tmp_path / "file").write_bytes(b"data")
    file, pump = os.open(tmp_path / "file", os.O_RDONLY), Pump()
    came, go = asyncio.Queue(), asyncio.Event()

    async def serve(stream):
        came.put_nowait(stream)
        while await stream.read(pb.Opening) is not None:
            await go.wait()
            await stream.write(pb.Verdict())
            await pump.send(stream, file, [(0, 4)])

    try:
        async with door(serve) as way:
            line, got = Line(way, pump), bytearray()
            line.connected.set()
            first = asyncio.create_task(line.pull(REQUEST, got.extend))
            await came.get()
            line.retire()
            go.set()
            await first
            await line.pull(REQUEST, got.extend)
            await came.get()
            await line.pull(REQUEST, got.extend)
            assert came.empty()
            assert bytes(got) == b"data" * 3
            line.retire()
    finally:
        pump.close()
        os.close(file)
