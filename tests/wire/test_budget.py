"""A budget: what fits is heard at once, what does not is heard later, and what never ends is not heard."""

import asyncio

import pytest
from hypothesis import given
from hypothesis import strategies as st

from convoy.errors import RemoteFault
from convoy.wire.budget import REST_S, Budget, Budgets, Rate

RATE = Rate(10, 1000, 2)  # 20 messages and 2,000 bytes at once


class Clock:
    now = 100.0

    def __call__(self):
        return self.now


@pytest.fixture
def clock():
    return Clock()


def test_a_burst_costs_no_time_and_what_comes_after_it_does(clock):
    budget = Budget(RATE, clock)
    assert [budget.pay(0) for _ in range(20)] == [0.0] * 20
    assert budget.pay(0) == pytest.approx(0.1)
    clock.now += 2.1
    assert budget.pay(0) == 0.0


def test_bytes_cost_time_and_never_end_a_peer(clock):
    budget = Budget(RATE, clock)
    assert budget.pay(2000) == 0.0
    for _ in range(100):
        wait = budget.pay(5000)
        assert wait == pytest.approx(5.0)
        clock.now += wait


def test_who_never_says_less_is_cut_off_and_told_why_and_is_heard_again_after_a_rest(clock):
    budget = Budget(RATE, clock)
    began = clock.now

    def say_on():
        while True:
            clock.now += budget.pay(0)

    with pytest.raises(RemoteFault, match="more than 10 messages a second"):
        say_on()
    assert clock.now - began == pytest.approx(RATE.patience_s, abs=3)
    with pytest.raises(RemoteFault):
        budget.pay(0)
    clock.now += REST_S
    assert budget.pay(0) == 0.0


@given(st.lists(st.tuples(st.floats(0, 3), st.integers(0, 3000)), max_size=200))
def test_however_a_peer_spreads_what_it_says_no_more_is_heard_than_its_rate_allows(said):
    clock = Clock()
    budget, began, messages, size = Budget(Rate(10, 1000, 2, 1e9), clock), clock.now, 0, 0
    for pause, length in said:
        clock.now += pause
        clock.now += budget.pay(length)
        messages, size = messages + 1, size + length
        allowed = 2 + clock.now - began
        assert messages <= 10 * allowed + 1e-6
        assert size <= 1000 * allowed + 1e-3


async def test_a_peer_that_is_within_its_budget_gives_others_a_turn_all_the_same():
    budget, turns = Budget(Rate(1e9, 1e9, 1)), []

    async def other():
        for number in range(3):
            turns.append(number)
            await asyncio.sleep(0)

    task = asyncio.create_task(other())
    for _ in range(5):
        await budget.spend(1)
    assert turns == [0, 1, 2]
    await task


def test_of_too_many_peers_those_that_were_not_heard_for_longest_are_forgotten():
    budgets = Budgets(RATE, 2)
    first, second = budgets.of("a"), budgets.of("b")
    assert budgets.of("a") is first
    budgets.of("c")
    assert budgets.of("a") is first
    assert budgets.of("b") is not second
