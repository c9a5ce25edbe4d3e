"""The page docs/laptop-to-cluster.md: what it tells to type makes the same model simulated and in a federation."""

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

from tests.federation import free_ports

pytestmark = pytest.mark.scenario

PAGE = Path(__file__).parents[2] / "docs" / "laptop-to-cluster.md"
PROVISION = "convoy provision\n"


def typed(heading):
    """Return what a section tells to type."""
    section = PAGE.read_text().split(f"## {heading}\n", 1)[1].split("\n## ", 1)[0]
    return "".join(re.findall(r"^```sh\n(.*?)^```$", section, re.MULTILINE | re.DOTALL))


@pytest.fixture
def bash(tmp_path):
    """What runs lines in one folder and returns what they print; nothing runs there any more in the end."""
    env = os.environ | {"PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}"}

    def run(lines):
        command, own = ["bash", "-ec", lines], {"cwd": tmp_path, "env": env, "stdin": subprocess.DEVNULL}
        done = subprocess.run(command, **own, capture_output=True, text=True, check=False)
        assert done.returncode == 0, done.stdout + done.stderr
        return done.stdout

    yield run
    if [*tmp_path.glob("workspace/*/up.json")]:
        run("convoy down")


def digest(printed):
    (found,) = re.findall(r"^([0-9a-f]{64})  \S+/model\.safetensors$", printed, re.MULTILINE)
    return found


def test_the_first_two_steps_print_the_same_digest(bash):
    simulated = digest(bash(typed("1. Simulate it")))
    lines, (fed, admin) = typed("2. Run it as a federation"), free_ports(2)
    assert lines.count(PROVISION) == 2
    other_ports = f"sed -i 's/: 8002$/: {fed}/; s/: 8003$/: {admin}/' project.yml\n"  # other tests run at the same time
    assert digest(bash(lines.replace(PROVISION, PROVISION + other_ports, 1))) == simulated
