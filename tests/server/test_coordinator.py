"""What the server's coordinator says of jobs, over a real machine, loop and ledger."""

import asyncio
from contextlib import aclosing

import pytest

from convoy.admin.grant import Granted
from convoy.admin.port import Person
from convoy.control import effects, events
from convoy.control.clock import Now
from convoy.control.records import Job, JobId, Question
from convoy.errors import NotAllowed, NotFound, Refused, StorageFull
from convoy.server.coordinator import ServerCoordinator
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


async def running(coordinator):
    """Submit a job that both sites take, and return it."""
    for site in coordinator.loop.machine.state.sites:
        coordinator.loop.post(joined(site))
    coordinator.loop.post(
        events.Submitted(Job(J, "tumours", "ada@a.org", "a", "d" * 64, 1, SPEC, "submitted", "", 1.0))
    )
    await coordinator.loop.settled()
    return coordinator.loop.machine.state.jobs[J]


async def failed(coordinator, error):
    """End the job with what its workflow raised."""
    coordinator.loop.post(events.FlowFailed(J, error, ""))
    for site in coordinator.loop.machine.state.sites:
        coordinator.loop.post(events.MemberStopped(J, site))
    coordinator.loop.post(events.ResultsKept(J, ""))
    await coordinator.loop.settled()


async def test_a_job_that_failed_because_its_sites_made_no_progress_says_that_patience_ran_out(coordinator):
    job, machine = await running(coordinator), coordinator.loop.machine
    machine.step(events.Asked(Question(J, "1.0", "train", 1, 3, "a" * 64, at_least=2)), Now(0, 0))
    found = machine.step(events.TimePassed(), LATER)
    (end,) = [effect for effect in found if isinstance(effect, effects.TellEnd)]
    assert not coordinator._view(job).patience_out
    await failed(coordinator, f"NotEnough: {end.error}")
    assert coordinator._view(job).patience_out


async def test_a_job_that_failed_because_too_few_sites_were_there_says_that_patience_ran_out(coordinator):
    job = await running(coordinator)
    for site in ("site-1", "site-2"):
        coordinator.loop.post(events.MemberRefused(J, site, "no"))
    coordinator.loop.machine.step(events.Asked(Question(J, "1.0", "train", 1, 3, "a" * 64, at_least=2)), Now(0, 0))
    coordinator.loop.machine.step(events.TimePassed(), LATER)
    await failed(coordinator, "it has ended already")
    assert coordinator._view(job).patience_out


async def test_a_job_that_failed_of_something_else_does_not_blame_patience(coordinator):
    job = await running(coordinator)
    await failed(coordinator, "ValueError: the scanner is off")
    assert coordinator._view(job).state == "failed"
    assert not coordinator._view(job).patience_out


async def test_a_running_job_says_that_it_stands_still_while_the_disk_is_full(coordinator):
    job = await running(coordinator)
    coordinator.loop.post(events.StorageChanged("the disk is full"))
    assert (await coordinator.jobs()).jobs[0].cause == "paused: the disk is full"
    coordinator.loop.post(events.StorageChanged(""))
    assert coordinator._view(job).cause == ""


async def test_what_cannot_be_done_says_what_to_do_next(coordinator):
    await running(coordinator)
    with pytest.raises(NotFound) as refused:
        await anext(coordinator.logs(J, "nope", False))
    assert (refused.value.why, refused.value.fix) == (
        "federation.json number 1 lists: site-1, site-2",
        "convoy site list",
    )
    await failed(coordinator, "it has ended")
    with pytest.raises(Refused) as refused:
        await coordinator.abort(ADA, J)
    assert "convoy job show aaaaaaaa" in refused.value.fix


async def test_a_submit_to_a_full_disk_is_told_how_to_make_room(coordinator):
    coordinator.loop.check_room = lambda: "the disk is full"
    with pytest.raises(StorageFull) as refused:
        await coordinator.submit(ADA, b"")
    assert "convoy job delete" in refused.value.fix


async def test_a_watch_says_nothing_where_nothing_that_it_says_has_changed(coordinator):
    await running(coordinator)
    async with aclosing(coordinator.watch(J, -1)) as items:
        assert (await anext(items)).job.state == "running"
        coming = asyncio.ensure_future(anext(items))
        for site in ("site-1", "site-2"):
            coordinator.loop.post(events.MemberReady(J, site))
        await coordinator.loop.settled()
        await coordinator.loop.settled()
        assert not coming.done()
        coordinator.loop.post(events.CommitAsked(J, 0, "a" * 64, {}, False))
        assert [made.round for made in (await coming).rounds] == [0]


async def test_a_watch_hears_that_the_disk_is_full_and_has_room_again(coordinator):
    await running(coordinator)
    async with aclosing(coordinator.watch(J, -1)) as items:
        assert (await anext(items)).job.cause == ""
        coordinator.loop.post(events.StorageChanged("the disk is full"))
        assert (await anext(items)).job.cause == "paused: the disk is full"
        waiting = asyncio.ensure_future(coordinator.loop.has_room())
        coordinator.loop.post(events.StorageChanged(""))
        assert (await anext(items)).job.cause == ""
        await waiting


async def test_a_site_that_is_disabled_says_so_in_the_jobs_that_it_is_in(coordinator):
    await running(coordinator)
    await coordinator.set_site(ADA, "site-1", enabled=False)
    assert [member.reason for member in (await coordinator.job(J)).members] == ["disabled by an admin", ""]
    await coordinator.set_site(ADA, "site-1", enabled=True)
    assert [member.reason for member in (await coordinator.job(J)).members] == ["", ""]


async def test_what_a_person_does_is_in_the_audit_trail_in_one_transaction_with_the_deed(coordinator):
    writes, write = [], coordinator.loop._ledger.write
    coordinator.loop._ledger.write = lambda records: (writes.append(list(records)), write(records))
    await running(coordinator)
    await coordinator.set_site(ADA, "site-1", enabled=False)
    aborting = asyncio.ensure_future(coordinator.abort(ADA, J))
    await asyncio.sleep(0)
    await failed(coordinator, "it was aborted")
    await aborting
    await coordinator.delete(ADA, J)
    await coordinator.shutdown(ADA, "server", restart=True)
    await coordinator.loop.settled()
    said = [(entry.actor, entry.action, entry.object, entry.outcome) for entry in coordinator.audit.read(0, 9)]
    assert said == [
        ("admin:ada@a.org", "disable", "site:site-1", "done"),
        ("admin:ada@a.org", "abort", f"job:{J}", "done"),
        ("admin:ada@a.org", "delete", f"job:{J}", "done"),
        ("admin:ada@a.org", "restart", "server", "done"),
    ]
    (together,) = [records for records in writes if any(isinstance(record, Switched) for record in records)]
    assert any(isinstance(record, audit.Record) for record in together)


async def test_what_the_api_did_or_refused_by_itself_is_in_the_trail_too(coordinator):
    coordinator.note("admin:ada@a.org", "login", "from:10.0.0.9")
    coordinator.note("stranger", "login", "from:10.0.0.9", refusal="the login cannot be read")
    await coordinator.loop.settled()
    lines = [line.record async for line in coordinator.trail(0)]
    assert [(line.actor, line.outcome) for line in lines] == [
        ("admin:ada@a.org", "done"),
        ("stranger", "refused: the login cannot be read"),
    ]


class Lost:
    """A right that is there when a call begins, and gone at its effect."""

    def act(self, effect):
        raise NotAllowed("ada@a.org does not have the right to do this")

    check = act


CALLS = {
    "set_site": lambda coordinator, grant: coordinator.set_site(grant, "site-1", enabled=False),
    "revoke_site": lambda coordinator, grant: coordinator.revoke_site(grant, "site-1"),
    "revoke_admin": lambda coordinator, grant: coordinator.revoke_admin(grant, "ada@a.org"),
    "abort": lambda coordinator, grant: coordinator.abort(grant, J),
    "delete": lambda coordinator, grant: coordinator.delete(grant, J),
    "shutdown": lambda coordinator, grant: coordinator.shutdown(grant, "server", restart=False),
    "submit": lambda coordinator, grant: coordinator.submit(grant, b""),
}


def test_every_call_that_has_an_effect_is_in_this_matrix():
    found = {name for name, it in vars(ServerCoordinator).items() if "grant" in getattr(it, "__annotations__", {})}
    assert found == set(CALLS)


@pytest.mark.parametrize("call", CALLS.values(), ids=CALLS.keys())
async def test_what_somebody_may_not_do_any_more_is_not_done(coordinator, call):
    coordinator.membership.now.participants["ada@a.org"] = Participant("admin", "a", "project_admin")
    job = await running(coordinator)
    if call is CALLS["delete"]:
        await failed(coordinator, "it has ended")
    before, state = job.record, coordinator.loop.machine.state
    with pytest.raises(NotAllowed):
        await call(coordinator, Lost())
    await coordinator.loop.settled()
    assert (job.record, coordinator.membership.revoked, coordinator.ending.event.is_set()) == (before, {}, False)
    assert J in state.jobs
    assert all(site.enabled and site.connected for site in state.sites.values())
    assert list(coordinator.audit.read(0, 9)) == []
