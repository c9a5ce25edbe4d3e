"""The Helm chart of a federation: with its own values it is what `render` prints; with others, what they say."""

import json
import re

import pytest
import yaml
from click.testing import CliRunner
from hypothesis import given
from hypothesis import strategies as st

from convoy.cli.main import app
from convoy.errors import BadInput
from convoy.kube import options
from convoy.kube.chart import chart, write
from convoy.kube.contents import Contents
from convoy.kube.objects import key, objects
from tests.kube.federations import DEMO, KITS, demo, said

EVERYTHING = """
namespace: tumours
image: registry.example.org/convoy:1
image_pull_policy: Always
storage_class: gp3
access_mode: ReadWriteOncePod
per_organisation_namespaces: true
server: {memory_limit: 4Gi, storage: 50Gi, node_selector: {zone: "true"}}
site: {cpu_limit: 1500m, memory: 0.5Gi}
sites:
  hospital-1:
    image: registry.example.org/convoy-torch:1
    gpu: 1
    cpu_limit: "2"
    data: {scans: scans-claim}
    node_selector: {kind: gpu, "1e3": "0x10"}
    tolerations: [{key: gpu, operator: Exists, tolerationSeconds: 3600000}, {key: "no"}]
outside: {load_balancer: nlb, sources: [203.0.113.0/24]}
egress: [{to: 198.51.100.7/32, ports: [443]}]
monitoring: {namespace: observing, labels: {release: prometheus}}
"""
SERVICES = "{per_organisation_namespaces: true, monitoring: {monitor: service}, track: {mlflow: 'http://m:5000'}}"
LAUNCHING = """
server: {launcher: kubernetes, jobs: {memory: 1Gi}}
sites:
  hospital-1:
    launcher: kubernetes
    data: {scans: scans-claim}
    jobs: {gpu: 1, tolerations: [{key: a, operator: Exists}]}
"""
OWNERS = {
    "hospital-1": Contents(
        {
            "policy.yaml": "# {{ .Values.image }} \ue000 {{/* {{- \nfilters: []\n",
            "node.yaml": "cpu: 0.5\nenv: {A: '{{ fail }}', B: \"\\ue000 tab\\t{{\"}\n",
            "approved.yaml": "x: |\n  cpu: 1\n \n",
        }
    ),
    "server": Contents({"node.yaml": "max_jobs: 7\n"}),
}


@pytest.fixture
def helm():
    return pytest.importorskip("helm_python", reason="Helm is not here: pip install -r requirements-test.txt")


def written(tmp_path, chosen, kits=None):
    folder = tmp_path / "chart"
    write(folder, chart(demo(), chosen, kits or {}))
    return folder


def rendered(helm, folder, values=None):
    with helm.Chart.load(folder) as it:
        texts = it.render(values=values, name="release")
    found = [it for name, text in texts.items() if name.endswith(".yaml") for it in yaml.safe_load_all(text) if it]
    return {key(it): it for it in found}


def wanted(chosen, kits=None):
    return {key(it): json.loads(json.dumps(it)) for it in objects(demo(), chosen, kits or {})}


@pytest.mark.parametrize("values", ["{}", EVERYTHING, LAUNCHING, SERVICES, "create_namespace: false"])
@pytest.mark.parametrize("kits", [{}, OWNERS], ids=["samples", "owners"])
def test_with_its_own_values_a_chart_is_what_render_prints(helm, tmp_path, values, kits):
    chosen = said(tmp_path, values)
    assert rendered(helm, written(tmp_path, chosen, kits), {}) == wanted(chosen, kits)


@pytest.mark.parametrize(
    ("values", "same"),
    [
        ({"image": "own:2", "imagePullPolicy": "Never"}, "{image: 'own:2', image_pull_policy: Never}"),
        ({"createNamespace": False}, "create_namespace: false"),
        ({"storageClass": "fast"}, "storage_class: fast"),
        (
            {"server": {"cpu": "1", "cpuLimit": "4", "memory": "1Gi", "memoryLimit": "8Gi", "storage": "1Ti"}},
            "server: {cpu: '1', cpu_limit: '4', memory: 1Gi, memory_limit: 8Gi, storage: 1Ti}",
        ),
        (
            {"sites": {"hospital-2": {"image": "own:1", "gpu": 2, "cpuLimit": "2500m", "memoryLimit": "3.5Gi"}}},
            "sites: {hospital-2: {image: 'own:1', gpu: 2, cpu_limit: 2500m, memory_limit: 3.5Gi}}",
        ),
        (
            {"sites": {"hospital-2": {"nodeSelector": {"kind": "gpu"}, "tolerations": [{"key": "gpu"}]}}},
            "sites: {hospital-2: {node_selector: {kind: gpu}, tolerations: [{key: gpu}]}}",
        ),
    ],
)
def test_other_values_do_what_the_same_words_do_in_values_yml(helm, tmp_path, values, same):
    def without_digests(by_key):
        for it in by_key.values():
            if it["kind"] == "StatefulSet":
                it["spec"]["template"]["metadata"]["annotations"].pop("convoy/config")
        return by_key

    found = rendered(helm, written(tmp_path, options.read(None)), values)
    assert without_digests(found) == without_digests(wanted(said(tmp_path, same)))


def test_the_share_of_jobs_follows_every_limit_as_render_reckons_it(helm, tmp_path):
    folder = written(tmp_path, options.read(None))
    with helm.Chart.load(folder) as it:

        @given(
            st.from_regex(r"[1-9][0-9]{0,2}(\.[0-9]{1,3})?|[1-9][0-9]{0,5}m", fullmatch=True),
            st.from_regex(r"[1-9][0-9]{0,3}(\.[0-9]{1,4})?([kMGT]|[KMGT]i)?", fullmatch=True),
        )
        def follows(cpu, memory):
            text = it.render({"sites": {"hospital-1": {"cpuLimit": cpu, "memoryLimit": memory}}})
            (found,) = [one for name, one in text.items() if name.endswith("nodes/hospital-1.yaml")]
            chosen = options.Options(sites={"hospital-1": options.Node(cpu_limit=cpu, memory_limit=memory)})
            config = wanted(chosen)["ConfigMap", "breast-cancer", "hospital-1"]
            assert config in list(yaml.safe_load_all(found))

        follows()


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"replicas": 2}, "replicas"),
        ({"image": ""}, "/image"),
        ({"imagePullPolicy": "Sometimes"}, "IfNotPresent"),
        ({"server": {"cpu": 2}}, "/server/cpu"),
        ({"server": {"cpu": None}}, "cpu"),
        ({"server": {"memoryLimit": "1 GB"}}, "does not match pattern"),
        ({"sites": {"hospital-1": {"gpu": -1}}}, "/sites/hospital-1/gpu"),
        ({"sites": {"hospital-9": {}}}, "hospital-9"),
        ({"sites": {"hospital-1": {"data": {}}}}, "data"),
    ],
)
def test_a_value_that_is_none_is_refused_by_helm(helm, tmp_path, values, message):
    folder = written(tmp_path, options.read(None))
    with helm.Chart.load(folder) as it, pytest.raises(helm.HelmError, match=re.escape(message)):
        it.render(values)


@pytest.mark.parametrize("values", ["{}", EVERYTHING, LAUNCHING])
def test_helm_finds_nothing_to_mend(helm, tmp_path, values):
    found = helm.lint(written(tmp_path, said(tmp_path, values)), strict=True)
    assert found["errors"] == []
    assert [one["error"] for one in found["messages"]] == ["icon is recommended"]


def test_no_secret_is_in_a_chart():
    files = chart(demo(), options.read(None), KITS)
    text = "".join(files.values())
    assert "kind: Secret" not in text
    assert not any(word in text for word in ("token-1", "dG9rZW4tMQ", "secret\n", "c2VjcmV0"))


def test_a_chart_says_how_the_secrets_come():
    files = chart(demo(), options.read(None), {})
    for name in ("README.md", "templates/NOTES.txt"):
        assert "convoy kube render --kits-alone | kubectl apply -f -" in files[name]


def typed(*words):
    return CliRunner().invoke(app, ["kube", *map(str, words), "-p", str(DEMO), "-w", "nowhere"], standalone_mode=False)


def test_convoy_kube_chart_writes_it_and_writes_it_anew(tmp_path):
    folder = tmp_path / "chart"
    assert typed("chart", "-o", folder).exception is None
    stale = folder / "templates" / "nodes" / "hospital-9.yaml"
    stale.write_text("kind: Pod")
    assert typed("chart", "-o", folder, "--image", "own:1").exception is None
    assert not stale.exists()
    assert yaml.safe_load((folder / "values.yaml").read_text())["image"] == "own:1"


def test_a_folder_with_something_else_in_it_is_left_alone(tmp_path):
    (tmp_path / "Chart.yaml").write_text("name: of-somebody-else")
    done = typed("chart", "-o", tmp_path)
    assert isinstance(done.exception, BadInput)
    assert "something other" in done.exception.what
    assert [file.name for file in tmp_path.iterdir()] == ["Chart.yaml"]


def test_kits_alone_are_the_secrets_and_nothing_else(tmp_path):
    place = ["-p", str(DEMO), "-w", str(tmp_path)]
    run = CliRunner()
    assert run.invoke(app, ["provision", *place]).exit_code == 0
    found = list(yaml.safe_load_all(run.invoke(app, ["kube", "render", "--kits-alone", *place]).output))
    assert [it["kind"] for it in found] == ["Secret"] * 4
