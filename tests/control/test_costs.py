"""What answers take adds up, peaks do not, and what leaves a site has two digits."""

from contextlib import closing

import pytest
from hypothesis import given
from hypothesis import strategies as st

from convoy.control import effects, events
from convoy.control.costs import NOTHING, Cost
from convoy.control.records import Spread
from convoy.store.ledger import open_ledger
from tests.control.test_machine import A, B, Drive, J, asked, joined, submitted, updated

WHOLE = st.integers(0, 1 << 50)
COSTS = st.builds(Cost, **dict.fromkeys(Cost._fields, WHOLE))


@given(COSTS, COSTS, COSTS)
def test_costs_add_up_in_any_order(one, two, three):
    assert one + two == two + one
    assert (one + two) + three == one + (two + three)
    assert one + NOTHING == one
    assert (one + two).memory == max(one.memory, two.memory)
    assert Cost.read(one.plain()) == one


@given(COSTS)
def test_what_leaves_a_site_says_two_digits_of_each_number(cost):
    for value in cost.rounded():
        digits = str(value).rstrip("0").lstrip("0")
        assert len(digits) <= 2
    assert cost.rounded().rounded() == cost.rounded()


def test_numbers_that_no_cost_can_have_are_not_usable():
    assert Cost(train_s=3.0).usable
    for wrong in (-1.0, float("nan"), float("inf"), 1e16):
        assert not Cost(train_s=wrong).usable


@pytest.fixture
def running() -> Drive:
    drive = Drive()
    drive(joined(A), joined(B), submitted(), events.CommitAsked(J, 0, "m0", {}, False))
    drive(*(events.MemberReady(J, site) for site in (A, B)))
    return drive


def test_the_machine_adds_up_what_the_answers_of_a_site_took_and_keeps_the_sum_with_each(running):
    for round_, took in ((1, 2.0), (2, 3.0)):
        running(asked(f"{round_}.0", round_, at_least=1), at=10.0 * round_)
        answer = updated(A, "e", f"{round_}.0", cost=Cost(train_s=took, memory=5, took_s=77, answers=9))
        saved = running(answer, at=10.0 * round_ + took)
        (task,) = [it.record for it in saved if isinstance(it, effects.Save)]
        assert (task.answer.cost.train_s, task.answer.cost.took_s, task.answer.cost.answers) == (took, took, 1)
        running(answer)  # a resend costs nothing
        running(events.CommitAsked(J, round_, "m1", {}, best=False))
    spent = running.job.spent[A]
    assert (spent.train_s, spent.took_s, spent.memory, spent.answers) == (5.0, 5.0, 5, 2)
    assert task.spent == spent


def test_an_answer_whose_update_the_disk_has_lost_is_counted_once(running):
    running(asked(), updated(A, "a", cost=Cost(train_s=2.0)))
    running(events.Lost(J, "1.0", A))
    running(updated(A, "a", cost=Cost(train_s=2.0)), at=50.0)
    assert running.job.spent[A] == Cost(train_s=2.0, answers=1)
    assert running.job.questions["1.0"].tasks[A].state == "received"


def test_an_update_that_came_again_after_a_later_answer_takes_nothing_off_the_sum_in_a_ledger(tmp_path, running):
    running(asked("1.0", 1, at_least=1), updated(A, "a", "1.0", cost=Cost(train_s=2.0)))
    running(asked("1.1", 1, at_least=1), updated(A, "b", "1.1", cost=Cost(train_s=3.0)))
    running(events.Lost(J, "1.0", A))
    running(updated(A, "a", "1.0", cost=Cost(train_s=2.0)), at=50.0)
    total = Cost(train_s=5.0, answers=2)
    tasks = running.job.questions["1.0"].tasks[A], running.job.questions["1.1"].tasks[A]
    assert tasks[0].place > tasks[1].place
    assert (tasks[0].spent, tasks[0].answer.cost) == (total, Cost(train_s=2.0, answers=1))
    with closing(open_ledger(f"sqlite:///{tmp_path}/ledger.sqlite")) as ledger:
        ledger.write([it.record for it in running.done if isinstance(it, effects.Save)])
        assert ledger.load().spent == {(J, A): total}
        assert ledger.history.spent(J) == {A: total}


def test_a_ledger_knows_what_each_site_took_without_reading_every_answer(tmp_path, running):
    for round_ in (1, 2, 3):
        running(asked(f"{round_}.0", round_, at_least=1), updated(A, "e", f"{round_}.0", cost=Cost(cpu_s=round_)))
        running(updated(B, "e", f"{round_}.0", cost=Cost(down=7)))
        running(events.CommitAsked(J, round_, "m1", {}, best=False, spread={A: Spread(2.5, -0.5)}))
    with closing(open_ledger(f"sqlite:///{tmp_path}/ledger.sqlite")) as ledger:
        ledger.write([it.record for it in running.done if isinstance(it, effects.Save)])
        assert ledger.load().spent == {(J, A): Cost(cpu_s=6, answers=3), (J, B): Cost(down=21, answers=3)}
        assert ledger.history.spent(J) == {A: Cost(cpu_s=6, answers=3), B: Cost(down=21, answers=3)}
        assert ledger.history.costs(J, 2) == {A: Cost(cpu_s=2, answers=1), B: Cost(down=7, answers=1)}
        assert ledger.history.round(J, 2).spread == {A: Spread(2.5, -0.5)}
