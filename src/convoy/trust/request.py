"""A new key and the request for its certificate; `python -m convoy.trust.request FOLDER` prints it, and leaves."""

from __future__ import annotations

import sys
from pathlib import Path

from convoy.spec.kit import PENDING
from convoy.trust import enrolment, keys


def make(folder: Path) -> bytes:
    """Make a key in a folder, and return the request for its certificate."""
    key = keys.make()
    keys.save(folder / PENDING, keys.to_pem(key))
    return enrolment.request(key)


def main() -> None:
    """Print what `make` returns."""
    sys.stdout.buffer.write(make(Path(sys.argv[1])))


if __name__ == "__main__":
    main()
