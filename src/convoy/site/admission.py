"""The site's own word on a job: bundle, submitter, policy; and on everything that leaves."""

from __future__ import annotations

import secrets
import shutil
import time
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from types import MappingProxyType
from typing import TYPE_CHECKING, Final

from convoy import errors
from convoy.control.records import Answer, Question
from convoy.errors import BadInput, JobFailed, NotAllowed, Refused
from convoy.model import reply
from convoy.model.blob import MAX_HEADER, Layout
from convoy.site import refusals, states
from convoy.spec.approvals import read_approvals
from convoy.spec.filters import for_kind
from convoy.spec.kit import Kit
from convoy.spec.policy import Leave, Policy, read_policy
from convoy.store.blobs import BlobFolder
from convoy.trust import files, roll
from convoy.wire import convoy_pb2 as pb
from convoy.wire import values

if TYPE_CHECKING:
    from convoy.control.policy import Submitter
    from convoy.spec.job import Job
    from convoy.trust.bundle import Bundle

NOTHING: Final[Mapping[str, str]] = MappingProxyType({})
ADMITTED: Final = "admitted"  # in a job's folder: the digest of the bundle that the site took, and by its time when
FAILED: Final = "the trainer failed"
REFUSED: Final = "the answer was refused at its site"
CAUSES: Final[Mapping[str, str]] = {  # all that is told of a failure where logs stay, by what the trainer calls it
    "MemoryError": "the trainer ran out of memory",
    "OutOfMemoryError": "the trainer ran out of memory",
    "ImportError": "the trainer could not import a module",
    "ModuleNotFoundError": "the trainer could not import a module",
    "FileNotFoundError": "the trainer did not find a file",
    "PermissionError": "the trainer was denied access",
    "BadInput": REFUSED,
    "Refused": REFUSED,
}


@dataclass(frozen=True, slots=True)
class Admitted:
    """A job that runs here: its job.yaml, what of it may leave beside updates, and its files."""

    spec: Job
    leave: Leave
    files: frozenset[str]  # the names in its bundle
    most_state: float  # bytes that its trainer may keep here from task to task


def admit(
    data: bytes, job: str, folder: Path, kit: Kit, *, makes_pods: bool = False, missing: Mapping[str, str] = NOTHING
) -> Admitted:
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
    spec = judged(checked, folder, kit, policy, makes_pods=makes_pods, missing=missing)
    code, draft = folder / "code", folder / "code.tmp"
    for old in (draft, code):
        shutil.rmtree(old, ignore_errors=True)
    bundles.unpack(checked, draft)
    draft.replace(code)
    if not mark.exists():
        mark.write_text(checked.digest)
    return Admitted(spec, policy.leave, frozenset(checked.files), policy.limits.state)


def judged(
    checked: Bundle, folder: Path, kit: Kit, policy: Policy, *, makes_pods: bool, missing: Mapping[str, str]
) -> Job:
    """Return the job.yaml of a verified bundle that may run here; note a refusal in the job's folder, and raise it."""
    from convoy.control.policy import Host, refusal
    from convoy.spec.job import read_job, text_of

    if checked.sites is not None and kit.name not in checked.sites:
        raise Refused(f"the bundle is not for {kit.name}", why=f"it is signed for {', '.join(checked.sites) or 'none'}")
    who = submitter(kit, checked.submitter)
    spec = read_job(text_of(checked.files), "job.yaml")
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

    known = roll.current(kit)[0].person(name)
    return Submitter(name, known.org, known.role)


def approved(kit: Kit) -> frozenset[str]:
    """Return the digests of the bundles that the site's owner has approved. Raises `BadInput`."""
    return frozenset(approval.digest for approval in read_approvals(kit.local / "approved.yaml"))


def holder(question: str) -> str:
    """Return who holds the answer to a task."""
    return f"answer.{question}"


def released(kit: Kit, blobs: BlobFolder, out: Path, up: pb.WorkerUp, question: Question) -> Answer:
    """Return what of an answer may leave, behind the filters.

    Its blobs are taken from the trainer's message or its folder `out`, and held. Names, dtypes and the order of its
    arrays are the question's, and so are shapes that are stated, so that nothing is said with them. Raises
    `RemoteFault` for what is not a blob, and `Refused` for arrays that are larger than is wanted or not laid out so.
    """
    policy = read_policy(kit.local / "policy.yaml")
    answer, mine = values.answer(up.answer), holder(question.id)
    if question.wants_arrays and not answer.digest:
        raise Refused("the answer has no arrays", why=f"a {question.kind!r} question wants them")
    if answer.digest:
        base, slots = blobs.read_header(question.model), question.reply
        if slots is None:
            most = base.size + MAX_HEADER
        else:
            most = min(question.reply_bytes, policy.leave.arrays) if reply.varies(slots) else policy.leave.arrays
        whole = up.wholes.get(answer.digest, b"")
        blobs.take(mine, out, answer.digest, lambda layout, _: _demand_size(layout, most), whole)
        reply.check_layout(blobs.read_header(answer.digest), base, slots, most)
    answer = _filtered(kit, policy, blobs, answer, question)
    return replace(
        answer,
        weight=policy.leave.weighed(answer.weight),
        metrics=answer.metrics if policy.leave.metrics else {},
        value=answer.value if policy.leave.values else "",
        state_bytes=_kept(policy, blobs, out, up, answer),
    )


def _kept(policy: Policy, blobs: BlobFolder, out: Path, up: pb.WorkerUp, answer: Answer) -> int:
    """Take the state that a trainer keeps at its site; return its bytes. Raises `Refused` for one that is too large."""
    if not answer.state:
        return 0
    most = policy.limits.state

    def fits(layout: Layout, _: int) -> None:
        if layout.size > most:
            why = f"the policy allows {most:.0f}: {policy.places.get('limits.state', 'limits.state')}"
            raise Refused(f"the state that the trainer keeps has {layout.size} bytes", why=why)

    blobs.take(states.hold(answer)[0], out, answer.state, fits, up.wholes.get(answer.state, b""))
    return blobs.read_header(answer.state).size


def _demand_size(update: Layout, most: float) -> None:
    if update.size > most:
        raise Refused(f"the update has {update.size} bytes", why=f"the most that may leave is {most:.0f}")


def told(kit: Kit, failed: pb.TaskFailed) -> tuple[str, str]:
    """Return what of a trainer's failure may leave: its words and its traceback, or one word of a closed list."""
    policy = read_policy(kit.local / "policy.yaml")
    if policy.leave.logs:
        return failed.error, failed.traceback
    return _held_back(kit, CAUSES.get(failed.error.partition(":")[0], FAILED)), ""


def why(kit: Kit, problem: Exception) -> str:
    """Return what may leave of what went wrong with an answer: a job's code can choose parts of those words, too."""
    try:
        policy = read_policy(kit.local / "policy.yaml")
    except BadInput as broken:
        return errors.line(broken)  # these are the site's own words
    if policy.leave.logs:
        return errors.line(problem)
    return _held_back(kit, FAILED if isinstance(problem, JobFailed) else REFUSED)


def _held_back(kit: Kit, cause: str) -> str:
    return f"{cause} (the rest stays at {kit.name})"


def _filtered(kit: Kit, policy: Policy, blobs: BlobFolder, answer: Answer, question: Question) -> Answer:
    """Pass an answer through the filters; return what may leave."""
    wanted = for_kind(policy.filters, question.kind)
    if not wanted or not answer.digest:
        return answer
    from blake3 import blake3

    from convoy.privacy import filters  # numpy comes with the first filter
    from convoy.store import arrays

    # The same bits again after a crash; other ones for another update and another model, or the noise would cancel out.
    asked = f"{question.job}/{question.id}/{question.model}/{answer.digest}"
    seed = blake3(asked.encode(), key=_secret(kit)).digest()

    mine, update = holder(question.id), arrays.load(blobs, answer.digest)
    base = arrays.load(blobs, question.model) if question.reply is None else None
    changed = filters.apply(wanted, filters.Leaving(update, answer.weight, answer.metrics), base, seed=seed)
    leaves = arrays.save(blobs, mine, changed.arrays)
    if leaves != answer.digest:
        blobs.release(mine, answer.digest)  # what the trainer wrote nobody else is to see
    return replace(answer, digest=leaves, weight=changed.weight, metrics=dict(changed.metrics))


def _secret(kit: Kit) -> bytes:
    """Return what only this site knows, made once."""
    file = kit.work / "noise.secret"
    if not file.exists():
        files.write(file, secrets.token_bytes(32), mode=0o600)
    return file.read_bytes()
