"""What a task takes at a site: seconds by phase, and what the machine's own meters say of GPUs and energy."""

from __future__ import annotations

import asyncio
import threading
import time
from collections import defaultdict
from collections.abc import Callable, Coroutine, Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final, Protocol, TypeVar

from convoy.control.costs import Cost
from convoy.node.phases import AtSite

T = TypeVar("T")

RAPL: Final = Path("/sys/class/powercap")  # Linux: energy of processors in microjoules; only root can read it
BEAT_S: Final = 5.0  # between two readings during a task: RAPL starts again every few minutes, NVML keeps 100 samples


@dataclass(frozen=True, slots=True)
class Reading:
    """What meters say at an instant: joules and seconds of use since they were found, bytes in use now."""

    energy_j: float = 0.0
    gpu_s: float = 0.0
    gpu_memory: int = 0


class Meter(Protocol):
    """Something that measures what the machine takes."""

    def read(self) -> Reading:
        """Return what it says now."""
        ...


@dataclass(slots=True)
class Energy:
    """The energy of the processors, where the kernel tells it: a counter for each package, which starts again at 0."""

    counters: dict[Path, tuple[int, int]] = field(default_factory=dict)  # file -> last value, its range; microjoules
    used: int = 0  # microjoules

    @classmethod
    def find(cls, folder: Path = RAPL) -> Energy:
        """Return the counters of the packages that this process may read; their parts are counted in them."""
        made = cls()
        for file in sorted(folder.glob("*-rapl:*/energy_uj")):
            if file.parent.name.count(":") == 1:
                try:
                    made.counters[file] = int(file.read_text()), int((file.parent / "max_energy_range_uj").read_text())
                except (OSError, ValueError):
                    continue
        return made

    def read(self) -> Reading:
        """Return the joules since it was found."""
        for file, (before, most) in self.counters.items():
            try:
                now = int(file.read_text())
            except (OSError, ValueError):
                continue
            self.used += now - before if now >= before else now - before + most
            self.counters[file] = now, most
        return Reading(energy_j=self.used / 1e6)


@dataclass(slots=True)
class Gpus:
    """The GPUs of NVIDIA, through NVML (`pip install 'convoy-fl[gpu]'`): average use, memory in use, energy."""

    nvml: Any
    devices: list[Any]
    energy_j: float = 0.0
    gpu_s: float = 0.0
    _energy: dict[int, int] = field(default_factory=dict)  # last counters in millijoules, by place
    _at: float = field(default_factory=time.time)

    @classmethod
    def find(cls) -> Gpus | None:
        """Return the GPUs of this machine; None without the library, the driver or a GPU."""
        try:
            import pynvml
        except ImportError:
            return None
        try:
            pynvml.nvmlInit()
            devices = [pynvml.nvmlDeviceGetHandleByIndex(place) for place in range(pynvml.nvmlDeviceGetCount())]
        except pynvml.NVMLError:
            return None
        return cls(pynvml, devices) if devices else None

    def read(self) -> Reading:
        """Return the use since they were found; what a device does not tell counts as 0."""
        begun, self._at = self._at, time.time()
        memory = 0
        for place, device in enumerate(self.devices):
            try:
                memory += self.nvml.nvmlDeviceGetMemoryInfo(device).used
                self.gpu_s += self._use(device, begun) * (self._at - begun)
                now = self.nvml.nvmlDeviceGetTotalEnergyConsumption(device)
            except self.nvml.NVMLError:
                continue
            self.energy_j += (now - self._energy.get(place, now)) / 1e3
            self._energy[place] = now
        return Reading(self.energy_j, self.gpu_s, memory)

    def _use(self, device: Any, begun: float) -> float:
        """Return the average use of a device since a time, from 0 to 1: the driver has kept samples of it."""
        kind, samples = self.nvml.nvmlDeviceGetSamples(device, self.nvml.NVML_GPU_UTILIZATION_SAMPLES, int(begun * 1e6))
        name = {
            self.nvml.NVML_VALUE_TYPE_UNSIGNED_INT: "uiVal",
            self.nvml.NVML_VALUE_TYPE_UNSIGNED_LONG_LONG: "ullVal",
        }.get(kind, "uiVal")
        values = [getattr(sample.sampleValue, name) for sample in samples]
        return sum(values) / len(values) / 100 if values else 0.0


@dataclass(frozen=True, slots=True)
class Meters:
    """All meters of a site; its jobs share them, so what one task is told may be of another's, too."""

    meters: tuple[Meter, ...] = ()
    beat_s: float = BEAT_S
    _lock: threading.Lock = field(default_factory=threading.Lock)  # two jobs may read at once

    @classmethod
    def find(cls) -> Meters:
        """Return the meters that this machine has."""
        energy, gpus = Energy.find(), Gpus.find()
        return cls((*([energy] if energy.counters else []), *([gpus] if gpus is not None else [])))

    def read(self) -> Reading:
        """Return what all say together."""
        with self._lock:
            read = [meter.read() for meter in self.meters]
        return Reading(sum(it.energy_j for it in read), sum(it.gpu_s for it in read), sum(it.gpu_memory for it in read))

    async def during(self, work: Coroutine[Any, Any, T]) -> T:
        """Return what a coroutine returns, and read the meters meanwhile, before any of them forgets something."""
        if not self.meters:
            return await work
        over = asyncio.Event()
        beat = asyncio.create_task(self._beat(over))
        try:
            return await work
        finally:
            over.set()
            await beat

    async def _beat(self, over: asyncio.Event) -> None:
        while not over.is_set():
            try:
                async with asyncio.timeout(self.beat_s):
                    await over.wait()
            except TimeoutError:
                await asyncio.to_thread(self.read)


NO_METERS: Final = Meters()


PHASES: Final[dict[str, AtSite]] = {"pull_s": "pull", "train_s": "train", "release_s": "filter"}


@dataclass(slots=True)
class Stopwatch:
    """The seconds of a task's phases, and what the meters say of all of it; `measured` counts and traces each."""

    meters: Meters
    measured: Callable[[AtSite], AbstractContextManager[None]] = lambda _: nullcontext()
    seconds: dict[str, float] = field(default_factory=lambda: defaultdict(float))
    begun: Reading = field(init=False)

    def __post_init__(self) -> None:
        """Read the meters."""
        self.begun = self.meters.read()

    @contextmanager
    def phase(self, name: str) -> Iterator[None]:
        """Count the time of a block under the name of a field of `Cost`."""
        begun = time.monotonic()
        try:
            with self.measured(PHASES[name]):
                yield
        finally:
            self.seconds[name] += time.monotonic() - begun

    def cost(self, trainer: Cost) -> Cost:
        """Return what the task took here; of what the trainer says, what it alone can measure."""
        read = self.meters.read()
        return Cost(
            pull_s=self.seconds["pull_s"],
            train_s=self.seconds["train_s"],
            release_s=self.seconds["release_s"],
            cpu_s=trainer.cpu_s,
            memory=trainer.memory,
            gpu_s=read.gpu_s - self.begun.gpu_s,
            gpu_memory=read.gpu_memory,
            energy_j=read.energy_j - self.begun.energy_j,
        ).rounded()
