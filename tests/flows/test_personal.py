"""Ditto, FedDyn and FedNova: what each site keeps or corrects, with the law of each."""

import asyncio
import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import convoy
from convoy import testing
from convoy.errors import BadInput, JobFailed
from convoy.flows.fleet import NotEnough
from convoy.model import steps as amounts
from tests.flows.dying import dying

SITES = {"a": {"goal": 1.0, "slope": 1.0, "n": 1.0}, "b": {"goal": 3.0, "slope": 4.0, "n": 3.0}}
START = {"w": np.zeros(2)}
BEST = (1 * 1 * 1 + 3 * 4 * 3) / (1 * 1 + 3 * 4)  # where the mean slope, weighted by n, is 0
RATE = 0.1


def slope(task, w):
    return task.data["slope"] * (w - task.data["goal"])


def descend(task, w, steps=5, extra=lambda _: 0.0):
    """Return w after steps down a parabola of this site's own."""
    for _ in range(steps):
        w = w - RATE * (slope(task, w) + extra(w))
    return w


def plain(task):
    return convoy.Reply({"w": descend(task, task.model["w"])}, weight=task.data["n"])


def ditto(task):
    mine = convoy.Ditto(task)
    own = descend(task, mine.personal["w"], extra=lambda v: mine.gradient({"w": v})["w"])
    return mine.reply({"w": descend(task, mine.model["w"])}, {"w": own}, weight=task.data["n"])


def dyn(task, steps=5):
    mine = convoy.FedDyn(task)
    w = descend(task, mine.model["w"], steps, lambda w: mine.gradient({"w": w})["w"])
    return mine.reply({"w": w}, weight=task.data["n"])


def uneven(task):
    """Return w after two steps at a, or twenty at b, so short that a round is no drift, and their number."""
    count, w = 2 if task.site == "a" else 20, task.model["w"]
    for _ in range(count):
        w = w - 0.005 * slope(task, w)
    return w, count


def nova(task):
    mine, (w, count) = convoy.FedNova(task), uneven(task)
    return mine.reply({"w": w}, steps=count, weight=task.data["n"])


def reached(workflow, train, sites=SITES, rounds=40, **parameters):
    return testing.run(workflow, train, sites=sites, model=START, rounds=rounds, **parameters)


# ---- ditto ----------------------------------------------------------------------------------------------------------
def test_the_common_model_of_ditto_is_that_of_fedavg_to_the_bit():
    assert reached("ditto", ditto, lam=0.7).model.digest == reached("fedavg", plain).model.digest


def test_with_a_lambda_of_0_the_personal_model_is_that_of_training_at_the_site_alone():
    found = reached("ditto", ditto, rounds=6, lam=0.0)
    for site, data in SITES.items():
        alone = reached("fedavg", plain, {site: data}, rounds=6)
        assert found.states[site]["ditto/w"].tobytes() == alone.model["w"].tobytes()


def test_personal_models_lie_between_the_common_one_and_each_sites_own_optimum():
    found = reached("ditto", ditto, lam=1.0, rounds=200)
    for site, data in SITES.items():  # where slope (v - goal) + lam (v - w) is 0
        wanted = (data["slope"] * data["goal"] + found.model["w"]) / (data["slope"] + 1)
        np.testing.assert_allclose(found.states[site]["ditto/w"], wanted, rtol=1e-6)


def test_a_larger_lambda_holds_personal_models_nearer_to_the_common_one():
    runs = [reached("ditto", ditto, lam=lam, rounds=200) for lam in (0.0, 0.5, 5.0)]
    apart = [abs(run.states["a"]["ditto/w"] - run.model["w"]).max() for run in runs]
    assert apart == sorted(apart, reverse=True)
    assert apart[2] < apart[0] / 3


def test_an_evaluation_of_ditto_finds_the_personal_model():
    def evaluate(task):
        return {task.site: float(convoy.Ditto(task).personal["w"][0])}

    found = reached("ditto", {"train": ditto, "evaluate": evaluate}, rounds=3, lam=0.5, evaluate=True)
    before = reached("ditto", ditto, rounds=2, lam=0.5)  # the last round's is kept with its commit
    assert found.history[-1]["metrics"] == {site: before.states[site]["ditto/w"][0] for site in SITES}


# ---- feddyn ---------------------------------------------------------------------------------------------------------
def test_feddyn_reaches_the_optimum_where_fedavg_drifts_away_from_it():
    found = reached("feddyn", lambda task: dyn(task, 40), rounds=150, alpha=0.5)
    np.testing.assert_allclose(found.model["w"], BEST, rtol=1e-5)
    assert abs(reached("fedavg", plain, rounds=150).model["w"][0] - BEST) > 0.1
    for site, data in SITES.items():  # what each site keeps is its own gradient at the optimum
        np.testing.assert_allclose(found.states[site]["w"], data["slope"] * (BEST - data["goal"]), rtol=1e-4)


@settings(max_examples=25, deadline=None)
@given(st.floats(0.05, 5.0), st.integers(1, 6), st.lists(st.floats(0.1, 4.0), min_size=1, max_size=4))
def test_h_of_feddyn_is_the_weighted_mean_of_the_gradients_that_the_sites_keep(alpha, rounds, slopes):
    sites = {f"s{at}": {"goal": float(at), "slope": it, "n": 1.0 + at} for at, it in enumerate(slopes)}
    found = reached("feddyn", dyn, sites, rounds, alpha=alpha, max_share=1.0, max_norm_ratio=0.0)
    total = sum(data["n"] for data in sites.values())
    mean = sum(found.states[site]["w"] * data["n"] / total for site, data in sites.items())
    np.testing.assert_allclose(found.state["h/w"], mean, rtol=1e-6, atol=1e-9)


def test_feddyn_follows_algorithm_1_of_acar_et_al():
    alpha, found = 0.3, reached("feddyn", dyn, rounds=3, alpha=0.3)
    theta, h, kept = np.zeros(2), np.zeros(2), {site: np.zeros(2) for site in SITES}
    for _ in range(3):
        ends = {}
        for site, data in SITES.items():
            w = theta.copy()
            for _ in range(5):
                w -= RATE * (data["slope"] * (w - data["goal"]) - kept[site] + alpha * (w - theta))
            kept[site] = kept[site] - alpha * (w - theta)
            ends[site] = w
        mean = (ends["a"] + 3 * ends["b"]) / 4
        h = h - alpha * (mean - theta)
        theta = mean - h / alpha
    np.testing.assert_allclose(found.model["w"], theta)
    np.testing.assert_allclose(found.state["h/w"], h)


def test_a_site_that_does_not_answer_moves_h_by_no_share():
    def train(task):
        if task.site == "b":
            raise ValueError("away")
        return dyn(task)

    found = reached("feddyn", train, rounds=1, alpha=0.5)
    moved = found.states["a"]["w"] / -0.5  # w - w_t of the only answer
    np.testing.assert_allclose(found.state["h/w"], -0.5 * 0.5 * moved)  # |P| / m is 1/2


@pytest.mark.parametrize("helper", ["FedDyn", "Ditto", "FedNova"])
def test_the_penalty_of_torch_has_the_gradient_of_numpy(helper):
    torch = pytest.importorskip("torch")
    net = torch.nn.Linear(3, 2)
    workflow, parameters = {"FedDyn": ("feddyn", {"alpha": 0.3}), "Ditto": ("ditto", {"lam": 0.3})}.get(
        helper, ("fednova", {"mu": 0.3})
    )

    def train(task):
        mine = getattr(convoy, helper)(task)
        with torch.no_grad():
            for parameter in net.parameters():
                parameter.add_(0.25)
        net.zero_grad()
        mine.penalty(net).backward()
        wanted = mine.gradient({name: it.detach().numpy() for name, it in net.named_parameters()})
        for name, parameter in net.named_parameters():
            np.testing.assert_allclose(parameter.grad.numpy(), wanted[name], rtol=1e-5, atol=1e-7)
        after = {name: it.detach().clone() for name, it in net.state_dict().items()}
        match helper:
            case "Ditto":
                return mine.reply(after, after)
            case "FedNova":
                return mine.reply(after, steps=1, lr=RATE)
        return mine.reply(after)

    start = {name: it.detach().clone() for name, it in net.state_dict().items()}
    testing.run(workflow, train, sites=("a",), model=start, rounds=3, **parameters)


def test_scaffold_takes_tensors_of_torch_and_gives_the_bits_of_numpy():
    torch = pytest.importorskip("torch")

    def run(kind):
        def train(task):
            mine = convoy.Scaffold(task)
            w = descend(task, mine.model["w"], extra=lambda _: mine.correction["w"])
            return mine.reply({"w": kind(w)}, steps=5, lr=RATE)

        return reached("scaffold", train, rounds=5)

    assert run(torch.from_numpy).model.digest == run(np.asarray).model.digest


@pytest.mark.parametrize(("workflow", "helper"), [("fedprox", "Proximal"), ("feddyn", "FedDyn"), ("ditto", "Ditto")])
def test_the_gradient_of_numpy_refuses_tensors_of_torch_and_names_the_penalty(workflow, helper):
    torch = pytest.importorskip("torch")

    def train(task):
        return getattr(convoy, helper)(task).gradient({"w": torch.zeros(2)})

    with pytest.raises(NotEnough, match=r"'w' is a Tensor"):
        reached(workflow, train, rounds=1)


def test_scaffold_names_an_array_that_is_missing():
    with pytest.raises(NotEnough, match="no array 'w'"):
        reached("scaffold", lambda task: convoy.Scaffold(task).reply({}, steps=1, lr=RATE), rounds=1)


# ---- fednova --------------------------------------------------------------------------------------------------------
def test_fednova_approaches_the_optimum_where_fedavg_follows_the_site_with_more_steps():
    def averaged(task):
        return convoy.Reply({"w": uneven(task)[0]}, weight=task.data["n"])

    far = abs(reached("fedavg", averaged, rounds=300).model["w"][0] - BEST)
    near = abs(reached("fednova", nova, rounds=300).model["w"][0] - BEST)
    assert near < far / 4


def test_fednova_with_its_default_bounds_reaches_the_fixed_point_of_its_equation():
    rate, sites = (
        0.05,
        {"a": {"goal": 0.0, "steps": 1}, "b": {"goal": 3.0, "steps": 5}, "c": {"goal": 9.0, "steps": 20}},
    )

    def train(task):
        w = task.model["w"]
        for _ in range(task.data["steps"]):
            w = w - rate * (w - task.data["goal"])
        return convoy.FedNova(task).reply({"w": w}, steps=task.data["steps"])

    found = reached("fednova", train, sites, rounds=100)
    pulls = {site: (1 - (1 - rate) ** it["steps"]) / it["steps"] for site, it in sites.items()}  # of each step
    wanted = sum(pulls[site] * it["goal"] for site, it in sites.items()) / sum(pulls.values())
    np.testing.assert_allclose(found.model["w"], wanted, rtol=1e-6)
    assert not [line for line in found.log if "max_share" in line or "median" in line]
    assert all(len(done.took_part) == 3 for done in found.rounds[1:])


def test_the_bounds_of_fednova_hold_for_the_stated_weights_and_for_what_one_step_did():
    def train(task):
        count = 20 if task.site == "d" else 1
        end = {"a": 1.0, "b": 1.0, "c": 40.0, "d": 20.0}[task.site]
        return convoy.FedNova(task).reply({"w": np.full(2, end)}, steps=count, weight=5.0 if task.site == "a" else 1.0)

    found = reached("fednova", train, {name: {} for name in "abcd"}, 1)
    left, bounded = found.log
    assert "c's answer to 'train' does not count: its update is 56.6 away from the model (L2)" in left
    assert "a's answer to 'train': its weight 5 is 71.4 % of all weights together and counts as 50 %" in bounded
    np.testing.assert_allclose(found.model["w"], 0.5 + 0.25 + 0.25 * 10)  # a step moves by 1; d's count for 10 times 1


@settings(max_examples=25, deadline=None)
@given(st.integers(1, 9), st.floats(0, 0.9), st.lists(st.floats(0.5, 50), min_size=1, max_size=5))
def test_fednova_with_equal_steps_is_fedavg_to_the_bit(steps, momentum, weights):
    sites = {f"s{at}": {"goal": float(at), "slope": 1.0, "n": n} for at, n in enumerate(weights)}

    def equal(task):
        return convoy.FedNova(task).reply(
            plain(task).arrays, steps=steps, momentum=momentum, weight=task.data["n"], metrics={"loss": 1.0}
        )

    found, known = (reached(flow, train, sites, 3) for flow, train in (("fednova", equal), ("fedavg", plain)))
    assert found.model.digest == known.model.digest


@settings(max_examples=50, deadline=None)
@given(st.lists(st.tuples(st.integers(1, 40), st.floats(0.5, 9), st.floats(-5, 5)), min_size=1, max_size=6))
def test_fednova_moves_the_model_as_its_paper_says(given_):
    sites = {f"s{at}": {"steps": s, "n": n, "end": end} for at, (s, n, end) in enumerate(given_)}

    def train(task):
        return convoy.FedNova(task).reply(
            {"w": np.full(2, task.data["end"])}, steps=task.data["steps"], weight=task.data["n"]
        )

    found = reached("fednova", train, sites, 1, max_share=1.0, max_norm_ratio=0.0).model["w"]
    shares = np.array([n for _, n, _ in given_]) / sum(n for _, n, _ in given_)
    a, ends = np.array([s for s, _, _ in given_], float), np.array([end for _, _, end in given_])
    np.testing.assert_allclose(found, (shares @ a) * (shares @ (ends / a)), rtol=1e-9, atol=1e-9)


@given(st.integers(1, 60), st.floats(0, 0.95), st.floats(1e-3, 1.0))
def test_what_steps_amount_to_is_the_sum_of_the_factors_of_their_gradients(steps, momentum, pulled):
    speed = moved = held = 0.0
    for _ in range(steps):  # each gradient is 1, so that the change is the sum of its factors
        speed = momentum * speed + 1
        moved += speed
        held += 1 - pulled * held
    assert min(amounts.with_momentum(steps, momentum), amounts.proximal(steps, pulled)) >= 1  # as the server demands
    assert amounts.with_momentum(steps, momentum) == pytest.approx(moved)
    assert amounts.proximal(steps, pulled) == pytest.approx(held)


def test_one_site_that_claims_very_many_steps_does_not_throw_the_model_far_away():
    def train(task):
        claimed = 10**12 if task.site == "d" else 5
        return convoy.FedNova(task).reply({"w": np.ones(2)}, steps=claimed)

    found = reached("fednova", train, {name: {} for name in "abcd"}, 1)
    assert found.model["w"].max() < 5  # its steps count for ten times the median, a quarter of the mean


def test_an_answer_without_its_steps_is_left_out_and_a_round_of_such_answers_says_why():
    def train(task):
        reply = nova(task)
        return convoy.Reply(reply.arrays, reply.weight) if task.site in task.config["silent"] else reply

    found = testing.Federation(train, sites=SITES, model=START, config={"silent": "b"})
    result = asyncio.run(found.run("fednova", rounds=1))
    assert [site for site, _ in result.rounds[-1].took_part] == ["a"]
    silent = testing.Federation(train, sites=SITES, model=START, config={"silent": "ab"})
    with pytest.raises(JobFailed, match="no answer of round 1 says what its steps amount to"):
        asyncio.run(silent.run("fednova", rounds=1))


@pytest.mark.parametrize(
    ("mu", "options", "said"),
    [
        (0, {"steps": 0}, "0 steps"),
        (0, {"steps": 1, "momentum": 1.0}, "a momentum of 1.0"),
        (0.5, {"steps": 1}, "a proximal term of 0.5, and a learning rate of 0"),
        (0.5, {"steps": 1, "lr": 3.0}, "above 0 and up to 1 / mu = 2"),
        (0.5, {"steps": 1, "lr": 0.1, "momentum": 0.9}, "momentum and a proximal term"),
    ],
)
def test_steps_that_cannot_be_are_refused_at_the_site(mu, options, said):
    def train(task):
        return convoy.FedNova(task).reply(task.model, **options)

    with pytest.raises(NotEnough) as caught:
        reached("fednova", train, rounds=1, mu=mu)
    assert said in str(caught.value)


# ---- all of them ----------------------------------------------------------------------------------------------------
@pytest.mark.parametrize(("workflow", "train"), [("ditto", ditto), ("feddyn", dyn)])
@pytest.mark.parametrize("last", [1, 2, 4])
def test_a_workflow_that_is_stopped_in_the_middle_of_a_round_continues_with_the_same_bits(workflow, train, last):
    whole = reached(workflow, train, rounds=6)
    made = testing.Federation(train, sites=SITES, model=START)
    with pytest.raises(RuntimeError, match="killed"):
        asyncio.run(made.run(dying(workflow, last, rounds=6)))
    assert made.job.committed == last - 1
    result = asyncio.run(made.run(workflow, rounds=6))
    assert (result.model.digest, result.state.digest) == (whole.model.digest, whole.state.digest)
    assert {name: it.digest for name, it in result.states.items()} == {
        name: it.digest for name, it in whole.states.items()
    }


HELPERS = {
    "fedprox": ("Proximal", "no proximal term"),
    "scaffold": ("Scaffold", "no control variate"),
    "ditto": ("Ditto", "no personal model"),
    "feddyn": ("FedDyn", "no dynamic regulariser"),
    "fednova": ("FedNova", "does not count steps"),
}


@pytest.mark.parametrize(("workflow", "helper"), [(name, it) for name, (it, _) in HELPERS.items()])
def test_a_trainer_that_ignores_what_its_workflow_needs_is_told_so_and_trains_no_other_model_unnoticed(
    workflow, helper
):
    with pytest.raises(NotEnough, match=rf"this trainer does not use convoy\.{helper}"):
        reached(workflow, lambda task: task.model, rounds=1)


@pytest.mark.parametrize(("helper", "said"), HELPERS.values())
def test_a_trainer_for_one_of_these_workflows_under_fedavg_is_told_so(helper, said):
    with pytest.raises(NotEnough, match=said):
        reached("fedavg", getattr(convoy, helper), rounds=1)


@pytest.mark.parametrize(
    ("workflow", "given_", "said"),
    [
        ("ditto", {"lam": -1.0}, "from 0 up"),
        ("feddyn", {"alpha": 0.0}, "above 0"),
        ("fednova", {"mu": math.nan}, "from 0 up"),
        ("feddyn", {"fold": "median", "min_sites": 3}, "wanted mean"),
        ("fednova", {"fold": "krum", "min_sites": 3}, "wanted mean"),
        ("fedbn", {"norm": ["!bn1.*"]}, "without !"),
        ("fedbn", {"norm": []}, "without !"),
        ("fedavg", {"keys": ["@dropout"]}, "is not known"),
    ],
)
def test_parameters_that_cannot_be_are_said_with_the_fix(workflow, given_, said):
    with pytest.raises(BadInput) as caught:
        reached(workflow, plain, rounds=1, **given_)
    assert said in caught.value.fix
