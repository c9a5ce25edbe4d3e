"""Who is asked: pure choices of sites, the same for the same seed and question."""

from __future__ import annotations

import hashlib
import random
from collections.abc import Iterable

from convoy.control.records import Question, SiteName
from convoy.control.state import LiveJob, LiveSite, State
from convoy.control.view import ReadOnlyJob, ReadOnlyState


def free(state: State, site: LiveSite) -> tuple[float, float, float]:
    """Return the cores, bytes and devices of a site that no running job holds."""
    cpu, memory, gpu = site.capacity.cpu, float(site.capacity.memory), site.capacity.gpu
    for job in state.jobs.values():
        member = job.members.get(site.name)
        if not job.over and member is not None and member.state in ("starting", "ready", "away"):
            cpu, memory, gpu = cpu - job.needs.cpu, memory - job.needs.memory, gpu - job.needs.gpu
    return cpu, memory, gpu


def fits(state: State, job: LiveJob, site: LiveSite) -> bool:
    """Whether the site has room for the job now."""
    cpu, memory, gpu = free(state, site)
    return cpu >= job.needs.cpu and memory >= job.needs.memory and gpu >= job.needs.gpu


def wanted(job: LiveJob, site: LiveSite) -> bool:
    """Whether the job wants the site and the site may take part."""
    return site.enabled and meant(job, site)


def meant(job: LiveJob, site: LiveSite) -> bool:
    """Whether the job is for this site of the federation."""
    return site.listed and (not job.needs.sites or site.name in job.needs.sites)


def eligible(state: ReadOnlyState, job: ReadOnlyJob, sites: Iterable[str]) -> list[SiteName]:
    """Return the members that can be asked, in site order; a member that is away for a moment still counts."""
    only = set(sites)
    return sorted(
        name
        for name, member in job.members.items()
        if member.state in ("starting", "ready") and (not only or name in only) and state.sites[name].welcome
    )


def draw(job: LiveJob, ask: Question, names: list[SiteName]) -> tuple[SiteName, ...]:
    """Return the cohort in site order: all, or `ask.sample` of them drawn by a hash of (the job's seed, question)."""
    if not ask.sample or ask.sample >= len(names):
        return tuple(names)
    seed = hashlib.sha256(f"{job.needs.seed}/{ask.id}".encode()).digest()
    return tuple(sorted(random.Random(seed).sample(names, ask.sample)))  # noqa: S311 - a draw, not a secret
