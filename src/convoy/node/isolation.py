"""What this machine can do to isolate workers, found by trying it once, and what a node's owner grants to jobs."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Final, Self

from convoy.spec.policy import ISOLATED
from convoy.spec.settings import Grants
from convoy.worker import confine, linux, sandbox, syscalls
from convoy.worker.sandbox import Sandbox

FILES, PROCESSES, NETWORK = ISOLATED  # what a worker can reach: its own files, its own processes, no connections


@dataclass(frozen=True, slots=True)
class Isolation:
    """Which mechanisms work; `missing` has the parts that are not isolated, each with the reason."""

    namespaces: bool
    landlock: int  # version, 0: not available
    seccomp: bool
    missing: Mapping[str, str]  # by part: files, processes, network

    def __str__(self) -> str:
        return "; ".join(f"{part}: {why}" for part, why in self.missing.items()) or "full"


OWN_MACHINE: Final = Isolation(namespaces=True, landlock=0, seccomp=True, missing={})  # of workers in pods of their own


def probe(folder: Path) -> Isolation:
    """Try in child processes what this machine allows; `folder` must exist, and is not changed."""
    if not linux.known:
        why = "workers are isolated only on Linux, on x86_64 and aarch64"
        return Isolation(namespaces=False, landlock=0, seccomp=False, missing=dict.fromkeys(ISOLATED, why))
    no_namespaces = _attempt(lambda: _try_namespaces(str(folder)))
    no_seccomp = _attempt(_try_seccomp)
    version = linux.landlock_version()
    missing = {}
    if no_namespaces:
        without = f"there are no user namespaces here ({no_namespaces})"
        if not version:
            missing[FILES] = f"{without}, and no Landlock: jobs read and write what the node's user can"
        missing[PROCESSES] = f"{without}: jobs see the names of other processes" + (
            "" if version >= 6 else ", and may send signals to those of the node's user"
        )
        if no_seccomp:
            missing[NETWORK] = f"{without}, and no seccomp ({no_seccomp}): jobs may open connections"
    return Isolation(namespaces=not no_namespaces, landlock=version, seccomp=not no_seccomp, missing=missing)


@dataclass(frozen=True, slots=True)
class Walls:
    """How one node isolates workers: what the machine can do, what its owner grants, what is always hidden."""

    isolation: Isolation
    grants: Grants
    system: tuple[str, ...]
    devices: tuple[str, ...]

    @classmethod
    def build(cls, isolation: Isolation, grants: Grants, hidden: Iterable[Path]) -> Self:
        """Examine the machine once. `hidden`: folders in which a worker sees only its own files."""
        secrets = tuple(os.path.realpath(path) for path in hidden)
        granted = tuple(it for path in grants.read for it in sandbox.visible(path, secrets))
        return cls(isolation, grants, (*sandbox.system(secrets), *granted), sandbox.devices())

    def sandbox(self, *, read: Iterable[str], write: Iterable[str], scratch: Path) -> Sandbox:
        """Return the sandbox of a worker that may read and write these paths in addition to the usual ones."""
        cache = (self.grants.cache,) if self.grants.cache else ()
        return Sandbox(
            read=(*self.system, *sandbox.both(read)),
            write=(*sandbox.both((*self.grants.write, *cache, *write)), str(scratch)),
            devices=self.devices,
            scratch=str(scratch),
            network=self.grants.network,
            namespaces=self.isolation.namespaces,
            landlock=self.isolation.landlock,
            seccomp=self.isolation.seccomp,
        )

    def environment(self, scratch: Path) -> dict[str, str]:
        """Return the environment variables that point to the folders that a worker may write to."""
        home, cache = str(scratch), self.grants.cache
        temporary = "/tmp" if self.isolation.namespaces else home  # noqa: S108 - the worker's own there
        caches = {"XDG_CACHE_HOME": cache, "HF_HOME": f"{cache}/huggingface", "TORCH_HOME": f"{cache}/torch"}
        return {"HOME": home, "TMPDIR": temporary, **(caches if cache else {})}


def _attempt(what: Callable[[], None]) -> str:
    """Call a function in a child process; return why it failed, or ""."""
    ours, theirs = os.pipe()
    child = os.fork()
    if child == 0:
        try:
            what()
        except OSError as problem:
            os.write(theirs, str(problem).encode())
        finally:
            os._exit(0)
    os.close(theirs)
    with os.fdopen(ours, "rb") as said:
        why = said.read().decode()
    os.waitpid(child, 0)
    return why


def _try_namespaces(folder: str) -> None:
    confine.split_off(network=False)
    bare = Sandbox(
        read=("/usr",),
        write=(folder,),
        devices=("/dev/null",),
        scratch=folder,
        network=False,
        namespaces=True,
        landlock=0,
        seccomp=False,
    )
    why = _attempt(lambda: confine.furnish(bare))  # the first of the new processes
    if why:
        raise OSError(why)


def _try_seccomp() -> None:
    linux.forbid_new_privileges()
    linux.seccomp(syscalls.program(inet=False))
