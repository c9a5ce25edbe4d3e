"""Refused jobs that a site still holds: stored beside the job for the site's owner, who may approve them."""

from __future__ import annotations

import json
import signal
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Final

AGAIN: Final = signal.SIGUSR1  # makes a running agent check refused jobs again; a closed terminal sends SIGHUP
NAME: Final = "refused.json"


@dataclass(frozen=True, slots=True)
class Refusal:
    """One refused job; `reason` names the rule that refused it, in one line."""

    job: str
    digest: str  # BLAKE3 of the bundle
    name: str
    submitter: str
    org: str
    role: str
    reason: str


def note(folder: Path, refusal: Refusal) -> None:
    """Store a refusal in its job's folder, completely or not at all."""
    draft = folder / f"{NAME}.tmp"
    draft.write_text(json.dumps(asdict(refusal)))
    draft.replace(folder / NAME)


def forget(folder: Path) -> None:
    """Remove the refusal, because the job runs after all."""
    (folder / NAME).unlink(missing_ok=True)


def read(folder: Path) -> Refusal | None:
    """Return the refusal in a job's folder; None where there is none, or one that cannot be read."""
    try:
        return Refusal(**json.loads((folder / NAME).read_text()))
    except (OSError, ValueError, TypeError):  # the job has just ended, or the file is incomplete after a power cut
        return None


def held(workspace: Path) -> list[Refusal]:
    """Return the refused jobs that a site holds, by name."""
    found = [one for path in (workspace / "jobs").glob(f"*/{NAME}") if (one := read(path.parent)) is not None]
    return sorted(found, key=lambda refusal: (refusal.name, refusal.job))
