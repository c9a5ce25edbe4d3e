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
MOST = 235  # calls of functions written in Python


@pytest.fixture
def inside(tmp_path):
    for name in ("code", "logs", "home"):
        (tmp_path / name).mkdir()
    (tmp_path / "code" / "train.py").write_text(CHANGES)
    work = Work("0" * 32, "changes", tmp_path / "code", "train.py:train", {}, "", "")
    return Inside(work, lambda _: {}, tmp_path / "logs", tmp_path / "home")


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
