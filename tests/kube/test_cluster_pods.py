"""Jobs in pods of their own on a real Kubernetes: the same model, nothing left, and trouble told in words."""

import json

import pytest

VALUES = """
server: {launcher: kubernetes, jobs: {cpu: 50m}}
sites:
  hospital-1: {launcher: kubernetes, jobs: {cpu: 50m, memory: 64Mi}}
"""

pytestmark = [pytest.mark.kube, pytest.mark.timeout(3000)]


@pytest.fixture(scope="module")
def launching(desk):
    """The federation, whose server and whose first hospital make a pod for each of their jobs."""
    policy = desk.folder / "workspace" / "breast_cancer" / "prod_00" / "hospital-1" / "local" / "policy.yaml"
    was = policy.read_text()
    policy.write_text(was + 'images: ["localhost/*"]\n')
    desk.up(VALUES)
    yield desk
    policy.write_text(was)
    desk.up()


def workers(desk):
    return [name for name, pod in desk.pods().items() if pod["metadata"]["labels"].get("convoy/launch")]


def test_a_job_in_pods_makes_the_same_model_and_leaves_nothing(launching, undisturbed):
    job = launching.job("in-pods", 1.0)
    seen = set()
    for rounds, _ in launching.watch(job):
        if rounds in (1, 2):
            seen |= {name.rsplit("-", 2)[0] for name in workers(launching)}
    assert launching.model(job) == undisturbed
    assert seen == {"server", "hospital-1"}
    launching.kubectl("wait", "--for=delete", "pod", "--selector=convoy/launch", "--timeout=60s")
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
    cannot = "hospital-1: its image cannot be pulled"
    assert any(cannot in seen["cause"] for seen in launching.seen(job))
    assert "its image cannot be pulled" in launching.convoy("job", "show", job)
    launching.convoy("job", "abort", job)
