"""`convoy up | ps | logs | down`: a provisioned federation on this machine, as real processes."""

from __future__ import annotations

import contextlib
import http.client
import json
import os
import selectors
import socket
import subprocess
import time
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Final

from convoy.cli import identity, processes, run
from convoy.cli.output import Screen, size
from convoy.errors import BadInput, NotFound, PatienceOut, Refused
from convoy.node import cores, rotation
from convoy.node.alive import lives
from convoy.spec.kit import Kit, read_kit
from convoy.spec.policy import read_policy
from convoy.spec.settings import at_home, read_settings

READY_S: Final = 60.0  # for a node to say that it is ready
ANSWER_S: Final = 2.0  # for a node to say how it is
GRACE_S: Final = 30.0  # for a node to drain
FIRST_HEALTH_PORT: Final = 8004
LAST_LINES: Final = 15  # of a log, to say why a node died


@dataclass(frozen=True, slots=True)
class Node:
    """A node that `up` started."""

    name: str
    kind: str
    kit: str
    pid: int
    health_port: int
    log: str

    @property
    def runs(self) -> bool:
        """Whether its process lives."""
        return lives(self.pid, Path(self.kit))


def up(screen: Screen, prod: Path) -> None:
    """Start every node of a prod_NN that does not run yet; returns when each has registered."""
    kits = kits_of(prod)
    lacking: list[str] = []
    before = {node.name: node for node in nodes_in(prod.parent / identity.RUNNING, prod) if node.runs}
    if before:
        screen.line("already running: " + ", ".join(f"{node.name} (process {node.pid})" for node in before.values()))
    fresh = [kit for kit in kits if kit.kind != "admin" and kit.name not in before]
    for kit in fresh:  # one that cannot start stops the command before anything has started
        run.check(kit)
        lacking += [f"{kit.name} does not have the data {missing}" for missing in read_settings(kit).missing_data]
        if kit.kind == "site":
            read_policy(kit.local / "policy.yaml")
    for warning in lacking:
        screen.line(f"warning: {warning}")
    _check_ports(kits, fresh)
    taken = {node.health_port for node in before.values()}
    began, nodes = time.monotonic(), dict(before)
    with contextlib.ExitStack() as held:
        ports = [held.enter_context(sock).getsockname()[1] for sock in _hold_ports(taken, len(fresh))]
        starts = [begin(kit, port) for kit, port in zip(fresh, ports, strict=True)]
        for start in starts:
            nodes[start.node.name] = start.node
        record(prod, kits, [nodes[kit.name] for kit in kits if kit.name in nodes])
        try:
            _await_ready(starts)
        except (Refused, PatienceOut):
            processes.end([start.node.pid for start in starts], grace_s=GRACE_S)
            record(prod, kits, list(before.values()))
            raise
    _await_registered([node for node in before.values() if node.kind == "site"])
    screen.data(_said(prod, kits, list(nodes.values())) | {"warnings": lacking})
    for older in sorted(prod.parent.glob("prod_*/server/work/convoy.sqlite")):
        if older.parents[2] < prod and not before:
            screen.line(f"jobs of {older.parents[2].name} stay there; `convoy up {older.parents[2]}` continues them")
    if fresh:
        names = ", ".join(kit.name for kit in fresh[:8]) + ("…" if len(fresh) > 8 else "")
        screen.line(f"{names} ready after {time.monotonic() - began:.1f} s")
    _table(screen, list(nodes.values()))


def choose(prod: Path | None, project: Path | None, workspace: Path) -> Path:
    """Return the prod_NN to run: the one named, the newest of a project file, or of the only project here."""
    from convoy.provision.kits import newest

    if prod is not None:
        if not prod.is_dir():
            raise BadInput(f"there is no folder {prod}", fix="name a folder prod_NN that `convoy provision` made")
        return prod.resolve()
    if project is not None:
        from convoy.spec import yamls
        from convoy.spec.project import read_project

        folders = [workspace / read_project(yamls.read_text(project), str(project))[0].name]
    else:
        folders = sorted(folder.parent for folder in workspace.glob("*/state"))
    if len(folders) > 1:
        names = ", ".join(folder.name for folder in folders)
        raise BadInput(
            "there is more than one project in this workspace",
            why=names,
            fix="name a project.yml with -p, or a folder prod_NN",
        )
    found = newest(folders[0]) if folders and folders[0].is_dir() else None
    if found is None:
        raise BadInput("no project is provisioned here", why=f"looked in {workspace}", fix="convoy provision")
    return found.resolve()


def kits_of(prod: Path) -> list[Kit]:
    """Return every participant's kit, the server's first. Raises `BadInput` naming those that are missing."""
    from convoy.trust import membership

    kits = [read_kit(folder) for folder in sorted(prod.iterdir()) if (folder / "startup").is_dir()]
    if not kits:
        raise BadInput(f"{prod} contains no kits", fix="name a folder prod_NN that `convoy provision` made")
    listed = membership.current(at_home(kits[0]))[0].participants
    missing = sorted(set(listed) - {kit.name for kit in kits})
    if missing:
        raise BadInput(
            f"the kit of {', '.join(missing)} is missing",
            why=f"federation.json lists it, but {prod} does not contain it",
            fix="provision again (all participants keep their keys), or put the kit back",
        )
    return sorted(kits, key=lambda kit: (("server", "site", "admin").index(kit.kind), kit.name))


def _check_ports(kits: list[Kit], fresh: list[Kit]) -> None:
    server = kits[0]
    if server not in fresh:
        return
    for port, whom in ((server.fed_port, "sites"), (server.admin_port, "people")):
        try:
            free = processes.is_free(port)
        except PermissionError as problem:
            raise BadInput(
                f"port {port}, on which the server would listen for {whom}, may not be opened by this user",
                why=str(problem),
                fix="choose a port from 1024 up in project.yml and provision again, or let this user open the port",
            ) from problem
        if not free:
            raise BadInput(
                f"port {port}, on which the server would listen for {whom}, is in use",
                why=processes.listener(port) or "by a process that this user cannot see",
                fix="stop that process, or change the port in project.yml and provision again",
            )


def _hold_ports(taken: set[int], count: int) -> Iterator[socket.socket]:
    """Yield free ports for health pages from 8004 up, held against another `up` at this moment."""
    port = FIRST_HEALTH_PORT
    for _ in range(count):
        while port in taken or (sock := processes.held(port)) is None:
            port += 1
        yield sock
        port += 1


@dataclass(frozen=True, slots=True)
class Start:
    """A node on its way: the pipe on which it says that it is ready, and where its log began."""

    node: Node
    pipe: int
    log_start: int


def begin(kit: Kit, health_port: int) -> Start:
    """Start a node in a session of its own, its output in work/node.log."""
    kit.work.mkdir(exist_ok=True)
    log = kit.work / "node.log"
    reader, writer = os.pipe()
    with log.open("ab") as out:
        start = out.tell()
        process = subprocess.Popen(  # it outlives us: nobody waits for it here
            run.command(kit.root, "localhost", health_port),
            stdin=subprocess.DEVNULL,
            stdout=out,
            stderr=subprocess.STDOUT,
            cwd=kit.root,
            env=os.environ | cores.shared() | {run.READY_FD: str(writer), rotation.VARIABLE: str(log)},
            pass_fds=[writer],
            start_new_session=True,
        )
    os.close(writer)
    process.returncode = 0  # given away: no warning about a child that still runs
    return Start(Node(kit.name, kit.kind, str(kit.root), process.pid, health_port, str(log)), reader, start)


def _await_ready(starts: list[Start]) -> None:
    """Return once every node has said that it is ready; raises `Refused` with the last lines of one that died."""
    deadline = time.monotonic() + READY_S
    with selectors.DefaultSelector() as selector, contextlib.ExitStack() as stack:
        for start in starts:
            stack.callback(os.close, start.pipe)
            selector.register(start.pipe, selectors.EVENT_READ, start)
        while selector.get_map():
            ready = selector.select(max(deadline - time.monotonic(), 0))
            for key, _ in ready:
                if not os.read(key.fd, 64):
                    raise _died(key.data)
                selector.unregister(key.fd)
            if not ready:
                late = [key.data for key in selector.get_map().values()]
                raise PatienceOut(
                    f"not ready after {READY_S:.0f} s: {', '.join(start.node.name for start in late)}",
                    why=_last_lines(late[0]),
                    fix=f"see {late[0].node.log}",
                )


def _await_registered(sites: list[Node]) -> None:
    """Return once every site that ran before is registered; raises `Refused` for one that dies, else `PatienceOut`."""
    deadline = time.monotonic() + READY_S
    for site in sites:
        state = _state(site, within_s=max(deadline - time.monotonic(), 0))
        fix = f"convoy logs {site.name}"
        if not site.runs:
            raise Refused(f"{site.name} was running and has ended", why=state, fix=fix)
        if state != "ready":
            raise PatienceOut(
                f"{site.name} is running, but has not registered after {READY_S:.0f} s", why=state, fix=fix
            )


def _died(start: Start) -> Refused:
    return Refused(
        f"{start.node.name} died at its start",
        why=_last_lines(start) or "its log is empty",
        fix=f"read the whole log: {start.node.log}; the other nodes were stopped again",
    )


def _last_lines(start: Start) -> str:
    with Path(start.node.log).open("rb") as log:
        size = log.seek(0, os.SEEK_END)
        log.seek(start.log_start if start.log_start <= size else 0)  # it was turned over meanwhile
        return "\n".join(log.read(1 << 20).decode(errors="replace").splitlines()[-LAST_LINES:])


def record(prod: Path, kits: list[Kit], nodes: list[Node]) -> None:
    """Write what runs into up.json, whole or not at all; nothing runs: no file."""
    file = prod.parent / identity.RUNNING
    if not nodes:
        file.unlink(missing_ok=True)
        return
    draft = file.with_name(f".{file.name}.part")
    draft.write_text(json.dumps(_said(prod, kits, nodes), indent=2) + "\n")
    draft.replace(file)


def _said(prod: Path, kits: list[Kit], nodes: list[Node]) -> dict[str, object]:
    admin = next((str(kit.root) for kit in kits if kit.kind == "admin"), "")
    server = f"localhost:{kits[0].admin_port}"
    return {"prod": str(prod), "admin": admin, "server": server, "nodes": [asdict(node) for node in nodes]}


def nodes_in(file: Path, prod: Path | None = None) -> list[Node]:
    """Return the nodes in an up.json. Raises `BadInput` if it is that of another prod and something of it runs."""
    if not file.is_file():
        return []
    said = identity.read_running(file)
    nodes = [Node(**node) for node in said["nodes"]]
    if prod is not None and said["prod"] != str(prod):
        if any(node.runs for node in nodes):
            raise BadInput(
                f"{said['prod']} is already running here",
                why=f"asked for {prod}",
                fix="run `convoy down`, then `convoy up`",
            )
        return []
    return nodes


def running(workspace: Path) -> list[Node]:
    """Return the nodes of every federation that `up` started here. Raises `NotFound` if there are none."""
    nodes = [node for file in sorted(workspace.glob(f"*/{identity.RUNNING}")) for node in nodes_in(file)]
    if not nodes:
        raise NotFound(
            "no nodes were started here", why=f"there is no {workspace}/*/{identity.RUNNING}", fix="convoy up"
        )
    return nodes


def ps(screen: Screen, workspace: Path) -> None:
    """List the nodes that `up` started, dead ones too."""
    nodes = running(workspace)
    screen.data({"nodes": [asdict(node) | {"state": _state(node)} for node in nodes]})
    _table(screen, nodes)


def _table(screen: Screen, nodes: list[Node]) -> None:
    rows = [
        (
            node.name,
            node.kind,
            node.pid,
            _state(node),
            f"127.0.0.1:{node.health_port}",
            size(processes.memory(node.pid)),
        )
        for node in nodes
    ]
    screen.table(("name", "kind", "pid", "state", "health", "memory"), rows)


def _state(node: Node, *, within_s: float = 0) -> str:
    """Say how a node is; one that is not ready has `within_s` to become so."""
    if not node.runs:
        return gone(node)
    connection = http.client.HTTPConnection("127.0.0.1", node.health_port, timeout=within_s + ANSWER_S)
    try:
        connection.request("GET", f"/readyz?within={within_s:.3f}")
        answer = connection.getresponse()
        text = answer.read(500).decode(errors="replace").strip()
    except (OSError, http.client.HTTPException) as problem:
        return f"not ready: {problem}" if node.runs else gone(node)
    finally:
        connection.close()
    return "ready" if answer.status == 200 else f"not ready: {text}"


def gone(node: Node) -> str:
    """Say how a node that does not run ended: one that leaves by itself takes along the file with its pid."""
    file = read_kit(Path(node.kit)).pid_file
    died = file.exists() and file.read_text().strip() == str(node.pid)  # another pid: of one started by hand
    return f"died: convoy logs {node.name}" if died else "stopped"


def logs(screen: Screen, workspace: Path, name: str, *, follow: bool, count: int) -> None:
    """Become `tail` on a node's log; for programs, say each of its lines as JSON."""
    log = _log(workspace, name)
    tail = ["tail", "-n", str(count), *(["-F"] if follow else []), str(log)]
    if not screen.json:
        os.execvp("tail", tail)  # noqa: S606 - what a person expects
    with subprocess.Popen(tail, stdout=subprocess.PIPE, text=True, errors="replace") as reading:
        for line in reading.stdout or ():
            screen.data({"node": name, "text": line.rstrip("\n")})


def _log(workspace: Path, name: str) -> Path:
    """Return the log of a node that runs; where nothing does, the newest of that name. Raises `NotFound`."""
    logs = [log for log in workspace.glob("*/prod_*/*/work/node.log") if log.parents[1].name == name]
    if logs and not list(workspace.glob(f"*/{identity.RUNNING}")):  # what `up` tried to start, and why it did not
        return max(logs, key=lambda log: log.stat().st_mtime)
    nodes = running(workspace)
    for node in nodes:
        if node.name == name:
            return Path(node.log)
    raise NotFound(
        f"there is no node {name!r} here", why=f"there are: {', '.join(node.name for node in nodes)}", fix="convoy ps"
    )


def down(screen: Screen, workspace: Path) -> None:
    """Drain and stop every node that `up` started here; kill what has not left after 30 s."""
    stop(screen, running(workspace), list(workspace.glob(f"*/{identity.RUNNING}")))


def stop(screen: Screen, nodes: list[Node], files: list[Path]) -> None:
    """Drain and stop nodes, kill what has not left after 30 s, and forget what `up` wrote of them."""
    alive = [node for node in nodes if node.runs]
    killed = processes.end([node.pid for node in alive], grace_s=GRACE_S)
    for file in files:
        file.unlink(missing_ok=True)
    screen.data({"stopped": [node.name for node in alive], "killed": [n.name for n in alive if n.pid in killed]})
    for node in nodes:
        before = "had already died" if gone(node) != "stopped" else "had already stopped"
        how = before if node not in alive else "killed after 30 s" if node.pid in killed else "stopped"
        screen.line(f"{node.name}: {how}")
