"""Text for people about what a pod waits for and how it ended, from the cluster's description of it."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from typing import Any, Final

Object = Mapping[str, Any]
DIES: Final = "CrashLoopBackOff"
_IMAGE: Final = frozenset({"ErrImagePull", "ImagePullBackOff", "InvalidImageName", "ErrImageNeverPull"})
_LACKS: Final = re.compile(r"Insufficient ([\w./-]*\w)")
_LAST: Final = 200  # characters of a message that is quoted


def of_pod(pod: Object, trouble: str = "") -> str:
    """Return what a pod waits for before it runs, "" once it does; `trouble`: the last warning of it or its claim."""
    scheduled = condition(pod, "PodScheduled")
    if scheduled.get("status") == "False":
        return _unscheduled(str(scheduled.get("message", "")))
    statuses = pod.get("status", {}).get("containerStatuses") or []
    if not statuses:
        if scheduled.get("status") == "True":
            return f"on its node, mounting volumes{f': {trouble}' if trouble else ''}"
        return f"waits for a node and its volume{f': {trouble}' if trouble else ''}"
    for status in statuses:
        if waiting := status.get("state", {}).get("waiting"):
            return _waiting(status, waiting, trouble)
        if ended := status.get("state", {}).get("terminated"):
            return f"ended: {_end(ended)}"
    return "" if statuses[0].get("started", True) else "starts"


def _unscheduled(message: str) -> str:
    if "unbound" in message and "persistentvolumeclaim" in message.lower():
        return f"its volume is not bound: is there a default StorageClass? ({short(message)})"
    if "Insufficient" in message:
        lacks = " and ".join(sorted(set(_LACKS.findall(message))))
        return f"no node has enough {lacks}: {short(message)}"
    return f"no node takes it: {short(message)}" if message else "waits for a node"


def _waiting(status: Object, waiting: Object, trouble: str) -> str:
    reason, message = waiting.get("reason", ""), short(waiting.get("message") or trouble)
    if reason in _IMAGE:
        return f"its image cannot be pulled: {message or status.get('image', '')}"
    if reason == DIES:
        return f"died, and is to be started again: {_end(status.get('lastState', {}).get('terminated', {}))}"
    if reason in ("CreateContainerConfigError", "CreateContainerError", "RunContainerError"):
        return f"its container cannot be made: {message}"
    return f"its container is being made{f': {trouble}' if trouble else ''}"


def _end(ended: Object) -> str:
    if ended.get("reason") == "OOMKilled":
        return "out of memory (its limit is too low)"
    return f"exit status {ended.get('exitCode', '?')}"


def condition(pod: Object, kind: str) -> Object:
    """Return a condition of a pod, empty where it has none of that kind."""
    found: Iterable[Object] = pod.get("status", {}).get("conditions") or []
    return next((one for one in found if one.get("type") == kind), {})


def short(message: str) -> str:
    """Return a message on one line, cut where it is long."""
    plain = " ".join(message.split())
    return plain if len(plain) <= _LAST else plain[: _LAST - 1] + "…"


def end_of(pod: Object, *, called: bool) -> str:
    """Return how a pod ended, "" for one that has not ended, or that ended well.

    The container's last output is added only if the pod has not `called`: later it may be a job's own text.
    """
    status = pod.get("status", {})
    disrupted = condition(pod, "DisruptionTarget")
    if status.get("reason"):
        return f"its pod was ended: {status['reason']}: {short(status.get('message', ''))}".rstrip(": ")
    if disrupted.get("status") == "True":
        return f"its pod was taken away: {short(disrupted.get('message', '') or disrupted.get('reason', ''))}"
    if pod["metadata"].get("deletionTimestamp"):
        return "its pod was taken away"
    return _failed(status, called=called) if status.get("phase") == "Failed" else ""


def _failed(status: Object, *, called: bool) -> str:
    for one in status.get("containerStatuses") or []:
        if ended := one.get("state", {}).get("terminated"):
            said = "" if called else short(ended.get("message", ""))
            return f"its pod ended: {_end(ended)}{f': {said}' if said else ''}"
    return "its pod failed"
