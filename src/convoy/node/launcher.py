"""How a node starts an isolated worker process, reads its messages, stops it, and waits for its end."""

from __future__ import annotations

import asyncio
import json
import os
import signal
import socket
import subprocess
import sys
from collections.abc import Callable, Mapping
from contextlib import ExitStack, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO, Protocol

from convoy.node import environment
from convoy.node.child import Child
from convoy.node.forks import ForkServer
from convoy.node.isolation import Isolation, Walls
from convoy.wire import convoy_pb2 as pb
from convoy.wire import frames
from convoy.wire.budget import Budget, Rate
from convoy.worker import linux, start
from convoy.worker.sandbox import END, VARIABLE, Sandbox

KEEPER_S = 5.0  # for a worker's keeper to end whatever the worker has started
MAX_UNREAD = 64 << 20  # bytes for a worker that does not read them
PRINTED = Rate(1, 8 << 20, 4)  # 8 MiB a second of what one worker prints, 4 s of that at once
PIPE_S = 1.0  # to read the last output of a worker whose pipe a process outside its session still holds
SCRATCH = "scratch"  # a worker's home and temporary files, beside its code; it is removed with the job


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

    def prepare(self) -> None:
        """Get ready for the first worker, now that the node has the time."""
        ...

    async def launch(self, order: Order, output: Callable[[bytes], None], waits: Callable[[str], None]) -> Worker:
        """Start a worker; `output` gets what it prints, `waits` gets what it waits for before it runs, finally ""."""
        ...


class ProcessLauncher:
    """Workers as child processes that share the folders of their job with the node, and nothing else."""

    def __init__(self, home: Path, walls: Walls, forks: ForkServer | None = None) -> None:
        """`home` is the node's working folder; workers and their children have it in their environment.

        `forks` forks them; without it each is started anew, and loads what it needs.
        """
        self._mark = environment.mark(home)
        self._walls = walls
        self._forks = forks
        self._starting = asyncio.Lock()  # a request for each of a thousand workers would not fit into a socket

    @property
    def isolation(self) -> Isolation:
        """How workers are isolated here."""
        return self._walls.isolation

    def prepare(self) -> None:
        """Have loaded what workers need, now that the node has the time."""
        if self._forks is not None:
            self._forks.prepare()

    def bury(self) -> int:
        """End processes that a killed node of this folder has left; return how many there were."""
        ours = f"{environment.MARK}={self._mark[environment.MARK]}".encode()
        found = [int(path.parent.name) for path in Path("/proc").glob("[0-9]*/environ") if ours in _environ(path)]
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
        its = {
            **self._walls.environment(scratch),  # what the node's owner adds may replace it
            **environment.of_all(order.env),
            **self._mark,
            VARIABLE: self._sandbox(order, scratch).to_json(),
        }
        with ExitStack() as theirs, ExitStack() as ours:
            our_end, their_end = socket.socketpair()
            theirs.enter_context(their_end)
            reader, writer = await asyncio.open_unix_connection(sock=our_end, limit=frames.MAX_FRAME)
            ours.callback(writer.close)
            reads, writes = os.pipe()
            theirs.callback(os.close, writes)
            file = ours.enter_context(os.fdopen(reads, "rb", buffering=0))
            printed = await _piped(file)
            ours.callback(printed[1].close)
            if self._forks is None:
                child = _started(order, its, their_end.fileno(), writes)
            else:
                async with self._starting:
                    child = await self._forks.start(order.module, order.folder, its, their_end.fileno(), writes)
            ours.pop_all()
        worker = ProcessWorker(child, reader, writer, printed, output)
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
        child: Child,
        reader: asyncio.StreamReader,
        writer: asyncio.StreamWriter,
        printed: tuple[asyncio.StreamReader, asyncio.ReadTransport],
        output: Callable[[bytes], None],
    ) -> None:
        """Take over a started process, our end of its socket, and of the pipe that it prints to."""
        self._child = child
        self._reader = reader
        self._writer = writer
        self._printed, self._pipe = printed
        self._output = output

    @property
    def pid(self) -> int:
        """The process id."""
        return self._child.pid

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
            await self._child.exited()
            self._kill(signal.SIGKILL)  # end the processes that it left, which may hold the pipe open
            code = self._child.collect()
            await asyncio.wait({handing}, timeout=PIPE_S)
            handing.cancel()
        self._pipe.close()
        self._writer.close()
        if code < 0:
            return f"killed by {signal.Signals(-code).name}"
        return f"exit code {code}" if code else ""

    async def _hand_on(self) -> None:
        budget = Budget(PRINTED)  # meanwhile the pipe is full, and the worker waits
        while data := await self._printed.read(1 << 16):
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
                    await self._child.exited()
                    return
            except TimeoutError:
                self._kill(sign)
        await self._child.exited()

    def _kill(self, sign: signal.Signals) -> None:
        self._child.kill(sign, session=sign is not END)  # it leads a session of its own


def _started(order: Order, env: Mapping[str, str], sock: int, output: int) -> Child:
    """Start a worker's process anew."""
    process = subprocess.Popen(
        # -P: the interpreter must not look for its own modules in the job's folder
        [sys.executable, "-P", "-m", start.__name__, order.module],
        stdin=subprocess.DEVNULL,
        stdout=output,
        stderr=output,
        cwd=order.folder,
        env={**env, "CONVOY_WORKER_FD": str(sock)},
        pass_fds=[sock],
        start_new_session=True,
    )
    return Child(process.pid, process.wait)


async def _piped(file: BinaryIO) -> tuple[asyncio.StreamReader, asyncio.ReadTransport]:
    """Return a reader of a pipe, and what closes it."""
    loop, reader = asyncio.get_running_loop(), asyncio.StreamReader()
    transport, _ = await loop.connect_read_pipe(lambda: asyncio.StreamReaderProtocol(reader), file)
    return reader, transport


def _environ(path: Path) -> list[bytes]:
    """Return a process's environment; nothing if it is another user's, or has ended."""
    try:
        return path.read_bytes().split(b"\0")
    except OSError:
        return []
