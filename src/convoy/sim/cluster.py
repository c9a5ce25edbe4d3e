"""Workers of a simulation on the machines of a Ray cluster: a launcher, as the node's own is for processes.

    Pool ── Launcher ── Worker ══ Actor        what a worker process gets by its socket and its folders travels by Ray

A question's model is put into Ray's store once; all actors of a machine read it there. States travel with their visits.
"""

from __future__ import annotations

import asyncio
import importlib
import os
import re
import secrets
import socket
from collections import OrderedDict, deque
from collections.abc import Callable, Iterator, Mapping, MutableMapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import numpy as np

import convoy
from convoy import errors
from convoy.errors import BadInput, Unreachable
from convoy.node.isolation import Isolation
from convoy.node.launcher import Order
from convoy.sim import actor, gpus
from convoy.spec.policy import ISOLATED
from convoy.store.blobs import BlobFolder
from convoy.store.disk import name_of
from convoy.wire import convoy_pb2 as pb
from convoy.worker.visits import LOGS, given_at

AHEAD: Final = 2  # visits that an actor has at the same time: the next one's bytes come while it does the first
MODELS: Final = 3  # of questions that are kept in Ray's store
MACHINE_S: Final = 60.0  # for a machine to say which version it has
CLEAR_S: Final = 10.0  # for the machines to remove what dead actors have left
ANSWER_S: Final = 5.0  # for a cluster to take a connection
LOCAL: Final = {  # for a Ray of our own: it sends no statistics, and listens on the loopback address alone
    "RAY_USAGE_STATS_ENABLED": "0",
    "RAY_ENABLE_WINDOWS_OR_OSX_CLUSTER": "0",
}
QUIET: Final[Mapping[str, Any]] = {"log_to_driver": False, "configure_logging": False}
COLOURS: Final = re.compile(r"\x1b\[[0-9;]*m")
OPEN: Final = "an actor of a Ray cluster sees what Ray's user sees on its machine"


@dataclass(frozen=True, slots=True)
class Cluster:
    """A Ray cluster that we are connected to: its cores and GPUs by machine."""

    ray: Any
    machines: tuple[tuple[float, float], ...]
    words: str

    def room(self, gpus_per_site: float | None) -> int:
        """Return how many actors fit. Raises `BadInput` where no machine has the GPUs for one."""
        if gpus_per_site is not None:
            gpus.demand(self.words, max((own for _, own in self.machines), default=0.0), gpus_per_site)
        return gpus.room(self.machines, gpus_per_site)


@contextmanager
def connected(say: Callable[[str], None]) -> Iterator[Cluster]:
    """Connect to the Ray cluster of RAY_ADDRESS or of this machine, or start a Ray here, which is stopped at the end.

    `say` gets a line that says which. Raises `BadInput`, and `Unreachable` where a cluster or one of its machines does
    not answer.
    """
    try:
        ray = importlib.import_module("ray")
    except ImportError as problem:
        raise BadInput("Ray is not installed", why=str(problem), fix="pip install 'convoy-fl[ray]'") from problem
    with ExitStack() as stack:
        started = False
        if not ray.is_initialized():  # by whoever called us
            inner = vars(importlib.import_module("ray._private.worker"))
            stack.enter_context(_set(inner, {"print_to_stdstream": lambda *_, **__: None}))  # the output is ours alone
            stack.callback(ray.shutdown)
            started = _join(ray, stack)
        nodes = [node for node in ray.nodes() if node["Alive"] and node["Resources"].get("CPU")]
        _check_versions(ray, nodes)
        machines = tuple((it["Resources"]["CPU"], it["Resources"].get("GPU", 0.0)) for it in nodes)
        cores, own = (sum(column) for column in zip(*machines, strict=True))
        whose = "one on this machine, started for this simulation" if started else "a running cluster"
        words = f"Ray: {whose}: {cores:g} cores and {own:g} GPUs on {len(machines)} machine{'s'[: len(machines) - 1]}"
        say(words)
        yield Cluster(ray, machines, words)


def _join(ray: Any, stack: ExitStack) -> bool:
    """Connect to a running cluster; return whether there was none, and a Ray was started here."""
    address = os.environ.get("RAY_ADDRESS", "")
    try:
        if address not in ("", "auto", "local"):
            _check_answers(address)
        if address != "local":
            ray.init(address="auto", **QUIET)
            return False
    except ConnectionError as problem:
        if address:
            raise Unreachable(f"no Ray cluster answers at {address}", why=errors.line(problem)) from problem
    except (RuntimeError, ray.exceptions.RayError) as problem:  # another version, or its token is wanted
        raise BadInput("the Ray cluster cannot be used", why=_reason(problem)) from problem
    stack.enter_context(_set(os.environ, LOCAL))
    constants = vars(importlib.import_module("ray._private.ray_constants"))  # which has read its environment already
    stack.enter_context(_set(constants, {"ENABLE_RAY_CLUSTER": False}))
    ray.init(address="local", include_dashboard=False, **QUIET)
    return True


def _check_answers(address: str) -> None:
    """Raise `Unreachable` where nothing listens: Ray itself tries for two minutes and then ends the process."""
    host, _, port = address.rpartition(":")
    if "://" in address or not host or not port.isdigit():
        raise BadInput(
            f"RAY_ADDRESS is {address}, which names no cluster",
            fix="run this command on a machine of the cluster, with RAY_ADDRESS=HOST:PORT or without it",
        )
    try:
        socket.create_connection((host.strip("[]"), int(port)), ANSWER_S).close()
    except OSError as problem:
        raise Unreachable(f"no Ray cluster answers at {address}", why=errors.line(problem)) from problem


@contextmanager
def _set(where: MutableMapping[str, Any], values: Mapping[str, Any]) -> Iterator[None]:
    """Set values for a while."""
    before = {name: where.get(name) for name in values}
    where.update(values)
    try:
        yield
    finally:
        for name, value in before.items():
            if value is None:
                del where[name]
            else:
                where[name] = value


def _check_versions(ray: Any, nodes: Sequence[Mapping[str, Any]]) -> None:
    """Raise `BadInput` where a machine has no Convoy or another one."""
    for node, ref in _everywhere(ray, nodes, actor.version):
        machine = node["NodeManagerAddress"]
        fix = f"install convoy-fl=={convoy.__version__} on every machine of the cluster"
        try:
            found = ray.get(ref, timeout=MACHINE_S)
        except ray.exceptions.GetTimeoutError as problem:
            raise Unreachable(f"machine {machine} gives no answer for {MACHINE_S:g} s") from problem
        except ray.exceptions.RayError as problem:
            raise BadInput(f"machine {machine} cannot run Convoy", why=_reason(problem), fix=fix) from problem
        if found != convoy.__version__:
            raise BadInput(f"machine {machine} has Convoy {found}, and this one {convoy.__version__}", fix=fix)


def _everywhere(
    ray: Any, nodes: Sequence[Mapping[str, Any]], function: Callable[..., Any], *args: Any
) -> list[tuple[Mapping[str, Any], Any]]:
    """Call a function on every machine; return each with the reference of its result."""
    places = importlib.import_module("ray.util.scheduling_strategies")
    task = ray.remote(function)
    found = []
    for node in nodes:
        there = places.NodeAffinitySchedulingStrategy(node["NodeID"], soft=False)
        found.append((node, task.options(num_cpus=0, scheduling_strategy=there).remote(*args)))
    return found


def _reason(problem: BaseException) -> str:
    """Return the line in which Ray's long messages say why."""
    lines = COLOURS.sub("", str(problem)).strip().splitlines() or [repr(problem)]
    return lines[-1].partition(" Some common causes")[0].strip()


# ---- the launcher ----------------------------------------------------------------------------------------------------
class ActorLauncher:
    """Starts actors, and carries the blobs of their visits."""

    def __init__(self, ray: Any, gpus_per_site: float | None) -> None:
        """Take a connected Ray; each actor has one core, and that share of a GPU."""
        self._ray, self._gpus = ray, gpus_per_site
        self._folder = Path()  # of the last job
        self._files: Any = None  # the reference of its files
        self._models: OrderedDict[str, Any] = OrderedDict()  # references, by digest
        self._open: set[str] = set()  # the folders of actors that have not removed them

    @property
    def isolation(self) -> Isolation:
        """How actors are isolated: not at all."""
        return Isolation(namespaces=False, landlock=0, seccomp=False, missing=dict.fromkeys(ISOLATED, OPEN))

    def prepare(self) -> None:
        """Do nothing: no machine is taken before a job needs it."""

    async def launch(self, order: Order, output: Callable[[bytes], None], waits: Callable[[str], None]) -> ActorWorker:
        """Start an actor with one core; `output` and `waits` get nothing."""
        del output, waits
        if order.folder != self._folder:
            found = (path for path in order.folder.rglob("*") if path.is_file() and "__pycache__" not in path.parts)
            files = {str(path.relative_to(order.folder)): path.read_bytes() for path in found}
            self._folder, self._files = order.folder, self._ray.put(files)
        name = f"convoy-actor-{secrets.token_hex(8)}"
        self._open.add(name)
        made = self._ray.remote(actor.Actor).options(
            num_cpus=1, num_gpus=self._gpus or 0, max_restarts=0, scheduling_strategy="SPREAD"
        )
        handle = made.remote(name, order.begin.trainer.SerializeToString(), self._files)
        return ActorWorker(self, handle, order.begin.trainer, lambda: self._open.discard(name))

    def lend(self, blobs: BlobFolder, digest: str) -> Any:
        """Return the reference of a model's blob, which is put into Ray's store once."""
        if not digest:
            return None
        if digest not in self._models:
            self._models[digest] = self._ray.put(_bytes(blobs, digest))
            while len(self._models) > MODELS:
                self._models.popitem(last=False)
        return self._models[digest]

    def kill(self, handle: Any) -> None:
        """End an actor now."""
        self._ray.kill(handle)

    def clear(self) -> None:
        """Remove what actors have left that did not come to their end by themselves."""
        if self._open:
            nodes = [node for node in self._ray.nodes() if node["Alive"]]
            refs = [ref for _, ref in _everywhere(self._ray, nodes, actor.clear, sorted(self._open))]
            self._ray.wait(refs, num_returns=len(refs), timeout=CLEAR_S)


def _bytes(blobs: BlobFolder, digest: str) -> Any:
    return np.frombuffer(blobs.open(digest).data, np.uint8)


class ActorWorker:
    """An actor as a worker: a few visits are with it, the others wait here, results come in their order."""

    def __init__(
        self, launcher: ActorLauncher, handle: Any, begin: pb.BeginTrainer, closed: Callable[[], None]
    ) -> None:
        """`begin` has the folders of this side; `closed` is called when the actor has come to its end by itself."""
        self._launcher, self._handle, self._closed = launcher, handle, closed
        self._blobs, self._out = BlobFolder(Path(begin.blobs)), Path(begin.out)
        self._waiting: deque[pb.WorkerDown] = deque()
        self._flying: deque[tuple[pb.WorkerDown, asyncio.Future[Any]]] = deque()
        self._more = asyncio.Event()
        self._ended: asyncio.Future[str] = asyncio.get_running_loop().create_future()

    def send(self, *messages: pb.WorkerDown) -> None:
        """Give it visits, or its end."""
        self._waiting.extend(messages)
        self._fly()

    def _fly(self) -> None:
        while self._waiting and len(self._flying) < AHEAD and not self._ended.done():
            down = self._waiting.popleft()
            self._flying.append((down, asyncio.ensure_future(self._done(down))))
            self._more.set()

    async def _done(self, down: pb.WorkerDown) -> Any:
        if down.WhichOneof("it") != "visit":
            return await self._closed_down()
        model = self._launcher.lend(self._blobs, down.visit.question.model)
        state = _bytes(self._blobs, down.visit.state) if down.visit.state else None
        return await self._handle.visit.remote(down.visit.SerializeToString(), model, state)

    async def _closed_down(self) -> None:
        """Let every site's trainer come to its end, and take what that printed and what all of them have kept."""
        for site, printed in (await self._handle.close.remote()).items():
            self._log(site, printed)
        for path in await self._handle.artifacts.remote():
            target = self._out / path
            target.parent.mkdir(parents=True, exist_ok=True)
            target.write_bytes(await self._handle.read.remote(path))
        await self._handle.remove.remote()

    async def receive(self) -> pb.WorkerUp | None:
        """Return the result of the next visit; None once the actor has ended."""
        while not self._flying:
            if self._ended.done():
                return None
            self._more.clear()
            await self._more.wait()
        down, coming = self._flying[0]
        await asyncio.wait({coming})  # whoever stops waiting leaves it as it is
        if self._ended.done():
            return None
        if problem := coming.exception():
            self._end(_reason(problem))
            return None
        self._flying.popleft()
        result = coming.result()
        if down.WhichOneof("it") != "visit":
            self._closed()
            self._end("")
            return None
        self._fly()
        return self._arrived(down.visit, *result)

    def _arrived(self, visit: pb.Visit, frame: bytes, printed: bytes, made: Mapping[str, Any]) -> pb.WorkerUp:
        """Put a site's log and what it made where a worker process would have written them."""
        self._log(visit.site, printed)
        place = given_at(self._out, visit.site, visit.question.id)
        for digest, data in made.items():
            place.mkdir(exist_ok=True)
            (place / name_of(digest)).write_bytes(data)
        return pb.WorkerUp.FromString(frame)

    def _log(self, site: str, printed: bytes) -> None:
        if printed:
            with (self._out / LOGS / f"{site}.log").open("ab") as log:
                log.write(printed)

    def _end(self, why: str) -> None:
        if not self._ended.done():
            self._ended.set_result(why)
        self._more.set()
        self._launcher.kill(self._handle)
        for _, coming in self._flying:
            if not coming.cancel() and not coming.cancelled():
                coming.exception()  # asyncio is told that nobody wants it

    async def ended(self) -> str:
        """Wait for its end; return "", or why it ended."""
        return await self._ended

    def cpu_s(self) -> float:
        """Return 0: nobody here knows."""
        return 0.0

    async def stop(self, grace_s: float) -> None:
        """End it now."""
        del grace_s
        self._end("it was stopped")
