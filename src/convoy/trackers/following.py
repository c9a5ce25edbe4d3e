"""Follows a job for one experiment tracker: from where it is, over every break on either side, to the job's end."""

from __future__ import annotations

import asyncio
import tempfile
from collections.abc import AsyncGenerator, Callable
from contextlib import aclosing
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from convoy import errors
from convoy.errors import ConvoyError, StorageFull
from convoy.trackers.events import About, Batch, End, Place, Point, Round
from convoy.trackers.port import Away, Source, Tracker
from convoy.wire.backoff import FAILING, Backoff

WAITING: Final = 1000  # events in memory; a tracker that is slower makes the streams wait, and they the server's files
FETCHED: Final = "convoy-track-"  # what the names of folders begin with into which results are fetched
LONGEST_S: Final = 60.0  # between two attempts to reach a tracker


@dataclass(frozen=True, slots=True)
class Done:
    """How far a tracker is at the end of a job; `new` counts the rounds and points of this time."""

    name: str
    state: str  # of the job; empty: the tracker had all of it already
    place: Place
    new: int


async def follow(
    source: Source, tracker: Tracker, tell: Callable[[str], None], *, longest_s: float = LONGEST_S
) -> Done:
    """Send everything of a job to a tracker, and return at its end.

    A tracker that does not answer is asked again, for as long as it takes. Raises what the source raises, and the
    tracker's errors that are final.
    """
    backoff, sent = Backoff(longest_s, growth=FAILING), [0]
    while True:
        try:
            return await _attempt(source, tracker, tell, backoff, sent)
        except (Away, StorageFull) as problem:
            pause_s = backoff.pause_s()
            tell(f"{errors.line(problem)}; trying again in {pause_s:.0f} s, nothing is lost")
            await asyncio.sleep(pause_s)  # nothing reports when a tracker is back
        finally:
            await asyncio.to_thread(tracker.close)


async def _attempt(
    source: Source, tracker: Tracker, tell: Callable[[str], None], backoff: Backoff, sent: list[int]
) -> Done:
    about = await source.about()
    place = await asyncio.to_thread(tracker.begin, about)
    tell(_opened(tracker, about, place))
    if place.ended:
        return Done(tracker.name, "", place, sent[0])
    progress = _Progress(tracker, place, backoff, sent, tell)
    end = await _streams(source, progress)
    with tempfile.TemporaryDirectory(prefix=FETCHED) as folder:
        results = await source.results(Path(folder)) if tracker.wants_results else None
        await asyncio.to_thread(tracker.finish, end, results)
    return Done(tracker.name, end.state, progress.place, sent[0])


def _opened(tracker: Tracker, about: About, place: Place) -> str:
    job = f"{about.name} ({about.job[:8]})"
    if place.ended:
        return f"{tracker.name} has all of {job}"
    if place == Place():
        return f"{job} goes to {tracker.name}"
    return f"{job} goes on in {tracker.name} after round {max(place.round, 0)}"


@dataclass(slots=True)
class _Progress:
    """A tracker as far as it is."""

    tracker: Tracker
    place: Place
    backoff: Backoff
    sent: list[int]
    tell: Callable[[str], None]

    async def write(self, items: list[Round | Point]) -> None:
        """Send what the tracker lacks of some events."""
        fresh = [one for one in items if self.place.lacks(one)]
        rounds = tuple(one for one in fresh if isinstance(one, Round))
        batch = Batch(rounds, tuple(one for one in fresh if isinstance(one, Point)))
        if fresh:
            await asyncio.to_thread(self.tracker.write, batch)
            self.backoff.reset()
            self.sent[0] += len(fresh)
            self.place = self.place.after(batch)
        if rounds:
            first, last = rounds[0].number, rounds[-1].number
            which = f"rounds {first} to {last} are" if first < last else f"round {last} is"
            self.tell(f"{which} in {self.tracker.name}")


async def _streams(source: Source, progress: _Progress) -> End:
    """Read both streams of a job to their ends and write what comes; return the job's end."""
    queue: asyncio.Queue[Round | Point | End | None] = asyncio.Queue(WAITING)
    try:
        async with asyncio.TaskGroup() as group:
            group.create_task(_read(source.progress(progress.place.round), queue))
            group.create_task(_read(source.points(progress.place.points), queue))
            return await _write(queue, progress, streams=2)
    except BaseExceptionGroup as problems:
        raise _first(problems) from problems


async def _read(
    items: AsyncGenerator[Round | End, None] | AsyncGenerator[Point, None],
    queue: asyncio.Queue[Round | Point | End | None],
) -> None:
    async with aclosing(items):
        async for item in items:
            await queue.put(item)
    await queue.put(None)


async def _write(queue: asyncio.Queue[Round | Point | End | None], progress: _Progress, *, streams: int) -> End:
    """Write everything that waits at once; while that is under way, more gathers."""
    end: End | None = None
    while streams:
        items = [await queue.get()]
        while not queue.empty():
            items.append(queue.get_nowait())
        streams -= items.count(None)
        end = next((one for one in items if isinstance(one, End)), end)
        await progress.write([one for one in items if isinstance(one, Round | Point)])
    if end is None:
        raise Away("the job's stream ended before the job", why="the server ended it early")
    return end


def _first(problems: BaseExceptionGroup[BaseException]) -> BaseException:
    """Return the error that says most: one of ours, if there is one."""
    plain = [_first(one) if isinstance(one, BaseExceptionGroup) else one for one in problems.exceptions]
    ours = [one for one in plain if isinstance(one, ConvoyError)]
    return (ours or plain)[0]
