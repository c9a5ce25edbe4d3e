"""Experiment trackers of a federation in a cluster: named in values.yml, read by the server as its own setting."""

import pytest
import yaml

from convoy.errors import BadInput
from convoy.kube.contents import Contents
from convoy.spec.kit import Kit
from convoy.spec.settings import Tracked, read_settings
from tests.kube.federations import made, of, said

ALL = "track: {mlflow: 'http://198.51.100.7:5000', wandb: team/tumours, tensorboard: boards}"


def node_yaml(found, name):
    return found["ConfigMap", "breast-cancer", name]["data"]["node.yaml"]


def tracked(tmp_path, text):
    """Return what a server reads from this node.yaml."""
    (tmp_path / "local").mkdir()
    (tmp_path / "local" / "node.yaml").write_text(text)
    return read_settings(Kit(tmp_path, "p", "server", "n", "o", "h", 8002, 8003, tmp_path / "work")).track


def test_the_server_reads_the_trackers_and_no_site_does(tmp_path):
    found = made(said(tmp_path, ALL))
    wanted = Tracked("/var/lib/convoy/boards", "http://198.51.100.7:5000", "team/tumours")
    assert tracked(tmp_path, node_yaml(found, "server")) == wanted
    assert "track" not in yaml.safe_load(node_yaml(found, "hospital-1"))
    assert "track" not in yaml.safe_load(node_yaml(made(), "server"))


def test_what_the_owner_of_the_server_wrote_counts(tmp_path):
    kits = {"server": Contents({"node.yaml": "track: {mlflow: 'https://own.example.org'}\n"})}
    found = made(said(tmp_path, ALL), kits=kits)
    assert tracked(tmp_path, node_yaml(found, "server")) == Tracked(mlflow="https://own.example.org")


def test_egress_lets_the_server_alone_reach_the_tracker(tmp_path):
    found = made(said(tmp_path, f"{ALL}\negress: [{{to: 198.51.100.7/32, ports: [5000]}}]"))
    to = {"to": [{"ipBlock": {"cidr": "198.51.100.7/32"}}], "ports": [{"protocol": "TCP", "port": 5000}]}
    reaching = [it["metadata"]["name"] for it in of("NetworkPolicy", found) if to in it["spec"].get("egress", ())]
    assert reaching == ["convoy-server"]


@pytest.mark.parametrize(
    "text",
    [
        "{}",
        "{mlflow: ''}",
        "{mlflow: mlflow.example.org}",
        "{mlflow: 'file:///etc'}",
        '{mlflow: "http://a\\nb: c"}',
        "{wandb: 'a b'}",
        "{tensorboard: ../kit}",
        "{tensorboard: /kit}",
        "{mlflow: 'http://a', env: {MLFLOW_TRACKING_TOKEN: secret}}",
    ],
)
def test_what_cannot_be_is_refused(tmp_path, text):
    with pytest.raises(BadInput):
        said(tmp_path, f"track: {text}")
