"""Where a running or an ending job is, whatever happens to it and in whichever order."""

import math

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from convoy.control import effects, events, questions
from convoy.control.records import Job
from convoy.control.state import Keeping, LiveJob, Stalled, Stopping, Waiting, Working
from tests.control.invariants import check
from tests.control.test_machine import A, B, C, Drive, J, asked, joined, kinds, needs, submitted, updated

HAPPENINGS = [
    *(events.MemberStopped(J, site) for site in (A, B, C)),
    *(events.SiteLeft(site) for site in (A, B, C)),
    *(joined(site) for site in (A, B, C)),
    *(events.FlowWaits(J, why) for why in ("its pod is new", "")),
    *(events.FlowDied(J, "no room", full=full) for full in (True, False)),
    *(events.StorageChanged(problem) for problem in ("full", "")),
    *(events.ResultsKept(J, problem) for problem in ("", "no answer")),
    events.FlowDone(J),
    events.FlowFailed(J, "ValueError: no", ""),
    events.AbortAsked(J, "ada"),
    events.Broken(J, "OSError: no", ""),
    events.SiteRevoked(C),
    events.TimePassed(),
    asked(),
    updated(A, "a"),
]


@pytest.fixture
def running() -> Drive:
    drive = Drive()
    drive(joined(A), joined(B), joined(C), submitted(), events.CommitAsked(J, 0, "m0", {}, False))
    return drive


@settings(max_examples=300, deadline=None)
@given(st.lists(st.tuples(st.sampled_from(HAPPENINGS), st.integers(0, 40)), max_size=25))
def test_a_job_ends_once_and_keeps_its_results_once_whatever_happens(happenings):
    drive, at = Drive(), 0.0
    drive(joined(A), joined(B), joined(C), submitted())
    for event, later in happenings:
        at += later
        drive(event, at=at)  # which checks the laws
        drive(events.TimePassed())
        assert drive.machine.wake() > at, "what was due is due again"
    assert kinds(drive.done).count("KeepResults") <= 1
    assert kinds(drive.done).count("Sweep") <= 1
    assert drive.job.over == ("Sweep" in kinds(drive.done))


def test_a_workflow_that_waits_works_once_it_waits_for_nothing_and_ends_as_any_other(running):
    running(events.FlowWaits(J, "its pod is new"))
    assert running.job.phase == Waiting("its pod is new")
    running(events.FlowWaits(J, ""))
    assert running.job.phase == Working()
    running(events.FlowWaits(J, "its pod is new"), events.AbortAsked(J, "ada"))
    assert isinstance(running.job.phase, Stopping)
    running(events.FlowWaits(J, "its pod is new"))
    assert questions.delayed(running.job) == ""


def test_a_workflow_that_waits_for_room_is_started_whatever_its_old_process_says_last(running):
    running(events.StorageChanged("full"), events.FlowDied(J, "no room", full=True))
    assert running(events.FlowWaits(J, "")) == []
    assert running.job.phase == Stalled()
    assert "RunFlow" in kinds(running(events.StorageChanged("")))
    assert running.job.phase == Working()


def test_an_abort_of_a_job_whose_results_are_on_their_way_wakes_nobody(running):
    running(events.FlowDone(J), *(events.MemberStopped(J, site) for site in (A, B)), events.SiteLeft(C))
    assert running.job.phase == Keeping()
    assert kinds(running(events.AbortAsked(J, "ada"))) == ["SendStop"]
    assert running.machine.wake() == math.inf
    running(events.ResultsKept(J))
    assert running.job.record.state == "completed"


@pytest.mark.parametrize(("state", "first"), [("submitted", []), ("running", ["RunFlow"]), ("ending", ["KeepResults"])])
def test_a_server_that_starts_goes_on_where_the_record_of_a_job_is(state, first):
    drive = Drive()
    record = Job(J, "n", "ada", "org", "b" * 64, 1, "{}", state, "", 1.0)
    drive.machine.state.jobs[J] = LiveJob(record, needs(""))
    check(drive.machine.state)
    assert "KeepResults" not in kinds(drive(events.Lost(J, "1.0", A)))  # found before anything goes on
    assert kinds(drive.machine.resume()) == first


def test_results_that_nobody_waits_for_end_nothing(running):
    assert running(events.ResultsKept(J)) == []
    running(events.FlowDone(J))
    assert running(events.ResultsKept(J)) == []
    found = running(*(events.MemberStopped(J, site) for site in (A, B, C)))
    assert isinstance(found[-1], effects.KeepResults)


def test_a_workflow_that_asks_while_its_job_ends_is_told_so_and_nobody_is_asked(running):
    running(events.AbortAsked(J, "ada"))
    assert running(asked()) == [effects.TellEnd(J, "1.0", "the job is ending: aborted by ada")]
    assert (running.job.questions, running.job.pending) == ({}, {})
