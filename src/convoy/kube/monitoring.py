"""Prometheus and Grafana for a federation: the files that come with Convoy, and the objects of them in a cluster."""

from __future__ import annotations

from pathlib import Path
from typing import Any, Final

import convoy
from convoy.errors import BadInput
from convoy.kube.contents import HEALTH_PORT
from convoy.kube.naming import COMPONENT, Place
from convoy.kube.options import Monitoring
from convoy.spec import yamls

RULES: Final = "rules.yml"
DASHBOARD: Final = "dashboard.json"
SAMPLE: Final = "prometheus.yml"  # which people edit
FILES: Final = (DASHBOARD, RULES, SAMPLE)
OPERATOR: Final = "monitoring.coreos.com/v1"  # the API of the Prometheus Operator
METRICS: Final = "metrics"  # the component of Services that only Prometheus uses
SIDECAR: Final = {"grafana_dashboard": "1"}  # by this label Grafana's own chart finds dashboards


def read(name: str) -> str:
    """Return one of the files. Raises `BadInput` where they were not installed."""
    package = Path(convoy.__file__).parent
    for place in (package / "observability", package.parents[1] / "deploy" / "observability"):  # a wheel, a clone
        if (place / name).is_file():
            return (place / name).read_text()
    raise BadInput(f"{name} is not installed", why=f"it is not beside {package}", fix="install Convoy's wheel again")


def objects(place: Place) -> list[dict[str, Any]]:
    """Return what `monitoring` asks for; nothing without it."""
    asked = place.options.monitoring
    if asked is None:
        return []
    made = [_admits(place, namespace, asked.namespace) for namespace in place.namespaces]
    if asked.monitor == "pod":
        made.append(_pod_monitor(place, asked))
    elif asked.monitor == "service":
        made += [*_services(place), _service_monitor(place, asked)]
    if asked.rules:
        made.append(_of_operator(place, "PrometheusRule", asked, yamls.load(read(RULES), name=RULES).mapping()))
    if asked.dashboard:
        meta = place.meta("convoy-dashboard", place.namespace, place.common() | SIDECAR)
        made.append(
            {"apiVersion": "v1", "kind": "ConfigMap", "metadata": meta, "data": {"convoy.json": read(DASHBOARD)}}
        )
    return made


def _admits(place: Place, namespace: str, prometheus: str) -> dict[str, Any]:
    """Return the policy by which the pods of Prometheus' namespace reach the health port of nodes, and nothing else."""
    there = {"namespaceSelector": {"matchLabels": {"kubernetes.io/metadata.name": prometheus}}}
    ports = [{"protocol": "TCP", "port": HEALTH_PORT}]
    return {
        "apiVersion": "networking.k8s.io/v1",
        "kind": "NetworkPolicy",
        "metadata": place.meta("convoy-monitoring", namespace, place.common()),
        "spec": {
            "podSelector": place.nodes(),
            "policyTypes": ["Ingress"],
            "ingress": [{"from": [there], "ports": ports}],
        },
    }


def _pod_monitor(place: Place, asked: Monitoring) -> dict[str, Any]:
    spec = {
        "selector": place.nodes(),
        "namespaceSelector": {"matchNames": place.namespaces},
        "podMetricsEndpoints": [{"port": "health", "path": "/metrics", "interval": asked.interval}],
    }
    return _of_operator(place, "PodMonitor", asked, spec)


def _services(place: Place) -> list[dict[str, Any]]:
    """Return headless Services of the health port: of the server and of the sites in each namespace that has any.

    No traffic goes through them. They list the addresses of pods for Prometheus, also of pods that are not ready.
    """
    everybody = (place.project.server, *place.project.sites)
    known = {(place.namespace_of(one), place.labels(one)[COMPONENT]) for one in everybody}
    ports = [{"name": "health", "port": HEALTH_PORT, "targetPort": "health", "protocol": "TCP"}]
    return [
        {
            "apiVersion": "v1",
            "kind": "Service",
            "metadata": place.meta(f"convoy-metrics-{component}", namespace, {**place.common(), COMPONENT: METRICS}),
            "spec": {
                "clusterIP": "None",
                "publishNotReadyAddresses": True,
                "selector": {**place.common(), COMPONENT: component},
                "ports": ports,
            },
        }
        for namespace, component in sorted(known)
    ]


def _service_monitor(place: Place, asked: Monitoring) -> dict[str, Any]:
    spec = {
        "selector": {"matchLabels": {**place.common(), COMPONENT: METRICS}},
        "namespaceSelector": {"matchNames": place.namespaces},
        "jobLabel": "app.kubernetes.io/name",
        "endpoints": [{"port": "health", "path": "/metrics", "interval": asked.interval}],
    }
    return _of_operator(place, "ServiceMonitor", asked, spec)


def _of_operator(place: Place, kind: str, asked: Monitoring, spec: Any) -> dict[str, Any]:
    meta = place.meta("convoy", place.namespace, {**asked.labels, **place.common()})
    return {"apiVersion": OPERATOR, "kind": kind, "metadata": meta, "spec": spec}
