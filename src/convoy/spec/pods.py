"""What `pods:` of a node's local/node.yaml says: how the pods are made in which its jobs' workers run."""

from __future__ import annotations

import re
from typing import Annotated, Any, Final, Literal

from pydantic import AfterValidator, BaseModel, ConfigDict, Field

from convoy.errors import BadInput
from convoy.spec import yamls

WORKERS_PORT: Final = 8005  # where jobs' pods find the node that made them, unless `workers_port` says otherwise
UID: Final = 65532  # "nonroot" in the usual base images; no user of any node has it
_CPU: Final = re.compile(r"[0-9]{1,6}(?:\.[0-9]{1,3})?|[0-9]{1,9}m")
_BYTES: Final = re.compile(r"[0-9]{1,12}(?:\.[0-9]{1,6})?(?:[kMGTP]|[KMGTP]i)?")
_LABEL: Final = re.compile(r"[a-z0-9](?:[a-z0-9-]{0,61}[a-z0-9])?", re.ASCII)


def _cpu(value: str) -> str:
    if not _CPU.fullmatch(value):
        raise ValueError("cores as a Kubernetes quantity, such as 250m, 2 or 1.5")
    return value


def _bytes(value: str) -> str:
    if not _BYTES.fullmatch(value):
        raise ValueError("bytes as a Kubernetes quantity, such as 512Mi or 10Gi")
    return value


def is_label(value: str) -> bool:
    """Return whether Kubernetes takes this as a name."""
    return _LABEL.fullmatch(value) is not None


def _label(value: str) -> str:
    if not is_label(value):
        raise ValueError("a Kubernetes name: small letters, digits and -, at most 63")
    return value


Cpu = Annotated[str, AfterValidator(_cpu), Field(json_schema_extra={"pattern": f"^(?:{_CPU.pattern})$"})]
Bytes = Annotated[str, AfterValidator(_bytes), Field(json_schema_extra={"pattern": f"^{_BYTES.pattern}$"})]
Name = Annotated[str, AfterValidator(_label)]


class Workers(BaseModel):
    """The pod of a worker, where its job asks for nothing else: what it asks for, and the most that it gets."""

    model_config = ConfigDict(frozen=True, extra="forbid", strict=True)

    image: str = ""
    cpu: Cpu = "100m"
    cpu_limit: Cpu = "1"
    memory: Bytes = "256Mi"
    memory_limit: Bytes = "2Gi"
    gpu: Annotated[int, Field(ge=0, le=64)] = 0
    scratch: Bytes = "10Gi"  # room for models, and for what the job writes
    node_selector: dict[str, str] = {}
    tolerations: Annotated[tuple[dict[str, Any], ...], Field(strict=False)] = ()


class Pods(Workers):
    """All that a node must know to make the pods of its workers."""

    image_pull_policy: Literal["IfNotPresent", "Always", "Never"] = "IfNotPresent"
    data: dict[str, Name] = {}  # name as jobs know it: the claim of a volume that holds it, mounted read-only
    labels: dict[str, str] = {}  # by which policies find the pods
    service_account: Name = "convoy-worker"


def read_pods(document: yamls.Document, value: Any) -> Pods:
    """Return what `pods:` of a node.yaml says. Raises `BadInput` with the line."""
    made = yamls.parse(document, Pods, value, at=("pods",))
    if not made.image:
        raise BadInput(
            '"pods" does not name an image',
            why="`launcher: kubernetes` runs each job's worker in a pod of its own",
            fix="add `pods: {image: …}`; `convoy kube up` writes all of it",
            where=document.where(("pods",)),
        )
    return made
