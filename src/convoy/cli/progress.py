"""Following a job: a live bar on a terminal, a line a round on a pipe, a line of JSON for programs."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Sequence
from contextlib import aclosing
from typing import TYPE_CHECKING

from convoy.admin.client import Client
from convoy.cli import output
from convoy.cli.output import Screen
from convoy.errors import Unreachable, by_reason
from convoy.spec.printable import one_line

if TYPE_CHECKING:
    from rich.console import RenderableType

    from convoy.admin import views


async def follow(client: Client, screen: Screen, job: str, *, after: int = -1) -> views.Progress:
    """Show a job until it has ended, of its rounds those after a number; return the last that was said of it."""
    async with aclosing(client.watch(job, after=after)) as items:
        try:
            if screen.live:
                return await _live(items)
            return await _lines(items, screen)
        except asyncio.CancelledError:
            screen.line()
            screen.line(f"the job goes on; watch it again with: convoy job watch {job[:8]}")
            raise


async def _lines(items: AsyncIterator[views.Progress], screen: Screen) -> views.Progress:
    said, last = "", None
    async for last in items:
        screen.data(last)
        state = state_line(last.job)
        fresh = [state] if state != said and last.job.state != "ending" and not last.more else []
        said = state if fresh else said
        rounds = [round_line(made, last.job.rounds) for made in trained(last.rounds)]
        for line in [*rounds, *fresh] if last.job.ended_at else [*fresh, *rounds]:
            screen.line(line)
    return _seen(last)


def trained(rounds: list[views.RoundView]) -> list[views.RoundView]:
    """Return the rounds without round 0, which is the model that the first one starts from."""
    return [made for made in rounds if made.round > 0]


def _seen(last: views.Progress | None) -> views.Progress:
    if last is None:
        raise Unreachable("the server reported nothing about the job")
    return last


def state_line(job: views.JobView) -> str:
    """Return a job's state, and its cause or how long it took; of what ended badly the error says the cause."""
    took = f" after {output.span(job.ended_at - job.started_at)}" if job.ended_at and job.started_at else ""
    return f"{job.name} {job.state}{took}{': ' + job.cause if job.cause and not job.ended_at else ''}"


def round_line(made: views.RoundView, rounds: int) -> str:
    """Return a round in one line: metrics, how many took part, who was left out and why."""
    parts = [f"round {made.round}/{rounds or '?'}"] + ([] if made.model else ["not committed"])
    parts += [output.metrics(made.metrics)] if made.metrics else []
    parts += [f"{made.took_part_count} took part"] if made.took_part_count else []
    parts += [f"left out {said}" for said in by_reason((out.site, out.reason) for out in made.left_out)]
    parts += [f"left out {more} more" for more in [made.left_out_count - len(made.left_out)] if more]
    return "  ".join(parts) + ("  (best)" if made.best else "")


def awaited(job: views.JobView) -> str:
    """Return the sites whose answers are awaited."""
    return some(job.waiting_for, job.waiting, ", ")


def some(shown: Sequence[str], count: int, between: str) -> str:
    """Return the first of many, and how many more there are."""
    return between.join([*shown, *([f"{count - len(shown)} more"] if count > len(shown) else [])])


async def _live(items: AsyncIterator[views.Progress]) -> views.Progress:
    """Draw one bar that changes when the job does; rounds that left somebody out stay as lines above it."""
    from rich.console import Console
    from rich.live import Live
    from rich.text import Text

    console, last = Console(highlight=False), None
    with Live(console=console, auto_refresh=False) as live:
        async for last in items:
            for made in trained(last.rounds):
                if made.left_out or made.best or not made.model:
                    console.print(Text(one_line(round_line(made, last.job.rounds))))
            live.update(_picture(last.job), refresh=True)
    return _seen(last)


_COLOURS = {"completed": "green", "failed": "red", "aborted": "yellow"}


def _picture(job: views.JobView) -> RenderableType:
    """Return a bar with round and metrics, and below it who is awaited or how the job ended."""
    from rich.console import Group
    from rich.progress_bar import ProgressBar
    from rich.table import Table
    from rich.text import Text

    colour = _COLOURS.get(job.state, "cyan")
    bar = ProgressBar(
        total=max(job.rounds, 1), completed=job.round, width=24, complete_style=colour, finished_style=colour
    )
    line = Table.grid(padding=(0, 2))
    line.add_row(
        Text(one_line(job.name), style="bold", no_wrap=True),
        bar,
        Text(f"round {job.round}/{job.rounds or '?'}", no_wrap=True),
        Text(one_line(output.metrics(job.metrics)), style="bold", no_wrap=True, overflow="ellipsis"),
    )
    waiting = f"waiting for {awaited(job)}" if job.waiting_for else ""
    state = waiting if job.state == "running" and not job.cause else state_line(job)
    return Group(line, Text(one_line(state), style=colour if job.ended_at else "dim", overflow="ellipsis"))
