"""A bomb of each kind is refused in words, within a few seconds and 64 MiB."""

import json
import subprocess
import sys
from pathlib import Path

import pytest

from tests.scenarios.bombs import BOMBS

WITHIN_S = 5.0  # it takes a tenth of that where nobody else uses the machine
MEMORY = 64 << 20  # bytes, beyond what the process had before


@pytest.fixture(scope="module")
def costs():
    """What each bomb cost: how it ended, seconds, bytes; the fastest of up to three tries."""
    command, root = [sys.executable, "-m", "tests.scenarios.bombs"], Path(__file__).parents[2]
    said = subprocess.run(command, cwd=root, capture_output=True, text=True, check=True).stdout
    return dict(map(json.loads, said.splitlines()))


@pytest.mark.parametrize("name", BOMBS)
def test_a_bomb_is_refused_in_time_and_within_64_mib(name, costs):
    ended, took_s, grew = costs[name]
    assert ended in ("BadInput", "NotAllowed", "RemoteFault", "Refused", "Unreachable")
    assert took_s <= WITHIN_S
    assert grew <= MEMORY
