"""What a trainer printed before its process died in a simulation is in the log of its site."""

import pytest

from convoy.errors import JobFailed
from convoy.sim import pool
from convoy.sim.api import simulate
from tests.scenarios.conftest import put_job

TRAIN = """
import glob, os, signal
import numpy as np
def initial(): return {{"w": np.zeros(2)}}
class Stop(BaseException): pass
def train(task):
    print("before the end of", task.site)
    {ends}
"""


def end(folder, ends: str, says: str) -> str:
    """Simulate a trainer that ends so, and return the log of site-1; empty where there is none."""
    put_job(
        folder, {"train.py": TRAIN.format(ends=ends)}, trainer="train.py:train", with_={"rounds": 1, "min_sites": 2}
    )
    with pytest.raises(JobFailed, match=f"the trainer died at this task: {says}"):
        simulate(folder, sites=2, workers=1, progress=False, results=folder / "results")
    log = folder / "results" / "logs" / "site-1.log"
    return log.read_text() if log.exists() else ""


@pytest.mark.parametrize(
    ("ends", "says", "last"),
    [
        ("os._exit(0)", "it ended", "before the end of site-1\n"),
        ("os.kill(os.getpid(), signal.SIGKILL)", "killed by SIGKILL", "before the end of site-1\n"),
        ("raise KeyboardInterrupt", "", "KeyboardInterrupt\n"),
        ("raise Stop('early')", "exit code 1", "Stop: early\n"),
    ],
)
def test_what_a_trainer_printed_before_its_process_died_is_in_its_site_s_log(
    tmp_path, ends: str, says: str, last: str
) -> None:
    log = end(tmp_path / "ends", ends, says)
    assert log.startswith("before the end of site-1\n")
    assert log.endswith(last)


@pytest.mark.parametrize("make", ["os.symlink('/etc/passwd', place)", "os.mkfifo(place)"])
def test_another_thing_in_the_place_of_what_was_printed_is_not_read(tmp_path, make: str) -> None:
    replaced = f"place = glob.glob('../../printed-*')[0]; os.remove(place); {make}; os._exit(0)"
    assert end(tmp_path / "ends", replaced, "it ended") == ""


def test_of_a_flood_the_end_is_kept_and_how_much_is_missing_is_said(tmp_path, monkeypatch) -> None:
    monkeypatch.setattr(pool, "RESCUED", 100)
    log = end(tmp_path / "ends", "print('x' * 1000); os._exit(3)", "exit code 3")
    assert log == "convoy: 926 bytes before this line are left out\n" + "x" * 99 + "\n"
