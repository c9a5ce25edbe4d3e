"""An experiment tracker in memory, which may be away: it passes the same suite as the real ones."""

from dataclasses import dataclass, field
from pathlib import Path

from convoy.trackers.events import Place, samples
from convoy.trackers.port import Away


@dataclass
class Store:
    """What has arrived, for as many trackers as are opened on it."""

    place: Place = field(default_factory=Place)
    params: dict = field(default_factory=dict)
    tags: dict = field(default_factory=dict)
    curves: dict = field(default_factory=dict)
    results: list = field(default_factory=list)
    state: str = ""
    failures: int = 0  # calls that are not answered from now on


@dataclass
class MemoryTracker:
    """Implements `port.Tracker`."""

    store: Store
    closed: int = 0
    wants_results: bool = True

    @property
    def name(self):
        return "memory"

    def begin(self, about):
        self._answer()
        self.store.params, self.store.tags = dict(about.params), dict(about.tags)
        return self.store.place

    def write(self, batch):
        self._answer()
        for one in samples(batch):
            self.store.curves.setdefault((one.site, one.key), []).append((one.step, one.value))
        self.store.place = self.store.place.after(batch)

    def finish(self, end, results):
        self._answer()
        place = self.store.place
        self.store.place = Place(place.round, place.points, place.best, ended=True)
        self.store.tags |= {**end.tags, "convoy.best_round": place.best}
        self.store.state = end.state
        self.store.results = files(results)

    def close(self):
        self.closed += 1

    def _answer(self):
        if self.store.failures:
            self.store.failures -= 1
            raise Away("memory does not answer")


def files(results: Path | None):
    """Return the names of the files in a folder."""
    found = results.rglob("*") if results else ()
    return sorted(path.relative_to(results).as_posix() for path in found if path.is_file())
