"""The demo's federation in a real Kubernetes: jobs, faults, a drain, new sites, jobs in pods, kits on one volume."""

import json
import re
import signal

import pytest

from convoy.sim.plan import read_plan
from convoy.sim.run import run

LAUNCHING = """
server: {launcher: kubernetes, jobs: {cpu: 50m}}
sites:
  hospital-1: {launcher: kubernetes, jobs: {cpu: 50m, memory: 64Mi}}
"""

pytestmark = [pytest.mark.kube, pytest.mark.timeout(3000)]  # the cluster's binaries may have to be built


def test_a_job_goes_from_submit_to_the_fetched_model(undisturbed):
    assert len(undisturbed) > 400_000


def test_the_model_is_that_of_a_simulation_of_the_same_folder(workplace, undisturbed, tmp_path):
    plan = read_plan(workplace.folder / "calm", sites=["hospital-1", "hospital-2", "hospital-3"])
    run(plan, tmp_path / "out", workers=0)
    assert (tmp_path / "out" / "model.safetensors").read_bytes() == undisturbed


def test_twice_is_once(workplace):
    before = {name: pod["metadata"]["uid"] for name, pod in workplace.pods().items()}
    said = workplace.up()
    assert " unchanged\n" in said
    assert " made" not in said
    assert " changed" not in said
    assert {name: pod["metadata"]["uid"] for name, pod in workplace.pods().items()} == before


def test_status_and_logs_show_each_node(workplace):
    nodes = json.loads(workplace.convoy("kube", "status", "--json"))["nodes"]
    assert [(node["name"], node["state"]) for node in nodes] == [
        ("server", "ready"),
        *((f"hospital-{number}", "registered") for number in (1, 2, 3)),
    ]
    assert len({node["machine"] for node in nodes}) > 1
    assert "registered" in workplace.convoy("kube", "logs", "hospital-1")


def test_the_doctor_finds_no_trouble_where_a_federation_stands(workplace):
    said = json.loads(workplace.convoy("kube", "doctor", "--json"))
    assert said["ok"] is True
    assert {one["state"] for one in said["findings"]} == {"ok", "advice", "not checked"}


def test_pods_are_what_the_objects_say(workplace):
    for pod in workplace.pods().values():
        sources = [
            source for volume in pod["spec"]["volumes"] for source in volume.get("projected", {}).get("sources", [])
        ]
        assert not any("serviceAccountToken" in source for source in sources)
        assert pod["spec"]["containers"][0]["securityContext"]["readOnlyRootFilesystem"] is True
    assert workplace.kubectl("exec", "hospital-1-0", "--", "id", "-u").strip() == "65532"


@pytest.mark.parametrize("pod", ["server-0", "hospital-2-0"])
def test_a_pod_that_is_killed_in_mid_round_costs_no_round_and_no_bit(workplace, undisturbed, pod, record_property):
    job = workplace.job(f"killed-{pod}", 3)
    kill = ("delete", "pod", pod, "--grace-period=0", "--force", "--wait=false")
    last, seconds = workplace.disturbed(job, lambda: workplace.kubectl(*kill))
    record_property("seconds_to_the_next_round", seconds)
    assert last == 4
    assert workplace.model(job) == undisturbed


def test_a_machine_that_is_drained_in_mid_round_moves_its_pods_and_costs_no_bit(
    workplace, undisturbed, record_property
):
    machine = workplace.pods()["hospital-2-0"]["spec"]["nodeName"]
    job = workplace.job("drained", 3)
    try:
        last, seconds = workplace.disturbed(
            job, lambda: workplace.kubectl("drain", machine, "--delete-emptydir-data", "--force")
        )
    finally:
        workplace.kubectl("uncordon", machine)
    record_property("seconds_to_the_next_round", seconds)
    assert last == 4
    assert workplace.model(job) == undisturbed
    assert machine not in {pod["spec"]["nodeName"] for pod in workplace.pods().values()}


def test_a_new_site_joins_and_leaves_and_nobody_else_is_touched(workplace):
    before = {name: pod["metadata"]["uid"] for name, pod in workplace.pods().items()}
    project = workplace.folder / "project.yml"
    was = project.read_text()
    project.write_text(was + "  - {name: hospital-4, type: client, org: west}\n")
    said = workplace.up()
    assert "the server was told about hospital-4" in said
    assert "4 sites have registered" in said
    after = {name: pod["metadata"]["uid"] for name, pod in workplace.pods().items()}
    assert after.keys() - before.keys() == {"hospital-4-0"}
    assert {name: after[name] for name in before} == before
    project.write_text(was)
    said = workplace.up()
    assert "the server was told about the list of participants" in said
    assert "removes StatefulSet hospital-4" in said
    workplace.kubectl("wait", "--for=delete", "pod/hospital-4-0", "--timeout=60s")
    assert {name: pod["metadata"]["uid"] for name, pod in workplace.pods().items()} == before
    assert "hospital-4" not in {site["name"] for site in json.loads(workplace.convoy("site", "list", "--json"))}


def test_what_was_down_goes_on_with_its_volumes(workplace, undisturbed):
    said = workplace.convoy("kube", "down")
    assert "volumes stay" in said
    assert workplace.pods() == {}
    assert "3 sites have registered" in workplace.up()
    jobs = json.loads(workplace.convoy("job", "list", "--json"))
    assert "calm" in {job["name"] for job in jobs}


def test_an_image_that_is_not_there_is_said_in_words(workplace):
    seen = []
    with workplace.typing("kube", "up", "--image", "localhost/none:1", "--patience", "2m") as process:
        for line in process.stdout:
            seen.append(line)
            if "its image cannot be pulled" in line:
                process.send_signal(signal.SIGINT)
                break
    assert "its image cannot be pulled" in seen[-1], "".join(seen)
    # The next `up`, that of `launching`, finds pods that never start, and replaces them.


# ---- jobs in pods of their own ----


@pytest.fixture(scope="module")
def launching(workplace):
    """The federation, whose server and whose first hospital make a pod for each of their jobs."""
    policy = workplace.folder / "workspace" / "breast_cancer" / "prod_00" / "hospital-1" / "local" / "policy.yaml"
    was = policy.read_text()
    policy.write_text(was + 'images: ["localhost/*"]\n')
    assert "3 sites have registered" in workplace.up(LAUNCHING)
    yield workplace
    policy.write_text(was)


def workers(workplace):
    """Return the names of the workers' pods, without those that go."""
    found = {name: pod["metadata"] for name, pod in workplace.pods().items()}
    return [name for name, it in found.items() if "convoy/launch" in it["labels"] and "deletionTimestamp" not in it]


def test_a_job_in_pods_makes_the_same_model_and_leaves_nothing(launching, undisturbed):
    job = launching.job("in-pods", 1.0)
    seen = set()
    for rounds, _ in launching.watch(job):
        if rounds in (1, 2):
            seen |= {name.rsplit("-", 2)[0] for name in workers(launching)}
    assert launching.model(job) == undisturbed
    assert seen == {"server", "hospital-1"}
    (kept,) = re.findall(r"artifacts/ are kept at hospital-1: (\S+)", launching.convoy("job", "logs", job))
    assert launching.kubectl("exec", "hospital-1-0", "--", "cat", f"{kept}/round.txt") == "4 at hospital-1"
    launching.gone("pod", "--selector=convoy/launch")
    left = json.loads(launching.kubectl("get", "jobs,secrets", "--output=json"))["items"]
    assert [it["metadata"]["name"] for it in left if "convoy/launcher" in it["metadata"].get("labels", {})] == []


@pytest.mark.parametrize("node", ["hospital-1", "server"])
def test_a_worker_that_is_evicted_in_mid_round_is_started_again_and_costs_no_bit(
    launching, undisturbed, node, record_property
):
    job = launching.job(f"evicted-{node}", 1.5)

    def evict():
        (pod,) = [name for name in workers(launching) if name.startswith(f"{node}-")]
        launching.kubectl("delete", "pod", pod, "--wait=false")

    last, seconds = launching.disturbed(job, evict)
    record_property("seconds_to_the_next_round", seconds)
    assert last == 4
    assert launching.model(job) == undisturbed


def test_a_node_that_launches_may_make_jobs_and_read_no_secret(launching):
    def can(verb, what, *, does):
        who = "system:serviceaccount:breast-cancer:hospital-1"
        launching.kubectl("auth", "can-i", verb, what, f"--as={who}", code=0 if does else 1)

    for verb, what in (("create", "jobs"), ("delete", "jobs"), ("watch", "pods"), ("create", "secrets")):
        can(verb, what, does=True)
    for verb in ("get", "list", "watch", "update", "patch", "deletecollection"):
        can(verb, "secrets", does=False)
    for what in ("pods", "pods/exec", "serviceaccounts", "roles", "rolebindings", "statefulsets"):
        can("create", what, does=False)


def test_an_image_that_is_not_there_is_told_in_words_where_the_job_is_shown(launching):
    job = launching.job("no-image", 0, "image: localhost/none:1\nsites: [hospital-1]\n", at_least=1)
    told, cannot = launching.seen(job), "its image cannot be pulled"
    next(seen for seen in told if f"hospital-1: {cannot}" in seen["cause"] and seen["state"] == "running")
    assert cannot in launching.convoy("job", "show", job)
    launching.convoy("job", "abort", job)
    assert [*told][-1]["state"] == "aborted"  # what was told before the abort may come after it


# ---- all kits on one volume ----


@pytest.fixture(scope="module")
def one_volume(workplace):
    """The federation with its kits on one volume, and in the end in Secrets again."""
    said = workplace.up("kits: volume")
    assert "3 sites have registered" in said
    yield workplace
    workplace.up()
    assert "hospital-1-kit" in workplace.kubectl("get", "secrets")


def test_no_kit_is_in_a_secret_and_each_node_sees_its_own_alone(one_volume):
    secrets = json.loads(one_volume.kubectl("get", "secrets", "--output=json"))["items"]
    assert not [it for it in secrets if it["metadata"]["name"].endswith("-kit")]
    seen = one_volume.kubectl("exec", "hospital-1-0", "--", "ls", "/kit/startup").split()
    assert "root.crt" in seen
    assert "issuing.key" not in seen
    assert "issuing.key" in one_volume.kubectl("exec", "server-0", "--", "ls", "/kit/startup").split()


def test_on_a_volume_too_twice_is_once(one_volume):
    before = {name: pod["metadata"]["uid"] for name, pod in one_volume.pods().items()}
    assert " made" not in one_volume.up("kits: volume")
    assert {name: pod["metadata"]["uid"] for name, pod in one_volume.pods().items()} == before


def test_a_job_makes_the_same_model_with_kits_on_a_volume(one_volume, undisturbed):
    job = one_volume.job("on-a-volume", 0)
    assert [rounds for rounds, _ in one_volume.watch(job)][-1] == 4
    assert one_volume.model(job) == undisturbed
