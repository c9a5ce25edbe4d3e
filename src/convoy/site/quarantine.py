"""Counts in a small file how often this site has failed at a job; after three times the job is quarantined."""

from __future__ import annotations

import json
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Final

FILE: Final = "faults.json"
MAX_FAULTS: Final = 3  # failures of this node in one job
MAX_JOBS: Final = 1000  # jobs that are remembered, the newest


@dataclass(frozen=True, slots=True)
class Quarantine:
    """The file; it is read when a job begins and written when one fails."""

    file: Path

    def holds(self, job: str) -> bool:
        """Whether the site has failed at this job too often to try again."""
        return self._counts().get(job, 0) >= MAX_FAULTS

    def add(self, job: str) -> None:
        """Count a failure; on a full disk it is not counted."""
        counts = self._counts()
        counts[job] = counts.pop(job, 0) + 1
        draft = self.file.with_suffix(".tmp")
        with suppress(OSError):
            draft.write_text(json.dumps(dict(list(counts.items())[-MAX_JOBS:])))
            draft.replace(self.file)

    def _counts(self) -> dict[str, int]:
        try:
            found = json.loads(self.file.read_text())
        except (OSError, ValueError):  # it is missing, or incomplete after a power cut
            return {}
        return {str(job): count for job, count in found.items() if isinstance(count, int)}
