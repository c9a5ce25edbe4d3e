"""docs/eks.md under test: each YAML block fits its schema, each command its tool, and those of ours that can run do."""

import importlib.util
import json
import re
from dataclasses import replace

import click
import pytest
import yaml
from click.testing import CliRunner

from convoy.cli.eks_doctor import lines
from convoy.cli.main import app
from convoy.eks import config, repair
from convoy.eks.doctor import judge
from convoy.eks.facts import Unseen
from convoy.eks.repair import Which
from convoy.kube.options import Options
from convoy.provision.sample import PROJECT
from convoy.spec.project import read_project
from tests.eks.fit import FIT, NAMES, addon
from tests.kube.federations import ROOT, made, said

pytest.importorskip("botocore", reason="botocore comes with the extra `eks`")

from tests.kube import commands

PAGE = (ROOT / "docs" / "eks.md").read_text()
SCHEMA = ROOT.parent / "shared" / "kubernetes" / "eksctl-schema.json"
YAML = {
    re.match(r"# (\S+)\n", text)[1]: text
    for text in re.findall(r"^```yaml\n(.*?)^```$", PAGE, re.MULTILINE | re.DOTALL)
}
SHELL = re.findall(r"^```sh\n(.*?)^```$", PAGE, re.MULTILINE | re.DOTALL)
LINES = [line for text in SHELL for line in text.splitlines() if line.strip()]
TYPED = [words for line in LINES for words in commands.split(line)]
OURS = [words for words in TYPED if words[0] == "convoy"]
THEIRS = [words for words in TYPED if words[0] != "convoy"]
VERSIONS = ("1.30", "1.35")
WHICH = Which("convoy", "us-west-2")
GIVEN = {"deploy/image/Containerfile", "requirements.txt"}  # of this repository; of the reader
MADE = {"cluster.yaml", "storage-class.yaml", "Containerfile.torch"}  # by commands of the page


def ours(words):
    """Return what follows `convoy` in a command, without where its output goes."""
    return words[1 : words.index(">") if ">" in words else None]


def parsed(words):
    """Return the context in which click would run a command of ours."""
    command, context, words = app, click.Context(app), list(words)
    while isinstance(command, click.Group):
        name = words.pop(0)
        command = command.commands[name]
    return command.make_context("it", words, parent=context)


def sample():
    return read_project(PROJECT, "project.yml")[0]


def test_the_page_has_what_this_file_looks_at():
    assert set(YAML) == {"values.yml", "snapshot-class.yaml", "snapshot.yaml", "restore.yaml"}
    assert len(OURS) >= 12
    assert len(THEIRS) >= 25


@pytest.mark.parametrize("words", OURS, ids=" ".join)
def test_each_command_of_ours_is_one_that_convoy_takes(words):
    parsed(ours(words))


@pytest.mark.parametrize("words", THEIRS, ids=" ".join)
def test_each_command_of_others_is_one_that_they_take(words):
    assert commands.wrong(words) is None


@pytest.mark.parametrize(
    "line",
    [
        "aws eks describe-clusters --name convoy",
        "aws eks describe-cluster --cluster-name convoy",
        "aws eks describe-addon --addon-name coredns",
        "aws elks list",
        "aws eks wait cluster-happy --name convoy",
        "eksctl create cluster --file cluster.yaml",
        "eksctl destroy cluster",
        "kubectl frobnicate",
        "podman build --squashed .",
    ],
)
def test_a_command_that_nobody_takes_would_be_found(line):
    (words,) = commands.split(line)
    assert commands.wrong(words)


def test_each_file_that_a_command_reads_is_made_by_the_page_or_is_the_readers():
    named = {file for words in TYPED for file in commands.files(words)}
    assert named <= MADE | GIVEN | set(YAML)
    assert set(YAML) <= named, "a file that no command reads"
    assert (ROOT / "deploy" / "image" / "Containerfile").is_file()
    assert "> Containerfile.torch" in PAGE


def test_what_can_run_here_runs_in_the_order_of_the_page(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "requirements.txt").write_text("torch\n")
    (tmp_path / "values.yml").write_text(YAML["values.yml"])
    ran = []
    for words in OURS:
        line = ours(words)
        if line[:2] in (["eks", "cluster"], ["job", "new"], ["kube", "image"]) or line[0] == "provision":
            done = CliRunner().invoke(app, line)
            assert done.exit_code == 0, done.output
            ran.append(line[0])
    assert sorted(ran) == ["eks", "eks", "job", "kube", "provision"]
    assert {file.name for file in tmp_path.iterdir()} >= {"cluster.yaml", "storage-class.yaml", "project.yml", "first"}
    assert CliRunner().invoke(app, ["kube", "render", "--values", "values.yml"]).exit_code == 0


def test_the_clusters_of_the_page_fit_eksctls_own_schema():
    jsonschema = pytest.importorskip("jsonschema", reason="comes with kubernetes-validate: requirements-test.txt")
    if not SCHEMA.is_file():
        pytest.skip("eksctl's schema is not beside this repository")
    validator = jsonschema.Draft7Validator(json.loads(SCHEMA.read_text()))
    found = [parsed(words[1:]).params for words in OURS if words[1:3] == ["eks", "cluster"]]
    assert {one["gpu_nodes"] for one in found} == {0, 1}
    for one in found:
        made_of = config.cluster(one["name"], one["region"], nodes=one["nodes"], gpu_nodes=one["gpu_nodes"])
        assert list(validator.iter_errors(made_of)) == []


@pytest.mark.parametrize("version", VERSIONS)
@pytest.mark.parametrize(
    "it", [yaml.safe_load(YAML["restore.yaml"]), config.storage_class()], ids=lambda it: it["kind"]
)
def test_each_object_of_a_kind_of_kubernetes_fits_its_schema(it, version):
    if importlib.util.find_spec("kubernetes_validate") is None:
        pytest.skip("kubernetes-validate is not installed: pip install -r requirements-test.txt")
    import kubernetes_validate

    kubernetes_validate.validate(it, version, strict=True)


def test_a_restored_claim_is_the_one_that_the_server_looks_for(tmp_path):
    claim = yaml.safe_load(YAML["restore.yaml"])
    namespace = claim["metadata"]["namespace"]
    server = made(said(tmp_path, "{}"), kits={}, project=sample())["StatefulSet", namespace, "server"]
    (template,) = server["spec"]["volumeClaimTemplates"]
    assert claim["metadata"]["name"] == f"{template['metadata']['name']}-{server['metadata']['name']}-0"
    assert claim["metadata"]["labels"] == template["metadata"]["labels"]
    wanted = template["spec"] | {"storageClassName": config.storage_class()["metadata"]["name"]}
    assert {key: claim["spec"][key] for key in wanted} == wanted


def test_the_snapshot_is_of_that_claim_and_outlives_the_cluster():
    kind, one, claim = (yaml.safe_load(YAML[f"{name}.yaml"]) for name in ("snapshot-class", "snapshot", "restore"))
    for it in (kind, one):
        assert it["apiVersion"] == "snapshot.storage.k8s.io/v1"
    assert kind.keys() == {"apiVersion", "kind", "metadata", "driver", "deletionPolicy"}
    assert (kind["kind"], one["kind"]) == ("VolumeSnapshotClass", "VolumeSnapshot")
    assert (kind["driver"], kind["deletionPolicy"]) == (config.storage_class()["provisioner"], "Retain")
    assert one["spec"] == {
        "volumeSnapshotClassName": kind["metadata"]["name"],
        "source": {"persistentVolumeClaimName": claim["metadata"]["name"]},
    }
    assert one["metadata"]["namespace"] == claim["metadata"]["namespace"]
    group = one["apiVersion"].split("/")[0]
    assert claim["spec"]["dataSource"] == {"apiGroup": group, "kind": one["kind"], "name": one["metadata"]["name"]}


def test_the_values_of_the_page_ask_for_a_gpu_and_bear_the_taint_of_our_own_machines(tmp_path):
    options = said(tmp_path, YAML["values.yml"])
    assert isinstance(options, Options)
    pod = made(options, kits={}, project=sample())["StatefulSet", "example-project", "site-1"]["spec"]["template"][
        "spec"
    ]
    assert pod["containers"][0]["resources"]["limits"]["nvidia.com/gpu"] == "1"
    gpus = config.cluster("convoy", "us-west-2", nodes=2, gpu_nodes=1)["managedNodeGroups"][1]
    (taint,), (toleration,) = gpus["taints"], pod["tolerations"]
    assert (toleration["key"], toleration["effect"]) == (taint["key"], taint["effect"])


def test_what_the_page_shows_of_the_doctor_is_what_it_prints():
    (shown,) = re.findall(r"^```text\n\$ convoy eks doctor\n(.*?)^```$", PAGE, re.MULTILINE | re.DOTALL)
    why = "no context of your kubeconfig leads to this cluster"
    facts = replace(FIT, addons={name: addon() for name in NAMES}, inside=Unseen(why, repair.kubeconfig(WHICH)))
    assert shown.splitlines() == lines(judge(facts, WHICH))


FIXES = {
    "create": repair.create(WHICH),
    "create with GPUs": repair.create(Which("convoy", "us-west-2", 2)),
    "wait_cluster": repair.wait_cluster(WHICH),
    "show_cluster": repair.show_cluster(WHICH),
    "upgrade": repair.upgrade(WHICH),
    "add_group": repair.add_group(WHICH),
    "wait_group": repair.wait_group(WHICH, "nodes"),
    "show_group": repair.show_group(WHICH, "nodes"),
    "scale": repair.scale(WHICH, "nodes", 2),
    "add_zone": repair.add_zone(WHICH, "us-west-2b"),
    "add_addons": repair.add_addons(WHICH),
    "wait_addon": repair.wait_addon(WHICH, "coredns"),
    "show_addon": repair.show_addon(WHICH, "coredns"),
    "update_addon": repair.update_addon(WHICH, "vpc-cni", '{"enableNetworkPolicy": "true"}'),
    "ebs_role": repair.ebs_role(WHICH, "ctx"),
    "ebs_policy": repair.ebs_policy(WHICH, "driver"),
    "oidc": repair.oidc(WHICH),
    "tag": repair.tag(WHICH, ["subnet-1", "subnet-2"], "kubernetes.io/role/elb"),
    "kubeconfig": repair.kubeconfig(WHICH),
    "storage": repair.storage(WHICH, "ctx", replace=True),
    "no_default": repair.no_default("ctx", ["gp2"]),
    "plugin": repair.plugin("ctx"),
    "raise_quota": repair.raise_quota(WHICH, repair.GPU, 8),
}


@pytest.mark.parametrize("name", FIXES)
def test_each_fix_of_the_doctor_is_one_that_its_tool_takes(name):
    for words in commands.split(FIXES[name]):
        if words[0] == "convoy":
            parsed(words[1:])
        else:
            assert commands.wrong(words) is None


def test_no_fix_of_the_doctor_is_left_out_above():
    tree = {name for name in vars(repair) if not name.startswith("_") and callable(vars(repair)[name])}
    functions = {name for name in tree if getattr(vars(repair)[name], "__module__", "") == repair.__name__}
    assert {name for name in functions if name[0].islower()} == {name.split()[0] for name in FIXES}
