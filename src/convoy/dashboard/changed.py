"""Tells when something in folders may have changed: by inotify, or every few seconds where that cannot be had."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Collection
from contextlib import suppress
from pathlib import Path
from typing import Final

import structlog
from watchfiles import Change, awatch

from convoy.dashboard.merging import beside

PAUSE_S: Final = 1.0  # between two looks, however much changes meanwhile
AGES_S: Final = 10.0  # after which to look although no file has changed: ages, and what no file tells
POLL_S: Final = 3.0  # between two looks where nothing tells of changes
TOGETHER_MS: Final = 200  # changes within this time are told as one


async def changes(
    folders: Collection[Path], *, pause_s: float = PAUSE_S, ages_s: float = AGES_S, poll_s: float = POLL_S
) -> AsyncGenerator[None, None]:
    """Yield when something directly in these folders may have changed; the first time at once.

    Folders that do not exist yet, or are exchanged for others, are watched once they are there. After each time
    there is a pause of `pause_s` seconds, and at most `ages_s` go by without one.
    """
    why = ""
    while True:
        present, news = _present(folders), asyncio.Event()
        async with beside(_read(present, news), news) as reading:
            await asyncio.wait({reading}, timeout=0)  # it watches from now on
            while not reading.done() and present == _present(folders):
                news.clear()
                yield
                await asyncio.wait({reading}, timeout=pause_s)
                with suppress(TimeoutError):
                    async with asyncio.timeout(ages_s):
                        await news.wait()
        problem = None if reading.cancelled() else reading.exception()
        if isinstance(problem, OSError | RuntimeError):  # the second: what the library makes of other errors
            if not why:
                structlog.get_logger().warning(f"files are looked at every {poll_s:g} s", why=str(problem))
            yield
            await asyncio.sleep(poll_s)
        elif problem is not None:
            raise problem
        why = str(problem or "")


async def _read(folders: Collection[Path], news: asyncio.Event) -> None:
    """Set `news` at each change, until one of the folders is no longer the one that is watched."""
    async for found in awatch(
        *folders, watch_filter=None, debounce=TOGETHER_MS, step=TOGETHER_MS // 4, recursive=False
    ):
        news.set()
        if any(how is Change.deleted and Path(path) in folders for how, path in found):
            return


def _present(folders: Collection[Path]) -> frozenset[Path]:
    """Return the folders and those that they are in, or the nearest ones above them that exist."""
    wanted = {it for folder in folders for it in (folder, folder.parent)}
    return frozenset(next(it for it in (place, *place.parents) if it.is_dir()) for place in wanted)
