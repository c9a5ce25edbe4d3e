"""When the dashboard of a site's owner looks at its files: at changes, bounded in number, and now and then."""

import asyncio
import shutil
import threading
from contextlib import aclosing, asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path

from convoy.dashboard import changed
from convoy.dashboard.latest import Latest

NEVER_S = 1000.0  # longer than any test


@dataclass
class Looks:
    """The names of the files that each look saw."""

    folders: tuple[Path, ...]
    count: int = 0
    latest: Latest = field(default_factory=lambda: Latest(frozenset()))

    async def run(self, **times):
        async with aclosing(changed.changes(self.folders, **times)) as found:
            async for _ in found:
                self.count += 1
                seen = [path.name for folder in self.folders if folder.is_dir() for path in folder.iterdir()]
                await self.latest.tell(frozenset(seen))

    async def until(self, *names):
        """Wait for a look that saw exactly these files."""
        async with aclosing(self.latest.changes()) as found:
            async for seen in found:
                if seen == {*names}:
                    return


@asynccontextmanager
async def looking(*folders, pause_s=0.01, ages_s=NEVER_S, poll_s=NEVER_S):
    looks = Looks(folders)
    task = asyncio.create_task(looks.run(pause_s=pause_s, ages_s=ages_s, poll_s=poll_s))
    try:
        async with asyncio.timeout(30):
            yield looks
    finally:
        task.cancel()
        await asyncio.wait({task})


async def test_changes_are_looked_at_each_time(tmp_path):
    async with looking(tmp_path) as looks:
        for names in ("a", "ab", "abc"):
            (tmp_path / names[-1]).write_text("x")
            await looks.until(*names)
        (tmp_path / "c").unlink()
        await looks.until("a", "b")
        (tmp_path / "b").rename(tmp_path / "d")
        await looks.until("a", "d")


async def test_a_flood_of_changes_is_few_looks(tmp_path):
    (tmp_path / "jobs" / "job").mkdir(parents=True)
    async with looking(tmp_path, pause_s=NEVER_S) as looks:
        await looks.until("jobs")
        for number in range(2000):
            (tmp_path / str(number)).write_text("x")
            (tmp_path / "jobs" / "job" / str(number)).write_text("x")
        await asyncio.to_thread(lambda: None)
        assert looks.count == 1, "the pause is not over"


async def test_a_folder_that_comes_later_and_one_that_is_exchanged_are_watched(tmp_path):
    folder = tmp_path / "work" / "jobs"
    async with looking(folder) as looks:
        await looks.until()
        for _ in range(3):
            folder.mkdir(parents=True)
            (folder / "a").write_text("x")
            await looks.until("a")
            (folder / "b").write_text("x")
            await looks.until("a", "b")
            shutil.rmtree(tmp_path / "work")
            await looks.until()
        (tmp_path / "other" / "jobs").mkdir(parents=True)
        (tmp_path / "other").rename(tmp_path / "work")
        (folder / "c").write_text("x")
        await looks.until("c")


async def test_there_is_a_look_now_and_then_although_nothing_changes(tmp_path):
    async with looking(tmp_path, ages_s=0.01) as looks, aclosing(looks.latest.changes()) as found:
        for _ in range(3):
            await anext(found)


async def test_where_nothing_tells_of_changes_it_looks_every_so_often_and_says_so_once(tmp_path, monkeypatch, capsys):
    async def full(*_, **__):
        raise OSError(28, "inotify watch limit reached")
        yield

    monkeypatch.setattr(changed, "awatch", full)
    async with looking(tmp_path, poll_s=0.01) as looks:
        await looks.until()
        (tmp_path / "a").write_text("x")
        await looks.until("a")
    said = capsys.readouterr().out
    assert said.count("files are looked at every 0.01 s") == 1
    assert "inotify watch limit reached" in said


def test_no_thread_outlives_the_loop(tmp_path):
    async def once():
        async with looking(tmp_path) as looks:
            (tmp_path / "a").write_text("x")
            await looks.until("a")

    before = set(threading.enumerate())
    asyncio.run(once())
    for thread in set(threading.enumerate()) - before:
        thread.join(30)
        assert not thread.is_alive(), thread
