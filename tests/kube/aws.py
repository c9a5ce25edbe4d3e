"""An AWS of this process: moto where it has the call, and answers of our own, held to AWS's model, where it has not."""

from contextlib import contextmanager
from functools import cache

import boto3
from botocore.awsrequest import AWSResponse
from botocore.config import Config
from botocore.validate import validate_parameters
from moto import mock_aws

REGION = "us-west-2"
TRUST = '{"Version": "2012-10-17", "Statement": []}'
DRIVER = {  # what matters to us of AWS's own policy for the EBS CSI driver, in its own shape
    "Version": "2012-10-17",
    "Statement": [
        {"Effect": "Allow", "Action": ["ec2:DescribeVolumes", "ec2:DescribeInstances"], "Resource": "*"},
        {
            "Effect": "Allow",
            "Action": ["ec2:AttachVolume", "ec2:DetachVolume"],
            "Resource": ["arn:aws:ec2:*:*:volume/*"],
        },
        {"Effect": "Allow", "Action": "ec2:CreateVolume", "Resource": "arn:aws:ec2:*:*:volume/*"},
        {"Effect": "Allow", "Action": "ec2:DeleteVolume", "Resource": "arn:aws:ec2:*:*:volume/*"},
    ],
}


@cache
def _session():
    """Return the one session, which keeps the models that it has read: those of EC2 take a second."""
    return boto3.Session("nobody", "nothing", region_name=REGION)


class Refusal(Exception):
    """What AWS says in place of an answer."""

    def __init__(self, code, message="no"):
        super().__init__(code)
        self.code, self.message = code, message


class Aws:
    """Clients for it, the answers that are its own, and every call that was made."""

    def __init__(self):
        self.session = _session()
        self.made = {}
        self.answers = {}  # of an operation: a function of the call's parameters
        self.calls = []

    def client(self, service):
        if service not in self.made:
            self.made[service] = made = self.plain(service)
            made.meta.events.register_first("before-parameter-build.*.*", self._remember)
            made.meta.events.register_first("before-call.*.*", self._answer)
        return self.made[service]

    def plain(self, service):
        """Return a client that is not watched, to set the scene."""
        return self.session.client(service, config=Config(retries={"total_max_attempts": 1}))

    def _remember(self, params, model, context, **more):
        context["asked"] = params

    def _answer(self, model, params, context, **more):
        self.calls.append(f"{model.service_model.service_name}:{model.name}")
        answer = self.answers.get(model.name)
        if answer is None:
            return None  # moto's
        try:
            said = answer(**context["asked"])
        except Refusal as problem:
            http = AWSResponse("https://aws.example", 400, {}, None)
            return http, {"Error": {"Code": problem.code, "Message": problem.message}, "ResponseMetadata": {}}
        if model.output_shape is not None:
            validate_parameters(said, model.output_shape)
        return AWSResponse("https://aws.example", 200, {}, None), {**said, "ResponseMetadata": {}}


@contextmanager
def aws():
    """Give an empty account."""
    with mock_aws():
        yield Aws()


def addons(found):
    """Return answers to the questions after add-ons, each of `found` by its name; others are not there."""

    def describe(clusterName, addonName):  # noqa: N803 - AWS's names
        if addonName not in found:
            raise Refusal("ResourceNotFoundException")
        well = {
            "addonName": addonName,
            "clusterName": clusterName,
            "status": "ACTIVE",
            "addonVersion": "v1.0-eksbuild.1",
        }
        return {"addon": well | found[addonName]}

    return {"DescribeAddon": describe}


def associations(roles):
    """Return answers to the questions after pod identity associations of the EBS CSI driver."""

    def listed(clusterName, namespace, serviceAccount):  # noqa: N803
        assert (namespace, serviceAccount) == ("kube-system", "ebs-csi-controller-sa")
        return {"associations": [{"associationId": f"a-{place}"} for place in range(len(roles))]}

    def described(clusterName, associationId):  # noqa: N803
        return {"association": {"roleArn": roles[int(associationId.removeprefix("a-"))]}}

    return {"ListPodIdentityAssociations": listed, "DescribePodIdentityAssociation": described}


def quotas(by_code):
    """Return answers to the questions after quotas; one that nobody has changed is AWS's default."""

    def changed(ServiceCode, QuotaCode):  # noqa: N803
        if QuotaCode not in by_code:
            raise Refusal("NoSuchResourceException")
        return {"Quota": {"Value": by_code[QuotaCode]}}

    return {
        "GetServiceQuota": changed,
        "GetAWSDefaultServiceQuota": lambda ServiceCode, QuotaCode: {"Quota": {"Value": 5.0}},  # noqa: N803
    }


def versions(support="STANDARD_SUPPORT", **more):
    """Return the answer to the question after versions of Kubernetes."""
    return {
        "DescribeClusterVersions": lambda clusterVersions: {  # noqa: N803
            "clusterVersions": [{"clusterVersion": one, "versionStatus": support, **more} for one in clusterVersions]
        }
    }
