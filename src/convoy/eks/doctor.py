"""Whether an EKS cluster is fit for a federation: what AWS and the cluster say, as findings with their fixes; pure."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from fnmatch import fnmatchcase
from functools import partial
from typing import Any, Final, TypeVar

from convoy.eks import repair
from convoy.eks.facts import (
    Addon,
    Caller,
    Control,
    Facts,
    Group,
    Inside,
    Machine,
    Role,
    Subnet,
    Unseen,
    Version,
    VolumeClass,
    gives_gpu,
)
from convoy.eks.repair import Which
from convoy.kube.findings import Finding, State

T = TypeVar("T")
NODES, ZONES = 2, 2  # fewer, and one machine's or one zone's end is the federation's
CONFIG: Final = "enableNetworkPolicy"
NEEDS: Final = ("ec2:CreateVolume", "ec2:AttachVolume", "ec2:DetachVolume", "ec2:DeleteVolume")
EACH: Final = 2  # vCPUs of config.MACHINE
EACH_GPU: Final = 4  # vCPUs of config.GPU_MACHINE
OUTSIDE, WITHIN = "kubernetes.io/role/elb", "kubernetes.io/role/internal-elb"
_SUPPORT: Final = {"STANDARD_SUPPORT": "in standard support", "EXTENDED_SUPPORT": "in extended support, at a surcharge"}


def judge(facts: Facts, which: Which) -> list[Finding]:
    """Return every finding, in the order in which a person would mend them."""
    found = [
        _of("caller", facts.caller, _caller),
        _of("cluster", facts.cluster, lambda it: _cluster(it, which)),
    ]
    if facts.cluster is not None:
        found += [
            _of("version", facts.version, lambda it: _version(it, which)),
            *_each("node groups", facts.groups, lambda it: _groups(it, which)),
            _of("nodes", facts.machines, lambda it: _nodes(it, facts.groups, which)),
            *_each("add-ons", facts.addons, lambda it: _addons(it, which)),
            _of("EBS role", facts.ebs_roles, lambda it: _ebs(it, facts.inside, which)),
            _of("OIDC provider", facts.providers, lambda it: _oidc(it, facts.cluster, which)),
            _of("subnets", facts.subnets, lambda it: _subnets(it, which)),
            _of("storage class", facts.inside, lambda it: _classes(it, which)),
        ]
    found.append(_quota("vCPUs", repair.STANDARD, facts, which))
    if which.gpu_nodes:
        if facts.cluster is not None:
            found.append(_of("GPU nodes", facts.machines, lambda it: _gpus(it, facts.inside, which)))
        found.append(_quota("GPU vCPUs", repair.GPU, facts, which))
    return found


def _of(name: str, value: T | Unseen, judged: Callable[[T], tuple[State, str, str]]) -> Finding:
    """Return what is found of a value, or that it was not looked at."""
    if isinstance(value, Unseen):
        return Finding(name, State.UNSEEN, value.why, value.fix)
    return Finding(name, *judged(value))


def _each(name: str, values: T | Unseen, judged: Callable[[T], Sequence[Finding]]) -> Sequence[Finding]:
    return [Finding(name, State.UNSEEN, values.why, values.fix)] if isinstance(values, Unseen) else judged(values)


def _caller(caller: Caller) -> tuple[State, str, str]:
    return State.OK, f"{caller.arn} of account {caller.account}", ""


def _cluster(cluster: Control | None, which: Which) -> tuple[State, str, str]:
    if cluster is None:
        return State.TROUBLE, f"there is no cluster {which.name} in {which.region}", repair.create(which)
    seen = "; ".join((f"{which.name} is {cluster.status}", *cluster.issues))
    if cluster.status == "ACTIVE" and not cluster.issues:
        return State.OK, seen, ""
    return State.TROUBLE, seen, repair.wait_cluster(which) if cluster.status != "ACTIVE" else repair.show_cluster(which)


def _version(version: Version | None, which: Which) -> tuple[State, str, str]:
    if version is None:
        return State.TROUBLE, "AWS does not offer this version of Kubernetes", repair.upgrade(which)
    support = _SUPPORT.get(version.support)
    if support is None:
        return State.TROUBLE, f"{version.name} is {version.support.lower().replace('_', ' ')}", repair.upgrade(which)
    until = f" until {version.until}" if version.until else ""
    fix = repair.upgrade(which) if version.support == "EXTENDED_SUPPORT" else ""
    return State.OK, f"{version.name} is {support}{until}", fix


def _groups(groups: Sequence[Group], which: Which) -> Sequence[Finding]:
    if not groups:
        return [Finding("node groups", State.TROUBLE, "the cluster has no managed node group", repair.add_group(which))]
    found = []
    for group in groups:
        seen = "; ".join((f"{group.status}, {' or '.join(group.types) or 'any machine'}", *group.issues))
        if group.status == "ACTIVE" and not group.issues:
            found.append(Finding(f"node group {group.name}", State.OK, seen))
            continue
        fix = repair.wait_group(which, group.name) if group.status in ("CREATING", "UPDATING") else ""
        found.append(
            Finding(f"node group {group.name}", State.TROUBLE, seen, fix or repair.show_group(which, group.name))
        )
    return found


def _nodes(machines: Sequence[Machine], groups: Sequence[Group] | Unseen, which: Which) -> tuple[State, str, str]:
    plain = [machine for machine in machines if machine.cluster == which.name and not gives_gpu(machine.kind)]
    zones = sorted({machine.zone for machine in plain})
    seen = f"{len(plain)} in {', '.join(zones) or 'no zone'}"
    if len(plain) >= NODES and len(zones) >= ZONES:
        return State.OK, seen, ""
    seen += f"; {NODES} in {ZONES} zones are needed"
    known = () if isinstance(groups, Unseen) else groups
    fitting = [group.name for group in known if not any(map(gives_gpu, group.types))]
    if not fitting:
        return State.TROUBLE, seen, repair.add_group(which)
    if len(plain) < NODES:
        return State.TROUBLE, seen, repair.scale(which, fitting[0], NODES)
    spare = next(zone for zone in (f"{which.region}a", f"{which.region}b") if zone not in zones)
    return State.TROUBLE, seen, repair.add_zone(which, spare)


def _addons(addons: Mapping[str, Addon | Unseen | None], which: Which) -> Sequence[Finding]:
    return [_of(f"add-on {name}", addon, partial(_addon, name, which=which)) for name, addon in addons.items()]


def _addon(name: str, addon: Addon | None, which: Which) -> tuple[State, str, str]:
    if addon is None:
        return State.TROUBLE, "not installed as an add-on of EKS", repair.add_addons(which)
    seen = "; ".join((f"{addon.version}, {addon.status}", *addon.issues))
    if addon.status == "ACTIVE" and not addon.issues:
        return _network(addon, seen, which) if name == "vpc-cni" else (State.OK, seen, "")
    if addon.status == "CREATE_FAILED":
        return State.TROUBLE, seen, repair.add_addons(which)
    waits = addon.status in ("CREATING", "UPDATING")
    return State.TROUBLE, seen, repair.wait_addon(which, name) if waits else repair.update_addon(which, name)


def _network(addon: Addon, seen: str, which: Which) -> tuple[State, str, str]:
    """Return whether the network holds policies; the fix keeps what else was configured, for it replaces all of it."""
    if addon.configuration is None:
        fix = repair.show_addon(which, "vpc-cni")
        return State.UNSEEN, f"{seen}; its configuration is neither JSON nor YAML", fix
    if str(addon.configuration.get(CONFIG, "")).lower() == "true":
        return State.OK, f"{seen}, enforces network policies", ""
    fix = repair.update_addon(which, "vpc-cni", json.dumps({**addon.configuration, CONFIG: "true"}))
    return State.TROUBLE, f"{seen}, does not enforce network policies: {CONFIG} is not true", fix


def _ebs(roles: Sequence[Role], inside: Inside | Unseen, which: Which) -> tuple[State, str, str]:
    if not roles:
        context = "" if isinstance(inside, Unseen) else inside.context
        return (
            State.TROUBLE,
            "the EBS CSI driver has no role, so it cannot make volumes",
            repair.ebs_role(which, context),
        )
    for role in roles:
        if not isinstance(role.policies, Unseen) and not lacking(role.policies, NEEDS):
            return State.OK, f"{role.name}, which may make and attach volumes", ""
    first = roles[0]
    if isinstance(first.policies, Unseen):
        return State.UNSEEN, f"what {first.name} may do: {first.policies.why}", first.policies.fix
    seen = f"{first.name} may not {', '.join(lacking(first.policies, NEEDS))}"
    return State.TROUBLE, seen, repair.ebs_policy(which, first.name)


def lacking(policies: Sequence[Any], actions: Sequence[str]) -> list[str]:
    """Return the actions that no policy allows. What resources and conditions say is not read."""
    patterns: list[str] = []
    for policy in policies:
        said = policy.get("Statement", []) if isinstance(policy, dict) else []
        for statement in [said] if isinstance(said, dict) else said:
            allowed = statement.get("Action", []) if statement.get("Effect") == "Allow" else []
            patterns += [allowed] if isinstance(allowed, str) else allowed
    return [one for one in actions if not any(fnmatchcase(one.lower(), pattern.lower()) for pattern in patterns)]


def _oidc(providers: Sequence[str], cluster: Control | Unseen | None, which: Which) -> tuple[State, str, str]:
    if cluster is None or isinstance(cluster, Unseen):
        return State.UNSEEN, "the cluster did not report its issuer", repair.show_cluster(which)
    issuer = cluster.issuer.removeprefix("https://").rstrip("/")
    if issuer and any(provider.endswith(f"oidc-provider/{issuer}") for provider in providers):
        return State.OK, f"IAM knows {issuer}", ""
    return State.TROUBLE, f"IAM does not know the cluster's issuer {issuer}", repair.oidc(which)


def _subnets(subnets: Sequence[Subnet], which: Which) -> tuple[State, str, str]:
    zones = {tag: sorted({subnet.zone for subnet in subnets if tag in subnet.tags}) for tag in (OUTSIDE, WITHIN)}
    said = [f"{tag} in {', '.join(found)}" for tag, found in zones.items() if found]
    if zones[OUTSIDE] or zones[WITHIN]:
        lacks = [
            f"`outside: {kind}` finds no subnet"
            for kind, tag in (("nlb", OUTSIDE), ("nlb-internal", WITHIN))
            if not zones[tag]
        ]
        return State.OK, "; ".join([*said, *lacks]), ""
    public = [subnet.name for subnet in subnets if subnet.public]
    chosen, tag = (public, OUTSIDE) if public else ([subnet.name for subnet in subnets], WITHIN)
    return State.TROUBLE, f"none of {len(subnets)} subnets has a tag for load balancers", repair.tag(which, chosen, tag)


def _classes(inside: Inside, which: Which) -> tuple[State, str, str]:
    default = [one for one in inside.classes if one.default]
    there = any(one.name == "gp3" for one in inside.classes)
    if not default:
        return State.TROUBLE, "no StorageClass is the default", repair.storage(which, inside.context, replace=there)
    if len(default) > 1:
        rest = [one.name for one in default if _wrong(one)] or [one.name for one in default[1:]]
        seen = f"{', '.join(one.name for one in default)} are each the default"
        return State.TROUBLE, seen, repair.no_default(inside.context, rest)
    wrong = _wrong(default[0])
    if not wrong:
        return State.OK, f"{default[0].name} is the default: gp3, encrypted, made in the pod's zone", ""
    fix = repair.storage(which, inside.context, replace=there)
    if default[0].name != "gp3":
        fix = f"{repair.no_default(inside.context, [default[0].name])} && {fix}"
    return State.TROUBLE, f"the default {default[0].name} {', '.join(wrong)}", fix


def _wrong(one: VolumeClass) -> list[str]:
    found = {
        "is not of the EBS CSI driver": one.provisioner in ("ebs.csi.aws.com", "ebs.csi.eks.amazonaws.com"),
        "is not gp3": one.parameters.get("type", "gp3") == "gp3",
        "is not encrypted": str(one.parameters.get("encrypted", "")).lower() == "true",
        "does not wait for the pod's zone": one.binding == "WaitForFirstConsumer",
    }
    return [said for said, right in found.items() if not right]


def _gpus(machines: Sequence[Machine], inside: Inside | Unseen, which: Which) -> tuple[State, str, str]:
    found = [machine for machine in machines if machine.cluster == which.name and gives_gpu(machine.kind)]
    seen = f"{len(found)} of {which.gpu_nodes}"
    if len(found) < which.gpu_nodes:
        return State.TROUBLE, seen, repair.add_group(which)
    if isinstance(inside, Unseen):
        return State.UNSEEN, f"{seen} are running; whether pods get their GPUs: {inside.why}", inside.fix
    if not inside.gpus:
        return (
            State.TROUBLE,
            f"{seen} are running, but offer no GPU to pods: the device plugin is missing",
            repair.plugin(inside.context),
        )
    return State.OK, f"{seen}, with {inside.gpus} GPUs for pods", ""


def _quota(name: str, quota: repair.Quota, facts: Facts, which: Which) -> Finding:
    """Return whether the account may run what the cluster still lacks, and one machine more while it is upgraded."""
    limit = facts.quotas.get(quota.code, Unseen("the quota was not read"))
    machines = facts.machines
    if isinstance(limit, Unseen):
        return Finding(name, State.UNSEEN, limit.why, limit.fix)
    if isinstance(machines, Unseen):
        seen = f"{limit:.0f} are allowed in {which.region}; how many are running: {machines.why}"
        return Finding(name, State.UNSEEN, seen, machines.fix)
    used = sum(it.vcpus for it in machines if not it.spot and quota.counts(it.kind))
    here = [it for it in machines if it.cluster == which.name]
    if quota is repair.GPU:
        more = EACH_GPU * max(0, which.gpu_nodes - sum(gives_gpu(it.kind) for it in here))
    else:
        more = EACH * (max(0, NODES - sum(not gives_gpu(it.kind) for it in here)) + 1)
    seen = f"{limit:.0f} are allowed in {which.region}, {used} are running, {more} more are needed"
    if used + more <= limit:
        return Finding(name, State.OK, seen)
    return Finding(name, State.TROUBLE, seen, repair.raise_quota(which, quota, used + more))
