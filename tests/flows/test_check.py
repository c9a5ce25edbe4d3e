"""What is said of a job before it runs."""

from __future__ import annotations

import numpy as np
import pytest
import safetensors.numpy

from convoy.errors import BadInput
from convoy.flows import check
from convoy.flows.check import check_job
from convoy.spec.job import read_job_document

TRAIN = b"""
raise SystemExit("nobody runs this")
from elsewhere import borrowed
if True:
    def train(task): ...
made = lambda: 1
def initial(): ...
"""
FLOW = b"""
async def run(
    fleet, *, rounds: int, lr: float = 0.1, name: "str | None" = None, free: list[int] = (), odd: Odd = 1
): ...
async def open_(fleet, a, b=1, **more): ...
def slow(fleet): ...
"""
FILES = {
    "train.py": TRAIN,
    "flow.py": FLOW,
    "bad.py": b"x = (\n",
    "lib/deep.py": b"def train(task): ...",
    "good.safetensors": safetensors.numpy.save({"w": np.ones(2)}),
    "bad.safetensors": b"hello world, this is no model",
    "notes.txt": b"",
}
GOOD = "name: demo\ntrainer: train.py\n"


def problem(text: str, sites=("a", "b", "c")) -> BadInput:
    job, document = read_job_document(text, "job.yaml")
    with pytest.raises(BadInput) as raised:
        check_job(job, document, FILES, sites)
    return raised.value


@pytest.mark.parametrize(
    "more",
    [
        "",
        "with: {rounds: 3, min_sites: 3, best: min:loss, stop_after: 2, deadline: 90, max_norm: 5, evaluate: true}\n",
        "with: {deadline: 10m, sample: 2, min_sites: 2, max_norm: 0.5}\n",
        "sites: [a, c]\n",
        "model: train.py:initial\n",
        "model: good.safetensors\n",
        "workflow: flow.py:run\nwith: {rounds: 3, lr: 1, name: null, free: [1], odd: {}}\n",
        "workflow: flow.py:open_\nwith: {a: 1, anything: 2}\n",
    ],
)
def test_a_good_job_passes_and_none_of_its_code_runs(more: str) -> None:
    job, document = read_job_document(GOOD + more, "job.yaml")
    check_job(job, document, FILES, ["a", "b", "c"])
    check_job(job, document, FILES)


@pytest.mark.parametrize("trainer", ["train.py:train", "train.py:borrowed", "train.py:made", "./lib/deep.py:train"])
def test_a_trainer_s_function_may_be_defined_borrowed_or_made(trainer: str) -> None:
    job, document = read_job_document(f"name: demo\ntrainer: {trainer}\n", "job.yaml")
    check_job(job, document, FILES)


@pytest.mark.parametrize(
    ("text", "what", "fix"),
    [
        ("name: x\ntrainer: trian.py\n", "job.yaml:2:1: the job has no file trian.py", 'did you mean "train.py"?'),
        ("name: x\ntrainer: notes.txt\n", "job.yaml:2:1: notes.txt is not a Python file", ""),
        ("name: x\ntrainer: bad.py\n", "bad.py:1:5: not valid Python", ""),
        ("name: x\ntrainer: train.py:tarin\n", "job.yaml:2:1: train.py has no function 'tarin'", '"train"?'),
        (GOOD + "model: train.py:begin\n", "job.yaml:3:1: train.py has no function 'begin'", ""),
        (GOOD + "model: initial.safetensors\n", "job.yaml:3:1: the job has no file initial.safetensors", ""),
        (GOOD + "model: bad.safetensors\n", "job.yaml:3:1: bad.safetensors is not a safetensors file", ""),
        (GOOD + "model: notes.txt\n", "job.yaml:3:1: \"model\" is 'notes.txt'", "train.py:initial"),
        (
            GOOD + "with: {keys: ['w*']}\n",
            "job.yaml:3:8: `keys` divide a model, and the job has none",
            "train.py:initial",
        ),
        (
            GOOD + "model: good.safetensors\nwith: {keys: ['!v']}\n",
            "4:8: keys: '!v' matches no tensor",
            "name a tensor",
        ),
        (GOOD + "model: good.safetensors\nwith: {keys: [w]}\n", "keys: ['w'] match every tensor", "leave `keys` out"),
        (GOOD + "model: train.py:initial\nwith: {keys: [1]}\n", '"keys" is [1]', "1 is no pattern"),
        (GOOD + "model: train.py:initial\nwith: {keys: w}\n", "\"keys\" is 'w'; wanted a list or nothing", ""),
        (GOOD + "workflow: fedavgg\n", "job.yaml:3:1: there is no workflow 'fedavgg'", '"fedavg"?'),
        (GOOD + "workflow: FedAvg\n", "there is no workflow 'FedAvg'", '"fedavg"?'),
        (GOOD + "workflow: zzz\n", "there is no workflow 'zzz'", "; or write your own: `flow.py:run`"),
        (GOOD + "workflow: fedprox\nwith: {Mu: 0.1}\n", "has no parameter 'Mu'", 'did you mean "mu"?'),
        (GOOD + "workflow: fedprox\nwith: {zzz: 0.1}\n", "has no parameter 'zzz'", "there are mu, rounds, "),
        (GOOD + "workflow: fedprox\nwith: {zzz: 0.1}\n", "has no parameter 'zzz'", ", … and "),
        (
            "name: x\nworkflow: statistics\nwith: {columns: age}\n",
            "\"columns\" is 'age'; wanted a list",
            '`columns: ["age", "sex"]`',
        ),
        (
            "name: x\nworkflow: statistics\nwith: {columns: [a], quantiles: 1, ranges: 3}\n",
            '"quantiles" is 1; wanted a list',
            "`quantiles: [0.5, 0.9]`",
        ),
        (GOOD + "workflow: flow.py:rum\n", "job.yaml:3:1: flow.py has no function 'rum'", '"run"?'),
        (GOOD + "workflow: flow.py:slow\n", "flow.py:6:1: slow is no async function", "async def slow"),
        (GOOD + "with:\n  round: 3\n", "job.yaml:4:3: workflow fedavg has no parameter 'round'", '"rounds"?'),
        (GOOD + "with:\n  rounds: many\n", "job.yaml:4:3: \"rounds\" is 'many'; wanted a whole number", "`rounds: 5`"),
        (GOOD + "with:\n  rounds: true\n", 'job.yaml:4:3: "rounds" is True; wanted a whole number', ""),
        (GOOD + "with:\n  evaluate: 1\n", 'job.yaml:4:3: "evaluate" is 1; wanted true or false', ""),
        (GOOD + "with:\n  rounds: 0\n", 'job.yaml:4:3: "rounds" is 0', "wanted 1 or more"),
        (GOOD + "with:\n  deadline: soon\n", "job.yaml:4:3: \"deadline\" is 'soon'", "10m"),
        (GOOD + "with:\n  best: 'most:auc'\n", "job.yaml:4:3: \"best\" is 'most:auc'", "min:loss"),
        (GOOD + "with:\n  stop_after: 2\n", 'job.yaml:4:3: "stop_after" is 2', "best: auc"),
        (GOOD + "with: {sample: 1, min_sites: 2}\n", '"sample" is 1', "can never give min_sites"),
        (GOOD + "with:\n  min_sites: 4\n", 'job.yaml:4:3: "min_sites" is 4; the project has 3 sites', ""),
        (GOOD + "sites: [a, d]\n", "job.yaml:3:12: the project has no site 'd'", ""),
        (GOOD + "sites: [a]\nwith: {min_sites: 2}\n", '"min_sites" is 2; the job names 1 site', ""),
        (GOOD + "workflow: flow.py:run\n", "workflow flow.py:run needs the parameter 'rounds'", "rounds: …"),
        (GOOD + "workflow: flow.py:run\nwith: {rounds: 1, lr: x}\n", "\"lr\" is 'x'; wanted a number", ""),
        (GOOD + "workflow: flow.py:run\nwith: {rounds: 1, name: 3}\n", '"name" is 3; wanted text or nothing', ""),
        (GOOD + "workflow: flow.py:run\nwith: {rounds: 1, x: 3}\n", "has no parameter 'x'", ""),
        (GOOD + "workflow: flow.py:open_\n", "needs the parameter 'a'", ""),
    ],
)
def test_each_mistake_has_its_own_message_with_its_line(text: str, what: str, fix: str) -> None:
    found = problem(text)
    assert what in found.what
    assert fix in found.fix


STATISTICS = "name: x\nworkflow: statistics\nwith: {table: t, columns: [a]}\n"


@pytest.mark.parametrize(
    ("text", "what", "fix"),
    [
        ("name: x\n", 'job.yaml:1:1: "trainer" is missing', "trainer: train.py"),
        (STATISTICS + "trainer: train.py\n", 'job.yaml:4:1: workflow statistics has no "trainer"', "remove this line"),
        (STATISTICS + "model: train.py:initial\n", 'job.yaml:4:1: workflow statistics has no "model"', "remove"),
        (STATISTICS + "image: a/b\n", 'job.yaml:4:1: workflow statistics has no "image"', "remove"),
        ("name: x\nworkflow: flow.py:open_\nwith: {a: 1}\nimage: a/b\n", '"image" has no effect', "remove it"),
        (STATISTICS.replace("table: t, ", ""), "workflow statistics needs the parameter 'table'", "table: …"),
        (STATISTICS.replace("[a]", "[a], quorum: 4"), '"quorum" is 4; the project has 3 sites', "at most 3"),
        (
            STATISTICS.replace("[a]", "[a], statistics: [median]"),
            "\"statistics\" is ['median']",
            "out of count, missing",
        ),
    ],
)
def test_a_job_for_convoys_own_trainer_brings_none_and_any_other_does(text, what, fix) -> None:
    found = problem(text)
    assert what in found.what
    assert fix in found.fix


def test_a_job_without_code_passes() -> None:
    for text in (STATISTICS, "name: x\nworkflow: flow.py:open_\nwith: {a: 1}\n"):
        job, document = read_job_document(text, "job.yaml")
        check_job(job, document, FILES, ["a", "b", "c"])


def test_all_mistakes_are_told_at_once() -> None:
    text = "name: x\ntrainer: nope.py\nmodel: nope.safetensors\nwith: {rounds: x, more: 1}\nsites: [z]\n"
    job, document = read_job_document(text, "job.yaml")
    assert len(check.problems(job, document, FILES, ["a"])) == 5
    assert problem(text).why.count("also ") == 4


ASKED = "name: demo\ntrainer: {}\nwith:\n  evaluate: true\n"
DECORATED = b"import convoy\n@convoy.train\ndef train(task): ...\n"


@pytest.mark.parametrize(
    ("trainer", "files"),
    [
        ("t.py", {"t.py": DECORATED}),
        ("t.py:train", {"t.py": b"def train(task): ..."}),
    ],
)
def test_a_job_that_evaluates_without_a_function_for_it_is_told(trainer, files) -> None:
    job, document = read_job_document(ASKED.format(trainer), "job.yaml")
    with pytest.raises(BadInput, match=r'^job.yaml:4:3: "evaluate" is true, and t.py has no function') as raised:
        check_job(job, document, files)
    assert "@convoy.evaluate" in raised.value.fix


def test_a_workflow_that_always_evaluates_says_so_where_there_is_no_function_for_it() -> None:
    job, document = read_job_document("name: demo\ntrainer: t.py:train\nworkflow: cross_site\n", "job.yaml")
    with pytest.raises(BadInput, match=r"^job.yaml:3:1: workflow cross_site asks for evaluations, and t.py has no"):
        check_job(job, document, {"t.py": b"def train(task): ...\n"})


@pytest.mark.parametrize(
    ("trainer", "files"),
    [
        ("t.py", {"t.py": DECORATED + b"@convoy.evaluate\ndef measure(task): ...\n"}),
        ("t.py", {"t.py": b"import convoy\nfor task in convoy.tasks(): ...\n"}),
        ("t.py", {"t.py": b"import other\n" + DECORATED, "other.py": b"@evaluate\ndef measure(task): ...\n"}),
        ("t.py:train", {"t.py": b"def train(task): ...\nfrom other import evaluate\n"}),
        ("t.py:train", {"t.py": b"from other import *\ndef train(task): ...\n"}),
    ],
)
def test_a_job_that_can_evaluate_passes(trainer, files) -> None:
    job, document = read_job_document(ASKED.format(trainer), "job.yaml")
    check_job(job, document, files)


SMALL = (2.0, 1 << 30, 0.0)


def test_more_than_the_sites_have_in_all_is_told_with_what_they_have() -> None:
    job, document = read_job_document(GOOD + "resources: {cpu: 999}\nwith: {min_sites: 2}\n", "job.yaml")
    with pytest.raises(BadInput) as raised:
        check_job(job, document, FILES, ["a", "b"], {"a": SMALL, "b": (1e3, 1 << 40, 8)})
    assert 'job.yaml:3:1: "resources" asks for 999 cores' in raised.value.what
    assert "1 of the 2 sites" in raised.value.what
    assert raised.value.why == "a has 2 cores, 1024Mi of memory and 0 GPUs"


@pytest.mark.parametrize("more", ["with: {min_sites: 1}\n", "sites: [b]\n"])
def test_a_site_that_has_enough_or_is_away_may_be_waited_for(more: str) -> None:
    job, document = read_job_document(GOOD + "resources: {cpu: 999}\n" + more, "job.yaml")
    check_job(job, document, FILES, ["a", "b"], {"a": SMALL})


@pytest.mark.parametrize("key", ["min_sites", "sample", "quorum"])
def test_a_job_that_names_its_sites_needs_no_federation_to_be_told_that_they_are_too_few(key: str) -> None:
    job, document = read_job_document(GOOD + f"sites: [a, b, c]\nwith: {{{key}: 5}}\n", "job.yaml")
    with pytest.raises(BadInput, match=f'job.yaml:4:8: "{key}" is 5; the job names 3 sites'):
        check_job(job, document, FILES)
