"""The console's verbs as a table: what each takes, what it does, which command does the same."""

from __future__ import annotations

from collections.abc import Callable, Coroutine
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

from convoy.admin.client import Client
from convoy.cli import curves, track, verbs
from convoy.cli.output import Screen
from convoy.errors import BadInput
from convoy.spec.kit import Kit
from convoy.trackers.choice import Chosen


@dataclass(slots=True)
class Around:
    """What the console knows: whose kit it is, and the names that a person may mean."""

    kit: Kit
    jobs: list[str] = field(default_factory=list)
    sites: list[str] = field(default_factory=list)

    async def refresh(self, client: Client) -> None:
        """Learn the names of jobs and sites anew."""
        self.jobs = [word for job in await client.jobs(count=verbs.NEWEST) for word in (job.name, job.id[:8])]
        self.sites = [site.name for site in await client.sites()]

    def choices(self, kind: str) -> list[str]:
        """Return the words that fit a kind of argument."""
        match kind:
            case "job":
                return self.jobs
            case "site":
                return self.sites
            case "folder":
                return sorted(path.parent.name for path in self.kit.transfer.glob("*/job.yaml"))
            case _:
                return [*kind.split("|")] + (self.sites if kind == SIDE else [])


TRACKERS: Final = ("--tensorboard", "--mlflow", "--wandb")
SIDE: Final = "server|client|all"
Call = Callable[[Client, Screen, Around, list[str]], Coroutine[Any, Any, None]]


@dataclass(frozen=True, slots=True)
class Verb:
    """One verb; `kinds` says what its words are, the last for all that follow; `asks`: it wants a yes first."""

    name: str
    takes: str
    summary: str
    same: str
    call: Call
    kinds: tuple[str, ...] = ()
    least: int = 0
    most: int = 0
    asks: bool = False


async def _submit(client: Client, screen: Screen, around: Around, words: list[str]) -> None:
    inside = around.kit.transfer / words[0]
    await verbs.submit(client, screen, inside if inside.is_dir() else Path(words[0]))


async def _list(client: Client, screen: Screen, _around: Around, words: list[str]) -> None:
    count, name = verbs.NEWEST, ""
    rest = iter(words)
    for word in rest:
        if word == "-m":
            number = next(rest, "")
            if not number.isdecimal():
                raise BadInput(f"-m is {number!r}; wanted a number", fix="list_jobs -m 10")
            count = int(number)
        elif word == "-n":
            name = next(rest, "")
        elif not word.startswith("-"):
            name = word
    await verbs.jobs(client, screen, name=name, count=count)


async def _download(client: Client, screen: Screen, around: Around, words: list[str]) -> None:
    folder = around.kit.transfer / words[1] if len(words) > 1 else None
    await verbs.fetch(client, screen, words[0], folder, around.kit.transfer)


async def _log(client: Client, screen: Screen, _around: Around, words: list[str]) -> None:
    site = words[1] if len(words) > 1 and words[1] != "all" else ""
    await verbs.logs(client, screen, words[0], site=site)


async def _metrics(client: Client, screen: Screen, _around: Around, words: list[str]) -> None:
    site = words[1] if len(words) > 1 and words[1] != "all" else ""
    await curves.show(client, screen, curves.Asked(words[0], site))


async def _track(client: Client, screen: Screen, _around: Around, words: list[str]) -> None:
    job, *rest = words
    chosen = dict(zip(rest[::2], rest[1::2], strict=False))
    if len(rest) % 2 or len(chosen) * 2 < len(rest) or not chosen.keys() <= set(TRACKERS):
        raise BadInput(f"track_job does not take {' '.join(rest)!r}", fix=f"track_job {job} --mlflow URI")
    named = {word.removeprefix("--"): where for word, where in chosen.items()}
    await track.track(client, screen, job, Chosen(**named))


async def _look(client: Client, screen: Screen, _around: Around, words: list[str]) -> None:
    """Show the server, the sites, or both: what check_status, sys_info and report_resources have in common."""
    who = words[0] if words else "all"
    if who not in SIDE.split("|"):
        raise BadInput(
            f"{who!r} is neither `server` nor `client`", fix="check_status server, or check_status client NAME"
        )
    if who in ("server", "all"):
        await verbs.status(client, screen)
    if who in ("client", "all"):
        await verbs.sites(client, screen, *words[1:])


async def _status(client: Client, screen: Screen, around: Around, words: list[str]) -> None:
    await _look(client, screen, around, words)
    if words[:1] == ["server"]:
        screen.line()
        await verbs.sites(client, screen)
        screen.line()
        await verbs.jobs(client, screen, count=10)


async def _errors(client: Client, screen: Screen, _around: Around, _words: list[str]) -> None:
    await verbs.problems(client, screen)


def _leave(*, restart: bool) -> Call:
    async def call(client: Client, screen: Screen, around: Around, words: list[str]) -> None:
        who, *names = words
        if who == "client":
            names = names or around.sites
        elif who in ("server", "all"):
            names = [who]
        else:
            raise BadInput(f"{who!r} is not `server`, `client` or `all`", fix="shutdown client NAME")
        await verbs.leave(client, screen, names, restart=restart)

    return call


def _job(call: Callable[[Client, Screen, str], Coroutine[Any, Any, None]]) -> Call:
    async def one(client: Client, screen: Screen, _around: Around, words: list[str]) -> None:
        await call(client, screen, words[0])

    return one


async def _clone(client: Client, screen: Screen, _around: Around, words: list[str]) -> None:
    named = [word for word in words if word != "--yes"]
    if len(named) != 1:
        raise BadInput("clone_job takes exactly one job", fix="clone_job JOB, or clone_job JOB --yes")
    await verbs.clone(client, screen, named[0], yes=len(named) < len(words))


def _switch(*, enabled: bool) -> Call:
    async def call(client: Client, screen: Screen, _around: Around, words: list[str]) -> None:
        await verbs.enable(client, screen, words[0], enabled=enabled)

    return call


_MANY: Final = 1000
JOB: Final = ("job",)
_SIDES: Final = (SIDE, "site")
_ROWS: Final = (
    Verb("submit_job", "FOLDER", "Submit a job folder from transfer/", "convoy job submit", _submit, ("folder",), 1, 1),
    Verb("list_jobs", "[-n NAME] [-m COUNT]", "List the jobs, newest first", "convoy job list", _list, JOB, 0, 5),
    Verb("show_job", "JOB", "Show rounds, sites and failures", "convoy job show", _job(verbs.show), JOB, 1, 1),
    Verb("watch_job", "JOB", "Follow a job until it ends", "convoy job watch", _job(verbs.watch), JOB, 1, 1),
    Verb("abort_job", "JOB", "End a job", "convoy job abort", _job(verbs.abort), JOB, 1, 1, asks=True),
    Verb("delete_job", "JOB", "Delete an ended job", "convoy job delete", _job(verbs.delete), JOB, 1, 1, asks=True),
    Verb("clone_job", "JOB [--yes]", "Submit a job again", "convoy job clone", _clone, JOB, 1, 2),
    Verb("download_job", "JOB [FOLDER]", "Fetch its results", "convoy job fetch", _download, JOB, 1, 2),
    Verb("get_job_log", "JOB [SITE]", "Print a job's log", "convoy job logs", _log, ("job", "site"), 1, 2),
    Verb("metrics", "JOB [SITE]", "Show live metrics", "convoy job metrics", _metrics, ("job", "site"), 1, 2),
    Verb("track_job", "JOB --mlflow URI…", "Send a job to trackers", "convoy job track", _track, JOB, 3, 7),
    Verb("check_status", "server|client [NAME]…", "Show who is up", "convoy status", _status, _SIDES, 0, _MANY),
    Verb("sys_info", "server|client [NAME]…", "Show versions", "convoy status", _look, _SIDES, 0, _MANY),
    Verb("report_resources", "server|client [NAME]…", "Show resources", "convoy site list", _look, _SIDES, 0, _MANY),
    Verb("show_errors", "", "Show warnings and errors", "convoy problems", _errors, (), 0, _MANY),
    Verb("enable_client", "SITE", "Let a site take part", "convoy site enable", _switch(enabled=True), ("site",), 1, 1),
    Verb("disable_client", "SITE", "Keep a site out", "convoy site disable", _switch(enabled=False), ("site",), 1, 1),
    Verb(
        "restart",
        "server|client|all [NAME]…",
        "Drain and restart",
        "convoy restart",
        _leave(restart=True),
        _SIDES,
        1,
        _MANY,
        asks=True,
    ),
    Verb(
        "shutdown",
        "server|client|all [NAME]…",
        "Drain and stop",
        "convoy shutdown",
        _leave(restart=False),
        _SIDES,
        1,
        _MANY,
        asks=True,
    ),
)
VERBS: Final = {verb.name: verb for verb in _ROWS}


INSTEAD: Final = {  # verbs of NVIDIA FLARE, or of a shell, whose nearest one here has another name
    "get_job_meta": "show_job",
    "list_job": "show_job",
    **dict.fromkeys(("cat", "head", "tail", "grep"), "get_job_log"),
    **dict.fromkeys(("ls", "pwd"), "list_jobs"),
    **dict.fromkeys(("show_stats", "show_status"), "check_status"),
    **dict.fromkeys(("quit", "exit"), "bye"),
}
