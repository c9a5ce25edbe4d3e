"""`python -m convoy.cli.enrol KIT WORK SERVER`: a site's first start gets its certificate in a process of its own."""

from __future__ import annotations

import asyncio
import dataclasses
import json
import sys
from pathlib import Path
from typing import Final

from convoy.admin import joining
from convoy.errors import ConvoyError, Unreachable
from convoy.spec.kit import read_kit

PATIENCE_S: Final = 3.0  # then the site says why it has no certificate, and tries again


def main() -> None:
    """Enrol, or print what is wrong as JSON."""
    kit, work, server = sys.argv[1:]
    try:
        found = dataclasses.replace(read_kit(Path(kit)), work=Path(work))
        asyncio.run(joining.enrol(found, server=server, patience_s=PATIENCE_S))
    except ConvoyError as problem:
        absent = isinstance(problem, Unreachable)
        print(json.dumps([absent, problem.what, problem.why, problem.fix]))  # noqa: T201 - for the site, which waits
        sys.exit(1)


if __name__ == "__main__":
    main()
