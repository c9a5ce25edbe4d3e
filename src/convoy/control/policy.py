"""What keeps a site from taking a job: the rule of its policy that says no, with its line."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass, field
from fnmatch import fnmatchcase
from typing import TYPE_CHECKING

from convoy.control.rights import allows
from convoy.errors import Refused
from convoy.spec.policy import OWN, Policy, Rule

if TYPE_CHECKING:
    from convoy.spec.job import Job


@dataclass(frozen=True, slots=True)
class Submitter:
    """Who asks for a job, as the signed federation.json knows them."""

    name: str
    org: str
    role: str


@dataclass(frozen=True, slots=True)
class Host:
    """The site that is asked, and the digests of the bundles that its owner has approved."""

    name: str
    org: str
    approved: Collection[str] = ()
    makes_pods: bool = False  # jobs run there in pods of their own, which may have another image
    missing: Mapping[str, str] = field(default_factory=dict)  # what jobs are not isolated from there, and why


def refusal(policy: Policy, job: Job, who: Submitter, host: Host, digest: str = "") -> Refused | None:
    """Return why a site does not take a job, None if it does; `digest` is the bundle's, empty: not signed yet.

    An approval stands in for a rule that lets the submitter run code, and for nothing else.
    """
    if not allows(who.role, "submit", own=True, same_org=True):
        return Refused(f"{who.name} may not submit jobs", why=f"role {who.role}")
    if job.sites is not None and host.name not in job.sites:
        return Refused(f"the job is not for {host.name}", why=f"it names {', '.join(job.sites)}")
    found = (
        _workflow(policy, job, host)
        or _image(policy, job, host)
        or _limits(policy, job, host)
        or _isolation(policy, host)
        or _tables(policy, job, host)
    )
    if found is not None or any(fits(rule, who, host.org) for rule in policy.run) or digest in host.approved:
        return found
    return _nobody(policy, who, host, digest)


def fits(rule: Rule, who: Submitter, own: str) -> bool:
    """Return whether somebody fits every part of a rule; `own` is the site's organisation."""
    org = own if rule.org == OWN else rule.org
    parts = ((rule.person, rule.person, who.name), (rule.org, org, who.org), (rule.role, rule.role, who.role))
    given = [wanted == has for named, wanted, has in parts if named]
    return bool(given) and all(given)


def _workflow(policy: Policy, job: Job, host: Host) -> Refused | None:
    if policy.workflows is None or any(fnmatchcase(job.workflow, pattern) for pattern in policy.workflows):
        return None
    listed = ", ".join(policy.workflows) or "none"
    return Refused(
        f"{host.name} takes no part in the workflow {job.workflow}",
        why=f"{_place(policy, 'workflows')}: `workflows` lists {listed}",
        fix="name other sites in job.yaml, or ask the owner of this one",
    )


def _image(policy: Policy, job: Job, host: Host) -> Refused | None:
    if job.image is None:
        return None
    if not job.trainer:
        return Refused(
            f"{host.name} does not run the image {job.image}",
            why="the job has no trainer, and Convoy's own runs in the site's image alone",
            fix="remove `image` from job.yaml",
        )
    if host.makes_pods and any(fnmatchcase(job.image, pattern) for pattern in policy.images):
        return None
    listed = f"`images` lists {', '.join(policy.images) or 'none'}"
    return Refused(
        f"{host.name} does not run the image {job.image}",
        why=f"{_place(policy, 'images')}: {listed}"
        if host.makes_pods
        else "jobs run there as the site's own processes",
        fix="leave `image` out of job.yaml for the site's own, or ask the owner of this site",
    )


def _limits(policy: Policy, job: Job, host: Host) -> Refused | None:
    asked, most = job.resources, policy.limits
    for name, wanted, limit, unit in (
        ("cpu", asked.cpu, most.cpu, "{:g} cores"),
        ("memory", asked.memory / (1 << 20), most.memory / (1 << 20), "{:g}Mi of memory"),
        ("gpu", asked.gpu, most.gpu, "{:g} GPUs"),
    ):
        if wanted > limit:
            return Refused(
                f"the job asks for {unit.format(wanted)}",
                why=f"{_place(policy, f'limits.{name}')}: one job may ask {host.name} for {unit.format(limit)}",
                fix="ask for less in job.yaml, under `resources`",
            )
    return None


def _isolation(policy: Policy, host: Host) -> Refused | None:
    for part in policy.isolation:
        if part in host.missing:
            return Refused(
                f"{host.name} cannot isolate jobs from its {part}",
                why=f"{_place(policy, 'isolation')}: `isolation` demands it; {host.missing[part]}",
                fix="the owner of the site runs it where the kernel can, or with `launcher: kubernetes`",
            )
    return None


def _tables(policy: Policy, job: Job, host: Host) -> Refused | None:
    """A job's code could find a table that it is not given, where files are not kept from it."""
    if not job.trainer or "files" not in host.missing or not any(it.only for _, it in policy.tables):
        return None
    return Refused(
        f"{host.name} cannot keep its tables from the code of a job",
        why=f"{_place(policy, 'tables')}: `only` keeps code from a table; {host.missing['files']}",
        fix="the owner of the site runs it where the kernel can isolate files, or with `launcher: kubernetes`",
    )


def _nobody(policy: Policy, who: Submitter, host: Host, digest: str) -> Refused:
    rule = f"no rule of `run` fits a {who.role} of {who.org}"
    default = "there is no `run`, so code of its own organisation and of project_admins runs, and of nobody else"
    told = f"convoy site approve {digest} --kit KIT" if digest else "`convoy site approve`, once it is submitted"
    return Refused(
        f"{who.name} may not run code at {host.name}",
        why=f"{_place(policy, 'run')}: {rule if 'run' in policy.places else default}",
        fix=f"the owner of {host.name} may approve this bundle there: {told}",
    )


def _place(policy: Policy, key: str) -> str:
    return policy.places.get(key, "policy.yaml")
