"""Prometheus and Grafana for a federation: the files that come with Convoy, and the objects of them in a cluster."""

from __future__ import annotations

from pathlib import Path
from typing import Any, Final

import convoy
from convoy.errors import BadInput
from convoy.kube.contents import HEALTH_PORT
from convoy.kube.naming import Place
from convoy.kube.options import Monitoring
from convoy.spec import yamls

RULES: Final = "rules.yml"
DASHBOARD: Final = "dashboard.json"
SAMPLE: Final = "prometheus.yml"  # which people edit
FILES: Final = (DASHBOARD, RULES, SAMPLE)
OPERATOR: Final = "monitoring.coreos.com/v1"  # the API of the Prometheus Operator
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
    if asked.pods:
        made.append(_monitor(place, asked))
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


def _monitor(place: Place, asked: Monitoring) -> dict[str, Any]:
    spec = {
        "selector": place.nodes(),
        "namespaceSelector": {"matchNames": place.namespaces},
        "podMetricsEndpoints": [{"port": "health", "path": "/metrics", "interval": asked.interval}],
    }
    return _of_operator(place, "PodMonitor", asked, spec)


def _of_operator(place: Place, kind: str, asked: Monitoring, spec: Any) -> dict[str, Any]:
    meta = place.meta("convoy", place.namespace, {**asked.labels, **place.common()})
    return {"apiVersion": OPERATOR, "kind": kind, "metadata": meta, "spec": spec}
