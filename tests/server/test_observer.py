"""What the server measures of its decisions: events in, phases and counts out, with instants that a test chooses."""

import pytest

from convoy.control import effects, events, lateness
from convoy.control.clock import Now
from convoy.control.omissions import KINDS
from convoy.node.phases import Phases
from convoy.server import observer
from convoy.server.observer import Observer
from tests.control.test_machine import A, B, C, Drive, J, asked, joined, submitted, updated


class Watched:
    """A machine of three sites, a job that runs, and the observer of its decisions."""

    def __init__(self):
        self.drive, self.phases = Drive(), []
        self.observer = Observer(self.drive.machine.state, Phases(self.phases.append))
        self(joined(A), joined(B), joined(C), submitted())
        self(*(events.MemberReady(J, site) for site in (A, B, C)))

    def __call__(self, *happened, at=0.0):
        for event in happened:
            found = self.drive(event, at=at)
            self.observer.decided(event, found, Now(at, 1e9 + at))

    def performed(self, number, at):
        self.observer.performed(effects.TellCommitted(J, number), Now(at, 1e9 + at))

    def commit(self, number, at):
        self(events.CommitAsked(J, number, f"m{number}", {}, False), at=at)

    def numbers(self):
        return {(one.name, *(value for _, value in one.labels)): one.value for one in self.observer.metrics()}


@pytest.fixture
def watched():
    return Watched()


def spans(watched):
    return [(one.name, one.site, one.began - 1e9, one.seconds) for one in watched.phases]


def test_a_round_has_its_phases_with_the_time_of_each(watched):
    watched.commit(0, 1.0)
    watched.performed(0, 2.0)
    watched(asked(), at=10.0)
    watched(updated(B, "b"), at=13.0)
    watched(updated(A, "a"), at=14.0)
    watched(updated(C, "c"), at=16.0)
    watched.commit(1, 20.0)
    watched.performed(1, 21.0)
    assert spans(watched) == [
        ("task", B, 10.0, 3.0),
        ("task", A, 10.0, 4.0),
        ("task", C, 10.0, 6.0),
        ("ask", "", 10.0, 6.0),
        ("fold", "", 16.0, 4.0),
        ("commit", "", 20.0, 1.0),
        ("round", "", 10.0, 11.0),
    ]
    assert {(one.job, one.round) for one in watched.phases} == {(J, 1)}
    numbers = watched.numbers()
    assert numbers["convoy_rounds_committed_total",] == 1
    assert numbers["convoy_answers_total",] == 3


def test_a_question_that_a_workflow_asks_before_its_commit_ends_the_work_on_the_last_one(watched):
    watched(asked(), at=10.0)
    watched(*(updated(site, site) for site in (A, B, C)), at=11.0)
    watched(asked("1.1"), at=15.0)
    assert ("fold", "", 11.0, 4.0) in spans(watched)


def test_time_at_which_a_question_waits_for_sites_is_part_of_it(watched):
    watched(events.SiteLeft(A), events.SiteLeft(B), at=5.0)
    watched(asked(at_least=3), at=10.0)
    watched(joined(A), joined(B), at=30.0)
    watched(*(events.MemberReady(J, site) for site in (A, B)), at=30.0)
    watched(*(updated(site, site) for site in (A, B, C)), at=32.0)
    assert ("ask", "", 10.0, 22.0) in spans(watched)


def omitted(watched):
    return {name: value for (counter, *name), value in watched.numbers().items() if counter.endswith("left_out_total")
            for name in name if value}  # fmt: skip


def test_every_kind_of_reason_is_there_from_the_start(watched):
    kinds = {kind for counter, *kinds in watched.numbers() for kind in kinds if counter.endswith("left_out_total")}
    assert kinds == set(KINDS)
    assert omitted(watched) == {}


def test_who_is_late_for_a_deadline_is_left_out_by_that_kind(watched):
    watched(asked(deadline_s=5.0), at=1.0)
    watched(updated(A, "a"), updated(B, "b"), at=2.0)
    watched(events.TimePassed(), at=7.0)
    assert omitted(watched) == {"deadline": 1}
    assert [one.error for one in watched.phases if one.site == C] == ["no answer within the round's deadline of 5 s"]


def test_who_is_late_after_the_quorum_is_left_out_by_that_kind(watched):
    watched(asked(quorum=2, grace_s=3.0), at=1.0)
    watched(updated(A, "a"), updated(B, "b"), at=2.0)
    watched(events.TimePassed(), at=6.0)
    assert omitted(watched) == {"quorum": 1}


def test_who_makes_no_progress_is_left_out_by_that_kind(watched):
    watched(asked(), at=1.0)
    watched(updated(A, "a"), updated(B, "b"), at=2.0)
    watched(events.TimePassed(), at=80.0)
    assert omitted(watched) == {"patience": 1}


def test_an_update_that_cannot_be_used_is_left_out_by_that_kind(watched):
    watched(asked(), events.Unusable(J, "1.0", A, f"no progress, {lateness.PATIENCE}"), at=1.0)
    assert omitted(watched) == {"unusable": 1}


def test_who_refused_the_job_is_left_out_by_that_kind_whatever_its_reason_says(watched):
    watched(asked(), at=1.0)
    watched(events.MemberRefused(J, C, f"our reason is {lateness.DEADLINE}"), at=2.0)
    watched(updated(A, "a"), updated(B, "b"), at=3.0)
    assert omitted(watched) == {"refused": 1}


def test_who_is_revoked_is_left_out_by_that_kind(watched):
    watched(asked(), events.SiteRevoked(C), at=1.0)
    assert omitted(watched) == {"removed": 1}


def test_an_answer_that_the_workflow_does_not_count_is_left_out_by_that_kind(watched):
    watched(asked(), *(updated(site, site) for site in (A, B, C)), at=1.0)
    watched(events.CommitAsked(J, 1, "m1", {}, False, {C: "too far away"}), at=2.0)
    assert omitted(watched) == {"uncounted": 1}


def test_it_forgets_what_is_over(watched):
    for number in range(1, 200):
        watched(asked(f"{number}.0", number), *(updated(site, site, f"{number}.0") for site in (A, B, C)), at=number)
        watched.commit(number, number)
        watched.performed(number, number)
    running = watched.observer.jobs[J]
    assert (running.rounds, running.questions, running.tasks, running.commits) == ({}, {}, {}, {})
    watched(events.AbortAsked(J, "ada"), at=300.0)
    watched(*(events.MemberStopped(J, site) for site in (A, B, C)), events.ResultsKept(J), events.Retired(J), at=301.0)
    assert watched.drive.machine.state.jobs == {}
    watched.numbers()
    assert watched.observer.jobs == {}


def test_a_workflow_that_dies_is_counted(watched):
    watched(events.FlowDied(J, "killed by SIGKILL"), at=1.0)
    assert watched.numbers()["convoy_workflow_deaths_total",] == 1


def test_what_never_ends_is_bounded_and_the_newest_is_still_measured(watched, monkeypatch):
    monkeypatch.setattr(observer, "MAX_BEGUN", 5)
    for number in range(1, 20):
        watched(asked(f"{number}.0", number), at=float(number))
        watched.commit(number, 50.0)
    running = watched.observer.jobs[J]
    assert [*running.rounds] == [15, 16, 17, 18, 19]
    assert max(map(len, (running.rounds, running.questions, running.tasks, running.commits))) == 5
    watched.phases.clear()
    watched.performed(19, 60.0)
    assert ("round", "", 19.0, 41.0) in spans(watched)
