"""What the doctor makes of what it is told: a fit cluster is all ok, and each fault has its own command."""

import json
import shlex
from dataclasses import replace

import pytest

from convoy.eks import doctor, repair
from convoy.eks.facts import Group, Inside, Role, Unseen, Version, gives_gpu
from convoy.eks.repair import Which
from tests.eks.fit import FIT, GP2, GP3, NAMES, addon, machine, subnet

WHICH = Which("convoy", "us-west-2")
WITH_GPUS = Which("convoy", "us-west-2", gpu_nodes=1)
DENIED = Unseen("you may not eks:DescribeAddon", "ask")


def found(which=WHICH, **other):
    """Return the findings on a fit cluster of which this is different, by their names."""
    listed = doctor.judge(replace(FIT, **other), which)
    by_name = {finding.name: finding for finding in listed}
    assert len(by_name) == len(listed), "two findings have one name"
    return by_name


def only_fault(which=WHICH, **other):
    """Return the one finding that is not ok."""
    (fault,) = [finding for finding in found(which, **other).values() if finding.state != "ok"]
    assert fault.fix, "a fault without its fix"
    return fault


def words(fix):
    """Return the words of each command of a fix."""
    return [shlex.split(command) for command in fix.split(" && ")]


def test_a_fit_cluster_has_no_fault_and_every_addon_that_our_file_asks_for_was_looked_at():
    by_name = found()
    assert {finding.state for finding in by_name.values()} == {"ok"}
    assert {f"add-on {name}" for name in NAMES} < by_name.keys()
    assert [finding.fix for finding in by_name.values() if finding.fix] == []


def test_without_a_cluster_only_what_is_needed_to_make_one_is_looked_at():
    by_name = found(cluster=None, machines=(), addons={})
    assert list(by_name) == ["caller", "cluster", "vCPUs"]
    assert by_name["cluster"].fix == (
        "convoy eks cluster --name convoy --region us-west-2 && eksctl create cluster -f cluster.yaml"
    )


@pytest.mark.parametrize(
    ("status", "issues", "fix"),
    [
        ("CREATING", (), "aws eks wait cluster-active --region us-west-2 --name convoy"),
        ("ACTIVE", ("IamRoleNotFound: gone",), "describe-cluster"),
    ],
)
def test_a_cluster_that_is_not_well_is_said_with_what_aws_says_of_it(status, issues, fix):
    fault = only_fault(cluster=replace(FIT.cluster, status=status, issues=issues))
    assert (fault.name, fault.state) == ("cluster", "trouble")
    assert all(word in fault.seen for word in (status, *issues))
    assert fix in fault.fix


@pytest.mark.parametrize("version", [None, Version("1.20", "UNSUPPORTED", ""), Version("9.9", "SOMETHING_NEW", "")])
def test_a_version_without_support_is_upgraded(version):
    fault = only_fault(version=version)
    assert (fault.name, fault.state) == ("version", "trouble")
    assert fault.fix.startswith("eksctl upgrade cluster --name convoy")


def test_a_version_in_extended_support_is_ok_and_its_price_and_way_out_are_said():
    one = found(version=Version("1.33", "EXTENDED_SUPPORT", "2027-07-29"))["version"]
    assert one.state == "ok"
    assert "surcharge until 2027-07-29" in one.seen
    assert one.fix


def test_no_node_group_is_made_from_our_own_file_in_a_folder_of_its_own():
    fault = only_fault(groups=())
    assert words(fault.fix) == [
        ["mkdir", "-p", "fix"],
        ["convoy", "eks", "cluster", "--name", "convoy", "--region", "us-west-2", "-o", "fix"],
        ["eksctl", "create", "nodegroup", "-f", "fix/cluster.yaml"],
    ]


@pytest.mark.parametrize(
    ("status", "issues", "fix"),
    [
        ("CREATING", (), "wait nodegroup-active"),
        ("DEGRADED", ("AsgInstanceLaunchFailures: no", "b: c"), "describe-nodegroup"),
    ],
)
def test_a_node_group_that_is_not_well_is_named(status, issues, fix):
    well = FIT.groups[0]
    fault = only_fault(groups=(well, Group("more", status, ("c7i.large",), issues)))
    assert fault.name == "node group more"
    assert all(word in fault.seen for word in (status, *issues))
    assert fix in fault.fix


@pytest.mark.parametrize(
    ("machines", "seen", "fix"),
    [
        ((), "0 in no zone", "eksctl scale nodegroup --cluster convoy --region us-west-2 --name nodes --nodes 2"),
        ((machine("a"),), "1 in us-west-2a", "--nodes 2"),
        ((machine("a"), machine("a")), "2 in us-west-2a", "--node-zones us-west-2b"),
        ((machine("b"), machine("b")), "2 in us-west-2b", "--node-zones us-west-2a"),
        ((machine("a"), machine("b", "g6.xlarge", 4)), "1 in us-west-2a", "--nodes 2"),
        ((machine("a"), machine("b", cluster="other")), "1 in us-west-2a", "--nodes 2"),
    ],
)
def test_two_machines_in_two_zones_are_wanted(machines, seen, fix):
    fault = only_fault(machines=machines)
    assert fault.name == "nodes"
    assert fault.seen.startswith(seen)
    assert fix in fault.fix


def test_a_group_of_gpu_machines_is_not_scaled_for_the_want_of_others():
    fault = found(groups=(Group("gpu", "ACTIVE", ("g6.xlarge",), ()),), machines=())["nodes"]
    assert "eksctl create nodegroup -f" in fault.fix


@pytest.mark.parametrize("name", NAMES)
def test_an_addon_that_is_not_there_is_made_from_our_own_file(name):
    fault = only_fault(addons={**FIT.addons, name: None})
    assert (fault.name, fault.state) == (f"add-on {name}", "trouble")
    assert fault.fix.endswith("eksctl create addon -f fix/cluster.yaml")


@pytest.mark.parametrize(
    ("status", "issues", "fix"),
    [
        ("UPDATING", (), "aws eks wait addon-active"),
        ("CREATE_FAILED", (), "eksctl create addon"),
        ("DEGRADED", (), "aws eks update-addon"),
        ("ACTIVE", ("InsufficientNumberOfReplicas: 0 of 2",), "aws eks update-addon"),
    ],
)
def test_an_addon_that_is_not_well_is_said_with_its_issues(status, issues, fix):
    fault = only_fault(addons={**FIT.addons, "coredns": addon(status=status, issues=issues)})
    assert fault.name == "add-on coredns"
    assert all(word in fault.seen for word in (status, *issues))
    assert fix in fault.fix


@pytest.mark.parametrize("value", ["true", True, "True"])
def test_a_network_that_holds_policies_is_ok_however_true_is_written(value):
    assert (
        found(addons={"vpc-cni": addon(configuration={"enableNetworkPolicy": value})})["add-on vpc-cni"].state == "ok"
    )


@pytest.mark.parametrize("configuration", [{}, {"enableNetworkPolicy": "false"}, {"env": {"X": "1's"}}])
def test_a_network_without_policies_is_given_them_and_keeps_what_else_was_configured(configuration):
    fault = only_fault(addons={**FIT.addons, "vpc-cni": addon(configuration=configuration)})
    (command,) = words(fault.fix)
    given = json.loads(command[command.index("--configuration-values") + 1])
    assert given == {**configuration, "enableNetworkPolicy": "true"}


def test_a_configuration_that_cannot_be_read_is_not_overwritten():
    fault = only_fault(addons={**FIT.addons, "vpc-cni": addon(configuration=None)})
    assert fault.state == "not checked"
    assert "update" not in fault.fix


def test_a_driver_without_a_role_gets_one_of_its_own():
    first, second = words(only_fault(ebs_roles=()).fix)
    assert first[:3] == ["eksctl", "create", "podidentityassociation"]
    assert first[-1] == "arn:aws:iam::aws:policy/service-role/AmazonEBSCSIDriverPolicy"
    assert second[:3] == ["kubectl", "--context", "ctx"]


@pytest.mark.parametrize(
    ("region", "partition"), [("eu-central-1", "aws"), ("cn-north-1", "aws-cn"), ("us-gov-west-1", "aws-us-gov")]
)
def test_the_policy_is_that_of_the_regions_own_part_of_aws(region, partition):
    assert f"arn:{partition}:iam::aws:policy/" in repair.ebs_policy(Which("convoy", region), "driver")


@pytest.mark.parametrize(
    "policy",
    [
        {"Statement": []},
        {"Statement": {"Effect": "Allow", "Action": "ec2:Describe*"}},
        {"Statement": [{"Effect": "Deny", "Action": "*"}]},
        {"Statement": [{"Effect": "Allow", "NotAction": "iam:*"}]},
    ],
)
def test_a_role_that_may_not_make_volumes_gets_awss_own_policy(policy):
    fault = only_fault(ebs_roles=(Role("driver", (policy,)),))
    assert "ec2:CreateVolume" in fault.seen
    assert words(fault.fix)[0][:5] == ["aws", "iam", "attach-role-policy", "--role-name", "driver"]


@pytest.mark.parametrize("action", ["*", "ec2:*", ["EC2:*Volume"]])
def test_a_policy_allows_by_pattern_and_whatever_its_letters(action):
    assert doctor.lacking([{"Statement": {"Effect": "Allow", "Action": action}}], doctor.NEEDS) == []


def test_several_policies_allow_together_what_none_allows_alone():
    each = [{"Statement": {"Effect": "Allow", "Action": one}} for one in doctor.NEEDS]
    assert found(ebs_roles=(Role("driver", tuple(each)),))["EBS role"].state == "ok"


def test_an_issuer_that_iam_does_not_know_is_made_known():
    fault = only_fault(providers=("arn:aws:iam::1:oidc-provider/oidc.eks.us-west-2.amazonaws.com/id/2",))
    assert fault.fix == ("eksctl utils associate-iam-oidc-provider --cluster convoy --region us-west-2 --approve")


@pytest.mark.parametrize(
    ("subnets", "tagged", "tag"),
    [
        ((subnet("pub-a", public=True), subnet("priv-a")), ["pub-a"], doctor.OUTSIDE),
        ((subnet("priv-a"), subnet("priv-b")), ["priv-a", "priv-b"], doctor.WITHIN),
    ],
)
def test_subnets_without_tags_get_the_one_that_fits_them(subnets, tagged, tag):
    (command,) = words(only_fault(subnets=subnets).fix)
    assert command[command.index("--resources") + 1 : command.index("--tags")] == tagged
    assert command[-1] == f"Key={tag},Value=1"


def test_subnets_for_one_kind_of_balancer_are_ok_and_what_the_other_lacks_is_said():
    one = found(subnets=(subnet("pub-a", doctor.OUTSIDE),))["subnets"]
    assert one.state == "ok"
    assert "`outside: nlb-internal` finds no subnet" in one.seen


@pytest.mark.parametrize(
    ("classes", "seen", "commands"),
    [
        ((GP2,), "no StorageClass is the default", ["mkdir", "convoy", "kubectl apply"]),
        ((replace(GP2, default=True),), "gp2", ["kubectl annotate", "mkdir", "convoy", "kubectl apply"]),
        ((replace(GP3, default=False),), "no StorageClass", ["mkdir", "convoy", "kubectl delete", "kubectl apply"]),
        (
            (replace(GP3, parameters={"type": "gp3"}),),
            "not encrypted",
            ["mkdir", "convoy", "kubectl delete", "kubectl apply"],
        ),
        ((replace(GP3, binding="Immediate"),), "zone", ["mkdir", "convoy", "kubectl delete", "kubectl apply"]),
        ((replace(GP2, default=True), GP3), "gp2, gp3 are each the default", ["kubectl annotate"]),
        ((GP3, replace(GP3, name="other")), "gp3, other are each the default", ["kubectl annotate"]),
    ],
)
def test_the_default_class_is_ours_or_as_good(classes, seen, commands):
    fault = only_fault(inside=Inside("ctx", classes, 0))
    assert (fault.name, fault.state) == ("storage class", "trouble")
    assert seen in fault.seen
    said = [" ".join(word for word in line if word not in ("--context", "ctx")) for line in words(fault.fix)]
    assert [line.startswith(command) for line, command in zip(said, commands, strict=True)] == [True] * len(commands)


def test_what_is_no_more_the_default_is_the_class_that_does_not_fit():
    fault = only_fault(inside=Inside("ctx", (GP3, replace(GP2, default=True)), 0))
    assert words(fault.fix)[0][-2:] == ["gp2", "storageclass.kubernetes.io/is-default-class-"]


def test_other_peoples_machines_count_against_the_quota_but_no_spot_and_no_other_family():
    many = [machine("a", cluster=""), machine("a", "c7i.8xlarge", 32, "other")]
    free = [
        machine("a", "m7i.4xlarge", 16, spot=True),
        machine("a", "p5.48xlarge", 192),
        machine("a", "hpc6a.48xlarge", 96),
    ]
    one = found(machines=(*FIT.machines, *many, *free))["vCPUs"]
    assert "32 are allowed in us-west-2, 38 are running, 2 more are needed" in one.seen
    assert words(one.fix)[0][-2:] == ["--desired-value", "40"]
    assert one.state == "trouble"


def test_a_small_quota_is_raised_to_what_the_cluster_still_lacks():
    one = found(cluster=None, machines=(), quotas={repair.STANDARD.code: 5.0})["vCPUs"]
    assert (one.state, words(one.fix)[0][-1]) == ("trouble", "6")


def test_gpus_are_asked_about_only_where_they_are_wanted():
    assert "GPU nodes" not in found()
    by_name = found(WITH_GPUS)
    assert by_name["GPU nodes"].seen == "0 of 1"
    assert "--gpu-nodes 1" in by_name["GPU nodes"].fix
    assert by_name["GPU vCPUs"].seen == "8 are allowed in us-west-2, 0 are running, 4 more are needed"


def test_a_new_account_may_run_no_gpu_machine_and_the_fix_names_that_quota():
    one = found(WITH_GPUS, quotas={**FIT.quotas, repair.GPU.code: 0.0})["GPU vCPUs"]
    assert one.state == "trouble"
    assert repair.GPU.code in one.fix


@pytest.mark.parametrize(("gpus", "state"), [(0, "trouble"), (1, "ok")])
def test_gpu_machines_are_of_use_once_pods_get_their_gpus(gpus, state):
    machines = (*FIT.machines, machine("a", "g6.xlarge", 4))
    assert found(WITH_GPUS, machines=machines, inside=replace(FIT.inside, gpus=gpus))["GPU nodes"].state == state


@pytest.mark.parametrize(
    "kind", ["g6.xlarge", "g4dn.xlarge", "g5g.xlarge", "gr6.4xlarge", "p5.48xlarge", "p4d.24xlarge"]
)
def test_the_families_with_gpus_are_known(kind):
    assert gives_gpu(kind)


@pytest.mark.parametrize("kind", ["m7i.large", "t3.large", "c7g.large", "r7gd.large", "i4g.large"])
def test_a_letter_inside_a_familys_name_makes_no_gpu(kind):
    assert not gives_gpu(kind)
    assert repair.STANDARD.counts(kind)


@pytest.mark.parametrize(
    ("field", "name"),
    [
        ("cluster", "cluster"),
        ("version", "version"),
        ("groups", "node groups"),
        ("machines", "nodes"),
        ("ebs_roles", "EBS role"),
        ("providers", "OIDC provider"),
        ("subnets", "subnets"),
        ("inside", "storage class"),
    ],
)
def test_what_was_denied_was_not_looked_at_and_nothing_else_suffers(field, name):
    by_name = found(**{field: DENIED})
    assert (by_name[name].state, by_name[name].seen, by_name[name].fix) == ("not checked", DENIED.why, DENIED.fix)
    others = {"cluster": {"OIDC provider"}, "machines": {"vCPUs"}}.get(field, set())
    unseen = {one.name for one in by_name.values() if one.state != "ok"}
    assert unseen == {name, *others}


def test_one_addon_that_was_denied_is_one_line():
    fault = only_fault(addons={**FIT.addons, "coredns": DENIED})
    assert (fault.name, fault.state, fault.seen) == ("add-on coredns", "not checked", DENIED.why)


def test_a_name_with_a_space_or_a_quote_stays_one_word_of_its_command():
    which = Which("a b';x", "us-west-2")
    fix = doctor.judge(replace(FIT, cluster=None), which)[1].fix
    assert words(fix)[0][:5] == ["convoy", "eks", "cluster", "--name", "a b';x"]
