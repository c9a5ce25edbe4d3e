"""The files that `convoy eks cluster` writes fit eksctl's own schema, and need none of the commands of old."""

import json

import pytest
import yaml
from click.testing import CliRunner

from convoy.cli.main import app
from convoy.eks import config
from convoy.errors import BadInput
from tests.kube.federations import ROOT

SCHEMA = ROOT.parent / "shared" / "kubernetes" / "eksctl-schema.json"


@pytest.mark.parametrize("gpu_nodes", [0, 2])
def test_the_file_for_eksctl_fits_eksctls_own_schema(gpu_nodes):
    jsonschema = pytest.importorskip("jsonschema", reason="comes with kubernetes-validate: requirements-test.txt")
    if not SCHEMA.is_file():
        pytest.skip("eksctl's schema is not beside this repository")
    schema = json.loads(SCHEMA.read_text())
    validator = jsonschema.Draft7Validator(schema)
    good = config.cluster("convoy", "eu-central-1", nodes=2, gpu_nodes=gpu_nodes)
    assert list(validator.iter_errors(good)) == []
    assert list(validator.iter_errors(good | {"managedNodeGroup": []})) != [], "a typo would be found"


def test_an_eks_cluster_needs_none_of_the_follow_up_commands_of_old():
    made = config.cluster("convoy", "us-west-2", nodes=2, gpu_nodes=1)
    addons = {addon["name"]: addon for addon in made["addons"]}
    (role,) = addons["aws-ebs-csi-driver"]["podIdentityAssociations"]
    assert role["wellKnownPolicies"] == {"ebsCSIController": True}
    assert json.loads(addons["vpc-cni"]["configurationValues"]) == {"enableNetworkPolicy": "true"}
    assert len(made["availabilityZones"]) == 2
    for group in made["managedNodeGroups"]:
        assert group["volumeEncrypted"] is group["disablePodIMDS"] is group["privateNetworking"] is True
    assert [group["name"] for group in made["managedNodeGroups"]] == ["nodes", "gpu-nodes"]
    volumes = config.storage_class()
    assert volumes["parameters"] == {"type": "gp3", "encrypted": "true"}
    assert volumes["volumeBindingMode"] == "WaitForFirstConsumer"


def test_convoy_eks_cluster_writes_both_files(tmp_path):
    done = CliRunner().invoke(app, ["eks", "cluster", "--gpu-nodes", "1", "-o", str(tmp_path)])
    assert done.exit_code == 0, done.output
    made = yaml.safe_load((tmp_path / "cluster.yaml").read_text())
    assert made == config.cluster("convoy", "us-west-2", nodes=2, gpu_nodes=1)
    assert yaml.safe_load((tmp_path / "storage-class.yaml").read_text()) == config.storage_class()


def test_an_edited_file_stays_as_it_is_and_a_folder_is_made(tmp_path):
    folder = tmp_path / "new" / "folder"
    words = ["eks", "cluster", "-o", str(folder)]
    assert CliRunner().invoke(app, words).exit_code == 0
    assert CliRunner().invoke(app, words).exit_code == 0  # the same again changes nothing
    edited = (folder / "cluster.yaml").read_text().replace("us-west-2", "eu-central-1")
    (folder / "cluster.yaml").write_text(edited)
    (folder / "storage-class.yaml").unlink()
    refused = CliRunner().invoke(app, words)
    assert isinstance(refused.exception, BadInput)
    assert "--force" in refused.exception.fix
    assert [file.name for file in folder.iterdir()] == ["cluster.yaml"]
    assert (folder / "cluster.yaml").read_text() == edited
    assert CliRunner().invoke(app, [*words, "--force"]).exit_code == 0
    assert "us-west-2" in (folder / "cluster.yaml").read_text()
