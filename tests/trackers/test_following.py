"""What one experiment tracker gets of a job, whatever breaks on the way."""

import asyncio
import threading
from dataclasses import dataclass, field

import pytest

from convoy.errors import Refused, Unreachable
from convoy.trackers import events, following
from convoy.trackers.events import About, End, Place, Point, Round
from convoy.trackers.following import follow
from tests.trackers.memory_tracker import MemoryTracker, Store

ABOUT = About("j" * 32, "tumours", "trials", 1.0, {"seed": "7"}, {"convoy.job": "j" * 32})
ROUNDS = [Round(number, float(number), {"accuracy": number / 10}, best=number == 2) for number in range(1, 6)]
POINTS = [Point(site, number, 1.0, 1, {"loss": 1.0}, number) for number in range(50) for site in ("a", "b")]


@dataclass
class MemorySource:
    """Implements `port.Source`: a job that has ended; its streams may break early, so many times."""

    breaks: int = 0
    read: int = 0
    fails: Exception | None = None
    asked: list = field(default_factory=list)

    async def about(self):
        return ABOUT

    async def progress(self, after):
        self.asked.append(after)
        for made in ROUNDS:
            if made.number > after:
                yield made
        if self.fails is not None:
            raise self.fails
        if self.breaks:
            self.breaks -= 1
            return
        yield End("completed", "", 9.0, {"convoy.state": "completed"})

    async def points(self, after):
        for one in POINTS:
            self.read += 1
            yield one

    async def results(self, folder):
        (folder / "model.safetensors").write_bytes(b"model")
        return folder


def complete(store):
    return (
        store.curves["", "accuracy"] == [(made.number, made.number / 10) for made in ROUNDS]
        and all(store.curves[site, "loss"] == [(number, 1.0) for number in range(50)] for site in "ab")
        and (store.state, store.results, store.place.best) == ("completed", ["model.safetensors"], 2)
    )


async def test_everything_arrives_once_and_then_there_is_nothing_to_do():
    store, said = Store(), []
    done = await follow(MemorySource(), MemoryTracker(store), said.append)
    assert complete(store)
    assert (done.state, done.place.round, done.new) == ("completed", 5, 105)
    again = await follow(MemorySource(), MemoryTracker(store), said.append)
    assert complete(store)
    assert (again.state, again.new) == ("", 0)
    assert said[-1] == "memory has all of tumours (jjjjjjjj)"


@pytest.mark.parametrize("failures", range(1, 7))
async def test_a_tracker_that_is_away_gets_everything_later_and_nothing_twice(failures, monkeypatch):
    said, pauses = [], []

    async def at_once(seconds):
        pauses.append(seconds)

    monkeypatch.setattr(following.asyncio, "sleep", at_once)
    tracker = MemoryTracker(Store(failures=failures))
    await follow(MemorySource(), tracker, said.append)
    assert complete(tracker.store)
    assert len(pauses) == failures == sum("trying again in" in line for line in said)
    assert tracker.closed == failures + 1


async def test_a_tracker_that_fails_in_the_middle_goes_on_from_its_place(monkeypatch):
    class Flaky(MemoryTracker):
        def write(self, batch):
            if self.store.place.round >= 0:
                self.store.failures = self.store.failures or (1 if not self.closed else 0)
            super().write(batch)

    async def at_once(_seconds):
        return

    monkeypatch.setattr(following.asyncio, "sleep", at_once)
    monkeypatch.setattr(following, "WAITING", 4)
    source, tracker = MemorySource(), Flaky(Store())
    await follow(source, tracker, lambda _: None)
    assert complete(tracker.store)
    assert len(source.asked) == 2
    assert source.asked[1] > -1


async def test_a_stream_that_ends_before_the_job_is_asked_for_again(monkeypatch):
    async def at_once(_seconds):
        return

    monkeypatch.setattr(following.asyncio, "sleep", at_once)
    source, store = MemorySource(breaks=2), Store()
    await follow(source, MemoryTracker(store), lambda _: None)
    assert complete(store)
    assert source.asked == [-1, 5, 5]


async def test_a_slow_tracker_makes_the_streams_wait_and_not_the_memory_grow(monkeypatch):
    monkeypatch.setattr(following, "WAITING", 4)
    may_go, writes = threading.Event(), threading.Event()

    class Slow(MemoryTracker):
        def write(self, batch):
            writes.set()
            may_go.wait()
            super().write(batch)

    source, store = MemorySource(), Store()
    task = asyncio.create_task(follow(source, Slow(store), lambda _: None))
    await asyncio.to_thread(writes.wait)
    for _ in range(100):  # the readers get many turns, and take none of them
        await asyncio.sleep(0)
    assert source.read <= 10
    may_go.set()
    await task
    assert complete(store)


@pytest.mark.parametrize("problem", [Unreachable("no server answers"), Refused("no")])
async def test_an_error_of_the_job_s_server_ends_it(problem):
    tracker = MemoryTracker(Store())
    with pytest.raises(type(problem), match=problem.what):
        await follow(MemorySource(fails=problem), tracker, lambda _: None)
    assert tracker.closed == 1


async def test_results_are_fetched_only_for_a_tracker_that_wants_them():
    class Fetching(MemorySource):
        async def results(self, folder):
            raise AssertionError("nobody wants them")

    store = Store()
    await follow(Fetching(), MemoryTracker(store, wants_results=False), lambda _: None)
    assert (store.state, store.results) == ("completed", [])


async def test_an_error_of_the_tracker_that_is_final_ends_it():
    class Refusing(MemoryTracker):
        def write(self, batch):
            raise Refused("the run was deleted")

    with pytest.raises(Refused, match="the run was deleted"):
        await follow(MemorySource(), Refusing(Store()), lambda _: None)


def test_a_job_yaml_becomes_flat_texts_of_bounded_number_and_length():
    spec = {
        "workflow": "fedavg",
        "with": {"rounds": 3, "inner": {"momentum": 0.9}},
        "sites": ["a", "b"],
        "model": None,
        "trainer": "",
        "config": {str(number): True for number in range(2000)} | {"long": "x" * 9999},
    }
    found = events.params_of(spec)
    assert found["workflow"] == "fedavg"
    assert (found["with.rounds"], found["with.inner.momentum"], found["sites"]) == ("3", "0.9", '["a", "b"]')
    assert "model" not in found
    assert "trainer" not in found
    assert len(found) == events.MAX_PARAMS
    assert found["convoy.params_left_out"] == str(2001 + 4 - 999)
    assert events.text("x" * 9999) == "x" * (events.MAX_TEXT - 1) + "…"


def test_a_place_grows_and_says_what_is_lacking():
    place = Place(2, {"a": 5}, 1).after(events.Batch((ROUNDS[2],), (POINTS[0], POINTS[1])))
    assert place == Place(3, {"a": 5, "b": 0}, 1)
    assert not place.lacks(ROUNDS[2])
    assert place.lacks(ROUNDS[3])
    assert not place.lacks(POINTS[8])
    assert place.lacks(POINTS[3])
