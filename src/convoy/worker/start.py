"""The first lines of every worker: die with the node, enter the sandbox, then run the worker's own module.

    node ── keeper ── first process of the namespace ── worker    when the first ends, the kernel ends all others
    node ── keeper ── worker                                      without namespaces, the keeper ends what is left

The keeper is the process that the node knows. It ends as the worker did, once nothing of the worker is left.
"""

from __future__ import annotations

import gc
import importlib
import os
import select
import signal
import sys
from contextlib import suppress
from pathlib import Path
from types import FrameType
from typing import Final, NoReturn

from convoy.worker import confine, linux
from convoy.worker.sandbox import END, VARIABLE, Sandbox

UNCONFINED: Final = 71  # exit status (EX_OSERR) of a worker that could not be isolated as its node wanted
_FOR_THE_WORKER: Final = (signal.SIGTERM, signal.SIGINT)  # sent to the whole session: its keepers ignore them


def main() -> None:
    """Tie this process to its node, isolate the worker and run `python -m convoy.worker.start MODULE` in it."""
    if sys.platform == "linux":
        die_with_node()
        if VARIABLE in os.environ:
            _enter(Sandbox.from_json(os.environ[VARIABLE]))
    gc.disable()  # imports make little garbage, and what was loaded stays: no later search looks at it either
    module = importlib.import_module(sys.argv.pop(1))
    gc.freeze()
    gc.enable()
    module.main()


def die_with_node() -> None:
    """Have the kernel end this process when its node ends, whose number is in the environment."""
    linux.die_with_parent(signal.SIGKILL)
    if os.getppid() != int(os.environ["CONVOY_NODE_PID"]):  # the node died before we could be tied to it
        os._exit(1)


def _enter(sandbox: Sandbox) -> None:
    """Return in the isolated worker's process; the keeper processes never return."""
    folder, socket = Path.cwd(), int(os.environ["CONVOY_WORKER_FD"])
    ours, theirs = os.pipe()  # the keeper reads the worker's status from it
    with suppress(OSError):
        Path("/proc/self/oom_score_adj").write_text(str(confine.OOM_SCORE))
    try:
        if sandbox.namespaces:
            confine.split_off(network=sandbox.network)
            if child := _fork():
                os.close(theirs)
                _keep(child, socket, ours)
            confine.furnish(sandbox)
            confine.restrict(sandbox)
            if child := _fork():
                _bury(child, socket, theirs)
        else:
            linux.adopt_orphans()
            if child := _fork():
                os.close(theirs)
                _keep(child, socket, ours)
            confine.restrict(sandbox)
    except OSError as problem:
        print(f"convoy: this worker cannot be isolated: {problem}", flush=True)  # noqa: T201 - the job's log
        os._exit(UNCONFINED)
    os.close(ours)
    os.close(theirs)
    for sign in _FOR_THE_WORKER:
        signal.signal(sign, signal.SIG_DFL)
    os.chdir(folder)


def _fork() -> int:
    """Fork; return the child's number in the parent and 0 in the child, which dies with its parent."""
    for sign in _FOR_THE_WORKER:
        signal.signal(sign, signal.SIG_IGN)
    child_end, parent_end = os.pipe()
    child = os.fork()
    if child:
        os.close(child_end)
        return child  # this end stays open for as long as this process lives
    os.close(parent_end)
    linux.die_with_parent(signal.SIGKILL)
    watch = select.poll()
    watch.register(child_end, 0)
    if watch.poll(0):  # the parent died before we could be tied to it
        os._exit(1)
    os.close(child_end)
    return 0


def _keep(child: int, socket: int, status_from: int) -> NoReturn:
    """Wait for the child, end what is left of its descendants, and end as the worker did."""

    def end(_sign: int, _frame: FrameType | None) -> None:
        with suppress(ProcessLookupError):
            os.kill(child, signal.SIGKILL)

    signal.signal(END, end)
    linux.die_with_parent(END)
    os.close(socket)  # so that the node notices at once when the worker disconnects
    status = _wait(child)
    _end_orphans()
    said = os.read(status_from, 16)
    if said:
        status = int(said)
    if os.WIFSIGNALED(status):
        sign = os.WTERMSIG(status)
        with suppress(OSError):  # SIGKILL has no handler to reset
            signal.signal(sign, signal.SIG_DFL)
        os.kill(os.getpid(), sign)
    os._exit(os.waitstatus_to_exitcode(status) if os.WIFEXITED(status) else 1)


def _bury(child: int, socket: int, status_to: int) -> NoReturn:
    """Be the first process of a namespace: collect orphans until the worker ends; the kernel then ends all others."""
    os.close(socket)
    os.write(status_to, str(_wait(child)).encode())
    os._exit(0)


def _wait(child: int) -> int:
    """Collect ended descendants until this child ends; return its status."""
    while True:
        ended, status = os.wait()
        if ended == child:
            return status


def _end_orphans() -> None:
    """End and collect every process that this one has adopted, and those that it adopts meanwhile."""
    while True:
        for pid, process in linux.processes().items():
            if process.parent == os.getpid():
                with suppress(ProcessLookupError, PermissionError):
                    os.kill(pid, signal.SIGKILL)
        try:
            os.wait()
        except ChildProcessError:
            return


if __name__ == "__main__":
    main()
