"""From objects to a federation that stands: applied, pruned, waited for until every site has registered."""

from __future__ import annotations

import asyncio
import base64
import time
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from convoy.admin import client
from convoy.errors import BadInput, ConvoyError, NotAllowed, NotFound, PatienceOut, Refused
from convoy.kube import kits, shared
from convoy.kube.cluster import OPTIONAL, PLURALS, Cluster, Object
from convoy.kube.contents import SHARED, Contents
from convoy.kube.fill import fill
from convoy.kube.naming import Place, slug
from convoy.kube.objects import key, objects
from convoy.kube.waiting import READY, Seen, deaths
from convoy.provision.kits import invite, provision, who_is_who
from convoy.spec.project import Participant, Project
from convoy.trust.enrolment import Invite, invites_from_json

Say = Callable[[str], None]
MADE: Final = tuple(kind for kind in PLURALS if kind not in ("Pod", "Event", "Namespace"))
DEATHS: Final = 3  # of a node at its start, after which waiting helps nobody
LAST_LINES: Final = 15  # of its log, to say why
WATCHED: Final = ("StatefulSet", "Pod", "Event")
_NOTED: Final = frozenset({"resourceVersion", "managedFields", "generation"})
_NEWER: Final = frozenset({"PodDisruptionBudget"})  # policy/v1 is served from Kubernetes 1.21 on


@dataclass(frozen=True, slots=True)
class Up:
    """What `up` did, and how long it took."""

    applied: Mapping[str, int]  # how many objects were made, changed, found as they should be, removed
    seconds: float


def prepare(project: Project, workspace: Path, say: Say) -> None:
    """Make the kits that are missing: all of a new project, else those of new participants, who are invited.

    Who is who is signed anew where project.yml says it otherwise than the server's kit.
    """
    missing = kits.missing(project, workspace)
    if missing is None:
        say(f"{project.name}: kits are in {provision(project, workspace, now=time.time())}")
        return
    for name in missing:
        invite(project, workspace, name, now=time.time())
    if kits.is_old(project, workspace):
        who_is_who(project, workspace, now=time.time())


async def up(
    cluster: Cluster,
    place: Place,
    found: Mapping[str, Contents],
    admin: Path | None,
    *,
    say: Say,
    patience_s: float,
) -> Up:
    """Make a federation stand; returns once every site has registered.

    `admin` is the kit that tells a server that runs of new participants, before anything else: its Secret says what it
    was told. Raises `PatienceOut` when nothing has changed for `patience_s`, and what the cluster refuses.
    """
    began = time.monotonic()
    wanted = objects(place.project, place.options, found)
    before = await existing(cluster, place)
    if news := _news(place, found, before):
        await _told(cluster, place, news, admin, say=say, patience_s=patience_s)
    sets = [it for it in wanted if it["kind"] == "StatefulSet"]
    counts = await _applied(cluster, [it for it in wanted if it["kind"] != "StatefulSet"], before, say)
    if place.options.kits == "volume":
        await fill(cluster, place, found, say=say, patience_s=patience_s)
    counts += await _applied(cluster, sets, before, say)
    for it in _left_over(wanted, before):
        say(f"removes {it['kind']} {it['metadata']['name']}, which project.yml no longer asks for")
        await cluster.remove(it)
        counts["removed"] += 1
    say(", ".join(f"{count} {what}" for what, count in counts.items()))
    await settled(cluster, place, [place.project.server, *place.project.sites], say=say, patience_s=patience_s)
    return Up(dict(counts), time.monotonic() - began)


async def existing(cluster: Cluster, place: Place) -> dict[tuple[str, str, str], Object]:
    """Return everything that we ever made for this federation and that is still there."""
    try:
        namespaces, _ = await cluster.list("Namespace", "", place.selector())
    except NotAllowed:  # whoever may only use a namespace finds what is there
        namespaces = []
    found = {key(it): it for it in namespaces}
    for namespace in sorted({*place.namespaces, *(it["metadata"]["name"] for it in namespaces)}):
        for kind in MADE:
            try:
                listed, _ = await cluster.list(kind, namespace, place.selector())
            except NotFound:  # an older cluster that has no such kind
                continue
            except NotAllowed:
                if kind not in OPTIONAL:
                    raise
                continue
            found |= {key(it): it for it in listed}
    return found


def _left_over(wanted: Sequence[Object], before: Mapping[tuple[str, str, str], Object]) -> list[Object]:
    """Return what was made once and is not wanted any more; never a namespace, with whatever else is in it."""
    kept = {key(it) for it in wanted}
    return [it for known, it in before.items() if known not in kept and it["kind"] != "Namespace"]


async def _applied(
    cluster: Cluster, wanted: Sequence[Object], before: Mapping[tuple[str, str, str], Object], say: Say
) -> Counter[str]:
    counts: Counter[str] = Counter()
    for it in wanted:
        try:
            after = await cluster.apply(it)
        except NotFound as problem:
            if it["kind"] in OPTIONAL:
                raise BadInput(
                    f"this cluster has no objects of the kind {it['kind']}",
                    why="`monitoring` in values.yml needs the Prometheus Operator",
                    fix="install it first, or set `monitor: none` and `rules: false` there",
                ) from problem
            if it["kind"] not in _NEWER:
                raise
            say(f"left out: {it['kind']} {it['metadata']['name']}: {problem.why}; this cluster is older than 1.21")
            continue
        old = before.get(key(it))
        counts["made" if old is None else "unchanged" if _asked(old) == _asked(after) else "changed"] += 1
    return counts


def _asked(it: Object) -> Object:
    """Return what an object is asked to be, without what the cluster itself notes on it."""
    meta = {name: value for name, value in it["metadata"].items() if name not in _NOTED}
    return {name: value for name, value in it.items() if name != "status"} | {"metadata": meta}


async def settled(cluster: Cluster, place: Place, whom: Sequence[Participant], *, say: Say, patience_s: float) -> None:
    """Return once each node's pod is what was asked for and ready: a site is, when it has registered.

    Says each change in words. Raises `Refused` for a node that dies again and again, with what it said last, and
    `PatienceOut` when nothing changes for `patience_s`.
    """
    homes = {(place.namespace_of(one), slug(one.name)): one.name for one in whom}
    watched = [(kind, space) for space in sorted({space for space, _ in homes}) for kind in WATCHED]
    heard = asyncio.Queue[tuple[str, str, Object]]()

    async def watch(kind: str, namespace: str) -> None:
        async for what, it in cluster.changes(kind, namespace, "" if kind == "Event" else place.chosen()):
            heard.put_nowait((kind, what, it))

    try:
        async with asyncio.TaskGroup() as tasks:
            watches = [tasks.create_task(watch(*one)) for one in watched]
            try:
                await _registered(cluster, heard, len(watched), homes, say=say, patience_s=patience_s)
            finally:
                for task in watches:
                    task.cancel()
    except BaseExceptionGroup as group:
        ours, others = group.split(ConvoyError)
        if ours is None or others is not None:
            raise
        problem = ours.exceptions[0]
        if isinstance(problem, _Dies):
            problem = await _last_words(cluster, problem)
        raise problem from group


class _Dies(Refused):
    """A node whose container dies again and again; the pod is where its last words are."""

    def __init__(self, name: str, pod: Mapping[str, Any]) -> None:
        super().__init__(
            f"{name} dies at its start; it has died {deaths(pod)} times",
            fix="correct the cause, then run `convoy kube up` again",
        )
        self.pod = pod


async def _last_words(cluster: Cluster, dies: _Dies) -> Refused:
    meta, said = dies.pod["metadata"], list[str]()
    try:
        async for line in cluster.logs(meta["namespace"], meta["name"], lines=LAST_LINES, follow=False):
            said.append(line)
    except ConvoyError as problem:
        said.append(f"its log cannot be read: {problem.what}")
    return Refused(dies.what, why="\n".join(said), fix=dies.fix)


async def _registered(
    cluster: Cluster,
    heard: asyncio.Queue[tuple[str, str, Object]],
    unlisted: int,
    homes: Mapping[tuple[str, str], str],
    *,
    say: Say,
    patience_s: float,
) -> None:
    """Return once all `homes` are ready; `unlisted` is how many watches have yet to say what there is."""
    seen, states, news, replaced = Seen(), dict[str, str](), set[tuple[str, str]](), set[str]()
    try:
        async with asyncio.timeout(patience_s) as patience:
            while unlisted > 0 or not set(states.values()) <= READY:
                kind, what, it = await heard.get()
                unlisted -= what == "LISTED"
                if it:
                    seen.take(kind, what, it)
                if unlisted > 0:
                    continue
                now = {name: seen.state(*home) for home, name in homes.items()}
                for name in (name for name in now if now[name] != states.get(name)):
                    say(f"{name}: {now[name]}")
                    if (name, now[name]) not in news:  # what comes and goes is no progress
                        patience.reschedule(asyncio.get_running_loop().time() + patience_s)
                news |= set(now.items())
                states = now
                for home, name in homes.items():
                    await _replace(cluster, seen.stuck(*home), replaced)
                    if deaths(pod := seen.pods.get((home[0], f"{home[1]}-0"), {})) >= DEATHS:
                        raise _Dies(name, pod)
    except TimeoutError:
        late = {name: state for name, state in states.items() if state not in READY}
        raise PatienceOut(
            f"not registered: {', '.join(late)}",
            why="\n".join(f"{name}: {state}" for name, state in late.items()),
            fix=f"nothing has changed for {patience_s:.0f} s; `convoy kube logs NAME` shows the log of a node",
        ) from None


async def _replace(cluster: Cluster, pod: Mapping[str, Any] | None, replaced: set[str]) -> None:
    """Remove a pod that would never make room for its successor, once."""
    if pod is not None and pod["metadata"]["uid"] not in replaced:
        replaced.add(pod["metadata"]["uid"])
        await cluster.remove({"kind": "Pod", **pod})


@dataclass(frozen=True, slots=True)
class _News:
    """What a server that runs has not been told: who is who, and the invitations that it does not know."""

    federation: bytes
    invites: Sequence[Invite]


def _news(place: Place, found: Mapping[str, Contents], before: Mapping[tuple[str, str, str], Object]) -> _News | None:
    """Return what differs between the kit that the server has and the one that it gets; None for no server."""
    name, its = slug(place.project.server.name), found[place.project.server.name].startup
    has, invites = its.get("federation.json", b""), invites_from_json(its.get("invites.json", b"[]"))
    if ("StatefulSet", place.namespace, name) not in before:
        return None
    if old := before.get(("Secret", place.namespace, f"{name}-kit")):
        said = shared.told(*_said(old))
    else:
        claim = before.get(("PersistentVolumeClaim", place.namespace, SHARED), {"metadata": {}})
        said = shared.noted(claim, shared.TOLD)
    if not said:
        return None
    changed, fresh = shared.untold(said, has, invites)
    return _News(has, fresh) if changed or fresh else None


def _said(secret: Object) -> tuple[bytes, list[Invite]]:
    """Return the federation.json and the invitations in a server's Secret."""
    data = {name: base64.b64decode(text) for name, text in secret["data"].items()}
    return data.get("federation.json", b""), invites_from_json(data.get("invites.json", b"[]"))


async def _told(
    cluster: Cluster, place: Place, news: _News, admin: Path | None, *, say: Say, patience_s: float
) -> None:
    """Tell the server that runs, by somebody who may. One that cannot be told reads its kit when it starts anew."""
    server = place.project.server
    about = ", ".join(one.name for one in news.invites) or "the list of participants"
    try:
        if admin is None:
            raise NotAllowed(
                f"nobody has the right to tell the server about {about}", why="project.yml has no project_admin"
            )
        await settled(cluster, place, [server], say=say, patience_s=patience_s)
        async with (
            cluster.forward(place.namespace, f"{slug(server.name)}-0", server.admin_port) as port,
            client.connect(admin, server=f"localhost:{port}") as person,
        ):
            await person.publish(news.federation)
            for one in news.invites:
                await person.invite(one.hash, one.kind, one.name, one.expires_at)
    except ConvoyError as problem:
        say(f"the server was not told about {about}: {problem.what}; it reads this at its next start")
        return
    say(f"the server was told about {about}")
