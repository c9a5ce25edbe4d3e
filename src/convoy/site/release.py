"""What may leave a site: answers behind its filters, and of what went wrong no more than its policy tells."""

from __future__ import annotations

import json
import secrets
from collections.abc import Callable, Iterable, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Final

from convoy import errors
from convoy.control.records import Answer, Question
from convoy.errors import BadInput, JobFailed, Refused
from convoy.model import reply
from convoy.model.blob import MAX_HEADER, SMALL, Layout
from convoy.site import states
from convoy.site.intake import in_thread
from convoy.spec import tables
from convoy.spec.filters import Filter, for_kind
from convoy.spec.kit import Kit
from convoy.spec.policy import Leave, Policy, PolicyFile
from convoy.store.blobs import Blob, BlobFolder
from convoy.trust import files
from convoy.wire import convoy_pb2 as pb
from convoy.wire import values

if TYPE_CHECKING:
    from convoy.spec.job import Job

COUNTS: Final = ("rows", "count")  # the last words of the names of arrays that count rows
SUPPRESSED: Final = -1  # in them
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


def holder(question: str) -> str:
    """Return who holds the answer to a task."""
    return f"answer.{question}"


@dataclass(frozen=True, slots=True)
class Handed:
    """What a trainer hands over: its message, and the folder `out` that it writes into; `blobs` are the job's here.

    `own`: it is Convoy's own trainer. `applied` is told the filters that its arrays passed.
    """

    blobs: BlobFolder
    out: Path
    up: pb.WorkerUp
    own: bool = False
    applied: Callable[[tuple[Filter, ...]], None] = lambda _: None

    @property
    def is_small(self) -> bool:
        """Whether the blobs, the arrays of the answer and what the trainer keeps, came in the message and are small."""
        named = {digest for digest in (self.up.answer.digest, self.up.answer.state) if digest}
        return named <= set(self.up.wholes) and sum(map(len, self.up.wholes.values())) < 2 * SMALL

    def whole(self, digest: str) -> bytes:
        """Return a blob that came in the message; empty: it lies in the folder."""
        return self.up.wholes.get(digest, b"")


@dataclass(frozen=True, slots=True)
class Release:
    """A site's judgement on all that leaves it, by what its policy says at that moment."""

    kit: Kit
    rules: PolicyFile

    def leave(self) -> Leave:
        """Return what may leave beside updates. Raises `BadInput` for a policy that cannot be read."""
        return self.rules.now().leave

    def withheld(self, job: Job, data: Mapping[str, str]) -> list[str]:
        """Return the names of data that are not given to this job: its code might say anything of them.

        `data`: paths by name. Another name of such a file, or of a folder that it lies in, is not given either.
        """
        if not job.trainer:
            return []
        listed = self.rules.now().tables
        kept = [Path(data[name]).resolve() for name in data if tables.rules_of(listed, name).only]
        return [name for name, path in data.items() if any(it.is_relative_to(Path(path).resolve()) for it in kept)]

    def tables(self, data: Iterable[str]) -> str:
        """Return the rules for tables by name, as JSON, for Convoy's own trainer."""
        policy = self.rules.now()
        return json.dumps({name: asdict(tables.rules_of(policy.tables, name)) for name in data})

    async def judged(self, handed: Handed, question: Question) -> Answer:
        """Return what `answer` returns; for a small answer without filters a thread would take longer than that."""
        if handed.is_small and not handed.own and not self.rules.now().filters:
            return self.answer(handed, question)
        return await in_thread(self.answer, handed, question)

    def answer(self, handed: Handed, question: Question) -> Answer:
        """Return what of an answer may leave, behind the filters.

        Its blobs are taken and held. Names, dtypes and the order of its
        arrays are the question's, and so are shapes that are stated, so that nothing is said with them. Raises
        `RemoteFault` for what is not a blob, `Refused` for arrays that are larger than is wanted or not laid out so,
        and `BadInput` for a policy that cannot be read.
        """
        policy, answer = self.rules.now(), values.answer(handed.up.answer)._replace(packed="")
        if question.wants_arrays and not answer.digest:
            raise Refused("the answer has no arrays", why=f"a {question.kind!r} question wants them")
        if answer.digest:
            answer = self._arrays(policy, handed, question, answer)
        if handed.own and answer.digest:
            _check_counts(policy, handed.blobs, question, answer.digest)
        return answer._replace(
            weight=policy.leave.weighed(answer.weight),
            metrics=answer.metrics if policy.leave.metrics else {},
            value=answer.value if policy.leave.values else "",
            state_bytes=_kept(policy, handed, answer),
        )

    def _arrays(self, policy: Policy, handed: Handed, question: Question, answer: Answer) -> Answer:
        """Hold the arrays that leave; return the answer with their digest, and with what filters make of the rest."""
        blobs, out, digest = handed.blobs, handed.out, answer.digest
        base, slots = blobs.read_header(question.model), question.reply
        if slots is None:
            most: float = base.size
        else:
            most = min(question.reply_bytes, policy.leave.arrays) if reply.varies(slots) else policy.leave.arrays

        def fits(layout: Layout, _: int) -> None:
            if layout.size > most + MAX_HEADER:
                raise Refused(f"the update has {layout.size} bytes", why=f"the most that may leave is {most:.0f}")
            reply.check_layout(layout, base, slots, most)

        if wanted := for_kind(policy.filters, question.kind):
            given = blobs.handed(out, digest, fits, handed.whole(digest))
            handed.applied(wanted)
            return self._filtered(wanted, blobs, given, question, answer)
        blobs.take(holder(question.id), out, digest, fits, handed.whole(digest))
        fits(blobs.read_header(digest), 0)  # one that was here already
        return answer

    def _filtered(
        self, wanted: tuple[Filter, ...], blobs: BlobFolder, given: Blob, question: Question, answer: Answer
    ) -> Answer:
        """Pass an answer through the filters; what they were given is written nowhere."""
        from blake3 import blake3

        from convoy.model.arrays import views  # numpy comes with the first filter
        from convoy.privacy import filters
        from convoy.store import arrays

        # The same bits again after a crash; other ones for another update and another model, or noise would cancel out.
        asked = f"{question.job}/{question.id}/{question.model}/{answer.digest}"
        seed = blake3(asked.encode(), key=self._secret()).digest()

        update = views(given.layout, given.data)
        base = arrays.load(blobs, question.model) if question.reply is None else None
        changed = filters.apply(wanted, filters.Leaving(update, answer.weight, answer.metrics), base, seed=seed)
        leaves = arrays.save(blobs, holder(question.id), changed.arrays)
        return answer._replace(
            digest=leaves,
            weight=changed.weight,
            metrics=dict(changed.metrics),
            packed=changed.packed,
        )

    def _secret(self) -> bytes:
        """Return what only this site knows, made once."""
        file = self.kit.work / "noise.secret"
        if not file.exists():
            files.write(file, secrets.token_bytes(32), mode=0o600)
        return file.read_bytes()

    def told(self, failed: pb.TaskFailed) -> tuple[str, str]:
        """Return what of a trainer's failure may leave: its words and its traceback, or one word of a closed list."""
        if self.rules.now().leave.logs:
            return failed.error, failed.traceback
        return self._held_back(CAUSES.get(failed.error.partition(":")[0], FAILED)), ""

    def why(self, problem: Exception) -> str:
        """Return what may leave of what went wrong with an answer: a job's code can choose some of those words."""
        try:
            policy = self.rules.now()
        except BadInput as broken:
            return errors.line(broken)  # these are the site's own words
        if policy.leave.logs:
            return errors.line(problem)
        return self._held_back(FAILED if isinstance(problem, JobFailed) else REFUSED)

    def _held_back(self, cause: str) -> str:
        return f"{cause} (the rest stays at {self.kit.name})"


def _check_counts(policy: Policy, blobs: BlobFolder, question: Question, digest: str) -> None:
    """Raise `Refused` for a count below the minimum of the table's rules.

    Convoy's own trainer suppresses it. This is the second look: after a policy that has become stricter meanwhile, or
    an error of ours.
    """
    from convoy.store import arrays

    table = json.loads(question.settings).get("table", "")
    rules = tables.rules_of(policy.tables, table if isinstance(table, str) else "")
    if rules.only == tables.STATISTICS != question.kind:
        why = f"it has `only: statistics`: {policy.places.get('tables', 'the default')}"
        raise Refused(f"the site's policy does not admit {question.kind!r} questions for this table", why=why)
    least = rules.minimum_count
    for name, array in arrays.load(blobs, digest).items():
        if name.rpartition(".")[2] in COUNTS and ((array != SUPPRESSED) & (array < least)).any():
            why = f"{name!r} has a cell over fewer than {least} rows: {policy.places.get('tables', 'the default')}"
            raise Refused("the answer tells more than the site's policy lets a table tell", why=why)


def _kept(policy: Policy, handed: Handed, answer: Answer) -> int:
    """Take the state that a trainer keeps at its site; return its bytes. Raises `Refused` for one that is too large."""
    if not answer.state:
        return 0
    most = policy.limits.state

    def fits(layout: Layout, _: int) -> None:
        if layout.size > most:
            why = f"the policy allows {most:.0f}: {policy.places.get('limits.state', 'limits.state')}"
            raise Refused(f"the state that the trainer keeps has {layout.size} bytes", why=why)

    handed.blobs.take(states.hold(answer)[0], handed.out, answer.state, fits, handed.whole(answer.state))
    return handed.blobs.read_header(answer.state).size
