"""What `pods:` of a node's local/node.yaml says: how the pods are made in which its jobs' workers run."""

from __future__ import annotations

import re
from typing import Annotated, Any, Final, Literal

from pydantic import AfterValidator, BaseModel, ConfigDict, Field

from convoy.errors import BadInput
from convoy.spec import yamls

WORKERS_PORT: Final = 8005  # where jobs' pods find the node that made them, unless `workers_port` says otherwise
UID: Final = 65532  # "nonroot" in the usual base images; no user of any node has it
_QUANTITY: Final = re.compile(r"\d{1,12}(?:\.\d{1,6})?(?:m|[kMGTP]|[KMGTP]i)?", re.ASCII)
_LABEL: Final = re.compile(r"[a-z0-9](?:[a-z0-9-]{0,61}[a-z0-9])?", re.ASCII)


def _quantity(value: str) -> str:
    if not _QUANTITY.fullmatch(value):
        raise ValueError("a quantity of Kubernetes, such as 250m, 2, 512Mi or 10Gi")
    return value


def is_label(value: str) -> bool:
    """Return whether Kubernetes takes this as a name."""
    return _LABEL.fullmatch(value) is not None


def _label(value: str) -> str:
    if not is_label(value):
        raise ValueError("a name of Kubernetes: small letters, digits and -, at most 63")
    return value


Quantity = Annotated[str, AfterValidator(_quantity)]
Name = Annotated[str, AfterValidator(_label)]


class Pods(BaseModel):
    """The pod of a worker, where its job asks for nothing else: what it asks for, and the most that it gets."""

    model_config = ConfigDict(frozen=True, extra="forbid", strict=True)

    image: str = ""
    image_pull_policy: Literal["IfNotPresent", "Always", "Never"] = "IfNotPresent"
    cpu: Quantity = "100m"
    cpu_limit: Quantity = "1"
    memory: Quantity = "256Mi"
    memory_limit: Quantity = "2Gi"
    gpu: Annotated[int, Field(ge=0, le=64)] = 0
    scratch: Quantity = "10Gi"  # room for models, and for what the job writes
    node_selector: dict[str, str] = {}
    tolerations: Annotated[tuple[dict[str, Any], ...], Field(strict=False)] = ()
    data: dict[str, Name] = {}  # name as jobs know it: the claim of a volume that holds it, mounted read-only
    labels: dict[str, str] = {}  # by which policies find the pods
    service_account: Name = "convoy-worker"


def read_pods(document: yamls.Document, value: Any) -> Pods:
    """Return what `pods:` of a node.yaml says. Raises `BadInput` with the line."""
    made = yamls.parse(document, Pods, value, at=("pods",))
    if not made.image:
        raise BadInput(
            '"pods" names no image',
            why="`launcher: kubernetes` runs each job's worker in a pod of its own",
            fix="add `pods: {image: …}`; `convoy kube up` writes all of it",
            where=document.where(("pods",)),
        )
    return made
