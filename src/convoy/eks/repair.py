"""The commands that mend what the doctor finds, as a person pastes them: eksctl, aws, kubectl."""

from __future__ import annotations

import re
import shlex
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

from convoy.eks import config
from convoy.kube.findings import DEFAULT

FOLDER: Final = "fix"  # where the files of a fix go: cluster.yaml here may have been changed by hand
_EBS_POLICY: Final = "policy/service-role/AmazonEBSCSIDriverPolicy"


@dataclass(frozen=True, slots=True)
class Which:
    """The cluster that is asked about, and how many machines with GPUs it is to have."""

    name: str
    region: str
    gpu_nodes: int = 0

    @property
    def partition(self) -> str:
        """The part of AWS that the region is in, as ARNs say it."""
        return {"cn": "aws-cn", "us-gov": "aws-us-gov"}.get(self.region.rsplit("-", 2)[0], "aws")


@dataclass(frozen=True, slots=True)
class Quota:
    """A limit on vCPUs of machines that run on demand: its code, and the machines that it counts."""

    code: str
    kinds: re.Pattern[str]

    def counts(self, kind: str) -> bool:
        """Return whether it counts a type of machine."""
        return bool(self.kinds.match(kind))


STANDARD: Final = Quota("L-1216C47A", re.compile(r"(?!mac|hpc|inf|trn|dl)[acdhimrtz]"))
GPU: Final = Quota("L-DB2E81BA", re.compile(r"(?:gr?|vt)\d"))


def create(which: Which) -> str:
    """Return what makes the cluster."""
    return f"{_files(which, '')} && eksctl create cluster -f cluster.yaml"


def wait_cluster(which: Which) -> str:
    """Return what ends when the cluster is active."""
    return _aws("wait", "cluster-active", which, "--name", which.name)


def show_cluster(which: Which) -> str:
    """Return what shows the cluster's health."""
    return _aws("eks", "describe-cluster", which, "--name", which.name, "--query", "cluster.health")


def upgrade(which: Which) -> str:
    """Return what makes the cluster one version newer; eksctl goes no further at a time."""
    return _line("eksctl", "upgrade", "cluster", "--name", which.name, "--region", which.region, "--approve")


def add_group(which: Which) -> str:
    """Return what adds the node groups that are missing."""
    return f"{_files(which, FOLDER)} && eksctl create nodegroup -f {FOLDER}/cluster.yaml"


def wait_group(which: Which, group: str) -> str:
    """Return what ends when a node group is active."""
    return _aws("wait", "nodegroup-active", which, "--cluster-name", which.name, "--nodegroup-name", group)


def show_group(which: Which, group: str) -> str:
    """Return what shows a node group's health."""
    more = ("--cluster-name", which.name, "--nodegroup-name", group, "--query", "nodegroup.health")
    return _aws("eks", "describe-nodegroup", which, *more)


def scale(which: Which, group: str, nodes: int) -> str:
    """Return what gives a node group so many machines."""
    return _line("eksctl", "scale", "nodegroup", *_eksctl(which), "--name", group, "--nodes", str(nodes))


def add_zone(which: Which, zone: str) -> str:
    """Return what adds a machine in another zone."""
    more = ("--name", f"nodes-{zone}", "--node-type", config.MACHINE, "--nodes", "1", "--node-zones", zone)
    return _line("eksctl", "create", "nodegroup", *_eksctl(which), *more, "--node-private-networking")


def add_addons(which: Which) -> str:
    """Return what installs every add-on that is missing, with its role and its configuration."""
    return f"{_files(which, FOLDER)} && eksctl create addon -f {FOLDER}/cluster.yaml"


def wait_addon(which: Which, name: str) -> str:
    """Return what ends when an add-on is active."""
    return _aws("wait", "addon-active", which, "--cluster-name", which.name, "--addon-name", name)


def show_addon(which: Which, name: str) -> str:
    """Return what shows an add-on."""
    return _aws("eks", "describe-addon", which, "--cluster-name", which.name, "--addon-name", name)


def update_addon(which: Which, name: str, configuration: str = "") -> str:
    """Return what installs an add-on anew; a configuration takes the place of the one that it has."""
    more = ["--cluster-name", which.name, "--addon-name", name, "--resolve-conflicts", "PRESERVE"]
    return _aws(
        "eks", "update-addon", which, *more, *(("--configuration-values", configuration) if configuration else ())
    )


def ebs_role(which: Which, context: str) -> str:
    """Return what gives the EBS CSI driver a role of its own, and lets it begin anew with it."""
    more = ("--namespace", "kube-system", "--service-account-name", "ebs-csi-controller-sa")
    arn = f"arn:{which.partition}:iam::aws:{_EBS_POLICY}"
    made = _line("eksctl", "create", "podidentityassociation", *_eksctl(which), *more, "--permission-policy-arns", arn)
    return (
        f"{made} && {_kubectl(context, '-n', 'kube-system', 'rollout', 'restart', 'deployment', 'ebs-csi-controller')}"
    )


def ebs_policy(which: Which, role: str) -> str:
    """Return what attaches AWS's own policy to the driver's role."""
    arn = f"arn:{which.partition}:iam::aws:{_EBS_POLICY}"
    return _line("aws", "iam", "attach-role-policy", "--role-name", role, "--policy-arn", arn)


def oidc(which: Which) -> str:
    """Return what makes the cluster's issuer known to IAM."""
    return _line("eksctl", "utils", "associate-iam-oidc-provider", *_eksctl(which), "--approve")


def tag(which: Which, subnets: Sequence[str], key: str) -> str:
    """Return what tags subnets for load balancers."""
    return _aws("ec2", "create-tags", which, "--resources", *subnets, "--tags", f"Key={key},Value=1")


def kubeconfig(which: Which) -> str:
    """Return what adds a context that leads to the cluster."""
    return _aws("eks", "update-kubeconfig", which, "--name", which.name)


def storage(which: Which, context: str, *, replace: bool) -> str:
    """Return what makes our StorageClass the default; a class cannot be changed, only replaced."""
    gone = f"{_kubectl(context, 'delete', 'storageclass', 'gp3')} && " if replace else ""
    return f"{_files(which, FOLDER)} && {gone}{_kubectl(context, 'apply', '-f', f'{FOLDER}/storage-class.yaml')}"


def no_default(context: str, names: Sequence[str]) -> str:
    """Return what takes from StorageClasses that they are the default."""
    return _kubectl(context, "annotate", "storageclass", *names, f"{DEFAULT}-")


def plugin(context: str) -> str:
    """Return what shows the device plugin that eksctl installs, and why it does not run."""
    return _kubectl(context, "-n", "kube-system", "describe", "daemonset", "nvidia-device-plugin-daemonset")


def raise_quota(which: Which, quota: Quota, wanted: int) -> str:
    """Return what asks AWS for more vCPUs."""
    more = ("--service-code", "ec2", "--quota-code", quota.code, "--desired-value", str(wanted))
    return _aws("service-quotas", "request-service-quota-increase", which, *more)


def _files(which: Which, folder: str) -> str:
    more = ("--gpu-nodes", str(which.gpu_nodes)) if which.gpu_nodes else ()
    to = ("-o", folder) if folder else ()
    made = _line("convoy", "eks", "cluster", "--name", which.name, "--region", which.region, *more, *to)
    return f"mkdir -p {folder} && {made}" if folder else made


def _eksctl(which: Which) -> tuple[str, ...]:
    return ("--cluster", which.name, "--region", which.region)


def _aws(service: str, operation: str, which: Which, *more: str) -> str:
    place = ("eks", "wait") if service == "wait" else (service,)
    return _line("aws", *place, operation, "--region", which.region, *more)


def _kubectl(context: str, *words: str) -> str:
    """Return a command of kubectl; without a context, for the one that is current."""
    return _line("kubectl", *(("--context", context) if context else ()), *words)


def _line(*words: str) -> str:
    return shlex.join(words)
