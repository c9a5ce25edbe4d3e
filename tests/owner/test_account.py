"""The accounts of a site's jobs: folded from lines, whatever is in them, and read as the files grow."""

import json
import time

import pytest
from hypothesis import given
from hypothesis import strategies as st

from convoy.owner.account import Accounts, Book, Day
from convoy.site import history
from convoy.site.history import Journal
from convoy.site.record import FILE, Tally

JOB = "a" * 32
NOON = time.mktime((2026, 3, 4, 12, 0, 0, 0, 0, -1))


def begun(job=JOB, at=NOON, **more):
    return {
        "at": at,
        "kind": "begun",
        "job": job,
        "name": "tumours",
        "submitter": "bo@b.org",
        "data": ["images"],
    } | more


def answer(question, job=JOB, at=NOON, **more):
    said = {"question": question, "round": 1, "digest": "e" * 64, "size": 100, "values": 2, "metrics": ["a", "b"]}
    return {"at": at, "kind": "answer", "job": job} | said | more


def ended(reason, job=JOB, at=NOON, **tally):
    return {"at": at, "kind": "ended", "job": job, "reason": reason, "tally": Tally(**tally).plain()}


def folded(*entries):
    made = Accounts()
    for entry in entries:
        made.add(entry)
    return made


def test_days_sum_what_left_and_what_is_written_twice_counts_once():
    made = folded(
        begun(),
        answer("1.0"),
        answer("1.0"),
        answer("2.0", at=NOON + 86400),
        ended("the job is over", live=5, log=70, files=1, files_size=9),
        ended("the job ended while this site was not connected", live=5, log=70),
    )
    assert made.days["2026-03-04"] == Day(answers=1, size=100, metrics=2, live=5, log=70, files=1, files_size=9)
    assert made.days["2026-03-05"] == Day(answers=1, size=100, metrics=2)
    assert made.jobs[JOB].end == "it completed"


def test_a_log_that_stayed_did_not_leave():
    made = folded(begun(), ended("the job is over", log=70, logs_leave=False))
    assert made.days["2026-03-04"].log == 0


@pytest.mark.parametrize(
    ("entries", "state", "end"),
    [
        ([], "unknown", "the record of its end is missing"),
        ([ended("aborted by ada@a.org")], "aborted", "aborted by ada@a.org"),
        ([ended("too few sites")], "ended", "too few sites"),
        ([{"at": NOON, "kind": "refused", "job": JOB, "reason": "disk full"}], "failed", "disk full"),
        (
            [{"at": NOON, "kind": "refused", "job": JOB, "reason": "no"}, answer("1.0"), ended("the job is over")],
            "completed",
            "it",
        ),
    ],
)
def test_how_a_job_ended_is_said_in_words(entries, state, end):
    account = folded(begun(), *entries).jobs[JOB]
    assert account.state == state
    assert account.end.startswith(end)


VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(),
    lambda it: st.lists(it, max_size=2) | st.dictionaries(st.text(), it, max_size=2),
    max_leaves=4,
)
KEYS = ("at", "name", "data", "tally", "reason", "question", "size", "metrics", "values", "round", "filters", "digest")
KINDS = (history.BEGUN, history.ENDED, history.ANSWER, history.STAYED, history.REFUSED, history.REJECTED, "other")


@given(st.lists(st.tuples(st.sampled_from(KINDS), st.dictionaries(st.sampled_from(KEYS), VALUES)), max_size=6))
def test_lines_that_say_nonsense_are_no_error(lines):
    made = folded(begun(), *({"job": JOB, "kind": kind} | rest for kind, rest in lines))
    assert made.jobs[JOB].state in ("unknown", "ended", "completed", "aborted", "failed")
    assert all(isinstance(it, Day) for it in made.days.values())


def test_the_book_reads_each_line_once_while_files_grow_and_are_exchanged(tmp_path):
    jobs = Journal(tmp_path / history.JOBS, max_bytes=4000)
    answers = Journal(tmp_path / history.ANSWERS, max_bytes=2000)
    book = Book(tmp_path)
    assert book.refresh().jobs == {}
    jobs.add(begun())
    for number in range(1, 40):
        answers.add(answer(f"{number}.0"))
        day = book.refresh().days["2026-03-04"]
        left = sum(
            1 for path in (answers.older, answers.path) if path.exists() for _ in history.entries(path.read_bytes())
        )
        assert day.answers == left <= number
    with answers.path.open("ab") as file:
        file.write(b'{"kind": "answer", "job"')
    assert book.refresh().days["2026-03-04"] == day
    assert [it.question for it in book.answers(JOB, 3)] == ["39.0", "38.0", "37.0"]
    Journal(answers.path, max_bytes=9000).add(answer("40.0"))  # the site's next process cuts the half line off
    assert book.answers(JOB, 1)[0].question == "40.0"
    assert book.refresh().days["2026-03-04"].answers == day.answers + 1


def test_a_running_job_has_the_tally_of_its_folder_until_it_ends(tmp_path):
    jobs, folder = Journal(tmp_path / history.JOBS), tmp_path / "jobs" / JOB
    folder.mkdir(parents=True)
    jobs.add(begun())
    book = Book(tmp_path)
    assert book.refresh().jobs[JOB].state == "unknown"
    (folder / FILE).write_text(json.dumps(Tally(answers=3).plain()))
    account = book.refresh().jobs[JOB]
    assert (account.state, account.tally.answers) == ("running", 3)
    jobs.add(ended("the job is over", answers=4))
    account = book.refresh().jobs[JOB]
    assert (account.state, account.tally.answers) == ("completed", 4)


def test_the_name_of_a_job_reaches_no_other_folder(tmp_path):
    (tmp_path / "secret").mkdir()
    (tmp_path / "secret" / FILE).write_text(json.dumps(Tally(answers=3).plain()))
    (tmp_path / "site").mkdir()
    Journal(tmp_path / "site" / history.JOBS).add(begun(job="../../secret"))
    assert Book(tmp_path / "site").refresh().jobs["../../secret"].state == "unknown"
