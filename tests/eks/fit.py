"""What AWS says of a cluster that is fit for a federation, as plain values to change in a test."""

from convoy.eks import config, doctor, repair
from convoy.eks.facts import Addon, Caller, Control, Facts, Group, Inside, Machine, Role, Subnet, Version, VolumeClass
from convoy.eks.inside import volume_class

NAMES = [addon["name"] for addon in config.cluster("convoy", "us-west-2", nodes=2, gpu_nodes=0)["addons"]]
MAY = {"Statement": [{"Effect": "Allow", "Action": ["ec2:Create*", "ec2:*Volume"], "Resource": "*"}]}
GP3 = volume_class(config.storage_class())
GP2 = VolumeClass("gp2", "kubernetes.io/aws-ebs", {"type": "gp2"}, "WaitForFirstConsumer", default=False)


def machine(zone="a", kind="m7i.large", vcpus=2, cluster="convoy", *, spot=False):
    return Machine(kind, f"us-west-2{zone}", cluster, spot, vcpus)


def addon(**said):
    return Addon(**{"version": "v1", "status": "ACTIVE", "issues": (), "configuration": {}} | said)


def subnet(name, *tags, public=False):
    return Subnet(name, f"us-west-2{name[-1]}", public, frozenset(tags))


FIT = Facts(
    caller=Caller("arn:aws:iam::123456789012:user/ada", "123456789012"),
    cluster=Control("ACTIVE", "1.35", "https://e", "https://oidc.eks.us-west-2.amazonaws.com/id/1", (), ("subnet-a",)),
    version=Version("1.35", "STANDARD_SUPPORT", "2027-03-27"),
    groups=(Group("nodes", "ACTIVE", ("m7i.large",), ()),),
    machines=(machine("a"), machine("b")),
    addons={name: addon(configuration={"enableNetworkPolicy": "true"}) for name in NAMES},
    ebs_roles=(Role("driver", (MAY,)),),
    providers=("arn:aws:iam::123456789012:oidc-provider/oidc.eks.us-west-2.amazonaws.com/id/1",),
    subnets=(subnet("pub-a", doctor.OUTSIDE, public=True), subnet("priv-a", doctor.WITHIN)),
    quotas={repair.STANDARD.code: 32.0, repair.GPU.code: 8.0},
    inside=Inside("ctx", (GP2, GP3), gpus=0),
)
