"""What the commands of `convoy kube` do: files read, a cluster asked, its answers said."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from convoy.cli.output import Screen
from convoy.errors import BadInput, NotAllowed, Refused
from convoy.kube import deployed, kits, text
from convoy.kube import options as choices
from convoy.kube.cluster import Cluster, connect
from convoy.kube.naming import Place, slug
from convoy.kube.objects import objects
from convoy.spec import yamls
from convoy.spec.project import read_project


@dataclass(frozen=True, slots=True)
class Where:
    """A federation as a person named it: its names in a cluster, its kits, the context that `up` used."""

    place: Place
    workspace: Path
    context: str = ""

    @property
    def folder(self) -> Path:
        """The project's folder of the workspace."""
        return self.workspace / self.place.project.name


def read(project_file: Path, workspace: Path, namespace: str, image: str, values: Path | None) -> Where:
    """Return what project.yml, values.yml and the command line say. Raises `BadInput`."""
    project, _ = read_project(yamls.read_text(project_file), str(project_file))
    names = [site.name for site in project.sites]
    return Where(Place(project, choices.read(values, namespace=namespace, image=image, known=names)), workspace)


def found(project_file: Path, workspace: Path) -> Where:
    """Return what `up` remembered of a project. Raises `BadInput` where it remembers nothing."""
    project, _ = read_project(yamls.read_text(project_file), str(project_file))
    said = deployed.read(workspace / project.name)
    if said is None:
        raise BadInput(
            f"{project.name} is not in a cluster that this workspace knows",
            why=f"looked for {workspace / project.name / deployed.FILE}",
            fix="convoy kube up",
        )
    return Where(Place(project, said.chosen()), workspace, said.context)


def looked_at(project_file: Path, workspace: Path, namespace: str, image: str, values: Path | None) -> Where:
    """Return what `up` remembered where nothing else is said, or what `up` would read. Raises `BadInput`."""
    if not (namespace or image or values):
        project, _ = read_project(yamls.read_text(project_file), str(project_file))
        if deployed.read(workspace / project.name) is not None:
            return found(project_file, workspace)
    return read(project_file, workspace, namespace, image, values)


def render(screen: Screen, where: Where, *, with_kits: bool, kits_alone: bool = False) -> None:
    """Print the objects, or their Secrets alone."""
    project = where.place.project
    made = objects(project, where.place.options, kits.read(project, where.workspace, secrets=with_kits or kits_alone))
    made = [it for it in made if it["kind"] == "Secret"] if kits_alone else made
    screen.data({"objects": made})
    screen.block(text.to_yaml(made), indent="")


def chart(screen: Screen, where: Where, folder: Path) -> None:
    """Write the federation as a Helm chart; files of an older chart of ours that are no more go."""
    from convoy.kube import chart as helm

    project = where.place.project
    made = helm.chart(project, where.place.options, kits.read(project, where.workspace, secrets=False))
    helm.write(folder, made)
    screen.data({"folder": str(folder), "files": sorted(made)})
    screen.line(f"{len(made)} files are in {folder}; they contain no secret")
    screen.line(f"helm upgrade --install {slug(project.name)} {folder}")
    screen.line("convoy kube render --kits-alone | kubectl apply -f -")


def up(screen: Screen, where: Where, context: str, patience_s: float) -> None:
    """Bring it up, and remember where."""
    from convoy.kube import up as work

    place, project = where.place, where.place.project
    objects(project, place.options, {})  # what cannot be is said before a kit is made
    work.prepare(project, where.workspace, screen.line)
    contents = kits.read(project, where.workspace, secrets=True)
    admin = kits.admin(project, where.workspace)
    done: list[work.Up] = []

    async def brought(cluster: Cluster) -> None:
        screen.line(f"context {cluster.context}, namespace {', '.join(place.namespaces)}, image {place.options.image}")
        said = deployed.Deployed(
            cluster.context,
            place.namespace,
            f"{slug(project.server.name)}-0",
            project.server.admin_port,
            str(admin.absolute()) if admin else "",
            place.options.model_dump_json(),
        )
        deployed.keep(where.folder, said)
        done.append(await work.up(cluster, place, contents, admin, say=screen.line, patience_s=patience_s))

    _ask(context, brought)
    screen.data({"objects": dict(done[0].applied), "seconds": round(done[0].seconds, 1)})
    screen.line(f"{len(project.sites)} sites have registered after {done[0].seconds:.1f} s")
    screen.line("Next: `convoy job submit FOLDER --watch` here reaches the server through the cluster.")


def status(screen: Screen, where: Where, context: str) -> None:
    """Show each node."""
    from convoy.kube import status as work

    said: list[work.NodeState] = []

    async def asked(cluster: Cluster) -> None:
        said.extend(await work.states(cluster, where.place))

    _ask(context or where.context, asked)
    screen.data({"nodes": [one.to_json() for one in said]})
    rows = [(one.name, one.state, one.machine or "-", one.restarts) for one in said]
    screen.table(["name", "state", "on", "restarts"], rows)


def doctor(screen: Screen, where: Where, context: str) -> None:
    """Say what a cluster has for a federation. Raises `NotAllowed` or `Refused` where `up` would not succeed."""
    from convoy.kube import doctor as work
    from convoy.kube.findings import Finding, State, lines

    said: list[Finding] = []

    async def examined(cluster: Cluster) -> None:
        screen.line(f"context {cluster.context}, namespace {', '.join(where.place.namespaces)}")
        said.extend(await work.examine(cluster, where.place))

    _ask(context or where.context, examined)
    trouble = [one for one in said if one.state is State.TROUBLE]
    screen.data({"ok": not trouble, "findings": [one.to_json() for one in said]})
    for line in lines(said):
        screen.line(line)
    if trouble:
        error = NotAllowed if all(one.name == "rights" for one in trouble) else Refused
        count = f"trouble in {len(trouble)} of {len(said)} findings"
        raise error(
            f"{count}: `convoy kube up` would not succeed", fix="correct these problems, then run this command again"
        )


def logs(screen: Screen, where: Where, context: str, name: str, *, count: int, follow: bool) -> None:
    """Print a node's log."""
    place = where.place
    nodes = {one.name: one for one in (place.project.server, *place.project.sites)}
    node = place.project.server if name == "server" else nodes.get(name)
    if node is None:
        raise BadInput(f"there is no node {name!r}", why=f"project.yml has {', '.join(nodes)}")

    async def read_them(cluster: Cluster) -> None:
        lines = cluster.logs(place.namespace_of(node), f"{slug(node.name)}-0", lines=count, follow=follow)
        async for line in lines:
            screen.data({"line": line})
            screen.line(line)

    _ask(context or where.context, read_them)


def down(screen: Screen, where: Where, context: str, *, volumes: bool) -> None:
    """Take it down; forget it once nothing of it is left."""
    from convoy.kube import down as work

    went: list[int] = []

    async def taken(cluster: Cluster) -> None:
        went.append(await work.down(cluster, where.place, volumes=volumes, say=screen.line))

    _ask(context or where.context, taken)
    if volumes:
        deployed.forget(where.folder)
    screen.data({"removed": went[0], "volumes": volumes})
    stays = "nothing of it is left" if volumes else "the volumes stay: `convoy kube up` continues with them"
    screen.line(f"{went[0]} objects are removed; {stays}")


def _ask(context: str, call: Callable[[Cluster], Coroutine[Any, Any, None]]) -> None:
    async def connected() -> None:
        async with connect(context) as cluster:
            await call(cluster)

    asyncio.run(connected())
