"""How a node starts an isolated worker process, reads its messages, stops it, and waits for its end."""

from __future__ import annotations

import asyncio
import json
import os
import signal
import socket
import sys
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from convoy.node import cores
from convoy.node.isolation import Isolation, Walls
from convoy.wire import convoy_pb2 as pb
from convoy.wire import frames
from convoy.wire.budget import Budget, Rate
from convoy.worker import linux
from convoy.worker.sandbox import END, VARIABLE, Sandbox

KEPT = ("PATH", "LANG", "LC_ALL", "TZ", "LD_LIBRARY_PATH", "VIRTUAL_ENV", "PYTHONPATH")
KEEPER_S = 5.0  # for a worker's keeper to end whatever the worker has started
MAX_UNREAD = 64 << 20  # bytes for a worker that does not read them
PRINTED = Rate(1, 8 << 20, 4)  # 8 MiB a second of what one worker prints, 4 s of that at once
PIPE_S = 1.0  # to read the last output of a worker whose pipe a process outside its session still holds
MARK = "CONVOY_NODE_FOLDER"
SCRATCH = "scratch"  # a worker's home and temporary files, beside its code; it is removed with the job
KEPT_PREFIXES = ("OMP_", "OPENBLAS_", "MKL_", "CUDA_", "NVIDIA_", "SSL_CERT_")


@dataclass(frozen=True, slots=True)
class Wants:
    """What a worker's job asks for, where a launcher can give it; memory is in bytes; 0 and "" mean the default."""

    image: str = ""
    cpu: float = 0.0
    memory: int = 0
    gpu: float = 0.0
    patience_s: float = 0.0


@dataclass(frozen=True, slots=True)
class Order:
    """What to start: a module of ours, its first frame, its folder, its environment."""

    module: str
    begin: pb.WorkerDown
    folder: Path
    env: Mapping[str, str]
    wants: Wants = Wants()


class Worker(Protocol):
    """A started worker, as its node sees it."""

    async def receive(self) -> pb.WorkerUp | None:
        """Return its next message, or None once it has disconnected."""
        ...

    def send(self, *messages: pb.WorkerDown) -> None:
        """Send it messages; nothing happens if it is gone."""
        ...

    async def ended(self) -> str:
        """Wait for its end; return "" for exit code 0, else a description of how it ended."""
        ...

    def cpu_s(self) -> float:
        """Return the CPU seconds that it has used, which show progress."""
        ...

    async def stop(self, grace_s: float) -> None:
        """End it and its children: SIGTERM, then SIGKILL after `grace_s`."""
        ...


class Launcher(Protocol):
    """Where workers run: as processes of this node, or in pods of their own."""

    @property
    def isolation(self) -> Isolation:
        """How workers are isolated there."""
        ...

    async def launch(self, order: Order, output: Callable[[bytes], None], waits: Callable[[str], None]) -> Worker:
        """Start a worker; `output` gets what it prints, `waits` gets what it waits for before it runs, finally ""."""
        ...


class ProcessLauncher:
    """Workers as child processes that share the folders of their job with the node, and nothing else."""

    def __init__(self, home: Path, walls: Walls) -> None:
        """`home` is the node's working folder; workers and their children have it in their environment."""
        self._mark = str(home.resolve())
        self._walls = walls

    @property
    def isolation(self) -> Isolation:
        """How workers are isolated here."""
        return self._walls.isolation

    def bury(self) -> int:
        """End processes that a killed node of this folder has left; return how many there were."""
        mark = f"{MARK}={self._mark}".encode()
        found = [int(path.parent.name) for path in Path("/proc").glob("[0-9]*/environ") if mark in _environ(path)]
        for pid in found:
            with suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
        return len(found)

    async def launch(
        self, order: Order, output: Callable[[bytes], None], waits: Callable[[str], None] | None = None
    ) -> ProcessWorker:
        """Start a worker process in a session of its own, with one end of a socket pair; `waits` gets only "".

        Starting the process is the last await, so a cancelled caller never leaves a process behind.
        """
        del waits
        scratch = order.folder.parent / SCRATCH
        scratch.mkdir(mode=0o700, exist_ok=True)
        environment = {
            **_environment(order.env, self._walls.environment(scratch)),
            MARK: self._mark,
            VARIABLE: self._sandbox(order, scratch).to_json(),
        }
        ours, theirs = socket.socketpair()
        with theirs:
            reader, writer = await asyncio.open_unix_connection(sock=ours, limit=frames.MAX_FRAME)
            try:
                process = await asyncio.create_subprocess_exec(
                    sys.executable,
                    "-P",  # the interpreter must not look for its own modules in the job's folder
                    "-m",
                    "convoy.worker.start",
                    order.module,
                    stdin=asyncio.subprocess.DEVNULL,
                    stdout=asyncio.subprocess.PIPE,
                    stderr=asyncio.subprocess.STDOUT,
                    cwd=order.folder,
                    env=environment | {"CONVOY_WORKER_FD": str(theirs.fileno())},
                    pass_fds=[theirs.fileno()],
                    start_new_session=True,
                )
            except BaseException:
                writer.close()
                raise
        worker = ProcessWorker(process, reader, writer, output)
        worker.send(order.begin)
        return worker

    def _sandbox(self, order: Order, scratch: Path) -> Sandbox:
        """Return what this worker may see: what its first frame names."""
        begin = order.begin
        told = begin.flow if begin.WhichOneof("it") == "flow" else begin.trainer
        data = json.loads(begin.trainer.data_json or "{}")
        return self._walls.sandbox(read=(told.blobs, *data.values()), write=(told.code, told.out), scratch=scratch)


class ProcessWorker:
    """A worker process; its launcher must await `ended`."""

    def __init__(
        self,
        process: asyncio.subprocess.Process,
        reader: asyncio.StreamReader,
        writer: asyncio.StreamWriter,
        output: Callable[[bytes], None],
    ) -> None:
        """Take over a started process and our end of its socket."""
        self._process = process
        self._reader = reader
        self._writer = writer
        self._output = output

    @property
    def pid(self) -> int:
        """The process id."""
        return self._process.pid

    async def receive(self) -> pb.WorkerUp | None:
        """Return its next message, or None once it has hung up."""
        return await frames.read(self._reader, pb.WorkerUp)

    def send(self, *messages: pb.WorkerDown) -> None:
        """Send it messages; nothing happens if it is gone, and a worker that reads nothing is ended."""
        if self._writer.transport.get_write_buffer_size() > MAX_UNREAD:
            self._kill(signal.SIGKILL)
        elif not self._writer.is_closing():
            self._writer.write(b"".join(map(frames.pack, messages)))

    async def ended(self) -> str:
        """Pass on its output until it ends; return "" for exit code 0, else a description of how it ended."""
        async with asyncio.TaskGroup() as group:
            handing = group.create_task(self._hand_on())
            await self._exited()
            self._kill(signal.SIGKILL)  # end the processes that it left, which may hold the pipe open
            code = await self._buried()
            handing.cancel()
        self._writer.close()
        if code < 0:
            return f"killed by {signal.Signals(-code).name}"
        return f"exit code {code}" if code else ""

    async def _buried(self) -> int:
        """Return its exit code; asyncio reports it only when the pipe closes, which another process may hold open."""
        try:
            async with asyncio.timeout(PIPE_S):
                return await self._process.wait()
        except TimeoutError:
            self._process._transport.close()  # type: ignore[attr-defined]  # noqa: SLF001 - there is no public way
            return await self._process.wait()

    async def _exited(self) -> None:
        """Wait for the end of the process itself, even if others hold its pipes."""
        try:
            descriptor = os.pidfd_open(self.pid)
        except ProcessLookupError:
            return
        gone, loop = asyncio.Event(), asyncio.get_running_loop()
        loop.add_reader(descriptor, gone.set)
        try:
            await gone.wait()
        finally:
            loop.remove_reader(descriptor)
            os.close(descriptor)

    async def _hand_on(self) -> None:
        assert self._process.stdout is not None  # noqa: S101 - we asked for the pipe
        budget = Budget(PRINTED)  # meanwhile the pipe is full, and the worker waits
        while data := await self._process.stdout.read(1 << 16):
            await budget.spend(len(data), frames=0)
            self._output(data)

    def cpu_s(self) -> float:
        """Return the CPU seconds of the worker and of everything that it started; 0 where there is no /proc."""
        processes = linux.processes()
        ticks = sum(processes[pid].ticks for pid in linux.family([self.pid], processes) if pid in processes)
        return ticks / os.sysconf("SC_CLK_TCK")

    async def stop(self, grace_s: float) -> None:
        """End it and everything that it started: SIGTERM, then SIGKILL after `grace_s`. Needs `ended` to be running."""
        self._kill(signal.SIGTERM)
        for wait_s, sign in ((grace_s, END), (KEEPER_S, signal.SIGKILL)):
            try:
                async with asyncio.timeout(wait_s):
                    await self._exited()
                    return
            except TimeoutError:
                self._kill(sign)
        await self._exited()

    def _kill(self, sign: signal.Signals) -> None:
        try:
            if sign is END:
                os.kill(self.pid, sign)
            else:
                os.killpg(self.pid, sign)  # it leads a session of its own
        except ProcessLookupError:
            return


def _environment(extra: Mapping[str, str], home: Mapping[str, str]) -> dict[str, str]:
    kept = {key: value for key, value in os.environ.items() if key in KEPT or key.startswith(KEPT_PREFIXES)}
    return {
        **kept,
        **cores.brief(),
        **home,
        "PYTHONFAULTHANDLER": "1",  # a crash in native code prints its place to the job's log
        **extra,
        "PYTHONUNBUFFERED": "1",
        "CONVOY_NODE_PID": str(os.getpid()),
    }


def _environ(path: Path) -> list[bytes]:
    """Return a process's environment; nothing if it is another user's, or has ended."""
    try:
        return path.read_bytes().split(b"\0")
    except OSError:
        return []
