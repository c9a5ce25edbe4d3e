"""One end of a pod's line: life by the clock, a turn for everybody else, nothing told to be here that is not."""

import asyncio

import numpy as np
import pytest

from convoy.pods.link import CHUNK, PodLink
from convoy.pods.worker import POD
from convoy.store import arrays
from convoy.store.blobs import BlobFolder
from convoy.wire import convoy_pb2 as pb
from convoy.wire import pods_pb2
from convoy.wire.budget import Budget


class Wire:
    """A stream that takes and gives whatever there is at once, and never suspends."""

    heard = 0

    def __init__(self, words=(), raw=b""):
        self.said, self.words, self.raw = [], list(words), memoryview(raw)

    async def write(self, *messages):
        self.said += messages

    async def give(self, view):
        self.said.append(len(view))

    async def read(self, _kind):
        return self.words.pop(0) if self.words else None

    async def take(self, view):
        count = min(len(view), len(self.raw))
        view[:count], self.raw = self.raw[:count], self.raw[count:]
        return count


@pytest.fixture
def blobs(tmp_path):
    return BlobFolder(tmp_path)


def link(wire, blobs, words=None):
    return PodLink(wire, blobs, words or asyncio.Queue(), (pods_pb2.PodUp, pods_pb2.PodDown), budget=Budget(POD))


async def test_who_talks_all_the_time_gives_signs_of_life_all_the_same(blobs):
    words, wire = asyncio.Queue(), Wire()
    writing = asyncio.create_task(link(wire, blobs, words).write(0.02, lambda: pods_pb2.PodDown(ping=pb.Ping())))
    heard = 0
    while heard < 3:
        words.put_nowait((pods_pb2.PodDown(word=pb.WorkerDown(bye=pb.Bye())), ()))
        await asyncio.sleep(0)
        heard = sum(isinstance(it, pods_pb2.PodDown) and it.WhichOneof("it") == "ping" for it in wire.said)
    words.put_nowait(None)
    await writing


async def test_a_large_blob_leaves_turns_for_everybody_else_on_both_ends(blobs, tmp_path):
    digest = arrays.save(blobs, "test", {"w": np.zeros(CHUNK, np.float64)})
    layout, whole = blobs.read_header(digest), blobs.path(digest).read_bytes()
    turns = 0

    async def others():
        nonlocal turns
        while True:
            turns += 1
            await asyncio.sleep(0)

    busy = asyncio.create_task(others())
    words = asyncio.Queue()
    words.put_nowait((pods_pb2.PodDown(word=pb.WorkerDown()), (digest,)))
    words.put_nowait(None)
    await link(Wire(), blobs, words).write(60, pods_pb2.PodDown)
    sent = turns
    (tmp_path / "other").mkdir()
    said = pods_pb2.PodUp(blob=pb.Blob(digest=digest, size=layout.size, header=layout.header))
    other = link(Wire([said], whole[len(layout.header) :]), BlobFolder(tmp_path / "other"))
    assert await other.read() is None
    busy.cancel()
    assert sent >= 8
    assert turns - sent >= 8
    assert other.came == {digest}


async def test_a_blob_that_breaks_off_is_not_held_and_leaves_nothing(blobs, tmp_path):
    digest = arrays.save(blobs, "test", {"w": np.zeros(CHUNK, np.float64)})
    layout = blobs.read_header(digest)
    (tmp_path / "other").mkdir()
    said = pods_pb2.PodUp(blob=pb.Blob(digest=digest, size=layout.size, header=layout.header))
    wire = Wire([said])

    async def broken(_view):
        raise ConnectionError

    wire.take = broken
    other = link(wire, BlobFolder(tmp_path / "other"))
    with pytest.raises(ConnectionError):
        await other.read()
    assert other.came == set()
    assert [path for path in (tmp_path / "other").rglob("*") if path.is_file()] == []
