"""A server that was killed forgets what it had asked a moment before: its sites forget it too, and answer anew."""

import asyncio
import time

import numpy as np
import pytest

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


async def heard(liar, kind):
    """Return the next message of a kind; logs and progress may come before it."""
    while (up := await liar.heard.get()).WhichOneof("it") != kind:
        assert up.WhichOneof("it") in ("log", "progress", "ready"), up
    return getattr(up, kind)


async def test_a_model_that_the_server_denies_is_no_answer_and_the_task_is_done_when_it_asks_again(tmp_path):
    async with lied_to(tmp_path) as (federation, liar):
        blobs = BlobFolder(tmp_path)
        digest = arrays.save(blobs, "test", {"w": np.zeros(50_000, np.float32)})
        layout = blobs.read_header(digest)
        no, pulls = asyncio.Event(), []

        async def pull(stream, request):
            pulls.append(request)
            if len(pulls) == 1:
                no.set()
                await stream.write(pb.Verdict(fault=pb.Verdict.NOT_ALLOWED, reason="no task with that blob"))
                return
            await stream.write(pb.Verdict())
            with blobs.path(digest).open("rb") as file:
                await Pump().send(stream, file.fileno(), [(part.start, part.end) for part in request.ranges])

        liar.pull = pull
        data = packed(federation, files=FILES)
        root = (federation.prod / "server" / "startup" / "root.crt").read_bytes()
        job = bundle.verify(data, root_pem=root, project="bench", now=time.time()).id
        model = pb.Blob(digest=digest, size=layout.size, header=layout.header)
        asked = pb.Question(id="1.0", kind="train", round=1, rounds=1, model=digest)
        task = pb.Down(task=pb.Task(job=job, question=asked, model=model))
        liar.says.put_nowait(start(data, job=job))
        liar.says.put_nowait(task)
        await no.wait()
        liar.says.put_nowait(task)
        offer = await heard(liar, "offer")
        assert (offer.answer.question, len(pulls)) == ("1.0", 2)
