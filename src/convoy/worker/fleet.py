"""The fleet as a workflow's process has it: questions and commits as frames to its node, shares and receipts back."""

from __future__ import annotations

import asyncio
import json
import math
import operator
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, TypeVar

from convoy.errors import JobFailed, RemoteFault
from convoy.flows.fleet import Job, NotEnough, Round, Update
from convoy.model import frameworks
from convoy.model.arrays import Model
from convoy.model.schema import check_values
from convoy.store import arrays as _arrays
from convoy.store.blobs import BlobFolder
from convoy.wire import convoy_pb2 as pb
from convoy.wire import frames
from convoy.worker import code

N = TypeVar("N", int, float)


class NodeGone(Exception):
    """The node has hung up: there is nothing left to work for."""


def _number(kind: str, name: str, value: Any, of: Callable[[Any], N], *, least: float = -math.inf) -> N:
    """Return an option of a question as a number, by `operator.index` or `float`. Raises `JobFailed`."""
    try:
        number = of(value)
        usable = not isinstance(value, str | bytes) and math.isfinite(number) and number >= least
    except (TypeError, ValueError, OverflowError):
        usable = False
    if usable:
        return number
    wanted = ("a number" if of is float else "a whole number") + (", 0 or more" if least == 0 else "")
    raise JobFailed(f"{kind!r} is asked with {name}={value!r}", fix=f"give {wanted}")


class NodeAnswers:
    """The answers to one question as its node hands them on; the question goes out with the first `async for`."""

    def __init__(self, fleet: NodeFleet, ask: pb.Ask, model: Any) -> None:
        """Keep the question."""
        self.left_out: dict[str, str] = {}
        self._fleet = fleet
        self._ask = ask
        self._model = model
        self._asked = False
        self._shares: asyncio.Queue[pb.Share | pb.AskEnd] = asyncio.Queue()

    def __aiter__(self) -> NodeAnswers:
        return self

    async def __anext__(self) -> Update:
        if not self._asked:
            self._asked = True
            self._fleet.put(self._ask, self._model, self._shares)
            self._model = None
        while True:
            share = await self._shares.get()
            if isinstance(share, pb.AskEnd):
                self._shares.put_nowait(share)  # asked once more, it says the same
                if share.error:
                    raise NotEnough(share.error)
                raise StopAsyncIteration
            if not share.left_out:
                return self._update(share)
            self.left_out[share.site] = share.left_out

    def _update(self, share: pb.Share) -> Update:
        """Return an answer as the workflow has it, and hear what the workflow says of it."""
        what = f"round {self._ask.round}: {share.site}'s answer to {self._ask.kind!r}"

        def leave_out(reason: str) -> None:
            self.left_out[share.site] = reason
            self._fleet.log(f"{what} does not count: {reason}")
            if share.digest:  # of one that has only measured the model is as it would be
                self._fleet.uncounted[share.site] = f"{self._ask.kind}: {reason}"

        def remark(text: str) -> None:
            self._fleet.log(f"{what}: {text}")

        model = self._fleet.borrow(share.digest)
        return Update(share.site, model, share.weight, dict(share.metrics), leave_out, remark)


class NodeFleet:
    """The sites of a job, reached through the node that started this process."""

    def __init__(
        self,
        begin: pb.BeginFlow,
        history: list[dict[str, Any]],
        reader: asyncio.StreamReader,
        writer: asyncio.StreamWriter,
    ) -> None:
        """Take over the stream to the node, and what the node says of the job so far; `history`: as `Fleet` has it."""
        self.job = Job(begin.job, begin.name, json.loads(begin.config_json or "{}"))
        self.history = history
        self.uncounted: dict[str, str] = {}  # in this round: the sites whose answers the workflow left out, and why
        self._folder, self._out = BlobFolder(Path(begin.blobs)), Path(begin.out)
        self._reader = reader
        self._writer = writer
        self._committed = begin.committed
        self._model = begin.committed_model
        self._lent = {self._model}  # blobs that the node holds until the round is committed: what we were given in it
        self._round = self._total = self._asks = 0
        self._open: dict[str, asyncio.Queue[pb.Share | pb.AskEnd]] = {}
        self._receipts: dict[int, asyncio.Future[None]] = {}
        self._lists: list[asyncio.Future[list[str]]] = []

    async def listen(self) -> None:
        """Hand on what the node says, for as long as this process lives. Raises `NodeGone` when it hangs up."""
        while (down := await frames.read(self._reader, pb.WorkerDown)) is not None:
            match down.WhichOneof("it"):
                case "share":
                    self._queue(down.share.question).put_nowait(down.share)
                case "end":
                    self._queue(down.end.question).put_nowait(down.end)
                    del self._open[down.end.question]
                case "committed":
                    self._receipts.pop(down.committed.round).set_result(None)
                case "sites":
                    self._lists.pop(0).set_result(list(down.sites.sites))
                case "bye":
                    break
                case other:
                    raise RemoteFault(f"the node said {other!r} to a workflow")
        raise NodeGone

    def _queue(self, question: str) -> asyncio.Queue[pb.Share | pb.AskEnd]:
        queue = self._open.get(question)
        if queue is None:
            raise RemoteFault(f"the node answered question {question}, which was not asked")
        return queue

    def send(self, message: pb.WorkerUp) -> None:
        """Send the node a message."""
        self._writer.write(frames.pack(message))

    def put(self, ask: pb.Ask, model: Any, shares: asyncio.Queue[pb.Share | pb.AskEnd]) -> None:
        """Keep the model of a question as a blob, and send the question."""
        ask.model, whole = self.save(model)
        self._open[ask.question] = shares
        self.send(pb.WorkerUp(ask=ask, whole=whole))

    def save(self, arrays: Any) -> tuple[str, bytes]:
        """Hand arrays over as a blob; return its digest and, if it is small and not lent by the node, its bytes."""
        if isinstance(arrays, Model) and arrays.digest and arrays.digest in self._lent:
            return arrays.digest, b""
        return _arrays.hand_over(self._out, arrays if isinstance(arrays, Model) else frameworks.to_arrays(arrays))

    def load(self, digest: str) -> Model:
        """Return the arrays of a blob, mapped; no digest, no arrays."""
        return _arrays.load(self._folder, digest) if digest else Model({})

    def borrow(self, digest: str) -> Model:
        """Return the arrays of an answer, mapped."""
        self._lent.add(digest)
        return self.load(digest)

    async def begin(self, arrays: Any) -> None:
        """Commit the initial model, as round 0."""
        await self._commit(0, arrays, {}, best=False)

    async def rounds(self, count: int) -> AsyncIterator[Round]:
        """Yield rounds up to number `count`, beginning after the last committed one. Raises `JobFailed`."""
        self._total = count
        for number in range(self._committed + 1, count + 1):
            self._round, self._asks = number, 0
            self.uncounted.clear()
            turn = Round(number, count, self.load(self._model), self._keep)
            yield turn
            if not turn.committed:
                raise JobFailed(
                    f"the workflow left round {number} without a commit",
                    fix="end each round with `await round.commit(arrays)`; round.model, if nothing is to change",
                )

    async def _keep(self, turn: Round, arrays: Any, metrics: Mapping[str, float], best: bool) -> None:
        if turn.number != self._committed + 1:
            raise JobFailed(
                f"round {turn.number} cannot be committed",
                why=f"round {self._committed} is the last that is",
                fix="commit once in each round of `async for round in fleet.rounds(…)`",
            )
        await self._commit(turn.number, arrays, metrics, best=best)

    async def _commit(self, number: int, arrays: Any, metrics: Mapping[str, float], *, best: bool) -> None:
        numbers = code.finite({name: float(value) for name, value in metrics.items()}, f"round {number}")
        model = arrays if isinstance(arrays, Model) else Model(frameworks.to_arrays(arrays))
        check_values(model, of=f"the model of round {number}")
        digest, whole = self.save(model)
        receipt = self._receipts[number] = asyncio.get_running_loop().create_future()
        commit = pb.Commit(round=number, model=digest, metrics=numbers, best=best, left_out=self.uncounted)
        self.send(pb.WorkerUp(commit=commit, whole=whole))
        await receipt
        self._committed, self._model = number, digest
        self._lent = {digest}
        self.history.append({"round": number, "metrics": numbers, "best": best})

    def ask(
        self,
        kind: str,
        model: Any,
        *,
        at_least: int = 1,
        sites: Sequence[str] | None = None,
        sample: int = 0,
        deadline_s: float = 0.0,
        max_norm: float = 0.0,
        **numbers: float,
    ) -> NodeAnswers:
        """Ask sites a question; see `convoy.flows.fleet.Fleet`."""
        if isinstance(sites, str):
            raise JobFailed(f"{kind!r} is asked with sites={sites!r}", fix=f"give a list: sites=[{sites!r}]")
        question = f"{self._round}.{self._asks}"
        self._asks += 1
        ask = pb.Ask(
            question=question,
            kind=kind,
            round=self._round,
            rounds=self._total,
            at_least=_number(kind, "at_least", at_least, operator.index, least=0),
            sites=sites or (),
            sample=_number(kind, "sample", sample, operator.index, least=0),
            deadline_s=_number(kind, "deadline_s", deadline_s, float, least=0),
            max_norm=_number(kind, "max_norm", max_norm, float, least=0),
            numbers={name: _number(kind, name, value, float) for name, value in numbers.items()},
        )
        return NodeAnswers(self, ask, model)

    async def sites(self) -> list[str]:
        """Return the sites that could be asked now."""
        answer: asyncio.Future[list[str]] = asyncio.get_running_loop().create_future()
        self._lists.append(answer)
        self.send(pb.WorkerUp(sites=pb.SitesAsk()))
        return await answer

    def log(self, text: str) -> None:
        """Write a line into the job's log."""
        print(text, flush=True)  # noqa: T201 - standard output is the job's log
