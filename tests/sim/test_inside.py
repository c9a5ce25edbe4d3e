"""Visits in the process of a simulation: what it is outside of them, what sites find, how many calls one takes."""

import cProfile
import os
import pstats
import sys
from contextlib import redirect_stdout

import pytest

from convoy.control.records import Question
from convoy.model.arrays import Model
from convoy.sim.inside import Inside
from convoy.sim.plan import read_plan
from convoy.sim.run import run as simulate
from convoy.sim.visits import Visit
from convoy.worker import tasks
from convoy.worker.visitor import Work

CHANGES = """
import os, sys

import convoy


def train(task):
    found = [os.getcwd(), list(sys.argv)]
    print("trained")
    os.chdir("/")
    sys.argv.append("more")
    sys.stdout = sys.stderr = None
    return convoy.Reply(task.model, value=found)
"""
NOTHING = """
import numpy as np
import convoy


def initial():
    return {"w": np.zeros(10)}


@convoy.train
def train(task):
    return {name: array + 1 for name, array in task.model.items()}
"""
SHARED = """
import convoy

seen = ""


def train(task):
    global seen
    before = seen
    if task.site == "b":
        seen = task.site
    return convoy.Reply(task.model, value=before)
"""
LATE = """
import convoy

kept = ()


def train(task):
    if task.round < FIRST:
        return convoy.Reply(task.model, value="")
    import late

    before, late.seen = late.seen, task.site
    return convoy.Reply(task.model, value=before)
"""
DEFAULTS = """
import convoy


def kept(*, of=""):
    return of


def train(task):
    before = kept()
    if task.site == "b":
        kept.__kwdefaults__ = {"of": task.site}
    return convoy.Reply(task.model, value=before)
"""
EXCHANGED = """
import sys
import convoy


def train(task):
    if task.site == "b":
        sys.modules.pop("other")
        import late

        late.seen = task.site
    import other, late

    return convoy.Reply(task.model, value=late.seen)
"""
VERBS = """
import convoy as flare

kept = []


def train(task):
    assert flare.is_running()
    flare.receive()
    flare.send(flare.FLModel(metrics={"round": task.round}))
"""
ONCE = """
import convoy

print("loaded")


def train(task):
    import late

    return convoy.Reply(task.model)
"""
MOST = 220  # calls of functions written in Python


def made(folder, **files):
    """Return an engine for a job of these modules."""
    for name in ("code", "logs", "home"):
        (folder / name).mkdir()
    for name, text in files.items():
        (folder / "code" / f"{name}.py").write_text(text)
    work = Work("0" * 32, "changes", folder / "code", "train.py:train", {}, "", "")
    return Inside(work, lambda _: {}, folder / "logs", folder / "home")


@pytest.fixture
def inside(tmp_path):
    return made(tmp_path, train=CHANGES)


def process():
    return os.getcwd(), sys.argv, sys.stdout, sys.stderr, tasks.Here.session


async def test_each_site_finds_its_folder_and_no_arguments_and_in_the_end_the_process_is_as_it_was(inside, tmp_path):
    question, before = Question("0" * 32, "1.0", "train", 1, 1), process()
    with inside.working():
        found = [await inside.start(Visit(site, question, Model({}), Model({})))() for site in ("a", "b")]
        assert os.getcwd() == "/"  # as the trainer left it: nobody else works here before the end
    assert process() == before
    assert [it.value for it in found] == [f'["{tmp_path}/home/{site}", ["train.py"]]' for site in ("a", "b")], found
    assert [(tmp_path / "logs" / f"{site}.log").read_text() for site in ("a", "b")] == ["trained\n"] * 2


async def test_the_process_is_as_it_was_after_a_visit_that_was_interrupted(inside):
    question, before = Question("0" * 32, "1.0", "train", 1, 1), process()
    inside._interrupted = True
    with pytest.raises(KeyboardInterrupt), inside.working():
        await inside.start(Visit("a", question, Model({}), Model({})))()
    assert process() == before


async def values(shared):
    """Return what two rounds of four sites answer."""
    asked = [(site, Question("0" * 32, f"{number}.0", "train", number)) for number in (1, 2) for site in "abcd"]
    with shared.working():
        found = [(await shared.start(Visit(site, it, Model({}), Model({})))()).value for site, it in asked]
    await shared.close()
    return found


async def test_what_one_site_puts_into_modules_that_all_shared_no_other_site_finds(tmp_path):
    """The first site loads them, and the second one changes them: the first one goes on with its own."""
    found = await values(made(tmp_path, train=SHARED))
    assert found == ['""'] * 5 + ['"b"'] + ['""'] * 2


async def test_defaults_of_functions_that_a_task_exchanges_stay_at_its_site(tmp_path):
    found = await values(made(tmp_path, train=DEFAULTS))
    assert found == ['""'] * 5 + ['"b"'] + ['""'] * 2


async def test_a_module_that_a_task_exchanges_for_another_one_stays_at_its_site(tmp_path):
    found = await values(made(tmp_path, train="import other\n" + EXCHANGED, other="", late="seen = ''\n"))
    assert found == ['""', '"b"', '""', '""'] * 2


@pytest.mark.parametrize("kept", ["()", "[]"], ids=["shared", "own"])
async def test_a_function_may_use_the_verbs_of_nvidia_flare_at_each_task(tmp_path, kept):
    shared = made(tmp_path, train=VERBS.replace("[]", kept))
    with shared.working():
        for number in (1, 2, 3):
            question = Question("0" * 32, f"{number}.0", "measure", number)
            done = await shared.start(Visit("a", question, Model({}), Model({})))()
            assert (done.error, done.metrics) == ("", {"round": number})
    await shared.close()


async def test_a_function_that_asks_for_another_task_is_told_so_and_does_not_wait_for_it(tmp_path):
    shared = made(tmp_path, train=VERBS.replace("[]", "()") + "    flare.receive()\n    flare.receive()\n")
    with shared.working():
        question = Question("0" * 32, "1.0", "measure", 1)
        done = await shared.start(Visit("a", question, Model({}), Model({})))()
    assert done.metrics == {"round": 1}  # what it answered before counts
    assert "a function for tasks asked for another task" in (tmp_path / "logs" / "a.log").read_text()


async def test_a_module_that_each_task_imports_is_loaded_for_all_sites_once_it_is_known(tmp_path):
    shared, sites = made(tmp_path, train=ONCE, late=""), [f"site-{number}" for number in range(70)]
    with shared.working():
        for number in (1, 2):
            for site in sites:
                await shared.start(
                    Visit(site, Question("0" * 32, f"{number}.0", "train", number), Model({}), Model({}))
                )()
    logs = [
        (tmp_path / "logs" / f"{site}.log").read_text()
        for site in sites
        if (tmp_path / "logs" / f"{site}.log").exists()
    ]
    assert sum(log.count("loaded") for log in logs) == 2  # for the first site, and for all others


@pytest.mark.parametrize("kept", ["()", "[]"], ids=["shared", "own"])
@pytest.mark.parametrize("first", [1, 2])
async def test_each_site_has_its_own_of_a_module_that_a_task_imports(tmp_path, kept, first):
    """Whether the sites had the other modules together until then, or each of them its own."""
    trainer = LATE.replace("FIRST", str(first)).replace("()", kept, 1)
    found = await values(made(tmp_path, train=trainer, late="seen = ''\n"))
    assert found == ['""'] * 4 + (['"a"', '"b"', '"c"', '"d"'] if first == 1 else ['""'] * 4)


def calls(folder, rounds):
    """Return how often a simulation of forty sites calls functions written in Python."""
    folder.mkdir()
    (folder / "job.yaml").write_text(
        f"name: nothing\nwith: {{rounds: {rounds}}}\ntrainer: train.py\nmodel: train.py:initial\n"
    )
    (folder / "train.py").write_text(NOTHING)
    profile, plan = cProfile.Profile(), read_plan(folder, sites=40)
    with redirect_stdout(None):
        profile.runcall(simulate, plan, folder / "results", workers=0)
    stats = pstats.Stats(profile).stats
    return sum(primitive for (file, _, _), (primitive, *_) in stats.items() if file != "~")


def test_a_visit_takes_few_calls(tmp_path):
    calls(tmp_path / "first", 2)  # which loads what it needs
    few, many = (calls(tmp_path / str(rounds), rounds) for rounds in (5, 15))
    assert (many - few) / (10 * 40) < MOST
