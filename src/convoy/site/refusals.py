"""What a site has refused and still holds: kept beside the job for its owner, who may approve it."""

from __future__ import annotations

import json
import signal
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Final

AGAIN: Final = signal.SIGUSR1  # tells a running agent to look again at what it refused; a closed terminal sends SIGHUP
NAME: Final = "refused.json"


@dataclass(frozen=True, slots=True)
class Refusal:
    """One refused job; `reason` is the rule that said no, in one line."""

    job: str
    digest: str  # BLAKE3 of the bundle
    name: str
    submitter: str
    org: str
    role: str
    reason: str


def note(folder: Path, refusal: Refusal) -> None:
    """Keep a refusal in its job's folder, whole or not at all."""
    draft = folder / f"{NAME}.tmp"
    draft.write_text(json.dumps(asdict(refusal)))
    draft.replace(folder / NAME)


def forget(folder: Path) -> None:
    """The job runs after all."""
    (folder / NAME).unlink(missing_ok=True)


def held(workspace: Path) -> list[Refusal]:
    """Return what a site's policy refused of the jobs that it holds, by name."""
    found = []
    for path in (workspace / "jobs").glob(f"*/{NAME}"):
        try:
            found.append(Refusal(**json.loads(path.read_text())))
        except (OSError, ValueError, TypeError):  # the job ended just now, or a power cut left half of it
            continue
    return sorted(found, key=lambda refusal: (refusal.name, refusal.job))
