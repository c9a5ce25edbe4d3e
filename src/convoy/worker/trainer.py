"""The trainer's process: it runs the job's code at a site and holds no key, no thread and no event loop."""

from __future__ import annotations

import inspect
import json
import os
import socket
import sys
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from convoy.errors import BadInput
from convoy.store.blobs import BlobFolder
from convoy.wire import convoy_pb2 as pb
from convoy.wire.frames import Blocking
from convoy.worker import code, hints, tasks
from convoy.worker.batch import Batch
from convoy.worker.replies import Reply
from convoy.worker.setup import Data, Files, Setup
from convoy.worker.tasks import NodeSession, Task


def main() -> None:
    """Serve one job until its node sends Bye or disconnects."""
    with socket.socket(fileno=int(os.environ["CONVOY_WORKER_FD"])) as sock:
        work(Blocking(sock))


def work(link: Blocking, kind: type[NodeSession] = NodeSession) -> None:
    """Serve one job over a connection, in a session of this kind; exits with 1 if the job's code ends with an error."""
    down = link.receive(pb.WorkerDown)
    if down is not None and not _served(link, down.trainer, kind):
        sys.exit(1)


def _served(link: Blocking, begin: pb.BeginTrainer, kind: type[NodeSession]) -> bool:
    """Serve a job to its end; return whether its code ended without an error."""
    told = Setup(
        begin.job,
        begin.name,
        begin.site,
        json.loads(begin.config_json or "{}"),
        Data(json.loads(begin.data_json or "{}")),
        begin.seed,
        Path(begin.code),
        begin.model,
    )
    told.data.withheld = frozenset(begin.withheld)
    session = kind(told, Files(BlobFolder(Path(begin.blobs)), Path(begin.out)), link)
    session.batch = Batch(session.send_points, tasks.log)
    tasks.Here.session = session
    try:
        serve(session, Path(begin.code), begin.trainer)
        session.flush()
    except Exception as error:  # noqa: BLE001 - the supervisor of foreign code: whatever it raises is the job's news
        session.flush()
        if session.open is None:
            session.give_up(code.line(error), code.traceback(error))
        _report(session, error)
        return False
    return True


def serve(session: NodeSession, folder: Path, trainer: str) -> None:
    """Run the job's trainer: a script that loops or decorates, or a function."""
    if not trainer:
        from convoy.worker import built_in  # numpy comes with it

        _loop(session, built_in.choose, built_in.NAME)
        return
    file, name = code.split(trainer)
    sys.argv = [file]
    if name:
        module = code.run(folder, file)
        named = code.function(module, name)
        _loop(session, lambda kind: choose(session, kind, vars(module), named), trainer)
        return
    script(session, folder, file)
    if session.served:
        _loop(session, session.served.get, trainer)
    elif not session.over:
        raise ended(session, file)


def ended(session: NodeSession, file: str) -> BadInput:
    """Return the error for a script that has neither a loop nor functions, or a loop that ends too soon."""
    loop = "loop over convoy.tasks(), which ends when the job does"
    ways = f"put @convoy.train above a function, or name one in job.yaml (`trainer: {file}:train`), or {loop}"
    return BadInput(
        f"{file} ended while its job goes on",
        why=f"it took {session.taken} tasks" if session.taken else "it took no task and has no @convoy.train function",
        fix=loop if session.taken else ways,
    )


def script(session: NodeSession, folder: Path, file: str) -> None:
    """Run a job's script to its end. Raises what it raises, and `BadInput` where it exits with an error."""
    try:
        code.run(folder, file, name="__main__")
    except SystemExit as leaving:
        if leaving.code not in (None, 0) or session.open is not None:
            raise BadInput(f"{file} called sys.exit({leaving.code!r})") from leaving


def choose(
    session: NodeSession, kind: str, names: Mapping[str, Any], named: Callable[..., Any]
) -> Callable[..., Any] | None:
    """Return the function for a kind of task: decorated, or with the name of the kind, or the one that job.yaml names.

    A function for training is never asked to evaluate: it would train unnoticed.
    """
    if kind in session.served:
        return session.served[kind]
    if kind == "train":
        return named
    built_in = names.get(kind)
    if callable(built_in):
        return built_in  # type: ignore[no-any-return]
    return named if kind != "evaluate" else None


def _loop(session: NodeSession, choose: Callable[[str], Callable[..., Any] | None], trainer: str) -> None:
    while (task := session.next()) is not None:
        perform(session, choose, task, trainer)


def perform(session: NodeSession, choose: Callable[[str], Callable[..., Any] | None], task: Task, trainer: str) -> None:
    """Have a function of the job answer a task; what it raises fails the task."""
    try:
        result = _function(choose, task, trainer)(task)
        if inspect.iscoroutine(result):  # an `async def` function
            import asyncio  # 35 ms that most trainers do not need

            result = asyncio.run(result)
        if session.open is task:  # it may have called task.reply() itself
            session.answer(task, as_reply(task, result))
    except SystemExit as leaving:  # as a script says that it cannot go on
        fix = "raise an error with the reason; return when there is nothing to do"
        problem = BadInput(f"the function for {task.kind!r} tasks called sys.exit({leaving.code!r})", fix=fix)
        _report(session, problem.with_traceback(leaving.__traceback__))
    except Exception as error:  # noqa: BLE001 - the supervisor of foreign code: the task fails, the trainer goes on
        _report(session, error)


def _function(choose: Callable[[str], Callable[..., Any] | None], task: Task, trainer: str) -> Callable[..., Any]:
    found = choose(task.kind)
    if found is None:
        file, _, named = trainer.partition(":")
        fix = f"write one under @convoy.{task.kind}"
        if task.kind not in ("train", "evaluate"):
            fix = f"write a function of that name into {file}, with `trainer: {file}:{named or 'train'}`"
        raise BadInput(f"{trainer} has no function for {task.kind!r} tasks", fix=fix)
    return found


def as_reply(task: Task, result: Any) -> Reply:
    """Return what a function of a task returned as a reply: a `Reply`, or arrays, or metrics for an evaluation."""
    if isinstance(result, Reply):
        return result
    if task.kind == "evaluate" and isinstance(result, Mapping):
        return Reply(metrics=result)
    returned = f"the function for {task.kind!r} tasks returned"
    if task.kind == "evaluate" and not task.asked.wants_arrays:
        what = "None" if result is None else f"a {type(result).__name__}"
        fix = 'return {"loss": 0.5}, or convoy.Reply(metrics={…}, weight=…)'
        raise BadInput(f"{returned} {what}", why="wanted metrics: a mapping of names to numbers", fix=fix)
    fix = "return convoy.Reply(arrays, weight=…, metrics={…})"
    if result is None and task.asked.wants_arrays:
        raise BadInput(f"{returned} None", why="wanted the arrays that it trained", fix=fix)
    if isinstance(result, tuple) and any(isinstance(part, Mapping | list) or _is_net(part) for part in result):
        raise BadInput(f"{returned} a tuple", fix=fix)
    return Reply(result)


def _is_net(part: Any) -> bool:
    return callable(getattr(part, "state_dict", None))


def _report(session: NodeSession, error: BaseException) -> None:
    sys.stderr.write(code.logged(error) + hints.of(error))
    session.fail(code.line(error), code.traceback(error))


if __name__ == "__main__":
    main()
