"""Who may talk to whom: the server's Service, and policies that deny everything but the lines of the design."""

from __future__ import annotations

from typing import Any, Final

from convoy.kube.naming import COMPONENT, Place, slug
from convoy.spec.pods import WORKERS_PORT

NODE_DNS: Final = "169.254.20.10/32"  # where NodeLocal DNSCache answers
CONSOLE: Final = "console"  # the component of a pod from which a person asks
_NO_WORKER: Final = {"key": COMPONENT, "operator": "NotIn", "values": ["worker"]}  # names would carry data out
_AWS: Final = "service.beta.kubernetes.io/aws-load-balancer"


def service(place: Place) -> dict[str, Any]:
    """Return the server's Service: sites on one port, people on the other; health never leaves the pod."""
    server, outside = place.project.server, place.options.outside
    ports = (("sites", server.fed_learn_port), ("people", server.admin_port))
    spec: dict[str, Any] = {
        "type": "LoadBalancer" if outside else "ClusterIP",
        "selector": place.labels(server),
        "ports": [{"name": name, "port": port, "targetPort": name, "protocol": "TCP"} for name, port in ports],
    }
    more: dict[str, Any] = {}
    if outside:
        spec["loadBalancerSourceRanges"] = list(outside.sources)
        if outside.load_balancer != "plain":
            more["annotations"] = _nlb(internal=outside.load_balancer == "nlb-internal")
    meta = place.meta(slug(server.name), place.namespace, place.labels(server), **more)
    return {"apiVersion": "v1", "kind": "Service", "metadata": meta, "spec": spec}


def _nlb(*, internal: bool) -> dict[str, str]:
    """Return what makes it a network load balancer: TCP goes through, and TLS ends at the server."""
    return {
        f"{_AWS}-type": "external",
        f"{_AWS}-nlb-target-type": "ip",
        f"{_AWS}-scheme": "internal" if internal else "internet-facing",
        f"{_AWS}-healthcheck-protocol": "tcp",
    }


def policies(place: Place, namespace: str) -> list[dict[str, Any]]:
    """Return a namespace's policies: nothing in, nothing out, but names and what a federation is made of."""
    made = [
        _policy(place, "deny-all", namespace, place.common(), {"policyTypes": ["Ingress", "Egress"]}),
        _policy(
            place,
            "dns",
            namespace,
            place.common(),
            {
                "podSelector": {"matchLabels": place.common(), "matchExpressions": [_NO_WORKER]},
                "policyTypes": ["Egress"],
                "egress": [{"to": _dns(), "ports": _names()}],
            },
        ),
    ]
    server, both = place.project.server, (place.project.server.fed_learn_port, place.project.server.admin_port)
    if namespace == place.namespace:
        outside = [
            {"ipBlock": {"cidr": cidr}} for cidr in (place.options.outside.sources if place.options.outside else ())
        ]
        console = _pods({**place.common(), COMPONENT: CONSOLE})
        ingress = [
            {"from": [_anywhere(place, "site"), *outside], "ports": _tcp(*both)},  # people's port certifies a new key
            {"from": [console], "ports": _tcp(server.admin_port)},
        ]
        egress = [{"to": [{"ipBlock": {"cidr": one.to}}], "ports": _tcp(*one.ports)} for one in place.options.egress]
        spec = {"policyTypes": ["Ingress", "Egress"], "ingress": ingress, "egress": egress}
        made.append(_policy(place, "server", namespace, place.labels(server), spec))
        asks = [{"to": [_pods(place.labels(server))], "ports": _tcp(server.admin_port)}]
        chosen = {**place.common(), COMPONENT: CONSOLE}
        made.append(_policy(place, "console", namespace, chosen, {"policyTypes": ["Egress"], "egress": asks}))
    if any(place.namespace_of(site) == namespace for site in place.project.sites):
        out = [{"to": [_anywhere(place, "server")], "ports": _tcp(*both)}]
        chosen = {**place.common(), COMPONENT: "site"}
        made.append(_policy(place, "sites", namespace, chosen, {"policyTypes": ["Egress"], "egress": out}))
    return made + _launching(place, namespace)


def _launching(place: Place, namespace: str) -> list[dict[str, Any]]:
    """Return the policies of nodes that make pods, and of those pods: they find their node, and nobody else."""
    made = []
    for one in place.launchers():
        if place.namespace_of(one) != namespace:
            continue
        name, workers, node = slug(one.name), place.workers(one), place.labels(one)
        api = [{"to": [{"ipBlock": {"cidr": it.to}}], "ports": _tcp(*it.ports)} for it in place.options.api_server]
        spec = {
            "policyTypes": ["Ingress", "Egress"],
            "ingress": [{"from": [_pods(workers)], "ports": _tcp(WORKERS_PORT)}],
            "egress": api,
        }
        made.append(_policy(place, f"launcher-{name}", namespace, node, spec))
        out = [{"to": [_pods(node)], "ports": _tcp(WORKERS_PORT)}]
        made.append(_policy(place, f"workers-{name}", namespace, workers, {"policyTypes": ["Egress"], "egress": out}))
    return made


def _policy(place: Place, name: str, namespace: str, chosen: dict[str, str], spec: dict[str, Any]) -> dict[str, Any]:
    return {
        "apiVersion": "networking.k8s.io/v1",
        "kind": "NetworkPolicy",
        "metadata": place.meta(f"convoy-{name}", namespace, place.common()),
        "spec": {"podSelector": {"matchLabels": chosen}, **spec},
    }


def _anywhere(place: Place, component: str) -> dict[str, Any]:
    """Return the pods of one component of this federation, in whichever of its namespaces they are."""
    chosen: dict[str, Any] = _pods({**place.common(), COMPONENT: component})
    if place.options.per_organisation_namespaces:
        one_of = {"key": "kubernetes.io/metadata.name", "operator": "In", "values": place.namespaces}
        chosen["namespaceSelector"] = {"matchExpressions": [one_of]}
    return chosen


def _pods(labels: dict[str, str]) -> dict[str, Any]:
    return {"podSelector": {"matchLabels": labels}}


def _dns() -> list[dict[str, Any]]:
    system = {"namespaceSelector": {"matchLabels": {"kubernetes.io/metadata.name": "kube-system"}}}
    return [system, {"ipBlock": {"cidr": NODE_DNS}}]


def _names() -> list[dict[str, Any]]:
    return [{"protocol": protocol, "port": 53} for protocol in ("UDP", "TCP")]


def _tcp(*ports: int) -> list[dict[str, Any]]:
    return [{"protocol": "TCP", "port": port} for port in ports]
