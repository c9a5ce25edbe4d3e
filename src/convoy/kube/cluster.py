"""The door to a cluster for a person's commands: apply, list, remove, watch, logs, ports; its errors become ours."""

from __future__ import annotations

import contextlib
import json
import warnings
from collections.abc import AsyncIterator, Iterator, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

from convoy.errors import BadInput, ConvoyError, NotAllowed, NotFound, Refused, Unreachable
from convoy.kube.forward import forwarded
from convoy.kube.naming import MANAGER
from convoy.kube.pod_exec import PROTOCOL, fed
from convoy.pods.api import ANSWER_S, WATCH_S

if TYPE_CHECKING:
    from kr8s.asyncio import Api

Object = dict[str, Any]
PLURALS: Final = {  # of every kind that we make or look at: its API and its plural
    "Namespace": ("v1", "namespaces"),
    "ServiceAccount": ("v1", "serviceaccounts"),
    "ConfigMap": ("v1", "configmaps"),
    "Secret": ("v1", "secrets"),
    "Service": ("v1", "services"),
    "PersistentVolumeClaim": ("v1", "persistentvolumeclaims"),
    "Pod": ("v1", "pods"),
    "Event": ("v1", "events"),
    "NetworkPolicy": ("networking.k8s.io/v1", "networkpolicies"),
    "PodDisruptionBudget": ("policy/v1", "poddisruptionbudgets"),
    "StatefulSet": ("apps/v1", "statefulsets"),
    "Role": ("rbac.authorization.k8s.io/v1", "roles"),
    "RoleBinding": ("rbac.authorization.k8s.io/v1", "rolebindings"),
    "PodMonitor": ("monitoring.coreos.com/v1", "podmonitors"),
    "ServiceMonitor": ("monitoring.coreos.com/v1", "servicemonitors"),
    "PrometheusRule": ("monitoring.coreos.com/v1", "prometheusrules"),
}
OPTIONAL: Final = frozenset({"PodMonitor", "ServiceMonitor", "PrometheusRule"})  # kinds that a cluster need not have
_KINDS: Final = PLURALS | {  # and of what is looked at before anything is made
    "Node": ("v1", "nodes"),
    "StorageClass": ("storage.k8s.io/v1", "storageclasses"),
    "SelfSubjectAccessReview": ("authorization.k8s.io/v1", "selfsubjectaccessreviews"),
}


class Gone(Exception):
    """A watch began too far in the past: list again."""


@dataclass(frozen=True, slots=True)
class Cluster:
    """An API server, as the person's kubeconfig reaches it."""

    api: Api
    context: str

    async def apply(self, it: Object, manager: str = MANAGER) -> Object:
        """Make an object be as it is said to be here (server-side apply), and return what the cluster has now."""
        meta = it["metadata"]
        return await self._ask(
            "PATCH",
            it["kind"],
            meta.get("namespace", ""),
            meta["name"],
            content=json.dumps(it),
            headers={"content-type": "application/apply-patch+yaml"},
            params={"fieldManager": manager, "force": "true"},
        )

    async def list(self, kind: str, namespace: str, selector: str) -> tuple[list[Object], str]:
        """Return the objects of a kind that a selector chooses, and the version of that answer."""
        said = await self._ask("GET", kind, namespace, params={"labelSelector": selector})
        version = _KINDS[kind][0]
        found = [{"apiVersion": version, "kind": kind, **it} for it in said.get("items") or []]
        return found, said["metadata"]["resourceVersion"]

    async def version(self) -> str:
        """Return the API server's own version, such as v1.33.1."""
        with _ours("reading the cluster's version"):
            async with self.api.call_api("GET", version="", base="/version", timeout=ANSWER_S) as response:
                return str(response.json()["gitVersion"])
        raise AssertionError  # the context above always returns or raises

    async def may(self, verb: str, kind: str, namespace: str, part: str = "") -> bool:
        """Return whether the person may do something with a kind, or with a part of it such as a pod's log."""
        version, plural = PLURALS[kind]
        asked = {"verb": verb, "group": version.rpartition("/")[0], "resource": plural, "subresource": part}
        review = {"apiVersion": "authorization.k8s.io/v1", "kind": "SelfSubjectAccessReview"}
        content = json.dumps(review | {"spec": {"resourceAttributes": asked | {"namespace": namespace}}})
        said = await self._ask("POST", review["kind"], "", content=content)
        return bool(said["status"]["allowed"])

    async def remove(self, it: Object) -> None:
        """Remove an object, and what belongs to it; one that is gone already is no error."""
        content = json.dumps({"propagationPolicy": "Background"})
        meta = it["metadata"]
        with contextlib.suppress(NotFound):
            await self._ask("DELETE", it["kind"], meta.get("namespace", ""), meta["name"], content=content)

    async def changes(self, kind: str, namespace: str, selector: str = "") -> AsyncIterator[tuple[str, Object]]:
        """Yield every object of a kind as ADDED, then each change as the API server tells it, for ever."""
        while True:
            found, since = await self.list(kind, namespace, selector)
            for it in found:
                yield "ADDED", it
            yield "LISTED", {}
            with contextlib.suppress(Gone):
                while True:
                    async for what, it in self._watched(kind, namespace, selector, since):
                        since = it["metadata"]["resourceVersion"]
                        if what != "BOOKMARK":
                            yield what, it

    async def _watched(self, kind: str, namespace: str, selector: str, since: str) -> AsyncIterator[tuple[str, Object]]:
        params = {
            "watch": "true",
            "allowWatchBookmarks": "true",
            "labelSelector": selector,
            "resourceVersion": since,
            "timeoutSeconds": str(WATCH_S),
        }
        with _ours(f"watching {PLURALS[kind][1]} in {namespace}"):
            async with self.api.call_api(
                "GET", **_at(kind, namespace), params=params, stream=True, timeout=WATCH_S + ANSWER_S
            ) as response:
                async for line in response.aiter_lines():
                    said = json.loads(line)
                    if said["type"] == "ERROR":
                        raise Gone(said["object"].get("message", ""))
                    yield said["type"], said["object"]

    async def logs(self, namespace: str, pod: str, *, lines: int, follow: bool) -> AsyncIterator[str]:
        """Yield the last lines that a pod wrote, and with `follow` those to come."""
        params = {"tailLines": str(lines), "follow": str(follow).lower()}
        with _ours(f"the log of {pod}"):
            async with self.api.call_api(
                "GET", **_at("Pod", namespace, pod, "log"), params=params, stream=True, timeout=None
            ) as response:
                async for line in response.aiter_lines():
                    yield line

    @asynccontextmanager
    async def forward(self, namespace: str, pod: str, port: int) -> AsyncIterator[int]:
        """Give a local port that leads to a pod's through the API server, for as long as the context lasts."""
        to = _at("Pod", namespace, pod, "portforward")
        async with forwarded(lambda: self.api.open_websocket(**to, params={"ports": str(port)})) as local:
            yield local

    async def feed(self, namespace: str, pod: str, command: Sequence[str], data: bytes) -> None:
        """Run a command in a pod with this as its standard input; returns once it has ended well."""
        to = _at("Pod", namespace, pod, "exec")
        params = {"command": list(command), "stdin": "true", "stdout": "true", "stderr": "true"}
        await fed(
            lambda: self.api.open_websocket(**to, params=params, subprotocols=(PROTOCOL,)), data, f"writing into {pod}"
        )

    async def _ask(self, method: str, kind: str, namespace: str, name: str = "", **more: Any) -> Object:
        doing = f"{'reading' if method == 'GET' else 'changing'} {kind} {name} in {namespace or 'the cluster'}"
        with _ours(" ".join(doing.split())):
            async with self.api.call_api(method, **_at(kind, namespace, name), timeout=ANSWER_S, **more) as response:
                return dict(response.json())
        raise AssertionError  # the context above always returns or raises


@asynccontextmanager
async def connect(context: str = "") -> AsyncIterator[Cluster]:
    """Give the cluster of a context of the person's kubeconfig, by default the current one.

    Raises `BadInput` without kubeconfig or without the extra `kube`, `Unreachable`, `NotAllowed`.
    """
    try:
        import kr8s.asyncio
    except ImportError as problem:
        raise BadInput(
            "the Kubernetes client is not installed", why=str(problem), fix="pip install 'convoy-fl[kube]'"
        ) from problem
    with _ours("finding the cluster"), warnings.catch_warnings():
        warnings.simplefilter("ignore", UserWarning)  # versions that kr8s has not tried: we say ourselves what fails
        try:
            api = await kr8s.asyncio.api(context=context or None)
        except ValueError as problem:
            raise BadInput(
                f"there is no cluster{f' called {context}' if context else ''} in your kubeconfig",
                why=str(problem),
                fix="`kubectl config get-contexts` lists the contexts; KUBECONFIG names another file",
            ) from problem
        name = context or str(getattr(api.auth, "active_context", "") or "")
    yield Cluster(api, name)


def _at(kind: str, namespace: str, *rest: str) -> Mapping[str, Any]:
    """Return where the API server has something, as kr8s wants it said."""
    version, plural = _KINDS[kind]
    return {"version": version, "namespace": namespace or None, "url": "/".join(filter(None, (plural, *rest)))}


@contextlib.contextmanager
def _ours(doing: str) -> Iterator[None]:
    """Turn what kr8s and httpx raise into errors of ours."""
    import httpx
    import kr8s

    try:
        yield
    except kr8s.ServerError as problem:
        raise _refusal(problem, doing) from problem
    except (kr8s.APITimeoutError, httpx.TimeoutException) as problem:
        raise Unreachable(f"{doing}: the API server does not answer", why=f"waited {ANSWER_S:.0f} s") from problem
    except httpx.TransportError as problem:
        raise Unreachable(
            f"{doing}: the API server cannot be reached",
            why=str(problem) or type(problem).__name__,
            fix="check the connection with `kubectl cluster-info`",
        ) from problem


def _refusal(problem: Any, doing: str) -> ConvoyError:
    status = problem.response.status_code if problem.response is not None else 0
    if status == 404:
        return NotFound(f"{doing}: not found", why=str(problem))
    if status in (401, 403):
        return NotAllowed(
            f"{doing}: the cluster does not permit it",
            why=str(problem),
            fix="ask the cluster's owner for the right, or choose another context",
        )
    return Refused(f"{doing}: the cluster refused", why=str(problem))
