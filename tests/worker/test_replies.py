"""What a function of a task returns and cannot be a reply: the error names what came and what to write."""

import numpy as np
import pytest

BASE = {"w": np.zeros(2)}
JUDGE = "import convoy\n@convoy.train\ndef train(task): ...\n@convoy.evaluate\ndef judge(task): return "


@pytest.mark.parametrize(
    ("reply", "reason"),
    [
        ("weight=10**400", "the weight is inf"),
        ("weight=-(10**400)", "the weight is -inf"),
        ("weight=None", "the weight is None, not a number"),
        ("metrics={'f': np.zeros(2)}", "give one number: .item() of an array of one, .mean() of several"),
        ("metrics={'train': {'loss': 1}}", 'names of their own: {"train.loss": 0.5}'),
        ("metrics={3: 1, '3': 2}", "two metrics of this 'train' task have the same name · their keys are 3, '3'"),
    ],
)
def test_a_number_that_is_none_is_named_with_what_to_write(job, trainer, reply: str, reason: str) -> None:
    job(train_py=f"import numpy as np, convoy\ndef train(task): return convoy.Reply(task.model, {reply})")
    with trainer("train.py:train") as node:
        node.hear()
        node.task(node.save(BASE))
        assert reason in node.hear().failed.error


@pytest.mark.parametrize(("result", "what"), [("None", "None"), ("0.5", "a float"), ("0.5, 10", "a tuple")])
def test_an_evaluation_that_returns_no_metrics_is_told_what_it_returned(job, trainer, result: str, what: str) -> None:
    job(train_py=JUDGE + result)
    with trainer("train.py") as node:
        node.hear()
        node.task(node.save(BASE), kind="evaluate")
        error = node.hear().failed.error
        assert f"the function for 'evaluate' tasks returned {what} · wanted metrics" in error
        assert 'return {"loss": 0.5}' in error


def test_an_integer_metric_beyond_all_floats_is_left_out_of_a_reply(job, trainer) -> None:
    job(train_py="import convoy\ndef train(task): return convoy.Reply(task.model, metrics={'n': 10**400, 'loss': 1})")
    with trainer("train.py:train") as node:
        node.hear()
        node.task(node.save(BASE))
        assert dict(node.hear().answer.metrics) == {"loss": 1}


def test_a_function_that_calls_sys_exit_fails_its_task_with_what_it_said_and_the_trainer_goes_on(job, trainer) -> None:
    job(train_py="import sys\ndef train(task): return task.model if task.round > 1 else sys.exit('no data here')")
    with trainer("train.py:train") as node:
        node.hear()
        digest = node.save(BASE)
        node.task(digest)
        failed = node.hear().failed
        assert "the function for 'train' tasks called sys.exit('no data here')" in failed.error
        assert "in train" in failed.traceback
        node.task(digest, question="2.0", round_=2)
        assert node.hear().answer.digest == digest
