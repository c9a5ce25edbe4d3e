"""What a coordinator has to do for the REST API, whether it is a server's or the one in memory that tests use."""

import asyncio
import time
from contextlib import aclosing, asynccontextmanager

import numpy as np
import pytest

from convoy.admin.changes import MAX_CHANGES
from convoy.admin.grant import Granted
from convoy.admin.port import Person
from convoy.control import effects, events, points
from convoy.control.points import Point
from convoy.control.records import SiteName
from convoy.errors import NotAllowed, NotFound, Refused, RemoteFault
from convoy.server import following
from convoy.spec.kit import read_kit
from convoy.store import arrays
from convoy.store.report import write_rounds
from convoy.trust import audit, bundle, folders, membership
from convoy.trust.federation import Membership
from tests.admin import memory_coordinator, rest_api
from tests.server.conftest import coordinating

WHO = "lead@a.org"
LEAD = Granted(lambda: Person(WHO, "a", "lead"), lambda right: True)
SITES = ["site-1", "site-2"]
UNKNOWN = "f" * 32
TRAIN = """
import numpy as np
import convoy

def initial():
    return {"w": np.zeros(2, np.float32)}

@convoy.train
def train(task):
    return convoy.Reply(task.model, weight=1)
"""


class Lost:
    """A right that is there when a call begins, and gone at its effect."""

    def act(self, effect):
        raise NotAllowed(f"{WHO} does not have the right to do this")

    check = act


LOST = Lost()


class Memory:
    """The coordinator in memory; `may_go` holds its jobs before their first round."""

    def __init__(self, fake):
        self.coordinator, self.may_go = fake, fake.may_go

    async def note(self, count):
        """Write so many records into the trail."""
        last = None
        for number in range(count):
            words = {"actor": f"admin:{WHO}", "action": "submit", "object": f"job:{number}", "outcome": "done"}
            self.coordinator.entries.append(last := audit.following(last, project="clinics", at=number, **words))


class Server:
    """A server's coordinator over a real loop; sites and the workflow play along, and train nothing."""

    def __init__(self):
        self.coordinator, self.may_go, self._flows = None, asyncio.Event(), {}

    def perform(self, effect):
        match effect:
            case effects.SendStart(site=site, job=job):
                self._soon(events.MemberReady(job, site))
            case effects.SendStop(site=site, job=job):
                self._soon(events.MemberStopped(job, site))
            case effects.RunFlow(job=job):
                self._flows[job] = asyncio.create_task(self._flow(job))
            case effects.StopFlow(job=job):
                self._flows[job].cancel()
            case effects.KeepResults(job=job):
                self._flows["results", job] = asyncio.create_task(self._keep(job))
            case effects.Sweep(job=job):
                self.coordinator.following.logs_of(job).wake()
            case effects.Retire(job=job):
                self._soon(events.Retired(job))

    def _soon(self, event):
        asyncio.get_running_loop().call_soon(self.coordinator.loop.post, event)

    async def _flow(self, job):
        """Make three rounds of one model, of which each site says a line."""
        made, files = self.coordinator, self.coordinator.workspace.job(job)
        model = arrays.save(files.blobs, "test", {"w": np.zeros(2, np.float32)})
        made.loop.post(events.CommitAsked(job, 0, model, {}, False))
        await self.may_go.wait()
        for number in (1, 2, 3):
            for site in SITES:
                line = b"2026-11-23T20:31:02.123Z round\n"
                made.following.logs_of(job).append(site, (number - 1) * len(line), line)
                told = Point({"loss": 1 / number, "accuracy": 1 - 1 / number}, round=number, at=1.5, number=number - 1)
                made.following.logs_of(job).points.append(site, points.write(told))
            made.loop.post(events.CommitAsked(job, number, model, {"loss": 1 / number}, False))
        made.loop.post(events.FlowDone(job))

    async def _keep(self, job):
        made = self.coordinator
        files = made.workspace.job(job)
        write_rounds(made.reader.history.every_round(job), files.drafts)
        await made.results.keep(made.loop.machine.state.jobs[job], files, print)
        made.loop.post(events.ResultsKept(job))

    async def note(self, count):
        """Write so many records into the trail."""
        for number in range(count):
            self.coordinator.note(f"admin:{WHO}", "submit", f"job:{number}")
        await self.coordinator.loop.settled()


@pytest.fixture(scope="module")
def prod(tmp_path_factory):
    """The kits of a project."""
    return rest_api.provisioned(tmp_path_factory.mktemp("provisioned"))


@asynccontextmanager
async def in_memory(folder, known):
    """Give the coordinator that tests of the REST API use."""
    made = Memory(memory_coordinator.Fake(known, folder))
    made.may_go.clear()
    yield made
    for task in made.coordinator.running.values():
        task.cancel()


@asynccontextmanager
async def at_a_server(folder, known):
    """Give a server's coordinator, with both sites connected."""
    made = Server()
    async with coordinating(folder, known, made.perform) as made.coordinator:
        for number in range(3):
            made.coordinator.notes(None, "warning", {"event": f"warning {number}"})
        for site in SITES:
            joined = events.SiteJoined(SiteName(site), events.Capacity(4, 1 << 30, 0), "0", frozenset())
            made.coordinator.loop.post(joined)
        yield made
        for task in made._flows.values():
            task.cancel()


@pytest.fixture(params=[in_memory, at_a_server], ids=["memory", "server"])
async def world(request, tmp_path, prod):
    """A coordinator of two sites, of each kind, and what lets its jobs go on."""
    kit = read_kit(prod / "server")
    known = Membership(membership.current(kit)[0], kit.root_file.read_bytes())
    async with request.param(tmp_path, known) as made:
        yield made


@pytest.fixture
def coordinator(world):
    """The coordinator itself."""
    return world.coordinator


@pytest.fixture
def signed(tmp_path, prod):
    """Return a function that packs a job of a name, signed by the lead."""

    def pack(name="tumours"):
        folder = rest_api.job_folder(tmp_path / "folders", name)
        (folder / "train.py").write_text(TRAIN)
        (folder / "job.yaml").write_text((folder / "job.yaml").read_text() + "model: train.py:initial\n")
        files, kit = folders.gather(folder), read_kit(prod / WHO)
        return bundle.pack(
            files,
            sites=folders.targets(files),
            project="clinics",
            submitter=WHO,
            key_pem=kit.key_file.read_bytes(),
            cert_pem=kit.certificate,
            now=time.time(),
        )

    return pack


async def ended(coordinator, job):
    """Return all that a watch says until the job has ended."""
    async with aclosing(coordinator.watch(job, -1)) as items:
        return [item async for item in items]


async def bytes_of(chunks):
    """Return all bytes of an answer."""
    return b"".join([chunk async for chunk in chunks])


async def test_a_job_is_taken_from_whoever_submits_it_and_once(coordinator, signed):
    data = signed()
    job = await coordinator.submit(LEAD, data)
    assert (job.name, job.submitter, job.org) == ("tumours", WHO, "a")
    assert (await coordinator.submit(LEAD, data)).id == job.id
    assert [one.id for one in (await coordinator.jobs()).jobs] == [job.id]
    assert await coordinator.owner(job.id) == (WHO, "a")


async def test_a_bundle_comes_back_as_it_was_submitted(coordinator, signed):
    data = signed()
    job = await coordinator.submit(LEAD, data)
    assert await bytes_of(coordinator.bundle(job.id)) == data


async def test_a_bundle_that_is_none_is_refused_and_leaves_nothing(coordinator):
    with pytest.raises(RemoteFault):
        await coordinator.submit(LEAD, b"no bundle")
    assert (await coordinator.jobs()).jobs == []


async def test_jobs_are_listed_newest_first(coordinator, signed):
    made = [(await coordinator.submit(LEAD, signed(name))).id for name in ("one", "two", "three")]
    assert [job.id for job in (await coordinator.jobs()).jobs] == made[::-1]


async def test_a_job_that_is_not_there_is_not_found(coordinator):
    async def first(items):
        async with aclosing(items):
            return await anext(items)

    with pytest.raises(NotFound):
        await coordinator.owner(UNKNOWN)
    for asked in (
        coordinator.job(UNKNOWN),
        coordinator.abort(LEAD, UNKNOWN),
        coordinator.delete(LEAD, UNKNOWN),
        first(coordinator.watch(UNKNOWN, -1)),
        first(coordinator.logs(UNKNOWN, None, False)),
        first(coordinator.points(UNKNOWN, None, "", -1, False)),
        first(coordinator.bundle(UNKNOWN)),
        first(coordinator.result(UNKNOWN, "model.safetensors")),
    ):
        with pytest.raises(NotFound):
            await asked


async def test_a_watch_says_how_a_job_is_at_once_then_each_round_once_until_its_end(world, coordinator, signed):
    job = await coordinator.submit(LEAD, signed())
    async with aclosing(coordinator.watch(job.id, -1)) as items:
        first = await anext(items)
        assert first.job.id == job.id
        world.may_go.set()
        said = [first, *[item async for item in items]]
    rounds = [made.round for item in said for made in item.rounds]
    assert rounds == sorted(set(rounds))
    assert {1, 2, 3} <= set(rounds)
    assert said[-1].job.state == "completed"
    assert [item.job.state for item in await ended(coordinator, job.id)] == ["completed"]


async def test_a_job_in_full_has_its_rounds_and_what_it_left(world, coordinator, signed):
    world.may_go.set()
    job = await coordinator.submit(LEAD, signed())
    await ended(coordinator, job.id)
    detail = await coordinator.job(job.id)
    assert detail.job.state == "completed"
    assert detail.spec["name"] == "tumours"
    assert [member.site for member in detail.members] == SITES
    assert [made.metrics for made in detail.rounds if made.round == 2] == [{"loss": 0.5}]
    assert "model.safetensors" in detail.results
    brief = await coordinator.job(job.id, brief=True)
    rounds = [made.model_copy(update={"took_part": [], "left_out": []}) for made in detail.rounds]
    members = [member.model_copy(update={"cost": None}) for member in detail.members]
    assert brief == detail.model_copy(update={"members": members, "rounds": rounds})
    for name in detail.results:
        assert await bytes_of(coordinator.result(job.id, name))
    with pytest.raises(NotFound):
        await bytes_of(coordinator.result(job.id, "nothing"))


async def test_rounds_may_be_told_of_some_sites_alone_and_count_all(world, coordinator, signed):
    world.may_go.set()
    job = await coordinator.submit(LEAD, signed())
    await ended(coordinator, job.id)
    for made in (await coordinator.rounds(job.id, 0, 10)).rounds:
        whole = [it.site for it in (*made.took_part, *made.left_out)]
        (one,) = (await coordinator.rounds(job.id, made.round - 1, 1, ["site-2", "nowhere"])).rounds
        assert [it.site for it in (*one.took_part, *one.left_out)] == [site for site in whole if site == "site-2"]
        assert (one.took_part_count, one.left_out_count) == (len(made.took_part), len(made.left_out))


async def test_logs_are_those_of_all_sites_or_of_one_and_follow_a_job_to_its_end(world, coordinator, signed):
    job = await coordinator.submit(LEAD, signed())
    assert [line async for line in coordinator.logs(job.id, None, False)] == []

    async def follow(site):
        return [line.site async for line in coordinator.logs(job.id, site, True)]

    following = asyncio.gather(follow(None), follow("site-2"))
    world.may_go.set()
    every, one = await following
    assert sorted(every) == ["site-1"] * 3 + ["site-2"] * 3
    assert one == ["site-2"] * 3
    assert sorted([line.site async for line in coordinator.logs(job.id, None, False)]) == sorted(every)
    with pytest.raises(NotFound):
        await anext(coordinator.logs(job.id, "nowhere", False))


async def test_live_metrics_are_those_of_all_sites_or_of_one_and_follow_a_job_to_its_end(world, coordinator, signed):
    job = await coordinator.submit(LEAD, signed())
    assert [point async for point in coordinator.points(job.id, None, "", -1, False)] == []

    async def follow(site, key="", after=-1, live=True):
        found = [point async for point in coordinator.points(job.id, site, key, after, live)]
        return [(point.site, point.number, point.round, sorted(point.values)) for point in found]

    following = asyncio.gather(follow(None), follow("site-2", "l*"))
    world.may_go.set()
    every, one = await following
    both = ["accuracy", "loss"]
    assert sorted(every) == [(site, number, number + 1, both) for site in SITES for number in range(3)]
    assert one == [("site-2", number, number + 1, ["loss"]) for number in range(3)]
    assert sorted(await follow(None, live=False)) == sorted(every)
    assert await follow("site-1", "acc*", 1, live=False) == [("site-1", 2, 3, ["accuracy"])]
    assert await follow(None, "nothing", live=False) == []
    with pytest.raises(NotFound):
        await anext(coordinator.points(job.id, "nowhere", "", -1, False))


async def test_an_abort_returns_when_the_job_has_ended_and_names_who_asked(coordinator, signed):
    job = await coordinator.submit(LEAD, signed())
    found = await coordinator.abort(LEAD, job.id)
    assert (found.state, found.cause) == ("aborted", f"aborted by {WHO}")
    with pytest.raises(Refused):
        await coordinator.abort(LEAD, job.id)


async def test_a_job_is_forgotten_once_it_has_ended_and_not_before(world, coordinator, signed):
    job = await coordinator.submit(LEAD, signed())
    with pytest.raises(Refused):
        await coordinator.delete(LEAD, job.id)
    world.may_go.set()
    await ended(coordinator, job.id)
    await coordinator.delete(LEAD, job.id)
    assert (await coordinator.jobs()).jobs == []
    with pytest.raises(NotFound):
        await coordinator.job(job.id)


async def test_sites_are_listed_by_name_and_switched_and_revoked(coordinator):
    assert [(site.name, site.org, site.enabled) for site in coordinator.sites()] == [
        ("site-1", "a", True),
        ("site-2", "b", True),
    ]
    assert not (await coordinator.set_site(LEAD, "site-2", enabled=False)).enabled
    assert [site.enabled for site in coordinator.sites()] == [True, False]
    assert (await coordinator.set_site(LEAD, "site-2", enabled=True)).enabled
    assert (await coordinator.revoke_site(LEAD, "site-1")).revoked_at > 0
    assert [bool(site.revoked_at) for site in coordinator.sites()] == [True, False]


async def test_who_follows_the_federation_gets_an_item_at_once_and_after_each_kind_of_change(
    coordinator, signed, monkeypatch
):
    monkeypatch.setattr(following, "PAUSE_S", 0.0)
    everybody = Granted(lambda: Person("root@a.org", "a", "project_admin"), lambda right: True)
    async with aclosing(coordinator.changes()) as items:
        told = [(await anext(items)).number]
        job = await coordinator.submit(LEAD, signed())
        told.append((await anext(items)).number)
        for asked in (
            lambda: coordinator.abort(LEAD, job.id),
            lambda: coordinator.delete(LEAD, job.id),
            lambda: coordinator.set_site(LEAD, "site-2", enabled=False),
            lambda: coordinator.revoke_site(LEAD, "site-2"),
            lambda: coordinator.revoke_admin(everybody, "look@a.org"),
        ):
            await asked()
            told.append((await anext(items)).number)
    assert told == sorted(set(told))


async def test_a_slow_reader_hears_of_many_changes_as_of_one(coordinator, monkeypatch):
    monkeypatch.setattr(following, "PAUSE_S", 0.0)
    async with aclosing(coordinator.changes()) as items:
        first = await anext(items)
        for _ in range(50):
            await coordinator.set_site(LEAD, "site-2", enabled=False)
            await coordinator.set_site(LEAD, "site-2", enabled=True)
        second = await anext(items)
        assert second.number >= first.number + 100
        nothing = asyncio.ensure_future(anext(items))
        await asyncio.wait({nothing}, timeout=0)
        assert not nothing.done()
        await coordinator.set_site(LEAD, "site-2", enabled=False)
        assert (await nothing).number > second.number


async def test_how_sites_were_is_remembered_since_the_start_and_bounded(coordinator):
    found = coordinator.presence()
    assert found.since <= found.now
    assert [site.site for site in found.sites] == SITES
    assert [site.at[0] for site in found.sites] == [found.since] * 2
    assert [site.standing[-1] for site in found.sites] == ["connected"] * 2
    for _ in range(MAX_CHANGES):
        await coordinator.set_site(LEAD, "site-2", enabled=False)
        await coordinator.set_site(LEAD, "site-2", enabled=True)
    await coordinator.set_site(LEAD, "site-2", enabled=False)
    await coordinator.revoke_site(LEAD, "site-1")
    one, two = coordinator.presence().sites
    assert one.standing[-1] == "revoked"
    assert two.standing[-1] == "disabled"
    assert len(two.at) == MAX_CHANGES
    assert two.at == sorted(two.at)


async def test_who_is_not_there_is_not_found(coordinator):
    for asked in (
        coordinator.set_site(LEAD, "nowhere", enabled=False),
        coordinator.revoke_site(LEAD, "nowhere"),
        coordinator.revoke_admin(LEAD, "nobody@a.org"),
        coordinator.revoke_admin(LEAD, "site-1"),
        coordinator.shutdown(LEAD, "nowhere", restart=False),
    ):
        with pytest.raises(NotFound):
            await asked


async def test_nothing_is_done_for_somebody_who_has_lost_the_right(world, coordinator, signed):
    data = signed()
    with pytest.raises(NotAllowed):
        await coordinator.submit(LOST, data)
    assert (await coordinator.jobs()).jobs == []
    job = await coordinator.submit(LEAD, data)
    for asked in (
        coordinator.abort(LOST, job.id),
        coordinator.set_site(LOST, "site-1", enabled=False),
        coordinator.revoke_site(LOST, "site-1"),
        coordinator.revoke_admin(LOST, WHO),
        coordinator.shutdown(LOST, "server", restart=False),
    ):
        with pytest.raises(NotAllowed):
            await asked
    world.may_go.set()
    assert (await ended(coordinator, job.id))[-1].job.state == "completed"
    with pytest.raises(NotAllowed):
        await coordinator.delete(LOST, job.id)
    assert [one.id for one in (await coordinator.jobs()).jobs] == [job.id]
    assert [(site.enabled, site.revoked_at) for site in coordinator.sites()] == [(True, 0.0)] * 2


async def test_the_server_in_one_look_counts_jobs_and_sites(coordinator, signed):
    await coordinator.submit(LEAD, signed())
    found = coordinator.status()
    assert (found.project, found.jobs_running, found.sites_known, found.problem) == ("clinics", 1, 2, "")


async def test_problems_are_the_newest_and_the_oldest_of_them_comes_first(coordinator):
    every = [line.text for line in coordinator.problems(100)]
    assert len(every) == 3
    assert [line.text for line in coordinator.problems(2)] == every[1:]


async def test_the_trail_begins_where_it_is_asked_to(world, coordinator):
    await world.note(4)
    every = [line.record.seq async for line in coordinator.trail(0) if line.record is not None]
    assert every == [0, 1, 2, 3]
    assert [line.record.seq async for line in coordinator.trail(2) if line.record is not None] == every[2:]


async def test_the_newest_records_of_the_trail_come_first_page_by_page(world, coordinator):
    await world.note(4)
    first = await coordinator.records(audit.Search(), audit.MAX_NUMBER, 3)
    assert [it.seq for it in first.records] == [3, 2, 1]
    second = await coordinator.records(audit.Search(), first.next, 3)
    assert ([it.seq for it in second.records], second.next) == ([0], 0)
    assert (await coordinator.records(audit.Search(), 0, 3)).records == []


@pytest.mark.parametrize(
    ("wanted", "found"),
    [
        ({"actor": "LEAD@a"}, [3, 2, 1, 0]),
        ({"actor": "lead%"}, []),
        ({"action": "Submit"}, [3, 2, 1, 0]),
        ({"action": "sub"}, []),
        ({"object": "JOB:2"}, [2]),
        ({"object": "job_2"}, []),
        ({"outcome": "do"}, [3, 2, 1, 0]),
        ({"outcome": "one"}, []),
        ({"text": "job:1"}, [1]),
        ({"text": "nothing"}, []),
        ({"until": 0}, []),
        ({"since": audit.MAX_NUMBER}, []),
        ({"actor": "lead", "object": "3", "text": "done"}, [3]),
    ],
)
async def test_records_are_found_by_what_they_say(world, coordinator, wanted, found):
    await world.note(4)
    page = await coordinator.records(audit.Search(**wanted), audit.MAX_NUMBER, 100)
    assert [it.seq for it in page.records] == found


async def test_everybody_who_may_log_in_is_listed_with_their_revocation(coordinator):
    everybody = Granted(lambda: Person("root@a.org", "a", "project_admin"), lambda right: True)
    await coordinator.revoke_admin(everybody, WHO)
    people = {it.name: it for it in coordinator.people()}
    assert sorted(people) == sorted(rest_api.ROLES)
    assert (people[WHO].org, people[WHO].role) == ("a", "lead")
    assert [name for name, it in people.items() if it.revoked_at] == [WHO]
