"""The event loop is measured without a timer: each turn once, and a long one by its length."""

import asyncio
import time

from convoy.node.turns import Turns


def measured(turns):
    (found,) = turns.metrics()
    return dict(found.buckets), found.value


def test_a_turn_that_holds_everything_up_is_counted_with_its_seconds():
    turns = Turns()

    async def main():
        await asyncio.sleep(0)
        before, _ = measured(turns)
        end = time.perf_counter() + 0.3
        while time.perf_counter() < end:  # what a node must never do
            pass
        await asyncio.sleep(0)
        return before

    with asyncio.Runner(loop_factory=lambda: asyncio.SelectorEventLoop(turns)) as runner:
        before = runner.run(main())
    counts, seconds = measured(turns)
    assert counts["+Inf"] - counts["0.25"] == before["+Inf"] - before["0.25"] + 1
    assert seconds >= 0.3


def test_waiting_is_no_turn():
    turns = Turns()
    with asyncio.Runner(loop_factory=lambda: asyncio.SelectorEventLoop(turns)) as runner:
        runner.run(asyncio.sleep(0.3))
        counts, seconds = measured(turns)
    assert counts["+Inf"] < 20  # nothing wakes the loop but the one wait
    assert seconds < 0.3
