"""What the owner of a site asks and says on the spot: would this job run here, what was refused, this one may."""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path

from convoy.cli import identity
from convoy.cli.output import Screen, size
from convoy.errors import BadInput, NotFound
from convoy.flows.catalog import kinds_of
from convoy.owner import consent
from convoy.owner.consent import LEAST
from convoy.site import refusals
from convoy.site.record import described
from convoy.spec import approvals
from convoy.spec.filters import Filter
from convoy.trust import bundle


def check(screen: Screen, path: Path, named: str, file: Path | None, person: str) -> None:
    """Say that a site would take a job. Raises the `Refused` of the rule that says no, `BadInput`, `NotAllowed`."""
    kit = identity.find(named, "", here=Path.cwd()).kit
    if kit.kind != "site" and file is None:
        raise BadInput(
            f"{kit.root} is the kit of {consent.kind_of(kit)} and contains no site policy",
            fix="name a site's kit with --kit FOLDER, or its policy with --policy FILE",
        )
    found = consent.judge(kit, path, policy=file, person=person)
    if found.refused is not None:
        raise found.refused
    job, who, site = found.job, found.who, found.site
    screen.data({"job": job.name, "site": site, "submitter": who.name, "allowed": True})
    screen.line(f"{site} would take {job.name} from {who.name}, {who.role} of {who.org}")
    if kit.kind != "site":
        screen.line(
            f"`own` means {kit.org} here, the organisation of this kit; at a site it means the site's organisation"
        )
    leave = asdict(found.policy.leave)
    kept = [what.replace("live", "live metrics") for what, leaves in leave.items() if not leaves]
    if kept:
        screen.line(f"its {' and '.join(kept)} would stay at the site, because of `leave` in the policy")
    asked = kinds_of(job.workflow, job.with_)
    for one in found.policy.filters:
        screen.line(_passes(one, job.workflow, asked))


def _passes(one: Filter, workflow: str, asked: tuple[str, ...]) -> str:
    """Return to which answers of a job a filter would apply; `asked`: the questions of its workflow, empty: unknown."""
    kinds, questions = " and ".join(one.kinds), " and ".join(asked)
    if one.kinds and asked and not {*one.kinds} & {*asked}:
        return f"the filter {described(one)} would not apply: it is for {kinds}, and {workflow} asks {questions}"
    to = f"to its answers to {kinds}" if one.kinds else "to its answers"
    return f"the filter {described(one)} would apply {to}"


def refused(screen: Screen, folder: Path) -> None:
    """List what a site's policy refused of the jobs that it still holds."""
    found = consent.waiting(consent.site_of(folder))
    screen.data({"refused": [asdict(it) for it in found]})
    rows = [(it.digest[:LEAST], it.name, f"{it.submitter} ({it.role} of {it.org})", it.reason) for it in found]
    screen.table(("digest", "job", "submitter", "refused because"), rows, empty="no job waits for approval")


def written_out(screen: Screen, folder: Path, digest: str, place: Path) -> None:
    """Write a refused bundle's files into a new folder, to be read. Raises `NotFound`, `BadInput`, `NotAllowed`."""
    kit = consent.site_of(folder)
    whole, about = _meant(digest, refusals.held(kit.work))
    _, checked = consent.refused_bundle(kit, whole)
    if place.exists():
        raise BadInput(f"{place} already exists", fix="name a folder that does not exist yet")
    bundle.unpack(checked, place)
    screen.data({"digest": whole, "folder": str(place), "files": sorted(checked.files)})
    screen.line(f"the files of {about}, as they were signed, are in {place}")
    screen.table(("file", "size"), [(name, size(len(checked.files[name]))) for name in sorted(checked.files)])


def approve(screen: Screen, folder: Path, digest: str, note: str, *, now: float) -> None:
    """Approve a bundle and tell the site's agent. Raises `BadInput`, and `NotFound` where no refused one is meant."""
    kit = consent.site_of(folder)
    whole, about = _meant(digest, refusals.held(kit.work))
    told = consent.approve(kit, whole, note or about, now=now, places=[folder.absolute()])
    screen.data({"digest": whole, "site": kit.name, "told": told})
    screen.line(f"{kit.name} may run {about or 'the bundle'} ({whole[:LEAST]}…): it is listed in local/approved.yaml")
    if not about:
        screen.line("no job with that bundle waits here: it may have ended, and then it has to be submitted anew")
        screen.line("`convoy site refused` lists the refused jobs that wait; this approval is for that bundle alone")
    elif told:
        screen.line("the site's agent asks for the job again")
    else:
        screen.line("the site's agent is not running; it accepts the job at its next start")


def _meant(digest: str, held: list[refusals.Refusal]) -> tuple[str, str]:
    """Return the whole digest, and what it is of where the site has refused it."""
    wanted = digest.lower()
    found = {it.digest: f"{it.name} of {it.submitter}" for it in held if it.digest.startswith(wanted)}
    if approvals.DIGEST.fullmatch(wanted):
        return wanted, found.get(wanted, "")
    if len(wanted) < LEAST or set(wanted) - set("0123456789abcdef"):
        why = f"wanted 64 hex digits, or the first {LEAST} or more of a bundle that this site refused"
        raise BadInput(f"{digest!r} is not a digest", why=why, fix="convoy site refused --kit KIT")
    if len(found) != 1:
        why = "; ".join(f"{whole} is {about}" for whole, about in found.items()) or "its job may have ended"
        what = f"{len(found) or 'no'} bundles that this site refused begin with {digest}"
        raise NotFound(what, why=why, fix="list them with `convoy site refused --kit KIT`, or give all 64 digits")
    return next(iter(found.items()))
