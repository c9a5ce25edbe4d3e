"""Prometheus in a cluster: nothing unless asked for; then it reaches the health port of nodes, and nobody else does."""

import json

import pytest
import yaml
from click.testing import CliRunner

from convoy.cli.main import app
from convoy.errors import BadInput
from convoy.kube import monitoring
from tests.cli.command_line import typed
from tests.kube.api_server import application, serving
from tests.kube.federations import DEMO, made, of, said

KINDS = ("PodMonitor", "ServiceMonitor", "PrometheusRule")


def test_nothing_of_it_is_there_unless_asked_for():
    found = made()
    assert not [key for key in found if key[0] in KINDS or "monitoring" in key[2] or "dashboard" in key[2]]


def test_the_monitor_finds_every_node_and_no_pod_of_a_job(tmp_path):
    found = made(said(tmp_path, "monitoring: {labels: {release: prometheus}}"))
    (monitor,) = of("PodMonitor", found)
    assert monitor["metadata"]["labels"]["release"] == "prometheus"
    (endpoint,) = monitor["spec"]["podMetricsEndpoints"]
    chosen = monitor["spec"]["selector"]
    for node in of("StatefulSet", found):
        pod = node["spec"]["template"]
        assert chosen["matchLabels"].items() <= pod["metadata"]["labels"].items()
        assert pod["metadata"]["labels"]["app.kubernetes.io/component"] in chosen["matchExpressions"][0]["values"]
        names = {port["name"] for port in pod["spec"]["containers"][0]["ports"]}
        assert endpoint["port"] in names
    assert "worker" not in chosen["matchExpressions"][0]["values"]


@pytest.mark.parametrize("apart", ["true", "false"])
def test_a_service_monitor_finds_the_same_pods_by_services_that_only_it_uses(tmp_path, apart):
    found = made(said(tmp_path, f"monitoring: {{monitor: service}}\nper_organisation_namespaces: {apart}"))
    assert of("PodMonitor", found) == []
    (monitor,) = of("ServiceMonitor", found)
    (endpoint,) = monitor["spec"]["endpoints"]
    chosen = monitor["spec"]["selector"]["matchLabels"]
    services = [it for it in of("Service", found) if chosen.items() <= it["metadata"]["labels"].items()]
    for service in services:
        assert (service["spec"]["clusterIP"], service["spec"]["publishNotReadyAddresses"]) == ("None", True)
        assert [port["name"] for port in service["spec"]["ports"]] == [endpoint["port"]]
        assert service["metadata"]["namespace"] in monitor["spec"]["namespaceSelector"]["matchNames"]
    for node in of("StatefulSet", found):
        pod = node["spec"]["template"]
        (its,) = [
            it
            for it in services
            if it["spec"]["selector"].items() <= pod["metadata"]["labels"].items()
            and it["metadata"]["namespace"] == node["metadata"]["namespace"]
        ]
        (port,) = its["spec"]["ports"]
        named = {it["name"]: it["containerPort"] for it in pod["spec"]["containers"][0]["ports"]}
        assert named[port["targetPort"]] == port["port"] == 8004
    workers = {"app.kubernetes.io/component": "worker"}
    assert not any(it["spec"]["selector"].items() & workers.items() for it in services)


def test_monitors_are_what_the_operator_reads(tmp_path):
    """Its definitions of both kinds, in short: the keys that each level may have, and those that it must have."""
    endpoint, spec = {"port", "path", "interval"}, {"selector", "namespaceSelector", "jobLabel"}
    for monitor, kind, endpoints in (
        ("pod", "PodMonitor", "podMetricsEndpoints"),
        ("service", "ServiceMonitor", "endpoints"),
    ):
        found = made(said(tmp_path, f"monitoring: {{monitor: {monitor}, interval: 90s}}"))
        (made_,) = of(kind, found)
        assert made_["apiVersion"] == "monitoring.coreos.com/v1"
        assert {endpoints, "selector"} <= made_["spec"].keys() <= {*spec, endpoints}
        assert made_["spec"][endpoints] == [dict.fromkeys(endpoint) | made_["spec"][endpoints][0]]
        assert made_["spec"][endpoints][0]["interval"] == "90s"
        assert made_["spec"]["namespaceSelector"].keys() == {"matchNames"}
        assert made_["spec"]["selector"].keys() <= {"matchLabels", "matchExpressions"}


def test_in_each_namespace_a_policy_admits_the_prometheus_of_the_named_one_to_the_health_port_alone(tmp_path):
    text = "monitoring: {namespace: observing}\nper_organisation_namespaces: true"
    found = made(said(tmp_path, text))
    policies = [it for it in of("NetworkPolicy", found) if it["metadata"]["name"] == "convoy-monitoring"]
    spaces = {it["metadata"]["namespace"] for it in of("StatefulSet", found)}
    assert {it["metadata"]["namespace"] for it in policies} == spaces
    for policy in policies:
        assert policy["spec"]["policyTypes"] == ["Ingress"]
        (rule,) = policy["spec"]["ingress"]
        assert rule["ports"] == [{"protocol": "TCP", "port": 8004}]
        (source,) = rule["from"]
        assert source == {"namespaceSelector": {"matchLabels": {"kubernetes.io/metadata.name": "observing"}}}
    (monitor,) = of("PodMonitor", found)
    assert set(monitor["spec"]["namespaceSelector"]["matchNames"]) == spaces


def test_rules_and_dashboard_are_the_files_that_come_with_convoy(tmp_path):
    found = made(said(tmp_path, "monitoring: {}"))
    (rules,) = of("PrometheusRule", found)
    assert rules["spec"] == yaml.safe_load(monitoring.read("rules.yml"))
    (shown,) = [it for it in of("ConfigMap", found) if it["metadata"]["name"] == "convoy-dashboard"]
    assert shown["metadata"]["labels"]["grafana_dashboard"] == "1"
    assert json.loads(shown["data"]["convoy.json"])["title"] == "Convoy"


def test_each_part_can_be_left_out(tmp_path):
    found = made(said(tmp_path, "monitoring: {monitor: none, rules: false, dashboard: false}"))
    assert [key[2] for key in found if key[0] in KINDS or "dashboard" in key[2]] == []
    assert [key[2] for key in found if key[2] == "convoy-monitoring"] == ["convoy-monitoring"]


@pytest.mark.parametrize(
    "text",
    [
        "{interval: soon}",
        "{monitor: both}",
        "{pods: false}",
        "{interval: '30'}",
        "{namespace: kube-system}",
        "{namespace: ''}",
    ],
)
def test_what_cannot_be_is_refused(tmp_path, text):
    with pytest.raises(BadInput):
        said(tmp_path, f"monitoring: {text}")


def test_convoy_observe_writes_the_files_and_leaves_an_edited_configuration(tmp_path):
    folder = tmp_path / "prometheus"
    assert CliRunner().invoke(app, ["observe", str(folder)]).exit_code == 0
    assert {file.name: file.read_text() for file in folder.iterdir()} == {
        name: monitoring.read(name) for name in monitoring.FILES
    }
    (folder / "prometheus.yml").write_text("mine")
    (folder / "rules.yml").write_text("old")
    done = CliRunner().invoke(app, ["observe", str(folder), "--json"])
    assert json.loads(done.output)["kept"] == [str(folder / "prometheus.yml")]
    assert (folder / "prometheus.yml").read_text() == "mine"
    assert (folder / "rules.yml").read_text() == monitoring.read("rules.yml")


# through an API server

PLURALS = ("podmonitors", "prometheusrules", "servicemonitors")


async def up(tmp_path, monkeypatch, text, made):
    (tmp_path / "values.yml").write_text(text)
    async with serving(tmp_path, made) as config:
        monkeypatch.setenv("KUBECONFIG", str(config))
        return await typed("kube", "up", "-p", DEMO, "--values", "values.yml", "--patience", "20s", cwd=tmp_path)


def there(made):
    return [plural for plural, _, _ in made.state.store.objects if plural in PLURALS]


async def test_up_makes_them_and_removes_them_when_they_are_not_asked_for_any_more(tmp_path, monkeypatch):
    made = application()
    done = await up(tmp_path, monkeypatch, "monitoring: {}", made)
    assert done.code == 0, done.err
    assert sorted(there(made)) == ["podmonitors", "prometheusrules"]
    done = await up(tmp_path, monkeypatch, "monitoring: {monitor: service}", made)
    assert done.code == 0, done.err
    assert sorted(there(made)) == ["prometheusrules", "servicemonitors"]
    done = await up(tmp_path, monkeypatch, "{}", made)
    assert done.code == 0, done.err
    assert there(made) == []


async def test_a_cluster_without_the_operator_is_named_with_what_to_do(tmp_path, monkeypatch):
    made = application(unknown=PLURALS)
    refused = await up(tmp_path, monkeypatch, "monitoring: {}", made)
    assert refused.code != 0
    assert "no objects of the kind PodMonitor" in refused.err
    assert "Prometheus Operator" in refused.err
    done = await up(tmp_path, monkeypatch, "monitoring: {monitor: none, rules: false}", made)
    assert done.code == 0, done.err


async def test_who_may_not_look_at_monitors_is_not_kept_from_a_federation_without_them(tmp_path, monkeypatch):
    done = await up(tmp_path, monkeypatch, "{}", application(hidden=PLURALS))
    assert done.code == 0, done.err
