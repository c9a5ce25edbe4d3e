"""The site's certificate: requested at the first start, renewed when the server asks; each in a short-lived process."""

from __future__ import annotations

import asyncio
import json
import ssl
import subprocess
import sys
from typing import Final

from convoy.errors import Bug, NotAllowed, RemoteFault, Unreachable
from convoy.spec.kit import PENDING, Kit
from convoy.trust import files

MAX_CERTIFICATE: Final = 16 << 10  # bytes, including the issuing authority's certificate; ours have about 1,500


async def enrol(kit: Kit, host: str) -> None:
    """Get the site's first certificate for its join token.

    Raises `Unreachable` if the server does not answer, `NotAllowed` for a token that is not valid any more.
    """
    said = await _told("convoy.cli.enrol", str(kit.root), str(kit.work), host)
    if said:
        absent, what, why, fix = json.loads(said)
        raise (Unreachable if absent else NotAllowed)(what, why=why, fix=fix)


async def request(kit: Kit) -> bytes:
    """Make a new key, and return the request for its certificate; an idle site does not load cryptography."""
    if "cryptography.x509" in sys.modules:
        from convoy.trust import request

        return await asyncio.to_thread(request.make, kit.work)
    return await _told("convoy.trust.request", str(kit.work))


def take(kit: Kit, certificate: bytes) -> None:
    """Store the certificate of the newest key, and use both from now on.

    Raises `RemoteFault` for a certificate that was not requested or is for a different key: the old pair stays. Whether
    the server accepts it is checked by TLS.
    """
    pending, draft = kit.work / PENDING, kit.identity_file.with_suffix(".draft")
    if not pending.exists() or len(certificate) > MAX_CERTIFICATE:
        raise RemoteFault("the server sent a certificate that this site did not request")
    files.write(draft, pending.read_bytes() + certificate, mode=0o600)
    try:
        ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT).load_cert_chain(draft)
    except ssl.SSLError as problem:
        draft.unlink()
        raise RemoteFault("the server certified a key that is not this site's", why=problem.reason or "") from problem
    draft.replace(kit.identity_file)
    pending.unlink()


async def _told(module: str, *words: str) -> bytes:
    """Run a module in a process of its own and return what it prints."""
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-m", module, *words, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE
    )
    try:
        said, _ = await process.communicate()
    finally:
        if process.returncode is None:
            process.kill()
            await process.wait()
    if process.returncode and not said:
        raise Bug(f"{module} died", why=f"exit status {process.returncode}", fix="see the site's log")
    return said
