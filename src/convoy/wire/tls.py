"""TLS 1.3 between sites and their server: contexts, and who the peer is."""

from __future__ import annotations

import ssl
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from convoy.errors import BadInput, NotAllowed


@dataclass(frozen=True, slots=True)
class Files:
    """Where a node's PEM files are."""

    root: Path
    cert: Path
    key: Path


def server_context(files: Files) -> ssl.SSLContext:
    """Return a context that demands a certificate of the project's root from every peer."""
    context = _context(ssl.PROTOCOL_TLS_SERVER, files)
    context.verify_mode = ssl.CERT_REQUIRED
    context.num_tickets = 0  # nobody comes back without showing its certificate again
    return context


def site_context(files: Files) -> ssl.SSLContext:
    """Return a context that shows the site's certificate, and demands the server's for the host that was dialled."""
    return _context(ssl.PROTOCOL_TLS_CLIENT, files)


def _context(protocol: ssl._SSLMethod, files: Files) -> ssl.SSLContext:
    context = ssl.SSLContext(protocol)
    context.minimum_version = ssl.TLSVersion.TLSv1_3
    context.load_verify_locations(files.root)
    try:
        context.load_cert_chain(files.cert, files.key)
    except ssl.SSLError as problem:
        raise BadInput(
            f"{files.cert} and {files.key} cannot be used", why=problem.reason or str(problem), fix="copy the kit again"
        ) from problem
    return context


def site_of(peer: ssl.SSLSocket, project: str) -> str:
    """Return the site's name from the peer's certificate. Raises `NotAllowed` for anything but a site of ours."""
    shown = peer.getpeercert() or {}
    pairs: Any = shown.get("subjectAltName", ())
    names = [str(value) for kind, value in pairs if kind == "URI"]
    prefix = f"spiffe://{project}/site/"
    if len(names) == 1 and names[0].startswith(prefix):
        return names[0].removeprefix(prefix)
    raise NotAllowed(
        "only sites of this project may connect here", why=f"the certificate says: {', '.join(names) or 'no name'}"
    )
