"""The machine decides with plain values: no process, no clock, no disk."""

import math
from dataclasses import replace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from convoy.control import effects, events, questions
from convoy.control.clock import Now
from convoy.control.costs import NOTHING, Cost
from convoy.control.machine import Machine
from convoy.control.records import Answer, Job, JobId, Question, Round, SiteName, Task
from convoy.control.state import LiveSite, Needs, State
from convoy.control.transitions import move, receive
from convoy.errors import Bug
from tests.control.invariants import check

A, B, C, D, E = (SiteName(f"site-{number}") for number in range(1, 6))
J = JobId("j" * 32)


def needs(_spec: str) -> Needs:
    return Needs(min_sites=2, sites=frozenset(), cpu=1, memory=0, gpu=0, patience_s=60.0)


class Drive:
    """A machine with its three sites, and all it ever wanted done."""

    def __init__(self, max_jobs: int = 4) -> None:
        self.machine = Machine(State(max_jobs, {name: LiveSite(name) for name in (A, B, C)}), needs)
        self.done: list[effects.Effect] = []
        self.at = 0.0

    def __call__(self, *happened: events.Event, at: float | None = None) -> list[effects.Effect]:
        self.at = self.at if at is None else at
        found = []
        for event in happened:
            found += self.machine.step(event, Now(self.at, 1e9 + self.at))
            check(self.machine.state)
        self.done += found
        assert not [it.text for it in found if isinstance(it, effects.Note) and "a decision about this job" in it.text]
        return found

    @property
    def job(self):
        return self.machine.state.jobs[J]


def submitted(job: JobId = J) -> events.Submitted:
    return events.Submitted(Job(job, "n", "ada", "org", "b" * 64, 1, "{}", "submitted", "", 1.0))


def joined(site: SiteName, holds: frozenset[str] = frozenset(), cpu: float = 4) -> events.SiteJoined:
    return events.SiteJoined(site, events.Capacity(cpu, 1 << 30, 0), "0.1", holds)


def asked(question: str = "1.0", round_: int = 1, at_least: int = 2, **more) -> events.Asked:
    return events.Asked(Question(J, question, "train", round_, 3, "m0", at_least=at_least, **more))


def updated(site: SiteName, digest: str, question: str = "1.0", **more) -> events.Answered:
    return events.Answered(J, site, Answer(question, digest, **more))


def kinds(found: list[effects.Effect]) -> list[str]:
    return [type(effect).__name__ for effect in found]


@pytest.fixture
def running() -> Drive:
    drive = Drive()
    drive(joined(A), joined(B), joined(C), submitted(), events.CommitAsked(J, 0, "m0", {}, False))
    drive(*(events.MemberReady(J, site) for site in (A, B, C)))
    return drive


def test_a_job_waits_in_words_until_enough_sites_are_there_and_then_starts():
    drive = Drive()
    drive(submitted(), joined(A))
    assert "1 of the 2" in drive.job.record.cause
    found = drive(joined(B))
    assert kinds(found) == ["Save", "RunFlow", "Save", "SendStart", "Save", "SendStart"]
    assert drive.job.record.state == "running"


def test_shares_are_told_in_site_order_whatever_order_they_come_in(running):
    running(asked())
    found = running(updated(C, "c"), updated(A, "a"), updated(B, "b"))
    told = [effect.task.site for effect in found if isinstance(effect, effects.TellAnswer)]
    assert told == [A, B, C]
    assert isinstance(found[-1], effects.TellEnd)
    assert found[-1].error == ""


def test_a_receipt_follows_a_save_that_is_waited_for(running):
    running(asked())
    found = running(updated(A, "a"))
    assert isinstance(found[0], effects.Save)
    assert found[0].wait
    assert isinstance(found[1], effects.SendReceipt)


def test_a_resend_gets_the_same_receipt_and_another_body_is_refused(running):
    running(asked(), updated(A, "a"))
    assert kinds(running(updated(A, "a"))) == ["SendReceipt"]
    found = running(updated(A, "x"))
    assert kinds(found) == ["Conflict", "SendReject"]
    assert running.job.questions["1.0"].tasks[A].answer.digest == "a"


def test_a_restarted_workflow_gets_the_same_shares_from_the_first(running):
    running(asked(), updated(A, "a"), updated(B, "b"))
    running(events.FlowDied(J, "killed by SIGKILL"))
    found = running(asked())
    assert [effect.task.site for effect in found if isinstance(effect, effects.TellAnswer)] == [A, B]
    assert "SendTask" not in kinds(found)


def test_a_restarted_workflow_is_told_nothing_before_it_asks(running):
    running(asked(), updated(A, "a"), events.FlowDied(J, "killed by SIGKILL"))
    assert "TellAnswer" not in kinds(running(updated(B, "b")))
    found = running(asked(), updated(C, "c"))
    assert [effect.task.site for effect in found if isinstance(effect, effects.TellAnswer)] == [A, B, C]


def test_a_site_without_progress_for_the_patience_is_left_out_and_told_so(running):
    running(asked(), updated(A, "a"), updated(B, "b"))
    assert running.machine.wake() == 60.0
    running(events.Progressed(J, C), at=30.0)
    assert "TellEnd" not in kinds(running(events.TimePassed(), at=60.0))
    assert running.machine.wake() == 90.0
    found = running(events.TimePassed(), at=90.0)
    assert "SendCancel" in kinds(found)
    assert running.job.questions["1.0"].tasks[C].reason == "no progress for 60 s, the job's patience"
    running(events.CommitAsked(J, 1, "m1", {}, False))
    assert running.job.last.left_out == ((C, "train: no progress for 60 s, the job's patience"),)
    assert running.job.members[C].state == "away"


def test_an_answer_that_the_workflow_does_not_count_stands_in_the_round_with_its_reason(running):
    running(asked(), updated(A, "a"), updated(B, "b"), updated(C, "c"))
    why = {B: "train: too far away", "stranger": "train: was never asked"}
    running(events.CommitAsked(J, 1, "m1", {}, False, why))
    assert [site for site, _ in running.job.last.took_part] == [A, C]
    assert running.job.last.left_out == ((B, "train: too far away"),)


def test_a_site_that_was_away_takes_part_from_the_next_round_on(running):
    running(asked(), updated(A, "a"), updated(B, "b"))
    running(events.TimePassed(), at=60.0)
    running(events.CommitAsked(J, 1, "m1", {}, False), events.SiteLeft(C), joined(C))
    found = running(asked("2.0", 2))
    assert [effect.site for effect in found if isinstance(effect, effects.SendTask)] == [A, B, C]


def test_a_late_joiner_is_enlisted_and_asked_in_the_next_step():
    drive = Drive()
    drive(joined(A), joined(B), submitted(), events.CommitAsked(J, 0, "m0", {}, False), asked())
    found = drive(joined(C))
    assert any(isinstance(effect, effects.SendStart) and effect.site == C for effect in found)
    assert C not in drive.job.questions["1.0"].tasks
    drive(updated(A, "a"), updated(B, "b"), events.CommitAsked(J, 1, "m1", {}, False))
    drive(asked("2.0", 2))
    assert C in drive.job.questions["2.0"].record.cohort


def test_a_deadline_ends_the_round_with_those_who_answered(running):
    running(asked(deadline_s=5.0), updated(A, "a"), updated(C, "c"))
    found = running(events.TimePassed(), at=5.0)
    end = next(effect for effect in found if isinstance(effect, effects.TellEnd))
    assert end.error == ""
    assert "deadline of 5 s" in running.job.questions["1.0"].tasks[B].reason
    assert "SendReject" in kinds(running(updated(B, "b")))


def test_too_few_answers_end_a_step_at_once_with_who_and_why(running):
    running(asked())
    found = running(
        events.Unusable(J, "1.0", A, "ValueError: no", "Traceback A"), events.Unusable(J, "1.0", B, "broken")
    )
    end = next(effect for effect in found if isinstance(effect, effects.TellEnd))
    assert "site-1: ValueError: no" in end.error
    assert "site-2: broken" in end.error
    running(events.FlowFailed(J, end.error, "Traceback server"))
    assert "at site-1, task 1.0:\nTraceback A" in running.job.record.traceback


def test_a_site_that_fails_without_a_word_is_left_out_all_the_same(running):
    running(asked())
    running(*(events.Unusable(J, "1.0", site, "") for site in (A, B)))
    (end,) = [effect for effect in running.done if isinstance(effect, effects.TellEnd) and effect.error]
    assert "site-1 and site-2: it did not say why" in end.error


def test_a_workflow_that_keeps_dying_fails_the_job_and_a_commit_between_forgives(running):
    for _ in range(3):
        assert kinds(running(events.FlowDied(J, "exit code 1")))[-1] == "RunFlow"
    running(events.CommitAsked(J, 1, "m1", {}, False))
    for _ in range(3):
        running(events.FlowDied(J, "exit code 1"))
    running(events.FlowDied(J, "exit code 1"))
    assert running.job.record.state == "ending"
    assert running.job.record.outcome == "failed"
    assert "died 4 times" in running.job.record.cause


def test_an_ended_job_waits_for_connected_sites_and_not_for_those_that_are_gone(running):
    running(events.FlowDone(J), events.MemberStopped(J, A), events.MemberStopped(J, B))
    assert running.job.record.state == "ending"
    running(events.SiteLeft(C), events.ResultsKept(J))
    assert running.job.record.state == "completed"
    assert math.isinf(running.machine.wake())


def test_a_lost_update_is_asked_for_again_under_the_same_digest(running):
    running(asked(), updated(A, "a"))
    assert any(isinstance(e, effects.SendTask) and e.site == A for e in running(events.Lost(J, "1.0", A)))
    assert kinds(running(updated(A, "x"))) == ["Conflict", "SendReject"]
    assert "SendReceipt" in kinds(running(updated(A, "a")))


def test_a_task_whose_model_the_disk_has_lost_is_sent_once_the_workflow_has_made_it_again(running):
    running(asked(), updated(A, "a"), events.FlowDied(J, "killed by SIGKILL"))
    assert running(events.Unsent(J, "1.0", A), events.Unsent(J, "1.0", B), events.Unsent(J, "9.0", B)) == []
    assert [effect.site for effect in running(asked()) if isinstance(effect, effects.SendTask)] == [B]
    running(events.FlowDied(J, "killed by SIGKILL"))
    assert "SendTask" not in kinds(running(asked()))


def test_a_site_does_not_pay_for_the_time_in_which_its_model_is_made_again(running):
    running(asked(deadline_s=50), updated(A, "a"), events.FlowDied(J, "killed by SIGKILL"))
    running(events.Unsent(J, "1.0", B), events.Unsent(J, "1.0", C))
    assert math.isinf(running.machine.wake())
    assert running(events.TimePassed(), at=1000.0) == []
    assert kinds(running(asked(deadline_s=50), at=2000.0)).count("SendTask") == 2
    assert running(events.TimePassed(), at=2049.0) == []
    running(events.TimePassed(), at=2050.0)
    assert "deadline of 50 s" in running.job.questions["1.0"].tasks[B].reason


def test_a_site_that_cannot_be_asked_any_more_is_not_blamed_for_it(running):
    running(asked(), updated(A, "a"), updated(B, "b"))
    assert "TellEnd" in kinds(running(events.Unsent(J, "1.0", C)))
    assert running.job.questions["1.0"].tasks[C].reason == "the server's disk has lost the model that it is about"


def test_jobs_beyond_the_limit_wait_and_start_when_one_ends():
    drive = Drive(max_jobs=1)
    second = JobId("k" * 32)
    drive(joined(A), joined(B), submitted(), submitted(second))
    assert "max_jobs: 1" in drive.machine.state.jobs[second].record.cause
    drive(events.AbortAsked(J, "ada"), events.MemberStopped(J, A), events.MemberStopped(J, B), events.ResultsKept(J))
    assert drive.job.record.state == "aborted"
    assert drive.machine.state.jobs[second].record.state == "running"


def test_resources_that_other_jobs_hold_are_not_given_twice():
    drive = Drive()
    second = JobId("k" * 32)
    drive(joined(A, cpu=1), joined(B, cpu=1), submitted(), submitted(second))
    assert "free cores" in drive.machine.state.jobs[second].record.cause


def test_sampling_draws_the_same_cohort_for_the_same_step():
    cohorts = set()
    for _ in range(3):
        drive = Drive()
        drive(joined(A), joined(B), joined(C), submitted())
        drive(asked(sample=2))
        cohorts.add(drive.job.questions["1.0"].record.cohort)
    assert len(cohorts) == 1
    assert len(cohorts.pop()) == 2


def test_a_full_disk_keeps_new_jobs_waiting_until_there_is_room():
    drive = Drive()
    drive(events.StorageChanged("the disk is full"), joined(A), joined(B), submitted())
    assert drive.job.record.cause == "waiting: the disk is full"
    drive(events.StorageChanged(""))
    assert drive.job.record.state == "running"


def test_a_job_that_completes_keeps_the_traceback_of_a_site_that_failed_in_a_round(running):
    running(asked(), events.Unusable(J, "1.0", A, "ValueError: x", "Traceback A"), updated(B, "b"), updated(C, "c"))
    found = running(events.CommitAsked(J, 1, "m1", {}, False), events.FlowDone(J))
    assert running.job.record.traceback == "at site-1, task 1.0:\nTraceback A"
    assert [it.record.model for it in found if isinstance(it, effects.Save) and isinstance(it.record, Round)] == ["m1"]


def test_the_round_that_a_job_fails_in_says_who_had_answered_and_who_had_not(running):
    running(asked(at_least=3), updated(A, "a"), events.Unusable(J, "1.0", B, "ValueError: x"))
    found = running(events.FlowFailed(J, "NotEnough: 1 of the 3", ""))
    (kept,) = [it.record for it in found if isinstance(it, effects.Save) and isinstance(it.record, Round)]
    assert (kept.round, kept.model, kept.took_part) == (1, "", ((A, 1.0),))
    assert kept.left_out == ((B, "train: ValueError: x"), (C, "train: had not answered"))
    assert effects.Save(kept, wait=False) in found
    assert running.job.committed == 0


def test_a_move_that_no_table_lists_raises_with_the_story():
    with pytest.raises(Bug, match="from 'left_out' to 'received'"):
        move(Task(J, "1.0", A, "left_out", reason="late"), "received")
    with pytest.raises(Bug, match="from 'left_out' to 'received'"):
        receive(Task(J, "1.0", A, "left_out", reason="late"), Answer("1.0"), 1, NOTHING)


def test_a_task_with_an_answer_is_what_the_same_move_makes_of_it():
    task = Task._make(f"the {name}" for name in Task._fields)._replace(state="open")  # whatever fields there will be
    answer, spent = Answer("1.0", "d"), Cost(answers=2)
    assert receive(task, answer, 3, spent) == move(task, "received", answer=answer, place=3, spent=spent)


@settings(max_examples=200, deadline=None)
@given(st.permutations([A, B, C]), st.lists(st.sampled_from(["died", "left", "resend"]), max_size=6), st.randoms())
def test_the_workflow_sees_the_same_shares_under_any_order_and_any_trouble(order, troubles, random):
    drive = Drive()
    drive(joined(A), joined(B), joined(C), submitted(), events.CommitAsked(J, 0, "m0", {}, False), asked())
    plan: list[object] = list(order)
    for trouble in troubles:
        plan.insert(random.randrange(len(plan) + 1), trouble)
    for item in plan:
        match item:
            case "died" if drive.job.record.deaths < 3:
                drive(events.FlowDied(J, "SIGKILL"), asked())
            case "left":
                drive(events.SiteLeft(A), joined(A, frozenset({J})))
            case "resend":
                drive(updated(order[0], f"d{order[0]}"))
            case str() if item in (A, B, C):
                drive(updated(SiteName(item), f"d{item}"))
    last = next(i for i in reversed(range(len(drive.done))) if isinstance(drive.done[i], effects.TellEnd))
    told = [e.task for e in drive.done[:last] if isinstance(e, effects.TellAnswer)][-3:]
    assert [(task.site, task.answer.digest) for task in told] == [(A, f"d{A}"), (B, f"d{B}"), (C, f"d{C}")]


def test_a_site_that_fails_a_task_which_nobody_knows_is_told_to_forget_it(running):
    found = running(events.Unusable(J, "1.0", A, "boom"))
    assert kinds(found) == ["SendReject"]
    running(asked())
    assert running(updated(A, "d1"))[0].record.state == "received"


def test_a_member_is_durable_before_its_site_is_told_to_start():
    drive = Drive()
    drive(joined(A), joined(B), submitted())
    save, start = drive(joined(C))
    assert (type(start), save.record.site, save.wait) == (effects.SendStart, C, True)


def test_a_running_job_takes_in_a_site_once_that_has_room():
    drive = Drive()
    drive(joined(A, cpu=2), joined(B, cpu=2), joined(C, cpu=1), submitted(), submitted(JobId("k" * 32)))
    second = drive.machine.state.jobs[JobId("k" * 32)]
    assert sorted(second.members) == [A, B]
    drive(events.FlowDone(J), *(events.MemberStopped(J, site) for site in (A, B, C)), events.ResultsKept(J))
    assert sorted(second.members) == [A, B, C]


def test_a_waiting_job_starts_when_sites_refuse_the_one_that_held_them():
    drive = Drive()
    drive(joined(A, cpu=1), joined(B, cpu=1), submitted(), submitted(JobId("k" * 32)))
    assert drive.machine.state.jobs[JobId("k" * 32)].record.state == "submitted"
    drive(events.MemberRefused(J, A, "no"), events.MemberRefused(J, B, "no"))
    assert drive.machine.state.jobs[JobId("k" * 32)].record.state == "running"


def test_patience_and_deadlines_stand_still_while_the_disk_is_full(running):
    running(asked(deadline_s=90.0), at=100.0)
    running(events.StorageChanged("full"), at=110.0)
    assert running.machine.wake() == math.inf
    assert running(events.TimePassed(), at=1000.0) == []
    assert "TakeUp" in kinds(running(events.StorageChanged(""), at=1010.0))
    assert running.machine.wake() == 1060.0  # 10 of the 60 seconds were over when it filled
    assert running(events.TimePassed(), at=1059.0) == []


def test_a_workflow_without_room_waits_for_it_and_does_not_count_as_dead(running):
    running(asked(), events.StorageChanged("full"))
    for _ in range(5):
        assert kinds(running(events.FlowDied(J, "no room", full=True))) == ["Note"]
    assert running.job.record.deaths == 0
    assert kinds(running(events.StorageChanged("")))[:2] == ["Note", "RunFlow"]
    assert "RunFlow" not in kinds(running(events.StorageChanged("full"), events.StorageChanged("")))


def test_what_comes_after_the_trainers_loops_is_not_waited_for_once_somebody_aborts(running):
    stops = [it for it in running(events.FlowDone(J), at=10.0) if isinstance(it, effects.SendStop)]
    assert {stop.finish_s for stop in stops} == {60.0}
    again = [it for it in running(events.AbortAsked(J, "ada"), at=20.0) if isinstance(it, effects.SendStop)]
    assert {stop.finish_s for stop in again} == {0.0}
    assert "KeepResults" in kinds(running(events.TimePassed(), at=28.0))
    running(events.ResultsKept(J), at=29.0)
    assert running.job.record.state == "completed"


def test_a_job_whose_results_take_long_wakes_nobody_until_they_are_kept(running):
    running(events.FlowDone(J), at=10.0)
    assert running(events.TimePassed(), at=18.0) == []  # what comes after a trainer's loop has the job's patience, 60 s
    assert "KeepResults" in kinds(running(events.TimePassed(), at=78.0))  # sites that do not stop have had their time
    assert running.machine.wake() == math.inf
    running(events.ResultsKept(J), at=500.0)
    assert running.job.record.state == "completed"


def test_results_are_kept_when_every_connected_site_has_said_its_last_word(running):
    assert "KeepResults" not in kinds(running(events.FlowDone(J), events.MemberStopped(J, A), events.SiteLeft(B)))
    assert "KeepResults" in kinds(running(events.MemberStopped(J, C)))
    assert kinds(running(events.TimePassed(), events.MemberStopped(J, C))) == []


def test_a_job_whose_results_cannot_be_kept_has_failed_and_its_models_stay(running):
    running(events.FlowDone(J))
    found = running(*(events.MemberStopped(J, site) for site in (A, B, C)), events.ResultsKept(J, "no answer"))
    assert (running.job.record.state, running.job.record.cause) == ("failed", "no answer")
    assert effects.Sweep(J, models=False) in found


def test_a_job_that_waits_for_sites_in_vain_names_those_that_refused():
    drive = Drive()
    drive(joined(A), joined(B), submitted(), events.CommitAsked(J, 0, "m0", {}, False))
    drive(events.MemberRefused(J, A, "no such data"), asked())
    drive(events.TimePassed(), at=61.0)
    assert drive.job.record.cause.endswith("the job's patience (site-1: refused the job: no such data)")


def test_a_question_to_sites_that_are_not_there_says_which_those_are():
    drive = Drive()
    drive(joined(A), joined(B), joined(C, cpu=0.5), submitted(), events.CommitAsked(J, 0, "m0", {}, False))
    drive(asked(sites=(A, C)))
    drive(events.TimePassed(), at=61.0)
    told = "1 of the 2 sites that 'train' needs were there for 60 s, the job's patience"
    assert drive.job.record.cause == f"{told} (site-3: takes no part in this job)"


def test_a_question_to_a_site_of_no_federation_is_answered_at_once_whatever_it_needs():
    drive = Drive()
    drive(joined(A), joined(B), submitted(), events.CommitAsked(J, 0, "m0", {}, False))
    known = "in this federation are site-1, site-2, site-3"
    told = f"'train' asks site-9; {known}"
    assert drive(asked(sites=(A, "site-9"), at_least=1))[-1] == effects.TellEnd(J, "1.0", told)
    many = tuple(f"s{number:02}" for number in range(12))
    told = f"'train' asks s00, s01, s02, s03, s04, s05, s06, s07, s08, s09 and 2 more; {known}"
    assert drive(asked(sites=many, at_least=1))[-1] == effects.TellEnd(J, "1.0", told)
    assert drive.job.pending == {}


def test_a_question_that_no_wait_will_answer_is_answered_at_once():
    drive = Drive()
    drive(joined(A), joined(B), submitted(), events.CommitAsked(J, 0, "m0", {}, False))
    drive.job.needs = replace(drive.job.needs, sites=frozenset((A, B, C)))
    told = "'train' asks site-9; in this job are site-1, site-2, site-3"
    assert drive(asked(sites=(A, "site-9")))[-1] == effects.TellEnd(J, "1.0", told)
    told = "'train' needs answers of 4 sites and can ask 3"
    assert drive(asked(at_least=4))[-1] == effects.TellEnd(J, "1.0", told)
    told = "'train' needs answers of 2 sites and can ask 1"
    assert drive(asked(sites=(A,)))[-1] == effects.TellEnd(J, "1.0", told)
    assert drive(asked(sample=1))[-1] == effects.TellEnd(J, "1.0", told)
    told = "'train' goes on at a quorum of 3 sites and can ask 2"
    assert drive(asked(sites=(A, B), quorum=3))[-1] == effects.TellEnd(J, "1.0", told)
    assert drive.job.pending == {}
    assert drive.job.record.state == "running"


def test_a_question_that_waits_goes_on_waiting_beside_one_that_is_answered_at_once():
    drive = Drive()
    drive(joined(A), joined(B), submitted(), events.CommitAsked(J, 0, "m0", {}, False))
    drive(asked(at_least=3), asked(question="1.1", sample=1))
    assert "SendTask" in kinds(drive(joined(C), events.MemberReady(J, C)))


def test_a_question_to_more_sites_than_there_are_waits_for_one_to_join_the_federation():
    drive = Drive()
    drive(joined(A), joined(B), joined(C), submitted(), events.CommitAsked(J, 0, "m0", {}, False))
    assert "TellEnd" not in kinds(drive(asked(at_least=4)))
    drive(events.SitesListed(frozenset((A, B, C, D))))
    found = drive(joined(D), events.MemberReady(J, D))
    assert [effect.site for effect in found if isinstance(effect, effects.SendTask)] == [A, B, C, D]


def test_a_round_names_the_sites_that_never_came_and_those_that_were_kept_out():
    drive = Drive()
    drive.machine.state.sites[D] = LiveSite(D, enabled=False)
    drive.machine.state.sites[E] = LiveSite(E, listed=False)
    drive(joined(A), joined(B), submitted(), events.CommitAsked(J, 0, "m0", {}, False), asked())
    drive(updated(A, "a"), updated(B, "b"), events.CommitAsked(J, 1, "m1", {}, False))
    assert drive.job.last.left_out == ((C, "not connected"), (D, "disabled by an admin"))


def test_a_site_that_has_left_the_federation_takes_no_part_whoever_enables_it():
    drive = Drive()
    drive.machine.state.sites[C] = LiveSite(C, listed=False)
    drive(events.SiteSwitched(C, True), joined(A), joined(B), joined(C), submitted())
    assert sorted(drive.job.members) == [A, B]


def starting() -> Drive:
    drive = Drive()
    drive(joined(A), joined(B), joined(C), submitted(), events.CommitAsked(J, 0, "m0", {}, False))
    drive(events.MemberReady(J, A))
    return drive


def test_a_refusal_costs_a_round_nothing_while_enough_others_answer():
    drive = starting()
    drive(asked(), events.MemberReady(J, B), events.MemberRefused(J, C, "no"))
    assert drive.job.waiting_for == [A, B, C]  # it may still change its mind
    found = drive(updated(A, "a"), updated(B, "b"))
    assert [effect.task.reason for effect in found if isinstance(effect, effects.TellAnswer)] == [
        "",
        "",
        "refused the job: no",
    ]
    assert isinstance(found[-1], effects.TellEnd)
    assert found[-1].error == ""


def test_a_job_that_too_few_sites_take_waits_for_its_patience_and_then_says_who_refused():
    drive = starting()
    drive(asked(), events.MemberRefused(J, B, "rule 1"), events.MemberRefused(J, C, "rule 2"))
    assert "TellEnd" not in kinds(drive(updated(A, "a"), at=59.0))
    found = drive(events.TimePassed(), at=61.0)
    (end,) = [effect for effect in found if isinstance(effect, effects.TellEnd) and effect.error]
    assert "1 of the 3 sites answered in round 1; 'train' needs 2" in end.error
    assert "site-2: refused the job: rule 1; so for 60 s, the job's patience" in end.error


def test_a_job_that_waits_for_nobody_but_those_who_refused_says_so_and_why():
    drive = starting()
    drive(asked(), events.MemberRefused(J, B, "rule 1"), events.MemberRefused(J, C, "rule 2"))
    assert questions.stuck(drive.job) == ""  # site-1 still trains
    drive(updated(A, "a"))
    assert questions.stuck(drive.job) == "site-2 refused the job: rule 1; site-3 refused the job: rule 2"
    drive(events.MemberStopped(J, B))
    assert questions.stuck(drive.job) == ""
    waiting = Drive()
    waiting(joined(A), joined(B), submitted(), events.MemberRefused(J, B, "rule 1"), asked())
    assert questions.stuck(waiting.job) == "site-2 refused the job: rule 1"


@pytest.mark.parametrize("first", [B, C])
def test_a_site_that_changes_its_mind_in_time_takes_the_task_that_waits_for_it(first):
    drive = starting()
    drive(asked(), events.MemberRefused(J, B, "no"), events.MemberRefused(J, C, "no"), updated(A, "a"))
    found = drive(events.MemberStopped(J, first), at=50.0)
    assert kinds(found) == ["Save", "SendStart", "SendTask"]
    assert drive.job.members[first].state == "starting"
    assert drive.job.members[first].reason == ""
    assert kinds(drive(events.TimePassed(), at=61.0)) != []  # the other one is given up
    found = drive(events.MemberReady(J, first), updated(first, "b"), at=100.0)
    assert isinstance(found[-1], effects.TellEnd)
    assert found[-1].error == ""


def test_a_site_that_refuses_again_is_not_asked_again_until_it_puts_the_job_away():
    drive = starting()
    drive(events.MemberRefused(J, C, "no"), events.MemberStopped(J, C))
    assert "SendStart" not in kinds(drive(events.MemberRefused(J, C, "still no"), events.TimePassed()))
    assert drive.job.members[C].reason == "still no"
    assert "SendStart" in kinds(drive(events.MemberStopped(J, C)))


def test_a_site_that_comes_back_is_offered_once_what_it_refused_and_says_first_that_it_has_put_it_away():
    drive = starting()
    drive(events.MemberRefused(J, C, "no"), events.SiteLeft(C))
    assert "SendStart" not in kinds(drive(joined(C, holds=frozenset({J}))))
    assert "SendStart" in kinds(drive(events.MemberStopped(J, C)))
    drive(events.MemberRefused(J, C, "no"), events.SiteLeft(C))
    assert kinds(drive(joined(C))).count("SendStart") == 1  # with nothing of it left, at once


def test_a_site_that_changed_its_mind_waits_for_room():
    drive, k = Drive(), JobId("k" * 32)
    drive(joined(A, cpu=1), joined(B, cpu=1), joined(C, cpu=1), submitted())
    drive(events.MemberRefused(J, C, "no"), events.MemberRefused(J, B, "no"), submitted(k))
    assert sorted(drive.machine.state.jobs[k].members) == [B, C]
    assert "SendStart" not in kinds(drive(events.MemberStopped(J, C)))
    found = drive(events.MemberRefused(k, C, "no"))
    assert effects.SendStart(C, J) in found


def test_what_a_members_worker_waits_for_is_told_for_as_long_as_it_waits(running):
    running(events.MemberWaits(J, B, "no node has enough nvidia.com/gpu"), events.MemberWaits(J, A, "its pod is new"))
    assert questions.delayed(running.job) == "site-1: its pod is new; site-2: no node has enough nvidia.com/gpu"
    running(events.MemberWaits(J, B, ""), events.MemberWaits(J, A, ""), events.FlowWaits(J, "its pod is new"))
    assert questions.delayed(running.job) == "the workflow: its pod is new"
    running(events.FlowWaits(J, ""))
    assert questions.delayed(running.job) == ""


def test_a_site_that_fetches_the_model_while_its_worker_waits_still_waits():
    drive = Drive()
    drive(joined(A), joined(B), submitted(), events.MemberWaits(J, A, "its image cannot be pulled"))
    drive(events.Progressed(J, A), events.Progressed(J, B))
    assert {name: member.state for name, member in drive.job.members.items()} == {A: "starting", B: "starting"}
    assert questions.delayed(drive.job) == "site-1: its image cannot be pulled"
    drive(events.MemberWaits(J, A, ""), events.MemberReady(J, A))
    assert drive.job.members[A].state == "ready"


def test_what_a_member_waits_for_does_not_change_what_a_refusal_says(running):
    running(events.MemberRefused(J, B, "no"), events.MemberWaits(J, B, "its pod is new"))
    assert running.job.members[B].reason == "no"


def test_a_job_that_has_ended_is_let_go_once_no_connected_site_holds_it(running):
    running(events.FlowDone(J), *(events.MemberStopped(J, site) for site in (A, B)))
    assert "Retire" not in kinds(running(events.TimePassed(), events.ResultsKept(J, ""), at=1e3))
    assert running.job.over  # C has not said that it stopped
    assert kinds(running(events.SiteLeft(C)))[-1] == "Retire"
    running(events.Retired(J))
    assert J not in running.machine.state.jobs
    assert running.machine.state.ended == {"completed": 1}
    assert kinds(running(events.DeleteAsked(J))) == ["Forget"]  # the ledger knows it still


def test_a_job_that_has_not_ended_is_neither_let_go_nor_forgotten(running):
    assert running(events.Retired(J), events.DeleteAsked(J)) == []
    assert running.job.record.state == "running"


def test_a_job_that_ends_while_its_site_is_away_is_let_go_at_once(running):
    running(*(events.SiteLeft(site) for site in (A, B, C)), events.AbortAsked(J, "ada"))
    found = running(events.ResultsKept(J, ""))
    assert kinds(found) == ["Save", "Sweep", "Retire"]


def test_one_traceback_of_several_sites_is_shown_once(running):
    same = [events.Unusable(J, "1.0", site, "ValueError: x", "Traceback A") for site in (A, B)]
    running(asked(), *same, updated(C, "c"))
    running(events.CommitAsked(J, 1, "m1", {}, False), events.FlowDone(J))
    assert running.job.record.traceback == "at site-1 and site-2, task 1.0:\nTraceback A"


def test_a_job_that_waits_for_sites_names_those_that_are_there_and_disabled():
    drive = Drive()
    drive(
        joined(A), joined(B), events.SiteSwitched(A, enabled=False), events.SiteSwitched(B, enabled=False), submitted()
    )
    told = "waiting for sites: 0 of the 2 that it needs are connected; disabled by an admin: site-1, site-2"
    assert drive.job.record.cause == told
    drive(events.SiteSwitched(A, enabled=True), events.SiteSwitched(B, enabled=True))
    assert (drive.job.record.state, drive.job.record.cause) == ("running", "")
