"""A whole federation as Kubernetes objects: one pure function of project, options and kits, sorted and stable."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

from convoy.errors import BadInput
from convoy.kube import contents, monitoring, network, pods, shared
from convoy.kube.contents import Contents
from convoy.kube.naming import WORKER, Place, slug
from convoy.kube.options import Options, check_sites
from convoy.spec.project import Project

Object = dict[str, Any]
_ORDER: Final = (  # what others need comes first
    "Namespace",
    "ServiceAccount",
    "Role",
    "RoleBinding",
    "NetworkPolicy",
    "ConfigMap",
    "Secret",
    "PersistentVolumeClaim",
    "Service",
    "PodMonitor",
    "ServiceMonitor",
    "PrometheusRule",
    "PodDisruptionBudget",
    "StatefulSet",
)
_RESTRICTED: Final = {f"pod-security.kubernetes.io/{mode}": "restricted" for mode in ("enforce", "audit", "warn")}


def objects(project: Project, options: Options, kits: Mapping[str, Contents]) -> list[Object]:
    """Return every object of a federation, in the order in which a cluster may be given them.

    `kits` says what lies in the kits, by participant; of one that is not in it the samples stand for `local/`, and
    its Secret is left out. Raises `BadInput` for a site in the options that is none, and for two names that Kubernetes
    takes for one.
    """
    place = Place(project, options)
    check_sites(options, [site.name for site in project.sites])
    _distinct(project)
    if options.kits == "volume" and options.per_organisation_namespaces:
        raise BadInput("`kits: volume` needs all nodes in one namespace", fix="per_organisation_namespaces: false")
    made: list[Object] = []
    for namespace in place.namespaces:
        if options.create_namespace:
            made.append(_namespace(place, namespace))
        made += network.policies(place, namespace)
        made.append(_budget(place, namespace))
        if any(place.namespace_of(one) == namespace for one in place.launchers()):
            made.append(_account(place.meta(WORKER, namespace, place.common())))
    made.append(network.service(place))
    made += monitoring.objects(place)
    if options.kits == "volume":
        made.append(shared.claim(place))
    for participant in (project.server, *project.sites):
        kit = kits.get(participant.name, Contents())
        config = contents.config_map(place, participant, kit)
        meta = place.meta(slug(participant.name), place.namespace_of(participant), place.labels(participant))
        made.append(_account(meta))
        if place.node(participant).launcher == "kubernetes":
            made += _rights(meta)
        made.append(config)
        if secret := contents.secret(place, participant, kit):
            made.append(secret)
        made.append(pods.stateful_set(place, participant, config, kit))
    return sorted(made, key=_rank)


def key(it: Object) -> tuple[str, str, str]:
    """Return what an object is known by: kind, namespace, name."""
    return it["kind"], it["metadata"].get("namespace", ""), it["metadata"]["name"]


def _rank(it: Object) -> tuple[int, str, str]:
    kind, namespace, name = key(it)
    return _ORDER.index(kind), namespace, name


def _distinct(project: Project) -> None:
    taken: dict[str, str] = {}
    for participant in (project.server, *project.sites):
        name = slug(participant.name)
        if name in taken:
            raise BadInput(f"{taken[name]} and {participant.name} would have the same name {name} in a cluster")
        taken[name] = participant.name


def _namespace(place: Place, name: str) -> Object:
    keep = {"helm.sh/resource-policy": "keep"}  # a chart that goes leaves volumes, as `down` does
    meta = place.meta(name, "", {**place.common(), **_RESTRICTED}, annotations=keep)
    del meta["namespace"]
    return {"apiVersion": "v1", "kind": "Namespace", "metadata": meta}


def _account(meta: Object) -> Object:
    return {"apiVersion": "v1", "kind": "ServiceAccount", "metadata": meta, "automountServiceAccountToken": False}


def _rights(meta: Object) -> list[Object]:
    """Return what a node may do that makes pods for its jobs: no verb here reads a Secret."""
    rules = [
        {"apiGroups": ["batch"], "resources": ["jobs"], "verbs": ["create", "delete", "list"]},
        {"apiGroups": [""], "resources": ["pods"], "verbs": ["list", "watch"]},
        {"apiGroups": [""], "resources": ["secrets"], "verbs": ["create", "delete"]},
    ]
    api = "rbac.authorization.k8s.io"
    return [
        {"apiVersion": f"{api}/v1", "kind": "Role", "metadata": meta, "rules": rules},
        {
            "apiVersion": f"{api}/v1",
            "kind": "RoleBinding",
            "metadata": meta,
            "roleRef": {"apiGroup": api, "kind": "Role", "name": meta["name"]},
            "subjects": [{"kind": "ServiceAccount", "name": meta["name"], "namespace": meta["namespace"]}],
        },
    ]


def _budget(place: Place, namespace: str) -> Object:
    """Return the budget of a namespace: who drains nodes takes one of a federation's pods away at a time."""
    return {
        "apiVersion": "policy/v1",
        "kind": "PodDisruptionBudget",
        "metadata": place.meta("convoy", namespace, place.common()),
        "spec": {"maxUnavailable": 1, "selector": place.nodes()},
    }
