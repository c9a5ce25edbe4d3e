"""Whether the machines of a cluster have room for the pods of a federation: requests, selectors, taints; pure."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from fractions import Fraction
from typing import Any, Final

Object = Mapping[str, Any]
Amounts = dict[str, Fraction]  # of what Kubernetes counts: cores, bytes, pieces
GPU: Final = "nvidia.com/gpu"
_NUMBER: Final = re.compile(r"([0-9]+(?:\.[0-9]*)?(?:[eE][-+]?[0-9]+)?)([numkKMGTPE]?i?)")
_SUFFIXES: Final = (
    {"": Fraction(1), "n": Fraction(1, 10**9), "u": Fraction(1, 10**6), "m": Fraction(1, 1000)}
    | {prefix: Fraction(1000**power) for power, prefix in enumerate("kMGTPE", 1)}
    | {f"{prefix}i": Fraction(1024**power) for power, prefix in enumerate("KMGTPE", 1)}
)
_KEEPS_AWAY: Final = ("NoSchedule", "NoExecute")


def quantity(text: str | float) -> Fraction:
    """Return a quantity of Kubernetes as a number; what is none counts as nothing."""
    found = _NUMBER.fullmatch(str(text))
    return Fraction(found[1]) * _SUFFIXES.get(found[2], Fraction(0)) if found else Fraction(0)


@dataclass(frozen=True, slots=True)
class Need:
    """A pod that is to be somewhere: whose it is, what it asks for, which machines it takes."""

    name: str
    namespace: str
    spec: Object

    @property
    def amounts(self) -> Amounts:
        """What it asks for."""
        return _asked(self.spec)


@dataclass(slots=True)
class _Machine:
    """A machine that takes pods, and what of it is free."""

    node: Object
    free: Amounts

    def refuses(self, need: Need) -> str:
        """Return why a pod cannot be here, "" if it can."""
        labels = self.node["metadata"].get("labels", {})
        for key, value in (need.spec.get("nodeSelector") or {}).items():
            if labels.get(key) != value:
                return f"no label {key}={value}"
        for taint in self.node.get("spec", {}).get("taints") or []:
            if taint.get("effect") in _KEEPS_AWAY and not _tolerated(taint, need.spec.get("tolerations") or []):
                return f"taint {taint['key']} is not tolerated"
        lacks = sorted(name for name, amount in need.amounts.items() if amount > self.free.get(name, 0))
        return f"not enough {' and '.join(lacks)}" if lacks else ""

    def take(self, amounts: Amounts) -> None:
        """Count a pod in."""
        for name, amount in amounts.items():
            self.free[name] = self.free.get(name, Fraction(0)) - amount


def ready(node: Object) -> bool:
    """Return whether a machine runs and takes new pods."""
    conditions = node.get("status", {}).get("conditions") or []
    is_ready = any(one.get("type") == "Ready" and one.get("status") == "True" for one in conditions)
    return is_ready and not node.get("spec", {}).get("unschedulable", False)


def unplaced(needs: Sequence[Need], nodes: Iterable[Object], pods: Iterable[Object]) -> dict[str, dict[str, str]]:
    """Return which pods find no place, and why, by machine.

    Pods that are there already stay where they are, and so do those of `needs`. The largest of the others comes first,
    to the first machine with room: the scheduler may do better, and seldom does.
    """
    machines = {one["metadata"]["name"]: _Machine(one, _allocatable(one)) for one in nodes if ready(one)}
    waiting = {(need.namespace, need.name): need for need in needs}
    for pod in pods:
        machine = machines.get(pod.get("spec", {}).get("nodeName", ""))
        if machine is None or pod.get("status", {}).get("phase") in ("Succeeded", "Failed"):
            continue
        meta = pod["metadata"]
        its = waiting.get((meta.get("namespace", ""), meta["name"].removesuffix("-0")))
        if its is None:
            machine.take(_asked(pod["spec"]))
        elif not machine.refuses(its):
            machine.take(waiting.pop((its.namespace, its.name)).amounts)
    left: dict[str, dict[str, str]] = {}
    order = ("memory", "cpu")
    for need in sorted(waiting.values(), key=lambda it: [-it.amounts.get(name, Fraction(0)) for name in (GPU, *order)]):
        why = {name: machine.refuses(need) for name, machine in machines.items()}
        home = next((name for name, reason in why.items() if not reason), None)
        if home is None:
            left[need.name] = why
        else:
            machines[home].take(need.amounts)
    return left


def gpus(nodes: Iterable[Object]) -> int:
    """Return the most GPUs that one machine offers: what NVIDIA's device plugin says of it."""
    return max((int(_allocatable(one).get(GPU, 0)) for one in nodes if ready(one)), default=0)


def _allocatable(node: Object) -> Amounts:
    return {name: quantity(text) for name, text in (node.get("status", {}).get("allocatable") or {}).items()}


def _asked(spec: Object) -> Amounts:
    """Return a pod's requests: those of its containers together, or of its largest first container; and itself."""
    together: Amounts = {"pods": Fraction(1)}
    for container in spec.get("containers") or []:
        for name, amount in _requests(container).items():
            together[name] = together.get(name, Fraction(0)) + amount
    for container in spec.get("initContainers") or []:
        for name, amount in _requests(container).items():
            together[name] = max(together.get(name, Fraction(0)), amount)
    return together


def _requests(container: Object) -> Amounts:
    resources = container.get("resources") or {}
    said = {**(resources.get("limits") or {}), **(resources.get("requests") or {})}  # a limit alone is a request
    return {name: quantity(text) for name, text in said.items()}


def _tolerated(taint: Object, tolerations: Iterable[Object]) -> bool:
    for one in tolerations:
        same_key = one.get("key", "") in ("", taint["key"])
        same_value = one.get("operator", "Equal") == "Exists" or one.get("value", "") == taint.get("value", "")
        if same_key and same_value and one.get("effect", "") in ("", taint["effect"]):
            return True
    return False
