"""The audit trail: a hash chain of who did what, checkpoints that the server signs, and the check of both."""

from __future__ import annotations

import base64
import dataclasses
import hashlib
import json
import time
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Final

from convoy.errors import NotAllowed, RemoteFault
from convoy.spec.kit import Kind

if TYPE_CHECKING:  # an idle site writes checkpoints down without loading cryptography
    from convoy.trust.keys import PrivateKey

_PREFIX: Final = b"convoy audit 1\n"  # a signature for one purpose is no good for another
_NUMBERS: Final = frozenset({"seq", "at"})
SERVER: Final[tuple[Kind, ...]] = ("server",)
MAX_NUMBER: Final = 2**53 - 1  # the largest that every reader of JSON holds exactly (RFC 8785, section 3.2.2.3)
MAX_LINE: Final = 64 << 10  # bytes of a record or a checkpoint as a line


@dataclass(frozen=True, slots=True)
class Record:
    """Something that somebody did, or was not let do; `at` is in milliseconds since the epoch."""

    seq: int  # from 0, without a gap
    at: int
    actor: str  # "admin:ada@example.org", "site:site-1", "server", "stranger"
    action: str
    object: str  # "job:…", "site:…", "task:JOB/QUESTION"
    outcome: str
    prev: str  # the hash of the record before; of the project's name, for the first
    hash: str


@dataclass(frozen=True, slots=True)
class Checkpoint:
    """The server's signed word that its record `seq` has this hash; `at` is in milliseconds since the epoch."""

    seq: int
    hash: str
    at: int
    certificate: str  # the server's, as PEM
    signature: str  # base64


Entry = Record | Checkpoint


@dataclass(frozen=True, slots=True)
class Search:
    """Which records are wanted: those that fit everything that is said here. Upper and lower case are the same.

    `actor` and `object` are parts of what a record says; `outcome` is its beginning; `text` is a part of any of them.
    `since` and `until` are milliseconds since the epoch; `until` itself does not fit.
    """

    actor: str = ""
    action: str = ""
    object: str = ""
    outcome: str = ""
    text: str = ""
    since: int = 0
    until: int = MAX_NUMBER


def following(
    last: Record | None,
    *,
    project: str,
    at: int,
    actor: str,
    action: str,
    object: str,  # noqa: A002 - the field's name
    outcome: str,
) -> Record:
    """Return the record that comes after `last`; with None, the first one of the project's trail."""
    seq, prev = (0, beginning(project)) if last is None else (last.seq + 1, last.hash)
    record = Record(seq, at, actor, action, object, outcome, prev, hash="")
    return dataclasses.replace(record, hash=digest(record))


def beginning(project: str) -> str:
    """Return what stands for the record before the first: no trail of another project can begin alike."""
    return hashlib.sha256(_PREFIX + project.encode()).hexdigest()


def digest(record: Record) -> str:
    """Return the hash of a record: SHA-256 over all its other fields as canonical JSON (RFC 8785), in hex."""
    said = dataclasses.asdict(record)
    del said["hash"]
    return hashlib.sha256(_canonical(said)).hexdigest()


def sign(record: Record, *, project: str, key: PrivateKey, certificate: str, at: int) -> Checkpoint:
    """Return the checkpoint of a record, signed with the server's key at `at`."""
    from convoy.trust import authority, keys

    bare = Checkpoint(record.seq, record.hash, at, authority.shown(certificate.encode()), signature="")
    return dataclasses.replace(bare, signature=base64.b64encode(keys.sign(key, _signed(bare, project))).decode())


def check(checkpoint: Checkpoint, *, project: str, root_pem: bytes) -> None:
    """Raise `NotAllowed` unless the project's server signed this, with a certificate that was good at that time."""
    from convoy.trust import authority, keys, peers

    name, pem = f"the certificate in the checkpoint of record {checkpoint.seq}", checkpoint.certificate.encode()
    identity = peers.identity_of(pem, root_pem, now=checkpoint.at / 1000, want=SERVER, name=name)
    if identity.project != project:
        raise NotAllowed(f"{name} is that of a server of {identity.project}", why=f"this is {project}")
    try:
        signature = base64.b64decode(checkpoint.signature, validate=True)
    except ValueError:  # no base64, or not even ASCII
        signature = b""
    if not keys.signed_by(authority.read_certificate(pem).public_key(), signature, _signed(checkpoint, project)):
        raise NotAllowed(
            f"the checkpoint of record {checkpoint.seq} differs from what the server signed",
            why="its signature is wrong",
        )


def line(entry: Entry) -> str:
    """Return an entry as a line of JSON, without its end: what files and the REST API hold."""
    kind = "record" if isinstance(entry, Record) else "checkpoint"
    return _canonical({kind: dataclasses.asdict(entry)}).decode()


def read(data: bytes, *, where: str) -> Entry:
    """Return the entry in a line, which `where` names. Raises `RemoteFault` for anything else."""
    try:
        _check_size(data)
        ((kind, said),) = json.loads(data).items()
        entry: Entry = Record(**said) if kind == "record" else Checkpoint(**{"checkpoint": said}[kind])
        for name, value in dataclasses.asdict(entry).items():
            _check_value(name, value)
    except (ValueError, TypeError, KeyError, AttributeError, RecursionError) as error:
        raise RemoteFault(
            f"{where} is neither a record nor a checkpoint of an audit trail", why=f"{type(error).__name__}: {error}"
        ) from error
    return entry


def _check_size(data: bytes) -> None:
    if len(data) > MAX_LINE:
        raise ValueError(f"{len(data):,} bytes, and {MAX_LINE:,} are the limit")


def _check_value(name: str, value: object) -> None:
    if name in _NUMBERS:
        if type(value) is not int or not 0 <= value <= MAX_NUMBER:
            raise ValueError(f"{name} is not a whole number from 0 up")
    elif not isinstance(value, str):
        raise TypeError(f"{name} is not text")
    else:
        value.encode()  # half a character has no bytes that could be hashed


@dataclass(frozen=True, slots=True)
class Report:
    """What a trail that is whole consists of."""

    records: int
    checkpoints: int
    witnessed: int  # checkpoints that somebody else had kept
    signed_to: int  # the last record that a signature covers, -1: none
    began_at: int  # milliseconds since the epoch, 0: no record
    ended_at: int


@dataclass(slots=True)
class Verifier:
    """Goes once through a trail, from its first record on, in bounded memory; stops at the first thing wrong.

    What a server changed and then signed anew is found by the checkpoints that others kept: `witness` them first.
    """

    project: str
    root_pem: bytes
    _last: Record | None = None
    _began_at: int = 0
    _checkpoints: int = 0
    _signed_to: int = -1
    _awaited: dict[int, Checkpoint] = field(default_factory=dict)  # witnessed ones, by the record still to come
    _witnessed: int = 0

    def witness(self, kept: Iterable[Checkpoint]) -> None:
        """Remember checkpoints that somebody kept. Raises `RemoteFault` if one is forged or two contradict."""
        for checkpoint in kept:
            self._check(checkpoint)
            other = self._awaited.setdefault(checkpoint.seq, checkpoint)
            if other.hash != checkpoint.hash:
                raise _found(
                    f"the server signed two records of number {checkpoint.seq}",
                    why=f"one at {clock(other.at)}, another at {clock(checkpoint.at)}: two histories",
                )
        self._witnessed = len(self._awaited)

    def take(self, entry: Entry) -> None:
        """Look at the next entry. Raises `RemoteFault` for the first that is not as it was written."""
        if isinstance(entry, Record):
            self._follow(entry)
            self._last = entry
            self._compare(entry)
        else:
            self._stand(entry)

    def end(self) -> Report:
        """Return what the trail consists of. Raises `RemoteFault` if it was longer when a witness saw it."""
        last = self._last
        count = 0 if last is None else last.seq + 1
        if self._awaited:
            newest = self._awaited[max(self._awaited)]
            raise _found(
                f"the end of the trail is missing: records {count} to {newest.seq}",
                why=f"it has {count} records; the server signed record {newest.seq} at {clock(newest.at)}",
            )
        ended_at = 0 if last is None else last.at
        return Report(count, self._checkpoints, self._witnessed, self._signed_to, self._began_at, ended_at)

    def _follow(self, record: Record) -> None:
        """Raise unless the record is whole and comes right after the last one."""
        last = self._last
        seq, prev = (0, beginning(self.project)) if last is None else (last.seq + 1, last.hash)
        if record.seq > seq:
            raise _found(
                f"record {seq} is missing", why=f"record {record.seq} is in its place: records were removed or moved"
            )
        if record.seq < seq:
            raise _found(f"record {record.seq} is in the place of record {seq}", why="it was moved or copied")
        if digest(record) != record.hash:
            raise _found(f"record {seq} was changed", why="its hash does not match its content")
        if record.prev != prev:
            before = f"the hash of record {seq - 1}" if seq else f"the beginning of a trail of {self.project}"
            raise _found(f"record {seq} was put in the place of a different record", why=f"it does not follow {before}")
        if last is None:
            self._began_at = record.at

    def _compare(self, record: Record) -> None:
        """Raise unless the record is the one of which somebody kept a checkpoint, if anybody did."""
        kept = self._awaited.pop(record.seq, None)
        if kept is None:
            return
        if kept.hash != record.hash:
            raise self._rewritten(kept, "a witness kept")
        self._signed_to = record.seq

    def _stand(self, checkpoint: Checkpoint) -> None:
        """Raise unless the checkpoint is signed and stands behind its record."""
        at = -1 if self._last is None else self._last.seq
        if checkpoint.seq != at:
            where = f"after record {at}" if at >= 0 else "before the first record"
            raise _found(f"the checkpoint of record {checkpoint.seq} is {where}", why="records were removed or moved")
        self._check(checkpoint)
        if self._last is not None and checkpoint.hash != self._last.hash:
            raise self._rewritten(checkpoint, "is in the trail")
        self._checkpoints += 1
        self._signed_to = checkpoint.seq

    def _check(self, checkpoint: Checkpoint) -> None:
        try:
            check(checkpoint, project=self.project, root_pem=self.root_pem)
        except NotAllowed as problem:
            raise _found(
                f"the checkpoint of record {checkpoint.seq} is not the server's", why=f"{problem.what}: {problem.why}"
            ) from problem

    def _rewritten(self, kept: Checkpoint, where: str) -> RemoteFault:
        first = self._signed_to + 1
        which = f"record {kept.seq} is" if first == kept.seq else f"one of the records {first} to {kept.seq} is"
        return _found(
            f"{which} not what the server signed",
            why=f"a checkpoint of {clock(kept.at)} that {where} has another hash: the trail was rewritten",
        )


def clock(at: int) -> str:
    """Return a time of a trail (milliseconds since the epoch) as people read it, in UTC."""
    try:
        return time.strftime("%Y-%m-%d %H:%M:%S UTC", time.gmtime(at / 1000))
    except (ValueError, OverflowError):
        return f"{at} ms"


def _found(what: str, *, why: str) -> RemoteFault:
    return RemoteFault(
        what, why=why, fix="keep this trail and every witness file unchanged, and contact the operator of the server"
    )


def _signed(checkpoint: Checkpoint, project: str) -> bytes:
    """Return the exact bytes that the server signs."""
    return _PREFIX + _canonical(
        {"project": project, "seq": checkpoint.seq, "hash": checkpoint.hash, "at": checkpoint.at}
    )


def _canonical(said: Mapping[str, Any]) -> bytes:
    """Return JSON that is the same everywhere: RFC 8785, for texts and whole numbers."""
    return json.dumps(said, sort_keys=True, separators=(",", ":"), ensure_ascii=False).encode()
