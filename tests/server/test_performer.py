"""What the server does for its state machine: models that are synced while others wait."""

import asyncio
import dataclasses
import errno
import queue

import pytest
import structlog

from convoy.control import effects, events
from convoy.control.records import Job, JobId, Question, SiteName
from convoy.control.state import LiveJob, State
from convoy.node.supervisor import Supervisor
from convoy.server import performer
from convoy.server.files import Workspace
from convoy.server.hub import Hub
from convoy.server.performer import Performer

JOB = JobId("j" * 32)


@pytest.fixture
async def disk(monkeypatch):
    """A disk that says which file it begins to sync, and ends when the test gives it a turn."""
    turns, begun, loop = queue.Queue(), asyncio.Queue(), asyncio.get_running_loop()

    def sync_file(path):
        loop.call_soon_threadsafe(begun.put_nowait, path.name[0])
        problem = turns.get(timeout=30)
        if problem is not None:
            raise problem

    monkeypatch.setattr(performer, "sync_file", sync_file)
    return turns, begun


@pytest.fixture
async def perform(tmp_path):
    """A performer that has a workspace and a supervisor; `said` is what it posts."""
    said = asyncio.Queue()
    async with asyncio.TaskGroup() as group:
        parts = dict.fromkeys(field.name for field in dataclasses.fields(Performer))
        parts |= {
            "workspace": Workspace(tmp_path),
            "unkept": set(),
            "unsynced": {},
            "note": structlog.get_logger(),
            "post": said.put_nowait,
        }
        end = lambda job, error, _: said.put_nowait((job, error))  # noqa: E731
        yield Performer(**parts | {"supervisor": Supervisor(group, end=end)}), said


def sync(round_, model, best=""):
    return effects.SyncModel(JOB, round_, model * 64, best=best * 64)


async def test_where_rounds_are_faster_than_the_disk_only_the_newest_model_waits(perform, disk):
    (performer, said), (turns, begun) = perform, disk
    performer(sync(0, "a"))
    assert await begun.get() == "a"
    for round_, model in enumerate("bcd", 1):
        performer(sync(round_, model))
    turns.put(None)
    assert await said.get() == events.ModelSynced(JOB, 0)
    assert await begun.get() == "d"
    turns.put(None)
    assert await said.get() == events.ModelSynced(JOB, 3)
    assert (begun.empty(), performer.unsynced) == (True, {})


async def test_the_best_model_comes_along_with_the_newest(perform, disk):
    (performer, said), (turns, begun) = perform, disk
    performer(sync(0, "a"))
    performer(sync(1, "b"))
    performer(sync(2, "c", best="b"))
    assert await begun.get() in "ac"
    for _ in range(3):
        turns.put(None)
    while (await said.get()).round < 2:
        pass
    synced = [begun.get_nowait() for _ in range(begun.qsize())]
    assert synced[-1] == "b"


async def test_a_model_that_is_gone_is_passed_over(perform, disk):
    (performer, said), (turns, begun) = perform, disk
    performer(sync(0, "a"))
    assert await begun.get() == "a"
    performer(sync(1, "b"))
    turns.put(FileNotFoundError())
    assert await begun.get() == "b"
    turns.put(None)
    assert await said.get() == events.ModelSynced(JOB, 1)
    assert said.empty()


async def test_a_disk_that_fails_at_one_model_does_not_keep_the_next_one_waiting(perform, disk):
    (performer, said), (turns, begun) = perform, disk
    performer(sync(0, "a"))
    assert await begun.get() == "a"
    performer(sync(1, "b"))
    turns.put(OSError(errno.EIO, "Input/output error"))
    assert await begun.get() == "b"
    turns.put(None)
    assert await said.get() == events.ModelSynced(JOB, 1)
    assert said.empty()


@pytest.mark.parametrize("size", [1, 1 << 26])
async def test_a_job_whose_bundle_the_disk_has_lost_ends_and_its_sites_do_not_wait_for_it(size, perform):
    performer, said = perform
    job = LiveJob(Job(JOB, "n", "ada", "org", "b" * 64, size, "{}", "running", "", 1.0), None)
    state = State(4, {}, {JOB: job})
    dataclasses.replace(performer, state=state)(effects.SendStart(SiteName("site-1"), JOB))
    job, error = said.get_nowait()
    assert (job, "FileNotFoundError" in error) == (JOB, True)


async def test_a_site_is_not_asked_for_what_the_server_cannot_read_and_does_not_pay_for_it(perform):
    performer, said = perform
    site = SiteName("site-1")

    class Unreadable:
        def reference(self, *_):
            raise OSError(errno.EIO, "Input/output error")

    hub = Hub()
    hub.open(site, "process", None)
    asked = Question(JOB, "1.0", 1, "train", "m" * 64)
    dataclasses.replace(performer, hub=hub, transfers=Unreadable())(effects.SendTask(site, asked))
    said = said.get_nowait()
    assert (said.site, said.question) == (site, "1.0")
    assert said.reason == "the server cannot read the model that it is about: Input/output error"
