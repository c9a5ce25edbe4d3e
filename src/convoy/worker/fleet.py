"""The carrier in a workflow's process: sends questions and commits to its node as frames, and receives answers."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

from convoy.control.records import Question
from convoy.errors import RemoteFault
from convoy.flows.carrier import Commit, Ended, Heard
from convoy.model import frameworks
from convoy.model.arrays import NO_ARRAYS, Model
from convoy.privacy import packing
from convoy.store import arrays as _arrays
from convoy.store.blobs import BlobFolder
from convoy.wire import convoy_pb2 as pb
from convoy.wire import frames, values
from convoy.worker import tasks
from convoy.worker.batch import Batch


class NodeGone(Exception):
    """The node has disconnected: the workflow's work is useless."""


class NodeCarrier:
    """Reaches the sites of a job through the node that started this process."""

    def __init__(self, begin: pb.BeginFlow, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """Take over the stream to the node."""
        self._folder, self._out = BlobFolder(Path(begin.blobs)), Path(begin.out)
        self._reader = reader
        self._writer = writer
        self._kept = {begin.committed_model, begin.committed_state}
        self._lent = set(self._kept)  # blobs that the node holds until the round is committed
        self._open: dict[str, Callable[[Heard | Ended], None]] = {}
        self._asked: dict[str, Question] = {}  # the open questions, each with the digest of its model
        self._receipts: dict[int, asyncio.Future[None]] = {}
        self._lists: list[asyncio.Future[list[str]]] = []
        self._loop, self._thread = asyncio.get_running_loop(), threading.get_ident()
        self.points = Batch(self._send_points, tasks.log)  # of live metrics

    async def listen(self) -> None:
        """Pass on the node's messages, for as long as this process lives. Raises `NodeGone` when it disconnects."""
        while (down := await frames.read(self._reader, pb.WorkerDown)) is not None:
            match down.WhichOneof("it"):
                case "answer":
                    self._heard(down.answer)
                case "end":
                    self._asker(down.end.question)(Ended(down.end.question, down.end.error))
                    del self._open[down.end.question]
                    self._asked.pop(down.end.question, None)
                case "committed":
                    self._receipts.pop(down.committed.round).set_result(None)
                case "sites":
                    self._lists.pop(0).set_result(list(down.sites.sites))
                case "bye":
                    break
                case other:
                    raise RemoteFault(f"the node sent {other!r} to a workflow")
        raise NodeGone

    def _heard(self, said: pb.SiteAnswer) -> None:
        answer = values.answer(said.answer)
        self._lent.add(answer.digest)
        tell, asked = self._asker(answer.question), self._asked[answer.question]
        base = self.load(asked.model) if asked.outlives or answer.packed else NO_ARRAYS
        update = self.load(answer.digest)
        if answer.packed:
            update = packing.Unpacked(update, base, answer.packed)
        tell(Heard(said.site, answer, update, said.left_out, base))

    def _asker(self, question: str) -> Callable[[Heard | Ended], None]:
        asker = self._open.get(question)
        if asker is None:
            raise RemoteFault(f"the node answered question {question}, which was not asked")
        return asker

    def send(self, message: pb.WorkerUp) -> None:
        """Send the node a message, after the live metrics that were gathered before."""
        self.points.flush()
        self._writer.write(frames.pack(message))

    def _send_points(self, points: pb.Points) -> None:
        """Send live metrics, in whichever thread they were measured."""
        frame = frames.pack(pb.WorkerUp(points=points))
        if threading.get_ident() == self._thread:
            self._writer.write(frame)
        else:
            self._loop.call_soon_threadsafe(self._writer.write, frame)

    def ask(self, question: Question, arrays: Any, tell: Callable[[Heard | Ended], None]) -> None:
        """Write the arrays of a question as a blob, and send the question (`convoy.flows.carrier.Carrier`)."""
        message = pb.WorkerUp(ask=values.question_to(question))
        if arrays is not None:
            message.ask.model = self._save(arrays, message)
        self._open[question.id] = tell
        self._asked[question.id] = replace(question, model=message.ask.model)
        self.send(message)

    def _save(self, arrays: Any, message: pb.WorkerUp) -> str:
        """Send the node a blob of arrays; return its digest. Small ones are in the message unless the node has them."""
        if isinstance(arrays, Model) and arrays.digest and arrays.digest in self._lent:
            return arrays.digest
        named = arrays if isinstance(arrays, Model) else frameworks.to_arrays(arrays)
        digest, whole = _arrays.hand_over(self._out, named)
        if whole:
            message.wholes[digest] = whole
        return digest

    def load(self, digest: str) -> Model:
        """Return the arrays of a blob, mapped; for an empty digest, no arrays."""
        return _arrays.load(self._folder, digest) if digest else NO_ARRAYS

    async def commit(self, commit: Commit, model: Model, state: Model | None) -> tuple[Model, Model]:
        """Send a commit, and wait until it is durable (`convoy.flows.carrier.Carrier`)."""
        message = pb.WorkerUp(
            commit=pb.Commit(
                round=commit.round,
                metrics=dict(commit.metrics),
                best=commit.best,
                left_out=dict(commit.left_out),
                folded=commit.folded,
                spread={site: pb.Spread(norm=it.norm, cosine=it.cosine) for site, it in commit.spread.items()},
            )
        )
        message.commit.model = self._save(model, message)
        message.commit.state = self._save(state, message) if state is not None else ""
        receipt = self._receipts[commit.round] = asyncio.get_running_loop().create_future()
        self.send(message)
        await receipt
        kept = message.commit.model, message.commit.state
        self._lent = set(kept)
        return self.load(kept[0]), self.load(kept[1])

    async def sites(self) -> list[str]:
        """Return the sites that could be asked now."""
        answer: asyncio.Future[list[str]] = asyncio.get_running_loop().create_future()
        self._lists.append(answer)
        self.send(pb.WorkerUp(sites=pb.SitesAsk()))
        return await answer
