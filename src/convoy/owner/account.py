"""What happened at a site, job by job and day by day, folded from the lines of its history; pure but for reading."""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Final

from convoy.site import history
from convoy.site.record import Tally, read_tally

NEWEST: Final = 500  # refusals, and answers that stayed, that are remembered; the files have more
OVER: Final = "the job is over"  # what the server says of the end of a completed job


@dataclass(frozen=True, slots=True)
class Note:
    """Something that was refused or that stayed here, and why."""

    at: float
    job: str
    name: str
    reason: str
    question: str = ""
    submitter: str = ""
    org: str = ""
    role: str = ""
    digest: str = ""


@dataclass(frozen=True, slots=True)
class Answered:
    """One answer that left; `size` is bytes, `digest` that of its arrays."""

    at: float
    question: str
    round: int
    asks: str
    digest: str
    size: int
    metrics: tuple[str, ...]
    values: int
    text: int
    state: int
    filters: tuple[str, ...]


@dataclass(slots=True)
class Account:
    """One job at this site."""

    job: str
    name: str = ""
    submitter: str = ""
    org: str = ""
    role: str = ""
    digest: str = ""
    workflow: str = ""
    trainer: str = ""
    data: tuple[str, ...] = ()
    withheld: tuple[str, ...] = ()
    began: float = 0.0
    ended: float = 0.0
    reason: str = ""  # how it ended, in the server's words
    failed: str = ""  # why this site gave it up
    newest: Answered | None = None
    tally: Tally = field(default_factory=Tally)
    here: bool = False  # its files are at the site now

    @property
    def state(self) -> str:
        """How the job is here, in one word."""
        if not self.ended:
            return "failed" if self.failed else "running" if self.here else "unknown"
        if self.failed:
            return "failed"
        return "completed" if self.reason == OVER else "aborted" if self.reason.startswith("aborted") else "ended"

    @property
    def end(self) -> str:
        """How it ended, in words."""
        if self.failed:
            return self.failed
        if not self.ended:
            return "" if self.here else "the record of its end is missing: the site was killed, or its disk was full"
        return "it completed" if self.reason == OVER else self.reason


@dataclass(frozen=True, slots=True)
class Day:
    """What left on one day of the local calendar: answers when they left, the rest when its job ended."""

    answers: int = 0
    size: int = 0
    metrics: int = 0
    live: int = 0
    log: int = 0
    files: int = 0
    files_size: int = 0
    stayed: int = 0  # answers that did not leave
    refused: int = 0  # jobs


@dataclass(slots=True)
class Accounts:
    """All jobs that the history still knows, oldest first."""

    jobs: dict[str, Account] = field(default_factory=dict)
    days: dict[str, Day] = field(default_factory=dict)
    refused: deque[Note] = field(default_factory=lambda: deque(maxlen=NEWEST))
    stayed: deque[Note] = field(default_factory=lambda: deque(maxlen=NEWEST))

    def add(self, entry: Mapping[str, Any]) -> None:
        """Fold one line of the history; of one that says something else than it should, only what fits counts."""
        at, job, kind = _number(entry, "at"), entry["job"], entry["kind"]
        match kind:
            case history.BEGUN:
                self._begin(at, job, entry)
            case history.ENDED if job in self.jobs and not self.jobs[job].ended:
                self._end(at, self.jobs[job], entry)
            case history.REFUSED:
                self._refuse(at, job, entry)
            case history.ANSWER:
                self._answer(job, answered(entry))
            case history.STAYED | history.REJECTED:
                said = _text(entry, "reason")
                said = f"the server did not take it: {said}" if kind == history.REJECTED else said
                self.stayed.append(Note(at, job, self._name(job), said, question=_text(entry, "question")))
                self._count(at, stayed=1)

    def _begin(self, at: float, job: str, entry: Mapping[str, Any]) -> None:
        account = self.jobs.pop(job, None) or Account(job)
        for name in ("name", "submitter", "org", "role", "digest", "workflow", "trainer"):
            setattr(account, name, _text(entry, name))
        account.data, account.withheld = _names(entry, "data"), _names(entry, "withheld")
        account.began, account.ended, account.failed = account.began or at, 0.0, ""
        self.jobs[job] = account

    def _end(self, at: float, account: Account, entry: Mapping[str, Any]) -> None:
        account.ended, account.reason = at, _text(entry, "reason")
        account.tally = tally = Tally.read(entry.get("tally"))
        log = tally.log if tally.logs_leave else 0
        self._count(at, live=tally.live, log=log, files=tally.files, files_size=tally.files_size)

    def _refuse(self, at: float, job: str, entry: Mapping[str, Any]) -> None:
        reason, about = (
            _text(entry, "reason"),
            {name: _text(entry, name) for name in ("submitter", "org", "role", "digest")},
        )
        name = _text(entry, "name") or self._name(job)
        self.refused.append(Note(at, job, name, reason, **about))
        self._count(at, refused=1)
        if job in self.jobs and not self.jobs[job].ended:
            self.jobs[job].failed = reason

    def _answer(self, job: str, answer: Answered) -> None:
        account = self.jobs.get(job)
        if account is not None:
            if account.newest is not None and account.newest.question == answer.question:
                return  # written twice, because of a kill in between
            account.newest, account.failed = answer, ""
        self._count(answer.at, answers=1, size=answer.size, metrics=answer.values)

    def _name(self, job: str) -> str:
        return self.jobs[job].name if job in self.jobs else ""

    def _count(self, at: float, **more: int) -> None:
        day = time.strftime("%Y-%m-%d", time.localtime(at))
        before = self.days.get(day, Day())
        self.days[day] = replace(before, **{name: getattr(before, name) + count for name, count in more.items()})


def answered(entry: Mapping[str, Any]) -> Answered:
    """Return the answer that a line of the history tells of."""
    return Answered(
        _number(entry, "at"),
        _text(entry, "question"),
        int(_number(entry, "round")),
        _text(entry, "asks"),
        _text(entry, "digest"),
        int(_number(entry, "size")),
        _names(entry, "metrics"),
        int(_number(entry, "values")),
        int(_number(entry, "text")),
        int(_number(entry, "state")),
        _names(entry, "filters"),
    )


def _number(entry: Mapping[str, Any], name: str) -> float:
    value = entry.get(name)
    return float(value) if type(value) in (int, float) and 0 <= value < 1e15 else 0.0  # type: ignore[arg-type,operator]


def _text(entry: Mapping[str, Any], name: str) -> str:
    value = entry.get(name)
    return value if isinstance(value, str) else ""


def _names(entry: Mapping[str, Any], name: str) -> tuple[str, ...]:
    value = entry.get(name)
    return tuple(it for it in value if isinstance(it, str)) if isinstance(value, list) else ()


@dataclass(slots=True)
class Book:
    """The history of one site, read as it grows; when a file is exchanged for a new one, all is read again."""

    workspace: Path
    accounts: Accounts = field(default_factory=Accounts)
    _read: dict[str, tuple[int, int]] = field(default_factory=dict)  # by file: its inode, bytes that were read
    _asked: tuple[object, list[Answered]] = (None, [])  # the newest call of `answers`, and what it found

    def refresh(self) -> Accounts:
        """Return the accounts as they are now."""
        if any(self._is_other(name) for name in (history.JOBS, history.ANSWERS)):
            self.accounts, self._read = Accounts(), {}
            for name in (history.JOBS, history.ANSWERS):
                self._fold(history.entries(_bytes(history.older(self.workspace / name))))
        for name in (history.JOBS, history.ANSWERS):
            self._fold(history.entries(self._news(name)))
        for job, account in self.accounts.jobs.items():
            if not account.ended:
                folder = self.workspace / "jobs" / Path(job).name
                tally = read_tally(folder)
                account.here = tally is not None
                account.tally = tally or account.tally
        return self.accounts

    def answers(self, job: str, most: int) -> list[Answered]:
        """Return the newest answers of a job, newest first; of one that was written twice, the last line."""
        paths = (history.older(self.workspace / history.ANSWERS), self.workspace / history.ANSWERS)
        asked = (job, most, *map(_stamp, paths))
        if self._asked[0] == asked:
            return self._asked[1]
        found: dict[str, Answered] = {}
        mark = job.encode()
        for path in paths:
            wanted = b"\n".join(line for line in _bytes(path).split(b"\n") if mark in line)
            for entry in history.entries(wanted):
                if entry["kind"] == history.ANSWER and entry["job"] == job:
                    answer = answered(entry)
                    found.pop(answer.question, None)
                    found[answer.question] = answer
        newest = list(reversed(found.values()))[:most]
        self._asked = asked, newest
        return newest

    def _fold(self, entries: Iterable[Mapping[str, Any]]) -> None:
        for entry in entries:
            self.accounts.add(entry)

    def _is_other(self, name: str) -> bool:
        inode, size = _stamp(self.workspace / name)
        before, read = self._read.get(name, (inode, 0))
        return not self._read or inode != before or size < read

    def _news(self, name: str) -> bytes:
        path = self.workspace / name
        inode, _ = _stamp(path)
        _, read = self._read.get(name, (inode, 0))
        data = _bytes(path, read)
        whole = data[: data.rfind(b"\n") + 1]
        self._read[name] = inode, read + len(whole)
        return whole


def _stamp(path: Path) -> tuple[int, int]:
    try:
        found = path.stat()
    except FileNotFoundError:
        return 0, 0
    return found.st_ino, found.st_size


def _bytes(path: Path, start: int = 0) -> bytes:
    try:
        with path.open("rb") as file:
            file.seek(start)
            return file.read(history.MAX_BYTES + history.MAX_LINE)
    except FileNotFoundError:
        return b""
