"""Steps: a workflow's question to a cohort, its answers told in site order, its deadline and the patience."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from dataclasses import replace
from types import MappingProxyType
from typing import Final

from convoy.control import cohort, effects, events
from convoy.control.life import move
from convoy.control.records import Member, SiteName, Step, Task
from convoy.control.state import LiveJob, LiveSite, LiveStep, State

Effects = Iterator[effects.Effect]

PATIENCE: Final = "the job's patience"  # in these words a cause says that it ran out
DISABLED: Final = "disabled by an admin"


def ask(state: State, job: LiveJob, event: events.Asked, now: float) -> Effects:
    """Open a step, go on with one that is open, or wait for enough sites."""
    if event.rounds > job.record.rounds:
        job.record = replace(job.record, rounds=event.rounds)
        yield effects.Save(job.record, wait=False)
    known = job.steps.get(event.step)
    if known is not None:  # a restarted workflow asks again: the same shares, from the first
        known.heard, known.told = True, 0
        known.ended = False
        job.pending = None
        yield from _tell(job, known)
        return
    if never := _never(job, event):
        yield effects.TellEnd(job.record.id, event.step, never)
        return
    names = cohort.eligible(state, job, event.sites)
    if len(names) < max(event.at_least, 1):
        if job.pending != event:
            job.pending, job.pending_since = event, now
        return
    job.pending = None
    chosen = cohort.draw(job, event, names)
    record = Step(
        job=job.record.id,
        step=event.step,
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
    tasks = {site: Task(job=record.job, step=record.step, site=site, state="open") for site in chosen}
    step = job.steps[event.step] = LiveStep(record, asked_at=now, tasks=tasks, heard=True)
    step.wake = _next_wake(job, step)
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


def reopen(job: LiveJob, record: Step, tasks: list[Task], now: float) -> None:
    """Take up a step that was open when the server went: tasks without a record are open."""
    known = {task.site: task for task in tasks}
    order = {
        site: known.get(site) or Task(job=record.job, step=record.step, site=site, state="open")
        for site in record.cohort
    }
    step = job.steps[record.step] = LiveStep(record, asked_at=now, tasks=order)
    step.wake = _next_wake(job, step)


def unheard(job: LiveJob) -> None:
    """The workflow that asked is gone: the next one is told when it asks."""
    job.pending = None
    for step in job.steps.values():
        step.heard = False


def retry_pending(state: State, job: LiveJob, now: float) -> Effects:
    """Ask again if an ask was waiting for sites."""
    if job.pending is not None and job.record.state == "running":
        yield from ask(state, job, job.pending, now)


def resend(state: State, job: LiveJob, site: SiteName) -> Effects:
    """Send a site that came back its open tasks."""
    for step in job.steps.values():
        task = step.tasks.get(site)
        if task is not None and task.state == "open" and state.sites[site].connected:
            yield effects.SendTask(site, step.record)


def updated(job: LiveJob, event: events.Updated, now: float) -> Effects:
    """Count an update once; a resend gets the same receipt, another body for the same task is refused."""
    site, key = event.site, (event.job, event.step)
    job.seen[site] = now
    step = job.steps.get(event.step)
    task = None if step is None else step.tasks.get(site)
    if step is None or task is None:
        yield from _unknown(job, site, event.step)
        return
    if task.state == "left_out":
        yield effects.SendReject(site, *key, reason=f"late: {task.reason}")
        return
    if task.digest and task.digest != event.digest:
        yield effects.Conflict(site, *key)
        yield effects.SendReject(site, *key, reason="this task was answered before, with another body")
        return
    if task.state == "open":
        step.tasks[site] = task = move(
            task, "received", digest=event.digest, weight=event.weight, metrics=dict(event.metrics)
        )
        yield effects.Save(task)
    yield effects.SendReceipt(site, *key, digest=event.digest)
    yield from _tell(job, step)


def _unknown(job: LiveJob, site: SiteName, step: str) -> Effects:
    round_ = int(step.split(".", 1)[0]) if step.split(".", 1)[0].isdigit() else -1
    if 0 < round_ <= job.committed:
        yield effects.SendCommitted(site, job.record.id, job.committed)
    else:
        yield effects.SendReject(site, job.record.id, step, reason="nobody asked this site for that")


def unusable(job: LiveJob, event: events.Unusable) -> Effects:
    """Leave a site out of a step, with the reason."""
    step = job.steps.get(event.step)
    task = None if step is None else step.tasks.get(event.site)
    if step is None or task is None:  # so the site forgets it, and may be asked anew
        yield from _unknown(job, event.site, event.step)
        return
    if task.state != "open":
        return
    reason = event.reason or "it did not say why"
    step.tasks[event.site] = task = move(task, "left_out", reason=reason, story=event.story)
    yield effects.Save(task, wait=False)
    yield effects.SendReject(event.site, event.job, event.step, reason=reason)
    yield from _tell(job, step)


def lost(state: State, job: LiveJob, event: events.Lost) -> Effects:
    """Ask again, under the same id and digest, for an update that the disk has lost."""
    step = job.steps.get(event.step)
    task = None if step is None else step.tasks.get(event.site)
    if step is None or task is None or task.state != "received":
        return
    step.tasks[event.site] = task = move(task, "open")
    step.wake = _next_wake(job, step)
    yield effects.Save(task, wait=False)
    yield from resend(state, job, event.site)


def leave_out(job: LiveJob, site: SiteName, reason: str) -> Effects:
    """Leave a site out of every open step."""
    for step in job.steps.values():
        if site in step.tasks:
            yield from unusable(job, events.Unusable(job.record.id, step.record.step, site, reason))


def drop(job: LiveJob, site: SiteName, reason: str) -> Effects:
    """Leave a site out of every open step with what it has answered; a workflow that has heard of that starts anew."""
    heard = False
    for step in job.steps.values():
        task = step.tasks.get(site)
        if task is not None and task.state != "left_out":
            heard = heard or (task.state == "received" and list(step.tasks).index(site) < step.told)
            step.tasks[site] = gone = move(task, "left_out", reason=reason)
            yield effects.Save(gone)
    if heard:
        unheard(job)
        yield effects.RestartFlow(job.record.id)
    else:
        yield from without_refusers(job)


def without_refusers(job: LiveJob) -> Effects:
    """Go on without those who refused the job, wherever that leaves enough answers."""
    for step in job.steps.values():
        yield from _tell(job, step)


def expire(job: LiveJob, now: float) -> Effects:
    """Leave out whoever is past the deadline or without progress for the job's patience."""
    for step in job.steps.values():
        if step.ended or step.wake > now:
            continue
        deadline, patience = _deadline(step), job.needs.patience_s
        for site, task in list(step.tasks.items()):
            if task.state != "open":
                continue
            if now >= deadline:
                reason = f"no answer within the round's deadline of {step.record.deadline_s:g} s"
            elif now >= _last(job, step, site) + patience:
                quiet, waits = f"for {patience:g} s, {PATIENCE}", job.members[site].reason
                reason = f"{absent(job.members[site])}; so {quiet}" if _refuses(job, site) else f"no progress {quiet}"
                reason += f"; {waits}" if waits and job.members[site].state in ("starting", "ready") else ""
                yield from _send_away(job, site, reason)
            else:
                continue
            step.tasks[site] = late = move(task, "left_out", reason=reason)
            yield effects.Save(late, wait=False)
            yield effects.SendCancel(site, job.record.id, step.record.step)
        step.wake = _next_wake(job, step)
        yield from _tell(job, step)


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
    for step in job.steps.values():
        step.asked_at = min(step.asked_at + seconds, now)
        step.wake = _next_wake(job, step)


def _deadline(step: LiveStep) -> float:
    return step.asked_at + step.record.deadline_s if step.record.deadline_s else math.inf


def _last(job: LiveJob, step: LiveStep, site: SiteName) -> float:
    return max(step.asked_at, job.seen.get(site, step.asked_at))


def _next_wake(job: LiveJob, step: LiveStep) -> float:
    quiet = [_last(job, step, site) for site, task in step.tasks.items() if task.state == "open"]
    return min(_deadline(step), min(quiet) + job.needs.patience_s) if quiet else math.inf


def _tell(job: LiveJob, step: LiveStep) -> Effects:
    """Tell the workflow every answer that no earlier site can precede any more; end the step when all are in."""
    if step.ended or not step.heard:
        return
    yield from _leave_out_refusers(job, step)
    order = list(step.tasks.values())
    while step.told < len(order) and order[step.told].state != "open":
        yield effects.TellShare(order[step.told])
        step.told += 1
    need, got = step.record.at_least, step.count("received")
    if got + step.count("open") < need or step.told == len(order):
        step.ended = True
        yield effects.TellEnd(job.record.id, step.record.step, _too_few(step) if got < need else "")


def _leave_out_refusers(job: LiveJob, step: LiveStep) -> Effects:
    """Leave out those who refused the job once nobody else is awaited and enough have answered.

    Until then, and if too few have, they may still change their minds, for as long as the job's patience lasts.
    """
    awaited = [site for site, task in step.tasks.items() if task.state == "open"]
    if step.count("received") < step.record.at_least or not all(_refuses(job, site) for site in awaited):
        return
    for site in awaited:
        step.tasks[site] = task = move(step.tasks[site], "left_out", reason=absent(job.members[site]))
        yield effects.Save(task, wait=False)


def _refuses(job: LiveJob, site: SiteName) -> bool:
    return job.members[site].state == "refused"


def _too_few(step: LiveStep) -> str:
    told = {"received": "answered", "open": "had not answered"}
    said = "; ".join(f"{task.site}: {task.reason or told[task.state]}" for task in step.tasks.values())
    return (
        f"{step.count('received')} of the {step.record.at_least} sites that {step.record.kind!r} needs "
        f"answered in round {step.record.round} ({said})"
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
    steps = [step for step in job.steps.values() if step.record.round == round_]
    models = any(task.digest for step in steps for task in step.tasks.values())  # measuring is not taking part
    for step in steps:
        for task in step.tasks.values():
            asked.add(task.site)
            if task.state == "received" and (task.digest or not models):
                took.setdefault(task.site, task.weight)
            elif task.state != "received":
                out.setdefault(task.site, f"{step.record.kind}: {task.reason or 'had not answered'}")
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
    """Drop steps of committed rounds from memory; their records stay in the store.

    What was asked before the first round stays: a workflow that starts anew asks it again.
    """
    for step in [step for step in job.steps.values() if 0 < step.record.round <= round_]:
        del job.steps[step.record.step]
