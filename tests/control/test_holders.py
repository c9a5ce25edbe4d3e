"""What a job's records need of its blobs, and until when."""

import pytest

from convoy.control import effects, events, holders
from tests.control.test_machine import A, B, C, Drive, J, asked, joined, submitted, updated


@pytest.fixture
def running() -> Drive:
    drive = Drive()
    drive(joined(A), joined(B), joined(C), submitted(), events.CommitAsked(J, 0, "m0", {}, False))
    drive(*(events.MemberReady(J, site) for site in (A, B, C)))
    return drive


def committed(drive: Drive, round_: int, model: str, *, best: bool = False) -> list[effects.Effect]:
    return drive(events.CommitAsked(J, round_, model, {}, best), events.ModelSynced(J, round_))


def test_the_records_need_the_newest_model_the_best_one_and_all_of_open_questions(running):
    running(asked(), updated(A, "a"))
    committed(running, 1, "m1", best=True)
    committed(running, 2, "m2")
    committed(running, 3, "m3")
    running(asked("4.0", 4), updated(B, "b", "4.0"))
    assert set(holders.needed(running.job)) == {
        ("model.1", "m1"),
        ("model.3", "m3"),
        ("question.4.0", "m0"),
        ("answer.4.0.site-2", "b"),
    }


@pytest.mark.parametrize(
    ("holder", "stays"),
    [
        ("model.0", False),
        ("model.1", True),  # the newest
        ("model.2", True),  # about to be committed
        ("question.1.0", False),
        ("answer.1.0.site-1", False),
        ("question.1.1", True),  # asked after the commit of its round
        ("answer.1.1.site-3", True),  # on its way
        ("question.2.0", False),  # of a workflow that was not heard
        ("question.0.0", True),  # asked before the first round, and again by a workflow that starts anew
    ],
)
def test_a_holder_lets_go_once_its_round_is_committed_and_on_the_disk(running, holder, stays):
    running(asked("0.0", 0), updated(A, "a", "0.0"), asked(), updated(A, "a"), updated(B, "b"), updated(C, "c"))
    found = committed(running, 1, "m1")
    assert effects.Release(J) in found
    running(asked("1.1", 1))
    assert holders.stays(running.job, holder) == stays


def test_a_question_that_waits_for_sites_holds_its_model(running):
    running(asked(at_least=4))
    assert running.job.pending
    assert holders.stays(running.job, "question.1.0")


@pytest.mark.parametrize("holder", ["taken", "handed"])
def test_who_has_a_blob_in_hand_is_passed_over_and_is_gone_with_its_process(running, holder):
    assert holders.passing(holder)
    assert not holders.stays(running.job, holder)
