"""The site's own word on a job: bundle, submitter, policy; and on everything that leaves."""

from __future__ import annotations

import re
import secrets
import shutil
import time
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Final

from convoy import errors
from convoy.errors import NotAllowed, Refused
from convoy.model import schema
from convoy.model.blob import MAX_HEADER, Layout
from convoy.site import refusals
from convoy.spec.approvals import read_approvals
from convoy.spec.kit import Kit
from convoy.spec.policy import Leave, Policy, read_policy
from convoy.store.blobs import BlobFolder
from convoy.trust import files, roll
from convoy.wire import convoy_pb2 as pb

if TYPE_CHECKING:
    from convoy.control.policy import Submitter
    from convoy.spec.job import Job
    from convoy.trust.bundle import Bundle

ADMITTED: Final = "admitted"  # in a job's folder: the digest of the bundle that the site took, and by its time when
_TYPE: Final = re.compile(r"([A-Za-z_][A-Za-z0-9_]{0,63})(?::|$)")  # as `worker.code.line` writes an error


@dataclass(frozen=True, slots=True)
class Admitted:
    """A job that runs here: its job.yaml, and what of it may leave beside updates."""

    spec: Job
    leave: Leave


def admit(data: bytes, job: str, folder: Path, kit: Kit, *, makes_pods: bool = False) -> Admitted:
    """Verify a bundle with this site's own root and federation.json, ask its policy, then unpack it.

    A bundle must be in time, and from a root that is trusted, when it first comes: a job that the site has taken
    outlives its bundle's expiry, and the root that it was signed under. The policy is asked each time. Raises
    `NotAllowed` for a foreign or changed bundle, `Refused` for what the policy or the submitter's role does not allow,
    `BadInput` for a policy that cannot be read.
    """
    from convoy.trust import bundle as bundles  # cryptography and pydantic come with the first job, not before

    mark = folder / ADMITTED
    now, taken = (mark.stat().st_mtime, mark.read_text()) if mark.exists() else (time.time(), "")
    retired = "".join(roll.current(kit)[0].retired).encode() if taken else b""
    checked = bundles.verify(data, root_pem=kit.root_file.read_bytes() + retired, project=kit.project, now=now)
    if taken and checked.digest != taken:
        raise NotAllowed("the bundle is another one", why=f"this site took {taken} as job {job[:32]}")
    if checked.id != job:
        raise NotAllowed(
            "the bundle is another job's", why=f"it was signed as {checked.id}, the server says {job[:32]}"
        )
    policy = read_policy(kit.local / "policy.yaml")
    spec = judged(checked, folder, kit, policy, makes_pods=makes_pods)
    code, draft = folder / "code", folder / "code.tmp"
    for old in (draft, code):
        shutil.rmtree(old, ignore_errors=True)
    bundles.unpack(checked, draft)
    draft.replace(code)
    if not mark.exists():
        mark.write_text(checked.digest)
    return Admitted(spec, policy.leave)


def judged(checked: Bundle, folder: Path, kit: Kit, policy: Policy, *, makes_pods: bool) -> Job:
    """Return the job.yaml of a verified bundle that may run here; note a refusal in the job's folder, and raise it."""
    from convoy.control.policy import Host, refusal
    from convoy.spec.job import read_job, text_of

    if checked.sites is not None and kit.name not in checked.sites:
        raise Refused(f"the bundle is not for {kit.name}", why=f"it is signed for {', '.join(checked.sites) or 'none'}")
    who = submitter(kit, checked.submitter)
    spec = read_job(text_of(checked.files), "job.yaml")
    host = Host(kit.name, kit.org, approved(kit), makes_pods=makes_pods)
    problem = refusal(policy, spec, who, host, checked.digest)
    if problem is not None:
        reason = errors.line(problem)
        refusals.note(
            folder, refusals.Refusal(checked.id, checked.digest, spec.name, who.name, who.org, who.role, reason)
        )
        raise problem
    refusals.forget(folder)
    return spec


def submitter(kit: Kit, name: str) -> Submitter:
    """Return who a person is. Raises `NotAllowed` for somebody whom federation.json does not list as an admin."""
    from convoy.control.policy import Submitter

    known = roll.current(kit)[0].person(name)
    return Submitter(name, known.org, known.role)


def approved(kit: Kit) -> frozenset[str]:
    """Return the digests of the bundles that the site's owner has approved. Raises `BadInput`."""
    return frozenset(approval.digest for approval in read_approvals(kit.local / "approved.yaml"))


def holder(step: str) -> str:
    """Return who holds the answer to a task."""
    return f"answer.{step}"


def released(kit: Kit, blobs: BlobFolder, out: Path, answer: pb.Answer, task: pb.Task) -> tuple[str, dict[str, float]]:
    """Return what of an answer may leave: the digest of the update that has passed the filters, and the metrics.

    The update is taken from the folder `out` of the trainer and held. Raises `RemoteFault` for a file that is not a
    blob, `Refused` for an update that is larger than its model, or not shaped like it where there are filters.
    """
    policy = read_policy(kit.local / "policy.yaml")
    digest = ""
    if answer.digest:
        most = blobs.read_header(task.model.digest).size + MAX_HEADER
        blobs.take(holder(task.step), out, answer.digest, lambda layout, _: _demand_size(layout, most))
        digest = _filtered(kit, policy, blobs, answer.digest, task)
    return digest, dict(answer.metrics) if policy.leave.metrics else {}


def _demand_size(update: Layout, most: int) -> None:
    if update.size > most:
        raise Refused(f"the update has {update.size} bytes", why=f"shaped like its model it has at most {most}")


def told(kit: Kit, failed: pb.TaskFailed) -> tuple[str, str]:
    """Return what of a trainer's failure may leave: its words and its traceback, or its type alone."""
    policy = read_policy(kit.local / "policy.yaml")
    if policy.leave.logs:
        return failed.error, failed.story
    found = _TYPE.match(failed.error)
    return f"{found[1] if found else 'the trainer failed'} (the rest stays at {kit.name})", ""


def _filtered(kit: Kit, policy: Policy, blobs: BlobFolder, digest: str, task: pb.Task) -> str:
    """Pass an update through the filters; return the digest of what may leave."""
    if not policy.filters:
        return digest
    from blake3 import blake3

    from convoy.model.arrays import shapes
    from convoy.privacy import filters  # numpy comes with the first filter
    from convoy.store import arrays

    seed = blake3(f"{task.job}/{task.step}".encode(), key=_secret(kit)).digest()  # the same bits again after a crash

    mine, update, base = holder(task.step), arrays.load(blobs, digest), arrays.load(blobs, task.model.digest)
    schema.check_shapes(shapes(update), shapes(base))  # one that was here already nobody has compared
    changed = filters.apply(filters.chain(policy.filters, seed=seed), update, base)
    leaves = arrays.save(blobs, mine, changed)
    if leaves != digest:
        blobs.release(mine, digest)  # what the trainer wrote nobody else is to see
    return leaves


def _secret(kit: Kit) -> bytes:
    """Return what only this site knows, made once."""
    file = kit.work / "noise.secret"
    if not file.exists():
        files.write(file, secrets.token_bytes(32), mode=0o600)
    return file.read_bytes()
