"""Each reader of foreign bytes on what once broke it, and on a few seconds of what nobody has thought of."""

import importlib.util
import os
import subprocess
import sys
from pathlib import Path

import pytest

from tests.fuzz.targets import TARGETS, tried

ROOT = Path(__file__).parents[2]
SECONDS = int(os.environ.get("CONVOY_FUZZ_S", "3"))  # for each reader; `make fuzz` takes a minute


@pytest.mark.parametrize("name", TARGETS)
def test_what_a_reader_takes_and_what_once_broke_it_is_read_or_refused(name):
    target = TARGETS[name]
    for data in (*target.seeds(), *(file.read_bytes() for file in (ROOT / "tests/fuzz/corpus" / name).glob("*"))):
        tried(target, data)


@pytest.mark.parametrize("name", TARGETS)
@pytest.mark.timeout(SECONDS + 120)
def test_no_input_is_more_than_a_refusal(name):
    if importlib.util.find_spec("atheris") is None:
        pytest.skip("atheris is not installed: it comes with requirements-test.txt")
    command = [sys.executable, "-m", "tests.fuzz", name, "--seconds", str(SECONDS)]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr[-4000:]
