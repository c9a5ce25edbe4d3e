"""When the federation in memory hears of visits: those of this process together, those of workers one by one."""

import asyncio
from contextlib import nullcontext
from functools import partial

import numpy as np
import pytest

from convoy.model.arrays import Model
from convoy.sim.federation import Federation, Setting
from convoy.sim.visits import Visited

START = {"w": np.zeros(2)}


class Engine:
    """Does visits by a function of the site's name."""

    def __init__(self, do, *, inside):
        self.inside, self.do, self.visited = inside, do, []

    working = staticmethod(nullcontext)

    def start(self, visit):
        return partial(self.done, visit.site)

    async def done(self, site):
        self.visited.append(site)
        await self.do(site)
        return Visited(Model(START))


def federation(do, sites, *, inside):
    engine = Engine(do, inside=inside)
    return Federation(Setting("test", {}, "", sites), engine, print, repeats=True), engine.visited


async def once(fleet, hear=lambda site: None):
    async for round_ in fleet.rounds(1):
        async for update in fleet.ask("train", round_.model):
            hear(update.site)
        await round_.commit(round_.model)


async def test_visits_before_one_that_ends_the_simulation_are_not_done_again_when_the_workflow_is_run_again():
    ends = [OSError("the disk is full")]

    async def do(site):
        if site == "b" and ends:
            raise ends.pop()

    made, visited = federation(do, "abc", inside=True)
    with pytest.raises(OSError, match="full"):
        await made.run(once, lambda: START)
    await made.run(once, lambda: START)
    assert visited == ["a", "b", "b", "c"]
    assert [site for site, _ in made.rounds[1].took_part] == ["a", "b", "c"]


async def test_a_workflow_hears_of_a_visit_of_a_worker_while_that_of_another_one_is_waited_for():
    heard = asyncio.Event()

    async def do(site):
        if site == "b":
            await heard.wait()

    made, _ = federation(do, "ab", inside=False)
    async with asyncio.timeout(5):
        await made.run(partial(once, hear=lambda _: heard.set()), lambda: START)
    assert [site for site, _ in made.rounds[1].took_part] == ["a", "b"]
