"""A server's certificate, a site's, and a stranger's; connections between two ends in one process, over real TLS."""

import time
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path

import pytest

from convoy.trust.authority import Authority
from convoy.wire import tls
from convoy.wire.dial import Way
from convoy.wire.door import Door, bound


@dataclass(frozen=True)
class Files:
    root_file: Path
    cert_file: Path
    key_file: Path


@pytest.fixture(scope="session")
def identities(tmp_path_factory):
    """Return a function from a name to the PEM files of its holder."""
    folder = tmp_path_factory.mktemp("identities")
    now = time.time()

    def issued(project, kind, name, **options):
        home = folder / project
        if not home.exists():
            home.mkdir()
            Authority.create(project, home, now=now)
        made = folder / f"{project}-{kind}-{name}"
        key, cert = Authority.load(home).issue(kind, name, now=options.pop("now", now), **options)
        made.with_suffix(".key").write_bytes(key)
        made.with_suffix(".crt").write_bytes(cert)
        return Files(folder / "ours" / "root.crt", made.with_suffix(".crt"), made.with_suffix(".key"))

    return {
        "server": issued("ours", "server", "server"),
        "site": issued("ours", "site", "site-1"),
        "admin": issued("ours", "admin", "ada@example.org"),
        "expired": issued("ours", "site", "site-2", now=now - 50, days=10 / 86400),
        "stranger": issued("theirs", "site", "site-1"),
        "impostor": issued("theirs", "server", "server"),
    }


@pytest.fixture
def door(identities):
    """Return a context: a door behind which `serve` has each stream, and the way to it for a site."""

    @asynccontextmanager
    async def opened(serve, *, server="server", site="site"):
        sock = bound("127.0.0.1", 0, setting="none")
        port = sock.getsockname()[1]
        async with Door(sock, lambda: tls.server_context(identities[server]), serve, lambda _: None):
            yield Way("127.0.0.1", port, identities[site])

    return opened
