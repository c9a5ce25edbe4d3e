"""What measuring a peer takes: its environment, its processes and their clocks."""

from __future__ import annotations

import itertools
import json
import os
import select
import shutil
import signal
import statistics
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
SITES = 2
START_S = 120.0  # a federation that is not up by then never will be, on the slowest of our machines
JOB_S = 400.0  # six times what the longest job took on two nearly free cores
MARK = "CONVOY_BENCH_PEER"  # in the environment of all that a peer starts: some of it leaves our process group


@dataclass(frozen=True)
class PeerTimes:
    """Seconds of one federation and of one job in it."""

    ready_s: float  # from starting all processes at once until the last one said that it is ready
    first_s: float  # from starting the submitting client, cold, until the first task runs at a site
    whole_s: float  # from the call that submits (client imported) until the client knows that the job is done
    round_s: float  # the median between two starts of the training at the same site


@dataclass(frozen=True)
class Place:
    """Where one federation of a peer lives."""

    folder: Path
    bin: Path

    @property
    def marks(self) -> Path:
        """The folder in which every site appends a line with the time of each of its tasks."""
        return self.folder / "marks"

    @property
    def env(self) -> dict[str, str]:
        """All that a process of the peer sees of our environment: no home, no proxies, no telemetry."""
        return {
            "PATH": f"{self.bin}:/usr/local/bin:/usr/bin:/bin",
            "HOME": str(self.folder),
            "TMPDIR": str(self.folder),
            "LANG": "C.UTF-8",
            "PYTHONUNBUFFERED": "1",
            "FLWR_HOME": str(self.folder / "flwr"),
            "FLWR_TELEMETRY_ENABLED": "0",
            "FLWR_DISABLE_UPDATE_CHECK": "1",
            MARK: str(self.folder),
        }

    def call(self, name: str, *command: str, timeout_s: float) -> None:
        """Run a command of the peer to its end; raises `RuntimeError` with the end of its output if it fails."""
        log = self.folder / f"{name}.out"
        with log.open("ab") as out:
            try:
                subprocess.run(
                    command,
                    check=True,
                    stdin=subprocess.DEVNULL,
                    stdout=out,
                    stderr=out,
                    env=self.env,
                    cwd=self.folder,
                    timeout=timeout_s,
                )
            except subprocess.SubprocessError as problem:
                raise RuntimeError(f"{problem}\n{tail(log)}") from problem


@dataclass(frozen=True)
class Part:
    """A process of a federation, which is ready when it prints `word`."""

    name: str
    command: Sequence[str]
    word: bytes


@dataclass(frozen=True)
class Peer:
    """A system beside ours: how it is installed, started and given a job."""

    name: str  # its folder below .cache/peers
    requirement: str  # what pip installs
    note: str  # what is not as in ours
    prepare: Callable[[Place], list[Part]]  # provision; return what to start
    write: Callable[[Place, Path, int, int], list[str]]  # (place, folder, bytes, rounds): the command that submits

    def measure(self, folder: Path, size: int, rounds: int) -> PeerTimes:
        """Return the times of one job of `size` bytes of float32 in a federation of its own in `folder`."""
        (times,) = self.measures(folder, [(size, rounds)])
        return times

    def measures(self, folder: Path, jobs: Sequence[tuple[int, int]]) -> Iterator[PeerTimes]:
        """Run jobs of (bytes, rounds) one after the other in one federation; yield the times of each as it ends."""
        place = Place(folder.resolve(), environment(self.name, self.requirement))
        place.folder.mkdir(parents=True)
        try:
            with running(place, self.prepare(place)) as ready_s:
                for number, (size, rounds) in enumerate(jobs):
                    home = place.folder / f"job{number}"
                    home.mkdir()
                    shutil.rmtree(place.marks, ignore_errors=True)
                    place.marks.mkdir()
                    command = self.write(place, home, size, rounds)
                    began = time.time()
                    place.call("client", *command, timeout_s=JOB_S)
                    yield read_times(place, home, ready_s, began, rounds)
        finally:
            shutil.rmtree(place.folder, ignore_errors=True)


def environment(name: str, requirement: str) -> Path:
    """Return the bin folder of the virtual environment in .cache/peers/`name`; make it if it is missing or stale."""
    folder = ROOT / ".cache" / "peers" / name
    stamp = folder / "installed"
    if not stamp.is_file() or stamp.read_text() != requirement:
        print(f"installing {requirement} into {folder.relative_to(ROOT)}", file=sys.stderr)
        shutil.rmtree(folder, ignore_errors=True)
        subprocess.run([sys.executable, "-m", "venv", folder], check=True)
        pip = [folder / "bin" / "pip", "install", "--quiet", "--disable-pip-version-check"]
        subprocess.run([*pip, requirement], check=True)
        stamp.write_text(requirement)
    return folder / "bin"


@dataclass
class Talker:
    """A running part; a thread reads what it prints into a log, and knows when it said its word."""

    part: Part
    place: Place
    said_at: float | None = None
    heard: threading.Event = field(default_factory=threading.Event)  # the word, or the end of its output

    def __post_init__(self) -> None:
        """Start it."""
        self.log = self.place.folder / f"{self.part.name}.out"
        self.process = subprocess.Popen(
            self.part.command,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            env=self.place.env,
            cwd=self.place.folder,
        )
        self.reader = threading.Thread(target=self.read, daemon=True)
        self.reader.start()

    def read(self) -> None:
        """Read to the end."""
        assert self.process.stdout is not None
        with self.process.stdout as lines, self.log.open("wb", buffering=0) as log:
            for line in lines:
                log.write(line)
                if self.said_at is None and self.part.word in line:
                    self.said_at = time.perf_counter()
                    self.heard.set()
        self.heard.set()

    def wait(self) -> float:
        """Return when it said its word; raises `RuntimeError` with the end of its output if it did not."""
        self.heard.wait(START_S)
        if self.said_at is None:
            raise RuntimeError(f"{self.part.name} never said {self.part.word.decode()!r}:\n{tail(self.log)}")
        return self.said_at

    def reap(self) -> None:
        """See it gone, after it was killed."""
        self.process.wait()
        self.reader.join()


@contextmanager
def running(place: Place, parts: list[Part]) -> Iterator[float]:
    """Start the parts all at once; yield the seconds until all were ready; kill them and all that they started."""
    crew: list[Talker] = []
    began = time.perf_counter()
    try:
        for part in parts:
            crew.append(Talker(part, place))  # noqa: PERF401 - those before one that cannot start are killed too
        yield max(talker.wait() for talker in crew) - began
    finally:
        end(place.folder)
        for talker in crew:
            talker.reap()


def end(folder: Path) -> None:
    """Kill all that was started in a federation's folder."""
    while pids := marked(folder):
        for pid in pids:
            kill(pid)


def marked(folder: Path) -> list[int]:
    """Return the ids of the processes that carry the mark of the federation in `folder`."""
    mark, found = f"{MARK}={folder}".encode(), []
    for file in Path("/proc").glob("[0-9]*/environ"):
        try:
            if mark in file.read_bytes().split(b"\0"):
                found.append(int(file.parent.name))
        except OSError:  # it ended, or it is somebody else's
            continue
    return found


def kill(pid: int) -> None:
    """kill -9, and see it gone."""
    try:
        handle = os.pidfd_open(pid)
    except ProcessLookupError:
        return
    try:
        signal.pidfd_send_signal(handle, signal.SIGKILL)
        select.select([handle], [], [])
    except ProcessLookupError:
        pass
    finally:
        os.close(handle)


def read_times(place: Place, home: Path, ready_s: float, began: float, rounds: int) -> PeerTimes:
    """Return what the client of the job in `home` and the marks of the sites say."""
    sites = [[float(line) for line in file.read_text().split()] for file in place.marks.iterdir()]
    if [len(times) for times in sites] != [rounds] * SITES:
        counts = [len(times) for times in sites]
        raise RuntimeError(f"tasks seen at the sites: {counts}; wanted {rounds} at each of {SITES}")
    times = json.loads((home / "times.json").read_text())
    gaps = [after - before for site in sites for before, after in itertools.pairwise(site)]
    first = min(site[0] for site in sites)
    return PeerTimes(ready_s, first - began, times["ended"] - times["began"], statistics.median(gaps))


def tail(log: Path) -> str:
    """Return the end of a log."""
    return log.read_text(errors="replace")[-3000:]
