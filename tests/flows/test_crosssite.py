"""Cross-site evaluation: every model at every site, and what is missing."""

import numpy as np
import pytest

import convoy
from convoy import testing
from convoy.flows.fleet import NotEnough

SITES = {"a": {"goal": 1.0}, "b": {"goal": 4.0}, "c": {"goal": 9.0}}
START = {"w": np.zeros(1)}


def answer(task):
    """Each site's model is its own goal; the loss is the distance from it."""
    if task.kind == "train":
        return {"w": np.full(1, task.data["goal"])}
    return convoy.Reply(metrics={"loss": abs(float(task.model["w"][0]) - task.data["goal"])})


def test_the_table_has_each_model_at_each_site_and_the_model_stays():
    result = testing.run("cross_site", answer, sites=SITES, model=START)
    models = {"(job)": 0.0} | {name: site["goal"] for name, site in SITES.items()}
    wanted = {f"loss:{m}@{s}": abs(w - SITES[s]["goal"]) for m, w in models.items() for s in SITES}
    assert result.history[-1]["metrics"] == wanted
    assert result.model["w"][0] == 0.0
    assert "the model of b at: a loss 3, b loss 0, c loss 5" in result.log


def test_a_site_that_cannot_train_still_measures_and_one_that_cannot_measure_is_in_the_log():
    def some(task):
        if (task.site, task.kind) in {("a", "train"), ("c", "evaluate")}:
            raise ValueError("not today")
        return answer(task)

    result = testing.run("cross_site", some, sites=SITES, model=START)
    found = {name.removeprefix("loss:") for name in result.history[-1]["metrics"]}
    assert found == {f"{model}@{site}" for model in ("(job)", "b", "c") for site in "ab"}
    assert any(line.startswith("the model of b was not measured at c: ValueError: not today") for line in result.log)
    with pytest.raises(NotEnough):
        testing.run("cross_site", some, sites=SITES, model=START, min_sites=3)
