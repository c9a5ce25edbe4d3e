"""One site alone can neither own a model nor end its job: real federations of three sites, one of which lies."""

import numpy as np
import pytest
import safetensors.numpy

from tests.scenarios.conftest import left_out, put_job, session, three, took_part  # noqa: F401 - two are fixtures

pytestmark = pytest.mark.scenario

TRAIN = """
import numpy as np
import convoy


def initial():
    return MODEL


@convoy.train
def train(task):
    number, model = int(task.site[-1]), task.model.numpy()
    weight = 10.0
BODY
    return convoy.Reply(model, weight=weight, metrics={"number": number})
"""
W = '{"w": np.zeros(4, np.float32)}'


def run(session, folder, body, *, model=W, rounds=1, **with_):  # noqa: F811 - the fixture's value
    """Run a job on three sites; return its record, its models by name, and the log of its workflow."""
    lines = "\n".join(f"    {line}" for line in body.splitlines())
    train = TRAIN.replace("MODEL", model).replace("BODY", lines)
    job = put_job(folder / "job", {"train.py": train}, with_={"rounds": rounds, "min_sites": 3} | with_)
    detail = session.wait(session.submit(job).id)
    assert detail.job.state == "completed", detail.job.cause
    files = session.fetch(detail.job.id, folder / "results")
    log = "\n".join(line.text for line in session.logs(detail.job.id, site="server"))
    (final,) = [path for path in files if path.name == "model.safetensors"]
    return detail, safetensors.numpy.load_file(final), log


def test_a_weight_of_1e12_counts_for_half_of_three_and_the_log_names_its_site(session, tmp_path):  # noqa: F811
    body = "model['w'] += 3 if number == 2 else 1\nif number == 2: weight = 1e12"
    detail, model, log = run(session, tmp_path, body)
    np.testing.assert_allclose(model["w"], 2)
    assert took_part(detail.rounds[1]) == ["site-1", "site-2", "site-3"]
    assert "site-2's answer to 'train': its weight 1e+12 is 100 % of all weights together and counts as 50 %" in log
    assert detail.rounds[1].metrics["number"] == pytest.approx(2)


def test_unequal_weights_of_honest_sites_count_as_they_are(session, tmp_path):  # noqa: F811
    _, model, log = run(session, tmp_path, "model['w'] += number\nweight = 10.0 * number")
    np.testing.assert_allclose(model["w"], (1 + 4 + 9) / 6)
    assert "max_share" not in log


@pytest.mark.parametrize("weight", ["1e308", "5e-324", "0.0"])
def test_weights_of_any_size_leave_the_model_finite(weight, session, tmp_path):  # noqa: F811
    body = f"model['w'] += 1\nif number != 3: weight = {weight}"
    _, model, _ = run(session, tmp_path, body)
    np.testing.assert_allclose(model["w"], 1)


def test_values_of_3e38_are_left_out_by_name_and_the_round_goes_on(session, tmp_path):  # noqa: F811
    body = "model['w'] += 1\nif number == 2: model['w'][:] = 3e38 - 1e37 * task.round; weight = 100.0"
    detail, model, log = run(session, tmp_path, body, rounds=2)
    np.testing.assert_allclose(model["w"], 2)
    for done in detail.rounds[1:]:
        assert took_part(done) == ["site-1", "site-3"]
        assert "times the median of the round, 2, does not count" in left_out(done)["site-2"]
    assert "round 1: site-2's answer to 'train' does not count: its update is 5.8e+38 away from the model" in log
    assert detail.rounds[1].metrics == {"number": 2.0}


def test_values_of_3e38_at_every_site_do_not_overflow(session, tmp_path):  # noqa: F811
    body = "model['w'][:] = 3e38 if number != 3 else -3e38\nweight = 100.0"
    _, model, _ = run(session, tmp_path, body)
    np.testing.assert_allclose(model["w"], 1e38, rtol=1e-6)


def test_a_mask_of_the_smallest_number_and_a_large_integer_stay_as_they_are(session, tmp_path):  # noqa: F811
    model = """{
        "w": np.zeros(4, np.float32),
        "mask": np.triu(np.full((3, 3), np.finfo(np.float32).min, np.float32), 1),
        "half": np.full(3, np.finfo(np.float16).min),
        "big": np.array([6364136223846793005, 2**53 + 1]),
        "flags": np.array([True, False]),
    }"""
    body = "model['w'] += number\nweight = {1: 3.0, 2: 7.0, 3: 400.0}[number]"
    _, final, _ = run(session, tmp_path, body, model=model, rounds=3)
    assert np.array_equal(final["mask"], np.triu(np.full((3, 3), np.finfo(np.float32).min, np.float32), 1))
    assert np.array_equal(final["half"], np.full(3, np.finfo(np.float16).min))
    assert final["big"].tolist() == [6364136223846793005, 2**53 + 1]
    assert final["flags"].tolist() == [True, False]


def test_a_round_in_which_all_weights_are_0_keeps_the_model_and_says_so(session, tmp_path):  # noqa: F811
    body = "model['w'] += task.round\nif task.round == 1: weight = 0.0"
    detail, model, log = run(session, tmp_path, body, rounds=2)
    np.testing.assert_allclose(model["w"], 2)
    assert detail.rounds[0].model == detail.rounds[1].model
    assert took_part(detail.rounds[1]) == []
    assert "no update of the round has a weight above 0" in left_out(detail.rounds[1])["site-1"]
    assert "the model stays as it was" in log


def test_a_list_comes_back_in_its_order_round_after_round_whatever_the_dtypes(session, tmp_path):  # noqa: F811
    model = "[np.full(2, float(at), np.float16 if at % 3 else np.float64) for at in range(12)]"
    body = """
layers = list(model.values())
assert [int(layer[0]) for layer in layers] == [at + 100 * (task.round - 1) for at in range(12)], list(model)
model = [layer + 100 for layer in layers]
"""
    _, final, _ = run(session, tmp_path, body, model=model, rounds=3)
    assert all(final[str(at)][0] == at + 300 for at in range(12))


def test_an_answer_in_another_order_than_the_model_s_counts_under_the_model_s(session, tmp_path):  # noqa: F811
    body = "model['w'] += 1\nmodel = dict(reversed(model.items())) if number == 2 else model"
    model = '{"w": np.zeros(4, np.float32), "a": np.ones(2, np.float32)}'
    _, final, _ = run(session, tmp_path, body, model=model, rounds=2)
    assert list(final) == ["w", "a"]
    np.testing.assert_allclose(final["w"], 2)
