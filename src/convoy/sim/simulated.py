"""What a simulation came to: its job, its rounds, its models and logs, in a folder as `convoy job fetch` writes it."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from convoy.control.records import Job, Round
from convoy.errors import NotFound
from convoy.model.arrays import Model
from convoy.sim.summary import Summary
from convoy.store import report
from convoy.store.arrays import read_file


@dataclass(frozen=True)
class Simulated:
    """A simulation that has ended: the job as the server's rules left it, the committed rounds, and the results."""

    job: Job
    sites: tuple[str, ...]
    rounds: tuple[Round, ...]
    folder: Path
    summary: Summary
    interrupted: bool = False

    def __repr__(self) -> str:
        counts = f"{len(self.sites)} sites, {len(self.rounds) - 1} rounds"
        return f"<{self.job.name} {self.job.state} at {counts}: {self.folder}>"

    @property
    def model(self) -> Model:
        """The last model."""
        return read_file(self.folder / report.LAST)

    @property
    def best(self) -> Model:
        """The best model by the workflow's own measure; the last one where it has none."""
        path = self.folder / report.BEST
        return read_file(path) if path.exists() else self.model

    @property
    def history(self) -> list[dict[str, Any]]:
        """The number, metrics and `best` of each round; round 0 is the first model."""
        return [{"round": it.round, "metrics": dict(it.metrics), "best": it.best} for it in self.rounds]

    def log(self, site: str = "server") -> str:
        """Return what was printed at a site or, for `server`, by the workflow. Raises `NotFound` for no such site."""
        if site != "server" and site not in self.sites:
            raise NotFound(
                f"the simulation has no site {site!r}", why=f"its sites are {self.sites[0]} … {self.sites[-1]}"
            )
        path = self.folder / "logs" / f"{site}.log"
        return path.read_text(errors="replace") if path.exists() else ""
