"""Server optimisers: each follows its paper, is continued after a restart, and has its limit cases."""

import asyncio

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays

import convoy
from convoy import testing
from convoy.flows import optimisers
from tests.flows.dying import dying

SITES = {"a": {"goal": 1.0, "slope": 1.0}, "b": {"goal": 3.0, "slope": 4.0}}
START = {"w": np.zeros(2), "half": np.zeros(3, np.float32)}
FLOATS = st.floats(-1e6, 1e6)


def descend(task):
    """Five steps down a parabola of this site's own."""
    found = task.model.numpy()
    for _ in range(5):
        found = {n: (w - 0.1 * task.data["slope"] * (w - task.data["goal"])).astype(w.dtype) for n, w in found.items()}
    return convoy.Reply(found, weight=task.data["slope"])


def difference(w):
    """The weighted mean of what the sites change, by hand (float64)."""
    ends = []
    for site in SITES.values():
        end = w.copy()
        for _ in range(5):
            end = end - 0.1 * site["slope"] * (end - site["goal"])
        ends.append(end)
    return (1 * ends[0] + 4 * ends[1]) / 5 - w


def fedavgm(server_lr=1.0, momentum=0.9):
    """Hsu et al. (2019), section 4.3: v = beta v + delta, w = w + v, with a rate in front of v."""
    w, v = np.zeros(2), np.zeros(2)
    for _ in range(4):
        v = momentum * v + difference(w)
        w = w + server_lr * v
    return w, {"m/w": v}


def algorithm_2(second, server_lr, beta1, beta2=0.99, tau=1e-3, accumulator=None):
    """Reddi et al. (2021), algorithm 2, its lines in their order."""
    x, m, v = np.zeros(2), np.zeros(2), np.full(2, tau**2 if accumulator is None else accumulator)
    for _ in range(4):
        delta = difference(x)
        m = beta1 * m + (1 - beta1) * delta
        v = {
            "adagrad": v + delta**2,
            "yogi": v - (1 - beta2) * delta**2 * np.sign(v - delta**2),
            "adam": beta2 * v + (1 - beta2) * delta**2,
        }[second]
        x = x + server_lr * m / (np.sqrt(v) + tau)
    return x, {"m/w": m, "v/w": v}


@pytest.mark.parametrize(
    ("workflow", "parameters", "wanted"),
    [
        ("fedavgm", {}, fedavgm()),
        ("fedavgm", {"server_lr": 0.5, "momentum": 0.3}, fedavgm(0.5, 0.3)),
        ("fedadam", {}, algorithm_2("adam", 0.01, 0.9, accumulator=0.0)),
        ("fedadam", {"accumulator": None, "server_lr": 0.1}, algorithm_2("adam", 0.1, 0.9)),
        ("fedyogi", {}, algorithm_2("yogi", 0.01, 0.9)),
        ("fedyogi", {"accumulator": 2.0, "server_lr": 0.1}, algorithm_2("yogi", 0.1, 0.9, accumulator=2.0)),
        ("fedadagrad", {}, algorithm_2("adagrad", 0.1, 0.0)),
        ("fedadagrad", {"beta1": 0.9, "tau": 0.1}, algorithm_2("adagrad", 0.1, 0.9, tau=0.1)),
    ],
)
def test_each_optimiser_follows_its_paper(workflow, parameters, wanted):
    result = testing.run(workflow, descend, sites=SITES, model=START, rounds=4, max_share=1.0, **parameters)
    model, state = wanted
    np.testing.assert_allclose(result.model["w"], model, rtol=1e-12)
    assert {name for name in result.state if name.endswith("/w")} == set(state)
    for name, array in state.items():
        np.testing.assert_allclose(result.state[name], array, rtol=1e-12)


@given(arrays.arrays(np.float64, 3, elements=FLOATS), arrays.arrays(np.float64, 3, elements=FLOATS))
def test_fedavgm_without_momentum_and_with_a_rate_of_1_is_fedavg_up_to_one_rounding(model, mean):
    moved, _ = optimisers.step({"w": model}, {"w": mean}, {}, optimisers.Momentum(1.0, 0.0))
    larger = np.maximum(np.maximum(abs(model), abs(mean)), np.finfo(float).tiny)
    assert (abs(moved["w"] - mean) <= 2 * np.spacing(larger)).all()


def test_fedavgm_without_momentum_has_the_float32_bits_of_fedavg():
    start = {"half": np.zeros(3, np.float32)}
    plain = testing.run("fedavg", descend, sites=SITES, model=start, rounds=5)
    moved = testing.run("fedavgm", descend, sites=SITES, model=start, rounds=5, momentum=0.0)
    assert moved.model["half"].tobytes() == plain.model["half"].tobytes()


@given(st.floats(-1e3, 1e3), st.integers(1, 30))
@settings(deadline=None)
def test_steps_of_adagrad_become_shorter_and_the_second_moment_of_yogi_stays_above_0(apart, rounds):
    def steps(second):
        state, found = {}, []
        for _ in range(rounds):
            rule = optimisers.Adaptive(second, 1.0, 0.0, 0.99, 0.001, None)
            moved, state = optimisers.step({"w": np.zeros(1)}, {"w": np.full(1, apart)}, state, rule)
            found.append(abs(moved["w"][0]))
        return found, state["v/w"][0]

    shrinking, _ = steps(optimisers.adagrad)
    assert shrinking == sorted(shrinking, reverse=True)
    assert steps(optimisers.yogi)[1] > 0


@pytest.mark.parametrize("workflow", ["fedavgm", "fedadam", "fedyogi", "fedadagrad"])
@pytest.mark.parametrize("last", [1, 4])
def test_an_optimiser_that_is_stopped_in_the_middle_of_a_round_continues_with_the_same_bits(workflow, last):
    whole = testing.run(workflow, descend, sites=SITES, model=START, rounds=6)
    made = testing.Federation(descend, sites=SITES, model=START)
    with pytest.raises(RuntimeError, match="killed"):
        asyncio.run(made.run(dying(workflow, last, rounds=6)))
    assert made.job.committed == last - 1
    result = asyncio.run(made.run(workflow, rounds=6))
    assert (result.model.digest, result.state.digest) == (whole.model.digest, whole.state.digest)
    assert result.history == whole.history
