"""What a ledger says of jobs and rounds when somebody asks: in pages, each bounded in rows and in bytes."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Iterator
from contextlib import AbstractContextManager
from dataclasses import dataclass
from typing import Any, Final

import sqlalchemy as sa

from convoy.control.costs import Cost
from convoy.control.records import Job, Kept, Member, Round, SiteName, Spread
from convoy.control.transitions import ENDED
from convoy.store import tables

PAGE_BYTES: Final = 256 << 10  # of JSON in one page of rounds: some 10 rounds of 1,000 sites
STREAMED: Final = 16  # rows that are fetched at once
NAMES: Final = 500  # in one query: SQLite has room for 999 parameters
UNREAD: Final = ("spec", "traceback")  # columns of a job that a list does not show, up to 64 KiB each


@dataclass(frozen=True, slots=True)
class Listed:
    """A job as a list shows it: its record without `spec` and `traceback`, and its last committed round."""

    job: Job
    round: int  # -1: not even the initial model
    metrics: dict[str, float]  # of that round


@dataclass(frozen=True, slots=True)
class Which:
    """Which jobs are listed; each condition that is not empty has to hold."""

    begins: str = ""  # the name or the id begins so
    meant: str = ""  # the name is this, or the id begins so: ids come first, then jobs that have not ended
    before: tuple[float, str] | None = None  # submitted before this time, or then with a smaller id


@dataclass(frozen=True, slots=True)
class Past:
    """A committed round as a workflow knows it."""

    round: int
    metrics: dict[str, float]
    best: bool


@dataclass(frozen=True, slots=True)
class History:
    """The reading side of a ledger. Every method blocks, and raises `Unreachable`."""

    connected: Callable[[], AbstractContextManager[sa.Connection]]

    def job(self, job: str) -> Job | None:
        """Return a job's record."""
        with self.connected() as connection:
            row = connection.execute(sa.select(tables.JOBS).where(tables.JOBS.c.id == job)).mappings().first()
        return None if row is None else Job(**row)

    def owner(self, job: str) -> tuple[str, str] | None:
        """Return who submitted a job, and their organisation then."""
        jobs = tables.JOBS.c
        with self.connected() as connection:
            row = connection.execute(sa.select(jobs.submitter, jobs.org).where(jobs.id == job)).first()
        return None if row is None else (row[0], row[1])

    def known(self, jobs: Iterable[str]) -> set[str]:
        """Return those of these ids that are jobs."""
        asked, found, ids = list(jobs), set[str](), tables.JOBS.c.id
        with self.connected() as connection:
            for start in range(0, len(asked), NAMES):
                some = sa.select(ids).where(ids.in_(asked[start : start + NAMES]))
                found.update(connection.execute(some).scalars())
        return found

    def jobs(self, which: Which, limit: int) -> list[Listed]:
        """Return at most so many jobs, newest first."""
        with self.connected() as connection:
            return [_listed(row) for row in connection.execute(_which(which).limit(limit)).mappings()]

    def members(self, job: str) -> list[Member]:
        """Return the sites of a job, by name."""
        with self.connected() as connection:
            return members(connection, job)

    def round(self, job: str, number: int) -> Round | None:
        """Return one round."""
        with self.connected() as connection:
            return first_round(connection, job, tables.ROUNDS.c.round == number)

    def last_committed(self, job: str, *, below: int | None = None) -> Round | None:
        """Return the last committed round, or the last one below a number."""
        with self.connected() as connection:
            return last_round(connection, job, below=below)

    def rounds(
        self, job: str, *, after: int = -1, limit: int, newest: bool = False, spread: bool = True
    ) -> list[Round]:
        """Return the rounds after a number in their order, the first ones or the newest ones.

        They are at most `limit`, and no more than `PAGE_BYTES` hold, but one at least where there is one. How updates
        lie takes as long to read as all the rest: without `spread`, nothing is said of it.
        """
        rounds, found, size = tables.ROUNDS.c, list[Round](), 0
        order = rounds.round.desc() if newest else rounds.round
        asked = _raw_rounds().where(rounds.job == job, rounds.round > after).order_by(order).limit(limit)
        with self.connected() as connection:
            for row in connection.execution_options(yield_per=STREAMED).execute(asked).mappings():
                size += sum(len(row[name]) for name in _JSONS)
                if found and size > PAGE_BYTES:
                    break
                found.append(_round(row if spread else {**row, "spread": "{}"}))
        return found[::-1] if newest else found

    def more_rounds(self, job: str, after: int) -> bool:
        """Return whether there are rounds after a number."""
        rounds = tables.ROUNDS.c
        asked = sa.select(rounds.round).where(rounds.job == job, rounds.round > after).limit(1)
        with self.connected() as connection:
            return connection.execute(asked).first() is not None

    def every_round(self, job: str) -> Iterator[Round]:
        """Yield all rounds of a job in their order, read page by page."""
        after = -1
        while page := self.rounds(job, after=after, limit=NAMES):
            yield from page
            after = page[-1].round

    def spent(self, job: str) -> dict[SiteName, Cost]:
        """Return what all answers of each site of a job took."""
        with self.connected() as connection:
            return spent(connection, job)

    def costs(self, job: str, number: int) -> dict[SiteName, Cost]:
        """Return what the answers of each site to the questions of one round took."""
        tasks, asked, found = tables.TASKS.c, tables.QUESTIONS.c, dict[SiteName, Cost]()
        mine = sa.select(asked.id).where(asked.job == job)
        of_round = mine.where(asked.round == number, sa.cast(asked.outlives, sa.Integer) == 0)  # by the index of rounds
        folded_in_it = mine.where(asked.folded == number, asked.outlives.is_(True))
        ids = sa.union_all(of_round, folded_in_it)  # and not joined, which goes through all tasks of the job
        chosen = sa.select(tasks.site, tasks.answer).where(tasks.job == job, tasks.question.in_(ids), tasks.place > 0)
        with self.connected() as connection:
            for site, answer in connection.execute(chosen):
                if answer is not None:
                    cost = Cost.read(answer.get("cost"))
                    found[site] = found[site] + cost if site in found else cost
        return found

    def past(self, job: str, *, after: int, limit: int) -> list[Past]:
        """Return the committed rounds after a number without their sites, bounded as `rounds` are."""
        rounds, found, size = tables.ROUNDS.c, list[Past](), 0
        asked = sa.select(rounds.round, sa.cast(rounds.metrics, sa.Text), rounds.best)
        asked = asked.where(rounds.job == job, rounds.round > after, rounds.model != "").order_by(rounds.round)
        with self.connected() as connection:
            for number, metrics, best in connection.execution_options(yield_per=STREAMED).execute(asked.limit(limit)):
                size += len(metrics)
                if found and size > PAGE_BYTES:
                    break
                found.append(Past(number, json.loads(metrics), best))
        return found


def members(connection: sa.Connection, job: str) -> list[Member]:
    """Return the sites of a job, by name."""
    table = tables.MEMBERS
    asked = sa.select(table).where(table.c.job == job).order_by(table.c.site)
    return [Member(**row) for row in connection.execute(asked).mappings()]


def last_round(connection: sa.Connection, job: str, *, below: int | None = None) -> Round | None:
    """Return the last committed round, or the last one below a number."""
    rounds = tables.ROUNDS.c
    return first_round(connection, job, rounds.model != "", *([] if below is None else [rounds.round < below]))


def best_round(connection: sa.Connection, job: str) -> Round | None:
    """Return the last committed round that was called best."""
    return first_round(connection, job, tables.ROUNDS.c.best, tables.ROUNDS.c.model != "")


def first_round(connection: sa.Connection, job: str, *conditions: sa.ColumnElement[bool]) -> Round | None:
    """Return the newest round for which these conditions hold."""
    rounds = tables.ROUNDS.c
    asked = _raw_rounds().where(rounds.job == job, *conditions).order_by(rounds.round.desc()).limit(1)
    row = connection.execute(asked).mappings().first()
    return None if row is None else _round(row)


_JSONS: Final = ("metrics", "took_part", "left_out", "spread")


def _raw_rounds() -> sa.Select[Any]:
    """Select rounds with their JSON as text, whose length is known before it is parsed."""
    columns = tables.ROUNDS.c
    return sa.select(*(sa.cast(it, sa.Text).label(it.name) if it.name in _JSONS else it for it in columns))


def _round(row: Any) -> Round:
    parsed = {name: json.loads(row[name]) for name in _JSONS}
    took, out = (tuple(map(tuple, parsed[name])) for name in ("took_part", "left_out"))  # of a thousand sites, often
    spread = {site: Spread(*numbers) for site, numbers in parsed["spread"].items()}
    return Round(**{**row, "metrics": parsed["metrics"], "took_part": took, "left_out": out, "spread": spread})


def _which(which: Which) -> sa.Select[Any]:
    """Select jobs as a list shows them. The last round of each is one look into an index, however many there are."""
    jobs, rounds = tables.JOBS.c, tables.ROUNDS.c
    last = sa.select(rounds.round).where(rounds.job == jobs.id, rounds.model != "")
    metrics = sa.select(sa.cast(rounds.metrics, sa.Text)).where(rounds.job == jobs.id, rounds.model != "")
    asked = sa.select(
        *(sa.literal("").label(column.name) if column.name in UNREAD else column for column in jobs),
        last.order_by(rounds.round.desc()).limit(1).scalar_subquery().label("last"),
        metrics.order_by(rounds.round.desc()).limit(1).scalar_subquery().label("measured"),
    )
    if which.begins:
        asked = asked.where(_begins(jobs.name, which.begins) | _begins(jobs.id, which.begins))
    if which.before is not None:
        asked = asked.where(sa.tuple_(jobs.submitted_at, jobs.id) < sa.tuple_(*map(sa.literal, which.before)))
    newest = (jobs.submitted_at.desc(), jobs.id.desc())
    if which.meant:
        by_id = _begins(jobs.id, which.meant)
        asked = asked.where((jobs.name == which.meant) | by_id)
        return asked.order_by(sa.case((by_id, 0), else_=1), sa.case((jobs.state.in_(ENDED), 1), else_=0), *newest)
    return asked.order_by(*newest)


def _begins(column: sa.Column[Any], text: str) -> sa.ColumnElement[bool]:
    return sa.func.substr(column, 1, len(text)) == text  # as bytes: LIKE of SQLite does not tell a from A


def _listed(row: Any) -> Listed:
    record = {key: value for key, value in row.items() if key not in ("last", "measured")}
    last = -1 if row["last"] is None else row["last"]
    return Listed(Job(**record), last, json.loads(row["measured"] or "{}"))


def spent(connection: sa.Connection, job: str) -> dict[SiteName, Cost]:
    """Return what all answers of each site took: its newest answer has it, however many there are."""
    tasks, sites = tables.TASKS.c, tables.MEMBERS.c
    newest = sa.select(tasks.spent).where(tasks.job == job, tasks.site == sites.site, tasks.place > 0)
    newest = newest.order_by(tasks.place.desc()).limit(1)
    asked = sa.select(sites.site, newest.scalar_subquery()).where(sites.job == job)
    return {SiteName(site): Cost.read(cost) for site, cost in connection.execute(asked) if cost is not None}


def states(connection: sa.Connection, job: str, committed: int) -> dict[SiteName, Kept]:
    """Return each site's last answer with a state that counts, up to a committed round."""
    tasks, asked = tables.TASKS.c, tables.QUESTIONS.c
    counted_in = sa.case((asked.outlives, asked.folded), else_=asked.round)
    mine = (tasks.job == job) & tasks.stateful & (tasks.state == "received") & counted_in.between(1, committed)
    rank = sa.func.rank().over(partition_by=tasks.site, order_by=counted_in.desc())
    both = (asked.job == tasks.job) & (asked.id == tasks.question)
    columns = (tasks.site, tasks.question, tasks.answer, rank.label("rank"))
    newest = sa.select(*columns).join(tables.QUESTIONS, both).where(mine).subquery()
    chosen = sa.select(newest.c.site, newest.c.question, newest.c.answer).where(newest.c.rank == 1)
    ordered = sorted(connection.execute(chosen).all(), key=lambda row: [int(part) for part in row[1].split(".")])
    return {SiteName(site): Kept(question, answer["state_bytes"]) for site, question, answer in ordered}
