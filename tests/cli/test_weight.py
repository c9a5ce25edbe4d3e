"""What nodes, trainers and commands load with their modules: only what they need at once."""

import subprocess
import sys

import pytest

from convoy.node import process
from convoy.server import app
from convoy.site import agent

HEAVY = (
    "cryptography", "numpy", "prometheus_client", "pydantic", "pygments", "rich", "sqlalchemy",
    "sqlalchemy.dialects.postgresql", "uvicorn", "convoy.flows", "convoy.spec.job",
)  # fmt: skip


def loaded_with(module):
    code = f"import sys\nfrom convoy.cli import run\nwith run._loading():\n    import {module}\n"
    code += f"print(*(name for name in {HEAVY} if name in sys.modules))"
    return subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout.split()


def test_an_idle_site_loads_nothing_heavy():
    assert loaded_with("convoy.site.agent") == []


def test_a_server_without_jobs_loads_neither_numpy_nor_rich():
    assert loaded_with("convoy.server.app") == ["cryptography", "pydantic", "sqlalchemy", "uvicorn"]


def test_a_trainer_loads_no_libraries_for_compression_with_its_modules():
    code = "import sys, convoy.worker.trainer, convoy.store.arrays\n"
    code += "print(*(name for name in ('bz2', 'lzma', 'shutil') if name in sys.modules))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.split() == []


@pytest.mark.parametrize("node", [app, agent])
async def test_the_modules_that_a_first_job_needs_can_be_loaded(node):
    await process.load(*node.FOR_JOBS)
    assert set(node.FOR_JOBS) <= set(sys.modules)


async def test_a_module_that_cannot_be_loaded_is_said_and_ends_no_node(capsys):
    await process.load("convoy.no_such_module", "convoy.spec.job")
    assert "convoy.no_such_module" in capsys.readouterr().out


def test_modules_of_a_node_are_loaded_whatever_is_loaded_already():
    code = "import rich, gc, sys\nfrom convoy.cli import run\nwith run._loading():\n    pass\n"
    code += "print(sys.modules['rich'] is rich, gc.isenabled())"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout == "True True\n"


def test_a_command_that_asks_a_server_loads_what_only_its_login_or_its_answer_needs_later():
    later = ("convoy.model", "convoy.trust", "cryptography", "numpy", "pydantic", "rich")
    code = "import sys, convoy.cli.main, convoy.cli.verbs\n"
    code += f"print(*(name for name in {later} if name in sys.modules))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.split() == []
