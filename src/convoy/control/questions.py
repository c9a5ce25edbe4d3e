"""Steps: a workflow's question to a cohort, its answers told in site order, its deadline and the patience."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from dataclasses import replace
from types import MappingProxyType
from typing import Final

from convoy.control import cohort, effects, events
from convoy.control.records import Member, Question, SiteName, Task
from convoy.control.state import LiveJob, LiveSite, OpenQuestion, State
from convoy.control.transitions import move

Effects = Iterator[effects.Effect]

PATIENCE: Final = "the job's patience"  # in these words a cause says that it ran out
DISABLED: Final = "disabled by an admin"


def ask(state: State, job: LiveJob, event: events.Asked, now: float) -> Effects:
    """Open a question, go on with one that is open, or wait for enough sites."""
    if event.rounds > job.record.rounds:
        job.record = replace(job.record, rounds=event.rounds)
        yield effects.Save(job.record, wait=False)
    known = job.questions.get(event.question)
    if known is not None:  # a restarted workflow asks again: the same shares, from the first
        known.heard, known.told = True, 0
        known.ended = False
        job.pending = None
        yield from _tell(job, known)
        return
    if never := _never(job, event):
        yield effects.TellEnd(job.record.id, event.question, never)
        return
    names = cohort.eligible(state, job, event.sites)
    if len(names) < max(event.at_least, 1):
        if job.pending != event:
            job.pending, job.pending_since = event, now
        return
    job.pending = None
    chosen = cohort.draw(job, event, names)
    record = Question(
        job=job.record.id,
        question=event.question,
        kind=event.kind,
        round=event.round,
        rounds=event.rounds,
        model=event.model,
        at_least=event.at_least,
        cohort=chosen,
        deadline_s=event.deadline_s,
        max_norm=event.max_norm,
        numbers=dict(event.numbers),
    )
    tasks = {site: Task(job=record.job, question=record.question, site=site, state="open") for site in chosen}
    question = job.questions[event.question] = OpenQuestion(record, asked_at=now, tasks=tasks, heard=True)
    question.wake = _next_wake(job, question)
    yield effects.Save(record, wait=False)
    for site in chosen:
        if state.sites[site].connected:
            yield effects.SendTask(site, record)


def _never(job: LiveJob, ask: events.Asked) -> str:
    """Say why no wait will bring the sites that are asked; nothing if one may: a site can join later."""
    part = job.needs.sites
    strangers = sorted({*ask.sites} - part) if part else []
    if strangers:
        return f"{ask.kind!r} asks {', '.join(strangers)}; in this job are {', '.join(sorted(part))}"
    most = min(len({*ask.sites} or part) or math.inf, ask.sample or math.inf)
    if ask.at_least > most:
        return f"{ask.kind!r} needs answers of {ask.at_least} sites and can ask {most}"
    return ""


def too_few_there(state: State, job: LiveJob, ask: events.Asked) -> str:
    """Say that too few sites could be asked for longer than the patience, and why the others could not."""
    there = cohort.eligible(state, job, ask.sites)
    away = sorted({*map(SiteName, ask.sites)} or job.members.keys())
    why = {
        name: absent(job.members[name]) if name in job.members else "takes no part in this job"
        for name in away
        if name not in there
    }
    return (
        f"{len(there)} of the {max(ask.at_least, 1)} sites that {ask.kind!r} needs were there for "
        f"{job.needs.patience_s:g} s, {PATIENCE}"
        + (f" ({'; '.join(f'{name}: {reason}' for name, reason in why.items())})" if why else "")
    )


def stuck(job: LiveJob) -> str:
    """Say which sites refused the job, and why, where it waits for them alone; nothing while it goes on."""
    refused = sorted(member.site for member in job.members.values() if member.state == "refused")
    waits = job.pending is not None or 0 < len(job.waiting_for) == len({*job.waiting_for} & {*refused})
    if job.record.state != "running" or not waits:
        return ""
    return "; ".join(f"{site} {absent(job.members[site])}" for site in refused)


def delayed(job: LiveJob) -> str:
    """Say which workers wait for something before they run, such as a machine with a GPU."""
    if job.over:
        return ""
    waiting = [one for one in job.members.values() if one.state in ("starting", "ready") and one.reason]
    sites = [f"{one.site}: {one.reason}" for one in sorted(waiting, key=lambda one: one.site)]
    return "; ".join([*([f"the workflow: {job.flow_waits}"] if job.flow_waits else []), *sites])


def reopen(job: LiveJob, record: Question, tasks: list[Task], now: float) -> None:
    """Take up a question that was open when the server went: tasks without a record are open."""
    known = {task.site: task for task in tasks}
    order = {
        site: known.get(site) or Task(job=record.job, question=record.question, site=site, state="open")
        for site in record.cohort
    }
    question = job.questions[record.question] = OpenQuestion(record, asked_at=now, tasks=order)
    question.wake = _next_wake(job, question)


def unheard(job: LiveJob) -> None:
    """The workflow that asked is gone: the next one is told when it questions."""
    job.pending = None
    for question in job.questions.values():
        question.heard = False


def retry_pending(state: State, job: LiveJob, now: float) -> Effects:
    """Ask again if an ask was waiting for sites."""
    if job.pending is not None and job.record.state == "running":
        yield from ask(state, job, job.pending, now)


def resend(state: State, job: LiveJob, site: SiteName) -> Effects:
    """Send a site that came back its open tasks."""
    for question in job.questions.values():
        task = question.tasks.get(site)
        if task is not None and task.state == "open" and state.sites[site].connected:
            yield effects.SendTask(site, question.record)


def updated(job: LiveJob, event: events.Updated, now: float) -> Effects:
    """Count an update once; a resend gets the same receipt, another body for the same task is refused."""
    site, key = event.site, (event.job, event.question)
    job.seen[site] = now
    question = job.questions.get(event.question)
    task = None if question is None else question.tasks.get(site)
    if question is None or task is None:
        yield from _unknown(job, site, event.question)
        return
    if task.state == "left_out":
        yield effects.SendReject(site, *key, reason=f"late: {task.reason}")
        return
    if task.digest and task.digest != event.digest:
        yield effects.Conflict(site, *key)
        yield effects.SendReject(site, *key, reason="this task was answered before, with another body")
        return
    if task.state == "open":
        question.tasks[site] = task = move(
            task, "received", digest=event.digest, weight=event.weight, metrics=dict(event.metrics)
        )
        yield effects.Save(task)
    yield effects.SendReceipt(site, *key, digest=event.digest)
    yield from _tell(job, question)


def _unknown(job: LiveJob, site: SiteName, question: str) -> Effects:
    round_ = int(question.split(".", 1)[0]) if question.split(".", 1)[0].isdigit() else -1
    if 0 < round_ <= job.committed:
        yield effects.SendCommitted(site, job.record.id, job.committed)
    else:
        yield effects.SendReject(site, job.record.id, question, reason="nobody asked this site for that")


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
    question.tasks[event.site] = task = move(task, "left_out", reason=reason, traceback=event.traceback)
    yield effects.Save(task, wait=False)
    yield effects.SendReject(event.site, event.job, event.question, reason=reason)
    yield from _tell(job, question)


def lost(state: State, job: LiveJob, event: events.Lost) -> Effects:
    """Ask again, under the same id and digest, for an update that the disk has lost."""
    question = job.questions.get(event.question)
    task = None if question is None else question.tasks.get(event.site)
    if question is None or task is None or task.state != "received":
        return
    question.tasks[event.site] = task = move(task, "open")
    question.wake = _next_wake(job, question)
    yield effects.Save(task, wait=False)
    yield from resend(state, job, event.site)


def leave_out(job: LiveJob, site: SiteName, reason: str) -> Effects:
    """Leave a site out of every open question."""
    for question in job.questions.values():
        if site in question.tasks:
            yield from unusable(job, events.Unusable(job.record.id, question.record.question, site, reason))


def drop(job: LiveJob, site: SiteName, reason: str) -> Effects:
    """Leave a site out of every open question with what it has answered; a workflow that has heard it starts anew."""
    heard = False
    for question in job.questions.values():
        task = question.tasks.get(site)
        if task is not None and task.state != "left_out":
            heard = heard or (task.state == "received" and list(question.tasks).index(site) < question.told)
            question.tasks[site] = gone = move(task, "left_out", reason=reason)
            yield effects.Save(gone)
    if heard:
        unheard(job)
        yield effects.RestartFlow(job.record.id)
    else:
        yield from without_refusers(job)


def without_refusers(job: LiveJob) -> Effects:
    """Go on without those who refused the job, wherever that leaves enough answers."""
    for question in job.questions.values():
        yield from _tell(job, question)


def expire(job: LiveJob, now: float) -> Effects:
    """Leave out whoever is past the deadline or without progress for the job's patience."""
    for question in job.questions.values():
        if question.ended or question.wake > now:
            continue
        deadline, patience = _deadline(question), job.needs.patience_s
        for site, task in list(question.tasks.items()):
            if task.state != "open":
                continue
            if now >= deadline:
                reason = f"no answer within the round's deadline of {question.record.deadline_s:g} s"
            elif now >= _last(job, question, site) + patience:
                quiet, waits = f"for {patience:g} s, {PATIENCE}", job.members[site].reason
                reason = f"{absent(job.members[site])}; so {quiet}" if _refuses(job, site) else f"no progress {quiet}"
                reason += f"; {waits}" if waits and job.members[site].state in ("starting", "ready") else ""
                yield from _send_away(job, site, reason)
            else:
                continue
            question.tasks[site] = late = move(task, "left_out", reason=reason)
            yield effects.Save(late, wait=False)
            yield effects.SendCancel(site, job.record.id, question.record.question)
        question.wake = _next_wake(job, question)
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


def shift(job: LiveJob, seconds: float, now: float) -> None:
    """Move what the job's sites are measured by: for so long nobody could get an answer through."""
    job.pending_since = min(job.pending_since + seconds, now)
    for site, seen in job.seen.items():
        job.seen[site] = min(seen + seconds, now)
    for question in job.questions.values():
        question.asked_at = min(question.asked_at + seconds, now)
        question.wake = _next_wake(job, question)


def _deadline(question: OpenQuestion) -> float:
    return question.asked_at + question.record.deadline_s if question.record.deadline_s else math.inf


def _last(job: LiveJob, question: OpenQuestion, site: SiteName) -> float:
    return max(question.asked_at, job.seen.get(site, question.asked_at))


def _next_wake(job: LiveJob, question: OpenQuestion) -> float:
    quiet = [_last(job, question, site) for site, task in question.tasks.items() if task.state == "open"]
    return min(_deadline(question), min(quiet) + job.needs.patience_s) if quiet else math.inf


def _tell(job: LiveJob, question: OpenQuestion) -> Effects:
    """Tell the workflow every answer that no earlier site can precede any more; end the question when all are in."""
    if question.ended or not question.heard:
        return
    yield from _leave_out_refusers(job, question)
    order = list(question.tasks.values())
    while question.told < len(order) and order[question.told].state != "open":
        yield effects.TellShare(order[question.told])
        question.told += 1
    need, got = question.record.at_least, question.count("received")
    if got + question.count("open") < need or question.told == len(order):
        question.ended = True
        yield effects.TellEnd(job.record.id, question.record.question, _too_few(question) if got < need else "")


def _leave_out_refusers(job: LiveJob, question: OpenQuestion) -> Effects:
    """Leave out those who refused the job once nobody else is awaited and enough have answered.

    Until then, and if too few have, they may still change their minds, for as long as the job's patience lasts.
    """
    awaited = [site for site, task in question.tasks.items() if task.state == "open"]
    if question.count("received") < question.record.at_least or not all(_refuses(job, site) for site in awaited):
        return
    for site in awaited:
        question.tasks[site] = task = move(question.tasks[site], "left_out", reason=absent(job.members[site]))
        yield effects.Save(task, wait=False)


def _refuses(job: LiveJob, site: SiteName) -> bool:
    return job.members[site].state == "refused"


def _too_few(question: OpenQuestion) -> str:
    told = {"received": "answered", "open": "had not answered"}
    said = "; ".join(f"{task.site}: {task.reason or told[task.state]}" for task in question.tasks.values())
    return (
        f"{question.count('received')} of the {question.record.at_least} sites that {question.record.kind!r} needs "
        f"answered in round {question.record.round} ({said})"
    )


def contribution(
    state: State, job: LiveJob, round_: int, uncounted: Mapping[str, str] = MappingProxyType({})
) -> tuple[tuple[tuple[str, float], ...], tuple[tuple[str, str], ...]]:
    """Return who took part in a round, with weights, and who was left out, with reasons.

    `uncounted`: the sites whose answers came and that the workflow left out, with its reasons.
    """
    took: dict[str, float] = {}
    out: dict[str, str] = {}
    asked: set[str] = set()
    questions = [question for question in job.questions.values() if question.record.round == round_]
    models = any(
        task.digest for question in questions for task in question.tasks.values()
    )  # measuring is not taking part
    for question in questions:
        for task in question.tasks.values():
            asked.add(task.site)
            if task.state == "received" and (task.digest or not models):
                took.setdefault(task.site, task.weight)
            elif task.state != "received":
                out.setdefault(task.site, f"{question.record.kind}: {task.reason or 'had not answered'}")
    for name in took.keys() & uncounted.keys():
        del took[name]
        out[name] = uncounted[name]
    for member in job.members.values():
        if asked and member.site not in asked:
            out.setdefault(member.site, absent(member) if state.sites[member.site].enabled else DISABLED)
    for site in state.sites.values():
        if asked and cohort.meant(job, site) and site.name not in job.members:
            out.setdefault(site.name, _outside(site))
    return tuple(sorted(took.items())), tuple(sorted(out.items()))


def _outside(site: LiveSite) -> str:
    """Return why a site that the job means is no member of it."""
    if not site.enabled:
        return DISABLED
    return "has no room for the job" if site.connected else "not connected"


def absent(member: Member) -> str:
    """Return why a member was not asked."""
    match member.state:
        case "refused":
            return f"refused the job: {member.reason}"
        case "away":
            return member.reason or "away"
        case _:
            return "not asked in this round"


def forget_rounds(job: LiveJob, round_: int) -> None:
    """Drop questions of committed rounds from memory; their records stay in the store.

    What was asked before the first round stays: a workflow that starts anew asks it again.
    """
    for question in [question for question in job.questions.values() if 0 < question.record.round <= round_]:
        del job.questions[question.record.question]
