"""Order, quorum, states, and questions that outlive their rounds, decided with plain values."""

import math
import typing

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from convoy.control import effects, events, reactions, rounds
from convoy.control.clock import Now
from convoy.control.questions import reopen
from convoy.control.records import Answer, Kept, Question, Task
from convoy.control.state import LiveJob
from tests.control.test_machine import A, B, C, Drive, J, asked, joined, kinds, submitted, updated


@pytest.fixture
def running() -> Drive:
    drive = Drive()
    drive(joined(A), joined(B), joined(C), submitted(), events.CommitAsked(J, 0, "m0", {}, False))
    drive(*(events.MemberReady(J, site) for site in (A, B, C)), events.ModelSynced(J, 0))
    return drive


def told(found):
    return [effect.task.site for effect in found if isinstance(effect, effects.TellAnswer)]


def test_answers_are_told_as_they_come_where_the_question_says_so(running):
    running(asked(by_arrival=True))
    assert told(running(updated(C, "c"))) == [C]
    assert told(running(updated(A, "a"))) == [A]
    found = running(updated(B, "b"))
    assert (told(found), kinds(found)[-1]) == ([B], "TellEnd")


@settings(max_examples=100, deadline=None)
@given(st.permutations([A, B, C]), st.integers(0, 3))
def test_a_workflow_or_a_server_that_starts_again_gets_them_in_the_order_in_which_they_came(order, deaths):
    drive = Drive()
    drive(joined(A), joined(B), joined(C), submitted(), events.CommitAsked(J, 0, "m0", {}, False))
    drive(asked(by_arrival=True), *(updated(site, f"d{site}") for site in order))
    for _ in range(deaths):
        assert told(drive(events.FlowDied(J, "SIGKILL"), asked(by_arrival=True))) == list(order)
    kept = {effect.record.site: effect.record for effect in drive.done if _is_task(effect)}
    fresh = LiveJob(drive.job.record, drive.job.needs, members=drive.job.members)
    reopen(fresh, drive.job.questions["1.0"].record, list(kept.values()), Now(5.0, 1e9))
    assert [fresh.questions["1.0"].at(place).site for place in range(3)] == list(order)
    assert fresh.places == 3


def _is_task(effect):
    return isinstance(effect, effects.Save) and isinstance(effect.record, Task)


def test_after_the_quorum_the_others_have_the_grace_and_no_more(running):
    running(asked(quorum=2, grace_s=5.0), updated(C, "c"))
    assert running.machine.wake() == 60.0  # the patience
    running(updated(A, "a"), at=10.0)
    assert running.machine.wake() == 15.0
    assert kinds(running(events.TimePassed(), at=14.0)) == []
    found = running(events.TimePassed(), at=15.0)
    assert "TellEnd" in kinds(found)
    assert "within 5 s after 2 sites had answered, the quorum" in running.job.questions["1.0"].tasks[B].reason
    assert running.job.members[B].state == "ready"  # slow, and there


def test_a_quorum_without_grace_ends_the_question_at_once(running):
    running(asked(quorum=1), updated(B, "b"))
    assert running.machine.wake() <= running.at
    assert "TellEnd" in kinds(running(events.TimePassed()))


def after(drive, site):
    return [effect.after for effect in drive.done if isinstance(effect, effects.SendTask) and effect.site == site][-1]


def test_a_task_follows_the_last_answer_with_a_state_that_counts(running):
    running(asked(), updated(A, "a", state_bytes=9), updated(B, "b", state_bytes=9), updated(C, "c"))
    why = {B: "train: too far away"}
    found = running(events.CommitAsked(J, 1, "m1", {}, False, why), events.ModelSynced(J, 1))
    assert {e.site: e.after for e in found if isinstance(e, effects.SendCommitted)} == {A: "1.0", B: "", C: ""}
    running(asked("2.0", 2))
    assert [after(running, site) for site in (A, B, C)] == ["1.0", "", ""]
    running(updated(A, "a2", "2.0"), updated(B, "b2", "2.0", state_bytes=1))
    running(events.CommitAsked(J, 2, "m2", {}, False), asked("3.0", 3))
    assert [after(running, site) for site in (A, B, C)] == ["1.0", "2.0", ""]  # A kept what it had


def test_an_answer_that_the_workflow_did_not_count_is_kept_as_that(running):
    running(asked(), updated(A, "a"), updated(B, "b"), updated(C, "c"))
    running(events.CommitAsked(J, 1, "m1", {}, False, {B: "train: too far away"}))
    states = {effect.record.site: effect.record.state for effect in running.done if _is_task(effect)}
    assert states == {A: "received", B: "uncounted", C: "received"}


def stream(drive, number, site, round_=1):
    """Ask one site a question that outlives its round."""
    question = Question(
        J, f"{round_}.{number}", "train", round_, 9, "m0", sites=(site,), by_arrival=True, outlives=True
    )
    return drive(events.Asked(question))


def test_a_question_that_outlives_its_round_stays_until_a_commit_counts_it(running):
    for number, site in enumerate((A, B, C)):
        stream(running, number, site)
    running(updated(C, "c", "1.2"), updated(A, "a", "1.0", state_bytes=3))
    found = running(events.CommitAsked(J, 1, "m1", {}, False, folded=("1.2",)), events.ModelSynced(J, 1))
    committed = {effect.site: effect.folded for effect in found if isinstance(effect, effects.SendCommitted)}
    assert committed == {A: (), B: (), C: ("1.2",)}
    assert running.job.last.took_part == ((C, 1.0),)
    assert [question.id for question in rounds.waiting(running.job)] == ["1.0", "1.1"]  # as they came, then the others
    running(updated(B, "b", "1.1"), events.CommitAsked(J, 2, "m2", {}, False, folded=("1.0", "1.1")))
    assert running.job.last.took_part == ((A, 1.0), (B, 1.0))
    assert (rounds.waiting(running.job), running.job.after) == ([], {A: Kept("1.0", 3)})


def test_a_site_that_offers_an_answer_that_was_folded_is_told_to_forget_it(running):
    stream(running, 0, A)
    running(updated(A, "a", "1.0"), events.CommitAsked(J, 1, "m1", {}, False, folded=("1.0",)))
    assert running(updated(A, "a", "1.0")) == []  # not before the model is on the disk for good
    running(events.ModelSynced(J, 1))
    (found,) = running(updated(A, "a", "1.0"))
    assert (type(found), found.folded) == (effects.SendCommitted, ("1.0",))


def test_a_question_whose_round_was_undone_is_open_again_and_one_that_counts_is_not(running):
    stream(running, 0, A)
    running(updated(A, "a", "1.0"), events.CommitAsked(J, 1, "m1", {}, False, folded=("1.0",)))
    (*_, record) = [e.record for e in running.done if isinstance(e, effects.Save) and isinstance(e.record, Question)]
    assert record.folded == 1
    for last, waiting in ((running.job.last, []), (None, ["1.0"])):
        fresh = LiveJob(running.job.record, running.job.needs, members=running.job.members, last=last)
        reopen(fresh, record, [], Now(5.0, 1e9))
        assert [question.id for question in rounds.waiting(fresh)] == waiting


def test_several_questions_may_wait_for_their_sites(running):
    running(events.MemberRefused(J, A, "no"), events.MemberRefused(J, B, "no"))
    stream(running, 0, A)
    stream(running, 1, B)
    assert sorted(running.job.pending) == ["1.0", "1.1"]
    assert running.machine.wake() == 60.0
    running(events.TimePassed(), at=60.0)
    assert "no site was there that could answer 'train' for 60 s" in running.job.record.cause


def test_every_event_of_a_job_has_its_rule():
    about_jobs = {kind for kind in typing.get_args(events.Event) if "job" in dir(kind) or "job" in kind.__annotations__}
    assert about_jobs - {events.Submitted, events.DeleteAsked, events.Retired} == set(reactions.RULES)


def test_an_answer_has_its_place_and_a_state_its_size():
    assert Answer("1.0").state_bytes == Task(J, "1.0", A, "open").place == 0
    assert math.isinf(Drive().machine.wake())


def test_an_error_in_a_decision_shows_what_has_happened_to_the_job(running):
    running(asked())
    running.job.questions["1.0"].record = None
    found = running.machine.step(updated(A, "a"), Now(7.25, 1e9))
    (note,) = [effect.text for effect in found if isinstance(effect, effects.Note)]
    assert "7.250 Answered(" in note
    assert note.index("Asked(question=Question(") < note.index("Answered(") < note.index("Traceback")
    assert running.job.record.state == "failed"
