"""The doctor's calls to AWS: moto answers what it can, AWS's own model holds the rest; none changes a thing."""

import asyncio
import datetime as dt
import json
import sys

import pytest
from click.testing import CliRunner

pytest.importorskip("moto", reason="moto is not installed: requirements-test.txt")

from convoy.cli import eks_doctor
from convoy.cli.main import app
from convoy.cli.output import Screen
from convoy.eks import account, config, inside, repair
from convoy.eks.facts import Inside, Unseen, Version
from convoy.eks.inside import volume_class
from convoy.eks.repair import Which
from convoy.errors import BadInput, NotAllowed, NotFound, Refused, Unreachable
from tests.kube.aws import DRIVER, REGION, TRUST, Refusal, addons, associations, aws, quotas, versions

WHICH = Which("convoy", REGION, gpu_nodes=1)
ACCOUNT = "123456789012"  # moto's
FIT = Inside("ctx", (volume_class(config.storage_class()),), gpus=1)
FOUND = {
    "eks-pod-identity-agent": {},
    "coredns": {},
    "kube-proxy": {},
    "vpc-cni": {"configurationValues": '{"enableNetworkPolicy": "true"}'},
    "aws-ebs-csi-driver": {},
}


@pytest.fixture(autouse=True)
def nobody(monkeypatch, tmp_path):
    """Give credentials that are none, and no way to the person's own."""
    for name in ("AWS_PROFILE", "AWS_SESSION_TOKEN", "AWS_ENDPOINT_URL", "KUBECONFIG"):
        monkeypatch.delenv(name, raising=False)
    for name in ("AWS_CONFIG_FILE", "AWS_SHARED_CREDENTIALS_FILE"):
        monkeypatch.setenv(name, str(tmp_path / "none"))
    monkeypatch.setenv("AWS_EC2_METADATA_DISABLED", "true")
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "nobody")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "nothing")
    monkeypatch.setenv("HOME", str(tmp_path))


@pytest.fixture(scope="module")
def scene():
    """Give an account with a cluster that is fit for a federation, made once: the doctor changes nothing."""
    with aws() as made:
        build(made)
        yield made


@pytest.fixture
def fit(scene):
    """Give that account with the answers and the memory of a new one."""
    kept = dict(scene.answers)
    scene.calls.clear()
    yield scene
    scene.answers = kept


def build(empty):
    ec2, iam, clusters = empty.plain("ec2"), empty.plain("iam"), empty.plain("eks")
    subnets = sorted(ec2.describe_subnets()["Subnets"], key=lambda it: it["AvailabilityZone"])[:2]
    names = [subnet["SubnetId"] for subnet in subnets]
    ec2.create_tags(Resources=names, Tags=[{"Key": "kubernetes.io/role/elb", "Value": "1"}])
    role = iam.create_role(RoleName="driver", Path="/eks/", AssumeRolePolicyDocument=TRUST)["Role"]["Arn"]
    policy = iam.create_policy(PolicyName="driver", PolicyDocument=json.dumps(DRIVER))["Policy"]["Arn"]
    iam.attach_role_policy(RoleName="driver", PolicyArn=policy)
    network = {"subnetIds": names}
    made = clusters.create_cluster(name="convoy", version="1.35", roleArn=role, resourcesVpcConfig=network)["cluster"]
    issuer = made["identity"]["oidc"]["issuer"]
    iam.create_open_id_connect_provider(Url=issuer, ThumbprintList=["0" * 40])
    tags = [{"ResourceType": "instance", "Tags": [{"Key": "kubernetes.io/cluster/convoy", "Value": "owned"}]}]
    for group, kind, places in (("nodes", "m7i.large", names), ("gpu-nodes", "g6.xlarge", names[:1])):
        how = {"clusterName": "convoy", "nodegroupName": group, "nodeRole": role, "instanceTypes": [kind]}
        clusters.create_nodegroup(**how, subnets=places)
        for subnet in places:
            one = {"ImageId": "ami-12c6146b", "MinCount": 1, "MaxCount": 1, "InstanceType": kind}
            ec2.run_instances(**one, SubnetId=subnet, TagSpecifications=tags)
    until = dt.datetime(2027, 3, 27, tzinfo=dt.UTC)
    empty.answers |= addons(FOUND) | associations([role]) | versions(endOfStandardSupportDate=until)
    empty.answers |= quotas({repair.STANDARD.code: 64.0, repair.GPU.code: 16.0})


def look(made, which=WHICH, seen=FIT):
    return account.look(made.client, which, lambda endpoint: seen)


def said(made, capsys, seen=FIT, which=WHICH):
    """Return the doctor's findings as a program gets them, and what it ended with."""
    found = look(made, which, seen)
    ended = None
    try:
        eks_doctor.say(Screen(json=True), which, found)
    except (Refused, NotAllowed) as problem:
        ended = problem
    return {one["name"]: one for one in json.loads(capsys.readouterr().out)["findings"]}, ended


def test_a_cluster_as_our_own_file_makes_it_is_found_fit(fit, capsys):
    findings, ended = said(fit, capsys)
    assert {name: one["state"] for name, one in findings.items() if one["state"] != "ok"} == {}
    assert ended is None
    assert findings["caller"]["seen"].endswith(f"account {ACCOUNT}")
    assert findings["nodes"]["seen"] == "2 in us-west-2a, us-west-2b"
    assert findings["vCPUs"]["seen"] == "64 are allowed in us-west-2, 4 are running, 2 more are needed"
    assert findings["GPU vCPUs"]["seen"] == "16 are allowed in us-west-2, 4 are running, 0 more are needed"
    assert "2027-03-27" in findings["version"]["seen"]


def test_nothing_that_the_doctor_calls_could_change_anything(fit):
    look(fit)
    assert len(set(fit.calls)) > 15
    changing = [call for call in fit.calls if not call.split(":")[1].startswith(("Describe", "List", "Get"))]
    assert changing == []


def test_the_door_opens_for_no_call_that_could_change_anything(fit):
    with pytest.raises(AssertionError, match="change"):
        account.Account(fit.client).ask("eks", "delete_cluster", name="convoy")
    assert fit.calls == []


def test_an_account_without_the_cluster_is_told_how_to_make_it(fit, capsys):
    fit.answers |= quotas({})
    findings, ended = said(fit, capsys, which=Which("gone", REGION))
    assert {name: one["state"] for name, one in findings.items()} == {
        "caller": "ok",
        "cluster": "trouble",
        "vCPUs": "trouble",
    }
    assert "5 are allowed" in findings["vCPUs"]["seen"], "AWS's default, for nobody has changed it"
    assert (ended.exit_code, ended.why) == (1, "cluster, vCPUs")
    assert not [call for call in fit.calls if call.startswith("eks:") and call != "eks:DescribeCluster"]


@pytest.mark.parametrize(
    ("operation", "name"),
    [
        ("DescribeCluster", "cluster"),
        ("DescribeClusterVersions", "version"),
        ("ListNodegroups", "node groups"),
        ("DescribeNodegroup", "node groups"),
        ("DescribeInstances", "nodes"),
        ("DescribeInstanceTypes", "nodes"),
        ("DescribeAddon", "add-on coredns"),
        ("ListPodIdentityAssociations", "EBS role"),
        ("DescribePodIdentityAssociation", "EBS role"),
        ("ListRolePolicies", "EBS role"),
        ("ListAttachedRolePolicies", "EBS role"),
        ("GetPolicyVersion", "EBS role"),
        ("ListOpenIDConnectProviders", "OIDC provider"),
        ("DescribeSubnets", "subnets"),
        ("GetServiceQuota", "vCPUs"),
    ],
)
def test_a_call_that_is_denied_costs_its_own_check_and_names_the_right(fit, capsys, operation, name):
    def denied(**asked):
        raise Refusal("UnauthorizedOperation" if operation.startswith("DescribeInstance") else "AccessDeniedException")

    fit.answers[operation] = denied
    findings, ended = said(fit, capsys)
    assert findings[name]["state"] == "not checked"
    assert "you may not " in findings[name]["seen"]
    assert f":{operation}" in findings[name]["seen"]
    assert "for this right" in findings[name]["fix"]
    assert findings["caller"]["state"] == "ok"
    assert (type(ended), ended.exit_code) == (NotAllowed, 2)


def test_a_failure_of_aws_is_no_crash_either(fit, capsys):
    def throttled(**asked):
        raise Refusal("ThrottlingException", "slow down")

    fit.answers["ListNodegroups"] = throttled
    findings, _ = said(fit, capsys)
    assert findings["node groups"]["seen"] == "eks:ListNodegroups failed: ThrottlingException: slow down"


def test_what_is_wrong_with_an_addon_is_said_in_awss_words(fit, capsys):
    issue = {"code": "InsufficientNumberOfReplicas", "message": "0 of 2 run"}
    sick = {"status": "DEGRADED", "health": {"issues": [issue]}}
    missing = {name: it for name, it in FOUND.items() if name != "kube-proxy"}
    fit.answers |= addons(
        missing | {"coredns": sick, "vpc-cni": {"configurationValues": "enableNetworkPolicy: 'false'\n"}}
    )
    findings, ended = said(fit, capsys)
    assert findings["add-on coredns"][
        "seen"
    ] == "v1.0-eksbuild.1; DEGRADED; InsufficientNumberOfReplicas: 0 of 2 run".replace("1; D", "1, D")
    assert findings["add-on kube-proxy"]["state"] == findings["add-on vpc-cni"]["state"] == "trouble"
    assert (type(ended), ended.exit_code) == (Refused, 1)
    assert ended.why == "add-on coredns, add-on kube-proxy, add-on vpc-cni"


@pytest.mark.parametrize("values", ["{", "- a", "a: &x 1\nb: *x"])
def test_a_configuration_that_is_no_mapping_is_not_read(fit, values):
    fit.answers |= addons({**FOUND, "vpc-cni": {"configurationValues": values}})
    assert look(fit).addons["vpc-cni"].configuration is None


def test_a_drivers_role_may_be_the_addons_own_and_its_policy_its_own(fit):
    iam = fit.plain("iam")
    arn = iam.create_role(RoleName="own", AssumeRolePolicyDocument=TRUST)["Role"]["Arn"]
    policy = {"Version": "2012-10-17", "Statement": [{"Effect": "Allow", "Action": "ec2:*", "Resource": "*"}]}
    iam.put_role_policy(RoleName="own", PolicyName="inline", PolicyDocument=json.dumps(policy))
    fit.answers |= associations([]) | addons({**FOUND, "aws-ebs-csi-driver": {"serviceAccountRoleArn": arn}})
    (role,) = look(fit).ebs_roles
    assert (role.name, role.policies) == ("own", (policy,))


def test_a_driver_without_a_role_is_found(fit, capsys):
    fit.answers |= associations([])
    assert said(fit, capsys)[0]["EBS role"]["state"] == "trouble"


def test_the_policies_of_a_role_that_is_gone_are_not_looked_at(fit):
    fit.answers |= associations([f"arn:aws:iam::{ACCOUNT}:role/gone"])
    (role,) = look(fit).ebs_roles
    assert isinstance(role.policies, Unseen)
    assert "not found" in role.policies.why


@pytest.mark.parametrize(
    ("answer", "wanted"),
    [
        ({"status": "extended-support"}, "EXTENDED_SUPPORT"),
        ({"versionStatus": "STANDARD_SUPPORT"}, "STANDARD_SUPPORT"),
        (None, None),
    ],
)
def test_the_support_of_a_version_is_read_in_either_of_the_ways_that_aws_says_it(fit, answer, wanted):
    listed = [] if answer is None else [{"clusterVersion": "1.35", **answer}]
    fit.answers["DescribeClusterVersions"] = lambda clusterVersions: {"clusterVersions": listed}  # noqa: N803
    found = look(fit).version
    assert found == (Version("1.35", wanted, "") if wanted else None)


def test_who_has_no_credentials_is_told_how_to_have_some(monkeypatch):
    for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"):
        monkeypatch.delenv(name)
    with pytest.raises(NotAllowed, match="who you are") as problem:
        account.Account(account.clients(REGION)).ask("sts", "get_caller_identity")
    assert "aws sts get-caller-identity" in problem.value.fix


def test_a_profile_that_is_not_there_is_said(monkeypatch):
    monkeypatch.setenv("AWS_PROFILE", "nobodys")
    with pytest.raises(NotAllowed, match="nobodys"):
        account.clients(REGION)


@pytest.mark.parametrize(
    ("code", "kind"),
    [
        ("AccessDenied", NotAllowed),
        ("ExpiredToken", NotAllowed),
        ("InvalidClientTokenId", NotAllowed),
        ("NoSuchEntity", NotFound),
    ],
)
def test_each_refusal_becomes_an_error_of_ours(fit, code, kind):
    def refused():
        raise Refusal(code)

    fit.answers["GetCallerIdentity"] = refused
    with pytest.raises(kind):
        look(fit)


def test_an_aws_that_does_not_answer_is_unreachable(monkeypatch):
    monkeypatch.setenv("AWS_ENDPOINT_URL", "http://127.0.0.1:9")  # the port of `discard`: nobody listens
    with pytest.raises(Unreachable, match="cannot be reached"):
        account.Account(account.clients(REGION)).ask("sts", "get_caller_identity")


def test_what_is_no_region_is_said_before_anybody_is_asked():
    with pytest.raises(BadInput, match="not an AWS region"):
        account.Account(account.clients("us west")).ask("sts", "get_caller_identity")


def test_without_boto3_the_command_says_what_to_install(monkeypatch):
    monkeypatch.setitem(sys.modules, "boto3", None)
    with pytest.raises(BadInput, match="not installed") as problem:
        account.clients(REGION)
    assert problem.value.fix == "pip install 'convoy-fl[eks]'"


def test_the_command_prints_a_line_for_each_finding_and_each_fix(fit, monkeypatch):
    fit.answers |= quotas({})
    monkeypatch.setattr(account, "clients", lambda region: fit.client)
    done = CliRunner().invoke(app, ["eks", "doctor", "--name", "gone"])
    assert isinstance(done.exception, Refused)
    first, second, fix, *_ = done.output.splitlines()
    assert first.startswith("ok           caller   arn:aws:sts::")
    assert second == "trouble      cluster  there is no cluster gone in us-west-2"
    assert fix.split("fix: ")[1].startswith("convoy eks cluster --name gone")


def kubeconfig(file, server, name="ctx"):
    made = {
        "apiVersion": "v1",
        "kind": "Config",
        "current-context": "another",
        "clusters": [{"name": "c", "cluster": {"server": server}}],
        "users": [{"name": "u", "user": {"token": "t"}}],
        "contexts": [
            {"name": "another", "context": {"cluster": "elsewhere", "user": "u"}},
            {"name": name, "context": {"cluster": "c", "user": "u"}},
        ],
    }
    file.write_text(json.dumps(made))
    return file


def test_the_context_is_that_of_the_clusters_endpoint_and_not_the_current_one(tmp_path):
    file = kubeconfig(tmp_path / "config", "https://ABC.gr7.us-west-2.eks.amazonaws.com")
    assert inside.context_for("https://abc.gr7.us-west-2.eks.amazonaws.com/", [file]) == "ctx"
    assert inside.context_for("https://def.gr7.us-west-2.eks.amazonaws.com", [file]) is None


def test_kubeconfigs_are_found_as_kubectl_finds_them(tmp_path):
    (tmp_path / ".kube").mkdir()
    home, one = tmp_path / ".kube" / "config", tmp_path / "one"
    for file in (home, one):
        file.write_text("")
    assert inside.kubeconfigs({}, tmp_path) == [home]
    assert inside.kubeconfigs({"KUBECONFIG": f"{one}:{tmp_path / 'none'}"}, tmp_path) == [one]
    assert inside.kubeconfigs({"KUBECONFIG": str(tmp_path / "none")}, tmp_path) == []


@pytest.mark.parametrize("text", ["clusters: [1]", "clusters: [{name: a}]", "a: *b"])
async def test_a_file_that_is_no_kubeconfig_is_said_and_is_no_crash(tmp_path, text):
    (tmp_path / "config").write_text(text)
    assert isinstance(await inside.look("https://e", [tmp_path / "config"], WHICH), Unseen)


async def test_without_a_context_the_fix_makes_one():
    assert await inside.look("https://e", [], WHICH) == Unseen(
        "no context of your kubeconfig leads to this cluster",
        "aws eks update-kubeconfig --region us-west-2 --name convoy",
    )


@pytest.fixture
async def server():
    """Give the address of something that answers as an API server does, and what it was asked for."""
    nodes = [{"status": {"allocatable": {"nvidia.com/gpu": "2"}}}, {"status": {"allocatable": {}}}]
    answers = {
        "/version": {"major": "1", "minor": "35", "gitVersion": "v1.35.0"},
        "/apis/storage.k8s.io/v1/storageclasses": {
            "metadata": {"resourceVersion": "1"},
            "items": [config.storage_class()],
        },
        "/api/v1/nodes": {"metadata": {"resourceVersion": "1"}, "items": nodes},
    }
    asked = []

    async def answer(reader, writer):
        method, path, _ = (await reader.readuntil(b"\r\n\r\n")).decode().split(" ", 2)
        asked.append((method, path.partition("?")[0].rstrip("/")))
        found = answers.get(asked[-1][1])
        body = json.dumps(found or {"message": "not here"}).encode()
        status = "200 OK" if found else "403 Forbidden"
        heads = ("content-type: application/json", "connection: close", f"content-length: {len(body)}", "", "")
        writer.write("\r\n".join((f"HTTP/1.1 {status}", *heads)).encode() + body)
        await writer.drain()
        writer.close()
        await writer.wait_closed()

    async with await asyncio.start_server(answer, "127.0.0.1", 0) as serving:
        yield f"http://127.0.0.1:{serving.sockets[0].getsockname()[1]}", asked


async def test_classes_and_gpus_are_read_from_the_cluster_behind_the_endpoint(server, tmp_path, monkeypatch):
    address, asked = server
    file = kubeconfig(tmp_path / "config", address)
    monkeypatch.setenv("KUBECONFIG", str(file))
    found = await inside.look(f"{address}/", [file], WHICH)
    assert found == Inside("ctx", (volume_class(config.storage_class()),), gpus=2)
    assert {method for method, _ in asked} == {"GET"}


async def test_a_cluster_that_does_not_let_one_look_is_no_crash(server, tmp_path, monkeypatch):
    address, _ = server
    file = kubeconfig(tmp_path / "other", f"{address}/nothing", "other")
    monkeypatch.setenv("KUBECONFIG", str(file))
    found = await inside.look(f"{address}/nothing", [file], WHICH)
    assert isinstance(found, Unseen)
    assert "does not permit it" in found.why
