"""GPUs of a simulation: how many workers fit, which of them gets which GPU, and what is said where there is none."""

import pytest

from convoy.errors import BadInput
from convoy.sim import gpus
from convoy.sim.plan import read_plan
from convoy.sim.run import run
from convoy.sim.workers import gathered
from convoy.spec import hardware
from tests.scenarios.conftest import put_job

SEES = """
import os
import numpy as np


def initial():
    return {"w": np.zeros(1)}


def train(task):
    print("sees", os.environ["CUDA_VISIBLE_DEVICES"], "in", os.getpid())
    return {"w": task.model["w"] + 1}
"""
COMPUTES = """
import numpy as np
import torch


def initial():
    return {"w": np.zeros(8, np.float32)}


def train(task):
    assert torch.cuda.device_count() == 1
    w = torch.from_numpy(task.model["w"].copy()).cuda()
    print("computed on", torch.cuda.get_device_name(0))
    return {"w": (w + 1).cpu()}
"""


def simulate(plan, results, *, workers=None, gpus_per_site):
    with gathered(workers, engine="processes", gpus_per_site=gpus_per_site, say=print) as choice:
        return run(plan, results, workers=choice)


@pytest.mark.parametrize(
    ("count", "variable", "found"),
    [
        (2, None, ("0", "1")),
        (2, "1", ("1",)),
        (4, " 3, 1 ", ("3", "1")),
        (4, "2,-1,3", ("2",)),
        (4, "", ()),
        (1, "MIG-5c89", ("MIG-5c89",)),
        (0, None, ()),
        (0, "0,1", ()),
    ],
)
def test_the_gpus_are_those_of_the_variable_or_of_the_machine(count, variable, found):
    assert gpus.visible(count, variable) == found


@pytest.mark.parametrize(
    ("devices", "each", "slots"),
    [
        ("0", 1.0, ["0"]),
        ("0", 0.25, ["0"] * 4),
        ("01", 0.5, ["0", "1", "0", "1"]),
        ("01", 0.4, ["0", "1", "0", "1"]),
        ("01", 0.6, ["0", "1"]),
        ("0123", 2.0, ["0,1", "2,3"]),
        ("012", 2.0, ["0,1"]),
        ("0", 2.0, []),
    ],
)
def test_workers_share_gpus_in_turn(devices, each, slots):
    assert gpus.slots(devices, each) == slots


@pytest.mark.parametrize("parts", range(1, 101))
def test_a_share_of_one_part_in_n_lets_n_workers_on_a_gpu(parts):
    assert len(gpus.slots("0", 1 / parts)) == parts


@pytest.mark.parametrize(
    ("machines", "each", "room"),
    [
        ([(4, 0), (2.5, 0)], None, 6),
        ([(4, 1), (4, 0)], 0.5, 2),
        ([(2, 1), (8, 1)], 0.25, 6),  # two cores do not feed four workers
        ([(8, 3), (8, 1)], 2.0, 1),  # no worker has GPUs of two machines
    ],
)
def test_the_room_on_machines_is_counted_machine_by_machine(machines, each, room):
    assert gpus.room(machines, each) == room


@pytest.mark.parametrize(("asked", "sites", "count"), [(None, 9, 4), (None, 3, 3), (2, 9, 2), (4, 3, 3)])
def test_there_are_as_many_workers_as_fit_and_have_a_site(asked, sites, count):
    assert gpus.workers(asked, sites, 4, "here") == count


def test_more_workers_than_fit_are_refused():
    with pytest.raises(BadInput, match="5 workers do not fit: there is room for 4"):
        gpus.workers(5, 9, 4, "here")


@pytest.mark.parametrize("each", [0.0, -1.0, 1.5, float("nan"), float("inf")])
def test_what_is_no_share_of_gpus_is_refused(tmp_path, each):
    folder = put_job(tmp_path / "job", {"train.py": SEES}, trainer="train.py:train")
    with pytest.raises(BadInput, match="is no share of GPUs"):
        simulate(read_plan(folder, sites=2), tmp_path / "results", gpus_per_site=each)


@pytest.mark.parametrize(
    ("found", "each", "said"), [(0, 0.25, "no GPU is at hand"), (1, 2.0, "1 GPUs are at hand, and one site wants 2")]
)
def test_without_enough_gpus_nothing_starts(tmp_path, monkeypatch, found, each, said):
    monkeypatch.setattr(hardware, "gpus", lambda: float(found))
    monkeypatch.delenv(gpus.VARIABLE, raising=False)
    folder = put_job(tmp_path / "job", {"train.py": SEES}, trainer="train.py:train")
    with pytest.raises(BadInput, match=said):
        simulate(read_plan(folder, sites=2), tmp_path / "results", gpus_per_site=each)
    assert not (tmp_path / "results").exists()


def test_this_process_has_no_gpus_to_share(tmp_path):
    folder = put_job(tmp_path / "job", {"train.py": SEES}, trainer="train.py:train")
    with pytest.raises(BadInput, match="0 workers"):
        simulate(read_plan(folder, sites=2), tmp_path / "results", workers=0, gpus_per_site=0.5)


def test_each_worker_process_sees_its_own_gpu_from_its_start_to_its_end(tmp_path, monkeypatch):
    monkeypatch.setattr(hardware, "gpus", lambda: 2.0)
    monkeypatch.setenv(gpus.VARIABLE, "5,7")
    folder = put_job(tmp_path / "job", {"train.py": SEES}, trainer="train.py:train", with_={"rounds": 3})
    done = simulate(read_plan(folder, sites=4), tmp_path / "results", gpus_per_site=1.0)
    assert done.job.state == "completed", done.job.cause
    logs = [(tmp_path / "results" / "logs" / f"site-{at}.log").read_text().splitlines() for at in (1, 2, 3, 4)]
    assert [len(log) for log in logs] == [3] * 4
    assert [{line.split()[1] for line in log} for log in logs] == [{"5"}, {"7"}, {"5"}, {"7"}]
    assert all(len({line.split()[3] for line in log}) == 1 for log in logs), "a worker did not stay"


def test_four_sites_compute_on_one_gpu_inside_the_walls(tmp_path):
    torch = pytest.importorskip("torch", reason="torch is not installed")
    if not torch.cuda.is_available():
        pytest.skip("there is no GPU that torch can use")
    folder = put_job(tmp_path / "job", {"train.py": COMPUTES}, trainer="train.py:train", with_={"rounds": 2})
    done = simulate(read_plan(folder, sites=4), tmp_path / "results", gpus_per_site=0.25)
    assert done.job.state == "completed", done.job.cause
    assert [len(made.took_part) for made in done.rounds[1:]] == [4, 4]
    for number in range(1, 5):
        assert "computed on" in (tmp_path / "results" / "logs" / f"site-{number}.log").read_text()
