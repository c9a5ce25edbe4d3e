"""What a site has answered, over restarts and power cuts."""

from convoy.control.records import Answer, Question
from convoy.site.outbox import ASKED, Kept, Outbox


def asking(question="1.0", model="a" * 64, kind="train", **more) -> Question:
    return Question("j", question, kind, 1, 0, model, **more)


def answer(question="1.0", digest="d" * 64, round_=1, **more) -> Kept:
    return Kept(Answer(question, digest), round_, **more)


def test_a_step_is_answered_for_one_question_also_when_it_is_committed_and_the_site_has_started_anew(tmp_path):
    Outbox(tmp_path).put(answer(), asking())
    (committed,) = Outbox(tmp_path).committed(1, frozenset())
    assert committed.question == "1.0"
    outbox = Outbox(tmp_path)
    assert outbox.answers == {}
    assert outbox.may_answer(asking())
    assert outbox.may_answer(asking("2.0", "b" * 64))
    for other in (asking(model="b" * 64), asking(kind="evaluate"), asking(settings='{"lr": 0.5}')):
        assert not outbox.may_answer(other)


def test_an_answer_without_an_update_binds_nothing(tmp_path):
    outbox = Outbox(tmp_path)
    outbox.put(answer(digest=""), asking())
    assert outbox.may_answer(asking(model="b" * 64))


def test_a_line_that_a_power_cut_left_half_is_passed_over_and_those_after_it_are_not(tmp_path):
    Outbox(tmp_path).put(answer(), asking())
    file = tmp_path / ASKED
    file.write_bytes(file.read_bytes()[:-9])
    Outbox(tmp_path).put(answer("2.0"), asking("2.0"))
    outbox = Outbox(tmp_path)
    assert outbox.may_answer(asking(model="b" * 64))
    assert not outbox.may_answer(asking("2.0", "b" * 64))


def test_an_answer_that_outlives_its_round_stays_until_it_is_folded(tmp_path):
    outbox = Outbox(tmp_path)
    outbox.put(answer("1.0", outlives=True), asking("1.0", outlives=True))
    outbox.put(answer("1.1"), asking("1.1"))
    assert [kept.question for kept in outbox.committed(3, frozenset())] == ["1.1"]
    assert [*Outbox(tmp_path).answers] == ["1.0"]
    assert [kept.question for kept in outbox.committed(4, frozenset({"1.0"}))] == ["1.0"]
    assert Outbox(tmp_path).answers == {}
