"""An EKS cluster as eksctl takes it, and the class of its volumes: add-ons, roles and encryption already right."""

from __future__ import annotations

from typing import Any, Final

from convoy.kube.findings import DEFAULT

Object = dict[str, Any]
KUBERNETES: Final = "1.35"  # in standard support until 27 March 2027; after that an hour of it costs six times as much
MACHINE, GPU_MACHINE = "m7i.large", "g6.xlarge"
_IMDS: Final = {"disableIMDSv1": True, "disablePodIMDS": True}  # a pod is not its machine, and cannot ask as if it were


def cluster(name: str, region: str, *, nodes: int, gpu_nodes: int) -> Object:
    """Return eksctl's ClusterConfig: two zones, managed machines, volumes and network policies that work."""
    groups = [_group("nodes", MACHINE, nodes, nodes + 2)]
    if gpu_nodes:
        taint = {"key": "nvidia.com/gpu", "value": "true", "effect": "NoSchedule"}  # for what asks for a GPU alone
        groups.append(_group("gpu-nodes", GPU_MACHINE, gpu_nodes, gpu_nodes, taints=[taint]))
    return {
        "apiVersion": "eksctl.io/v1alpha5",
        "kind": "ClusterConfig",
        "metadata": {"name": name, "region": region, "version": KUBERNETES, "tags": {"app": "convoy"}},
        "availabilityZones": [f"{region}a", f"{region}b"],
        "iam": {"withOIDC": True},
        "addonsConfig": {"autoApplyPodIdentityAssociations": True},
        "addons": [
            {"name": "eks-pod-identity-agent"},
            {"name": "coredns"},
            {"name": "kube-proxy"},
            {"name": "vpc-cni", "configurationValues": '{"enableNetworkPolicy": "true"}'},
            {"name": "aws-ebs-csi-driver", "podIdentityAssociations": [_ebs()]},
        ],
        "cloudWatch": {"clusterLogging": {"enableTypes": ["audit", "authenticator"]}},
        "managedNodeGroups": groups,
    }


def storage_class() -> Object:
    """Return the StorageClass of nodes' volumes: encrypted, made in the zone of the pod, gone with its claim."""
    return {
        "apiVersion": "storage.k8s.io/v1",
        "kind": "StorageClass",
        "metadata": {"name": "gp3", "annotations": {DEFAULT: "true"}},
        "provisioner": "ebs.csi.aws.com",
        "parameters": {"type": "gp3", "encrypted": "true"},
        "volumeBindingMode": "WaitForFirstConsumer",
        "allowVolumeExpansion": True,
        "reclaimPolicy": "Delete",
    }


def _ebs() -> Object:
    """Return the driver's own role, with AWS's policy for it: no machine and no other pod may touch volumes."""
    return {
        "namespace": "kube-system",
        "serviceAccountName": "ebs-csi-controller-sa",
        "wellKnownPolicies": {"ebsCSIController": True},
    }


def _group(name: str, machine: str, wanted: int, most: int, **more: Any) -> Object:
    return {
        "name": name,
        "instanceType": machine,
        "amiFamily": "AmazonLinux2023",
        "minSize": 1,
        "desiredCapacity": wanted,
        "maxSize": most,
        "privateNetworking": True,
        "volumeSize": 80,
        "volumeType": "gp3",
        "volumeEncrypted": True,
        **_IMDS,
        **more,
    }
