"""NVIDIA FLARE's verbs in a trainer's process: what scripts get wrong, as a node hears of it."""

from __future__ import annotations

import numpy as np
import pytest

BASE = {"w": np.arange(6, dtype=np.float32).reshape(2, 3)}

SENDS = """
import convoy as flare

flare.init()
model = flare.receive()
flare.send({sent})
"""
PASSES_OVER = """
import convoy as flare

flare.init()
while flare.is_running():
    {begin}
    if flare.is_train():
        {train}
        flare.send(flare.FLModel(params=model.params))
"""
LOOKS_OFTEN = """
import convoy as flare

print(flare.is_running(), flare.is_running())
while flare.is_running():
    model = flare.receive()
    model = flare.receive()
    for _ in range(1000):
        assert flare.is_running()
    flare.send(flare.FLModel(params=model.params))
"""


@pytest.mark.parametrize(
    ("sent", "reason"),
    [
        ("flare.FLModel(params_type='diff', params=model.params)", "params_type is 'diff', not FULL or DIFF"),
        ("flare.FLModel(params_type='WEIGHT_DIFF', params=model.params)", "is 'WEIGHT_DIFF', not FULL or DIFF"),
        ("model.params", "dict is not FLModel, which send() takes · wrap it: send(FLModel(params=…"),
        ("None", "NoneType is not FLModel"),
        ("flare.FLModel(params=5)", "the params are 5, of type int"),
        (
            "flare.FLModel(params=model.params, meta={'NUM_STEPS_CURRENT_ROUND': None})",
            "meta['NUM_STEPS_CURRENT_ROUND'] is None, not a number",
        ),
        (
            "flare.FLModel(params=model.params, meta={'NUM_STEPS_CURRENT_ROUND': [8, 8]})",
            "meta['NUM_STEPS_CURRENT_ROUND'] is [8, 8], not a number",
        ),
    ],
)
def test_what_cannot_be_sent_is_named_in_the_words_of_its_script(job, trainer, sent: str, reason: str) -> None:
    job(train_py=SENDS.format(sent=sent))
    with trainer("train.py") as node:
        digest = node.save(BASE)
        node.hear()
        node.task(digest)
        assert reason in node.hear().failed.error


@pytest.mark.parametrize("kind", ["None", "'FULL'", "flare.ParamsType.FULL"])
def test_a_model_is_whole_unless_it_says_that_it_is_a_difference(job, trainer, kind: str) -> None:
    job(train_py=SENDS.format(sent=f"flare.FLModel(params_type={kind}, params=model.params)"))
    with trainer("train.py") as node:
        digest = node.save(BASE)
        node.hear()
        node.task(digest)
        np.testing.assert_array_equal(node.load(node.hear().answer.digest)["w"], BASE["w"])


@pytest.mark.parametrize(
    ("begin", "train"), [("model = flare.receive()", "pass"), ("pass", "model = flare.receive()"), ("", "")]
)
def test_a_loop_that_passes_over_a_task_fails_it_and_gets_the_next_one(job, trainer, begin: str, train: str) -> None:
    text = PASSES_OVER.format(begin=begin or "model = flare.receive(); flare.receive()", train=train or "pass")
    job(train_py=text)
    with trainer("train.py") as node:
        digest = node.save(BASE)
        node.hear()
        node.task(digest, question="1.0", kind="evaluate")
        failed = node.hear().failed
        assert failed.question == "1.0"
        assert "without answering this 'evaluate' task" in failed.error
        node.task(digest, question="2.0")
        assert node.hear().answer.question == "2.0"
        node.bye()
        assert node.end() == (0, "")


def test_a_script_may_look_as_often_as_it_likes_whether_its_job_goes_on(job, trainer) -> None:
    job(train_py=LOOKS_OFTEN)
    with trainer("train.py") as node:
        digest = node.save(BASE)
        node.hear()
        node.task(digest)
        assert node.hear().HasField("answer")
        node.bye()
        assert node.end() == (0, "True True\n")


@pytest.mark.parametrize(
    ("name", "instead"),
    [("get_config", "convoy.config"), ("is_submit_model", "is_train"), ("get_task_name", "is_train"), ("clear", "")],
)
def test_a_function_of_nvidia_flare_that_convoy_lacks_is_told_what_to_use(
    job, trainer, name: str, instead: str
) -> None:
    job(train_py=f"import convoy as flare\nflare.init()\nflare.receive()\nflare.{name}()")
    with trainer("train.py") as node:
        digest = node.save(BASE)
        node.hear()
        node.task(digest)
        error = node.hear().failed.error
        assert f"has no attribute {name!r}, which NVIDIA FLARE has: " in error
        assert instead in error
