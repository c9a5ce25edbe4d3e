"""Weights & Biases: one run for each job, whose id is the job's; names of curves begin with the site.

Each row of the run's history says how far the job is: a site's row has the number of its point, a round's row its
number. So the place is as durable as the rows. It is read from the run's summary, or, without a network
(WANDB_MODE=offline), from W&B's own files of the run.
"""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

from convoy import errors
from convoy.errors import BadInput, Refused
from convoy.spec import printable
from convoy.trackers import events, wandblog
from convoy.trackers.events import About, Batch, End, Place, Sample
from convoy.trackers.port import Away

OWN: Final = wandblog.OWN
ROUND, BEST, ENDED, POINT = f"{OWN}round", f"{OWN}best", f"{OWN}ended", f"{OWN}point/"
AXIS: Final = "round"  # of what belongs to a round
MAX_TAG: Final = 64  # characters: W&B's limit
STEP: Final = "step"  # of a site's point, after the site's name


@dataclass(slots=True)
class WandB:
    """Implements `port.Tracker` for a project of Weights & Biases, as PROJECT or ENTITY/PROJECT."""

    project: str
    _run: Any = None
    _about: About | None = None
    _place: Place = field(default_factory=Place)
    _step: int = 0  # the number of the next row
    _known: set[str] = field(default_factory=set)  # sites whose curves have their step

    def __post_init__(self) -> None:
        """Raise `BadInput` where W&B is not installed."""
        if not self.project or self.project.count("/") > 1:
            raise BadInput(f"{self.project!r} is not a project of W&B", fix="give PROJECT or ENTITY/PROJECT")
        try:
            import wandb  # noqa: F401 - whether it is there
        except ImportError as problem:
            raise errors.not_installed(problem, "wandb", extra="wandb") from problem

    @property
    def name(self) -> str:
        """The project."""
        return f"the W&B project {self.project}"

    @property
    def wants_results(self) -> bool:
        """The run has them as an artifact."""
        return True

    def begin(self, about: About) -> Place:
        """Open the run, or go on with it."""
        import wandb

        self.close()
        folder = Path(os.environ.get("WANDB_DIR", "."))
        *entity, project = self.project.split("/")
        again = self._about is not None  # W&B's process may still write the files of this instance's last run
        before = {} if again else wandblog.rows(folder / "wandb", about.job)
        with _answered(self.name):
            self._run = wandb.init(
                entity=entity[0] if entity else None,
                project=project,
                id=about.job,
                name=about.name,
                config={**about.params, **about.tags},
                tags=[tag[:MAX_TAG] for tag in (about.name, about.tags.get("convoy.submitter", "")) if tag],
                resume="allow",
                reinit="create_new",
                dir=str(folder),
                settings=wandb.Settings(
                    console="off", disable_git=True, save_code=False, silent=True, x_disable_stats=True
                ),
            )
        if not again:
            said = before if self._run.offline else dict(self._run.summary)
            self._step = max(int(said.get("_step", -1)) + 1, int(self._run.step))
            self._place = _place(said)
        self._about, self._known = about, set()
        return self._place

    def write(self, batch: Batch) -> None:
        """Add a row for each round and each point. W&B's own process keeps them on disk, and sends them on."""
        with _answered(self.name):
            for made in batch.rounds:
                own = {AXIS: made.number, ROUND: made.number} | ({BEST: made.number} if made.best else {})
                found = {_key(one): one.value for one in events.samples(Batch((made,)))}
                for key in found.keys() - self._known:
                    self._run.define_metric(key, step_metric=AXIS)
                self._known |= found.keys()
                self._log(found | own)
                self._place = self._place.after(Batch((made,)))
            for point in batch.points:
                if point.site not in self._known:
                    self._known.add(point.site)
                    self._run.define_metric(f"{point.site}/*", step_metric=f"{point.site}/{STEP}")
                found = {_key(one): one.value for one in events.samples(Batch((), (point,)))}
                step = point.round if point.step is None else point.step
                self._log(found | {f"{point.site}/{STEP}": step, POINT + point.site: point.number})
                self._place = self._place.after(Batch((), (point,)))

    def finish(self, end: End, results: Path | None) -> None:
        """Add the results as an artifact, then the end to the run's summary."""
        import wandb

        about = self._about
        assert about is not None  # noqa: S101 - `begin` was called
        with _answered(self.name):
            if results is not None:
                artifact = wandb.Artifact(f"{about.name}-{about.job[:8]}", type="model", metadata=dict(about.tags))
                for path in sorted(one for one in results.rglob("*") if one.is_file()):
                    artifact.add_file(str(path), name=path.relative_to(results).as_posix())
                self._run.log_artifact(artifact)
                if not self._run.offline:
                    artifact.wait()
            self._run.summary.update({**end.tags, "convoy.best_round": self._place.best})
            self._log({ENDED: 1})
            self._run.finish(exit_code=0 if end.state == "completed" else 1)
        self._run = None

    def close(self) -> None:
        """End W&B's process, once it has sent what it can; the next `begin` goes on with the run."""
        if self._run is not None:
            run, self._run = self._run, None
            with suppress(Away, Refused), _answered(self.name):
                run.finish()

    def _log(self, row: Mapping[str, Any]) -> None:
        self._run.log(dict(row), step=self._step, commit=True)
        self._step += 1


def _key(one: Sample) -> str:
    """Return the name of a curve; what begins with `_` is W&B's, or says how far we are."""
    if one.site:
        return f"{one.site}/{one.key}"
    return f"metric{one.key}" if one.key.startswith("_") else one.key


def _place(said: Mapping[str, Any]) -> Place:
    points = {key.removeprefix(POINT): int(value) for key, value in said.items() if key.startswith(POINT)}
    return Place(int(said.get(ROUND, -1)), points, int(said.get(BEST, -1)), bool(said.get(ENDED, False)))


@contextmanager
def _answered(name: str) -> Iterator[None]:
    """Turn the errors of W&B into Convoy's."""
    import wandb

    try:
        yield
    except (wandb.errors.UsageError, wandb.errors.AuthenticationError) as problem:
        why, fix = printable.one_line(str(problem)), "run `wandb login`, or set WANDB_API_KEY or WANDB_MODE=offline"
        raise Refused(f"{name} cannot be used", why=why, fix=fix) from problem
    except (wandb.Error, OSError) as problem:
        raise Away(f"{name} does not answer", why=printable.one_line(str(problem))) from problem
