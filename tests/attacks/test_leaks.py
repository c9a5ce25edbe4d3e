"""What leaves a site is what its policy lets leave: a real site, beside a server that asks what it should not."""

import numpy as np
import pytest
import safetensors.numpy

from convoy.model import arrays, blob
from convoy.wire import convoy_pb2 as pb
from tests.site.test_lying_server import job_of, lied_to, packed, start

pytestmark = pytest.mark.scenario

TRAIN = b"""
import convoy


class Patient17IsIll(Exception):
    pass


@convoy.train
def train(task):
    if task.round == 2:
        raise Patient17IsIll("and 93 years old")
    if task.round == 3:
        return convoy.Reply({"patient 17": task.model["w"]}, weight=17.0, metrics={"patient 17": 93.0})
    return convoy.Reply({"w": task.model["w"] * 0 + 7, "n": task.model["n"] + 17}, weight=1793.0, metrics={"p17": 93.0})
"""
FILES = {"job.yaml": b"name: x\ntrainer: train.py\n", "train.py": TRAIN}


def whole(**model) -> pb.Blob:
    """Return a small blob as a server sends it."""
    layout = blob.build(arrays.describe(model))
    data = layout.header + b"".join(arrays.raw(model[tensor.name]) for tensor in layout.tensors)
    return pb.Blob(digest=layout.digest, size=layout.size, whole=data)


async def begun(federation, liar, policy: str) -> str:
    """Start the job at the site, under a policy; return its id when it takes tasks."""
    site = federation.nodes["site-1"].kit
    (site / "local" / "policy.yaml").write_text(policy)
    data = packed(federation, files=FILES)
    liar.says.put_nowait(start(data, job := job_of(federation, data)))
    await heard(liar, "ready")
    return job


async def heard(liar, *kinds: str) -> pb.Up:
    """Return the next word of a kind."""
    while (up := await liar.heard.get()).WhichOneof("it") not in kinds:
        assert up.WhichOneof("it") != "refused", up
    return up


async def answered(liar, job: str, question: str, model: pb.Blob, round_: int = 1) -> pb.Up:
    asked = pb.Question(id=question, kind="train", round=round_, model=model.digest)
    liar.says.put_nowait(pb.Down(task=pb.Task(job=job, question=asked, model=model)))
    return await heard(liar, "offer", "failed")


def values(up: pb.Up) -> dict[str, np.ndarray]:
    return safetensors.numpy.load(up.offer.update.whole)


async def test_a_step_that_was_answered_is_not_answered_anew_over_another_model(tmp_path):
    zeros, ones = (whole(w=np.full(1000, value), n=np.zeros(1, np.int64)) for value in (0.0, 1.0))
    async with lied_to(tmp_path) as (federation, liar):
        job = await begun(federation, liar, "filters: [{noise: {sigma: 1.0}}]\n")
        first = values(await answered(liar, job, "1.0", zeros))
        assert np.std(first["w"] - 7) == pytest.approx(1, rel=0.2)
        liar.says.put_nowait(pb.Down(committed=pb.Committed(job=job, round=1)))
        again = await answered(liar, job, "1.0", ones)
        assert "has answered under this id before, to another question" in again.failed.error
        same = values(await answered(liar, job, "1.0", zeros))  # lost by the server: the same bits, and no news in them
        np.testing.assert_array_equal(same["w"], first["w"])
        other = values(await answered(liar, job, "4.0", ones, round_=4))  # trained to the same values
        assert np.std(other["w"] - first["w"]) == pytest.approx(2**0.5, rel=0.2)


async def test_what_the_policy_holds_back_leaves_in_no_name_no_error_no_integer_and_no_weight(tmp_path):
    policy = "leave: {logs: false, metrics: false, weight: rounded}\nfilters: [{clip: {norm: 1.0}}]\n"
    model = whole(w=np.zeros(3), n=np.zeros(1, np.int64))
    async with lied_to(tmp_path) as (federation, liar):
        job = await begun(federation, liar, policy)
        offer = (await answered(liar, job, "1.0", model)).offer
        assert (offer.answer.weight, dict(offer.answer.metrics)) == (2000, {})
        update = safetensors.numpy.load(offer.update.whole)
        assert update["n"].tolist() == [0]
        assert np.linalg.norm(update["w"]) == pytest.approx(1)
        failed = (await answered(liar, job, "2.0", model, round_=2)).failed
        assert (failed.error, failed.traceback) == ("the trainer failed (the rest stays at site-1)", "")
        failed = (await answered(liar, job, "3.0", model, round_=3)).failed
        assert (failed.error, failed.traceback) == ("the answer was refused at its site (the rest stays at site-1)", "")
