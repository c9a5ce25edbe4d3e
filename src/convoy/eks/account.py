"""The door to AWS: what an account says of an EKS cluster, asked with calls that change nothing."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import cache, partial
from typing import Any, Final, TypeVar

from convoy.eks import config, repair
from convoy.eks.facts import Addon, Caller, Control, Facts, Group, Inside, Machine, Role, Subnet, Unseen, Version
from convoy.eks.repair import Which
from convoy.errors import BadInput, ConvoyError, NotAllowed, NotFound, RemoteFault, Unreachable
from convoy.spec import yamls

T = TypeVar("T")
Client = Callable[[str], Any]  # from the name of a service to boto3's client for it
READS: Final = ("describe_", "list_", "get_")
CONNECT_S, ANSWER_S = 5, 20
ATTEMPTS: Final = 4  # of a call that AWS throttles
AT_ONCE: Final = 100  # types of machines in one question: AWS takes no more
DRIVER: Final = "ebs-csi-controller-sa"  # the service account of the EBS CSI driver
_DENIED: Final = ("AccessDenied", "AccessDeniedException", "UnauthorizedOperation", "AuthorizationError")
_STRANGER: Final = (
    "AuthFailure",
    "ExpiredToken",
    "ExpiredTokenException",
    "InvalidClientTokenId",
    "SignatureDoesNotMatch",
    "UnrecognizedClientException",
)
_GONE: Final = ("ResourceNotFoundException", "NoSuchResourceException", "NoSuchEntity")
_SIGN_IN: Final = (
    "check with `aws sts get-caller-identity` whether you are signed in; sign in with `aws configure` or AWS_PROFILE"
)


def clients(region: str) -> Client:
    """Return what makes clients for a region, with the person's own credentials.

    Raises `BadInput` without the extra `eks` and for what is no region, `NotAllowed` for a profile that is not there.
    """
    try:
        import boto3
        from botocore.config import Config
    except ImportError as problem:
        raise BadInput(
            "the client for AWS is not installed", why=str(problem), fix="pip install 'convoy-fl[eks]'"
        ) from problem
    how = Config(
        region_name=region,
        connect_timeout=CONNECT_S,
        read_timeout=ANSWER_S,
        retries={"mode": "standard", "total_max_attempts": ATTEMPTS},
    )
    with _ours("", ""):
        session = boto3.Session(region_name=region)

    @cache  # a client takes a tenth of a second to make
    def client(service: str) -> Any:
        with _ours(service, ""):
            return session.client(service, config=how)

    return client


@dataclass(frozen=True, slots=True)
class Account:
    """An AWS account, as somebody's credentials let one see it."""

    client: Client

    def ask(self, service: str, operation: str, **what: Any) -> Any:
        """Return AWS's answer to one call. Raises `NotAllowed`, `NotFound`, `Unreachable` or `RemoteFault`."""
        called = self._reads(service, operation)
        with _ours(service, called.__self__.meta.method_to_api_mapping[operation]):
            return called(**what)

    def ask_all(self, service: str, operation: str, key: str, **what: Any) -> list[Any]:
        """Return what all pages of an answer list under a key. Raises as `ask` does."""
        client = self._reads(service, operation).__self__
        with _ours(service, client.meta.method_to_api_mapping[operation]):
            return [one for page in client.get_paginator(operation).paginate(**what) for one in page.get(key, [])]

    def _reads(self, service: str, operation: str) -> Any:
        if not operation.startswith(READS):
            raise AssertionError(f"{operation} might change something and is not permitted here")
        return getattr(self.client(service), operation)


def look(client: Client, which: Which, inside: Callable[[str], Inside | Unseen]) -> Facts:
    """Return everything that the doctor judges; `inside` looks into the cluster behind an endpoint.

    Raises `NotAllowed` where AWS does not know who asks, and `Unreachable` where it does not answer at all; what is
    denied after that is `Unseen`.
    """
    account = Account(client)
    said = account.ask("sts", "get_caller_identity")
    cluster = _seen(lambda: _control(account, which.name))
    known = cluster if isinstance(cluster, Control) else None
    unknown = cluster if isinstance(cluster, Unseen) else Unseen(f"there is no cluster {which.name}")
    names = [addon["name"] for addon in config.cluster(which.name, which.region, nodes=1, gpu_nodes=0)["addons"]]
    addons = {name: _seen(partial(_described, account, which.name, name)) for name in names if cluster}
    codes = [repair.STANDARD.code, *([repair.GPU.code] if which.gpu_nodes else [])]
    return Facts(
        caller=Caller(said["Arn"], said["Account"]),
        cluster=cluster,
        version=_seen(lambda: _version(account, known.version)) if known else unknown,
        groups=_seen(lambda: _groups(account, which.name)) if cluster else (),
        machines=_seen(lambda: _machines(account)),
        addons={name: addon if isinstance(addon, Unseen) else _addon(addon) for name, addon in addons.items()},
        ebs_roles=_seen(lambda: _ebs_roles(account, which.name, addons.get("aws-ebs-csi-driver"))) if cluster else (),
        providers=_seen(lambda: _providers(account)),
        subnets=_seen(lambda: _subnets(account, known.subnets)) if known else unknown,
        quotas={code: _seen(partial(_quota, account, code)) for code in codes},
        inside=inside(known.endpoint) if known else unknown,
    )


def _seen(call: Callable[[], T]) -> T | Unseen:
    """Return what a call returns, or why AWS did not say it: no check fails for another one's sake."""
    try:
        return call()
    except ConvoyError as problem:
        return Unseen(
            problem.what if isinstance(problem, NotAllowed) else f"{problem.what}: {problem.why}", problem.fix
        )


def _control(account: Account, name: str) -> Control | None:
    try:
        said = account.ask("eks", "describe_cluster", name=name)["cluster"]
    except NotFound:
        return None
    issuer = said.get("identity", {}).get("oidc", {}).get("issuer", "")
    subnets = tuple(said.get("resourcesVpcConfig", {}).get("subnetIds", []))
    return Control(said["status"], said["version"], said.get("endpoint", ""), issuer, _issues(said), subnets)


def _version(account: Account, name: str) -> Version | None:
    for said in account.ask_all("eks", "describe_cluster_versions", "clusterVersions", clusterVersions=[name]):
        support = said.get("versionStatus") or str(said.get("status", "")).replace("-", "_").upper()
        until = said.get("endOfExtendedSupportDate" if support == "EXTENDED_SUPPORT" else "endOfStandardSupportDate")
        return Version(name, support, until.date().isoformat() if until else "")
    return None


def _groups(account: Account, name: str) -> tuple[Group, ...]:
    found = []
    for group in account.ask_all("eks", "list_nodegroups", "nodegroups", clusterName=name):
        said = account.ask("eks", "describe_nodegroup", clusterName=name, nodegroupName=group)["nodegroup"]
        found.append(Group(group, said["status"], tuple(said.get("instanceTypes", [])), _issues(said)))
    return tuple(found)


def _machines(account: Account) -> tuple[Machine, ...]:
    """Return all machines of the region that run or start: a quota counts those of others too."""
    states = [{"Name": "instance-state-name", "Values": ["pending", "running"]}]
    listed = account.ask_all("ec2", "describe_instances", "Reservations", Filters=states)
    found = [one for reservation in listed for one in reservation["Instances"]]
    vcpus = _vcpus(account, sorted({one["InstanceType"] for one in found}))
    return tuple(
        Machine(
            one["InstanceType"],
            one["Placement"]["AvailabilityZone"],
            _cluster_of(one),
            one.get("InstanceLifecycle") == "spot",
            vcpus.get(one["InstanceType"], 0),
        )
        for one in found
    )


def _vcpus(account: Account, kinds: Sequence[str]) -> dict[str, int]:
    found = {}
    for first in range(0, len(kinds), AT_ONCE):
        some = list(kinds[first : first + AT_ONCE])
        for said in account.ask_all("ec2", "describe_instance_types", "InstanceTypes", InstanceTypes=some):
            found[said["InstanceType"]] = int(said["VCpuInfo"]["DefaultVCpus"])
    return found


def _cluster_of(machine: Any) -> str:
    mark = "kubernetes.io/cluster/"
    tags = [tag["Key"] for tag in machine.get("Tags", []) if tag["Key"].startswith(mark)]
    return str(tags[0]).removeprefix(mark) if tags else ""


def _described(account: Account, cluster: str, name: str) -> Any:
    """Return EKS's words on an add-on; None where it is not installed."""
    try:
        return account.ask("eks", "describe_addon", clusterName=cluster, addonName=name)["addon"]
    except NotFound:
        return None


def _addon(said: Any) -> Addon | None:
    if said is None:
        return None
    configuration: dict[str, Any] | None
    try:  # JSON is YAML
        configuration = yamls.load(said.get("configurationValues") or "{}", name="configurationValues").mapping()
    except BadInput:
        configuration = None
    return Addon(said.get("addonVersion", ""), said["status"], _issues(said), configuration)


def _ebs_roles(account: Account, cluster: str, addon: Any) -> tuple[Role, ...]:
    """Return the roles of the EBS CSI driver: of its service account's associations, and of the add-on itself."""
    arns = []
    where = {"clusterName": cluster, "namespace": "kube-system", "serviceAccount": DRIVER}
    for one in account.ask_all("eks", "list_pod_identity_associations", "associations", **where):
        which = {"clusterName": cluster, "associationId": one["associationId"]}
        arns.append(account.ask("eks", "describe_pod_identity_association", **which)["association"]["roleArn"])
    if isinstance(addon, dict) and addon.get("serviceAccountRoleArn"):
        arns.append(addon["serviceAccountRoleArn"])
    names = [arn.rsplit("/", 1)[-1] for arn in arns]
    return tuple(Role(name, _seen(partial(_policies, account, name))) for name in names)


def _policies(account: Account, role: str) -> tuple[Any, ...]:
    """Return the documents of a role's policies, its own and those that are attached."""
    own = account.ask_all("iam", "list_role_policies", "PolicyNames", RoleName=role)
    found = [account.ask("iam", "get_role_policy", RoleName=role, PolicyName=one)["PolicyDocument"] for one in own]
    for one in account.ask_all("iam", "list_attached_role_policies", "AttachedPolicies", RoleName=role):
        arn = one["PolicyArn"]
        version = account.ask("iam", "get_policy", PolicyArn=arn)["Policy"]["DefaultVersionId"]
        said = account.ask("iam", "get_policy_version", PolicyArn=arn, VersionId=version)
        found.append(said["PolicyVersion"]["Document"])
    return tuple(found)


def _providers(account: Account) -> tuple[str, ...]:
    said = account.ask("iam", "list_open_id_connect_providers")
    return tuple(one["Arn"] for one in said["OpenIDConnectProviderList"])


def _subnets(account: Account, names: Sequence[str]) -> tuple[Subnet, ...]:
    found = account.ask_all("ec2", "describe_subnets", "Subnets", SubnetIds=list(names)) if names else []
    return tuple(
        Subnet(
            one["SubnetId"],
            one["AvailabilityZone"],
            bool(one.get("MapPublicIpOnLaunch")),
            frozenset(tag["Key"] for tag in one.get("Tags", [])),
        )
        for one in found
    )


def _quota(account: Account, code: str) -> float:
    which = {"ServiceCode": "ec2", "QuotaCode": code}
    try:
        said = account.ask("service-quotas", "get_service_quota", **which)
    except NotFound:  # nobody ever changed it: what AWS gives everybody
        said = account.ask("service-quotas", "get_aws_default_service_quota", **which)
    return float(said["Quota"]["Value"])


def _issues(said: Any) -> tuple[str, ...]:
    """Return what AWS says is wrong with a thing."""
    issues = said.get("health", {}).get("issues", [])
    return tuple(f"{issue.get('code', 'an issue')}: {issue.get('message', '')}" for issue in issues)


@contextlib.contextmanager
def _ours(service: str, operation: str) -> Iterator[None]:
    """Turn what botocore raises into errors of ours."""
    from botocore import exceptions as theirs

    doing = f"{service.replace('-', '')}:{operation}"
    try:
        yield
    except theirs.ClientError as problem:
        raise _refusal(problem.response.get("Error", {}), doing) from problem
    except theirs.InvalidRegionError as problem:
        raise BadInput("that is not an AWS region", why=str(problem), fix="--region us-west-2") from problem
    except (theirs.ConnectionError, theirs.HTTPClientError) as problem:
        raise Unreachable(
            f"{doing}: AWS cannot be reached",
            why=str(problem),
            fix="check the region, and that this machine can reach AWS",
        ) from problem
    except theirs.ParamValidationError as problem:
        raise BadInput(f"{doing}: AWS does not accept the parameters", why=str(problem)) from problem
    except theirs.BotoCoreError as problem:  # no credentials, half of them, a profile or a session that is no more
        raise NotAllowed("AWS does not know who you are", why=str(problem), fix=_SIGN_IN) from problem


def _refusal(said: Any, doing: str) -> ConvoyError:
    code, why = said.get("Code", ""), said.get("Message", "")
    if code in _DENIED:
        return NotAllowed(f"you may not {doing}", why=why, fix="ask the administrator of the account for this right")
    if code in _STRANGER:
        return NotAllowed("AWS does not accept your credentials", why=f"{code}: {why}", fix=_SIGN_IN)
    if code in _GONE:
        return NotFound(f"{doing}: not found", why=why)
    return RemoteFault(f"{doing} failed", why=f"{code}: {why}")
