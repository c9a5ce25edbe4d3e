"""When those who follow the federation hear of it, in virtual time: soon after a change, and never often."""

import asyncio
import itertools
from contextlib import aclosing

import pytest

from convoy.control.records import SiteName
from convoy.control.state import LiveSite, State
from convoy.node.process import Notes
from convoy.server.attendance import Attendance
from convoy.server.following import PAUSE_S, QUIET_S, TOGETHER_S, Following
from convoy.server.loop import Loop
from convoy.trust.federation import Federation, Membership, Participant
from tests import virtual


def told(changes_at, *, until_s, reads_s=0.0):
    """Return when a reader who takes `reads_s` for each item is told, and the number of changes by then."""

    async def main():
        loop = Loop(None, None, room=lambda: "", perform=print, supervisor=None)
        found, clock = [], asyncio.get_running_loop()

        async def read():
            async with aclosing(Following(loop, None, None, None).changes()) as items:
                async for item in items:
                    found.append((clock.time(), item.number))
                    await asyncio.sleep(reads_s)

        reading = asyncio.create_task(read())
        for at in changes_at:
            await virtual.until(at)
            loop.changed(None if at % 2 else "a job")
        await virtual.until(until_s)
        reading.cancel()
        await asyncio.wait({reading})
        return found

    return virtual.run(main())


def test_an_item_comes_at_once_and_soon_after_a_change():
    times = told([10.0], until_s=11)
    assert times == [(0.0, 0), (pytest.approx(10 + TOGETHER_S), 1)]


def test_changes_without_end_are_one_item_a_second_and_the_last_one_is_told():
    times = told([at / 100 for at in range(1, 1001)], until_s=15)
    gaps = [after[0] - before[0] for before, after in itertools.pairwise(times)]
    assert min(gaps) >= PAUSE_S - 1e-6
    assert 9 <= len(times) <= 12
    assert times[-1][1] == 1000
    assert times[-1][0] <= 10 + PAUSE_S + TOGETHER_S


def test_without_a_change_an_item_with_the_same_number_says_that_the_server_is_there():
    times = told([], until_s=100)
    assert [at for at, _ in times] == pytest.approx([0] + [(QUIET_S + TOGETHER_S) * count for count in (1, 2, 3)])
    assert {number for _, number in times} == {0}


def test_a_reader_that_is_slow_hears_less_often_and_of_the_newest():
    times = told([at / 10 for at in range(1, 1001)], until_s=110, reads_s=20.0)
    assert len(times) <= 6
    assert times[-1][1] == 1000


async def test_a_problem_in_the_log_is_a_change_from_whatever_thread_it_comes():
    loop, notes = Loop(None, None, room=lambda: "", perform=print, supervisor=None), Notes()
    running, event = asyncio.get_running_loop(), loop.next_change()
    with notes.heard_by(lambda: running.call_soon_threadsafe(loop.noticed)):
        notes(None, "info", {"event": "nothing that anybody is shown"})
        assert loop.changes == 0
        await asyncio.to_thread(notes, None, "warning", {"event": "a site is disconnected"})
        await event.wait()
    assert loop.changes == 1
    notes(None, "warning", {"event": "nobody listens any more"})


async def test_what_is_about_no_job_wakes_only_those_who_follow_the_federation(coordinator):
    loop, job = coordinator.loop, asyncio.Event()
    leave, any_ = loop.subscribe("a", job), loop.next_change()
    coordinator.note("admin:ada@a.org", "login", "from:10.0.0.9")
    await any_.wait()
    assert not job.is_set()
    any_ = loop.next_change()
    loop.changed("a")
    assert job.is_set()
    assert any_.is_set()
    leave()


def test_sites_begin_as_they_are_and_those_that_left_the_federation_are_forgotten():
    names = [SiteName(name) for name in ("a", "b", "c")]
    state = State(4, {name: LiveSite(name) for name in names})
    state.sites[SiteName("b")].enabled = False
    state.sites[SiteName("c")].listed = False
    membership = Membership(Federation("clinics", 1, dict.fromkeys(names, Participant("site", "a"))), b"", {"a": 900.0})
    found = Attendance(state, membership, since=1000.0).view()
    assert [(it.site, it.at, it.standing) for it in found.sites] == [
        ("a", [1000.0], ["revoked"]),
        ("b", [1000.0], ["disabled"]),
    ]
