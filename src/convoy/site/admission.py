"""Whether a job may run at this site: its bundle, who submitted it, and the site's policy."""

from __future__ import annotations

import shutil
import time
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from types import MappingProxyType
from typing import TYPE_CHECKING, Final

from convoy import errors
from convoy.errors import NotAllowed, Refused
from convoy.site import refusals
from convoy.spec.approvals import read_approvals
from convoy.spec.kit import Kit
from convoy.spec.policy import Leave, Policy, PolicyFile
from convoy.trust import membership
from convoy.worker.site_folders import ARTIFACTS

if TYPE_CHECKING:
    from convoy.control.policy import Submitter
    from convoy.spec.job import Job
    from convoy.trust.bundle import Bundle

NOTHING: Final[Mapping[str, str]] = MappingProxyType({})
ADMITTED: Final = "admitted"  # in a job's folder: the digest of the bundle that the site took, and by its time when


@dataclass(frozen=True, slots=True)
class Admitted:
    """A job that runs here: its job.yaml, what of it may leave beside updates, and its files."""

    spec: Job
    leave: Leave
    who: Submitter
    digest: str  # of its bundle
    files: frozenset[str]  # the names in its bundle
    most_state: float  # bytes that its trainer may keep here from task to task


def admit(
    data: bytes,
    job: str,
    folder: Path,
    kit: Kit,
    rules: PolicyFile,
    *,
    makes_pods: bool = False,
    missing: Mapping[str, str] = NOTHING,
) -> Admitted:
    """Verify a bundle with this site's own root and federation.json, ask its policy, then unpack it.

    A bundle must be in time, and from a root that is trusted, when it first comes: a job that the site has taken
    outlives its bundle's expiry, and the root that it was signed under. The policy is asked each time. Raises
    `NotAllowed` for a foreign or changed bundle, `Refused` for what the policy or the submitter's role does not allow,
    `BadInput` for a policy that cannot be read.
    """
    from convoy.trust import bundle as bundles  # cryptography comes with the first job, not before

    mark = folder / ADMITTED
    now, taken = (mark.stat().st_mtime, mark.read_text()) if mark.exists() else (time.time(), "")
    retired = "".join(membership.current(kit)[0].retired).encode() if taken else b""
    checked = bundles.verify(data, root_pem=kit.root_file.read_bytes() + retired, project=kit.project, now=now)
    if taken and checked.digest != taken:
        raise NotAllowed("the bundle is another one", why=f"this site took {taken} as job {job[:32]}")
    if checked.id != job:
        raise NotAllowed(
            "the bundle is another job's", why=f"it was signed as {checked.id}, the server says {job[:32]}"
        )
    policy = rules.now()
    spec = judged(checked, folder, kit, policy, makes_pods=makes_pods, missing=missing)
    _unpack(checked, folder)
    if not mark.exists():
        mark.write_text(checked.digest)
    who = submitter(kit, checked.submitter)
    return Admitted(spec, policy.leave, who, checked.digest, frozenset(checked.files), policy.limits.state)


def _unpack(checked: Bundle, folder: Path) -> None:
    """Write the job's code anew; what its trainer has left in artifacts/ stays, also if this is killed half way."""
    from convoy.trust import bundle as bundles

    code, draft, aside = folder / "code", folder / "code.tmp", folder / ARTIFACTS
    own = any(path.partition("/")[0].casefold() == ARTIFACTS for path in checked.files)  # the bundle's have the place
    if not own and not aside.exists() and (code / ARTIFACTS).is_dir() and not (code / ARTIFACTS).is_symlink():
        with suppress(PermissionError):  # the trainer let nobody write there
            (code / ARTIFACTS).rename(aside)
    for old in (draft, code):
        shutil.rmtree(old, ignore_errors=True)
    try:
        bundles.unpack(checked, draft)
        draft.replace(code)
    finally:  # also where the disk is full
        if aside.exists():
            code.mkdir(exist_ok=True)
            aside.rename(code / ARTIFACTS)


def judged(
    checked: Bundle, folder: Path, kit: Kit, policy: Policy, *, makes_pods: bool, missing: Mapping[str, str]
) -> Job:
    """Return the job.yaml of a verified bundle that may run here; note a refusal in the job's folder, and raise it."""
    from convoy.control.policy import Host, refusal
    from convoy.spec.job import read_bundle

    if checked.sites is not None and kit.name not in checked.sites:
        raise Refused(f"the bundle is not for {kit.name}", why=f"it is signed for {', '.join(checked.sites) or 'none'}")
    who = submitter(kit, checked.submitter)
    spec, _ = read_bundle(checked.files)
    host = Host(kit.name, kit.org, approved(kit), makes_pods=makes_pods, missing=missing)
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

    known = membership.current(kit)[0].person(name)
    return Submitter(name, known.org, known.role)


def approved(kit: Kit) -> frozenset[str]:
    """Return the digests of the bundles that the site's owner has approved. Raises `BadInput`."""
    return frozenset(approval.digest for approval in read_approvals(kit.local / "approved.yaml"))
