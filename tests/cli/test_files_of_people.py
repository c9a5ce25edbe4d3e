"""Files of people that cannot be used: named with why and what to do; never called a bug of Convoy."""

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from convoy.errors import BadInput, StorageFull, of_files
from convoy.provision.sample import PROJECT

NOBODY = "65534"


def as_another(*command, cwd="/"):
    """Run Python as a user to whom these files do not belong; as our own where we are not root."""
    other = ["setpriv", "--reuid", NOBODY, "--clear-groups"] if os.geteuid() == 0 else []
    words = [*other, sys.executable, *command]
    return subprocess.run(words, cwd=cwd, capture_output=True, text=True, timeout=100, check=False)


def convoy(*words, cwd):
    return as_another("-m", "convoy.cli.main", *words, cwd=cwd)


@pytest.fixture(scope="module")
def here(tmp_path_factory):
    folder = tmp_path_factory.mktemp("people")
    for above in (folder, *folder.parents):
        if os.geteuid() == 0 and above.name.startswith(("people", "pytest-", "popen-")):
            above.chmod(0o755)
    (folder / "project.yml").write_text(PROJECT)
    subprocess.run([sys.executable, "-m", "convoy.cli.main", "provision"], cwd=folder, check=True, capture_output=True)
    if os.geteuid() == 0 and shutil.which("setpriv") is None:
        pytest.skip("there is no setpriv to be another user with")
    if os.geteuid() != 0:
        for kit in folder.glob("workspace/*/prod_00/*"):
            kit.chmod(0)
        folder.chmod(0o555)
    probe = convoy("--version", cwd=folder)
    if probe.returncode:
        pytest.skip(f"another user cannot start this Python: {probe.stderr[-200:]}")
    yield folder
    folder.chmod(0o755)
    for kit in folder.glob("workspace/*/prod_00/*"):
        kit.chmod(0o755)


KIT = "workspace/example_project/prod_00/site-1"


@pytest.mark.parametrize(
    "words",
    [
        f"run {KIT}",
        "up",
        "job list",
        f"status --kit {KIT}",
        f"kit inspect {KIT}",
        f"kit verify {KIT}",
        f"kit enrol {KIT}",
        f"site refused --kit {KIT}",
        "provision",
        "job new tumours",
        "kube render --image x",
        "eks cluster -o below",
    ],
)
def test_a_kit_or_folder_of_somebody_else_is_named_with_what_to_do(here, words):
    said = convoy(*words.split(), cwd=here)
    assert said.returncode == 4, said.stderr
    first, why, fix = said.stderr.splitlines()
    assert str(here) in first + why or "workspace" in first + why or "below" in first
    assert "ermission denied" in why
    assert fix.startswith("  fix: ")
    assert "bug" not in said.stderr


def test_an_error_of_the_system_about_a_file_is_ours_and_about_anything_else_is_not():
    assert isinstance(of_files(PermissionError(13, "Permission denied", "/kit")), BadInput)
    assert isinstance(of_files(OSError(28, "No space left on device", "/kit")), StorageFull)
    assert of_files(OSError(9, "Bad file descriptor")) is None
    assert of_files(ValueError("x")) is None


def test_a_port_that_this_user_may_not_open_is_not_called_taken(here):
    first = int(Path("/proc/sys/net/ipv4/ip_unprivileged_port_start").read_text())
    if os.geteuid() != 0 or first <= 80:
        pytest.skip("every user may open every port here")
    code = "from convoy.wire.door import bound\nbound('127.0.0.1', 80, setting='admin_port')"
    said = as_another("-c", code)
    assert "port 80 on 127.0.0.1 may not be opened by this user" in said.stderr
    assert "choose one from 1024 up: admin_port" in said.stderr
