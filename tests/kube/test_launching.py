"""The objects of a node that makes a pod for each of its jobs: a Role that reads no Secret, a port, policies."""

import importlib.util

import pytest
import yaml

from convoy.node.launcher import Wants
from convoy.pods.objects import Home, job, secret
from convoy.spec.kit import Kit
from convoy.spec.pods import read_pods
from convoy.spec.settings import read_settings
from convoy.spec.yamls import Document
from tests.kube.federations import made, of, said

VALUES = """
image: registry.example.org/convoy:1
sites:
  hospital-1:
    launcher: kubernetes
    data: {scans: scans-claim}
    jobs: {gpu: 1, memory_limit: 16Gi, cpu_limit: "4", tolerations: [{key: nvidia.com/gpu, operator: Exists}]}
server: {launcher: kubernetes}
"""
SPACE = "breast-cancer"


@pytest.fixture
def found(tmp_path):
    return made(said(tmp_path, VALUES))


def node_yaml(found, name):
    return yaml.safe_load(found["ConfigMap", SPACE, name]["data"]["node.yaml"])


def pod(found, name):
    return found["StatefulSet", SPACE, name]["spec"]["template"]["spec"]


def test_a_nodes_role_makes_and_removes_jobs_looks_at_pods_and_reads_no_secret(found):
    role = found["Role", SPACE, "hospital-1"]
    verbs = {rule["resources"][0]: set(rule["verbs"]) for rule in role["rules"]}
    assert verbs == {"jobs": {"create", "delete", "list"}, "pods": {"list", "watch"}, "secrets": {"create", "delete"}}
    binding = found["RoleBinding", SPACE, "hospital-1"]
    assert binding["subjects"] == [{"kind": "ServiceAccount", "name": "hospital-1", "namespace": SPACE}]
    assert ("Role", SPACE, "hospital-2") not in found


def test_only_who_launches_has_a_token_and_its_pods_have_none(found):
    def tokens(name):
        projected = [volume["projected"] for volume in pod(found, name)["volumes"] if "projected" in volume]
        return [one for it in projected for one in it["sources"] if "serviceAccountToken" in one]

    assert [len(tokens(name)) for name in ("server", "hospital-1", "hospital-2")] == [1, 1, 0]
    assert found["ServiceAccount", SPACE, "convoy-worker"]["automountServiceAccountToken"] is False
    assert all(it["automountServiceAccountToken"] is False for it in of("ServiceAccount", found))


def test_what_was_chosen_for_jobs_reaches_the_node_as_its_settings(found, tmp_path):
    text = found["ConfigMap", SPACE, "hospital-1"]["data"]["node.yaml"]
    (tmp_path / "local").mkdir()
    (tmp_path / "local" / "node.yaml").write_text(text)
    settings = read_settings(Kit(tmp_path, "p", "site", "n", "o", "h", 8002, 8003, tmp_path / "work"))
    assert settings.pods is not None
    assert settings.pods.image == "registry.example.org/convoy:1"
    assert settings.pods.data == {"scans": "scans-claim"}
    assert settings.data == {"scans": "/data/scans"}
    assert (settings.cpu, settings.memory, settings.gpu) == (4, 16 << 30, 1)
    assert settings.pods.labels["app.kubernetes.io/component"] == "worker"


def test_data_is_mounted_where_jobs_run_and_not_at_the_node(found):
    assert not [volume for volume in pod(found, "hospital-1")["volumes"] if volume["name"].startswith("data")]


def test_a_worker_finds_its_node_and_nobody_else_not_even_names(found):
    workers = node_yaml(found, "hospital-1")["pods"]["labels"].items()

    def choosing():
        for it in of("NetworkPolicy", found):
            selector = it["spec"]["podSelector"]
            barred = [one for one in selector.get("matchExpressions", []) if "worker" in one["values"]]
            if selector["matchLabels"].items() <= workers and not barred:
                yield it["metadata"]["name"], it["spec"]

    chosen = dict(choosing())
    assert chosen.keys() == {"convoy-deny-all", "convoy-workers-hospital-1"}
    (out,) = chosen["convoy-workers-hospital-1"]["egress"]
    assert [port["port"] for port in out["ports"]] == [8005]
    reached = out["to"][0]["podSelector"]["matchLabels"].items()
    assert reached <= found["StatefulSet", SPACE, "hospital-1"]["metadata"]["labels"].items()
    node = found["NetworkPolicy", SPACE, "convoy-launcher-hospital-1"]["spec"]
    assert node["ingress"][0]["from"][0]["podSelector"]["matchLabels"].items() <= workers
    assert [port["port"] for line in node["egress"] for port in line["ports"]] == [443, 6443, 443, 6443]


def test_whoever_drains_machines_is_not_kept_by_the_pods_of_jobs(found):
    (budget,) = of("PodDisruptionBudget", found)
    (expression,) = budget["spec"]["selector"]["matchExpressions"]
    assert expression["values"] == ["server", "site"]


@pytest.mark.parametrize("version", ["1.30", "1.31", "1.32", "1.33", "1.34"])
def test_all_of_it_fits_the_schema_of_current_kubernetes(found, version):
    if importlib.util.find_spec("kubernetes_validate") is None:
        pytest.skip("kubernetes-validate is not installed: pip install -r requirements-test.txt")
    import kubernetes_validate

    home = Home("hospital-1-0", "u", "10.0.0.1:8005", "hospital-1")
    pods = read_pods(Document("node.yaml", None, {}), node_yaml(found, "hospital-1")["pods"])
    wants = Wants("i", 1.5, 1 << 30, 1, 600)
    for it in (*found.values(), job("w", home, pods, wants), secret("w", home, {"ca.crt": b"root"})):
        kubernetes_validate.validate(it, version, strict=True)
