"""What the owner of a site decides: bundles read, approved and withdrawn, and whether a job would run here."""

from __future__ import annotations

import datetime as dt
import fcntl
import os
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Final

from convoy.control.policy import Host, Submitter, refusal
from convoy.errors import BadInput, NotFound, Refused
from convoy.node.alive import lives
from convoy.node.isolation import probe
from convoy.site import admission, bundles, refusals
from convoy.spec import approvals
from convoy.spec.approvals import Approval
from convoy.spec.job import read_job, text_of
from convoy.spec.kit import Kit, read_kit
from convoy.spec.policy import Policy, read_policy
from convoy.spec.settings import at_home, read_settings
from convoy.trust import bundle, files, folders, membership
from convoy.trust.bundle import Bundle

if TYPE_CHECKING:
    from convoy.spec.job import Job

LEAST: Final = 12  # hex digits: fewer are typed by mistake too easily


def site_of(folder: Path) -> Kit:
    """Return a site's kit. Raises `BadInput` for another's."""
    kit = at_home(read_kit(folder))
    if kit.kind != "site":
        raise BadInput(
            f"{folder} is the kit of {kind_of(kit)}", fix="this command is for a site's owner; name the site's kit"
        )
    return kit


def kind_of(kit: Kit) -> str:
    """Return whose kit it is, with its article."""
    return f"{'an' if kit.kind == 'admin' else 'a'} {kit.kind}"


# ---- bundles -------------------------------------------------------------------------------------------------------
def approved(kit: Kit) -> tuple[Approval, ...]:
    """Return what the owner has approved, as `local/approved.yaml` lists it. Raises `BadInput`."""
    return approvals.read_approvals(kit.local / "approved.yaml")


def waiting(kit: Kit) -> list[refusals.Refusal]:
    """Return the refused jobs that the site holds and that no approval is for. Raises `BadInput`."""
    known = admission.approved(kit)
    return [it for it in refusals.held(kit.work) if it.digest not in known]


def refused_bundle(kit: Kit, digest: str) -> tuple[refusals.Refusal, Bundle]:
    """Return a refused job that the site holds, and its verified bundle, whose bytes have exactly this digest.

    Raises `NotFound` where the site holds none, and what `bundle.verify` raises.
    """
    held = next((it for it in refusals.held(kit.work) if it.digest == digest), None)
    if held is None:
        raise NotFound(
            f"there is no refused bundle {digest[:64]}",
            why="its job may have ended",
            fix="convoy site refused --kit KIT",
        )
    try:
        data = _bounded(kit.work / "jobs" / held.job / "bundle")
    except FileNotFoundError as problem:
        raise NotFound("the files of the bundle are not here any more", why="its job has ended") from problem
    checked = bundle.verify(data, root_pem=kit.root_file.read_bytes(), project=kit.project, now=time.time())
    if checked.digest != digest:
        raise Refused(
            "the files at this site are not those of the refused bundle",
            why=f"their digest is {checked.digest}",
            fix="restart the site; it checks the job again",
        )
    if (checked.id, checked.submitter) != (held.job, held.submitter):
        raise Refused(
            "what the site noted of this refused job is not what its bundle says",
            why=f"it is job {checked.id[:8]} of {checked.submitter}",
            fix="restart the site; it checks the job again",
        )
    return held, checked


def kept_bundle(kit: Kit, digest: str) -> Bundle | None:
    """Return a bundle that ran here, None if it is not kept. Raises what `bundle.verify` raises.

    It may have expired since, and the root that it was signed under may be retired.
    """
    place = bundles.kept(kit.work, digest) if approvals.DIGEST.fullmatch(digest) else None
    if place is None:
        return None
    try:
        ran, data = place.stat().st_mtime, _bounded(place)
    except FileNotFoundError:  # the agent has just removed it, for newer ones
        return None
    roots = kit.root_file.read_bytes() + "".join(membership.current(kit)[0].retired).encode()
    checked = bundle.verify(data, root_pem=roots, project=kit.project, now=ran)
    return checked if checked.digest == digest else None


def _bounded(path: Path) -> bytes:
    with path.open("rb") as file:
        return file.read(bundle.MAX_BYTES + 1)


def approve(kit: Kit, digest: str, note: str, *, now: float, places: Sequence[Path] = ()) -> bool:
    """Approve the bundle of a whole digest, and return whether the site's agent runs and was told. Raises `BadInput`.

    `places`: other paths by which the kit may have been started.
    """
    with _alone(kit):
        known = approved(kit)
        if digest not in {approval.digest for approval in known}:
            when = dt.datetime.fromtimestamp(now, tz=dt.UTC).isoformat(timespec="seconds")
            _keep(kit, [*known, Approval(digest, when, note)])
    return tell(kit, places)


def withdraw(kit: Kit, digest: str) -> None:
    """Remove an approval: a job that runs goes on, and the next one needs a new approval. Raises `NotFound`."""
    with _alone(kit):
        known = approved(kit)
        left = [approval for approval in known if approval.digest != digest]
        if len(left) == len(known):
            raise NotFound(f"{digest[:64]} is not approved", why="local/approved.yaml does not list it")
        _keep(kit, left)


@contextmanager
def _alone(kit: Kit) -> Iterator[None]:
    """Let nobody else change the approvals between reading and writing them: what is withdrawn must not come back."""
    try:
        descriptor = os.open(kit.local, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    except OSError as problem:
        raise BadInput(f"{kit.local} cannot be opened", why=problem.strerror or str(problem)) from problem
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX)  # of the folder: the file itself is replaced when it is written
        yield
    finally:
        os.close(descriptor)


def _keep(kit: Kit, listed: list[Approval]) -> None:
    """Write local/approved.yaml. Raises `BadInput` where it cannot be written, as where a cluster mounts it."""
    text = approvals.written(listed)
    try:
        files.write(kit.local / "approved.yaml", text.encode(), mode=0o644)
    except OSError as problem:
        last = text.splitlines()[-1]
        raise BadInput(
            f"{kit.local / 'approved.yaml'} cannot be written",
            why=problem.strerror or str(problem),
            fix=f"add this line to the source of that file, and restart the site: {last}"
            if listed
            else "remove the line from the source of that file, and restart the site",
        ) from problem


def running(kit: Kit, places: Sequence[Path] = ()) -> int:
    """Return the process id of the site's agent; 0 if none runs."""
    try:
        pid = int(kit.pid_file.read_text()[:20])
    except (OSError, ValueError):
        return 0
    return pid if pid > 0 and any(lives(pid, place) for place in (kit.root, *places)) else 0


def tell(kit: Kit, places: Sequence[Path] = ()) -> bool:
    """Tell the site's agent to look again at what it refused; return whether one runs. Raises `BadInput`."""
    pid = running(kit, places)
    if not pid:
        return False
    try:
        os.kill(pid, refusals.AGAIN)
    except ProcessLookupError:
        return False
    except PermissionError as problem:
        raise BadInput(
            f"the approval is written, but the site's agent (process {pid}) cannot be told of it",
            why="it runs as another user",
            fix="restart the site, or approve the bundle once more as the user who runs it",
        ) from problem
    return True


# ---- would it run --------------------------------------------------------------------------------------------------
@dataclass(frozen=True, slots=True)
class Verdict:
    """Whether a site would take a job; `refused` is the rule that says no, with its line."""

    job: Job
    who: Submitter
    site: str
    policy: Policy
    refused: Refused | None


def judge(kit: Kit, path: Path, *, policy: Path | None = None, person: str = "") -> Verdict:
    """Return whether a site would take a job folder or a signed bundle. Raises `BadInput`, `NotAllowed`."""
    rules = read_policy(policy or kit.local / "policy.yaml")
    job, digest, signer = _bundled(path, kit) if path.is_file() else _folder(path)
    who = admission.submitter(kit, signer or person or _self(kit))
    site = kit.name if kit.kind == "site" else job.sites[0] if job.sites else "the site"
    pods = kit.kind != "site" or read_settings(kit).launcher == "kubernetes"
    missing = {} if pods else probe(kit.root).missing
    host = Host(site, kit.org, admission.approved(kit), makes_pods=pods, missing=missing)
    return Verdict(job, who, site, rules, refusal(rules, job, who, host, digest))


def _bundled(path: Path, kit: Kit) -> tuple[Job, str, str]:
    """Return a signed bundle's job.yaml, digest and submitter."""
    data, root_pem = _bounded(path), kit.root_file.read_bytes()
    checked = bundle.verify(data, root_pem=root_pem, project=kit.project, now=time.time())
    return read_job(text_of(checked.files), "job.yaml"), checked.digest, checked.submitter


def _folder(path: Path) -> tuple[Job, str, str]:
    """Return a folder's job.yaml: it has no digest yet, and nobody has signed it."""
    found = folders.gather_job(path)
    return read_job(found["job.yaml"].decode(errors="replace"), str(path / "job.yaml")), "", ""


def people(kit: Kit) -> list[str]:
    """Return the names of those who may submit jobs, as federation.json lists them."""
    return sorted(name for name, who in membership.current(kit)[0].participants.items() if who.kind == "admin")


def _self(kit: Kit) -> str:
    """Return the person whose kit it is. Raises `BadInput` for a node's."""
    if kit.kind == "admin":
        return kit.name
    raise BadInput(
        "the submitter of the job is not known",
        why=f"federation.json lists {', '.join(people(kit))}",
        fix="name one with --as PERSON",
    )
