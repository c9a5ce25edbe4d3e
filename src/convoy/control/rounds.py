"""What a round is made of: who took part, what its commit counts, and what is forgotten after it."""

from __future__ import annotations

import math
from collections.abc import Collection, Iterator, Mapping
from dataclasses import replace
from types import MappingProxyType

from convoy.control import cohort, effects
from convoy.control.lateness import absent
from convoy.control.questions import DISABLED
from convoy.control.records import Kept, Question, Task
from convoy.control.state import LiveJob, LiveSite, OpenQuestion, State
from convoy.control.transitions import move
from convoy.control.view import ReadOnlyJob, ReadOnlyQuestion

Effects = Iterator[effects.Effect]


def contribution(
    state: State,
    job: LiveJob,
    round_: int,
    uncounted: Mapping[str, str] = MappingProxyType({}),
    folded: Collection[str] = (),
) -> tuple[tuple[tuple[str, float], ...], tuple[tuple[str, str], ...]]:
    """Return who took part in a round, with weights, and who was left out, with reasons.

    `uncounted`: the sites whose answers came and that the workflow left out, with its reasons. `folded`: questions of
    earlier rounds whose answers are part of this one.
    """
    took: dict[str, float] = {}
    out: dict[str, str] = {}
    asked: set[str] = set()
    part = part_of(job, round_, folded)
    models = any(_has_arrays(task) for question in part for task in question.tasks.values())  # measuring is not enough
    for question in part:
        for task in question.tasks.values():
            asked.add(task.site)
            if task.answer is not None and task.state == "received" and (task.answer.digest or not models):
                took.setdefault(task.site, task.answer.weight)
            elif task.state != "received":
                out.setdefault(task.site, f"{question.record.kind}: {task.reason or 'had not answered'}")
    for name in took.keys() & uncounted.keys():
        del took[name]
        out[name] = uncounted[name]
    if not any(question.record.outlives for question in job.questions.values()):  # of those, many are never asked
        for member in job.members.values():
            if asked and member.site not in asked:
                out.setdefault(member.site, absent(member) if state.sites[member.site].enabled else DISABLED)
    for site in state.sites.values():
        if asked and cohort.meant(job, site) and site.name not in job.members:
            out.setdefault(site.name, _outside(site))
    return tuple(sorted(took.items())), tuple(sorted(out.items()))


def part_of(job: LiveJob, round_: int, folded: Collection[str]) -> list[OpenQuestion]:
    """Return the questions whose answers are part of a round."""
    return [
        question
        for question in job.questions.values()
        if (question.record.id in folded if question.record.outlives else question.record.round == round_)
    ]


def _has_arrays(task: Task) -> bool:
    return task.answer is not None and bool(task.answer.digest)


def counted(job: LiveJob, round_: int, uncounted: Mapping[str, str], folded: Collection[str]) -> Effects:
    """Keep which answers a commit counts: from then on their sites go on with the states that came with them."""
    unsynced = job.unsynced[-1]
    for question in part_of(job, round_, folded):
        if question.record.outlives:
            question.record = replace(question.record, folded=round_)
            yield effects.Save(question.record, wait=False)
        for site, task in question.tasks.items():
            if task.state != "received" or task.answer is None:
                continue
            if question.record.outlives:
                unsynced.folded.setdefault(site, []).append(question.record.id)
            if site in uncounted and task.answer.digest:
                yield effects.Save(question.put(move(task, "uncounted", reason=uncounted[site])), wait=False)
            elif task.answer.state_bytes:
                unsynced.after.setdefault(site, job.after.get(site))
                job.after[site] = Kept(question.record.id, task.answer.state_bytes)


def waiting(job: ReadOnlyJob) -> list[Question]:
    """Return the questions that outlive their rounds and are not folded, in the order in which answers came."""
    found = [question for question in job.questions.values() if question.record.outlives and not question.record.folded]

    def place(question: ReadOnlyQuestion) -> tuple[float, list[int]]:
        came = [task.place for task in question.tasks.values() if task.place]
        return min(came, default=math.inf), [int(part) for part in question.record.id.split(".")]

    return [question.record for question in sorted(found, key=place)]


def _outside(site: LiveSite) -> str:
    """Return why a site that the job means is no member of it."""
    if not site.enabled:
        return DISABLED
    return "has no room for the job" if site.connected else "not connected"


def forget(job: LiveJob, round_: int) -> None:
    """Drop questions of committed rounds from memory; their records stay in the store.

    What was asked before the first round stays: a workflow that starts anew asks it again. What outlives its round
    stays until it is folded, or nothing more can come of it.
    """
    for question in list(job.questions.values()):
        record = question.record
        awaited = any(task.state in ("open", "received") for task in question.tasks.values())
        past = 0 < record.round <= round_ and (not record.outlives or not awaited)
        if past or record.folded:
            del job.questions[record.id]
            job.unsynced[-1].questions.add(record.id)
