"""The site's certificate: made at its first start, renewed when the server says so; each in a process that leaves."""

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

MAX_CERTIFICATE: Final = 16 << 10  # bytes, with what stands between it and the root; ours have some 1,500


async def enrol(kit: Kit, host: str) -> None:
    """Get the site's first certificate for its join token.

    Raises `Unreachable` while the server is not there, `NotAllowed` for a token that is no good any more.
    """
    said = await _told("convoy.cli.enrol", str(kit.root), str(kit.work), host)
    if said:
        absent, what, why, fix = json.loads(said)
        raise (Unreachable if absent else NotAllowed)(what, why=why, fix=fix)


async def request(kit: Kit) -> bytes:
    """Make a new key, and return the request for its certificate; an idle site has no memory of cryptography."""
    if "cryptography.x509" in sys.modules:
        from convoy.trust import request

        return await asyncio.to_thread(request.make, kit.work)
    return await _told("convoy.trust.request", str(kit.work))


def take(kit: Kit, certificate: bytes) -> None:
    """Keep the certificate of the key that was made last, and use both from now on.

    Raises `RemoteFault` for one that was not asked for, or is another key's: the old pair stays. Whether others accept
    it is for TLS to find out.
    """
    pending, draft = kit.work / PENDING, kit.identity_file.with_suffix(".draft")
    if not pending.exists() or len(certificate) > MAX_CERTIFICATE:
        raise RemoteFault("the server sent a certificate that this site did not ask for")
    files.write(draft, pending.read_bytes() + certificate, mode=0o600)
    try:
        ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT).load_cert_chain(draft)
    except ssl.SSLError as problem:
        draft.unlink()
        raise RemoteFault("the server certified another key than this site's", why=problem.reason or "") from problem
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
