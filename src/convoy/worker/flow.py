"""The workflow's process: it runs the server's part of a job and holds no key; it restarts after the last commit."""

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

from convoy.errors import FULL, JobFailed, StorageFull
from convoy.flows.catalog import built_in
from convoy.flows.fleet import Job, NotEnough
from convoy.flows.turns import Past, Turns
from convoy.wire import convoy_pb2 as pb
from convoy.wire import frames, values
from convoy.worker import code, hints, history, tasks
from convoy.worker.fleet import NodeCarrier, NodeGone
from convoy.worker.setup import Data, Setup
from convoy.worker.tasks import NodeSession


def main() -> None:
    """Run one job's workflow."""
    _, most = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (most, most))  # an answer is an open file until it is folded
    sys.exit(asyncio.run(_serve(socket.socket(fileno=int(os.environ["CONVOY_WORKER_FD"])))))


async def _serve(sock: socket.socket) -> int:
    reader, writer = await asyncio.open_unix_connection(sock=sock, limit=frames.MAX_FRAME)
    try:
        down = await frames.read(reader, pb.WorkerDown)
        past = None if down is None else await history.read(reader, writer, down.flow.committed)
        if down is not None and past is not None:
            async with asyncio.TaskGroup() as group:
                carrier = NodeCarrier(down.flow, reader, writer)
                listening = group.create_task(carrier.listen())
                carrier.send(await _outcome(carrier, down.flow, past))
                await writer.drain()
                listening.cancel()
    except* NodeGone:
        gone = True
    else:
        gone = past is None
    finally:
        writer.close()
    return int(gone)


async def _outcome(carrier: NodeCarrier, begin: pb.BeginFlow, past: list[dict[str, Any]]) -> pb.WorkerUp:
    """Run the workflow and return what to tell the node: done, or what failed."""
    try:
        try:
            await _run(_fleet(carrier, begin, past), begin, carrier)
        except SystemExit as leaving:  # a restart would end in the same way
            fix = "return from the workflow when it is done, and raise an error when it fails"
            raise JobFailed(f"the workflow called sys.exit({leaving.code!r})", fix=fix) from leaving
    except Exception as error:  # noqa: BLE001 - the supervisor of foreign code: whatever it raises is the job's news
        traceback = "" if isinstance(error, NotEnough) else code.traceback(error)  # those of the sites say more
        sys.stderr.write(code.logged(error) + hints.of(error))
        full = isinstance(error, StorageFull) or (isinstance(error, OSError) and error.errno in FULL)
        return pb.WorkerUp(failure=pb.Failure(error=code.line(error), traceback=traceback, full=full))
    return pb.WorkerUp(done=pb.Done())


def _fleet(carrier: NodeCarrier, begin: pb.BeginFlow, past: list[dict[str, Any]]) -> Turns:
    """Return the fleet of this job, as of the last commit."""
    found = Past(
        committed=begin.committed,
        model=carrier.load(begin.committed_model),
        state=carrier.load(begin.committed_state),
        history=past,
        waiting=[values.question(asked, begin.job) for asked in begin.waiting],
    )
    return Turns(Job(begin.job, begin.name, json.loads(begin.config_json or "{}")), carrier, found, tasks.log)


async def _run(fleet: Turns, begin: pb.BeginFlow, carrier: NodeCarrier) -> None:
    folder = Path(begin.code)
    told = Setup(begin.job, begin.name, "server", fleet.job.config, Data())
    tasks.Here.session = session = NodeSession(
        told
    )  # a training script that is imported for its `initial` finds no tasks here
    session.batch = carrier.points
    workflow = workflow_of(folder, begin.workflow)
    if not fleet.begun:
        await fleet.begin(code.initial(folder, begin.model, fleet.job.config))
    await workflow(fleet, **json.loads(begin.with_json or "{}"))


def workflow_of(folder: Path, reference: str) -> Callable[..., Awaitable[None]]:
    """Return a built-in workflow, or a function of the job. Raises `BadInput`, and what the job's code raises."""
    file, name = code.split(reference)
    if not name:
        return built_in(reference)
    return code.function(code.run(folder, file), name)  # type: ignore[no-any-return]


if __name__ == "__main__":
    main()
