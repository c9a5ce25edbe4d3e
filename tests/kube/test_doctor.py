"""A look at a cluster before `up`: what is judged from plain values, and the command against an API server."""

import json

import pytest

from convoy.kube import deployed, options, room
from convoy.kube.doctor import accesses
from convoy.kube.findings import Access, Facts, State, judged
from convoy.kube.naming import Place
from tests.cli.command_line import typed
from tests.kube.api_server import application, serving
from tests.kube.federations import DEMO, demo, made, said

GPU_TAINT = {"key": "nvidia.com/gpu", "value": "true", "effect": "NoSchedule"}
CLASS = {
    "metadata": {"name": "gp3", "annotations": {"storageclass.kubernetes.io/is-default-class": "true"}},
    "provisioner": "ebs.csi.aws.com",
    "volumeBindingMode": "WaitForFirstConsumer",
}


def node(name="one", *, cpu="2", memory="8Gi", pods="110", ready="True", taints=(), labels=None, **more):
    return {
        "metadata": {"name": name, "labels": labels or {}},
        "spec": {"taints": list(taints)},
        "status": {
            "allocatable": {"cpu": cpu, "memory": memory, "pods": pods, **more},
            "conditions": [{"type": "Ready", "status": ready}],
        },
    }


def pod(name, on, *, namespace="other", phase="Running", **requests):
    containers = [{"resources": {"requests": requests}}]
    spec = {"nodeName": on, "containers": containers}
    return {"metadata": {"name": name, "namespace": namespace}, "spec": spec, "status": {"phase": phase}}


def found(chosen=None, **facts):
    chosen = chosen or options.read(None)
    all_is_well = {
        "version": "v1.33.1-eks-1",
        "denied": [],
        "namespaces": ["breast-cancer"],
        "classes": [CLASS],
        "nodes": [node()],
        "pods": [],
        "claims": [],
    }
    return judged(Facts(**(all_is_well | facts)), Place(demo(), chosen), list(made(chosen, kits={}).values()))


def of(about, findings):
    return [(one.state, one.seen) for one in findings if one.name == about]


def trouble(findings):
    return [one.seen for one in findings if one.state is State.TROUBLE]


def test_where_all_is_well_nothing_is_in_the_way():
    findings = found()
    assert trouble(findings) == []
    assert [one.name for one in findings if one.state is State.ADVICE] == ["image"]
    assert [one.name for one in findings if one.state is State.UNSEEN] == ["image", "network"]


def test_whatever_is_not_well_says_what_to_do():
    chosen = options.Options(storage_class="gp9", create_namespace=False, site=options.Node(gpu=1))
    denied = [Access("create", "Secret", "breast-cancer")]
    findings = found(chosen, version="1.19", denied=denied, namespaces=[], classes=[], nodes=[node(memory="1Mi")])
    assert len(trouble(findings)) == 8
    assert all(one.fix for one in findings if one.state is not State.OK)


def test_who_makes_pods_beside_others_kits_is_told_to_live_alone():
    launches = {"hospital-1": options.Node(launcher="kubernetes")}
    (said,) = of("pods", found(options.Options(sites=launches)))
    assert said[0] is State.ADVICE
    assert said[1].startswith("hospital-1 may make pods in a namespace with other kits")
    assert of("pods", found(options.Options(sites=launches, per_organisation_namespaces=True))) == []
    assert of("pods", found()) == []


@pytest.mark.parametrize(
    ("version", "words"),
    [
        ("v1.33.1", []),
        ("v1.24.17-eks", ["Pod Security"]),
        ("v1.20.2", ["policy/v1", "Pod Security"]),
        ("v1.19.0", ["older than the oldest", "policy/v1", "Pod Security"]),
    ],
)
def test_an_old_cluster_is_told_what_it_does_not_hold(version, words):
    advice = [seen for state, seen in of("version", found(version=version)) if state is State.ADVICE]
    assert [word in seen for word, seen in zip(words, advice, strict=True)] == [True] * len(words)


def test_an_access_mode_that_the_cluster_is_too_old_for_is_trouble():
    chosen = options.Options(access_mode="ReadWriteOncePod")
    assert "1.29" in trouble(found(chosen, version="v1.28.0"))[0]
    assert trouble(found(chosen, version="v1.29.0")) == []


def test_a_version_that_nobody_can_read_is_not_judged():
    assert of("version", found(version="main"))[0][0] is State.UNSEEN


def test_rights_that_are_missing_are_named():
    denied = [Access("create", "Secret", "breast-cancer"), Access("get", "Pod", "breast-cancer", "log")]
    assert trouble(found(denied=denied)) == ["you may not create Secret, get Pod/log in breast-cancer"]
    assert "in the cluster" in trouble(found(denied=[Access("create", "Namespace", "")]))[0]


def test_a_forwarded_port_is_created_in_new_clusters_alone():
    denied = [Access("create", "Pod", "breast-cancer", "portforward")]
    assert trouble(found(denied=denied, version="v1.34.0")) == []
    assert len(trouble(found(denied=denied, version="v1.35.0"))) == 1


def test_rights_are_asked_for_all_that_up_makes_looks_at_and_waits_for():
    place = Place(demo(), options.read(None))
    asked = set(map(str, accesses(place, list(made().values()))))
    assert {"create Namespace", "patch StatefulSet", "list Secret", "delete NetworkPolicy", "watch Event"} <= asked
    assert {"get Pod/portforward", "get Pod/log", "delete Pod"} <= asked


@pytest.mark.parametrize(
    ("classes", "named", "state", "word"),
    [
        ([CLASS], "", State.OK, "gp3"),
        ([CLASS], "gp9", State.TROUBLE, "no StorageClass gp9"),
        ([], "", State.TROUBLE, "no StorageClass is the default"),
        ([CLASS | {"metadata": {"name": "a"}}], "", State.TROUBLE, "no StorageClass is the default"),
        ([CLASS, CLASS | {"metadata": CLASS["metadata"] | {"name": "b"}}], "", State.ADVICE, "more than one"),
        ([CLASS | {"volumeBindingMode": "Immediate"}], "", State.ADVICE, "another zone"),
        ([CLASS | {"provisioner": "kubernetes.io/no-provisioner"}], "", State.ADVICE, "makes no volumes"),
        (None, "", State.UNSEEN, "may not list"),
    ],
)
def test_volumes_come_from_a_class_that_is_there(classes, named, state, word):
    ((its, seen),) = of("storage", found(options.Options(storage_class=named), classes=classes))
    assert its is state
    assert word in seen


def test_data_that_a_site_is_to_show_must_be_there():
    chosen = options.Options(sites={"hospital-1": options.Node(data={"scans": "scans-claim"})})
    assert trouble(found(chosen)) == ["there is no claim scans-claim in breast-cancer"]
    assert trouble(found(chosen, claims=[("breast-cancer", "scans-claim")])) == []


def test_namespaces_that_up_does_not_make_must_be_there():
    chosen = options.Options(create_namespace=False)
    assert trouble(found(chosen)) == []
    assert trouble(found(chosen, namespaces=["x"])) == ["not there: breast-cancer"]
    assert of("namespaces", found(chosen, namespaces=None))[0][0] is State.UNSEEN


def test_machines_without_room_are_named_with_what_they_lack():
    (seen,) = trouble(found(nodes=[node(memory="512Mi")]))
    assert seen == "no node can run hospital-3 (one: not enough memory)"
    assert trouble(found(nodes=[node(pods="3")])) == ["no node can run hospital-3 (one: not enough pods)"]


def test_what_others_take_is_not_free():
    busy = pod("busy", "one", memory="7.5Gi")
    assert trouble(found(pods=[busy])) == ["no node can run hospital-3 (one: not enough memory)"]
    assert trouble(found(pods=[busy | {"status": {"phase": "Succeeded"}}])) == []
    assert of("room", found(pods=None))[-1] == (State.UNSEEN, "how much of it other pods use: you may not list them")


def test_a_federation_that_stands_needs_no_room_beside_itself():
    names = ("server", "hospital-1", "hospital-2", "hospital-3")
    pods = [pod(f"{name}-0", "one", namespace="breast-cancer", memory="128Mi", cpu="100m") for name in names]
    full = [node(cpu="600m", memory="700Mi")]
    assert trouble(found(nodes=full, pods=pods)) == []
    assert len(trouble(found(nodes=full, pods=[one | {"metadata": {"name": "x"}} for one in pods]))) == 3


def test_machines_that_are_not_ready_do_not_count():
    assert trouble(found(nodes=[node(ready="Unknown")])) == ["none of 1 nodes is ready and accepts pods"]
    assert (State.ADVICE, "not ready, or closed for new pods: two") in of(
        "room", found(nodes=[node(), node("two", ready="False")])
    )
    closed = node() | {"spec": {"unschedulable": True}}
    assert len(trouble(found(nodes=[closed]))) == 1


def test_a_gpu_needs_a_machine_that_offers_it_and_a_toleration_of_its_taint():
    asks = {"hospital-1": options.Node(gpu=1)}
    (none,) = [one for one in found(options.Options(sites=asks)) if one.name == "gpu"]
    assert "device plugin" in none.fix
    machines = [node(), node("gpu", taints=[GPU_TAINT], **{room.GPU: "1"})]
    (seen,) = trouble(found(options.Options(sites=asks), nodes=machines))
    assert "one: not enough nvidia.com/gpu; gpu: taint nvidia.com/gpu is not tolerated" in seen
    asks = {"hospital-1": options.Node(gpu=1, tolerations=({"key": "nvidia.com/gpu", "operator": "Exists"},))}
    findings = found(options.Options(sites=asks), nodes=machines)
    assert trouble(findings) == []
    assert of("gpu", findings) == [(State.OK, "NVIDIA's device plugin is running: up to 1 GPUs on one node")]


def test_a_pod_goes_only_where_its_selector_lets_it():
    chosen = options.Options(site=options.Node(node_selector={"kind": "gpu"}))
    assert len(trouble(found(chosen))) == 3
    assert trouble(found(chosen, nodes=[node(labels={"kind": "gpu"})])) == []


@pytest.mark.parametrize(
    ("text", "wanted"),
    [("250m", 0.25), ("1.5", 1.5), ("3920164Ki", 3920164 * 1024), ("1e3", 1000), ("2G", 2e9), ("1n", 1e-9), ("x", 0)],
)
def test_quantities_are_numbers(text, wanted):
    assert float(room.quantity(text)) == wanted


def test_an_image_that_is_pinned_is_the_one_that_was_meant():
    assert of("image", found())[0][0] is State.ADVICE
    pinned = options.Options(image=f"convoy@sha256:{'0' * 64}")
    assert of("image", found(pinned))[0][0] is State.OK


# the command, and the real client


def of_a_cluster(**more):
    healthy = {"version": "v1.33.1", "listed": {"nodes": [node()], "storageclasses": [CLASS]}, "allows": lambda _: True}
    return application(**(healthy | more))


async def doctor(app, folder, *words):
    async with serving(folder, app) as config:
        return await typed("kube", "doctor", "-p", DEMO, *words, cwd=folder, env={"KUBECONFIG": str(config)})


async def test_convoy_kube_doctor_says_that_all_is_well(tmp_path):
    done = await doctor(of_a_cluster(), tmp_path)
    assert done.code == 0, done.err
    assert "context made-up, namespace breast-cancer" in done.out
    assert "\nok           version  Kubernetes v1.33.1\n" in done.out
    assert "\nnot checked  network  whether NetworkPolicies are enforced" in done.out


async def test_what_is_not_allowed_ends_with_2_and_other_trouble_with_1(tmp_path):
    def allows(asked):
        return asked != {"group": "apps", "resource": "statefulsets", "verb": "create"} | {
            "namespace": "breast-cancer",
            "subresource": "",
        }

    done = await doctor(of_a_cluster(allows=allows), tmp_path)
    assert done.code == 2
    assert "you may not create StatefulSet in breast-cancer" in done.out
    done = await doctor(of_a_cluster(listed={"nodes": [node()]}), tmp_path, "--json")
    assert done.code == 1
    said_here = json.loads(done.out)
    assert said_here["ok"] is False
    assert [one["name"] for one in said_here["findings"] if one["state"] == "trouble"] == ["storage"]
    assert "trouble in 1 of 8 findings" in json.loads(done.err)["error"]["what"]


async def test_what_may_not_be_listed_is_not_looked_at(tmp_path):
    hidden = ("nodes", "pods", "storageclasses", "namespaces", "persistentvolumeclaims")
    done = await doctor(of_a_cluster(hidden=hidden), tmp_path)
    assert done.code == 0, done.err
    assert done.out.count("not checked") == 4


async def test_without_a_word_it_looks_at_what_up_remembered(tmp_path):
    folder = tmp_path / "workspace" / "breast_cancer"
    folder.mkdir(parents=True)
    chosen = said(tmp_path, "namespace: study\nimage: own@sha256:1").model_dump_json()
    deployed.keep(folder, deployed.Deployed("made-up", "study", "server-0", 8003, "", chosen))
    done = await doctor(of_a_cluster(), tmp_path)
    assert "namespace study" in done.out
    assert "own@sha256:1 is pinned" in done.out
    done = await doctor(of_a_cluster(), tmp_path, "--namespace", "other")
    assert "namespace other" in done.out
