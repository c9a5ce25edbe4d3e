"""What participants are called in a cluster: object names, labels, namespaces, and the host of the server."""

from __future__ import annotations

import hashlib
import re
from dataclasses import dataclass
from typing import Any, Final

from convoy.kube.options import Node, Options
from convoy.spec.project import Participant, Project, Server

MANAGER: Final = "convoy"  # who made an object: nothing else is ever changed or removed
INSTANCE: Final = "app.kubernetes.io/instance"
MANAGED: Final = "app.kubernetes.io/managed-by"
COMPONENT: Final = "app.kubernetes.io/component"
PARTICIPANT: Final = "convoy/participant"
NODES: Final = ("server", "site")  # components that stand: no pod of a job, which comes and goes
WORKER: Final = "convoy-worker"  # the ServiceAccount of jobs' pods, which may do nothing
_OTHER: Final = re.compile(r"[^a-z0-9]+")
_MOST: Final = 45  # characters: a StatefulSet's pods get labels with its name and 11 characters more, of 63


def slug(name: str) -> str:
    """Return a name as Kubernetes takes it for a Service (RFC 1035): it begins with a letter.

    One that is too long keeps apart from others by its digest.
    """
    plain = _OTHER.sub("-", name.lower()).strip("-")
    plain = plain if plain[:1].isalpha() else f"n-{plain}"
    if len(plain) <= _MOST:
        return plain
    return f"{plain[: _MOST - 7].strip('-')}-{hashlib.sha256(name.encode()).hexdigest()[:6]}"


@dataclass(frozen=True, slots=True)
class Place:
    """One federation's names in a cluster."""

    project: Project
    options: Options

    @property
    def instance(self) -> str:
        """The label that tells this federation from any other: its name, which a label can nearly always say."""
        name = self.project.name
        return name if name[-1].isalnum() else f"{name[:55]}{hashlib.sha256(name.encode()).hexdigest()[:6]}"

    @property
    def namespace(self) -> str:
        """The server's namespace, and everybody's unless each organisation has its own."""
        return self.options.namespace or slug(self.project.name)

    @property
    def namespaces(self) -> list[str]:
        """Every namespace, sorted."""
        return sorted({self.namespace_of(one) for one in (self.project.server, *self.project.sites)})

    @property
    def host(self) -> str:
        """The name at which sites reach the server, in whatever namespace they are."""
        return f"{slug(self.project.server.name)}.{self.namespace}.svc"

    @property
    def server(self) -> Server:
        """The project's server as it is inside the cluster; its certificate holds its names outside too."""
        outside = self.project.server
        short = slug(outside.name)
        inside = (self.host, f"{self.host}.cluster.local", f"{short}.{self.namespace}", short)
        names = tuple(dict.fromkeys([*outside.hosts, *inside]))
        return outside.model_copy(update={"default_host": self.host, "host_names": names})

    @property
    def inside(self) -> Project:
        """The project as it is inside the cluster."""
        return self.project.model_copy(update={"server": self.server})

    def namespace_of(self, participant: Participant) -> str:
        """Return the namespace of a participant's pod."""
        if isinstance(participant, Server) or not self.options.per_organisation_namespaces:
            return self.namespace
        return f"{self.namespace}-{slug(participant.org)}"[:63].strip("-")

    def node(self, participant: Participant) -> Node:
        """Return what was chosen for a participant's pod."""
        if isinstance(participant, Server):
            return self.options.server
        return self.options.sites.get(participant.name, self.options.site)

    def common(self) -> dict[str, str]:
        """Return the labels by which everything of this federation is found."""
        return {"app.kubernetes.io/name": "convoy", INSTANCE: self.instance}

    def labels(self, participant: Participant) -> dict[str, str]:
        """Return the labels that choose one participant's pod."""
        kind = "server" if isinstance(participant, Server) else "site"
        return {**self.common(), COMPONENT: kind, PARTICIPANT: slug(participant.name)}

    def workers(self, participant: Participant) -> dict[str, str]:
        """Return the labels that choose the pods which a participant makes for its jobs."""
        return {**self.common(), COMPONENT: "worker", PARTICIPANT: slug(participant.name)}

    def nodes(self) -> dict[str, Any]:
        """Return the selector of this federation's nodes, without the pods of their jobs."""
        return {
            "matchLabels": self.common(),
            "matchExpressions": [{"key": COMPONENT, "operator": "In", "values": list(NODES)}],
        }

    def launchers(self) -> list[Participant]:
        """Return the participants that make a pod for each of their jobs."""
        everybody = (self.project.server, *self.project.sites)
        return [one for one in everybody if self.node(one).launcher == "kubernetes"]

    def chosen(self) -> str:
        """Return the label selector of this federation's pods, claims and sets."""
        return ",".join(f"{name}={value}" for name, value in self.common().items())

    def selector(self) -> str:
        """Return the label selector of everything that we made for this federation."""
        return f"{INSTANCE}={self.instance},{MANAGED}={MANAGER}"

    def meta(self, name: str, namespace: str, labels: dict[str, str], **more: Any) -> dict[str, Any]:
        """Return an object's metadata."""
        return {"name": name, "namespace": namespace, "labels": {**labels, MANAGED: MANAGER}, **more}
