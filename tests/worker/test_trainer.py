"""The trainer's process, as a node sees it."""

from __future__ import annotations

import numpy as np
import pytest

BASE = {"w": np.arange(6, dtype=np.float32).reshape(2, 3), "n": np.array(7, np.int64)}

LOOP = """
import convoy
for task in convoy.tasks():
    print("at", task.site, task.round, task.config["lr"])
    model = task.model.numpy()
    model["w"] += task.config["lr"]
    task.reply(model, weight=12, metrics={"loss": 0.5})
"""
DECORATED = """
import convoy

@convoy.train
def fit(task):
    return convoy.Reply({**task.model, "w": task.model["w"] * 2}, weight=3, metrics={"loss": 1})

@convoy.evaluate
def judge(task):
    return {"auc": float(task.model["w"].sum())}
"""
VERBS = """
import convoy as flare

flare.init()
print(flare.system_info()["site_name"])
while flare.is_running():
    model = flare.receive()
    print("round", model.current_round, "of", model.total_rounds)
    model.params["w"] += 1
    flare.send(flare.FLModel(params=model.params, metrics={"acc": 0.75}, meta={"NUM_STEPS_CURRENT_ROUND": 4}))
"""
CHANGING = """
def train(task):
    task.config["lr"] += 1
    task.config["of"]["x"].append(2)
    assert task.config["of"]["x"] == [1, 2]
    return {"w": task.model["w"] + task.config["lr"], "n": task.model["n"]}
"""
PLAIN = """
def train(task):
    if task.round == 2:
        raise ValueError("bad luck")
    return dict(task.model, w=task.model["w"] + task.settings.get("shift", 1))
"""


def answer(node):
    up = node.hear()
    assert up.WhichOneof("it") == "answer", up
    return up.answer


def test_a_script_that_loops_takes_tasks_until_bye_and_prints_into_the_log(job, trainer) -> None:
    job(train_py=LOOP)
    with trainer("train.py", config={"lr": 0.5}) as node:
        digest = node.save(BASE)
        assert node.hear().HasField("ready")
        for round_ in (1, 2):
            node.task(digest, question=f"{round_}.0", round_=round_)
            said = answer(node)
            assert (said.question, said.weight, dict(said.metrics)) == (f"{round_}.0", 12, {"loss": 0.5})
            update = node.load(said.digest)
            np.testing.assert_array_equal(update["w"], BASE["w"] + np.float32(0.5))
            np.testing.assert_array_equal(update["n"], BASE["n"])
        node.bye()
        assert node.end() == (0, "at site-1 1 0.5\nat site-1 2 0.5\n")


def test_what_a_trainer_changes_in_its_config_is_gone_with_the_task(job, trainer) -> None:
    job(train_py=CHANGING)
    with trainer("train.py:train", config={"lr": 0.5, "of": {"x": [1]}}) as node:
        digest = node.save(BASE)
        assert node.hear().HasField("ready")
        for round_ in (1, 2):
            node.task(digest, question=f"{round_}.0", round_=round_)
            np.testing.assert_array_equal(node.load(answer(node).digest)["w"], BASE["w"] + np.float32(1.5))
        node.bye()
        assert node.end() == (0, "")


def test_decorated_functions_serve_their_kinds_after_the_script_ran(job, trainer) -> None:
    job(train_py=DECORATED)
    with trainer("train.py") as node:
        digest = node.save(BASE)
        assert node.hear().HasField("ready")
        node.task(digest)
        said = answer(node)
        assert said.weight == 3
        np.testing.assert_array_equal(node.load(said.digest)["w"], BASE["w"] * 2)
        node.task(digest, question="1.1", kind="evaluate")
        said = answer(node)
        assert (said.digest, dict(said.metrics)) == ("", {"auc": 15.0})
        node.bye()
        assert node.end() == (0, "")


def test_a_script_with_the_client_verbs_moves_over_by_its_import(job, trainer) -> None:
    job(train_py=VERBS)
    with trainer("train.py") as node:
        digest = node.save(BASE)
        assert node.hear().HasField("ready")
        node.task(digest)
        said = answer(node)
        assert (said.weight, dict(said.metrics)) == (4, {"acc": 0.75})
        np.testing.assert_array_equal(node.load(said.digest)["w"], BASE["w"] + 1)
        node.bye()
        assert node.end() == (0, "site-1\nround 0 of 3\n")


def test_a_named_function_that_raises_fails_its_task_and_goes_on(job, trainer) -> None:
    job(train_py=PLAIN)
    with trainer("train.py:train") as node:
        digest = node.save(BASE)
        assert node.hear().HasField("ready")
        node.task(digest, round_=2)
        failed = node.hear().failed
        assert (failed.question, failed.error) == ("1.0", "ValueError: bad luck")
        assert 'train.py", line 4, in train' in failed.traceback
        assert "convoy/worker" not in failed.traceback
        node.task(digest, question="3.0", round_=3, settings='{"shift": 5}')
        np.testing.assert_array_equal(node.load(answer(node).digest)["w"], BASE["w"] + 5)
        node.bye()
        assert node.end()[0] == 0


def test_a_training_function_is_never_asked_to_evaluate(job, trainer) -> None:
    job(train_py=PLAIN)
    with trainer("train.py:train") as node:
        digest = node.save(BASE)
        node.hear()
        node.task(digest, kind="evaluate")
        assert "no function for 'evaluate' tasks" in node.hear().failed.error


@pytest.mark.parametrize("reply", ["task.model", "{}"])
def test_a_loop_that_trains_on_evaluations_too_is_told_so(job, trainer, reply: str) -> None:
    job(train_py=f"import convoy\nfor task in convoy.tasks():\n    task.reply({reply}, metrics={{'loss': 0.5}})")
    with trainer("train.py") as node:
        node.hear()
        node.task(node.save(BASE), kind="evaluate")
        error = node.hear().failed.error
        assert 'the reply to an "evaluate" task has arrays' in error


def test_a_moved_script_that_sends_params_with_its_evaluation_sends_the_metrics_and_the_log_says_so(
    job, trainer
) -> None:
    job(train_py=VERBS)
    with trainer("train.py") as node:
        node.hear()
        node.task(node.save(BASE), kind="evaluate")
        said = answer(node)
        assert (said.digest, dict(said.metrics)) == ("", {"acc": 0.75})
        node.bye()
        code, log = node.end()
        assert code == 0
        assert "the params that were sent for the evaluation of round 1 are not used: check is_evaluate()" in log


def test_an_unchanged_model_comes_back_under_its_own_digest(job, trainer) -> None:
    job(train_py="def train(task): return task.model")
    with trainer("train.py:train") as node:
        digest = node.save(BASE)
        node.hear()
        node.task(digest)
        assert answer(node).digest == digest
        assert node.folder.digests() == {digest}


@pytest.mark.parametrize(
    ("difference", "reason"),
    [
        ("{'w': model.params['w']}", "lacks the tensor 'n'"),
        ("{**model.params, 'x': model.params['w']}", "has an extra tensor 'x'"),
        ("{**model.params, 'w': model.params['w'][:1]}", "shape [1, 3], the model's [2, 3]"),
        ("{**model.params, 'w': model.params['w'].astype('f8')}", "is float64, the model's is float32"),
    ],
)
def test_a_difference_that_is_not_the_models_shape_is_refused_and_not_stretched(
    job, trainer, difference: str, reason: str
) -> None:
    job(
        train_py=f"""
import convoy as flare
flare.init()
model = flare.receive()
flare.send(flare.FLModel(params_type="DIFF", params={difference}))
"""
    )
    with trainer("train.py") as node:
        digest = node.save(BASE)
        node.hear()
        node.task(digest)
        assert reason in node.hear().failed.error


@pytest.mark.parametrize(
    ("reply", "reason"),
    [
        ("{'w': task.model['w']}", "lacks the tensor 'n'"),
        ("{**task.model, 'x': np.ones(2)}", "has an extra tensor 'x'"),
        ("{**task.model, 'w': task.model['w'].T}", "shape [3, 2], the model's [2, 3]"),
        ("{**task.model, 'w': task.model['w'].astype('f8')}", "is float64, the model's is float32"),
        ("{**task.model, 'w': task.model['w'] * np.float32('nan')}", "item [0, 0] is nan · look for missing values"),
        ("{**task.model, 'w': 'abc'}", "'w' is a str, not an array"),
        ("convoy.Reply(task.model, weight=-1)", "the weight is -1.0"),
        ("convoy.Reply(task.model, metrics={'loss': 'low'})", "'loss' of this 'train' task is 'low', not a number"),
        ("None", "the function for 'train' tasks returned None · wanted the arrays"),
        ("convoy.Reply()", "has no arrays"),
        ("task.model, 3, {'loss': 0.5}", "returned a tuple"),
    ],
)
def test_a_reply_that_cannot_be_used_fails_at_the_trainer_with_the_reason(
    job, trainer, reply: str, reason: str
) -> None:
    job(train_py=f"import numpy as np, convoy\ndef train(task):\n    return {reply}")
    with trainer("train.py:train") as node:
        digest = node.save(BASE)
        node.hear()
        node.task(digest)
        assert reason in node.hear().failed.error


def test_a_metric_that_is_no_number_is_left_out_of_a_reply_and_said(job, trainer) -> None:
    job(
        train_py="import convoy\ndef train(task):\n"
        "    return convoy.Reply(task.model, metrics={'auc': float('nan'), 'loss': 2.5})"
    )
    with trainer("train.py:train") as node:
        node.hear()
        node.task(node.save(BASE))
        assert dict(node.hear().answer.metrics) == {"loss": 2.5}
        node.bye()
        assert "metric 'auc' of this 'train' task is nan: it is left out" in node.end()[1]


@pytest.mark.parametrize(
    ("kind", "fix"),
    [("evaluate", "under @convoy.evaluate"), ("statistics", "with `trainer: train.py:train`")],
)
def test_a_kind_that_a_trainer_does_not_know_is_told_where_its_function_belongs(job, trainer, kind, fix) -> None:
    job(train_py="import convoy\n@convoy.train\ndef train(task):\n    return task.model")
    with trainer("train.py") as node:
        node.hear()
        node.task(node.save(BASE), kind=kind)
        assert fix in node.hear().failed.error


def test_a_script_that_raises_in_its_loop_fails_the_task_and_ends(job, trainer) -> None:
    job(train_py="import convoy\nfor task in convoy.tasks():\n    1 / 0")
    with trainer("train.py") as node:
        node.hear()
        node.task(node.save(BASE))
        failed = node.hear().failed
        assert failed.error == "ZeroDivisionError: division by zero"
        assert "line 3, in <module>" in failed.traceback
        assert node.hears_nothing_more()
        code, output = node.end()
        assert code == 1
        assert "ZeroDivisionError" in output


def test_a_script_that_does_not_answer_a_task_fails_it(job, trainer) -> None:
    job(train_py="import convoy\nfor task in convoy.tasks():\n    pass")
    with trainer("train.py") as node:
        node.hear()
        node.task(node.save(BASE))
        assert "without answering" in node.hear().failed.error


@pytest.mark.parametrize(
    ("text", "trainer_", "reason"),
    [
        ("print('hello')", "train.py", "ended while its job goes on"),
        ("def train(task): ...", "train.py", "or name one in job.yaml (`trainer: train.py:train`), or loop over"),
        ("import nonsense", "train.py", "ModuleNotFoundError: No module named 'nonsense'"),
        ("x = (", "train.py", "SyntaxError"),
        ("raise SystemExit(3)", "train.py", "called sys.exit(3)"),
        ("def train(task): ...", "train.py:fit", "has no function 'fit'"),
        ("", "other.py", "the job has no file other.py"),
        ("", "../blobs/x.py", "the job has no file ../blobs/x.py"),
    ],
)
def test_code_that_cannot_work_ends_the_trainer_with_the_reason(
    job, trainer, text: str, trainer_: str, reason: str
) -> None:
    job(train_py=text)
    with trainer(trainer_) as node:
        failure = node.hear().failure
        assert reason in failure.error
        assert ("Traceback" in failure.traceback) == (text in ("import nonsense", "raise SystemExit(3)"))
        assert "convoy/worker" not in failure.traceback
        assert node.end()[0] == 1


def test_a_trainer_ends_quietly_when_its_node_is_gone(job, trainer) -> None:
    job(train_py=LOOP)
    with trainer("train.py") as node:
        node.hear()
        node.link.close()
        assert node.end() == (0, "")


def test_the_site_s_data_and_the_job_s_config_are_at_hand_outside_a_task(job, trainer) -> None:
    text = "import convoy\nprint(convoy.data['x'], convoy.config['a'])\nconvoy.data['y']"
    job(train_py=text)
    with trainer("train.py", data={"x": "/d/x.csv"}, config={"a": 1}) as node:
        assert "no data named 'y' · it has x ·" in node.hear().failure.error
        assert node.end()[1].startswith("/d/x.csv 1\n")


def test_the_seed_is_the_task_s_own_and_always_the_same(job, trainer) -> None:
    job(train_py="def evaluate(task): return {'seed': task.seed}\ntrain = None\ndef fit(task): ...")
    seeds = []
    for questions in (("1.0", "2.0"), ("1.0",)):
        with trainer("train.py:fit") as node:
            node.hear()
            for question in questions:
                node.task("", question=question, kind="evaluate")
                seeds.append(answer(node).metrics["seed"])
    assert seeds[0] == seeds[2] != seeds[1]
    assert 0 <= min(seeds) <= max(seeds) < 2**32


def test_a_trainer_loads_nothing_that_it_does_not_need(job, trainer) -> None:
    heavy = ("pydantic", "grpc", "yaml", "starlette", "torch", "sqlalchemy", "cryptography", "structlog")
    job(train_py=f"import sys\nprint([m for m in {heavy} if m in sys.modules])\ndef train(task): ...")
    with trainer("train.py:train") as node:
        node.hear()
        node.bye()
        assert node.end() == (0, "[]\n")


def test_garbage_is_searched_for_as_usual_but_not_among_what_a_worker_loads_at_its_start(job, trainer) -> None:
    job(train_py="import gc\nprint(gc.isenabled(), gc.get_freeze_count() > 1000)\ndef train(task): ...")
    with trainer("train.py:train") as node:
        node.hear()
        node.bye()
        assert node.end() == (0, "True True\n")


TORCH = """
import torch
import convoy as flare

flare.init()
while flare.is_running():
    model = flare.receive()
    net = torch.nn.Linear(3, 2)
    net.load_state_dict(model.params)
    with torch.no_grad():
        net.weight += 1
    flare.send(flare.FLModel(params=net.cpu().state_dict(), metrics={"acc": torch.tensor(0.5)}))
"""


def test_a_torch_script_gets_tensors_and_sends_a_state_dict(job, trainer) -> None:
    pytest.importorskip("torch")
    job(train_py=TORCH)
    base = {"weight": np.ones((2, 3), np.float32), "bias": np.zeros(2, np.float32)}
    with trainer("train.py") as node:
        node.hear()
        node.task(node.save(base))
        said = answer(node)
        np.testing.assert_array_equal(node.load(said.digest)["weight"], base["weight"] + 1)
        assert dict(said.metrics) == {"acc": 0.5}


@pytest.mark.parametrize(
    ("text", "trainer_", "line"),
    [
        ("def train(task):\n    return {'w': [1.0]}", "train.py:train", ""),
        ("import convoy\nfor task in convoy.tasks():\n    task.reply({'w': [1.0]})", "train.py", "line 3, in <module>"),
        ("def train(task):\n    task.reply(task.model, weight='x')", "train.py:train", "line 2, in train"),
    ],
)
def test_an_error_that_convoy_means_shows_the_lines_of_the_job_alone(
    job, trainer, text: str, trainer_: str, line: str
) -> None:
    job(train_py=text)
    with trainer(trainer_) as node:
        node.hear()
        node.task(node.save(BASE))
        failed = node.hear().failed
        assert line in failed.traceback
        assert bool(line) == ("Traceback" in failed.traceback)
        if not line or ":" in trainer_:  # a script has ended
            node.bye()
        _, output = node.end()
        for said in (failed.traceback, output):
            assert "convoy/worker" not in said
            assert "convoy/model" not in said
        assert "BadInput: " in output or "Refused: " in output


@pytest.mark.parametrize("change", ["task.model['w'] += 1", "task.model['w'][0] = 1", "task.model['w'].sort()"])
def test_a_change_of_a_read_only_array_is_told_how_to_get_one_that_may_change(job, trainer, change: str) -> None:
    job(train_py=f"def train(task):\n    model = dict(task.model)\n    {change.replace('task.', '')}")
    with trainer("train.py:train") as node:
        node.hear()
        node.task(node.save(BASE))
        assert "read-only" in node.hear().failed.error
        node.bye()
        assert "convoy: the arrays of task.model are read-only: task.model.numpy()" in node.end()[1]
