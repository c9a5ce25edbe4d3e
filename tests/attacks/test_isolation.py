"""Submitted code against the walls of its worker: each promise of docs/security.md about isolation, attacked.

The worker is started as a node starts it, in each way that machines allow: with namespaces, as root and as a user
without any capability, and with Landlock and seccomp alone, as in a restricted pod.
"""

import json
import os
import socket
import subprocess
import sys
import tempfile
import textwrap
from contextlib import ExitStack
from pathlib import Path

import pytest

from convoy.node.isolation import probe
from tests.scenarios.conftest import ended

NOBODY = 65534
BARE = ("--clear-groups", "--inh-caps=-all", "--bounding-set=-all", "--no-new-privs")
AS_NOBODY = ("setpriv", f"--reuid={NOBODY}", f"--regid={NOBODY}", *BARE)
WAYS = {"namespaces": (), "landlock": (), "namespaces without root": AS_NOBODY, "landlock without root": AS_NOBODY}
ENV = {
    "PATH": os.environ["PATH"],
    "PYTHONPATH": os.pathsep.join(it for it in sys.path if it),
    "PYTHONDONTWRITEBYTECODE": "1",
}
HELP = """
import ctypes, errno, json, os, socket, subprocess, sys, tempfile
def tried(what, *arguments, **more):
    try:
        what(*arguments, **more)
    except OSError as problem:
        return errno.errorcode.get(problem.errno, str(problem))
    return "done"
said = {}
"""


def python_of(way):
    """Return an interpreter that the user of a way can run, with all that is installed here; empty if there is none."""
    if not WAYS[way]:
        return sys.executable
    version = f"python{sys.version_info.major}.{sys.version_info.minor}"
    for python in (sys.executable, f"/usr/bin/{version}", f"/usr/local/bin/{version}"):
        command = [*WAYS[way], python, "-c", "import subprocess, sys; subprocess.run([sys.executable], stdin=-3)"]
        if not os.geteuid() and not subprocess.run(command, env=ENV, stderr=-3, check=False).returncode:
            return python
    return ""


@pytest.fixture(params=WAYS)
def way(request, tmp_path):
    """One way of isolation; skipped, with the reason, where this machine does not have it."""
    found = probe(tmp_path)
    if WAYS[request.param] and not python_of(request.param):
        pytest.skip("no other user than this one can run a Python of this version with what is installed here")
    if request.param.startswith("landlock"):
        if not (found.landlock and found.seccomp):
            pytest.skip(f"this kernel has Landlock {found.landlock} and seccomp {found.seccomp}")
    elif not found.namespaces:
        pytest.skip(f"no namespaces: {found}")
    return request.param


@pytest.fixture
def place(way):
    """A folder that is not below /tmp, where workers have a folder of their own, of the user that the node runs as."""
    with tempfile.TemporaryDirectory(dir="/var/lib") as made:
        yield Path(made)


@pytest.fixture
def node(place, way):
    """The folder of a node, with a key, a policy and another job, and beside it data that one is named of."""
    home = place / "site-1"
    for folder in ("startup", "local", "jobs/other/code", "jobs/mine/code", "jobs/mine/blobs"):
        (home / folder).mkdir(parents=True)
    (home / "startup" / "node.key").write_text("a private key")
    (home / "local" / "policy.yaml").write_text("run: []\n")
    (home / "jobs" / "other" / "code" / "secret.txt").write_text("another job's")
    (place / "data").mkdir()
    for name in ("named.csv", "other.csv"):
        (place / "data" / name).write_text("1,2,3\n")
    return home


@pytest.fixture
def run(node, way):
    """Run a script as the trainer of a job; return what it put into `said`, and all that it printed."""

    def once(body, **grants):
        text = HELP + textwrap.dedent(body) + "\nprint('SAID', json.dumps(said))\n"
        (node / "jobs" / "mine" / "code" / "train.py").write_text(text)
        mode = way.split()[0]
        if WAYS[way]:
            for path in (node.parent, *node.parent.rglob("*")):
                os.chown(path, NOBODY, NOBODY)
        done = subprocess.run(
            [*WAYS[way], python_of(way), "-m", "tests.attacks.sandboxed", str(node), mode, json.dumps(grants)],
            cwd=Path(__file__).parents[2],
            env=ENV,
            capture_output=True,
            text=True,
            check=False,
        )
        found = [line for line in done.stdout.splitlines() if line.startswith("SAID ")]
        assert found, done.stdout + done.stderr
        return json.loads(found[0].removeprefix("SAID ")), done.stdout

    return once


DENIED = {"EACCES", "EPERM", "EROFS", "ENOENT", "ESRCH", "ENETUNREACH", "EAFNOSUPPORT", "ECONNREFUSED", "EXDEV"}


def test_a_job_sees_its_named_data_and_neither_kit_nor_policy_nor_other_jobs_nor_other_data(run, node, place):
    said, _ = run(
        f"""
        home = {str(node)!r}
        said["key"] = tried(open, home + "/startup/node.key")
        said["policy"] = tried(open, home + "/local/policy.yaml", "w")
        said["other job"] = tried(open, home + "/jobs/other/code/secret.txt")
        said["jobs"] = tried(os.listdir, home + "/jobs/other")
        said["other data"] = tried(open, {str(place / "data" / "other.csv")!r})
        said["shadow"] = tried(open, "/etc/shadow")
        said["home"] = tried(os.listdir, {str(Path.home())!r})
        named = {str(place / "data" / "named.csv")!r}
        said["written"] = tried(open, named, "w")
        said["replaced"] = tried(os.replace, "train.py", named)
        print("NAMED", open(named).read())
        """
    )
    home = said.pop("home")
    assert set(said.values()) <= DENIED, said
    assert home in DENIED | {"done"}  # a folder on the way to the interpreter, empty but for that
    assert (node / "local" / "policy.yaml").read_text() == "run: []\n"
    assert (place / "data" / "named.csv").read_text() == "1,2,3\n"


def test_a_job_cannot_reach_another_process_in_any_way(run):
    with subprocess.Popen(["sleep", "1000"], env={"SECRET": "of another process"}) as other:
        try:
            said, _ = run(
                f"""
                pid = {other.pid}
                said["signal"] = tried(os.kill, pid, 15)
                said["probe"] = tried(os.kill, pid, 0)
                said["environment"] = tried(lambda: open(f"/proc/{{pid}}/environ", "rb").read())
                said["memory"] = tried(open, f"/proc/{{pid}}/mem", "rb")
                said["root"] = tried(os.listdir, f"/proc/{{pid}}/root")
                def trace():
                    libc = ctypes.CDLL(None, use_errno=True)
                    if libc.ptrace(16, pid, None, None) < 0:
                        raise OSError(ctypes.get_errno(), "ptrace")
                said["ptrace"] = tried(trace)
                """
            )
            assert set(said.values()) <= DENIED, said
            assert other.poll() is None
        finally:
            other.kill()


def test_a_job_has_no_network_and_no_sockets_of_others(run):
    with ExitStack() as stack:
        tcp = stack.enter_context(socket.create_server(("127.0.0.1", 0)))
        udp = stack.enter_context(socket.socket(socket.AF_INET, socket.SOCK_DGRAM))
        udp.bind(("127.0.0.1", 0))
        udp.setblocking(False)
        abstract = stack.enter_context(socket.socket(socket.AF_UNIX))
        abstract.bind(f"\0convoy-test-{os.getpid()}")
        abstract.listen()
        said, _ = run(
            f"""
            said["tcp"] = tried(lambda: socket.create_connection(("127.0.0.1", {tcp.getsockname()[1]}), 5))
            def datagram():
                socket.socket(socket.AF_INET, socket.SOCK_DGRAM).sendto(b"out", ("127.0.0.1", {udp.getsockname()[1]}))
            said["udp"] = tried(datagram)
            said["abroad"] = tried(lambda: socket.create_connection(("192.0.2.1", 443), 5))
            said["abstract"] = tried(lambda: socket.socket(socket.AF_UNIX).connect("\\0convoy-test-{os.getpid()}"))
            said["raw"] = tried(lambda: socket.socket(socket.AF_PACKET, socket.SOCK_RAW))
            said["vsock"] = tried(lambda: socket.socket(40, socket.SOCK_STREAM))
            """
        )
        datagram = said.pop("udp")  # to a loopback of its own it goes, and nobody is there
        assert datagram in DENIED | {"done"}
        with pytest.raises(BlockingIOError):
            udp.recv(10)
        assert set(said.values()) <= DENIED, said


def test_a_job_cannot_make_namespaces_mounts_or_devices_nor_change_the_kernel(run):
    said, _ = run(
        """
        libc = ctypes.CDLL(None, use_errno=True)
        def call(function, *arguments):
            if getattr(libc, function)(*arguments) < 0:
                raise OSError(ctypes.get_errno(), function)
        said["user namespace"] = tried(call, "unshare", 0x10000000)
        said["mount"] = tried(call, "mount", b"tmpfs", b"/tmp", b"tmpfs", 0, None)
        said["unmount"] = tried(call, "umount2", b"/proc", 2)
        said["chroot"] = tried(os.chroot, "/tmp")
        said["device"] = tried(os.mknod, "disk", 0o60600, os.makedev(254, 0))
        said["core pattern"] = tried(open, "/proc/sys/kernel/core_pattern", "w")
        said["sysrq"] = tried(open, "/proc/sysrq-trigger", "w")
        said["library"] = tried(open, os.__file__, "a")
        said["system"] = tried(open, "/usr/lib/x", "w")
        said["tool"] = "done" if subprocess.run(["unshare", "-Ur", "true"], stderr=-3).returncode == 0 else "EPERM"
        """
    )
    assert set(said.values()) <= DENIED, said


def test_everything_that_a_worker_started_ends_with_it_sessions_of_their_own_included(run, place):
    mark = f"convoy-left-{os.getpid()}"
    run(
        f"""
        code = "import os, signal, sys; signal.signal(15, signal.SIG_IGN); print('up', flush=True); signal.pause()"
        for own in (False, True):
            child = subprocess.Popen([sys.executable, "-c", code, {mark!r}], stdout=-1, start_new_session=own)
            child.stdout.readline()
        if os.fork() == 0:  # a daemon: a session of its own, and its parent has ended
            os.setsid()
            if os.fork() == 0:
                os.execv(sys.executable, [sys.executable, "-c", code, {mark!r}])
            os._exit(0)
        os.wait()
        """
    )
    left = [
        int(path.parent.name)
        for path in Path("/proc").glob("[0-9]*/cmdline")
        if mark.encode() in path.read_bytes().split(b"\0")
    ]
    assert ended(left, within_s=0)


def test_ordinary_scripts_work(run):
    said, _ = run(
        """
        import multiprocessing, multiprocessing.shared_memory, threading
        import numpy as np
        open("checkpoint.npy", "wb").write(b"x")
        said["folder"] = os.listdir(".")
        with tempfile.TemporaryDirectory() as folder, open(folder + "/x", "w") as file:
            file.write("x")
        os.makedirs(os.path.expanduser("~/.cache/huggingface"))
        shared = multiprocessing.shared_memory.SharedMemory(create=True, size=1 << 20)
        shared.close()
        shared.unlink()
        with multiprocessing.get_context("fork").Pool(2) as pool:
            said["pool"] = pool.map(abs, [-1, -2])
        done = subprocess.run([sys.executable, "-c", "import numpy; print(numpy.zeros(3).sum())"], capture_output=True)
        said["python"] = done.stdout.decode().strip()
        said["shell"] = subprocess.run("ls /usr/bin | head -1", shell=True, capture_output=True).returncode
        left, right = socket.socketpair()
        said["clock"] = open("/etc/localtime", "rb").read(4).decode()
        """
    )
    assert said["pool"] == [1, 2]
    assert said["python"] == "0.0"
    assert said["shell"] == 0
    assert sorted(said["folder"]) == ["checkpoint.npy", "train.py"]


def test_a_job_has_a_loopback_of_its_own_as_torchrun_needs_it(run, way):
    if way.startswith("landlock"):
        pytest.skip("without network namespaces a job gets the network of its node, or none")
    said, _ = run(
        """
        server = socket.create_server(("127.0.0.1", 0))
        client = socket.create_connection(server.getsockname(), 5)
        client.sendall(b"here")
        said["heard"] = server.accept()[0].recv(4).decode()
        """
    )
    assert said["heard"] == "here"


def test_the_owner_grants_paths_a_cache_and_a_network(run, place):
    shared, atlas, cache = place / "shared", place / "atlas", place / "cache"
    for folder in (shared, atlas, cache):
        folder.mkdir()
    (atlas / "a.nii").write_text("an atlas")
    with socket.create_server(("127.0.0.1", 0)) as server:
        said, _ = run(
            f"""
            said["read"] = open({str(atlas / "a.nii")!r}).read()
            said["not written"] = tried(open, {str(atlas / "a.nii")!r}, "w")
            said["written"] = tried(open, {str(shared / "x")!r}, "w")
            said["cache"] = os.environ["HF_HOME"]
            said["cached"] = tried(os.makedirs, os.environ["HF_HOME"])
            said["network"] = tried(lambda: socket.create_connection(("127.0.0.1", {server.getsockname()[1]}), 5))
            """,
            read=[str(atlas)],
            write=[str(shared)],
            cache=str(cache),
            network=True,
        )
    assert said.pop("not written") in DENIED
    assert said == {
        "read": "an atlas",
        "written": "done",
        "cache": f"{cache}/huggingface",
        "cached": "done",
        "network": "done",
    }


def test_what_is_granted_never_opens_the_node_s_own_folder(run, node, place):
    said, _ = run(
        f"""
        said["key"] = tried(open, {str(node / "startup" / "node.key")!r})
        said["other job"] = tried(open, {str(node / "jobs" / "other" / "code" / "secret.txt")!r})
        said["beside"] = tried(open, {str(place / "data" / "other.csv")!r})
        """,
        read=[str(place)],
    )
    assert said.pop("beside") == "done"
    assert set(said.values()) <= DENIED, said


def test_a_script_that_meets_a_wall_is_told_the_path_and_the_setting(run, place):
    hidden = str(place / "data" / "other.csv")
    for body, wanted in (
        (f"open({hidden!r})", f"jobs do not see {hidden}: the owner of this node can allow it in local/node.yaml"),
        ("open('/usr/lib/x', 'w')", "jobs may not write to /usr/lib/x"),
        ("socket.create_connection(('192.0.2.1', 443), 5)", "`isolation: {network: true}`"),
        ("import urllib.request; urllib.request.urlopen('http://192.0.2.1/')", "`isolation: {network: true}`"),
    ):
        _, printed = run(f"print('SAID {{}}')\n{body}")
        assert f"convoy: {wanted}" in printed or wanted in printed, printed
        assert "convoy: jobs" in printed
