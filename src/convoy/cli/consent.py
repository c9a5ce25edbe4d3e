"""What the owner of a site asks and says on the spot: would this job run here, what was refused, this one may."""

from __future__ import annotations

import datetime as dt
import os
import time
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Final

from convoy.cli import processes, whose
from convoy.cli.output import Screen, size
from convoy.control.policy import Host, refusal
from convoy.errors import BadInput, NotFound
from convoy.node.isolation import probe
from convoy.site import admission, refusals
from convoy.spec import approvals
from convoy.spec.job import read_job, text_of
from convoy.spec.kit import Kit, read_kit
from convoy.spec.policy import read_policy
from convoy.spec.settings import at_home, read_settings
from convoy.trust import bundle, files, folders, roll

if TYPE_CHECKING:
    from convoy.spec.job import Job

LEAST: Final = 12  # hex digits: fewer are typed by mistake too easily


def check(screen: Screen, path: Path, named: str, file: Path | None, person: str) -> None:
    """Say that a site would take a job. Raises the `Refused` of the rule that says no, `BadInput`, `NotAllowed`."""
    kit = whose.find(named, "", here=Path.cwd()).kit
    if kit.kind != "site" and file is None:
        raise BadInput(
            f"{kit.root} is the kit of {_kind(kit)} and contains no site policy",
            fix="name a site's kit with --kit FOLDER, or its policy with --policy FILE",
        )
    policy = read_policy(file or kit.local / "policy.yaml")
    job, digest, signer = _bundled(path, kit) if path.is_file() else _folder(path)
    who = admission.submitter(kit, signer or person or _self(kit))
    site = kit.name if kit.kind == "site" else job.sites[0] if job.sites else "the site"
    pods = kit.kind != "site" or read_settings(kit).launcher == "kubernetes"
    missing = {} if pods else probe(kit.root).missing
    host = Host(site, kit.org, admission.approved(kit), makes_pods=pods, missing=missing)
    problem = refusal(policy, job, who, host, digest)
    if problem is not None:
        raise problem
    screen.data({"job": job.name, "site": site, "submitter": who.name, "allowed": True})
    screen.line(f"{site} would take {job.name} from {who.name}, {who.role} of {who.org}")
    if kit.kind != "site":
        screen.line(
            f"`own` means {kit.org} here, the organisation of this kit; at a site it means the site's organisation"
        )
    kept = [what.replace("live", "live metrics") for what, leaves in asdict(policy.leave).items() if not leaves]
    if kept:
        screen.line(f"its {' and '.join(kept)} would stay at the site, because of `leave` in the policy")


def _bundled(path: Path, kit: Kit) -> tuple[Job, str, str]:
    """Return a signed bundle's job.yaml, digest and submitter."""
    data, root_pem = path.read_bytes(), kit.root_file.read_bytes()
    checked = bundle.verify(data, root_pem=root_pem, project=kit.project, now=time.time())
    return read_job(text_of(checked.files), "job.yaml"), checked.digest, checked.submitter


def _folder(path: Path) -> tuple[Job, str, str]:
    """Return a folder's job.yaml: it has no digest yet, and nobody has signed it."""
    found = folders.gather_job(path)
    return read_job(found["job.yaml"].decode(errors="replace"), str(path / "job.yaml")), "", ""


def _self(kit: Kit) -> str:
    """Return the person whose kit it is. Raises `BadInput` for a node's."""
    if kit.kind == "admin":
        return kit.name
    people = sorted(name for name, who in roll.current(kit)[0].participants.items() if who.kind == "admin")
    raise BadInput(
        "the submitter of the job is not known",
        why=f"federation.json lists {', '.join(people)}",
        fix="name one with --as PERSON",
    )


def refused(screen: Screen, folder: Path) -> None:
    """List what a site's policy refused of the jobs that it still holds."""
    kit = _site(folder)
    found = [it for it in refusals.held(kit.work) if it.digest not in admission.approved(kit)]
    screen.data({"refused": [asdict(it) for it in found]})
    rows = [(it.digest[:LEAST], it.name, f"{it.submitter} ({it.role} of {it.org})", it.reason) for it in found]
    screen.table(("digest", "job", "submitter", "refused because"), rows, empty="no job waits for approval")


def written_out(screen: Screen, folder: Path, digest: str, place: Path) -> None:
    """Write a refused bundle's files into a new folder, to be read. Raises `NotFound`, `BadInput`, `NotAllowed`."""
    kit = _site(folder)
    held = refusals.held(kit.work)
    whole, about = _meant(digest, held)
    job = next((it.job for it in held if it.digest == whole), "")
    if not job:
        raise NotFound(
            f"there is no refused bundle {digest}", why="its job may have ended", fix="convoy site refused --kit KIT"
        )
    if place.exists():
        raise BadInput(f"{place} already exists", fix="name a folder that does not exist yet")
    data = (kit.work / "jobs" / job / "bundle").read_bytes()
    checked = bundle.verify(data, root_pem=kit.root_file.read_bytes(), project=kit.project, now=time.time())
    bundle.unpack(checked, place)
    screen.data({"digest": whole, "folder": str(place), "files": sorted(checked.files)})
    screen.line(f"the files of {about}, as they were signed, are in {place}")
    screen.table(("file", "size"), [(name, size(len(checked.files[name]))) for name in sorted(checked.files)])


def approve(screen: Screen, folder: Path, digest: str, note: str, *, now: float) -> None:
    """Approve a bundle and tell the site's agent. Raises `BadInput`, and `NotFound` where no refused one is meant."""
    kit = _site(folder)
    known = approvals.read_approvals(kit.local / "approved.yaml")
    whole, about = _meant(digest, refusals.held(kit.work))
    if whole not in {approval.digest for approval in known}:
        when = dt.datetime.fromtimestamp(now, tz=dt.UTC).isoformat(timespec="seconds")
        _keep(kit, [*known, approvals.Approval(whole, when, note or about)])
    told = _told(kit, folder)
    screen.data({"digest": whole, "site": kit.name, "told": told})
    screen.line(f"{kit.name} may run {about or 'the bundle'} ({whole[:LEAST]}…): it is listed in local/approved.yaml")
    if not about:
        screen.line("this site has not refused a job with that bundle; `convoy site refused` lists the refused jobs")
    screen.line(
        "the site's agent asks for the job again"
        if told
        else "the site's agent is not running; it accepts the job at its next start"
    )


def _keep(kit: Kit, approved: list[approvals.Approval]) -> None:
    """Write local/approved.yaml. Raises `BadInput` where it cannot be written, as where a cluster mounts it."""
    text = approvals.written(approved)
    try:
        files.write(kit.local / "approved.yaml", text.encode(), mode=0o644)
    except OSError as problem:
        raise BadInput(
            f"{kit.local / 'approved.yaml'} cannot be written",
            why=problem.strerror or str(problem),
            fix=f"add this line to the source of that file, and restart the site: {text.splitlines()[-1]}",
        ) from problem


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


def _told(kit: Kit, folder: Path) -> bool:
    """Tell the site's agent to look again at what it refused; return whether one runs."""
    try:
        pid = int(kit.pid_file.read_text())
    except (OSError, ValueError):
        return False
    if not any(processes.lives(pid, place) for place in (kit.root, folder.absolute())):
        return False
    os.kill(pid, refusals.AGAIN)
    return True


def _site(folder: Path) -> Kit:
    """Return a site's kit. Raises `BadInput` for another's."""
    kit = at_home(read_kit(folder))
    if kit.kind != "site":
        raise BadInput(
            f"{folder} is the kit of {_kind(kit)}", fix="this command is for a site's owner; name the site's kit"
        )
    return kit


def _kind(kit: Kit) -> str:
    return f"{'an' if kit.kind == 'admin' else 'a'} {kit.kind}"
