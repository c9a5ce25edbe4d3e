"""Each reader of foreign bytes on what once broke it, and on a few seconds of what nobody has thought of."""

import importlib.util
import os
import subprocess
import sys
import tempfile
from pathlib import Path

import pytest

from tests.fuzz.targets import TARGETS, reached, tried

ROOT = Path(__file__).parents[2]
MEMORY = Path("/dev/shm")  # a file there costs a tenth of one on a disk
AT_ONCE = 4  # readers: they take turns on the processors, and the minute of one is the minute of all
BATCHES = [tuple(TARGETS)[start : start + AT_ONCE] for start in range(0, len(TARGETS), AT_ONCE)]
SECONDS = int(os.environ.get("CONVOY_FUZZ_S", "3"))  # for each reader; `make fuzz` takes a minute


@pytest.fixture
def in_memory():
    """A folder for files that are written and read thousands of times a second."""
    with tempfile.TemporaryDirectory(dir=MEMORY if MEMORY.is_dir() else None) as folder:
        yield folder


@pytest.mark.parametrize("name", TARGETS)
def test_what_a_reader_takes_and_what_once_broke_it_is_read_or_refused(name):
    target = TARGETS[name]
    for data in (*target.seeds(), *reached(name)):
        tried(target, data)


@pytest.mark.parametrize("names", BATCHES, ids=" ".join)
@pytest.mark.timeout(SECONDS + 240)
def test_no_input_is_more_than_a_refusal(names, in_memory):
    if importlib.util.find_spec("atheris") is None:
        pytest.skip("atheris is not installed: it comes with requirements-test.txt")

    def start(name):
        command = [sys.executable, "-m", "tests.fuzz", name, "--seconds", str(SECONDS)]
        env = os.environ | {"TMPDIR": in_memory}
        return subprocess.Popen(
            command, cwd=ROOT, env=env, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True
        )

    running = {name: start(name) for name in names}
    said = {name: one.communicate()[1] for name, one in running.items()}
    broken = {name: said[name][-4000:] for name, one in running.items() if one.returncode}
    assert broken == {}
