"""The committed rounds of a restarted workflow, which it requests from its node page by page."""

from __future__ import annotations

import asyncio
from typing import Any

from convoy.errors import RemoteFault
from convoy.wire import convoy_pb2 as pb
from convoy.wire import frames


async def read(
    reader: asyncio.StreamReader, writer: asyncio.StreamWriter, committed: int
) -> list[dict[str, Any]] | None:
    """Return every round up to the last committed one, as `Fleet.history` has them; None if the node is gone.

    Each page is requested, so that neither side holds more than one, however long the history is.
    """
    history: list[dict[str, Any]] = []
    known = -1
    while known < committed:
        writer.write(frames.pack(pb.WorkerUp(history=pb.HistoryAsk(after=known))))
        down = await frames.read(reader, pb.WorkerDown)
        if down is None or down.WhichOneof("it") == "bye":
            return None
        page = down.history.rounds
        if down.WhichOneof("it") != "history" or not page or page[0].round <= known:
            raise RemoteFault(f"the node has no rounds after {known} of the {committed} that were committed")
        history += ({"round": it.round, "metrics": dict(it.metrics), "best": it.best} for it in page)
        known = page[-1].round
    return history
