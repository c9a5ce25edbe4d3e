"""Cyclic weight transfer: the order of the sites, what each of them begins from, failures, and a restart."""

import asyncio

import numpy as np
import pytest

import convoy
from convoy import testing
from convoy.errors import BadInput
from convoy.flows.fleet import NotEnough
from tests.flows.dying import dying

START = {"w": np.zeros(1)}
DIGIT = {"a": 1, "b": 2, "c": 3, "d": 4}


def write(task):
    """Append this site's digit to the model."""
    return convoy.Reply({"w": task.model["w"] * 10 + DIGIT[task.site]}, weight=2, metrics={"loss": DIGIT[task.site]})


def rows(result):
    """The digits that were written, by round."""
    written = str(int(result.model["w"][0]))
    size = len(written) // result.history[-1]["round"]
    return [written[at : at + size] for at in range(0, len(written), size)]


def test_each_site_trains_what_the_one_before_it_made_in_the_order_of_names():
    result = testing.run("cyclic", write, sites="cab", model=START, rounds=2)
    assert rows(result) == ["123", "123"]
    assert result.history[-1]["metrics"] == {"loss": 2.0}
    assert result.rounds[-1].took_part == (("a", 2.0), ("b", 2.0), ("c", 2.0))


def test_a_random_order_is_another_in_each_round_and_follows_from_the_seed():
    def run(seed):
        made = testing.Federation(write, sites="abcd", model=START, seed=seed)
        return rows(asyncio.run(made.run("cyclic", rounds=3, order="random")))

    orders = run("1")
    assert all(sorted(order) == list("1234") for order in orders)
    assert len(set(orders)) > 1
    assert run("1") == orders != run("2")


def test_a_sample_is_so_many_sites_of_each_round():
    result = testing.run("cyclic", write, sites="abcd", model=START, rounds=3, sample=2, order="random")
    assert [len(set(row)) for row in rows(result)] == [2, 2, 2]


def test_a_site_that_fails_is_skipped_and_too_few_that_trained_are_an_error():
    def train(task):
        return write(task) if task.site != "b" else 1 / 0

    result = testing.run("cyclic", train, sites="abc", model=START, rounds=1, min_sites=2)
    assert rows(result) == ["13"]
    assert dict(result.rounds[-1].left_out).keys() == {"b"}
    with pytest.raises(NotEnough, match="2 of the 3 sites that a round needs trained in round 1"):
        testing.run("cyclic", train, sites="abc", model=START, rounds=1, min_sites=3)


@pytest.mark.parametrize("order", ["name", "random"])
@pytest.mark.parametrize("last", [1, 2, 5])
def test_a_cycle_that_is_stopped_in_its_middle_continues_with_the_same_bits(order, last):
    whole = testing.run("cyclic", write, sites="abcd", model=START, rounds=3, order=order)
    made = testing.Federation(write, sites="abcd", model=START)
    with pytest.raises(RuntimeError, match="killed"):
        asyncio.run(made.run(dying("cyclic", last, rounds=3, order=order)))
    assert asyncio.run(made.run("cyclic", rounds=3, order=order)).model.digest == whole.model.digest


def test_an_order_that_is_none_is_said():
    with pytest.raises(BadInput) as caught:
        testing.run("cyclic", write, sites="ab", model=START, order="alphabetical")
    assert "wanted `name` or `random`" in caught.value.fix
