"""A server that was killed forgets what it had asked a moment before: its sites forget it too, and answer anew."""

import asyncio
import time
from contextlib import asynccontextmanager

import numpy as np
import pytest

from convoy.errors import Unreachable
from convoy.model import blob
from convoy.model.arrays import views
from convoy.store import arrays
from convoy.store.blobs import BlobFolder
from convoy.trust import bundle
from convoy.wire import convoy_pb2 as pb
from convoy.wire.pump import Pump
from tests.site.test_lying_server import lied_to, packed, start

pytestmark = pytest.mark.scenario
FILES = {
    "job.yaml": b"name: x\ntrainer: train.py:train\n",
    "train.py": b"def train(task):\n    return {'w': task.model['w'] + 1}\n",
}


COUNTING = b"calls = 0\ndef train(task):\n    global calls\n    calls += 1\n    return {'w': task.model['w'] + calls}\n"


@asynccontextmanager
async def asked(tmp_path, denied=0, files=FILES):
    """A site that was sent a job and its task by a server which denies the model so often: (server, job, task)."""
    async with lied_to(tmp_path) as (federation, liar):
        blobs = BlobFolder(tmp_path)
        digest = arrays.save(blobs, "test", {"w": np.zeros(50_000, np.float32)})
        layout = blobs.read_header(digest)
        liar.no, liar.pulls = asyncio.Event(), 0

        async def pull(stream, request):
            liar.pulls += 1
            if liar.pulls <= denied:
                liar.no.set()
                await stream.write(pb.Verdict(fault=pb.Verdict.NOT_ALLOWED, reason="no task with that blob"))
                return
            await stream.write(pb.Verdict())
            with blobs.path(digest).open("rb") as file:
                await Pump().send(stream, file.fileno(), [(part.start, part.end) for part in request.ranges])

        liar.pull = pull
        data = packed(federation, files=files)
        root = (federation.prod / "server" / "startup" / "root.crt").read_bytes()
        job = bundle.verify(data, root_pem=root, project="bench", now=time.time()).id
        model = pb.Blob(digest=digest, size=layout.size, header=layout.header)
        question = pb.Question(id="1.0", kind="train", round=1, rounds=1, model=digest)
        task = pb.Down(task=pb.Task(job=job, question=question, model=model))
        liar.says.put_nowait(start(data, job=job))
        liar.says.put_nowait(task)
        yield liar, job, task


async def test_a_model_that_the_server_denies_is_no_answer_and_the_task_is_done_when_it_asks_again(tmp_path):
    async with asked(tmp_path, denied=1) as (liar, _, task):
        await liar.no.wait()
        liar.says.put_nowait(task)
        offer = await liar.offers.get()
        assert (offer.answer.question, liar.pulls) == ("1.0", 2)


async def test_a_task_that_is_cancelled_while_it_waits_is_not_trained(tmp_path):
    async with asked(tmp_path, files=FILES | {"train.py": COUNTING}) as (liar, job, first):
        pull, begun, gate = liar.pull, asyncio.Event(), asyncio.Event()

        async def slow(stream, request):
            begun.set()
            await gate.wait()
            await pull(stream, request)

        liar.pull = slow
        await begun.wait()
        for number in (2, 3):
            task = pb.Down()
            task.CopyFrom(first)
            task.task.question.id = f"{number}.0"
            liar.says.put_nowait(task)
        for question in ("1.0", "2.0"):  # one whose model comes, and one that waits for its turn
            liar.says.put_nowait(pb.Down(cancel=pb.Cancel(job=job, question=question)))
        liar.says.put_nowait(pb.Down(stop=pb.Stop(job="ef" * 16)))
        while (await liar.heard.get()).WhichOneof("it") != "stopped":
            pass  # by then it has heard all of that
        gate.set()
        offer = await liar.offers.get()
        once = arrays.save(BlobFolder(tmp_path), "test", {"w": np.ones(50_000, np.float32)})
        assert (offer.answer.question, offer.answer.digest) == ("3.0", once)


async def test_an_update_is_offered_again_when_the_server_says_so_and_its_wanted_bytes_are_those_of_the_file(tmp_path):
    async with asked(tmp_path) as (liar, job, _):
        first = await liar.offers.get()
        size = first.update.size
        came, wants = asyncio.Queue(), [(size - 1, size), (size - 1, size + 9), (len(first.update.header), size)]

        async def push(stream):
            """Want the last byte, then more than there is; then everything but the header."""
            start, end = wants.pop(0)
            want = pb.Range(start=start, end=end)
            await stream.write(pb.Verdict(), pb.Want(ranges=[want]))
            got = bytearray()
            while len(got) < want.end - want.start and (more := await _some(stream, want.end - want.start - len(got))):
                got += more
            came.put_nowait(bytes(got))
            await stream.write(pb.Verdict())

        liar.push = push
        again = pb.Down(again=pb.Again(job=job, question="1.0"))
        for unknown in (pb.Again(job=job, question="2.0"), pb.Again(job="ef" * 16, question="1.0")):
            liar.says.put_nowait(pb.Down(again=unknown))
        liar.says.put_nowait(again)
        assert await liar.offers.get() == first
        assert len(await came.get()) == 1
        liar.says.put_nowait(again)
        assert [await liar.offers.get(), await came.get()] == [first, b""]
        assert await liar.offers.get() == first  # unasked: the server wanted what is not there, so it may be confused
        data = first.update.header + await came.get()
        update = views(blob.parse(first.update.header, expect=first.answer.digest), data)
        np.testing.assert_array_equal(update["w"], np.ones(50_000))


async def _some(stream, most):
    buffer = memoryview(bytearray(most))
    try:
        return buffer[: await stream.take(buffer)]
    except Unreachable:
        return b""
