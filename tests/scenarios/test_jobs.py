"""Jobs as people meet them: they fail, wait, are ended, forgotten, fetched, and say why at each turn."""

import textwrap
import time

import numpy as np
import pytest
from safetensors.numpy import load_file

from convoy.errors import BadInput, NotFound, Refused
from tests.scenarios.conftest import adding, ended, family, left_out, put_job, took_part

pytestmark = pytest.mark.scenario


def files_of(three, job):
    """Return the folders that a job has at the sites."""
    return [node.kit.name for node in three.nodes.values() if (node.kit / "work" / "jobs" / job).exists()]


def workers(three):
    """Return the trainers that run now."""
    return {name: node.children() for name, node in three.nodes.items() if node.children()}


def test_a_trainer_that_raises_fails_the_job_with_its_site_its_error_and_its_traceback(three, session, tmp_path):
    train = adding("if number == 2: raise ValueError('no such patient')")
    flow = three.server.children
    job = put_job(tmp_path / "raises", {"train.py": train}, with_={"rounds": 2, "min_sites": 3})
    detail = session.wait(session.submit(job).id)
    assert detail.job.state == "failed"
    assert "site-2: ValueError: no such patient" in detail.job.cause
    assert detail.traceback.startswith("at site-2, task 1.0:\nTraceback")
    assert 'train.py", line' in detail.traceback
    assert "at site-1" not in detail.traceback
    assert workers(three) == {}
    assert files_of(three, detail.job.id) == []
    assert ended(flow(), within_s=30)


def test_a_script_that_cannot_be_imported_fails_the_job_and_names_what_is_missing(session, tmp_path):
    files = {"train.py": "import no_such_module\n" + adding(), "first.py": adding()}
    job = put_job(tmp_path / "imports", files, model="first.py:initial", with_={"min_sites": 3})
    detail = session.wait(session.submit(job).id)
    assert detail.job.state == "failed"
    assert ": ModuleNotFoundError: No module named 'no_such_module'" in detail.job.cause
    assert detail.traceback.startswith("at site-")
    assert "import no_such_module" in detail.traceback


def test_a_trainer_that_dies_at_a_task_is_tried_three_times_and_then_is_the_cause(session, tmp_path):
    train = adding("print('here I go', flush=True)\nif number == 3: os._exit(7)")
    job = put_job(tmp_path / "dies", {"train.py": train}, with_={"rounds": 1, "min_sites": 3})
    detail = session.wait(session.submit(job).id)
    assert detail.job.state == "failed"
    assert "site-3: the trainer died 3 times at this task: exit code 7" in detail.job.cause
    assert sum(1 for line in session.logs(detail.job.id, site="site-3") if "here I go" in line.text) == 3


def test_a_trainer_that_dies_once_is_started_anew_and_takes_part(session, tmp_path):
    train = adding("if number == 1 and not os.path.exists('once'):\n    open('once', 'w')\n    os._exit(7)")
    job = put_job(tmp_path / "dies-once", {"train.py": train}, with_={"rounds": 2, "min_sites": 3})
    detail = session.wait(session.submit(job).id)
    assert detail.job.state == "completed", detail.job.cause
    assert took_part(detail.rounds[1]) == ["site-1", "site-2", "site-3"]


def test_one_bad_site_of_three_is_named_in_every_round_and_the_rest_goes_on(session, tmp_path):
    train = adding("if number == 2: raise ValueError('no such patient')")
    job = put_job(tmp_path / "one-bad", {"train.py": train}, with_={"rounds": 3, "min_sites": 2})
    detail = session.wait(session.submit(job).id)
    assert detail.job.state == "completed", detail.job.cause
    assert len(detail.rounds) == 4
    for done in detail.rounds[1:]:
        assert took_part(done) == ["site-1", "site-3"]
        assert left_out(done) == {"site-2": "train: ValueError: no such patient"}


def test_logs_of_every_site_arrive_while_the_trainers_still_work_and_each_in_order(three, session, tmp_path):
    train = adding(
        """
        print("begins round", task.round)
        sys.stderr.write(f"a word on stderr in round {task.round}\\n")
        if task.round == 2:
            gate(task)
        print("ends round", task.round)
        """
    )
    job = session.submit(put_job(tmp_path / "talks", {"train.py": train}, with_={"rounds": 2, "min_sites": 3})).id
    said = {site: [] for site in three.nodes}
    for line in session.logs(job, follow=True):
        if line.site == "server":
            continue
        said[line.site].append(line.text.split(" ", 1)[1])
        if len(said[line.site]) == 5:  # everything before the gate is here, and the trainer stands at it
            three.gates[line.site].wait()
            three.gates[line.site].open()
    for lines in said.values():
        assert lines == [
            "begins round 1", "a word on stderr in round 1", "ends round 1",
            "begins round 2", "a word on stderr in round 2", "ends round 2",
        ]  # fmt: skip


def test_the_last_words_of_a_trainer_are_in_the_log_even_without_a_line_end(session, tmp_path):
    loop = """
        for task in convoy.tasks():
            task.reply({"w": task.model["w"]})
        print("the job is over")
        sys.stdout.write("bye")
    """
    train = "import sys\nimport convoy\n" + textwrap.dedent(loop)
    files = {"train.py": train, "first.py": adding()}
    job = put_job(tmp_path / "words", files, model="first.py:initial", with_={"rounds": 1, "min_sites": 3})
    detail = session.wait(session.submit(job).id)
    assert detail.job.state == "completed", detail.job.cause
    for site in ("site-1", "site-2", "site-3"):
        said = [line.text.split(" ", 1)[1] for line in session.logs(detail.job.id, site=site)]
        assert said == ["the job is over", "bye"]
    session.fetch(detail.job.id, tmp_path / "results")
    for log in (tmp_path / "results").rglob("site-*.log"):
        assert log.read_text().split("\n")[-2].endswith(" bye")


def test_an_aborted_job_is_gone_within_ten_seconds_whatever_its_trainers_do(three, session, tmp_path):
    train = adding(
        """
        import signal, subprocess
        signal.signal(signal.SIGTERM, signal.SIG_IGN)
        deaf = "import signal; signal.signal(15, signal.SIG_IGN); signal.pause()"
        subprocess.Popen([sys.executable, "-c", deaf], start_new_session=task.site == "site-2")
        with open(task.data["arrived"], "w") as arrived:
            arrived.write("here")
        with open(task.data["gate"]) as gate:
            gate.read()
        """
    )
    before = set(family(three.server, *three.nodes.values()))  # the server's signer
    job = session.submit(put_job(tmp_path / "stubborn", {"train.py": train}, with_={"rounds": 1, "min_sites": 3})).id
    for gate in three.gates.values():
        gate.wait()
    pids = set(family(three.server, *three.nodes.values())) - before
    began = time.monotonic()
    view = session.abort(job)
    assert time.monotonic() - began < 10
    assert (view.state, view.cause) == ("aborted", "aborted by ada@example.org")
    assert workers(three) == {}
    assert files_of(three, job) == []
    assert len(pids) >= 8  # trainers and what they started, and the workflow
    assert ended(pids, within_s=30)
    with pytest.raises(Refused, match="has ended already"):
        session.abort(job)


def test_a_job_aborted_while_its_trainers_start_leaves_nothing(three, session, tmp_path):
    train = "import signal\nsignal.signal(signal.SIGTERM, signal.SIG_IGN)\n" + adding()
    for _ in range(3):
        job = session.submit(put_job(tmp_path / "early", {"train.py": train}, with_={"rounds": 1, "min_sites": 3})).id
        assert session.abort(job).state == "aborted"
        assert workers(three) == {}
        assert files_of(three, job) == []


def test_a_deleted_job_is_forgotten_with_its_files_and_a_running_one_is_not(three, session, tmp_path):
    folder = put_job(tmp_path / "forget", {"train.py": adding("gate(task)")}, with_={"rounds": 1, "min_sites": 3})
    job = session.submit(folder).id
    for gate in three.gates.values():
        gate.wait()
    with pytest.raises(Refused, match="has not ended"):
        session.delete(job)
    for gate in three.gates.values():
        gate.open()
    assert session.wait(job).job.state == "completed"
    session.delete(job)
    with pytest.raises(NotFound):
        session.job(job)
    assert job not in [one.id for one in session.jobs()]
    work = three.server.kit / "work"
    assert not (work / "results" / job).exists() or not any((work / "results" / job).iterdir())


def test_a_clone_is_a_new_job_of_the_same_files(session, tmp_path):
    job = session.submit(put_job(tmp_path / "twice", {"train.py": adding()}, with_={"rounds": 2, "min_sites": 3})).id
    first = session.wait(job)
    second = session.wait(session.clone(job).id)
    assert second.job.id != job
    assert second.spec == first.spec
    assert [done.model for done in second.rounds] == [done.model for done in first.rounds]


@pytest.mark.parametrize("size", [4, 100_000])
def test_the_fetched_model_opens_in_safetensors_with_the_weighted_mean_in_it(size, session, tmp_path):
    job = put_job(tmp_path / "numbers", {"train.py": adding(size=size)}, with_={"rounds": 3, "min_sites": 3})
    job = session.submit(job).id
    session.wait(job)
    names = {path.name for path in session.fetch(job, tmp_path / "results")}
    assert {"model.safetensors", "rounds.json", "metrics.jsonl", "job.json"} <= names
    (found,) = (tmp_path / "results").rglob("model.safetensors")
    model = load_file(found)
    assert model.keys() == {"w"}
    np.testing.assert_allclose(model["w"], np.full(size, 3 * (1 * 1 + 2 * 2 + 3 * 3) / 6, np.float32), rtol=1e-6)


def test_a_job_that_wants_more_sites_than_there_are_is_refused_with_its_line(session, tmp_path):
    with pytest.raises(BadInput, match=r"job.yaml:\d+:\d+.*\"min_sites\" is 4; the project has 3 sites"):
        session.submit(put_job(tmp_path / "greedy", {"train.py": adding()}, with_={"min_sites": 4}))


def test_a_job_that_no_site_has_the_room_for_is_refused_with_what_they_have(session, tmp_path):
    many = put_job(tmp_path / "many-cores", {"train.py": adding()}, with_={"min_sites": 3}, resources={"cpu": 4096})
    with pytest.raises(BadInput, match=r"job.yaml:\d+:\d+.*4096 cores.*; 0 of the 3 sites") as refused:
        session.submit(many)
    assert all(f"{site} has " in refused.value.why for site in ("site-1", "site-2", "site-3"))


def test_a_job_waits_for_what_another_holds_lets_others_pass_and_starts_when_that_is_free(three, session, tmp_path):
    memory = min(site.memory for site in session.sites())
    big = {"memory": f"{memory >> 20}Mi"}
    first = put_job(
        tmp_path / "first", {"train.py": adding("gate(task)")}, with_={"rounds": 1, "min_sites": 3}, resources=big
    )
    second = put_job(tmp_path / "second", {"train.py": adding()}, with_={"rounds": 1, "min_sites": 3}, resources=big)
    first = session.submit(first).id
    for gate in three.gates.values():
        gate.wait()
    waiting = session.submit(second)
    free = "waiting for free cores, memory or devices at site-1, site-2, site-3"
    assert (waiting.state, waiting.cause) == ("submitted", free)
    other = put_job(tmp_path / "other", {"train.py": adding()}, with_={"rounds": 1, "min_sites": 3})
    assert session.wait(session.submit(other).id).job.state == "completed"
    assert session.job(waiting.id).job.state == "submitted"
    before = time.time()
    for gate in three.gates.values():
        gate.open()
    second = session.wait(waiting.id).job
    assert second.state == "completed"
    assert second.started_at >= before  # not that the first has ended: its sites are free before its results are kept
    assert session.wait(first).job.state == "completed"


BLIND = """

@convoy.evaluate
def evaluate(task):
    return convoy.Reply(weight=WEIGHT, metrics={"auc": float("nan") if task.round in ROUNDS else task.round / 10})
"""


def measuring(folder, *, blind=(), weight=1, rounds=3):
    """Return a job whose metric is NaN in the blind rounds, with this weight at every site."""
    train = adding() + BLIND.replace("ROUNDS", repr(tuple(blind))).replace("WEIGHT", str(weight))
    with_ = {"rounds": rounds, "min_sites": 3, "evaluate": True, "best": "auc"}
    return put_job(folder / "blind", {"train.py": train}, with_=with_)


def test_a_round_without_the_metric_of_best_is_not_the_best_and_the_log_says_why(session, tmp_path):
    detail = session.wait(session.submit(measuring(tmp_path, blind=[1, 3])).id)
    assert detail.job.state == "completed", detail.job.cause
    assert [done.best for done in detail.rounds] == [False, False, True, False]
    log = [line.text for line in session.logs(detail.job.id, site="server")]
    for number in (1, 3):
        assert any(f"round {number}: no site gave 'auc', which `best` names, as a finite number" in it for it in log)


@pytest.mark.parametrize("wrong", [{"blind": [1, 2]}, {"weight": 0}], ids=["nan", "weight 0"])
def test_a_metric_of_best_that_never_comes_is_told_at_the_end_and_the_rounds_are_kept(wrong, session, tmp_path):
    detail = session.wait(session.submit(measuring(tmp_path, rounds=2, **wrong)).id)
    assert detail.job.state == "failed"
    assert "no site gave the metric 'auc' in any round" in detail.job.cause
    assert "the metrics that came: number" in detail.job.cause
    assert [done.round for done in detail.rounds if done.model] == [0, 1, 2]


def test_evaluation_finds_the_best_model_and_the_job_stops_when_none_is_better(session, tmp_path):
    train = adding() + (
        "\n\n@convoy.evaluate\ndef evaluate(task):\n"
        "    w = float(task.model['w'][0])\n"
        "    return {'gap': abs(w - 5.0) + int(task.site[-1]) / 100}\n"
    )
    spec = {"rounds": 9, "min_sites": 3, "evaluate": True, "best": "min:gap", "stop_after": 2}
    job = session.submit(put_job(tmp_path / "best", {"train.py": train}, with_=spec)).id
    detail = session.wait(job)
    assert detail.job.state == "completed", detail.job.cause
    step = 14 / 6  # 2.33, 4.67, 7.0, 9.33: nearest to 5 after two rounds, and two more are tried
    assert [done.best for done in detail.rounds] == [False, True, True, False, False]
    assert [done.metrics.get("gap") for done in detail.rounds[1:]] == pytest.approx(
        [abs(n * step - 5) + 14 / 600 - 0.01 + 0.02 / 3 * 0 + 0.02 for n in (1, 2, 3, 4)], abs=0.02
    )
    folder = tmp_path / "results"
    session.fetch(job, folder)
    (best,), (last,) = folder.rglob("best.safetensors"), folder.rglob("model.safetensors")
    np.testing.assert_allclose(load_file(best)["w"], 2 * step, rtol=1e-6)
    np.testing.assert_allclose(load_file(last)["w"], 4 * step, rtol=1e-6)
    assert any("stopped before round 5" in line.text for line in session.logs(job, site="server"))


FLOW = '''
"""A workflow of the job's own: it asks for numbers in its own words, and keeps the largest."""

async def run(fleet, *, turns: int, at_least: int = 1) -> None:
    async for round in fleet.rounds(turns):
        sites = await fleet.sites()
        found = {}
        async for update in fleet.ask("measure", round.model, at_least=at_least, settings={"factor": round.number}):
            found[update.site] = update.metrics["size"]
        fleet.log(f"round {round.number}: {sites} say {found}")
        arrays = {"w": round.model["w"] + max(found.values())}
        await round.commit(arrays, metrics={"largest": max(found.values())}, best=True)
'''
MEASURE = """
import numpy as np
import convoy

def initial(config):
    return {"w": np.full(3, config["start"], np.float64)}

def measure(task):
    return convoy.Reply(metrics={"size": int(task.site[-1]) * task.settings["factor"]})
"""


def test_a_workflow_of_the_jobs_own_asks_in_its_own_words_and_commits_what_it_makes(session, tmp_path):
    job = put_job(
        tmp_path / "own-flow",
        {"flow.py": FLOW, "train.py": MEASURE},
        workflow="flow.py:run", trainer="train.py:measure", config={"start": 0.5}, with_={"turns": 2, "at_least": 3},
    )  # fmt: skip
    job = session.submit(job).id
    detail = session.wait(job)
    assert detail.job.state == "completed", detail.job.cause
    assert [done.metrics for done in detail.rounds] == [{}, {"largest": 3.0}, {"largest": 6.0}]
    session.fetch(job, tmp_path / "results")
    (model,) = (tmp_path / "results").rglob("model.safetensors")
    assert load_file(model)["w"].tolist() == [9.5, 9.5, 9.5]
    said = [line.text for line in session.logs(job, site="server")]
    assert any("round 2: ['site-1', 'site-2', 'site-3'] say" in line for line in said)


def test_a_workflow_that_raises_fails_the_job_with_its_own_traceback(session, tmp_path):
    flow = "async def run(fleet):\n    raise RuntimeError('I give up')\n"
    job = put_job(tmp_path / "bad-flow", {"flow.py": flow, "train.py": adding()}, workflow="flow.py:run")
    detail = session.wait(session.submit(job).id)
    assert (detail.job.state, detail.job.cause) == ("failed", "RuntimeError: I give up")
    assert "flow.py" in detail.traceback


def test_with_one_job_at_a_time_the_second_waits_for_the_first(gated, tmp_path):
    federation, gates = gated(server_settings="max_jobs: 1")
    first = put_job(tmp_path / "first", {"train.py": adding("gate(task)")}, with_={"rounds": 1, "min_sites": 2})
    second = put_job(tmp_path / "second", {"train.py": adding()}, with_={"rounds": 1, "min_sites": 2})
    with federation.session() as session:
        first = session.submit(first).id
        for gate in gates.values():
            gate.wait()
        waiting = session.submit(second)
        assert (waiting.state, waiting.cause) == (
            "submitted",
            "waiting for one of the 1 running jobs to end (max_jobs: 1)",
        )
        assert session.status().jobs_waiting == 1
        for gate in gates.values():
            gate.open()
        second = session.wait(waiting.id).job
        assert second.state == "completed"
        assert second.started_at >= session.job(first).job.ended_at


ROTATING = """
import numpy as np
import convoy


def initial():
    return {f"layer.{n}": np.full(50_000, n, np.float32) for n in range(5)}


@convoy.train
def train(task):
    if task.round % 3 == 0:  # tensors that nobody has
        return {name: array + 5 * task.round for name, array in task.model.items()}
    return {f"layer.{n}": task.model[f"layer.{(n + 1) % 5}"] for n in range(5)}
"""


def test_an_update_of_which_the_server_has_every_tensor_needs_no_bytes_and_leaves_its_connection_in_step(
    started, tmp_path
):
    federation = started()
    with federation.session() as session:
        files, rounds = {"train.py": ROTATING}, {"rounds": 12, "min_sites": 1}
        job = put_job(tmp_path / "rotating", files, with_=rounds, sites=["site-1"])
        done = session.wait(session.submit(job).id)
    assert done.job.state == "completed", done.job.cause
    assert len({made.model for made in done.rounds}) == 13
    assert "damaged" not in federation.server.log.read_text()
    assert "update not taken" not in federation.nodes["site-1"].log.read_text()
