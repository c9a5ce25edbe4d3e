"""What the server's coordinator says of jobs with many sites and rounds, and of those that the ledger alone knows."""

from contextlib import aclosing
from dataclasses import replace

import pytest

from convoy.admin.grant import Granted
from convoy.admin.port import Person
from convoy.control import effects, events
from convoy.control.clock import Now
from convoy.control.records import Job, JobId, Question, Round, SiteName
from convoy.control.state import LiveSite
from convoy.errors import BadInput, NotFound, Refused, RemoteFault, Unreachable
from convoy.server import reading
from convoy.server.flows import Flows
from convoy.spec.job import read_job
from convoy.store.history import Past

J = JobId("a" * 32)
ADA = Granted(lambda: Person("ada@a.org", "a", "lead"), lambda right: True)
SPEC = read_job("name: tumours\ntrainer: train.py\nwith: {min_sites: 2}\n", "job.yaml").to_json()
JOB = Job(J, "tumours", "ada@a.org", "a", "d" * 64, 1, SPEC, "submitted", "", 1.0)


@pytest.fixture
def retiring(coordinator):
    """A coordinator that lets go of what has ended, as a server does."""
    loop = coordinator.loop

    def perform(effect):
        if isinstance(effect, effects.Retire):
            loop.post(events.Retired(effect.job))

    loop._perform = perform
    return coordinator


async def running(coordinator, sites=2):
    """Submit a job that all sites take, and commit its initial model."""
    loop = coordinator.loop
    for number in range(1, sites + 1):
        name = SiteName(f"site-{number}")
        loop.machine.state.sites.setdefault(name, LiveSite(name))
        loop.post(events.SiteJoined(name, events.Capacity(4, 1 << 30, 0), "0", frozenset()))
    loop.post(events.Submitted(JOB))
    await loop.settled()
    loop.post(events.CommitAsked(J, 0, "ab" * 32, {}, False))
    await loop.settled()


async def commit(coordinator, number):
    coordinator.loop.post(events.CommitAsked(J, number, "ab" * 32, {"loss": 1.0}, number == 2))
    await coordinator.loop.settled()


async def end(coordinator):
    loop = coordinator.loop
    loop.post(events.FlowDone(J))
    for site in list(loop.machine.state.sites):
        loop.post(events.MemberStopped(J, site))
    loop.post(events.ResultsKept(J, ""))
    await loop.settled()
    await loop.settled()  # what the first one made happen


async def test_a_job_that_has_ended_is_in_the_ledger_alone_and_is_shown_as_before(retiring):
    await running(retiring)
    for number in (1, 2, 3):
        await commit(retiring, number)
    before = await retiring.job(J)
    await end(retiring)
    assert J not in retiring.loop.machine.state.jobs
    detail = await retiring.job(J)
    assert (detail.job.state, detail.job.round, detail.job.metrics) == ("completed", 3, {"loss": 1.0})
    assert detail.rounds == before.rounds
    assert [member.state for member in detail.members] == ["ended", "ended"]
    assert [job.id for job in (await retiring.jobs()).jobs] == [J]
    assert await retiring.owner(J) == ("ada@a.org", "a")
    async with aclosing(retiring.watch(J, 1)) as items:
        told = [(item.job.state, item.more, [made.round for made in item.rounds]) async for item in items]
    assert told == [("completed", False, [2, 3])]
    with pytest.raises(Refused, match="has ended already"):
        await retiring.abort(ADA, J)


async def test_a_job_that_a_site_still_holds_stays_in_memory_until_the_site_says_that_it_stopped(retiring):
    await running(retiring)
    retiring.loop.post(events.Broken(J, "IndexError: no", "Traceback"))
    await retiring.loop.settled()
    assert J in retiring.loop.machine.state.jobs
    for site in ("site-1", "site-2"):
        retiring.loop.post(events.MemberStopped(J, SiteName(site)))
    await retiring.loop.settled()
    await retiring.loop.settled()
    assert J not in retiring.loop.machine.state.jobs
    assert (await retiring.job(J)).job.state == "failed"
    assert retiring.loop.machine.state.ended == {"failed": 1}


async def test_a_job_that_has_ended_is_deleted_and_its_id_may_come_again(retiring):
    await running(retiring)
    await end(retiring)
    await retiring.delete(ADA, J)
    with pytest.raises(NotFound):
        await retiring.job(J)
    assert (await retiring.jobs()).jobs == []
    await running(retiring)
    assert (await retiring.job(J)).job.state == "running"


@pytest.mark.parametrize("job", ["b" * 32, "../../etc", "", "a" * 31])
async def test_a_job_that_is_not_there_is_not_found(coordinator, job):
    for call in (
        coordinator.owner(job),
        coordinator.job(job),
        coordinator.rounds(job, -1, 5),
        coordinator.round(job, 1),
        coordinator.delete(ADA, job),
        anext(coordinator.watch(job, -1)),
    ):
        with pytest.raises(NotFound):
            await call


async def test_a_watcher_that_keeps_up_reads_nothing_and_one_that_is_late_reads_pages(coordinator, monkeypatch):
    await running(coordinator)
    read, reads = coordinator.reader.history.rounds, []

    def counted(_history, job, **asked):
        reads.append(asked)
        return read(job, **asked)

    monkeypatch.setattr(type(coordinator.reader.history), "rounds", counted)
    monkeypatch.setattr(reading, "MAX_ROUNDS", 3)
    async with aclosing(coordinator.watch(J, -1)) as items:
        for number in range(1, 6):
            assert [made.round for made in (await anext(items)).rounds] == [number - 1]
            await commit(coordinator, number)
    assert reads == []
    async with aclosing(coordinator.watch(J, -1)) as items:
        assert [[made.round for made in (await anext(items)).rounds] for _ in range(2)] == [[0, 1, 2], [3, 4, 5]]
    async with aclosing(coordinator.watch(J, 3)) as items:
        assert [made.round for made in (await anext(items)).rounds] == [4, 5]


async def test_a_round_that_is_not_durable_yet_is_told_to_a_watcher_that_comes(coordinator):
    await running(coordinator)
    for number in (1, 2):
        await commit(coordinator, number)
    decided = events.CommitAsked(J, 3, "ab" * 32, {}, False)
    coordinator.loop.machine.step(decided, Now(1.0, 1.0))  # and not written
    async with aclosing(coordinator.watch(J, -1)) as items:
        assert [made.round for made in (await anext(items)).rounds] == [0, 1, 2, 3]
    assert [made.round for made in (await coordinator.job(J)).rounds] == [0, 1, 2, 3]


async def test_what_a_thousand_sites_are_awaited_for_fits_into_a_line(coordinator):
    await running(coordinator, sites=1_000)
    for number in range(1, 1_001):
        coordinator.loop.post(events.MemberReady(J, SiteName(f"site-{number}")))
    coordinator.loop.post(events.Asked(Question(J, "1.0", "train", 1, 3, "ab" * 32, at_least=2)))
    await coordinator.loop.settled()
    line = (await coordinator.jobs()).jobs[0]
    assert (len(line.waiting_for), line.waiting) == (20, 1_000)
    async with aclosing(coordinator.watch(J, 0)) as items:
        assert len((await anext(items)).model_dump_json()) < 2_000


async def test_a_round_of_a_thousand_sites_is_shown_short_in_lists_and_whole_by_itself(coordinator):
    await running(coordinator)
    took = tuple((SiteName(f"site-{number:04}"), 1.0) for number in range(1_000))
    out = tuple((f"left-{number:04}", "late") for number in range(150))
    coordinator.loop._ledger.write([Round(J, 1, "ab" * 32, {}, False, took, out, 1.0)])
    (made,) = (await coordinator.rounds(J, 0, 5)).rounds
    assert (len(made.took_part), made.took_part_count) == (100, 1_000)
    assert (len(made.left_out), made.left_out_count) == (100, 150)
    whole = await coordinator.round(J, 1)
    assert (len(whole.took_part), len(whole.left_out)) == (1_000, 150)


async def test_jobs_come_in_pages_that_do_not_overlap_whatever_comes_in_meanwhile(coordinator):
    jobs = [replace(JOB, id=JobId(f"{n:032x}"), state="failed", submitted_at=1e9 + n // 2 + 0.1) for n in range(9)]
    coordinator.loop._ledger.write(jobs)
    seen, after = [], ""
    while True:
        page = await coordinator.jobs(after=after, limit=2)
        seen += [job.id for job in page.jobs]
        coordinator.loop._ledger.write([replace(JOB, id=JobId("f" * 31 + str(len(seen))), submitted_at=2e9)])
        if not page.next:
            break
        after = page.next
    assert seen == [job.id for job in reversed(jobs)]
    for cursor in ("x", "1.5~", f"{'9' * 40}~{J}", f"1.5~{J[:-1]}"):
        with pytest.raises(BadInput, match="not the `next` of any page"):
            await coordinator.jobs(after=cursor)


async def test_what_a_name_may_mean_comes_with_ids_first_and_what_has_not_ended_before_the_rest(coordinator):
    old = [replace(JOB, id=JobId(f"{n:032x}"), state="failed", submitted_at=1e9 + n) for n in range(300)]
    going = replace(JOB, id=JobId("b" * 32), state="submitted", submitted_at=5.0)
    by_id = replace(JOB, id=JobId("cafe" * 8), name="another", state="failed", submitted_at=6.0)
    coordinator.loop._ledger.write([*old, going, by_id, replace(going, id=JobId("d" * 32), name="tumours-2")])
    found = (await coordinator.jobs(meant="tumours", limit=100)).jobs
    assert [job.id for job in found[:2]] == ["b" * 32, old[-1].id]
    assert {job.name for job in found} == {"tumours"}
    assert [job.id for job in (await coordinator.jobs(meant="cafe")).jobs] == [by_id.id]


class AwayOnce:
    """A ledger whose database is away when it is asked first."""

    def __init__(self, rounds):
        self.rounds, self.asked = rounds, []

    def __call__(self, job, *, after, limit):
        self.asked.append(after)
        if len(self.asked) == 1:
            raise Unreachable("the ledger's database does not answer")
        return [Past(number, {"loss": 0.5}, number == 2) for number in range(after + 1, self.rounds)][:2]


async def test_a_workflow_is_told_each_page_of_its_history_once_and_a_database_that_is_away_is_waited_for(coordinator):
    await running(coordinator)
    for number in (1, 2, 3):
        await commit(coordinator, number)
    past, live = AwayOnce(4), coordinator.loop.machine.state.jobs[J]
    flows = Flows(coordinator.loop.machine.state, coordinator.workspace, *[None] * 7, past)
    assert [(one.round, one.best) for one in (await flows._history(live, -1)).rounds] == [(0, False), (1, False)]
    assert [(one.round, one.best) for one in (await flows._history(live, 1)).rounds] == [(2, True), (3, False)]
    assert past.asked == [-1, -1, 1]
    for after in (1, -1, 4, -2):
        with pytest.raises(RemoteFault, match="out of their order"):
            await flows._history(live, after)
    assert past.asked == [-1, -1, 1]
