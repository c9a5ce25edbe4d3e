"""What a ledger reads: counted in rows and in SQLite's own instructions, it does not grow with what is over."""

from contextlib import closing
from dataclasses import replace

import pytest
import sqlalchemy as sa

from convoy.control.records import Answer, Job, Member, Question, Round, Task
from convoy.store.history import PAGE_BYTES, Past, Which
from convoy.store.ledger import open_ledger

J = "a" * 32
JOB = Job(J, "wide", "ada", "org", "d" * 64, 1, "{}", "running", "", 1.0)
SITES = tuple(f"site-{number}" for number in range(10))
BATCH = 100  # instructions between two counts


class Counted:
    """How much SQLite does and hands over for one connection after the other."""

    def __init__(self, ledger):
        self.rows = self.work = 0
        sa.event.listen(ledger._engine, "connect", self._connected)
        ledger._engine.dispose()  # whose connections are not counted

    def _connected(self, connection, _record):
        connection.set_progress_handler(self._worked, BATCH)
        connection.row_factory = self._row

    def _worked(self):
        self.work += BATCH
        return 0

    def _row(self, _cursor, row):
        self.rows += 1
        return row

    def __call__(self, what):
        """Return the rows and the instructions that something takes, once its connection is open."""
        what()
        self.rows = self.work = 0
        what()
        return self.rows, self.work


def history(rounds, ended, job=JOB):
    """A job with its rounds, questions and tasks, and others that have ended."""
    yield job
    yield from (Member(job.id, site, "ready") for site in SITES)
    for number in range(rounds + 1):
        metrics = {"loss": 1 / (1 + number)}
        best = number == rounds // 2
        yield Round(job.id, number, "ab" * 32, metrics, best, tuple((site, 1.0) for site in SITES), (), 1.0)
    for number in range(1, rounds + 2):
        question = Question(job.id, f"{number}.0", "train", number, rounds, "ab" * 32, cohort=SITES)
        yield question
        yield from (Task(job.id, question.id, site, "received", Answer(question.id, "ab" * 32)) for site in SITES)
    for number in range(ended):
        other = replace(job, id=f"{number:032x}", state="completed", submitted_at=2.0 + number)
        yield other
        yield from (Member(other.id, site, "ended") for site in SITES)
        yield Round(other.id, 3, "ab" * 32, {"loss": 0.5}, True, (), (), 1.0)


READS = {
    "a start": lambda ledger: ledger.load(),
    "a page of jobs": lambda ledger: ledger.history.jobs(Which(), 5),
    "the page after it": lambda ledger: ledger.history.jobs(Which(before=(4.0, "f" * 32)), 5),
    "a job": lambda ledger: ledger.history.job(J),
    "an owner": lambda ledger: ledger.history.owner(J),
    "the newest rounds": lambda ledger: ledger.history.rounds(J, limit=5, newest=True),
    "a page of rounds": lambda ledger: ledger.history.rounds(J, after=3, limit=5),
    "the rounds that a workflow knows": lambda ledger: ledger.history.past(J, after=3, limit=5),
    "a round": lambda ledger: ledger.history.round(J, 5),
    "what a round took": lambda ledger: ledger.history.costs(J, 5),
    "what all rounds took": lambda ledger: ledger.history.spent(J),
    "the last round": lambda ledger: ledger.history.last_committed(J),
    "one before it": lambda ledger: ledger.history.last_committed(J, below=9),
}


@pytest.fixture(scope="module")
def two(tmp_path_factory):
    """A short history and a long one."""
    folder = tmp_path_factory.mktemp("ledgers")
    with (
        closing(open_ledger(f"sqlite:///{folder}/short.sqlite")) as short,
        closing(open_ledger(f"sqlite:///{folder}/long.sqlite")) as long,
    ):
        short.write(history(12, 12))
        long.write(history(600, 300))
        yield short, long


@pytest.mark.parametrize("read", READS.values(), ids=READS.keys())
def test_what_is_read_does_not_grow_with_rounds_or_with_jobs_that_have_ended(two, read):
    (few, little), (rows, work) = (Counted(ledger)(lambda ledger=ledger: read(ledger)) for ledger in two)
    assert rows == few
    assert work <= little + 2 * BATCH, f"{little} instructions with 12 rounds, {work} with 600"


def test_a_start_knows_the_last_round_the_best_one_and_what_is_open(tmp_path):
    with closing(open_ledger(f"sqlite:///{tmp_path}/ledger.sqlite")) as ledger:
        ledger.write(history(40, 3))
        contents = ledger.load()
        assert [job.id for job in contents.jobs] == [J]
        assert [record.round for record in contents.rounds] == [20, 40]
        assert [question.id for question in contents.questions] == ["41.0"]
        assert {task.question for task in contents.tasks} == {"41.0"}
        assert {member.job for member in contents.members} == {J}


def test_a_page_of_rounds_is_bounded_in_bytes_and_the_pages_are_all_of_them(tmp_path):
    names = tuple((f"site-{number:04}", 1.0) for number in range(1_000))
    rounds = [Round(J, number, "ab" * 32, {}, False, names, (), 1.0) for number in range(60)]
    huge = replace(rounds[0], round=60, left_out=tuple((site, "x" * 1_000) for site, _ in names))
    with closing(open_ledger(f"sqlite:///{tmp_path}/ledger.sqlite")) as ledger:
        ledger.write([*rounds, huge, replace(huge, round=61, took_part=())])
        page = ledger.history.rounds(J, limit=500)
        assert 1 < len(page) <= PAGE_BYTES // 16_000
        assert list(ledger.history.every_round(J)) == [*rounds, huge, replace(huge, round=61, took_part=())]
        assert ledger.history.rounds(J, after=59, limit=500) == [huge]  # one at least
        assert [done.round for done in ledger.history.rounds(J, limit=500, newest=True)] == [61]


def test_a_workflow_knows_committed_rounds_alone_in_pages_that_are_bounded_in_bytes(tmp_path):
    metrics = {f"{number} {'m' * 1_000}": 0.5 for number in range(20)}
    rounds = [Round(J, number, "ab" * 32, metrics, number == 3, (), (), 1.0) for number in range(60)]
    with closing(open_ledger(f"sqlite:///{tmp_path}/ledger.sqlite")) as ledger:
        ledger.write([*rounds, replace(rounds[0], round=60, model="")])
        page = ledger.history.past(J, after=-1, limit=500)
        assert len(page) <= PAGE_BYTES // 20_000
        assert page[3] == Past(3, metrics, True)
        assert [done.round for done in ledger.history.past(J, after=55, limit=500)] == [56, 57, 58, 59]
        assert ledger.history.past(J, after=59, limit=500) == []
