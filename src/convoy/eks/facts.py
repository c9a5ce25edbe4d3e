"""What AWS and the cluster say of themselves, as the doctor judges it: plain values, and what could not be seen."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final

_GPU: Final = re.compile(r"(?:gr?|p)\d")


@dataclass(frozen=True, slots=True)
class Unseen:
    """Something that was not looked at: why, and what would let one look."""

    why: str
    fix: str = ""


@dataclass(frozen=True, slots=True)
class Caller:
    """Who asks."""

    arn: str
    account: str


@dataclass(frozen=True, slots=True)
class Control:
    """The cluster as EKS says it is."""

    status: str
    version: str
    endpoint: str
    issuer: str  # of its service accounts' tokens
    issues: tuple[str, ...]
    subnets: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Version:
    """A version of Kubernetes: EKS's word for its support, and the day on which that ends."""

    name: str
    support: str
    until: str


@dataclass(frozen=True, slots=True)
class Group:
    """A managed node group."""

    name: str
    status: str
    types: tuple[str, ...]
    issues: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Machine:
    """A machine that runs or starts in the region; `cluster` is empty for one that belongs to none."""

    kind: str
    zone: str
    cluster: str
    spot: bool
    vcpus: int


@dataclass(frozen=True, slots=True)
class Addon:
    """An add-on that EKS looks after; `configuration` is None where it cannot be read."""

    version: str
    status: str
    issues: tuple[str, ...]
    configuration: Mapping[str, Any] | None


@dataclass(frozen=True, slots=True)
class Role:
    """A role of the EBS CSI driver, and the documents of its policies."""

    name: str
    policies: tuple[Any, ...] | Unseen


@dataclass(frozen=True, slots=True)
class Subnet:
    """A subnet of the cluster; a public one gives its machines addresses of the internet."""

    name: str
    zone: str
    public: bool
    tags: frozenset[str]


@dataclass(frozen=True, slots=True)
class VolumeClass:
    """A StorageClass."""

    name: str
    provisioner: str
    parameters: Mapping[str, str]
    binding: str
    default: bool


@dataclass(frozen=True, slots=True)
class Inside:
    """What the Kubernetes API says: the context by which it was reached, its StorageClasses, its GPUs for pods."""

    context: str
    classes: tuple[VolumeClass, ...]
    gpus: int


@dataclass(frozen=True, slots=True)
class Facts:
    """All of it. None: it is not there. `Unseen`: nobody knows."""

    caller: Caller
    cluster: Control | Unseen | None
    version: Version | Unseen | None
    groups: tuple[Group, ...] | Unseen
    machines: tuple[Machine, ...] | Unseen  # of the whole region: quotas are the account's
    addons: Mapping[str, Addon | Unseen | None]
    ebs_roles: tuple[Role, ...] | Unseen
    providers: tuple[str, ...] | Unseen
    subnets: tuple[Subnet, ...] | Unseen
    quotas: Mapping[str, float | Unseen]  # vCPUs by the quota's code
    inside: Inside | Unseen


def gives_gpu(kind: str) -> bool:
    """Return whether a type of machine has GPUs of NVIDIA, by its family's letters."""
    return bool(_GPU.match(kind))
