"""What the server's desk says of jobs, over a real machine, loop and ledger."""

import asyncio
import time
from contextlib import aclosing

import pytest

from convoy.control import events
from convoy.control.records import Job, JobId
from convoy.errors import NotFound, Refused
from convoy.server.views import job_view
from convoy.spec.job import read_job

J = JobId("a" * 32)
SPEC = read_job("name: tumours\ntrainer: train.py\nwith: {min_sites: 2}\npatience: 5s\n", "job.yaml").to_json()


def joined(site):
    return events.SiteJoined(site, events.Capacity(4, 1 << 30, 0), "0", frozenset())


async def running(desk):
    """Submit a job that both sites take, and return it."""
    for site in desk.loop.machine.state.sites:
        desk.loop.post(joined(site))
    desk.loop.post(events.Submitted(Job(J, "tumours", "ada@a.org", "a", "d" * 64, 1, SPEC, "submitted", "", 1.0)))
    await desk.loop.settled()
    return desk.loop.machine.state.jobs[J]


async def test_a_watch_says_nothing_where_nothing_that_it_says_has_changed(desk):
    await running(desk)
    async with aclosing(desk.watch(J)) as items:
        assert (await anext(items)).job.state == "running"
        coming = asyncio.ensure_future(anext(items))
        for site in ("site-1", "site-2"):
            desk.loop.post(events.MemberReady(J, site))
        await desk.loop.settled()
        await desk.loop.settled()
        assert not coming.done()
        desk.loop.post(events.CommitAsked(J, 0, "m" * 64, {}, False))
        assert [made.round for made in (await coming).rounds] == [0]
