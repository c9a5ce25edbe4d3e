"""The workflow's process, as a node sees it."""

from __future__ import annotations

import numpy as np
import pytest

from convoy.wire import convoy_pb2 as pb

BASE = {"w": np.arange(6, dtype=np.float32).reshape(2, 3), "n": np.array(7, np.int64)}
INITIAL = """
import numpy as np

def initial():
    return {"w": np.arange(6, dtype=np.float32).reshape(2, 3), "n": np.array(7)}
"""


PAST = {"round": 0, "metrics": {}, "best": False}


def moved(by: float) -> dict[str, np.ndarray]:
    return {"w": BASE["w"] + np.float32(by), "n": BASE["n"]}


def ask(node, question: str, kind: str = "train"):
    up = node.hear()
    assert up.WhichOneof("it") == "ask", up
    assert (up.ask.id, up.ask.kind) == (question, kind)
    return up.ask


def commit(node, round_: int):
    up = node.hear()
    assert up.WhichOneof("it") == "commit", up
    assert up.commit.round == round_
    node.committed(round_)
    return up.commit


def test_fedavg_commits_the_initial_model_and_the_weighted_mean_of_each_round(job, flow) -> None:
    job(train_py=INITIAL)
    with flow(model="train.py:initial", with_={"rounds": 2, "min_sites": 2, "deadline": "1m", "max_norm": 9}) as node:
        initial = commit(node, 0).model
        np.testing.assert_array_equal(node.load(initial)["w"], BASE["w"])
        question = ask(node, "1.0")
        assert (question.model, question.at_least, question.deadline_s, question.max_norm) == (initial, 2, 60, 9)
        assert (question.round, question.rounds) == (1, 2)
        node.share("1.0", "a", node.save(moved(1)), weight=1, loss=1.0)
        node.share("1.0", "b", left_out="its disk is full")
        node.share("1.0", "c", node.save(moved(4)), weight=2, loss=0.25)
        node.ends("1.0")
        kept = commit(node, 1)
        assert (dict(kept.metrics), kept.best) == ({"loss": 0.5}, False)
        np.testing.assert_allclose(node.load(kept.model)["w"], BASE["w"] + 3, rtol=1e-6)
        assert ask(node, "2.0").model == kept.model
        node.share("2.0", "a", kept.model)
        node.ends("2.0")
        commit(node, 2)
        assert node.hear().HasField("done")
        code, printed = node.end()
        assert (code, printed.count("\n")) == (0, 1)
        assert printed.startswith("round 1: c's answer to 'train': its weight 2 is 66.7 % of all weights together")


def test_a_workflow_started_again_asks_the_same_step_of_the_round_after_its_last_commit(job, flow) -> None:
    job()
    for kept in ([], ["b"]):  # killed in the middle of a round, then undisturbed
        folder_holds = {"committed": 1, "with_": {"rounds": 2}}
        with flow(committed_model=_save(flow, moved(1)), **folder_holds) as node:
            assert ask(node, "2.0").model == node.save(moved(1))
            node.share("2.0", "a", node.save(moved(2)))
            if not kept:
                node.process.kill()
                continue
            node.share("2.0", "b", node.save(moved(4)))
            node.ends("2.0")
            np.testing.assert_allclose(node.load(commit(node, 2).model)["w"], BASE["w"] + 3)
            assert node.hear().HasField("done")


def _save(flow, model) -> str:
    with flow() as node:
        return node.save(model)


def test_fedavg_evaluates_the_new_model_before_its_commit_and_marks_the_best(job, flow) -> None:
    job()
    history = [{"round": 0, "metrics": {}, "best": False}, {"round": 1, "metrics": {"auc": 0.75}, "best": True}]
    base = _save(flow, BASE)
    with_ = {"rounds": 3, "evaluate": True, "best": "auc"}
    with flow(committed=1, committed_model=base, history=history, with_=with_) as node:
        for round_, auc, best in ((2, 0.5, False), (3, 0.8, True)):
            ask(node, f"{round_}.0")
            new = node.save(moved(round_))
            node.share(f"{round_}.0", "a", new, auc=0.1, loss=1)
            node.ends(f"{round_}.0")
            assert ask(node, f"{round_}.1", "evaluate").model == new
            node.share(f"{round_}.1", "a", weight=3, auc=auc)
            node.share(f"{round_}.1", "b", weight=1, auc=auc)
            node.ends(f"{round_}.1")
            kept = commit(node, round_)
            assert (kept.model, kept.best) == (new, best)
            assert dict(kept.metrics) == pytest.approx({"auc": auc, "loss": 1})
        assert node.hear().HasField("done")


def test_fedavg_stops_when_history_has_no_better_round_for_long_enough(job, flow) -> None:
    job()
    history = [
        {"round": 1, "metrics": {"loss": 0.5}, "best": True},
        {"round": 2, "metrics": {"loss": 0.6}, "best": False},
        {"round": 3, "metrics": {"loss": 0.7}, "best": False},
    ]
    base = _save(flow, BASE)
    with_ = {"rounds": 9, "best": "min:loss", "stop_after": 2}
    with flow(committed=3, committed_model=base, history=history, with_=with_) as node:
        assert node.hear().HasField("done")
        assert node.end() == (0, "stopped before round 4: no better min:loss for 2 rounds\n")


OWN = """
import convoy

async def run(fleet: convoy.Fleet, *, rounds: int) -> None:
    print(await fleet.sites(), fleet.job.config["a"], fleet.history[-1]["round"])
    async for round in fleet.rounds(rounds):
        answers = fleet.ask("probe", round.model, sites=["a", "b"], sample=1, settings={"temperature": 0.5})
        print([u.site async for u in answers], answers.left_out)
        try:
            async for _ in fleet.ask("train", {"x": round.model["w"]}, at_least=2):
                pass
        except convoy.NotEnough as too_few:
            fleet.log(str(too_few))
        await round.commit(round.model, metrics={"n": 1}, best=round.last)
"""


def test_a_workflow_of_the_job_s_own_sees_sites_answers_and_who_was_left_out(job, flow) -> None:
    job(flow_py=OWN)
    base = _save(flow, BASE)
    history = [{"round": 0, "metrics": {}, "best": False}]
    with flow(
        "flow.py:run", committed=0, committed_model=base, history=history, config={"a": 5}, with_={"rounds": 1}
    ) as node:
        assert node.hear().HasField("sites")
        node.sites("a", "b")
        question = ask(node, "1.0", "probe")
        assert (list(question.sites), question.sample) == (["a", "b"], 1)
        assert question.settings == '{"temperature": 0.5}'
        node.share("1.0", "a", metric=1)
        node.share("1.0", "b", left_out="gone")
        node.ends("1.0")
        question = ask(node, "1.1")
        np.testing.assert_array_equal(node.load(question.model)["x"], BASE["w"])
        node.ends("1.1", "0 of 2 answered")
        kept = commit(node, 1)
        assert (kept.model, kept.best, dict(kept.metrics)) == (base, True, {"n": 1})
        assert node.hear().HasField("done")
        assert node.end() == (0, "['a', 'b'] 5 0\n['a'] {'b': 'gone'}\n0 of 2 answered\n")


@pytest.mark.parametrize(
    ("workflow", "text", "reason"),
    [
        ("flow.py:run", "async def run(fleet): raise ValueError('no')", "ValueError: no"),
        ("flow.py:go", "", "has no function 'go'"),
        ("flow.py:run", "async def run(fleet): raise SystemExit(0)", "the workflow called sys.exit(0)"),
        ("fedmagic", "", "there is no workflow 'fedmagic'"),
        (
            "flow.py:run",
            "async def run(fleet):\n    async for round in fleet.rounds(2): pass",
            "left round 1 without a commit",
        ),
        (
            "flow.py:run",
            "async def run(fleet):\n    async for r in fleet.rounds(2):\n        await r.commit({'a': 'x'})",
            "'a' is a str, not an array",
        ),
        (
            "flow.py:run",
            "async def run(fleet):\n    async for r in fleet.rounds(2):\n        await r.commit({'a': float('nan')})",
            "tensor 'a' of the model of round 1 is not finite",
        ),
        (
            "flow.py:run",
            "async def run(fleet):\n    async for r in fleet.rounds(1): await r.commit({}, metrics={'auc': None})",
            "metric 'auc' of round 1 is None, not a number",
        ),
        (
            "flow.py:run",
            "async def run(fleet):\n    async for r in fleet.rounds(1): await r.commit({}, metrics=0.5)",
            "the metrics of round 1 are 0.5, a float",
        ),
        (
            "flow.py:run",
            "async def run(fleet):\n    async for r in fleet.rounds(1): await r.commit({}, metrics={3: 1, '3': 2})",
            "two metrics of round 1 have the same name",
        ),
        (
            "flow.py:run",
            "async def run(fleet):\n    async for r in fleet.rounds(1): r.number = 2; await r.commit({})",
            "commit once in each round",
        ),
    ],
)
def test_a_workflow_that_fails_says_why_with_its_story(job, flow, workflow: str, text: str, reason: str) -> None:
    job(flow_py=text)
    base = _save(flow, BASE)
    with flow(workflow, committed=0, committed_model=base) as node:
        failure = node.hear().failure
        assert reason in failure.error
        assert ("Traceback" in failure.traceback) == ("async def" in text)  # else no line of the job led to it
        assert "convoy/" not in failure.traceback
        assert node.end()[0] == 0


NAMES = """
async def run(fleet):
    async for round in fleet.rounds(1):
        for sites in ((name for name in "ab"), None):
            answers = fleet.ask("probe", round.model, sites=sites)
            print([u.site async for u in answers], answers.left_out)
        await round.commit(round.model)
"""


@pytest.mark.parametrize(
    ("came", "printed"),
    [
        ("z", "['z'] {}\n['z'] {}\n"),
        ("a", "['a'] {'b': 'it was not there when it was asked'}\n['a'] {}\n"),
    ],
    ids=["others, as a workflow that starts again hears those that it asked then", "one of those named"],
)
def test_a_workflow_that_names_sites_hears_who_came_and_who_was_not_there(job, flow, came, printed) -> None:
    job(flow_py=NAMES)
    history = [{"round": 0, "metrics": {}, "best": False}]
    with flow("flow.py:run", committed=0, committed_model=_save(flow, BASE), history=history) as node:
        for question in ("1.0", "1.1"):
            ask(node, question, "probe")
            node.share(question, came, metric=1)
            node.ends(question)
        commit(node, 1)
        assert node.hear().HasField("done")
        assert node.end() == (0, printed)


def test_of_a_question_that_has_not_its_answers_nobody_is_said_to_have_been_away(job, flow) -> None:
    job(
        flow_py="from convoy import NotEnough\n"
        "async def run(fleet):\n    async for r in fleet.rounds(1):\n"
        "        answers = fleet.ask('probe', r.model, sites=['a', 'b'], at_least=2)\n"
        "        try:\n            [u async for u in answers]\n"
        "        except NotEnough as few:\n            print(few, answers.left_out)\n"
        "        await r.commit(r.model)"
    )
    with flow("flow.py:run", committed=0, committed_model=_save(flow, BASE)) as node:
        ask(node, "1.0", "probe")
        node.ends("1.0", "too few")
        commit(node, 1)
        assert node.hear().HasField("done")
        assert node.end() == (0, "too few {}\n")


def test_a_metric_that_is_no_number_is_left_out_of_a_commit_and_said(job, flow) -> None:
    job(
        flow_py="async def run(fleet):\n    async for r in fleet.rounds(1):\n"
        "        await r.commit(r.model, metrics={'loss': float('nan'), 'auc': 0.5})"
    )
    with flow("flow.py:run", committed=0, committed_model=_save(flow, BASE)) as node:
        assert dict(commit(node, 1).metrics) == {"auc": 0.5}
        assert node.hear().WhichOneof("it") == "done"
        assert node.end() == (0, "metric 'loss' of round 1 is nan: it is left out\n")


def test_too_few_answers_fail_the_job_with_the_node_s_words(job, flow) -> None:
    job()
    with flow(committed=0, committed_model=_save(flow, BASE)) as node:
        ask(node, "1.0")
        node.ends("1.0", "1 of the 2 sites answered")
        assert node.hear().failure.error == "NotEnough: 1 of the 2 sites answered"


@pytest.mark.parametrize(
    ("given", "said"),
    [
        ("at_least='2'", "'train' is asked with at_least='2' · give a whole number, 0 or more"),
        ("sample=0.5", "'train' is asked with sample=0.5 · give a whole number, 0 or more"),
        ("max_norm=[1, 2]", "'train' is asked with max_norm=[1, 2] · give a number, 0 or more"),
        ("deadline_s=-1", "'train' is asked with deadline_s=-1 · give a number, 0 or more"),
        ("order='first'", "'train' is asked with order='first' · give \"site\" or \"arrival\""),
        ("lr=0.5", "'train' is asked with lr=0.5 · a question has no such option"),
        ("settings={'lr': {1}}", "'train' cannot be asked so: the settings of 'train' cannot be written as JSON"),
        ("reply={'n': 'i8'}", "'train' cannot be asked so: reply asks for 'n' as 'i8'"),
        ("reply={'n': ('datetime64', ())}", "'train' cannot be asked so: 'datetime64' is not a dtype"),
        ("sites='a'", "'train' is asked with sites='a' · give a list: sites=['a']"),
        ("sites=[]", "'train' is asked with an empty list of sites · leave the question out where nobody is to be"),
        ("sites=[1]", "'train' is asked with sites=[1] · give the names of sites"),
        ("settings=[1]", "'train' is asked with settings=[1] · give a mapping of names to plain JSON"),
    ],
)
def test_a_question_with_an_option_that_is_none_fails_the_job_in_words(job, flow, given: str, said: str) -> None:
    job(flow_py=f"async def run(fleet):\n    fleet.ask('train', None, {given})\n")
    with flow("flow.py:run", committed=0, committed_model=_save(flow, BASE)) as node:
        assert node.hear().failure.error.startswith(f"JobFailed: {said}")


def test_whatever_is_a_number_reaches_the_trainer_as_one(job, flow) -> None:
    given = "at_least=np.int64(2), deadline_s=Decimal('1.5'), max_norm=np.array(0.5), grace=np.float32(0.5)"
    job(
        flow_py="import numpy as np\nfrom decimal import Decimal\nasync def run(fleet):\n"
        f"    async for _ in fleet.ask('train', {{}}, {given}): pass\n"
    )
    with flow("flow.py:run", committed=0, committed_model=_save(flow, BASE)) as node:
        asked = ask(node, "0.0")
        assert (asked.at_least, asked.deadline_s, asked.max_norm, asked.grace_s) == (2, 1.5, 0.5, 0.5)


def test_the_initial_model_may_be_a_safetensors_file_or_take_the_config_or_be_none(job, flow, tmp_path) -> None:
    from safetensors.numpy import save_file

    job(train_py="import numpy as np\ndef initial(config): return [np.full(3, config['a'])]")
    save_file({"b": np.ones(3, np.float32), "a": np.zeros(2, np.int8)}, tmp_path / "code" / "initial.safetensors")
    for model, wanted in (("initial.safetensors", {"a", "b"}), ("train.py:initial", {"0"}), ("", set())):
        with flow(model=model, config={"a": 5}) as node:
            assert set(node.load(commit(node, 0).model)) == wanted


def test_a_training_script_that_is_imported_for_its_initial_model_finds_no_tasks(job, flow) -> None:
    job(train_py=f"import convoy\n{INITIAL}\nfor task in convoy.tasks(): 1 / 0\nwhile convoy.is_running(): 1 / 0")
    with flow(model="train.py:initial") as node:
        commit(node, 0)
        ask(node, "1.0")


def test_a_history_that_ends_before_the_last_committed_round_ends_the_process_and_says_so(job, flow, tmp_path) -> None:
    job()
    with flow(committed=3, committed_model=_save(flow, BASE), history=[PAST]) as node:
        assert node.hear().history.after == 0
        node.link.send(pb.WorkerDown(history=pb.History()))
        status, said = node.end()
        assert status == 1
        assert "the node has no rounds after 0 of the 3 that were committed" in said


def test_a_workflow_ends_when_its_node_is_gone(job, flow) -> None:
    job()
    with flow(committed=0, committed_model=_save(flow, BASE)) as node:
        ask(node, "1.0")
        node.link.close()
        assert node.end() == (1, "")
