"""`convoy job track`: a job in TensorBoard, MLflow and Weights & Biases, while it runs and afterwards."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Final

from convoy.errors import BadInput, ConvoyError
from convoy.trackers import following
from convoy.trackers.choice import Chosen
from convoy.trackers.reading import JobSource

if TYPE_CHECKING:
    from convoy.admin.client import Client
    from convoy.cli.output import Screen
    from convoy.trackers.following import Done
    from convoy.trackers.port import Tracker

PATIENCE_S: Final = 86400.0  # with a server that does not answer: a night and a day


async def track(client: Client, screen: Screen, job: str, chosen: Chosen, *, results: bool = True) -> None:
    """Follow a job to its end for every tracker that was chosen; one that fails does not end the others.

    Raises `BadInput` for none, and the first error that a tracker could not get over.
    """
    every = list(chosen.trackers())
    if not every:
        raise BadInput("no experiment tracker was named", fix="give --tensorboard DIR, --mlflow URI or --wandb PROJECT")
    found = await client.find(job)
    source = JobSource(client, found, screen.line, with_results=results)
    ends = await asyncio.gather(*(_one(source, tracker, screen) for tracker in every))
    screen.data({"trackers": [_plain(end) for end in ends if not isinstance(end, ConvoyError)]})
    for end in ends:
        if isinstance(end, ConvoyError):
            raise end


async def _one(source: JobSource, tracker: Tracker, screen: Screen) -> Done | ConvoyError:
    """Follow the job for one tracker; return the error that ended it."""
    try:
        done = await following.follow(source, tracker, screen.line)
    except ConvoyError as problem:
        screen.line(f"{tracker.name} gets no more: {problem.what}")
        return problem
    if done.state:
        rounds, points = max(done.place.round, 0), sum(number + 1 for number in done.place.points.values())
        screen.line(f"the job {done.state}; {tracker.name} has its {rounds} rounds and {points} live metrics")
    return done


def _plain(done: Done) -> dict[str, object]:
    return {"tracker": done.name, "round": done.place.round, "points": dict(done.place.points), "new": done.new}
