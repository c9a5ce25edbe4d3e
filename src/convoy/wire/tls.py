"""TLS 1.3 between sites and their server: contexts, and the identity of the peer."""

from __future__ import annotations

import ssl
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

from convoy.errors import BadInput, NotAllowed
from convoy.trust.enrolment import BACKDATE_S


class Files(Protocol):
    """Where a node's PEM files are: a kit."""

    @property
    def root_file(self) -> Path:
        """The certificates that it trusts."""
        ...

    @property
    def cert_file(self) -> Path:
        """Its certificate."""
        ...

    @property
    def key_file(self) -> Path:
        """Its private key."""
        ...


def server_context(files: Files) -> ssl.SSLContext:
    """Return a context that demands a certificate of the project's root from every peer."""
    context = _context(ssl.PROTOCOL_TLS_SERVER, files)
    context.verify_mode = ssl.CERT_REQUIRED
    context.num_tickets = 0  # no session resumption: each connection must show its certificate
    return context


def site_context(files: Files) -> ssl.SSLContext:
    """Return a context that shows the site's certificate, and demands the server's for the host that was dialled."""
    return _context(ssl.PROTOCOL_TLS_CLIENT, files)


def _context(protocol: ssl._SSLMethod, files: Files) -> ssl.SSLContext:
    context = ssl.SSLContext(protocol)
    context.minimum_version = ssl.TLSVersion.TLSv1_3
    context.load_verify_locations(files.root_file)
    try:
        context.load_cert_chain(files.cert_file, files.key_file)
    except ssl.SSLError as problem:
        raise BadInput(
            f"{files.cert_file} and {files.key_file} cannot be used",
            why=problem.reason or str(problem),
            fix="copy the kit again",
        ) from problem
    return context


@dataclass(frozen=True, slots=True)
class Peer:
    """A site, as its certificate describes it; times are seconds since the epoch."""

    name: str
    issued_at: float
    ends_at: float
    renews: bool


def peer_of(sock: ssl.SSLSocket, project: str) -> Peer:
    """Return which site the peer is. Raises `NotAllowed` for anything but a site of ours."""
    shown: Any = sock.getpeercert() or {}
    names = [str(value) for kind, value in shown.get("subjectAltName", ()) if kind == "URI"]
    prefix = f"spiffe://{project}/site/"
    if len(names) == 1 and names[0].startswith(prefix):
        issuer = dict(pair for part in shown["issuer"] for pair in part).get("commonName")
        return Peer(
            name=names[0].removeprefix(prefix),
            issued_at=ssl.cert_time_to_seconds(shown["notBefore"]) + BACKDATE_S,
            ends_at=ssl.cert_time_to_seconds(shown["notAfter"]),
            renews=issuer != project[:64],
        )
    raise NotAllowed(
        "only sites of this project may connect here", why=f"the certificate says: {', '.join(names) or 'no name'}"
    )
