"""A server's durable state in SQL: records in, records out, one transaction for whatever came together."""

from __future__ import annotations

import dataclasses
import os
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from importlib import resources
from pathlib import Path
from typing import Any, Final, cast

import sqlalchemy as sa
from sqlalchemy.dialects import sqlite

from convoy.control import json_values
from convoy.control.costs import Cost
from convoy.control.records import Job, JobId, Kept, Member, Question, Round, SiteName, Task
from convoy.control.transitions import OPEN
from convoy.errors import BadInput, ConvoyError, NotAllowed, StorageFull, Unreachable
from convoy.store import history, tables, trail
from convoy.trust import audit
from convoy.trust.enrolment import Invite

Record = Job | Member | Question | Task | Round

FULL: Final = frozenset({"SQLITE_FULL", "SQLITE_IOERR_SHMSIZE"})  # the second: no room for the log's index
LOCKED: Final = "SQLITE_BUSY"
LOG_BYTES: Final = 8 << 20  # SQLite goes back to the log's beginning after some 4 MB (1,000 pages)
AGAIN_S: Final = 600.0  # after the first use: whoever lost the answer may ask again with the same key
INVITE: Final = "ask the project's admin for a new one: convoy kit invite NAME"
HEAD: Final = "0005"  # the newest file in revisions/
TABLES: Final[Mapping[type, sa.Table]] = {
    Job: tables.JOBS,
    Member: tables.MEMBERS,
    Question: tables.QUESTIONS,
    Task: tables.TASKS,
    Round: tables.ROUNDS,
    audit.Record: tables.AUDIT,
    audit.Checkpoint: tables.CHECKPOINTS,
}


@dataclass(frozen=True, slots=True)
class Switched:
    """A site that was enabled or disabled; whoever was certified up to `revoked_at` (wall seconds), for nothing now."""

    name: str
    enabled: bool
    revoked_at: float = 0.0


@dataclass(frozen=True, slots=True)
class Withdrawn:
    """The invitations of somebody so far are no good any more, used ones included, but for one."""

    name: str
    but: str = ""  # its hash


@dataclass(frozen=True, slots=True)
class Dropped:
    """A job that is to be forgotten with all its records."""

    job: JobId


@dataclass(frozen=True, slots=True)
class Undone:
    """A round whose model the disk has lost: it is to be made again."""

    job: JobId
    round: int


@dataclass(frozen=True, slots=True)
class Contents:
    """All that a server must know at its start: the jobs that have not ended, and what is open of them.

    `rounds` are the last round and the last best one of each job, once where they are the same.
    """

    jobs: list[Job]
    members: list[Member]
    questions: list[Question]
    tasks: list[Task]
    rounds: list[Round]
    after: Mapping[tuple[JobId, SiteName], Kept]  # each site's last answer with a state that counts
    spent: Mapping[tuple[JobId, SiteName], Cost]  # what all answers of each site took
    switches: Mapping[str, Switched]
    audited: audit.Record | None = None  # the newest of the trail
    signed: audit.Checkpoint | None = None


Entry = Record | Switched | Invite | Withdrawn | Dropped | Undone | audit.Entry


class Ledger:
    """The store of one server. `write` and `load` block: call them from a thread of their own."""

    def __init__(self, engine: sa.Engine) -> None:
        """Take an engine whose schema is at `HEAD`; see `open_ledger`."""
        self._engine = engine
        self.history = history.History(self._connected)
        self._upserts = {kind: _upsert(engine, table) for kind, table in TABLES.items()}
        self._switch = _upsert(engine, tables.SITES)
        self._invite = _insert(engine, tables.INVITES).on_conflict_do_nothing()

    def write(self, records: Iterable[Entry]) -> None:
        """Make records durable in one transaction, in their order. Raises `StorageFull`, `Unreachable`: try again."""
        with _reached(self._engine), self._engine.begin() as connection:
            for record in records:
                self._one(connection, record)

    def _one(self, connection: sa.Connection, record: Entry) -> None:
        if isinstance(record, Dropped):
            for table in (tables.MEMBERS, tables.QUESTIONS, tables.TASKS, tables.ROUNDS):
                connection.execute(sa.delete(table).where(table.c.job == record.job))
            connection.execute(sa.delete(tables.JOBS).where(tables.JOBS.c.id == record.job))
        elif isinstance(record, Undone):
            rounds = tables.ROUNDS.c
            connection.execute(sa.delete(tables.ROUNDS).where(rounds.job == record.job, rounds.round == record.round))
        elif isinstance(record, Switched):
            connection.execute(self._switch, dataclasses.asdict(record))
        elif isinstance(record, Withdrawn):
            invites = tables.INVITES.c
            theirs = (invites.name == record.name) & (invites.hash != record.but)
            connection.execute(sa.update(tables.INVITES).where(theirs).values(expires_at=0.0))
        elif isinstance(record, Invite):
            connection.execute(self._invite, dataclasses.asdict(record) | {"used_at": 0.0, "used_by": ""})
        else:
            connection.execute(self._upserts[type(record)], _row(record))

    @contextmanager
    def _connected(self) -> Iterator[sa.Connection]:
        with _reached(self._engine), self._engine.connect() as connection:
            yield connection

    def load(self) -> Contents:
        """Return all that a server must know at its start; what is over is not read. Raises `Unreachable`."""
        with self._connected() as connection:
            open_jobs = sa.select(tables.JOBS).where(tables.JOBS.c.state.in_(sorted(OPEN)))
            rows = connection.execute(open_jobs.order_by(tables.JOBS.c.submitted_at)).mappings()
            jobs = [Job(**row) for row in rows]
            members = [member for job in jobs for member in history.members(connection, job.id)]
            questions, tasks, rounds = list[Question](), list[Task](), list[Round]()
            after: dict[tuple[JobId, SiteName], Kept] = {}
            spent: dict[tuple[JobId, SiteName], Cost] = {}
            for job in (job for job in jobs if job.state != "submitted"):
                last, best = history.last_round(connection, job.id), history.best_round(connection, job.id)
                rounds += {record.round: record for record in (best, last) if record is not None}.values()
                asked = _open_questions(connection, job.id, -1 if last is None else last.round)
                tasks += [task for question in asked for task in _tasks(connection, question)]
                questions += asked
                states = history.states(connection, job.id, -1 if last is None else last.round)
                after |= {(job.id, site): kept for site, kept in states.items()}
                spent |= {(job.id, site): cost for site, cost in history.spent(connection, job.id).items()}
            switches = {row["name"]: Switched(**row) for row in _rows(connection, tables.SITES, tables.SITES.c.name)}
            record, seal = _newest(connection, tables.AUDIT), _newest(connection, tables.CHECKPOINTS)
        audited = None if record is None else audit.Record(**record)
        signed = None if seal is None else audit.Checkpoint(**seal)
        return Contents(jobs, members, questions, tasks, rounds, after, spent, switches, audited, signed)

    def redeem(self, token_hash: str, *, key: str, now: float) -> tuple[Invite, float]:
        """Use an invitation for a public key, in one update; for the same key again within `AGAIN_S` of the first use.

        Return it and when it was used first, in wall seconds. Raises `NotAllowed` for one that is unknown, used,
        expired or withdrawn, and `StorageFull`, `Unreachable`: try again.
        """
        invites = tables.INVITES.c
        fresh = (invites.used_at == 0) | ((invites.used_by == key) & (invites.used_at > now - AGAIN_S))
        first = sa.case((invites.used_at == 0, now), else_=invites.used_at)
        update = sa.update(tables.INVITES).values(used_at=first, used_by=key)
        mine = invites.hash == token_hash
        with _reached(self._engine), self._engine.begin() as connection:
            done = connection.execute(update.where(mine & (invites.expires_at > now) & fresh))
            row = connection.execute(sa.select(tables.INVITES).where(mine)).mappings().first()
        if row is None:
            raise NotAllowed(
                "this join token is unknown", why="it is for another name, or another server's", fix=INVITE
            )
        if done.rowcount != 1:
            late = "it was used already" if row["used_at"] else "it has expired"
            why = late if row["expires_at"] else "it was withdrawn: a newer one was made, or none is to be"
            raise NotAllowed(f"this join token of {row['name']} is no good any more", why=why, fix=INVITE)
        return Invite(row["hash"], row["kind"], row["name"], row["expires_at"]), float(row["used_at"])

    def invites(self, now: float) -> list[tuple[Invite, float]]:
        """Return the invitations that have not expired by then, each with its first use (wall seconds, 0: none)."""
        asked = sa.select(tables.INVITES).where(tables.INVITES.c.expires_at > now).order_by(tables.INVITES.c.name)
        with self._connected() as connection:
            rows = connection.execute(asked).mappings().all()
        return [(Invite(it["hash"], it["kind"], it["name"], it["expires_at"]), float(it["used_at"])) for it in rows]

    def trail(self, since: int, count: int) -> list[audit.Entry]:
        """Return the audit trail as `trail.read` does. Raises `Unreachable`."""
        with self._connected() as connection:
            return trail.read(connection, since, count)

    def searched(self, wanted: audit.Search, before: int, count: int) -> tuple[list[audit.Record], int]:
        """Return records of the audit trail as `trail.search` does. Raises `Unreachable`."""
        with self._connected() as connection:
            return trail.search(connection, wanted, before, count)

    def close(self) -> None:
        """Close every connection."""
        self._engine.dispose()


def open_ledger(url: str) -> Ledger:
    """Open a ledger by SQLAlchemy URL, making or upgrading its tables.

    Raises `BadInput` for what is no such URL, a missing driver or a newer schema, and `Unreachable`.
    """
    try:
        engine = sa.create_engine(url)
    except (sa.exc.ArgumentError, ImportError) as problem:
        fix = "write a URL such as postgresql+psycopg://user@host/name, and install its driver"
        raise BadInput('"database" of node.yaml cannot be used', why=str(problem), fix=fix) from problem
    if engine.dialect.name == "sqlite":
        sa.event.listen(engine, "connect", _sqlite_settings)
    try:
        with _reached(engine), engine.begin() as connection:
            _bring_up(connection)
    except ConvoyError:
        engine.dispose()
        raise
    if engine.dialect.name == "sqlite" and engine.url.database:
        _grow_log(Path(f"{engine.url.database}-wal"))
    return Ledger(engine)


def _bring_up(connection: sa.Connection) -> None:
    found = _revision(connection)
    if found is None and not sa.inspect(connection).has_table("jobs"):
        tables.METADATA.create_all(connection)  # the revisions' sum; a test holds the two equal
        _stamp(connection)
    elif found != HEAD:
        upgrade(connection, found)


@contextmanager
def _reached(engine: sa.Engine) -> Iterator[None]:
    """Turn a full disk, a locked file and a database that has gone away into errors of ours."""
    try:
        yield
    except sa.exc.OperationalError as problem:
        why = str(problem.orig).strip()
        name = getattr(problem.orig, "sqlite_errorname", "")
        if "full" in why or "No space left" in why or name in FULL:
            raise StorageFull("the ledger's disk is full", why=why) from problem
        if name == LOCKED:
            fix = "end what has it open for writing, such as a tool for databases"
            raise Unreachable("the ledger is locked by another process", why=why, fix=fix) from problem
        if engine.dialect.name == "sqlite":
            raise
        raise Unreachable(
            "the ledger's database does not answer", why=why, fix="start it, or see node.yaml"
        ) from problem


def upgrade(connection: sa.Connection, found: str | None) -> None:
    """Bring an older schema to `HEAD`, revision by revision."""
    from alembic.runtime.environment import EnvironmentContext
    from alembic.script import ScriptDirectory

    with resources.as_file(resources.files("convoy.store") / "revisions") as folder:
        script = ScriptDirectory(str(folder), version_locations=[str(folder)])
        known = {revision.revision for revision in script.walk_revisions()}
        if found is not None and found not in known:
            raise BadInput(
                f"the ledger has schema {found!r}, which this Convoy does not know",
                why=f"it knows up to {HEAD!r}: a newer Convoy wrote it",
                fix="run the Convoy that wrote it, or restore the ledger from before the upgrade",
            )
        from alembic.config import Config

        with EnvironmentContext(Config(), script, fn=lambda rev, _: script._upgrade_revs(HEAD, rev)) as context:  # noqa: SLF001 - alembic's own commands call it so
            context.configure(connection=connection)
            context.run_migrations()


def sqlite_url(path: Path) -> str:
    """Return the URL of a SQLite ledger in a file."""
    return f"sqlite:///{path}"


def _sqlite_settings(connection: Any, _record: object) -> None:
    for pragma in ("journal_mode=WAL", "synchronous=FULL", "foreign_keys=ON"):
        connection.execute(f"PRAGMA {pragma}")


def _grow_log(log: Path) -> None:
    """Give SQLite's write-ahead log its full length at once; what is behind its last frame means nothing to it.

    A sync of a file that grows commits ext4's journal, and that waits until the data of every new file is on the disk:
    each receipt would wait for all the updates that came in since. One that overwrites waits for its own pages alone.
    """
    if log.exists():
        with log.open("r+b") as file:
            missing = LOG_BYTES - file.seek(0, os.SEEK_END)
            file.write(bytes(max(missing, 0)))
            file.flush()
            os.fsync(file.fileno())


def _revision(connection: sa.Connection) -> str | None:
    if not sa.inspect(connection).has_table("alembic_version"):
        return None
    return cast("str | None", connection.execute(sa.text("SELECT version_num FROM alembic_version")).scalar())


def _stamp(connection: sa.Connection) -> None:
    connection.execute(sa.text("CREATE TABLE alembic_version (version_num VARCHAR(32) NOT NULL PRIMARY KEY)"))
    connection.execute(sa.text("INSERT INTO alembic_version VALUES (:head)"), {"head": HEAD})


def _insert(engine: sa.Engine, table: sa.Table) -> Any:
    if engine.dialect.name == "postgresql":
        from sqlalchemy.dialects import postgresql  # most servers do without it

        return postgresql.insert(table)
    return sqlite.insert(table)


def _upsert(engine: sa.Engine, table: sa.Table) -> sa.Executable:
    statement = _insert(engine, table)
    keys = [column.name for column in table.primary_key]
    rest = {column.name: statement.excluded[column.name] for column in table.columns if column.name not in keys}
    return cast("sa.Executable", statement.on_conflict_do_update(index_elements=keys, set_=rest))


def _row(record: Record | audit.Entry) -> dict[str, object]:
    if isinstance(record, Question):
        key = {name: getattr(record, name) for name in ("job", "id", "round", "outlives", "folded")}
        return {**key, "question": json_values.of_question(record)}
    if isinstance(record, Task):
        answer = record.answer
        kept = record._asdict()
        kept["answer"] = None if answer is None else json_values.of_answer(answer)
        kept["spent"] = record.spent.plain() or None
        return {**kept, "stateful": answer is not None and answer.state_bytes > 0}
    row = {field.name: _plain(getattr(record, field.name)) for field in dataclasses.fields(record)}
    if isinstance(record, Round):
        row["spread"] = {site: [it.norm, it.cosine] for site, it in record.spread.items()}
    return row


def _plain(value: object) -> object:
    if isinstance(value, tuple):
        return [_plain(item) for item in value]
    return dict(value) if isinstance(value, Mapping) else value


def _rows(connection: sa.Connection, table: sa.Table, order: sa.Column[Any]) -> list[dict[str, Any]]:
    return [dict(row) for row in connection.execute(sa.select(table).order_by(order)).mappings()]


def _open_questions(connection: sa.Connection, job: str, committed: int) -> list[Question]:
    """Return the questions that may still be asked for.

    They are of before the first round, of after the last committed one, or outlive theirs and are not folded up to it.
    """
    table, found = tables.QUESTIONS, dict[str, Question]()
    column = table.c
    unfolded = column.outlives & ((column.folded == 0) | (column.folded > committed))
    for open_ in (column.round == 0, column.round > max(committed, 0), unfolded):  # with OR, SQLite would read them all
        rows = connection.execute(sa.select(table).where(column.job == job, open_)).mappings()
        found |= {row["id"]: json_values.question(row["question"]) for row in rows}
    return [found[id_] for id_ in sorted(found)]


def _tasks(connection: sa.Connection, question: Question) -> list[Task]:
    table = tables.TASKS
    theirs = (table.c.job == question.job) & (table.c.question == question.id)
    rows = connection.execute(sa.select(table).where(theirs).order_by(table.c.site)).mappings()
    return [_task(dict(row)) for row in rows]


def _task(row: Mapping[str, Any]) -> Task:
    answer = None if row["answer"] is None else json_values.answer(row["answer"])
    known = {name: row[name] for name in row if name != "stateful"}
    return Task(**known | {"answer": answer, "spent": Cost.read(row["spent"])})


def _newest(connection: sa.Connection, table: sa.Table) -> dict[str, Any] | None:
    row = connection.execute(sa.select(table).order_by(table.c.seq.desc()).limit(1)).mappings().first()
    return None if row is None else dict(row)
