"""What a person may choose of a federation in a cluster: values.yml, as frozen checked data."""

from __future__ import annotations

import ipaddress
from collections.abc import Collection
from pathlib import Path
from typing import Annotated, Any, Final, Literal, Self

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, model_validator

import convoy
from convoy.errors import BadInput
from convoy.spec import yamls
from convoy.spec.pods import Bytes, Cpu, Name, Workers, is_label

_SHARED: Final = ("default", "kube-system", "kube-public", "kube-node-lease")


def _namespace(value: str) -> str:
    if value in _SHARED or (value and not is_label(value)):
        raise ValueError(
            "a namespace of its own: small letters, digits and -, at most 63; not a shared one such as default"
        )
    return value


def _folder(value: str) -> str:
    if value and not is_label(value):
        raise ValueError("a name: small letters, digits and -, at most 63")
    return value


def _cidr(value: str) -> str:
    return str(ipaddress.ip_network(value))


Cidr = Annotated[str, AfterValidator(_cidr)]


class _Said(BaseModel):
    """What all parts of values.yml have in common."""

    model_config = ConfigDict(frozen=True, extra="forbid", strict=True)


class Node(_Said):
    """One node's pod: what it asks for is what it needs idle, its limits are what its jobs may take with it."""

    image: str = ""  # another one than the federation's, such as one with torch
    cpu: Cpu = "100m"
    cpu_limit: Cpu = "1"
    memory: Bytes = "128Mi"  # an idle site was measured at 60 MB
    memory_limit: Bytes = "1Gi"
    gpu: Annotated[int, Field(ge=0, le=64)] = 0
    storage: Bytes = "5Gi"
    data: dict[str, Name] = {}  # name as jobs know it: the claim of a volume that holds it, mounted read-only
    node_selector: dict[str, str] = {}
    tolerations: Annotated[tuple[dict[str, Any], ...], Field(strict=False)] = ()
    launcher: Literal["processes", "kubernetes"] = "processes"  # of jobs' workers: in this pod, or a Job for each
    jobs: Workers = Workers()  # how the pods of those Jobs are made


_SERVER: Final = Node(cpu="250m", cpu_limit="2", memory="256Mi", memory_limit="2Gi", storage="10Gi")


class Outside(_Said):
    """Who reaches the server from outside the cluster, and how. TLS ends at the server, never at the balancer."""

    load_balancer: Literal["nlb", "nlb-internal", "plain"] = "nlb"
    sources: Annotated[tuple[Cidr, ...], Field(strict=False, min_length=1)]  # and nobody else


class Egress(_Said):
    """Where the server may connect to beside the cluster's DNS: an object store, a database."""

    to: Cidr
    ports: Annotated[tuple[Annotated[int, Field(ge=1, le=65535)], ...], Field(strict=False, min_length=1)]


class Monitoring(_Said):
    """Prometheus in the cluster, by its Operator: who scrapes the nodes, and which objects are made for that."""

    namespace: Annotated[str, AfterValidator(_namespace), Field(min_length=1)] = "monitoring"  # Prometheus' own
    monitor: Literal["pod", "service", "none"] = "pod"  # a PodMonitor, or Services with a ServiceMonitor
    rules: bool = True  # a PrometheusRule with Convoy's alerts
    dashboard: bool = True  # a ConfigMap that Grafana's sidecar finds
    interval: Annotated[str, Field(pattern=r"^[1-9][0-9]{0,3}s$")] = "30s"
    labels: dict[str, str] = {}  # by which that Prometheus chooses monitors and rules, such as {release: prometheus}


class Track(_Said):
    """Experiment trackers that get all jobs, as `track` in the server's node.yaml, where the server's owner says none.

    What is written here stands in a ConfigMap, so there is no place for a token.
    """

    mlflow: Annotated[str, Field(pattern=r"^(https?://[!-~]{1,500})?$")] = ""  # a URI
    wandb: Annotated[str, Field(pattern=r"^[!-~]{0,200}$")] = ""  # a project
    tensorboard: Annotated[str, AfterValidator(_folder)] = ""  # a folder on the server's volume, by its name

    @model_validator(mode="after")
    def _names_one(self) -> Self:
        if not (self.mlflow or self.wandb or self.tensorboard):
            raise ValueError("at least one of mlflow, wandb and tensorboard")
        return self


class Options(_Said):
    """Everything that values.yml may say, with what it does not say filled in."""

    namespace: Annotated[str, AfterValidator(_namespace)] = ""  # empty: the project's name
    create_namespace: bool = True
    per_organisation_namespaces: bool = False  # NAMESPACE-ORG for each organisation beside the server's
    image: str = f"convoy:{convoy.__version__}"
    image_pull_policy: Literal["IfNotPresent", "Always", "Never"] = "IfNotPresent"
    storage_class: str = ""  # empty: the cluster's default
    access_mode: Literal["ReadWriteOnce", "ReadWriteOncePod"] = "ReadWriteOnce"  # the second from Kubernetes 1.29 on
    kits: Literal["secrets", "volume"] = "secrets"  # a Secret for each node, or one volume with a folder for each
    kits_access_mode: Literal["ReadWriteOnce", "ReadWriteMany"] = "ReadWriteOnce"  # of that volume: one machine, or all
    server: Node = _SERVER
    site: Node = Node()  # what every site gets that is not named below
    sites: dict[str, Node] = {}
    outside: Outside | None = None
    monitoring: Monitoring | None = None  # None: nobody reaches the health port of a node
    track: Track | None = None  # None: no tracker, unless the server's local/node.yaml names one
    egress: Annotated[tuple[Egress, ...], Field(strict=False)] = ()
    api_server: Annotated[tuple[Egress, ...], Field(strict=False)] = tuple(  # where a node that makes pods finds it
        Egress(to=anywhere, ports=(443, 6443)) for anywhere in ("0.0.0.0/0", "::/0")
    )


def read(file: Path | None, *, namespace: str = "", image: str = "", known: Collection[str] | None = None) -> Options:
    """Return the options in values.yml, or the defaults without one; what the command line says comes first.

    What `server`, `site` and one of `sites` leave out is as in the defaults, the last two as in `site`.
    Raises `BadInput`, also for one of its sites that is not among `known`, those of project.yml, where they are given.
    """
    document = yamls.load_file(file) if file else yamls.Document("values.yml", None, {})
    said = dict(document.mapping())
    said |= {key: value for key, value in (("namespace", namespace), ("image", image)) if value}
    for key, base in (("server", _SERVER.model_dump()), ("site", {})):
        if isinstance(said.get(key), dict):
            said[key] = base | said[key]
    site, sites = said.get("site"), said.get("sites")
    if isinstance(site, dict) and isinstance(sites, dict):
        said["sites"] = {name: site | one if isinstance(one, dict) else one for name, one in sites.items()}
    elif isinstance(sites, dict):
        said["sites"] = {name: {} if one is None else one for name, one in sites.items()}
    options = yamls.parse(document, Options, said)
    if known is not None:
        check_sites(options, known, document)
    return options


def check_sites(options: Options, names: Collection[str], document: yamls.Document | None = None) -> None:
    """Raise `BadInput` for a site in the options that is not among the project's names."""
    for name in options.sites:
        if name not in names:
            raise BadInput(
                f"values.yml has settings for {name!r}, which is not a site",
                why=f"project.yml has {', '.join(names)}",
                where=document.where(("sites", name)) if document else "",
            )
