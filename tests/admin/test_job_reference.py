"""Which job a text means."""

import pytest

from convoy.admin import job_reference, views
from convoy.errors import BadInput, NotFound


def job(id_, name, state="completed"):
    times = {"submitted_at": 0, "started_at": 0, "ended_at": 0}
    more = {
        "cause": "",
        "submitter": "",
        "org": "",
        "round": 0,
        "rounds": 0,
        "waiting_for": [],
        "waiting": 0,
        "metrics": {},
    }
    return views.JobView(id=id_.ljust(32, "0"), name=name, state=state, **times, **more)


def test_a_name_means_the_job_that_has_not_ended_else_the_newest():
    jobs = [job("3", "tumours"), job("2", "tumours", "running"), job("1", "tumours")]
    assert job_reference.job("tumours", jobs) == jobs[1].id
    assert job_reference.job("tumours", [jobs[0], jobs[2]]) == jobs[0].id


def test_a_text_that_is_a_name_and_the_beginning_of_another_id_means_neither():
    jobs = [job("c14e", "tumours"), job("9", "c14")]
    with pytest.raises(BadInput, match="is the name of a job, and the beginning of another one's id"):
        job_reference.job("c14", jobs)
    assert job_reference.job("c14e", jobs) == jobs[0].id
    assert job_reference.job("9", jobs) == jobs[1].id


@pytest.mark.parametrize("text", ["", "zzz"])
def test_no_job_is_meant_by_nothing(text):
    with pytest.raises(NotFound):
        job_reference.job(text, [job("1", "tumours")])
