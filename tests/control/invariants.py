"""What holds in the machine's state after every step, whatever has happened."""

from collections import Counter

from convoy.control import cohort
from convoy.control.state import Keeping, Stalled, State, Stopping, Waiting, Working
from convoy.control.transitions import ENDED

PHASES = {"running": (Working, Waiting, Stalled), "ending": (Stopping, Keeping)}


def check(state: State) -> None:
    """Raise `AssertionError` with the job and what does not hold."""
    running = [job for job in state.jobs.values() if job.record.state in ("running", "ending")]
    assert len(running) <= state.max_jobs
    for job in state.jobs.values():
        key = job.record.id
        assert type(job.phase) in PHASES.get(job.record.state, (type(None),)), (key, job.record.state, job.phase)
        assert not isinstance(job.phase, Stalled) or state.problem, (key, "it waits for room, and there is room")
        assert not isinstance(job.phase, Waiting) or job.phase.why, (key, "it waits for nothing")
        assert not (job.questions.keys() & job.pending.keys()), (key, "a question is open and waits for its sites")
        assert job.record.state not in ENDED or not (job.questions or job.pending), (key, "an ended job asks")
        assert job.synced <= job.committed, (key, "more is on the disk than is committed")
        assert job.best is None or job.last is None or job.best.round <= job.last.round
        places = [task.place for question in job.questions.values() for task in question.tasks.values() if task.place]
        assert len(places) == len(set(places)), (key, "two answers came at the same place")
        assert max(places, default=0) <= job.places
        for question in job.questions.values():
            _question(job, question)
    for site in state.sites.values():
        assert all(left >= 0 for left in cohort.free(state, site)) or not site.connected or not running


def _question(job, question):
    key, record = (job.record.id, question.record.id), question.record
    assert tuple(question.tasks) == record.cohort, (key, "its tasks are not those of its cohort")
    assert all(site in job.members for site in question.tasks), (key, "somebody was asked who is no member")
    done = {site for site, task in question.tasks.items() if task.state != "open"}
    assert len(question.arrived) == len(set(question.arrived)), (key, "an answer came twice")
    assert set(question.arrived) == done, (key, "what has come is not what is not awaited")
    assert all(question.at(place) for place in range(question.told)), (key, "more was told than may be")
    assert set(question.awaited) == question.tasks.keys() - done, (key, "it awaits others than those of open tasks")
    counts = {state: count for state, count in question.counts.items() if count}
    assert counts == Counter(task.state for task in question.tasks.values()), (key, "tasks are not counted")
    assert record.outlives or not record.folded, (key, "a question of its round alone was folded")
    for task in question.tasks.values():
        assert task.state not in ("received", "uncounted") or task.answer is not None, (key, "an answer is empty")
        assert task.state in ("open", "received") or task.reason, (key, "nobody says why a site was left out")
