"""What a doctor finds: how each thing is and the command that mends it; of a cluster, judged from its facts; pure."""

from __future__ import annotations

import re
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass
from enum import StrEnum
from typing import Any, Final

from convoy.kube import room
from convoy.kube.naming import Place, slug

Object = Mapping[str, Any]
DEFAULT: Final = "storageclass.kubernetes.io/is-default-class"
FIRST: Final = (1, 20)  # the oldest Kubernetes that a federation was tried in
_VERSION: Final = re.compile(r"v?(\d+)\.(\d+)")
_REACH: Final = "import socket; socket.create_connection(('kubernetes.default.svc', 443), 5)"
_SHOWN: Final = 3  # machines of which a finding says why


class State(StrEnum):
    """How a finding is."""

    OK = "ok"
    ADVICE = "advice"  # it goes, and could be better
    TROUBLE = "trouble"  # a federation would not stand
    UNSEEN = "not checked"  # it cannot be seen from here


@dataclass(frozen=True, slots=True)
class Finding:
    """One thing that was looked at, or was not."""

    name: str
    state: State
    seen: str
    fix: str = ""

    def to_json(self) -> dict[str, Any]:
        """Return it as JSON values."""
        return asdict(self)


def lines(found: Sequence[Finding]) -> list[str]:
    """Return findings as lines for people, each fix on a line of its own, so that it can be pasted."""
    first, second = max(map(len, State)), max(len(one.name) for one in found)
    said = []
    for one in found:
        said.append(f"{one.state.ljust(first)}  {one.name.ljust(second)}  {one.seen}")
        if one.fix:
            said.append(f"{' ' * first}  fix: {one.fix}")
    return said


@dataclass(frozen=True, slots=True)
class Access:
    """Something that `up` does, as a cluster's rights name it."""

    verb: str
    kind: str
    namespace: str
    part: str = ""

    def __str__(self) -> str:
        """Return it in words."""
        return f"{self.verb} {self.kind}{f'/{self.part}' if self.part else ''}"


@dataclass(frozen=True, slots=True)
class Facts:
    """What a cluster said; None where the person may not look."""

    version: str
    denied: Collection[Access]
    namespaces: Collection[str] | None
    classes: Sequence[Object] | None
    nodes: Sequence[Object] | None
    pods: Sequence[Object] | None
    claims: Collection[tuple[str, str]] | None  # namespace and name


def judged(facts: Facts, place: Place, wanted: Sequence[Object]) -> list[Finding]:
    """Return the findings for a federation whose objects are `wanted`, in the order in which `up` would meet them."""
    sets = [it for it in wanted if it["kind"] == "StatefulSet"]
    return [
        *version(facts.version, place),
        *rights(_asked(facts), place),
        *namespaces(facts.namespaces, place),
        *storage(facts.classes, place.options.storage_class),
        *data(facts.claims, place),
        *machines(facts.nodes, facts.pods, sets),
        *images(sets),
        *launching(place),
        *network(place),
    ]


def _asked(facts: Facts) -> list[Access]:
    """Return what is not allowed and is asked for: a WebSocket to a pod is its creation from 1.35 on, not before."""
    old = _at(facts.version) < (1, 35)
    return [one for one in facts.denied if not (old and one.verb == "create" and one.part in ("portforward", "exec"))]


def _at(text: str) -> tuple[int, int]:
    found = _VERSION.match(text)
    return (int(found[1]), int(found[2])) if found else (0, 0)


def version(text: str, place: Place) -> list[Finding]:
    """Return what the cluster's version means for what a federation is made of."""
    at = _at(text)
    if at == (0, 0):
        return [Finding("version", State.UNSEEN, f"the version {text!r} cannot be parsed")]
    said = [Finding("version", State.OK, f"Kubernetes {text}")]
    newer = "use a newer cluster"
    if at < FIRST:
        seen = f"Kubernetes {text} is older than the oldest version on which Convoy was tested (1.20)"
        said = [Finding("version", State.ADVICE, seen, newer)]
    if at < (1, 21):
        seen = "policy/v1 exists from 1.21 on: `up` omits the PodDisruptionBudget, so a drain may stop all nodes"
        said.append(Finding("version", State.ADVICE, seen, newer))
    if at < (1, 25):
        seen = "Pod Security admission is stable from 1.25 on: before, the namespace's labels may have no effect"
        said.append(Finding("version", State.ADVICE, seen, newer))
    if at < (1, 29) and place.options.access_mode == "ReadWriteOncePod":
        seen = "access_mode: ReadWriteOncePod is stable from 1.29 on"
        said.append(Finding("version", State.TROUBLE, seen, "set access_mode: ReadWriteOnce in values.yml"))
    return said


def rights(denied: Collection[Access], place: Place) -> list[Finding]:
    """Return whether the person may do in each namespace what `up` does there."""
    said = []
    for namespace in ["", *place.namespaces]:
        missing = [str(one) for one in denied if one.namespace == namespace]
        where = f"in {namespace}" if namespace else "in the cluster"
        if missing and not namespace:
            fix = "ask the cluster's owner to make the namespaces, and set create_namespace: false in values.yml"
            said.append(Finding("rights", State.TROUBLE, f"you may not {', '.join(missing)} {where}", fix))
        elif missing:
            fix = f"kubectl create rolebinding convoy --clusterrole=admin --user=YOU -n {namespace}, by its owner"
            said.append(Finding("rights", State.TROUBLE, f"you may not {', '.join(missing)} {where}", fix))
        elif namespace:
            said.append(Finding("rights", State.OK, f"you have all rights that `up` needs {where}"))
    return said


def namespaces(there: Collection[str] | None, place: Place) -> list[Finding]:
    """Return whether the namespaces are there that `up` is not to make."""
    if place.options.create_namespace:
        return []
    if there is None:
        return [Finding("namespaces", State.UNSEEN, "you may not list namespaces")]
    missing = [name for name in place.namespaces if name not in there]
    if not missing:
        return [Finding("namespaces", State.OK, f"there: {', '.join(place.namespaces)}")]
    fix = f"kubectl create namespace {missing[0]}, or create_namespace: true in values.yml"
    return [Finding("namespaces", State.TROUBLE, f"not there: {', '.join(missing)}", fix)]


def storage(classes: Sequence[Object] | None, named: str) -> list[Finding]:
    """Return whether nodes' claims will get volumes, and where."""
    if classes is None:
        fix = "ask somebody with this right to run: kubectl get storageclass"
        return [Finding("storage", State.UNSEEN, "you may not list StorageClasses", fix)]
    by_name = {it["metadata"]["name"]: it for it in classes}
    there = f"there: {', '.join(by_name) or 'none'}"
    defaults = [name for name, it in by_name.items() if is_default(it)]
    if named and named not in by_name:
        fix = f"name an existing class as storage_class in values.yml ({there})"
        return [Finding("storage", State.TROUBLE, f"there is no StorageClass {named}", fix)]
    if not named and not defaults:
        fix = f"set storage_class in values.yml ({there}); `convoy eks cluster` writes a class for EKS"
        return [
            Finding("storage", State.TROUBLE, "no StorageClass is the default: claims would never get a volume", fix)
        ]
    if not named and len(defaults) > 1:
        fix = "set storage_class in values.yml"
        return [
            Finding("storage", State.ADVICE, f"more than one StorageClass is the default: {', '.join(defaults)}", fix)
        ]
    return [_makes_volumes(by_name[named or defaults[0]])]


def _makes_volumes(it: Object) -> Finding:
    name, by = it["metadata"]["name"], it.get("provisioner", "")
    if by == "kubernetes.io/no-provisioner":
        fix = "make a volume for each node first, or set another storage_class in values.yml"
        return Finding("storage", State.ADVICE, f"StorageClass {name} makes no volumes", fix)
    if it.get("volumeBindingMode", "Immediate") == "Immediate":
        seen = f"StorageClass {name} ({by}) makes volumes before their pods have a node, perhaps in another zone"
        return Finding("storage", State.ADVICE, seen, "use a class with volumeBindingMode: WaitForFirstConsumer")
    return Finding("storage", State.OK, f"StorageClass {name} ({by}) makes volumes where their pods are")


def data(claims: Collection[tuple[str, str]] | None, place: Place) -> list[Finding]:
    """Return whether the claims with the sites' data exist."""
    wanted = {
        (place.namespace_of(site), claim) for site in place.project.sites for claim in place.node(site).data.values()
    }
    if not wanted:
        return []
    if claims is None:
        return [Finding("data", State.UNSEEN, "you may not list claims")]
    missing = [f"{claim} in {namespace}" for namespace, claim in sorted(wanted - set(claims))]
    if not missing:
        return [Finding("data", State.OK, "the claims with the sites' data exist")]
    fix = "make the claim, or remove it from `data` in values.yml"
    return [Finding("data", State.TROUBLE, f"there is no claim {', no claim '.join(missing)}", fix)]


def machines(nodes: Sequence[Object] | None, pods: Sequence[Object] | None, sets: Sequence[Object]) -> list[Finding]:
    """Return whether there are machines with room, and GPUs, for every pod."""
    if nodes is None:
        return [
            Finding(
                "room",
                State.UNSEEN,
                "you may not list nodes",
                "ask somebody with this right to run: kubectl describe nodes",
            )
        ]
    up = [it for it in nodes if room.ready(it)]
    if not up:
        fix = "look at `kubectl get nodes`; an autoscaler may add nodes once pods wait"
        return [Finding("room", State.TROUBLE, f"none of {len(nodes)} nodes is ready and accepts pods", fix)]
    said = [Finding("room", State.OK, f"{len(up)} of {len(nodes)} nodes are ready")]
    if len(up) < len(nodes):
        away = ", ".join(it["metadata"]["name"] for it in nodes if not room.ready(it))
        said = [
            Finding("room", State.ADVICE, f"not ready, or closed for new pods: {away}", f"kubectl describe node {away}")
        ]
    needs = [
        room.Need(it["metadata"]["name"], it["metadata"]["namespace"], it["spec"]["template"]["spec"]) for it in sets
    ]
    said += _gpus(up, needs)
    for name, why in room.unplaced(needs, up, pods or ()).items():
        shown = [f"{machine}: {reason}" for machine, reason in list(why.items())[:_SHOWN]]
        fix = "change the resources, node_selector or tolerations in values.yml, or add a node"
        said.append(Finding("room", State.TROUBLE, f"no node can run {name} ({'; '.join(shown)})", fix))
    if not any(one.state is State.TROUBLE for one in said):
        said.append(Finding("room", State.OK, f"there is room for the requests of {len(needs)} pods"))
    if pods is None:
        said.append(Finding("room", State.UNSEEN, "how much of it other pods use: you may not list them"))
    return said


def _gpus(up: Sequence[Object], needs: Sequence[room.Need]) -> list[Finding]:
    asking = [need.name for need in needs if need.amounts.get(room.GPU)]
    if not asking:
        return []
    most = room.gpus(up)
    if most:
        return [Finding("gpu", State.OK, f"NVIDIA's device plugin is running: up to {most} GPUs on one node")]
    fix = "add nodes with GPUs (on EKS: `convoy eks cluster --gpu-nodes`) and NVIDIA's device plugin"
    return [Finding("gpu", State.TROUBLE, f"no node offers {room.GPU}, which {', '.join(asking)} asks for", fix)]


def images(sets: Iterable[Object]) -> list[Finding]:
    """Return whether everybody gets the very image that was meant; whether machines can pull it, only they know."""
    named = sorted({it["spec"]["template"]["spec"]["containers"][0]["image"] for it in sets})
    said = []
    for name in named:
        if "@sha256:" in name:
            said.append(Finding("image", State.OK, f"{name} is pinned by its digest"))
        else:
            fix = "set image: NAME@sha256:… in values.yml, with the digest that your registry shows"
            said.append(
                Finding("image", State.ADVICE, f"{name} is named by a tag, which can move to a different image", fix)
            )
    seen = f"whether the nodes can pull {', '.join(named)}: only they can tell"
    return [*said, Finding("image", State.UNSEEN, seen, "`convoy kube up` reports it")]


def launching(place: Place) -> list[Finding]:
    """Return who makes pods beside others' kits: who may make a pod may mount what its namespace holds."""
    homes = [place.namespace_of(one) for one in (place.project.server, *place.project.sites)]
    beside = [one.name for one in place.launchers() if homes.count(place.namespace_of(one)) > 1]
    if not beside:
        return []
    seen = (
        f"{', '.join(beside)} may make pods in a namespace with other kits: an attacker at such a node can mount them"
    )
    return [Finding("pods", State.ADVICE, seen, "set per_organisation_namespaces: true in values.yml")]


def network(place: Place) -> list[Finding]:
    """Return how to know what no API server tells: whether anything enforces NetworkPolicies."""
    server = f"{slug(place.project.server.name)}-0"
    fix = (
        f"when the federation is up, this must time out: kubectl -n {place.namespace} exec {server} -- python3 -c "
        f'"{_REACH}"; if it does not, use Calico, Cilium, or on EKS vpc-cni with enableNetworkPolicy'
    )
    return [
        Finding(
            "network", State.UNSEEN, "whether NetworkPolicies are enforced: an API server accepts them in any case", fix
        )
    ]


def is_default(it: Object) -> bool:
    """Return whether a StorageClass is the one of claims that name none."""
    return (it["metadata"].get("annotations") or {}).get(DEFAULT) == "true"
