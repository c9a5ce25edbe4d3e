"""A server's issuing authority as the server has it: the certificate, and a process that signs with the key."""

from __future__ import annotations

import os
import socket
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Final, TypeVar

from cryptography import x509
from cryptography.hazmat.primitives import serialization

from convoy.errors import BadInput, ConvoyError, Unreachable
from convoy.spec.kit import Kind, Kit
from convoy.trust import authority, files, keys, peers, signer

START_S: Final = 30.0  # for the signer to start on a busy machine and send its certificate; it takes 0.2 s
ANSWER_S: Final = 5.0  # for one certificate; it takes 1 ms
KEPT: Final = ("HOME", "LD_LIBRARY_PATH", "PYTHONPATH")  # where Python finds its libraries; nothing else is needed
NAME: Final = "the issuing authority's certificate"
_PYTHON: Final = (sys.executable, "-P", "-m")

Found = TypeVar("Found")


@dataclass(slots=True)
class _Line:
    """A process that signs, and our end of its socket; it has a certificate once it has been heard."""

    process: subprocess.Popen[bytes]
    sock: socket.socket
    cert: x509.Certificate | None = None


class Issuing:
    """Certifies keys without having the issuing key; a process that dies is started again at the next request.

    Calls block for about a millisecond, so that nothing comes between the check of a right and its effect.
    """

    def __init__(self, kit: Kit, tell: Callable[[str], None]) -> None:
        """Start the process of a server's kit and do not wait for it; `tell` hears of each that was lost."""
        self._kit, self._tell = kit, tell
        self._line: _Line | None = None
        self._begin()

    @property
    def cert(self) -> x509.Certificate:
        """The authority's certificate. Raises `BadInput` or `NotAllowed` unless it is whole, in time and the root's."""
        return self._with(self._greeted)

    def certify(self, kind: Kind, name: str, public: keys.PublicKey, *, now: float) -> bytes:
        """Return a participant's certificate for its public key, as PEM, and what stands between it and the root.

        It lives as long as the server's settings say. Raises `BadInput` for what cannot be certified, `Unreachable`
        while no process can be had that does it.
        """
        request = signer.pack(kind, name, public, now=now)
        return self._with(lambda line: self._certified(line, request))

    def take(self, cert: x509.Certificate) -> None:
        """Issue with the key that was made last from now on: `cert` is its certificate, which the caller has checked.

        The key's bytes are for a new process alone. Raises `BadInput` where another authority stays.
        """
        files.write(self._kit.accepted_file, cert.public_bytes(serialization.Encoding.PEM), mode=0o600)
        self.end()
        if self.cert != cert:
            raise BadInput(
                "the issuing authority was not changed",
                why="the certificate is not for the key that was requested last, or the kit has a newer certificate",
                fix="convoy federation issue",
            )

    def request(self) -> bytes:
        """Return the request (PEM) for another issuing authority; a process of its own makes the key."""
        command = [*_PYTHON, "convoy.trust.request", str(self._kit.work)]
        try:
            done = subprocess.run(
                command,
                stdin=subprocess.DEVNULL,
                stdout=subprocess.PIPE,
                env=_environment(),
                timeout=START_S,
                check=True,
            )
        except (OSError, subprocess.SubprocessError) as problem:
            raise Unreachable("a key for a new issuing authority cannot be made now", why=str(problem)) from problem
        return done.stdout

    def end(self) -> None:
        """End the process; whatever it writes is whole or not there."""
        if self._line is not None:
            self._line.sock.close()
            self._line.process.kill()
            self._line.process.wait()
            self._line = None

    def _begin(self) -> _Line:
        ours, theirs = socket.socketpair()
        ours.settimeout(START_S)
        with theirs:
            try:
                process = subprocess.Popen(
                    [*_PYTHON, signer.MODULE, str(self._kit.root)],
                    stdin=theirs.fileno(),
                    stdout=subprocess.DEVNULL,
                    env=_environment(),
                )
            except OSError:
                ours.close()
                raise
        self._line = _Line(process, ours)
        return self._line

    def _greeted(self, line: _Line) -> x509.Certificate:
        """Return the certificate that a process says first, once it has been checked."""
        if line.cert is None:
            cert = authority.read_certificate(signer.read_answer(line.sock), name=NAME)
            root_pem = self._kit.root_file.read_bytes()
            peers.check_issuing(cert, root_pem, project=self._kit.project, now=time.time(), name=NAME)
            line.sock.settimeout(ANSWER_S)
            line.cert = cert
        return line.cert

    def _certified(self, line: _Line, request: bytes) -> bytes:
        self._greeted(line)
        line.sock.sendall(request)
        return signer.read_answer(line.sock)

    def _with(self, ask: Callable[[_Line], Found]) -> Found:
        """Return what a process answers; where it has died or hangs, what one more answers."""
        for _ in range(2):
            try:
                return ask(self._line or self._begin())
            except (OSError, EOFError) as problem:
                self.end()
                lost = str(problem) or "it has ended"
                self._tell(lost)
            except ConvoyError:
                if self._line is not None and self._line.cert is None:  # nothing can be asked of one that is not good
                    self.end()
                raise
        raise Unreachable(
            "the server cannot certify keys now",
            why=f"the process that has the issuing key does not answer: {lost}",
            fix="try again; if that does not help, look at the server's log",
        )


def _environment() -> dict[str, str]:
    """Return the environment of a process that has a key: what Python needs, and nobody's password."""
    return {name: os.environ[name] for name in KEPT if name in os.environ}
