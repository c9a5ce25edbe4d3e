"""What the server's desk says of jobs, over a real machine, loop and ledger."""

import asyncio
from contextlib import aclosing

import pytest

from convoy.admin.grant import Granted
from convoy.admin.port import Person
from convoy.control import effects, events
from convoy.control.machine import Now
from convoy.control.records import Job, JobId
from convoy.errors import NotAllowed, NotFound, Refused, StorageFull
from convoy.server.desk import Desk
from convoy.spec.job import read_job
from convoy.store.ledger import Switched
from convoy.trust import audit
from convoy.trust.federation import Participant

J = JobId("a" * 32)
ADA = Granted(lambda: Person("ada@a.org", "a", "lead"), lambda right: True)
LATER = Now(1e9, 0)
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


async def failed(desk, error):
    """End the job with what its workflow raised."""
    desk.loop.post(events.FlowFailed(J, error, ""))
    for site in desk.loop.machine.state.sites:
        desk.loop.post(events.MemberStopped(J, site))
    desk.loop.post(events.ResultsKept(J, ""))
    await desk.loop.settled()


async def test_a_job_that_failed_because_its_sites_made_no_progress_says_that_patience_ran_out(desk):
    job, machine = await running(desk), desk.loop.machine
    machine.step(events.Asked(J, "1.0", "train", 1, 3, "a" * 64, 2), Now(0, 0))
    found = machine.step(events.TimePassed(), LATER)
    (end,) = [effect for effect in found if isinstance(effect, effects.TellEnd)]
    assert not desk._view(job).patience_out
    await failed(desk, f"NotEnough: {end.error}")
    assert desk._view(job).patience_out


async def test_a_job_that_failed_because_too_few_sites_were_there_says_that_patience_ran_out(desk):
    job = await running(desk)
    for site in ("site-1", "site-2"):
        desk.loop.post(events.MemberRefused(J, site, "no"))
    desk.loop.machine.step(events.Asked(J, "1.0", "train", 1, 3, "a" * 64, 2), Now(0, 0))
    desk.loop.machine.step(events.TimePassed(), LATER)
    await failed(desk, "it has ended already")
    assert desk._view(job).patience_out


async def test_a_job_that_failed_of_something_else_does_not_blame_patience(desk):
    job = await running(desk)
    await failed(desk, "ValueError: the scanner is off")
    assert desk._view(job).state == "failed"
    assert not desk._view(job).patience_out


async def test_a_running_job_says_that_it_stands_still_while_the_disk_is_full(desk):
    job = await running(desk)
    desk.loop.post(events.StorageChanged("the disk is full"))
    assert desk.jobs()[0].cause == "stands still: the disk is full"
    desk.loop.post(events.StorageChanged(""))
    assert desk._view(job).cause == ""


async def test_what_cannot_be_done_says_what_to_do_next(desk):
    await running(desk)
    with pytest.raises(NotFound) as refused:
        await anext(desk.logs(J, "nope", False))
    assert (refused.value.why, refused.value.fix) == (
        "federation.json number 1 lists: site-1, site-2",
        "convoy site list",
    )
    await failed(desk, "it has ended")
    with pytest.raises(Refused) as refused:
        await desk.abort(ADA, J)
    assert "convoy job show aaaaaaaa" in refused.value.fix


async def test_a_submit_to_a_full_disk_is_told_how_to_make_room(desk):
    desk.loop.check_room = lambda: "the disk is full"
    with pytest.raises(StorageFull) as refused:
        await desk.submit(ADA, b"")
    assert "convoy job delete" in refused.value.fix


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
        desk.loop.post(events.CommitAsked(J, 0, "a" * 64, {}, False))
        assert [made.round for made in (await coming).rounds] == [0]


async def test_a_watch_hears_that_the_disk_is_full_and_has_room_again(desk):
    await running(desk)
    async with aclosing(desk.watch(J)) as items:
        assert (await anext(items)).job.cause == ""
        desk.loop.post(events.StorageChanged("the disk is full"))
        assert (await anext(items)).job.cause == "stands still: the disk is full"
        waiting = asyncio.ensure_future(desk.loop.has_room())
        desk.loop.post(events.StorageChanged(""))
        assert (await anext(items)).job.cause == ""
        await waiting


async def test_a_site_that_is_disabled_says_so_in_the_jobs_that_it_is_in(desk):
    await running(desk)
    await desk.set_site(ADA, "site-1", enabled=False)
    assert [member.reason for member in (await desk.job(J)).members] == ["disabled by an admin", ""]
    await desk.set_site(ADA, "site-1", enabled=True)
    assert [member.reason for member in (await desk.job(J)).members] == ["", ""]


async def test_what_a_person_does_is_in_the_audit_trail_in_one_transaction_with_the_deed(desk):
    writes, write = [], desk.loop._ledger.write
    desk.loop._ledger.write = lambda records: (writes.append(list(records)), write(records))
    await running(desk)
    await desk.set_site(ADA, "site-1", enabled=False)
    aborting = asyncio.ensure_future(desk.abort(ADA, J))
    await asyncio.sleep(0)
    await failed(desk, "it was aborted")
    await aborting
    await desk.delete(ADA, J)
    await desk.shutdown(ADA, "server", restart=True)
    await desk.loop.settled()
    said = [(entry.actor, entry.action, entry.object, entry.outcome) for entry in desk.audit.read(0, 9)]
    assert said == [
        ("admin:ada@a.org", "disable", "site:site-1", "done"),
        ("admin:ada@a.org", "abort", f"job:{J}", "done"),
        ("admin:ada@a.org", "delete", f"job:{J}", "done"),
        ("admin:ada@a.org", "restart", "server", "done"),
    ]
    (together,) = [records for records in writes if any(isinstance(record, Switched) for record in records)]
    assert any(isinstance(record, audit.Record) for record in together)


async def test_what_the_api_did_or_refused_by_itself_is_in_the_trail_too(desk):
    desk.note("admin:ada@a.org", "login", "from:10.0.0.9")
    desk.note("stranger", "login", "from:10.0.0.9", refusal="the login cannot be read")
    await desk.loop.settled()
    lines = [line.record async for line in desk.trail(0)]
    assert [(line.actor, line.outcome) for line in lines] == [
        ("admin:ada@a.org", "done"),
        ("stranger", "refused: the login cannot be read"),
    ]


class Lost:
    """A right that is there when a call begins, and gone at its effect."""

    def act(self, effect):
        raise NotAllowed("ada@a.org may not do this")

    check = act


CALLS = {
    "set_site": lambda desk, grant: desk.set_site(grant, "site-1", enabled=False),
    "revoke_site": lambda desk, grant: desk.revoke_site(grant, "site-1"),
    "revoke_admin": lambda desk, grant: desk.revoke_admin(grant, "ada@a.org"),
    "abort": lambda desk, grant: desk.abort(grant, J),
    "delete": lambda desk, grant: desk.delete(grant, J),
    "shutdown": lambda desk, grant: desk.shutdown(grant, "server", restart=False),
    "submit": lambda desk, grant: desk.submit(grant, b""),
}


def test_every_call_that_has_an_effect_is_in_this_matrix():
    found = {name for name, it in vars(Desk).items() if "grant" in getattr(it, "__annotations__", {})}
    assert found == set(CALLS)


@pytest.mark.parametrize("call", CALLS.values(), ids=CALLS.keys())
async def test_what_somebody_may_not_do_any_more_is_not_done(desk, call):
    desk.roll.now.participants["ada@a.org"] = Participant("admin", "a", "project_admin")
    job = await running(desk)
    if call is CALLS["delete"]:
        await failed(desk, "it has ended")
    before, state = job.record, desk.loop.machine.state
    with pytest.raises(NotAllowed):
        await call(desk, Lost())
    await desk.loop.settled()
    assert (job.record, desk.roll.revoked, desk.ending.event.is_set()) == (before, {}, False)
    assert J in state.jobs
    assert all(site.enabled and site.connected for site in state.sites.values())
    assert list(desk.audit.read(0, 9)) == []
