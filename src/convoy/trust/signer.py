"""`python -P -m convoy.trust.signer KIT`: the process that has the issuing key; it certifies keys and nothing else.

Its standard input is one end of a socket pair. It says the certificate of its authority, then answers requests of one
kind and one size: 138 bytes, in `REQUEST`. No request returns the key, and everything that a certificate says beside
the fields of a request comes from the kit: host names, lives, the server's own name.
"""

from __future__ import annotations

import ctypes
import dataclasses
import math
import resource
import signal
import socket
import struct
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Final

from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ec

from convoy.errors import BadInput, ConvoyError
from convoy.spec import names
from convoy.spec.kit import KINDS, PENDING, Kind, Kit, read_kit
from convoy.spec.settings import Settings, read_settings
from convoy.trust import keys, peers
from convoy.trust.authority import DAY_S, Authority

MODULE: Final = "convoy.trust.signer"
REQUEST: Final = struct.Struct("!B65sd64s")  # kind, point on P-256, wall seconds, name with zeros behind it
ANSWER: Final = struct.Struct("!BH")  # whether it is granted, bytes of what follows: certificates, or why not
AHEAD_S: Final = 60.0  # by which a certificate may begin later than now, after the second of a revocation
MAX_WORDS: Final = 1000  # characters of each line of a refusal
_NAMED: Final[dict[Kind, Callable[[str], str]]] = {"site": names.site, "admin": names.person}
_PR_SET_PDEATHSIG, _PR_SET_DUMPABLE, _PR_SET_NO_NEW_PRIVS = 1, 4, 38  # prctl(2)


@dataclasses.dataclass(frozen=True, slots=True)
class Signer:
    """Certifies what its kit lets it certify."""

    kit: Kit
    settings: Settings
    authority: Authority

    @classmethod
    def of(cls, path: Path) -> Signer:
        """Return the signer of a server's kit. Raises `BadInput` for a kit or an authority that is not whole."""
        kit = read_kit(path)
        settings = read_settings(kit)
        kit = dataclasses.replace(kit, work=settings.workspace)
        _take_over(kit)
        authority, _ = peers.issuing_of(kit)
        return cls(kit, settings, authority)

    def certify(self, request: bytes, *, clock: float) -> bytes:
        """Return the certificates (PEM) for a request; `clock` is the time of now.

        Raises `BadInput` for a request that says anything that cannot be, or once the authority has expired.
        """
        number, point, now, padded = REQUEST.unpack(request)
        if number >= len(KINDS):
            raise BadInput("the request does not name a kind of participant", why=f"kind {number}; wanted 0, 1 or 2")
        kind = KINDS[number]
        if kind == "server" and padded.strip(b"\0"):
            raise BadInput(
                "the request names a server", why="a server's certificate takes its name from the server's kit"
            )
        name, hosts = (self.kit.name, self.kit.hosts) if kind == "server" else (_name(kind, padded), ())
        life_s = self.settings.admin_certificate_life if kind == "admin" else self.settings.site_certificate_life
        begins = self.authority.cert.not_valid_before_utc.timestamp()
        if not math.isfinite(now) or not begins < math.floor(now + life_s) <= clock + AHEAD_S + life_s:
            raise BadInput(
                "the request is for a time at which the signer does not certify",
                why=f"it says {now}; the clock says {clock:.0f}, and the issuing authority began at {begins:.0f}",
            )
        return self.authority.certify(kind, name, _key(point), now=now, hosts=hosts, days=life_s / DAY_S)


def pack(kind: Kind, name: str, public: keys.PublicKey, *, now: float) -> bytes:
    """Return a request. Raises `BadInput` for a name that has no room in it."""
    said = b"" if kind == "server" else name.encode()
    if len(said) > REQUEST.size - struct.calcsize("!B65sd"):
        raise BadInput("the name is too long for a certificate", why=f"{len(said)} bytes; at most 64 fit")
    point = public.public_bytes(serialization.Encoding.X962, serialization.PublicFormat.UncompressedPoint)
    return REQUEST.pack(KINDS.index(kind), point, now, said)


def read(sock: socket.socket, size: int) -> bytes:
    """Return so many bytes from a socket. Raises `EOFError` where it ends before."""
    found = b""
    while len(found) < size:
        piece = sock.recv(size - len(found))
        if not piece:
            raise EOFError
        found += piece
    return found


def read_answer(sock: socket.socket) -> bytes:
    """Return the certificates in an answer. Raises `BadInput` for a refusal, `EOFError` where there is none."""
    granted, size = ANSWER.unpack(read(sock, ANSWER.size))
    said = read(sock, size)
    if granted:
        return said
    what, why, fix = said.decode().split("\0")
    raise BadInput(what, why=why, fix=fix)


def _name(kind: Kind, padded: bytes) -> str:
    said = padded.rstrip(b"\0")
    try:
        return _NAMED[kind](said.decode("ascii"))
    except ValueError as wrong:
        raise BadInput(f"the request does not name a valid {kind}", why=f"{said!r}; wanted {wrong}") from wrong


def _key(point: bytes) -> keys.PublicKey:
    try:
        return ec.EllipticCurvePublicKey.from_encoded_point(ec.SECP256R1(), point)
    except ValueError as wrong:
        raise BadInput("the request is not for a P-256 key", why=str(wrong)) from wrong


def _take_over(kit: Kit) -> None:
    """Put the key that was made last in the place of the one lent before, if the server has accepted its certificate.

    A certificate of another key is dropped. Whatever a kill leaves of this, the next start finishes.
    """
    pending = kit.work / PENDING
    if not kit.accepted_file.exists():
        return
    try:
        lent = Authority.load_issuing(kit.project, pending, kit.accepted_file)
    except BadInput as wrong:
        print(f"an issuing authority was not taken over: {wrong.what}", file=sys.stderr)  # noqa: T201 - the node's log
    else:
        keys.save(kit.lent_file, keys.to_pem(lent.key) + lent.pem)
        pending.unlink()
    kit.accepted_file.unlink()


def _harden() -> None:
    """Let no other process read this one's memory, and nothing of it reach a disk; end with whoever started it."""
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    for sign in (signal.SIGINT, signal.SIGTERM):  # meant for the server, which drains and then hangs up
        signal.signal(sign, signal.SIG_IGN)
    if sys.platform == "linux":
        libc = ctypes.CDLL(None, use_errno=True)
        for option, value in ((_PR_SET_DUMPABLE, 0), (_PR_SET_NO_NEW_PRIVS, 1), (_PR_SET_PDEATHSIG, signal.SIGKILL)):
            if libc.prctl(option, value, 0, 0, 0):
                raise OSError(ctypes.get_errno(), f"prctl {option} of the signer")


def _grant(sock: socket.socket, certificates: bytes) -> None:
    sock.sendall(ANSWER.pack(True, len(certificates)) + certificates)


def _refuse(sock: socket.socket, problem: ConvoyError) -> None:
    sentences = (problem.what, problem.why, problem.fix)
    said = "\0".join(one.replace("\0", " ")[:MAX_WORDS] for one in sentences).encode()
    sock.sendall(ANSWER.pack(False, len(said)) + said)


def serve(sock: socket.socket, begin: Callable[[], Signer]) -> None:
    """Say the authority's certificate, or why there is none; then answer requests until the other side hangs up."""
    try:
        held = begin()
    except ConvoyError as problem:
        _refuse(sock, problem)
        return
    _grant(sock, held.authority.pem)
    while True:
        try:
            _grant(sock, held.certify(read(sock, REQUEST.size), clock=time.time()))
        except ConvoyError as problem:
            _refuse(sock, problem)
        except (EOFError, BrokenPipeError, ConnectionResetError):
            return


def main() -> None:
    """Serve the server that has started this process."""
    _harden()
    with socket.socket(fileno=0) as sock:
        serve(sock, lambda: Signer.of(Path(sys.argv[1])))


if __name__ == "__main__":
    main()
