"""Who does the sites' tasks in a simulation: this process, worker processes of this machine, or actors of a cluster."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from convoy.errors import BadInput
from convoy.sim import gpus
from convoy.spec import hardware

if TYPE_CHECKING:
    from convoy.node.forks import ForkServer
    from convoy.node.launcher import Launcher

FOR_VISITS: Final = ("convoy.worker.visits", "convoy.worker.visitor", "numpy.random")  # loaded before workers need it


@dataclass(frozen=True, slots=True)
class WorkerChoice:
    """How many workers there may be (0: this process does the tasks), who starts them, and what each of them sees."""

    asked: int | None = None
    most: int | None = None  # None: no limit
    place: str = ""  # why there is room for no more
    launcher: Launcher | None = None  # None: they are processes of this machine
    envs: Sequence[Mapping[str, str]] = ()  # one for each of the most
    forks: ForkServer | None = None  # what processes of this machine are forked by; None: each is started anew

    def count(self, sites: int) -> int:
        """Return how many workers to start: as many as are asked for, or as fit and have a site. Raises `BadInput`."""
        if self.most is not None:
            return gpus.workers(self.asked, sites, self.most, self.place)
        return min(len(os.sched_getaffinity(0)) if self.asked is None else self.asked, sites)


ENGINES: Final = ("processes", "ray")
Workers = int | WorkerChoice | None  # a number of processes, None: one for each core


def choice_of(workers: Workers) -> WorkerChoice:
    """Return the choice of a number of processes, and a choice as it is."""
    return workers if isinstance(workers, WorkerChoice) else WorkerChoice(workers)


@contextmanager
def ahead(workers: int | None, engine: str) -> Iterator[ForkServer | None]:
    """Load what worker processes need in a process that forks them, while this one loads what it needs itself."""
    if workers == 0 or engine != ENGINES[0]:
        yield None
        return
    from convoy.node import cores, environment
    from convoy.node.forks import ForkServer

    with ForkServer(FOR_VISITS, environment.of_all(cores.shared())) as forks:
        forks.prepare()
        yield forks


@contextmanager
def gathered(
    workers: int | None,
    *,
    engine: str,
    gpus_per_site: float | None,
    say: Callable[[str], None],
    forks: ForkServer | None = None,
) -> Iterator[WorkerChoice]:
    """Give the workers that a command names, for as many simulations as there are; `forks`: of `ahead`.

    `engine`: "processes" of this machine, or "ray": actors of a Ray cluster, of which `say` hears in a line.
    `gpus_per_site`: the share of a GPU that each worker has; there are then as many workers as fit. Raises `BadInput`,
    and `Unreachable` where a cluster does not answer.
    """
    if workers is not None and (type(workers) is not int or workers < 0):
        raise BadInput(f"workers is {workers!r}", fix="give a number from 0 up, or nothing: one for each core")
    if engine not in ENGINES:
        raise BadInput(f"there is no engine {engine!r}", fix=f"use one of {', '.join(ENGINES)}")
    if workers == 0 and (engine == "ray" or gpus_per_site is not None):
        raise BadInput("0 workers have no machines and no GPUs of their own", fix="give --workers 1, or leave it out")
    if gpus_per_site is not None:
        gpus.check(gpus_per_site)
    if engine == "ray":
        from convoy.sim import cluster  # what it needs is loaded for it alone

        with cluster.connected(say) as known:
            most = known.room(gpus_per_site)
            launcher = cluster.ActorLauncher(known.ray, gpus_per_site)
            try:
                yield WorkerChoice(workers, most, known.words, launcher)
            finally:
                launcher.clear()
    elif gpus_per_site is None:
        yield WorkerChoice(workers, forks=forks)
    else:
        found = gpus.visible(hardware.gpus(), os.environ.get(gpus.VARIABLE))
        gpus.demand(f"this machine has no /dev/nvidia*, or {gpus.VARIABLE} hides them", len(found), gpus_per_site)
        slots = gpus.slots(found, gpus_per_site)
        words = f"this machine: {len(found)} GPUs, and {gpus_per_site:g} for each site"
        envs = [{gpus.VARIABLE: slot} for slot in slots]
        yield WorkerChoice(workers, len(slots), words, envs=envs, forks=forks)
