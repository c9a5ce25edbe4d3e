"""A message may be large by a blob's header, and by nothing else."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from convoy.errors import RemoteFault
from convoy.wire import convoy_pb2 as pb
from convoy.wire import pods_pb2
from convoy.wire.frames import MAX_BARE, parsed

HEADER = pb.Blob(digest="d" * 64, size=1 << 40, header=b"\xff" * (MAX_BARE + 1))
WITH_HEADERS = [
    pb.Offer(job="j" * 32, answer=pb.Answer(question="1.0", weight=3, metrics={"auc": 0.5}), update=HEADER),
    pb.Down(task=pb.Task(job="j" * 32, question=pb.Question(id="1.0", kind="train", round=1, rounds=9), model=HEADER)),
    pods_pb2.PodUp(blob=HEADER),
    pods_pb2.PodDown(blob=HEADER),
]


@pytest.mark.parametrize("message", WITH_HEADERS, ids=lambda message: type(message).__name__)
def test_a_header_of_any_size_passes(message):
    assert parsed(type(message), message.SerializeToString()) == message


LARGE = [
    pb.Up(log=pb.Log(job="j", data=b"x" * MAX_BARE)),
    pb.Up(offer=pb.Offer(answer=pb.Answer(metrics={f"{at:040}": 1.0 for at in range(90_000)}))),
    pb.Up(offer=pb.Offer(update=pb.Blob(whole=b"x" * MAX_BARE))),
    pb.Up(offer=pb.Offer(update=HEADER)),
    pb.Want(ranges=[pb.Range()] * (MAX_BARE // 2 + 1)),
    pb.WorkerUp(failure=pb.Failure(traceback="x" * MAX_BARE)),
    pb.WorkerUp(ask=pb.Question(sites=["x" * MAX_BARE])),
]


@pytest.mark.parametrize("message", LARGE, ids=range(len(LARGE)))
def test_anything_else_that_is_large_is_refused_before_it_is_parsed(message):
    with pytest.raises(RemoteFault, match="without a blob's header"):
        parsed(type(message), message.SerializeToString())


def test_a_header_carries_nothing_large_along():
    more = pb.Offer(answer=pb.Answer(metrics={f"{at:040}": 1.0 for at in range(90_000)})).SerializeToString()
    body = WITH_HEADERS[0].SerializeToString()
    for both in (body + more, more + body):
        with pytest.raises(RemoteFault, match="without a blob's header"):
            parsed(pb.Offer, both)


@given(st.binary(max_size=200), st.sampled_from([pb.Up, pb.Offer, pb.Down, pods_pb2.PodUp, pods_pb2.PodDown]))
def test_noise_is_measured_without_a_fault_of_ours(noise, kind):
    with pytest.raises(RemoteFault):
        parsed(kind, noise + b"\xff" * (MAX_BARE + 200))
