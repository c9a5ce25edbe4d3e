"""The site's own word on a job: bundle, submitter, policy; and on every update that leaves."""

from __future__ import annotations

import secrets
import shutil
import time
from pathlib import Path
from typing import TYPE_CHECKING

from convoy.errors import NotAllowed, Refused
from convoy.spec.kit import Kit
from convoy.spec.policy import read_policy
from convoy.store.blobs import BlobFolder
from convoy.trust import files, roll
from convoy.wire import convoy_pb2 as pb

if TYPE_CHECKING:
    from convoy.spec.job import Job


def admit(data: bytes, job: str, folder: Path, kit: Kit) -> Job:
    """Verify a bundle with this site's own root and federation.json, then unpack it; return its job.yaml.

    Raises `NotAllowed` for a foreign or changed bundle, `Refused` for a submitter without the right.
    """
    from convoy.control.rights import allows  # cryptography and pydantic come with the first job, not before
    from convoy.spec.job import read_job
    from convoy.trust import bundle as bundles

    root_pem = kit.root_file.read_bytes()
    checked = bundles.verify(data, root_pem=root_pem, project=kit.project, now=time.time())
    if checked.id != job:
        raise NotAllowed(
            "the bundle is another job's", why=f"it was signed as {checked.id}, the server says {job[:32]}"
        )
    known = roll.current(kit).participants.get(checked.submitter)
    if known is None or known.kind != "admin":
        raise NotAllowed(f"{checked.submitter} is not an admin of this federation", why="federation.json lists none")
    if not allows(known.role, "submit", own=True, same_org=True):
        raise Refused(f"{checked.submitter} may not submit jobs", why=f"role {known.role}")
    spec = read_job(bytes(checked.files["job.yaml"]).decode(), "job.yaml")
    if spec.sites and kit.name not in spec.sites:
        raise Refused("the job does not ask for this site")
    code, draft = folder / "code", folder / "code.tmp"
    for old in (draft, code):
        shutil.rmtree(old, ignore_errors=True)
    bundles.unpack(checked, draft)
    draft.replace(code)
    return spec


def filtered(kit: Kit, blobs: BlobFolder, digest: str, task: pb.Task) -> str:
    """Pass an update through the filters of local/policy.yaml; return the digest of what may leave."""
    policy = read_policy(kit.local / "policy.yaml")
    if not policy.filters:
        return digest
    from blake3 import blake3

    from convoy.privacy import filters  # numpy comes with the first filter
    from convoy.store import arrays

    seed = blake3(f"{task.job}/{task.step}".encode(), key=_secret(kit)).digest()  # the same bits again after a crash

    update, base = arrays.load(blobs, digest), arrays.load(blobs, task.model.digest)
    changed = filters.apply(filters.chain(policy.filters, seed=seed), update, base)
    return arrays.save(blobs, changed)  # what the trainer wrote stays, unseen, until the round is committed


def _secret(kit: Kit) -> bytes:
    """Return what only this site knows, made once."""
    file = kit.work / "noise.secret"
    if not file.exists():
        files.write(file, secrets.token_bytes(32), mode=0o600)
    return file.read_bytes()
