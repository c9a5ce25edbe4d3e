"""The scripts in a kit: they find their kit from anywhere, and hand over to `convoy`."""

import os
import shutil
import subprocess

import pytest


@pytest.fixture
def program(tmp_path):
    """A folder for the PATH in which `convoy` is the system's own `echo`."""
    folder = tmp_path / "bin"
    folder.mkdir()
    (folder / "convoy").symlink_to(shutil.which("echo"))
    return folder


def run(script, *arguments, path=None, cwd="/"):
    found = f"{path}:{os.environ['PATH']}" if path else "/usr/bin:/bin"
    return subprocess.run(
        [script, *arguments], env={"PATH": found}, cwd=cwd, capture_output=True, text=True, check=False, timeout=20
    )


def test_start_runs_the_kit_it_lies_in_and_passes_arguments_on(provision, program):
    kit = (provision() / "site-1").resolve()
    done = run(kit / "startup" / "start.sh", "--server", "a b", path=program)
    assert (done.returncode, done.stdout) == (0, f"run {kit} --server a b\n")


def test_scripts_find_their_kit_by_a_relative_path_with_spaces_and_a_cdpath(provision, program, tmp_path):
    kit = tmp_path / "a kit of ours"
    shutil.copytree(provision() / "server", kit)
    done = run("./start.sh", path=program, cwd=kit / "startup")
    assert done.stdout == f"run {kit.resolve()}\n"


def test_an_admin_s_script_opens_the_console(provision, program):
    kit = (provision() / "ada@example.org").resolve()
    assert run(kit / "startup" / "fl_admin.sh", path=program).stdout == f"console --kit {kit}\n"


def test_without_convoy_a_script_says_what_to_install(provision):
    done = run(provision() / "server" / "startup" / "start.sh")
    assert done.returncode == 127
    assert "pip install convoy-fl" in done.stderr


def write_pid(kit, text):
    (kit / "work").mkdir()
    (kit / "work" / "node.pid").write_text(text)
    return run(kit / "startup" / "stop.sh")


def test_stop_asks_the_node_to_drain(provision):
    with subprocess.Popen(["convoy run", "60"], executable=shutil.which("sleep")) as node:
        done = write_pid(provision() / "site-1", f"{node.pid}\n")
        assert (done.returncode, done.stderr) == (0, "")
        assert node.wait(timeout=20) == -15


def test_stop_leaves_a_program_alone_that_has_the_number_by_now(provision):
    with subprocess.Popen(["sleep", "60"]) as other:
        done = write_pid(provision() / "site-1", f"{other.pid}\n")
        assert other.poll() is None
        other.kill()
    assert done.returncode == 1
    assert "another program" in done.stderr


def test_stop_says_that_nothing_runs(provision):
    prod = provision()
    assert "there is no" in run(prod / "site-2" / "startup" / "stop.sh").stderr
    with subprocess.Popen(["true"]) as gone:
        gone.wait()
    done = write_pid(prod / "site-1", f"{gone.pid}\n")
    assert done.returncode == 1
    assert "is gone" in done.stderr


@pytest.mark.parametrize("text", ["", "x; rm -rf /", "-1"])
def test_stop_takes_nothing_but_a_process_id(provision, text):
    done = write_pid(provision() / "site-1", text)
    assert done.returncode == 1
    assert "not a process id" in done.stderr
