"""The site's certificate: made at its first start, renewed when the server says so; each in a process that leaves."""

from __future__ import annotations

import asyncio
import json
import subprocess
import sys

from convoy.errors import Bug, NotAllowed, Unreachable
from convoy.spec.kit import PENDING, Kit
from convoy.trust import files


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
    """Keep the certificate of the key that was made last, and use both from now on."""
    pending = kit.work / PENDING
    files.write(kit.identity_file, pending.read_bytes() + certificate, mode=0o600)
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
