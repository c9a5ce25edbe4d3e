"""The site's line to its server: what waits to be said is bounded, and no answer is lost to that."""

import asyncio

from convoy.site.line import Line
from convoy.wire import convoy_pb2 as pb
from convoy.wire.send_queue import MAX_UNREAD, ROOM


class Way:
    """Leads to a server that agrees to everything, says nothing and reads nothing."""

    def __init__(self):
        self.heard, self.cuts, self.peer = 0, 0, ""
        self._over = asyncio.Event()

    async def dial(self):
        return self

    async def read(self, kind):
        if kind is pb.Verdict:
            return pb.Verdict()
        if kind is pb.Down and not self._over.is_set():
            await self._over.wait()
        return None

    async def write(self, *messages):
        if messages[0].DESCRIPTOR.name != "Opening":
            await asyncio.Event().wait()

    def cut(self):
        self.cuts += 1
        self._over.set()

    def close(self):
        pass


async def test_a_server_that_leaves_too_much_unread_loses_the_line_once_and_nothing_before_that():
    way = Way()
    line = Line(way, None)
    session = asyncio.create_task(anext(line.session(pb.Hello()), None))
    await line.connected.wait()
    for _ in range(MAX_UNREAD):
        line.send(pb.Up(offer=pb.Offer(job="j", answer=pb.Answer(question="1.0"))))
    assert (way.cuts, line._ups.qsize()) == (0, MAX_UNREAD)
    line.send(pb.Up(offer=pb.Offer(job="j", answer=pb.Answer(question="1.0"))))
    line.send(pb.Up(offer=pb.Offer(job="j", answer=pb.Answer(question="1.0"))))
    assert (way.cuts, line._ups.qsize()) == (1, MAX_UNREAD)
    assert await session is None
    assert not line.connected.is_set()


async def test_what_can_be_left_out_is_and_answers_are_not():
    line = Line(Way(), None)
    line.connected.set()
    line.send(pb.Up(log=pb.Log(job="j", data=bytes(ROOM))))
    waiting = asyncio.create_task(line.room())
    line.send(pb.Up(progress=pb.Progress(job="j")))
    line.send(pb.Up(offer=pb.Offer(job="j", answer=pb.Answer(question="1.0"))))
    assert line._ups.qsize() == 2
    assert not waiting.done()
    line._ups.get_nowait()
    await waiting
    line.send(pb.Up(progress=pb.Progress(job="j")))
    assert [line._ups.get_nowait().WhichOneof("it") for _ in range(2)] == ["offer", "progress"]
