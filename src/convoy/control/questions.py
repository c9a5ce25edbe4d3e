"""A workflow's question to a cohort: its tasks, who is asked, and the order in which answers are told."""

from __future__ import annotations

import math
from collections.abc import Collection, Iterable, Iterator
from dataclasses import replace
from typing import Final

from convoy.control import cohort, costs, effects, events
from convoy.control.clock import Now
from convoy.control.lateness import PATIENCE, absent, late, next_wake, refuses
from convoy.control.records import Question, SiteName, Task
from convoy.control.state import LiveJob, OpenQuestion, Pending, State
from convoy.control.transitions import move, receive
from convoy.control.view import ReadOnlyJob
from convoy.errors import by_reason, some

Effects = Iterator[effects.Effect]

DISABLED: Final = "disabled by an admin"
SHOWN: Final = 10  # names of sites in one line


def ask(state: State, job: LiveJob, question: Question, now: Now) -> Effects:
    """Open a question, go on with one that is open, or wait for enough sites; a job that ends asks nobody."""
    if job.record.state != "running":
        yield effects.TellEnd(job.record.id, question.id, f"the job is {job.record.state}: {job.record.cause}")
        return
    if question.rounds > job.record.rounds:
        job.record = replace(job.record, rounds=question.rounds)
        yield effects.Save(job.record, wait=False)
    known = job.questions.get(question.id)
    if known is not None:  # a restarted workflow asks again: the same answers, from the first
        known.heard, known.told = True, 0
        known.ended = False
        job.pending.pop(question.id, None)
        unsent, known.unsent = known.unsent, set()
        known.asked_at = now.mono if unsent else known.asked_at
        known.wake = next_wake(job, known)
        yield from _give(state, job, known, (site for site in known.awaited if site in unsent))
        yield from _tell(job, known)
        return
    if never := _never(state, job, question):
        yield effects.TellEnd(job.record.id, question.id, never)
        return
    names = cohort.eligible(state, job, question.sites)
    if len(names) < max(question.at_least, 1):
        job.pending.setdefault(question.id, Pending(question, now.mono))
        return
    job.pending.pop(question.id, None)
    record = replace(question, cohort=cohort.draw(job, question, names))
    tasks = {site: Task(record.job, record.id, site, "open") for site in record.cohort}
    opened = job.questions[record.id] = OpenQuestion(record, asked_at=now.mono, tasks=tasks, heard=True)
    opened.wake = next_wake(job, opened)
    yield effects.Save(record, wait=False)
    yield from _give(state, job, opened, opened.awaited)


def _give(state: State, job: LiveJob, question: OpenQuestion, sites: Iterable[SiteName]) -> Effects:
    for site in sites:
        if state.sites[site].connected:
            kept = job.after.get(site)
            yield effects.SendTask(site, question.record, "" if kept is None else kept.question)


def _never(state: State, job: LiveJob, ask: Question) -> str:
    """Say why no wait will bring the sites that are asked; nothing if one may: enough of them can come."""
    part = job.needs.sites
    known = (part,) if part else (state.sites, job.members)
    strangers = [site for site in sorted({*ask.sites}) if not any(site in names for names in known)]
    if strangers:
        everybody = [name for name, site in state.sites.items() if site.listed]
        where, there = ("job", [*part]) if part else ("federation", everybody)
        return f"{ask.kind!r} asks {listed(strangers)}; in this {where} are {listed(there)}"
    most = min(len({*ask.sites} or part) or math.inf, ask.sample or math.inf)
    if ask.at_least > most:
        return f"{ask.kind!r} needs answers of {ask.at_least} sites and can ask {most}"
    if ask.quorum > most:
        return f"{ask.kind!r} goes on at a quorum of {ask.quorum} sites and can ask {most}"
    return ""


def listed(names: Collection[str]) -> str:
    """Return names of sites for one line; of very many, the first and how many more there are."""
    return some(sorted(names), SHOWN)


def too_few_there(state: State, job: LiveJob, ask: Question) -> str:
    """Say that too few sites could be asked for longer than the patience, and why the others could not."""
    there = cohort.eligible(state, job, ask.sites)
    away = sorted({*map(SiteName, ask.sites)} or job.members.keys())
    why = {
        name: absent(job.members[name]) if name in job.members else "takes no part in this job"
        for name in away
        if name not in there
    }
    some = f"{len(there)} of the {max(ask.at_least, 1)} sites that {ask.kind!r} needs were there"
    said = some if there else f"no site was there that could answer {ask.kind!r}"
    return f"{said} for {job.needs.patience_s:g} s, {PATIENCE}" + (
        f" ({'; '.join(by_reason(why.items()))})" if why else ""
    )


def stuck(job: ReadOnlyJob) -> str:
    """Say which sites refused the job, and why, where it waits for them alone; nothing while it goes on."""
    refused = sorted(member.site for member in job.members.values() if member.state == "refused")
    waits = bool(job.pending) or 0 < len(job.waiting_for) == len({*job.waiting_for} & {*refused})
    if job.record.state != "running" or not waits:
        return ""
    return "; ".join(f"{site} {absent(job.members[site])}" for site in refused)


def delayed(job: ReadOnlyJob) -> str:
    """Say which workers wait for something before they run, such as a machine with a GPU."""
    if job.over:
        return ""
    waiting = [one for one in job.members.values() if one.state in ("starting", "ready") and one.reason]
    sites = [f"{one.site}: {one.reason}" for one in sorted(waiting, key=lambda one: one.site)]
    return "; ".join([*([f"the workflow: {job.flow_waits}"] if job.flow_waits else []), *sites])


def reopen(job: LiveJob, record: Question, tasks: list[Task], now: Now) -> None:
    """Take up a question that was open when the server went: tasks without a record are open."""
    if 0 < record.folded <= job.committed:
        return
    record = replace(record, folded=0)  # the round that counted its answer was undone
    known = {task.site: _counted_anew(task) for task in tasks}
    order = {site: known.get(site) or Task(record.job, record.id, site, "open") for site in record.cohort}
    come = sorted((task for task in order.values() if task.state != "open"), key=lambda task: task.place or math.inf)
    job.places = max([job.places, *(task.place for task in come)])
    question = job.questions[record.id] = OpenQuestion(record, now.mono, order, arrived=[task.site for task in come])
    _quorum(question, now)
    question.wake = next_wake(job, question)


def _counted_anew(task: Task) -> Task:
    return move(task, "received", reason="") if task.state == "uncounted" else task


def unheard(job: LiveJob) -> None:
    """The workflow that asked is gone: the next one is told when it asks."""
    job.pending.clear()
    for question in job.questions.values():
        question.heard = False


def retry_pending(state: State, job: LiveJob, now: Now) -> Effects:
    """Ask again what was waiting for sites."""
    if job.record.state == "running":
        for waiting in list(job.pending.values()):
            yield from ask(state, job, waiting.question, now)


def resend(state: State, job: LiveJob, site: SiteName) -> Effects:
    """Send a site that came back its open tasks."""
    for question in job.questions.values():
        if site in question.awaited:
            yield from _give(state, job, question, [site])


def answered(job: LiveJob, event: events.Answered, now: Now) -> Effects:
    """Count an answer once; a resend gets the same receipt, another body for the same task is refused."""
    site, answer = event.site, event.answer
    yield from back(job, site)
    key = (event.job, answer.question)
    job.seen[site] = now.mono
    question = job.questions.get(answer.question)
    task = None if question is None else question.tasks.get(site)
    if question is None or task is None:
        yield from _unknown(job, site, answer.question)
        return
    if task.state == "left_out":
        yield effects.SendReject(site, *key, reason=f"late: {task.reason}")
        return
    if task.answer is not None and (task.answer.digest, task.answer.value) != (answer.digest, answer.value):
        yield effects.Conflict(site, *key)
        yield effects.SendReject(site, *key, reason="this task was answered before, with another body")
        return
    if task.state == "open":
        job.places += 1
        known = task.answer  # where its update was lost here: the answer is as it was
        if known is None:
            cost = answer.cost._replace(took_s=max(now.mono - question.asked_at, 0.0), answers=1)
            job.spent[site] = job.spent.get(site, costs.NOTHING) + cost
            known = answer._replace(cost=cost)
        spent = job.spent.get(site, costs.NOTHING)
        task = question.put(receive(task, known, job.places, spent))
        _quorum(question, now)
        question.wake = min(question.wake, question.quorum_at)
        yield effects.Save(task)
    yield effects.SendReceipt(site, *key, digest=answer.digest)
    yield from _tell(job, question)


def _quorum(question: OpenQuestion, now: Now) -> None:
    """Once so many have answered as are enough, the others have the grace that the question states."""
    enough = 0 < question.record.quorum <= question.counts["received"]
    if enough and question.quorum_at == math.inf:
        question.quorum_at = now.mono + question.record.grace_s


def _unknown(job: LiveJob, site: SiteName, question: str) -> Effects:
    round_ = int(question.split(".", 1)[0]) if question.split(".", 1)[0].isdigit() else -1
    if 0 < round_ <= job.synced:
        yield settled(job, site, (question,))
    elif not 0 < round_ <= job.committed:  # else it hears of it when the round is on the disk for good
        yield effects.SendReject(site, job.record.id, question, reason="nobody asked this site for that")


def settled(job: LiveJob, site: SiteName, folded: tuple[str, ...] = ()) -> effects.SendCommitted:
    """Return what lets a site forget what the federation has for good."""
    before = [commit.after[site] for commit in job.unsynced if site in commit.after]
    kept = before[0] if before else job.after.get(site)
    return effects.SendCommitted(site, job.record.id, job.synced, folded, "" if kept is None else kept.question)


def unusable(job: LiveJob, event: events.Unusable) -> Effects:
    """Leave a site out of a question, with the reason."""
    question = job.questions.get(event.question)
    task = None if question is None else question.tasks.get(event.site)
    if question is None or task is None:  # so the site forgets it, and may be asked anew
        yield from _unknown(job, event.site, event.question)
        return
    if task.state != "open":
        return
    reason = event.reason or "it did not say why"
    task = question.put(move(task, "left_out", reason=reason, traceback=event.traceback))
    yield effects.Save(task, wait=False)
    yield effects.SendReject(event.site, event.job, event.question, reason=reason)
    yield from _tell(job, question)


def unsent(job: LiveJob, event: events.Unsent) -> Effects:
    """Send a task once a workflow that starts again has made its model anew; no other workflow makes it again."""
    question = job.questions.get(event.question)
    if question is None or event.site not in question.awaited:
        return
    if not question.heard:
        question.unsent.add(event.site)
        question.wake = next_wake(job, question)
        return
    reason = "the server's disk has lost the model that it is about"
    yield from unusable(job, events.Unusable(event.job, event.question, event.site, reason))


def lost(state: State, job: LiveJob, event: events.Lost) -> Effects:
    """Ask again, under the same id and digest, for an update that the disk has lost."""
    question = job.questions.get(event.question)
    task = None if question is None else question.tasks.get(event.site)
    if question is None or task is None or task.state != "received":
        return
    heard = event.site in _told(question)
    task = question.put(move(task, "open"))
    if heard:  # by a workflow that must not fold what nobody has any more
        question.told = 0
        unheard(job)
        yield effects.RestartFlow(job.record.id)
    question.wake = next_wake(job, question)
    yield effects.Save(task, wait=False)
    yield from resend(state, job, event.site)


def _told(question: OpenQuestion) -> list[SiteName]:
    """Return the sites of which the workflow has heard."""
    told = (question.at(place) for place in range(question.told))
    return [task.site for task in told if task is not None]


def leave_out(job: LiveJob, site: SiteName, reason: str) -> Effects:
    """Leave a site out of every open question."""
    for question in job.questions.values():
        if site in question.tasks:
            yield from unusable(job, events.Unusable(job.record.id, question.record.id, site, reason))


def drop(job: LiveJob, site: SiteName, reason: str) -> Effects:
    """Leave a site out of every open question with what it has answered; a workflow that has heard it starts anew."""
    heard = False
    for question in job.questions.values():
        task = question.tasks.get(site)
        if task is not None and task.state != "left_out":
            heard = heard or (task.state == "received" and site in _told(question))
            yield effects.Save(question.put(move(task, "left_out", reason=reason)))
    if heard:
        unheard(job)
        yield effects.RestartFlow(job.record.id)
    else:
        yield from without_refusers(job)


def without_refusers(job: LiveJob) -> Effects:
    """Go on without those who refused the job, wherever that leaves enough answers."""
    for question in job.questions.values():
        yield from _tell(job, question)


def expire(job: LiveJob, now: Now) -> Effects:
    """Leave out whoever is past the deadline or the grace, or without progress for the job's patience."""
    for question in job.questions.values():
        if question.ended or question.wake > now.mono:
            continue
        for site in list(question.awaited):
            reason = late(job, question, site, now)
            if not reason:
                continue
            if PATIENCE in reason:
                yield from _send_away(job, site, reason)
            out = question.put(move(question.tasks[site], "left_out", reason=reason))
            yield effects.Save(out, wait=False)
            yield effects.SendCancel(site, job.record.id, question.record.id)
        question.wake = next_wake(job, question)
        yield from _tell(job, question)


def _send_away(job: LiveJob, site: SiteName, reason: str) -> Effects:
    member = job.members[site]
    if member.state in ("starting", "ready"):
        job.members[site] = member = move(member, "away", reason=reason)
        yield effects.Save(member, wait=False)


def back(job: LiveJob, site: SiteName, state: str = "ready") -> Effects:
    """A sign of life of a member: it takes part from the next round on."""
    member = job.members.get(site)
    if member is not None and member.state in ("away", "starting") and member.state != state:
        job.members[site] = member = move(member, state, reason="")
        yield effects.Save(member, wait=False)


def _tell(job: LiveJob, question: OpenQuestion) -> Effects:
    """Tell the workflow every answer that no other can precede any more; end the question when all are in."""
    if question.ended or not question.heard:
        return
    yield from _leave_out_refusers(job, question)
    while (task := question.at(question.told)) is not None:
        yield effects.TellAnswer(task)
        question.told += 1
    need, got = question.record.at_least, question.counts["received"]
    if got + len(question.awaited) < need or question.told == len(question.tasks):
        question.ended = True
        yield effects.TellEnd(job.record.id, question.record.id, _too_few(question) if got < need else "")


def _leave_out_refusers(job: LiveJob, question: OpenQuestion) -> Effects:
    """Leave out those who refused the job once nobody else is awaited and enough have answered.

    Until then, and if too few have, they may still change their minds, for as long as the job's patience lasts.
    """
    if question.counts["received"] < question.record.at_least:
        return
    for site in question.awaited:
        if not refuses(job, site):
            return
    for site in list(question.awaited):
        task = question.put(move(question.tasks[site], "left_out", reason=absent(job.members[site])))
        yield effects.Save(task, wait=False)


def _too_few(question: OpenQuestion) -> str:
    told = {"received": "answered", "open": "had not answered"}
    said = "; ".join(by_reason((task.site, task.reason or told[task.state]) for task in question.tasks.values()))
    asked, got = len(question.tasks), question.counts["received"]
    return (
        f"{got or 'none'} of the {asked} site{'s' * (asked != 1)} answered in round {question.record.round}; "
        f"{question.record.kind!r} needs {question.record.at_least} ({said})"
    )
