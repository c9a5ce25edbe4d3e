"""Workers as Kubernetes Jobs: a pod and a single-use credential for each, one watch, one port for their connections."""

from __future__ import annotations

import asyncio
import os
import secrets
import tempfile
import time
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

import structlog

from convoy import errors
from convoy.errors import BadInput, ConvoyError, NotAllowed
from convoy.node.isolation import OWN_MACHINE, Isolation
from convoy.node.launcher import Order
from convoy.pods.api import Api, Gone, connected
from convoy.pods.objects import LAUNCH, Home, job, secret
from convoy.pods.worker import CREDENTIAL_S, PodWorker
from convoy.spec.pods import Pods
from convoy.spec.settings import Settings
from convoy.trust.authority import DAY_S, Authority
from convoy.wire import tls
from convoy.wire.backoff import Backoff
from convoy.wire.door import Door, bound
from convoy.wire.stream import Stream

REALM: Final = "workers"  # the "project" of a root that lives as long as this process, and that nobody else trusts
PORT: Final = "`workers_port` in local/node.yaml"


@dataclass(frozen=True, slots=True)
class _Files:
    """The node's own credential for connections of its pods."""

    root_file: Path
    cert_file: Path
    key_file: Path


@dataclass(slots=True)
class PodLauncher:
    """Launches workers into the cluster that this node is in."""

    api: Api
    home: Home
    pods: Pods
    authority: Authority
    group: asyncio.TaskGroup
    artifacts: int = 0  # the most bytes of the artifacts of one trainer
    leaving: asyncio.Event = field(default_factory=asyncio.Event)
    workers: dict[str, PodWorker] = field(default_factory=dict)

    @property
    def isolation(self) -> Isolation:
        """How workers are isolated there: each has a machine of its own, and its pod a NetworkPolicy."""
        return OWN_MACHINE

    def prepare(self) -> None:
        """Do nothing: no machine is taken before a job needs it."""

    async def launch(self, order: Order, output: Callable[[bytes], None], waits: Callable[[str], None]) -> PodWorker:
        """Start a worker and return at once; `waits` is called with the reason why it does not run yet."""
        name = f"{self.home.owner}-{secrets.token_hex(5)}"
        kept = order.begin.trainer.withheld
        given = {it: claim for it, claim in self.pods.data.items() if it not in kept}
        pods = self.pods.model_copy(update={"data": given})
        made = (job(name, self.home, pods, order.wants), secret(name, self.home, self._credential(name)))
        self.workers[name] = worker = PodWorker(
            self.api, made, order, output=output, waits=waits, leaving=self.leaving, artifacts=self.artifacts
        )
        self.group.create_task(worker.live()).add_done_callback(lambda _: self.workers.pop(name, None))
        return worker

    def _credential(self, name: str) -> Mapping[str, bytes]:
        """Return a key and a certificate for one pod, which uses it as a site does towards a server."""
        key, cert = self.authority.issue("site", name, now=time.time(), days=CREDENTIAL_S / DAY_S)
        return {"ca.crt": self.authority.pem, "tls.crt": cert, "tls.key": key}

    async def serve(self, stream: Stream) -> None:
        """Pass a connection to the worker whose pod has opened it. Raises `NotAllowed` for any other one."""
        name = tls.peer_of(stream.sock, REALM).name
        worker = self.workers.get(name)
        if worker is None or not worker.expected():
            raise NotAllowed(
                f"the node does not wait for {name}", why="a worker's credential is valid once, for an hour"
            )
        await worker.serve(stream)

    async def watch(self) -> None:
        """Report to each worker the state of its pod, for ever; no answer of an API server ends the node."""
        backoff = Backoff()
        while not self.leaving.is_set():
            try:
                found, since = await self.api.list("Pod", self.home.labels)
                self._all(found)
                while True:
                    async for what, it in self.api.watch(self.home.labels, since):
                        since = it["metadata"]["resourceVersion"]
                        self._one(what, it)
                        backoff.reset()
                    await backoff.wait(self.leaving)
            except ConvoyError as problem:
                if not isinstance(problem, Gone):
                    structlog.get_logger().warning("pods are not watched", reason=errors.line(problem))
                await backoff.wait(self.leaving)
            except Exception as problem:  # noqa: BLE001 - the supervisor of the watch: no word of a cluster ends a node
                structlog.get_logger().error("the watch over pods failed", exc_info=problem)
                await backoff.wait(self.leaving)

    def _all(self, found: list[Any]) -> None:
        there = {it["metadata"]["labels"].get(LAUNCH): it for it in found}
        for name, worker in list(self.workers.items()):
            if name in there:
                worker.pod(there[name])
            elif worker.seen:
                worker.gone()

    def _one(self, what: str, it: Any) -> None:
        worker = self.workers.get(it["metadata"]["labels"].get(LAUNCH, ""))
        if worker is None:
            return
        if what == "DELETED":
            worker.gone()
        else:
            worker.pod(it)

    async def bury(self) -> int:
        """Remove what a killed process of this node has left in the cluster; return how many Jobs there were."""
        found, _ = await self.api.list("Job", self.home.labels)
        for it in found:
            for kind in ("Job", "Secret"):
                await self.api.remove(kind, it["metadata"]["name"])
        return len(found)


@asynccontextmanager
async def opened(settings: Settings, env: Mapping[str, str] = os.environ) -> AsyncIterator[PodLauncher]:
    """Give the launcher of a node that runs in a pod; when the context ends, its pods are removed.

    Raises `BadInput` outside of a pod made for it, `NotAllowed` without the right to look at pods, `Unreachable`.
    """
    assert settings.pods is not None  # noqa: S101 - read_settings saw to it
    try:
        host, name, uid, owner = (env[key] for key in ("POD_IP", "POD_NAME", "POD_UID", "CONVOY_OWNER"))
    except KeyError as problem:
        raise BadInput(
            "`launcher: kubernetes` works inside a pod that knows its name",
            why=f"the environment has no {problem}",
            fix="let `convoy kube up` make the pod, or set `launcher: processes` in local/node.yaml",
        ) from problem
    with tempfile.TemporaryDirectory() as made:
        folder = Path(made)
        authority = Authority.create(REALM, folder, now=time.time())
        key, cert = authority.issue("server", "node", now=time.time(), hosts=[host])
        files = _Files(folder / "root.crt", folder / "node.crt", folder / "node.key")
        files.cert_file.write_bytes(cert)
        files.key_file.touch(mode=0o600)
        files.key_file.write_bytes(key)
        context = tls.server_context(files)
    address = f"[{host}]" if ":" in host else host
    async with connected(env) as api:
        sock = bound(host, settings.workers_port, setting=PORT)
        home = Home(name, uid, f"{address}:{sock.getsockname()[1]}", owner)
        async with asyncio.TaskGroup() as group:
            launcher = PodLauncher(api, home, settings.pods, authority, group, settings.artifacts)
            await launcher.bury()
            async with Door(sock, lambda: context, launcher.serve, lambda _: None):
                watching = group.create_task(launcher.watch())
                try:
                    yield launcher
                finally:
                    launcher.leaving.set()
                    watching.cancel()
                    await asyncio.gather(*(worker.stop(0) for worker in list(launcher.workers.values())))
