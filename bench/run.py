"""`make bench`: the numbers of the design page, each beside its budget, the floor and the peers, in one run.

Medians of `--times` (five); one line as each number comes, the table at the end. A number over its budget is marked.
The peers do each of their jobs once, after ours, and their simulators three times; `--no-peers` leaves them out.
"""

from __future__ import annotations

import argparse
import itertools
import json
import os
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

from bench import floor, folds, jobs, live, memory, peers, simulator, tabs
from bench.peer import PeerTimes
from bench.rows import Row, show
from convoy.errors import ConvoyError
from convoy.provision.kits import provision
from convoy.spec.project import read_project
from tests.federation import ADMIN, Federation, federation

MB = 1_000_000


class Bench:
    """Measures one after the other, each on federations of its own."""

    def __init__(self, folder: Path, times: int) -> None:
        self.folder, self.times, self.count = folder, times, 0
        self.floors: dict[int, float] = {}

    def place(self) -> Path:
        """Return a fresh folder."""
        self.count += 1
        return self.folder / str(self.count)

    def median(self, measure: Callable[[], float]) -> float:
        """Return the median of `times` measures."""
        return statistics.median(measure() for _ in range(self.times))

    def ready(self) -> Row:
        """Server and two sites from nothing to registered."""

        def once() -> float:
            made = Federation(self.place())
            began = time.perf_counter()
            made.up()
            took = time.perf_counter() - began
            made.down()
            return took

        return Row(
            "federation of server + 2 sites ready, cold", self.median(once), 2.5, "s", peer=lambda jobs: jobs[0].ready_s
        )

    def first_task(self) -> Row:
        """From typing `convoy job submit` to the first line of the first task at a site."""
        marks = self.place()
        marks.mkdir(parents=True)
        with federation(self.place(), settings=f"isolation: {{write: [{marks}]}}") as made:
            mark = marks / "first"
            job = jobs.write(self.place(), 10_000, rounds=1, sites=2, mark=mark)
            command = [str(Path(sys.executable).with_name("convoy")), "job", "submit", str(job)]
            command += ["--kit", str(made.prod / ADMIN), "--server", "localhost", "--json"]

            def once() -> float:
                mark.unlink(missing_ok=True)
                began = time.time()
                done = subprocess.run(command, check=True, capture_output=True, text=True)
                with made.session() as session:
                    session.wait(json.loads(done.stdout)["id"])
                return float(mark.read_text()) - began

            took = self.median(once)
        return Row(
            "submit -> first task running at a site, cold CLI", took, 1.0, "s", peer=lambda jobs: jobs[0].first_s
        )

    def small_round(self) -> Row:
        """The median round of 10 kB."""
        with federation(self.place()) as made:
            job = jobs.write(self.place(), 10_000, rounds=50, sites=2)
            took = self.median(lambda: rounds_s(made, job))
        low = floor.measure(10_000, 2) * 1e3
        return Row("round, 10 kB, 2 sites", took * 1e3, 20, "ms", low, peer=lambda jobs: jobs[0].round_s)

    def whole(self, size: int, budget: float) -> Row:
        """A whole job of 5 rounds at 2 sites, from the call of submit to its end."""
        with federation(self.place()) as made:
            job = jobs.write(self.place(), size, rounds=5, sites=2)

            def once() -> float:
                began = time.perf_counter()
                with made.session() as session:
                    detail = session.wait(session.submit(job).id)
                assert detail.job.state == "completed", detail.job.cause
                return time.perf_counter() - began

            took = self.median(once)
        low = 5 * floor.measure(size, 2)
        what = f"whole job, {size // MB} MB x 5 rounds x 2 sites"
        place = [job for job, _ in peers.JOBS].index(size)
        return Row(what, took, budget, "s", low, peer=lambda jobs: jobs[place].whole_s)

    def big_round(self) -> Row:
        """The median round of 50 MB at 8 sites; its budget is a ratio to the floor of this run."""
        low = floor.measure(50 * MB, 8)
        with federation(self.place(), sites=8) as made:
            took = rounds_s(made, jobs.write(self.place(), 50 * MB, rounds=self.times + 2, sites=8))
        note = f"{took / low:.2f} x the floor"
        return Row("round, 50 MB x 8 sites", took, 1.5 * low, "s", low, note=note)

    def peak(self, sites: int, size: int, kind: str = "float32") -> int:
        """Return the peak of unreclaimable bytes over the server's processes in a job of three rounds."""
        with federation(self.place(), sites=sites) as made:

            def pids() -> list[int]:
                return [made.server.pid, *made.server.signers(), *made.server.forks(), *made.server.children()]

            with memory.watched(pids) as peak:
                rounds_s(made, jobs.write(self.place(), size, rounds=3, sites=sites, kind=kind))
        return peak.value

    def memories(self) -> list[Row]:
        """Peak memory at 2 and 8 sites beyond that of a tiny model, the slope, and rounds in a cgroup of that size."""
        model, rows, beyond = 50 * MB, [], {}
        bases = {sites: self.peak(sites, 10_000) for sites in (2, 8, 32)}
        for sites in (2, 8):
            peak = self.peak(sites, model)
            beyond[sites] = (peak - bases[sites]) / model
            note = f"base {bases[sites] / MB:.0f} MB, peak {peak / MB:.0f} MB"
            what = f"server memory, {sites} sites, beyond the base"
            rows.append(Row(what, beyond[sites], 2.5, "models", note=note))
        for kind in ("float16", "uint8"):
            peak = self.peak(2, model, kind)
            note = f"base {bases[2] / MB:.0f} MB, peak {peak / MB:.0f} MB"
            rows.append(Row(f"server memory, 2 sites, {kind}", (peak - bases[2]) / model, 2.5, "models", note=note))
        slope = max((beyond[8] - beyond[2]) / 6, 0.0)
        rows.append(Row("server memory, slope from 2 to 8 sites", slope, 0.05, "models a site"))
        return rows + [self.caged(sites, bases[sites] + int(2.5 * model)) for sites in (8, 32)]

    def caged(self, sites: int, limit: int) -> Row:
        """Rounds of 50 MB with the server and its workers inside a memory cgroup."""
        what = f"round, 50 MB x {sites} sites, server in a cgroup of {limit / MB:.0f} MB"
        with memory.cgroup(limit) as words:
            if words is None:
                return Row(what, float("nan"), float("nan"), "s", note="no memory cgroup can be made here")
            made, took, end = Federation(self.place(), sites=sites), float("nan"), "completed"
            made.server.prefix = words
            try:
                took = rounds_s(made.up(), jobs.write(self.place(), 50 * MB, rounds=3, sites=sites))
            except (ConvoyError, RuntimeError) as problem:
                end = f"FAILED: {str(problem).splitlines()[0]}"
            finally:
                killed = memory.oom_kills(words)
                made.down()
                shutil.rmtree(made.folder)
        return Row(what, took, float("inf"), "s", note=f"{end}, {killed} processes killed by the kernel")

    def idle_site(self) -> Row:
        """Resident memory of a registered site without a job."""
        with federation(self.place()) as made:
            lines = Path(f"/proc/{made.nodes['site-1'].pid}/status").read_text().splitlines()
            kib = next(int(line.split()[1]) for line in lines if line.startswith("VmRSS"))
        return Row("idle site, resident", kib * 1024 / MB, 60, "MB")

    def resume(self) -> Row:
        """From kill -9 of the server (started again at once) to the next committed round."""

        def once() -> float:
            with federation(self.place()) as made, made.session() as session:
                job = session.submit(jobs.write(self.place(), 10_000, rounds=400, sites=2)).id
                killed_at, last = 0.0, 0
                for progress in session.watch(job):
                    if not killed_at and progress.job.round >= 20:
                        last, killed_at = progress.job.round, time.time()
                        made.server.kill()
                        made.server.start()
                    fresh = [done for done in progress.rounds if killed_at and done.committed_at > killed_at]
                    if fresh and fresh[-1].round > last:
                        session.abort(job)
                        return fresh[0].committed_at - killed_at
            raise AssertionError("the job ended before the server was killed")

        return Row("kill -9 of the server -> next progress", self.median(once), 5, "s")

    def provision(self) -> Row:
        """Kits for a server and 100 sites."""
        lines = ["api_version: 3", "name: many", "participants:", "  - {name: server, type: server, org: org}"]
        lines += [f"  - {{name: site-{n}, type: client, org: org}}" for n in range(100)]
        project, _ = read_project("\n".join(lines), "project.yml")

        def once() -> float:
            began = time.perf_counter()
            provision(project, self.place(), now=time.time())
            return time.perf_counter() - began

        return Row("provision 100 sites", self.median(once), 2, "s")


def rounds_s(made: Federation, job: Path) -> float:
    """Run a job; return the median seconds between its commits, without the first, which starts the trainers."""
    with made.session() as session:
        detail = session.wait(session.submit(job).id)
    assert detail.job.state == "completed", f"{detail.job.cause}\n{detail.traceback}"
    at = [done.committed_at for done in detail.rounds][1:]
    return statistics.median(after - before for before, after in itertools.pairwise(at))


def measure_peers(folder: Path) -> dict[str, list[PeerTimes]]:
    """Return by its name what each peer's jobs took; one that fails is said and has none."""
    found: dict[str, list[PeerTimes]] = {}
    for peer in peers.PEERS:
        found[peer.requirement] = []
        try:
            found[peer.requirement] = list(peer.measures(folder / peer.name, peers.JOBS))
        except (RuntimeError, subprocess.SubprocessError) as problem:
            print(f"{peer.requirement} failed: {problem}", file=sys.stderr)
        print(f"{peer.requirement} done, load {os.getloadavg()[0]:.1f}: {peer.note}", file=sys.stderr)
    return found


def main() -> None:
    """Measure what was asked for, or everything."""
    options = argparse.ArgumentParser(description=__doc__)
    options.add_argument("--times", type=int, default=5)
    options.add_argument("--no-peers", action="store_true", help="leave the peers out")
    options.add_argument("only", nargs="*", help="names of measures (default: all)")
    chosen = options.parse_args()
    folder = Path(tempfile.mkdtemp(prefix="convoy-bench-"))
    bench = Bench(folder, chosen.times)
    measures: dict[str, Callable[[], Row | list[Row]]] = {
        "ready": bench.ready,
        "first_task": bench.first_task,
        "small_round": bench.small_round,
        "whole_1": lambda: bench.whole(MB, 2.0),
        "whole_100": lambda: bench.whole(100 * MB, 5.0),
        "big_round": bench.big_round,
        "memory": bench.memories,
        "idle_site": bench.idle_site,
        "resume": bench.resume,
        "provision": bench.provision,
        "tabs": lambda: tabs.measure(bench.place(), chosen.times),
        "live": lambda: live.measure(bench.place(), chosen.times, rounds_s),
        "folds": lambda: folds.measure(chosen.times),
        "simulator": lambda: simulator.measure(folder, chosen.times, peers=not chosen.no_peers),
    }
    print(f"{os.cpu_count()} cores, load {os.getloadavg()[0]:.1f}", file=sys.stderr)
    rows, times = list[Row](), dict[str, list[PeerTimes]]()
    try:
        for name, measure in measures.items():
            if chosen.only and name not in chosen.only:
                continue
            found = measure()
            rows += found if isinstance(found, list) else [found]
            print(f"{name} done, load {os.getloadavg()[0]:.1f}", file=sys.stderr)
        if not chosen.no_peers and any(row.peer for row in rows):
            times = measure_peers(folder)
    finally:  # also what was measured before an interrupt
        shutil.rmtree(folder, ignore_errors=True)
        show(rows, times, "what, on 2 cores, loopback, mTLS")


if __name__ == "__main__":
    main()
