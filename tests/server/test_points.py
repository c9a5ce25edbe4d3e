"""The live metrics of a job at its server: a resend adds nothing, and nonsense is refused."""

import asyncio
from contextlib import aclosing

import pytest
from hypothesis import given
from hypothesis import strategies as st

from convoy.control import points
from convoy.control.points import Point
from convoy.errors import RemoteFault
from convoy.server.points import JobPoints
from convoy.wire import convoy_pb2 as pb

STREAM = [points.write(Point({"loss": n / 7}, n, at=1.0, number=n)) for n in range(40)]


async def stored(job, *asked):
    async with aclosing(job.read(*asked or (None,))) as found:
        return [(site, point.number) async for site, point in found]


@given(st.lists(st.tuples(st.integers(0, 39), st.integers(1, 40)), max_size=20))
def test_a_resend_at_any_number_adds_nothing_and_keeps_the_order(tmp_path_factory, sends):
    folder = tmp_path_factory.mktemp("points")
    job, told = JobPoints(folder), []
    for place, (start, count) in enumerate(sends):
        lines = STREAM[start : start + count]
        job.append("site-1", b"".join(lines))
        told += [n for n in range(start, start + len(lines)) if n >= (told[-1] + 1 if told else 0)]
        if place % 3 == 2:
            job = JobPoints(folder)  # a server that was killed and started again
        assert job.next("site-1") == (told[-1] + 1 if told else 0)
    assert asyncio.run(stored(job)) == [("site-1", number) for number in told]


@pytest.mark.parametrize(
    "lines",
    [b"", b"x\n", STREAM[0][:-1], STREAM[1] + STREAM[0], STREAM[0] * 2, b"".join(STREAM) * 100],
    ids=["nothing", "text", "half a line", "backwards", "twice", "too many"],
)
def test_what_is_not_lines_of_growing_numbers_is_refused_and_leaves_nothing(tmp_path, lines):
    job = JobPoints(tmp_path)
    with pytest.raises(RemoteFault, match="site-1"):
        job.append("site-1", lines)
    assert asyncio.run(stored(job)) == []


async def test_a_follower_gets_each_point_once_also_while_the_file_is_thinned(tmp_path):
    job, over = JobPoints(tmp_path), asyncio.Event()
    job._files.of("site-1")._most = 3000
    told = []

    async def follow():
        async with aclosing(job.read("site-1", "", 4, over.is_set)) as found:
            async for _, point in found:
                told.append(point.number)

    following = asyncio.create_task(follow())
    for line in STREAM:
        job.append("site-1", line)
        job.append("site-2", line)
        await asyncio.sleep(0)
    assert job._files.of("site-1").size <= 3000
    over.set()
    job.wake()
    await following
    assert told == sorted(set(told))
    assert set(told) <= set(range(5, 40))
    assert told[-1] == 39


async def test_the_points_of_a_workflow_are_in_the_round_that_it_works_on(tmp_path):
    job = JobPoints(tmp_path)
    for round_ in (1, 2):
        job.own(pb.Points(points=[pb.Point(values={"drift": 0.5}), pb.Point(values={"drift": 0.25})]), round_)
    async with aclosing(job.read("server")) as found:
        assert [(point.round, point.number) async for _, point in found] == [(1, 0), (1, 1), (2, 2), (2, 3)]
    with pytest.raises(RemoteFault, match="phase"):
        job.own(pb.Points(points=[pb.Point(phase="x", values={"drift": 0.5})]), 3)
    with pytest.raises(RemoteFault, match="1001 points"):
        job.own(pb.Points(points=[pb.Point(values={"drift": 0.5})] * 1001), 3)
