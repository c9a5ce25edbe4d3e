"""A real federation on this machine, for tests and benchmarks: provisioned, real processes, real mTLS."""

from __future__ import annotations

import os
import random
import shutil
import signal
import subprocess
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Self

from convoy.admin.sync import Session
from convoy.cli import run
from convoy.cli.processes import is_free
from convoy.provision.kits import provision
from convoy.spec.project import read_project
from convoy.worker import forks

ADMIN = "ada@example.org"


PORTS = range(10_000, 16_000)  # below what any kernel gives to outgoing connections, which could take one meanwhile

SHARES = 16  # of the ports: nobody's test takes one that another's has chosen and not opened yet


def free_ports(count: int) -> list[int]:
    """Return ports that nobody listens on now; ask once for all that live together, so that they differ."""
    found: list[int] = []
    beside = int(os.environ.get("PYTEST_XDIST_WORKER", "gw0").removeprefix("gw"))  # tests that run at the same time
    mine = PORTS[beside % SHARES :: SHARES]
    for port in random.sample(mine, len(mine)):
        if len(found) == count:
            break
        if is_free(port):
            found.append(port)
    return found


@dataclass
class Node:
    """One process of the federation; `prefix` goes before its command (a cgroup, a clock)."""

    kit: Path
    health_port: int
    prefix: Sequence[str] = ()
    env: dict[str, str] = field(default_factory=dict)
    process: subprocess.Popen[bytes] | None = None

    @property
    def log(self) -> Path:
        """Its output."""
        return self.kit / "node.log"

    def begin(self) -> int:
        """Start the process; return the pipe on which it says that it is ready."""
        ours, theirs = os.pipe()
        with self.log.open("ab") as log:
            self.process = subprocess.Popen(
                [*self.prefix, *run.command(self.kit, "localhost", self.health_port)],
                stdout=log,
                stderr=log,
                stdin=subprocess.DEVNULL,
                pass_fds=[theirs],
                env=os.environ | self.env | {run.READY_FD: str(theirs)},
            )
        os.close(theirs)
        return ours

    def wait_ready(self, pipe: int) -> None:
        """Wait for the word; raises `RuntimeError` with its log if it died."""
        with os.fdopen(pipe, "rb") as stream:
            if stream.read(6) != b"ready\n":
                raise RuntimeError(f"{self.kit.name} died:\n{self.log.read_text()[-3000:]}")

    def start(self) -> None:
        """Start and wait until it is ready."""
        self.wait_ready(self.begin())

    @property
    def pid(self) -> int:
        """Its process id."""
        assert self.process is not None
        return self.process.pid

    def kill(self) -> None:
        """kill -9, and see it gone."""
        assert self.process is not None
        self.process.kill()
        self.process.wait()

    def stop(self) -> int:
        """SIGTERM; return the exit status."""
        if self.process is None or self.process.poll() is not None:
            return 0
        self.process.send_signal(signal.SIGTERM)
        try:
            return self.process.wait(30)
        except subprocess.TimeoutExpired:
            self.kill()
            raise

    def children(self) -> list[int]:
        """Return the ids of its workers."""
        return self._children("worker")

    def signers(self) -> list[int]:
        """Return the ids of its processes that have the issuing key: one of a server, none of a site."""
        return self._children("signer")

    def forks(self) -> list[int]:
        """Return the ids of its processes that fork its workers: one, or none before a site's first job."""
        return self._children("forks")

    def _children(self, kind: str) -> list[int]:
        found = []
        for status in Path("/proc").glob("[0-9]*/stat"):
            try:
                parent = int(status.read_text().rsplit(")", 1)[1].split()[1])
                command = (status.parent / "cmdline").read_bytes()
                name = (status.parent / "comm").read_text().strip()
            except (OSError, IndexError):
                continue
            forked = forks.__name__.encode() in command and name != forks.WORKER
            is_a = "signer" if b"convoy.trust.signer" in command else "forks" if forked else "worker"
            if parent == self.pid and is_a == kind:
                found.append(int(status.parent.name))
        return found


@dataclass
class Federation:
    """A server, its sites and an admin in one folder."""

    folder: Path
    sites: int = 2
    name: str = "bench"
    settings: str = ""  # appended to every site's local/node.yaml
    server_settings: str = ""
    offline: bool = True  # kits with ready keys: most tests are about something else
    orgs: dict[str, str] = field(default_factory=dict)  # of sites that are not the admin's, "org"
    people: dict[str, tuple[str, str]] = field(default_factory=dict)  # beside the admin: organisation and role

    def __post_init__(self) -> None:
        """Provision it."""
        fed, admin, health, *healths = free_ports(3 + self.sites)
        self.admin_port = admin
        names = [f"site-{number}" for number in range(1, self.sites + 1)]
        lines = ["api_version: 3", f"name: {self.name}", "participants:"]
        ports = f"fed_learn_port: {fed}, admin_port: {admin}, default_host: localhost"
        lines += [f"  - {{name: server, type: server, org: org, {ports}}}"]
        lines += [f"  - {{name: {name}, type: client, org: {self.orgs.get(name, 'org')}}}" for name in names]
        lines += [f"  - {{name: {ADMIN}, type: admin, org: org, role: project_admin}}"]
        lines += [f"  - {{name: {n}, type: admin, org: {org}, role: {role}}}" for n, (org, role) in self.people.items()]
        self.project_yml = "\n".join(lines) + "\n"
        project, _ = read_project(self.project_yml, "project.yml")
        self.prod = provision(project, self.folder, now=time.time(), offline=self.offline)
        self.server = Node(self.prod / "server", health)
        self.nodes = {name: Node(self.prod / name, port) for name, port in zip(names, healths, strict=True)}
        for node in self.nodes.values():
            _append(node.kit, self.settings)
        _append(self.server.kit, self.server_settings)

    def up(self) -> Self:
        """Start everything at once and wait until every node is ready."""
        pipes = [(node, node.begin()) for node in (self.server, *self.nodes.values())]
        for node, pipe in pipes:
            node.wait_ready(pipe)
        return self

    def down(self) -> None:
        """Stop everything."""
        for node in (*self.nodes.values(), self.server):
            node.stop()

    def session(self, patience_s: float = 60.0, who: str = ADMIN) -> Session:
        """Return a client of its admin, or of somebody else."""
        return Session(self.prod / who, server="localhost", patience_s=patience_s)


@contextmanager
def federation(folder: Path, **options: object) -> Iterator[Federation]:
    """Run a federation for as long as the context lasts, and leave nothing of it."""
    made = Federation(folder, **options)  # type: ignore[arg-type]
    try:
        yield made.up()
    finally:
        made.down()
        shutil.rmtree(folder, ignore_errors=True)


def _append(kit: Path, text: str) -> None:
    if text:
        with (kit / "local" / "node.yaml").open("a") as file:
            file.write(f"\n{text}\n")
