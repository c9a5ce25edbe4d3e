"""The process of a node: `python -m convoy.cli.run KIT SERVER HEALTH_PORT`; light, for it stays.

`convoy run` and `convoy up` check what a person typed and turn into this, so that an idle site holds no command line's
memory. The descriptor to say "ready" on comes in the environment, once: a node that restarts has nobody to tell.
"""

from __future__ import annotations

import dataclasses
import gc
import importlib
import os
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Final

from convoy.cli import output
from convoy.errors import BadInput, ConvoyError, of_files
from convoy.spec.kit import Kit, read_kit
from convoy.spec.settings import at_home, read_settings
from convoy.trust import membership

READY_FD: Final = "CONVOY_READY_FD"


def command(kit: Path, server: str, health_port: int | None) -> list[str]:
    """Return the command line of a node's process."""
    return [sys.executable, "-m", "convoy.cli.run", str(kit), server, "" if health_port is None else str(health_port)]


def check(kit: Kit) -> None:
    """Raise `NotAllowed` for a kit whose certificate nobody would accept: said now, and not in a log."""
    from convoy.trust import peers  # heavy for the node itself, which stays

    kit = at_home(kit)
    peers.check_own(kit, now=time.time())
    peers.check_pair(kit)


def node(path: Path, server: str, health_port: int | None, ready_fd: int | None) -> int:
    """Run the node that a kit describes until it is told to leave; return its exit status."""
    kit = read_kit(path)
    settings = read_settings(kit)
    kit = dataclasses.replace(kit, work=settings.workspace)
    membership.begin_anew(kit)
    if health_port is not None:
        settings = dataclasses.replace(settings, health_port=health_port)
    match kit.kind:
        case "server":
            with _loading():
                from convoy.server import app

            return app.run(kit, settings, ready_fd=ready_fd)
        case "site":
            with _loading():
                from convoy.site import agent

            return agent.run(kit, settings, server_host=server, ready_fd=ready_fd)
        case _:
            raise BadInput(
                f"{kit.root} is the kit of an admin, not of a server or a site",
                why="only servers and sites can be run",
                fix=f"convoy console --kit {kit.root}",
            )


@contextmanager
def _loading() -> Iterator[None]:
    """Load a node's modules without what it has no use for: rich, and searches for garbage.

    Imports make little of that. structlog loads rich wherever it is installed, for tracebacks that no node prints. What
    was loaded stays for as long as the process, so no later search looks at it either.
    """
    gc.disable()
    if "rich" not in sys.modules:
        sys.modules["rich"] = None  # type: ignore[assignment] # to Python, a module that is not installed
        importlib.import_module("structlog")
        del sys.modules["rich"]
    yield
    gc.freeze()
    gc.enable()


def main() -> None:
    """Run the node that the arguments name; they were checked by whoever wrote them."""
    path, server, health_port = sys.argv[1:]
    ready_fd = os.environ.pop(READY_FD, "")
    try:
        port = int(health_port) if health_port else None
        sys.exit(node(Path(path), server, port, int(ready_fd) if ready_fd else None))
    except ConvoyError as problem:
        sys.exit(output.fail(problem))
    except OSError as problem:
        known = of_files(problem)
        if known is None:
            raise
        sys.exit(output.fail(known))


if __name__ == "__main__":
    main()
