"""The workflow's process: it runs a job's server-side half and holds no key; killed, it goes on at the last commit."""

from __future__ import annotations

import asyncio
import json
import os
import resource
import socket
import sys
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

from convoy.errors import BadInput, StorageFull
from convoy.flows.catalog import built_in
from convoy.flows.fleet import NotEnough
from convoy.store.arrays import read_file
from convoy.store.disk import FULL
from convoy.wire import convoy_pb2 as pb
from convoy.wire import frames
from convoy.worker import code, hints, history, tasks
from convoy.worker.fleet import NodeFleet, NodeGone
from convoy.worker.tasks import Begin, Data, Session


def main() -> None:
    """Run one job's workflow."""
    _, most = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (most, most))  # each answer of a round is a mapped file, until it counts
    sys.exit(asyncio.run(_serve(socket.socket(fileno=int(os.environ["CONVOY_WORKER_FD"])))))


async def _serve(sock: socket.socket) -> int:
    reader, writer = await asyncio.open_unix_connection(sock=sock, limit=frames.MAX_FRAME)
    try:
        down = await frames.read(reader, pb.WorkerDown)
        past = None if down is None else await history.read(reader, writer, down.flow.committed)
        if down is not None and past is not None:
            async with asyncio.TaskGroup() as group:
                fleet = NodeFleet(down.flow, past, reader, writer)
                listening = group.create_task(fleet.listen())
                fleet.send(await _outcome(fleet, down.flow))
                await writer.drain()
                listening.cancel()
    except* NodeGone:
        gone = True
    else:
        gone = past is None
    finally:
        writer.close()
    return int(gone)


async def _outcome(fleet: NodeFleet, begin: pb.BeginFlow) -> pb.WorkerUp:
    """Run the workflow and return what to tell the node: done, or what failed."""
    try:
        await _run(fleet, begin)
    except Exception as error:  # noqa: BLE001 - the supervisor of foreign code: whatever it raises is the job's news
        traceback = "" if isinstance(error, NotEnough) else code.traceback(error)  # its words say it all, by site
        sys.stderr.write((traceback or f"{code.line(error)}\n") + hints.of(error))
        full = isinstance(error, StorageFull) or (isinstance(error, OSError) and error.errno in FULL)
        return pb.WorkerUp(failure=pb.Failure(error=code.line(error), traceback=traceback, full=full))
    return pb.WorkerUp(done=pb.Done())


async def _run(fleet: NodeFleet, begin: pb.BeginFlow) -> None:
    folder = Path(begin.code)
    told = Begin(begin.job, begin.name, "server", fleet.job.config, Data())
    tasks.Here.session = Session(told)  # a training script that is imported for its `initial` finds no tasks here
    workflow = _workflow(folder, begin.workflow)
    if begin.committed < 0:
        await fleet.begin(_initial(folder, begin.model, fleet.job.config))
    await workflow(fleet, **json.loads(begin.with_json or "{}"))


def _workflow(folder: Path, reference: str) -> Callable[..., Awaitable[None]]:
    file, name = code.split(reference)
    if not name:
        return built_in(reference)
    return code.function(code.run(folder, file), name)  # type: ignore[no-any-return]


def _initial(folder: Path, model: str, config: Any) -> Any:
    """Return the initial model: what a function of the job returns, a safetensors file of it, or no arrays at all."""
    if not model:
        return {}
    file, name = code.split(model)
    if not name:
        path = (folder / file).resolve()
        if not path.is_relative_to(folder.resolve()):
            raise BadInput(f"the job has no file {file}", where="job.yaml")
        return read_file(path)
    function = code.function(code.run(folder, file), name)
    takes = getattr(getattr(function, "__code__", None), "co_argcount", 0)
    return function(config) if takes else function()


if __name__ == "__main__":
    main()
