"""Command lines of other people's tools, checked without them: aws by its own models, the rest by a list."""

import re
import shlex

import botocore.exceptions
import botocore.session
from botocore import xform_name

SESSION = botocore.session.get_session()
GLOBAL = {"region", "output", "query", "profile"}
OWN = {  # of aws itself, with no call of that name behind them: their options
    ("eks", "update-kubeconfig"): {"name"},
    ("ecr", "get-login-password"): set(),
}
KNOWN = {  # from the sources of each, by hand: a command's words, and the options that it may have
    "eksctl create cluster": "-f",
    "eksctl create nodegroup": "-f --cluster --region --name --node-type --nodes --node-zones "
    "--node-private-networking",
    "eksctl create addon": "-f --cluster --region --name",
    "eksctl create podidentityassociation": "--cluster --region --namespace --service-account-name "
    "--create-service-account --permission-policy-arns --well-known-policies",
    "eksctl scale nodegroup": "--cluster --region --name --nodes",
    "eksctl upgrade cluster": "--name --region --version --approve",
    "eksctl upgrade nodegroup": "--cluster --region --name --kubernetes-version",
    "eksctl utils associate-iam-oidc-provider": "--cluster --region --approve",
    "eksctl delete cluster": "--name --region --wait",
    "kubectl apply": "-f --context",
    "kubectl annotate storageclass": "--context",
    "kubectl delete storageclass": "--context",
    "kubectl delete pvc": "-n --context",
    "kubectl describe daemonset": "-n --context",
    "kubectl rollout restart": "-n --context",
    "kubectl wait": "-n --for --timeout",
    "podman build": "-f -t --platform",
    "podman push": "--digestfile",
    "podman login": "--username --password-stdin",
    "helm repo add": "",
    "helm install": "--namespace --set",
    "mkdir": "-p",
    "cat": "",
}
FLAGS = {"--approve", "--wait", "--node-private-networking", "--create-service-account", "--password-stdin", "-p"}
INSIDE = re.compile(r"\$\(([^()]*)\)")


def split(line):
    """Yield the words of each command of a shell line: of pipes, of `&&`, and of what stands in $(…)."""
    for match in INSIDE.finditer(line):
        yield from split(match[1])
    words = []
    plain = INSIDE.sub("X", line)
    for word in [*shlex.split(plain, comments=True), "&&"]:
        if word in ("|", "&&"):
            if words and not (len(words) == 1 and re.match(r"[A-Z]+=", words[0])):
                yield words
            words = []
        else:
            words.append(word)


def wrong(words):
    """Return what is wrong with a command of another tool than ours; None where nothing is."""
    return wrong_aws(words[1:]) if words[0] == "aws" else wrong_other(words)


def wrong_aws(words):
    """Return what is wrong with a command of `aws`, by the models that the real one is generated from."""
    service, operation, *rest = words
    if operation == "wait":
        waiter, *rest = rest
        model = SESSION.get_waiter_model(service)
        names = {xform_name(name, "-"): name for name in model.waiter_names}
        if waiter not in names:
            return f"aws {service} waits for no {waiter}"
        operation = xform_name(model.get_waiter(names[waiter]).operation, "-")
    given = {word.removeprefix("--") for word in rest if word.startswith("--")}
    if (service, operation) in OWN:
        unknown = given - OWN[service, operation] - GLOBAL
        return f"aws {service} {operation} has no {unknown}" if unknown else None
    try:
        model = SESSION.get_service_model(service)
    except botocore.exceptions.UnknownServiceError:
        return f"aws has no {service}"
    operations = {xform_name(name, "-"): name for name in model.operation_names}
    if operation not in operations:
        return f"aws {service} has no {operation}"
    shape = model.operation_model(operations[operation]).input_shape
    options = {xform_name(name, "-") for name in shape.members}
    unknown = given - options - GLOBAL
    lacks = {xform_name(name, "-") for name in shape.required_members} - given
    if unknown or lacks:
        return f"aws {service} {operation}: unknown {sorted(unknown)}, lacks {sorted(lacks)}"
    return None


def wrong_other(words):
    """Return what is wrong with a command of a tool whose options we know by hand."""
    plain, given, waits = [], set(), False
    for word in words:
        if word.startswith("-"):
            given.add(word)
            waits = word not in FLAGS
        elif not waits:
            plain.append(word)
        else:
            waits = False
    name = next((name for name in sorted(KNOWN, key=len, reverse=True) if " ".join(plain).startswith(name)), None)
    if name is None:
        return f"not known: {' '.join(words)}"
    unknown = given - set(KNOWN[name].split())
    return f"{name} has no {sorted(unknown)}" if unknown else None


def files(words):
    """Return the files that a command reads by -f, -r or --values."""
    return [words[at + 1] for at, word in enumerate(words[:-1]) if word in ("-f", "-r", "--values")]
