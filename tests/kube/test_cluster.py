"""The demo's federation in a real Kubernetes: up, a job to its model, faults in mid-round, a drain, a new site."""

import json
import subprocess
import sys

import pytest

pytestmark = [pytest.mark.kube, pytest.mark.timeout(3000)]  # the cluster's binaries may have to be built


def test_a_job_goes_from_submit_to_the_fetched_model(undisturbed):
    assert len(undisturbed) > 400_000


def test_twice_is_once(desk):
    before = {name: pod["metadata"]["uid"] for name, pod in desk.pods().items()}
    said = desk.up()
    assert " unchanged\n" in said
    assert " made" not in said
    assert " changed" not in said
    assert {name: pod["metadata"]["uid"] for name, pod in desk.pods().items()} == before


def test_status_and_logs_show_each_node(desk):
    nodes = json.loads(desk.convoy("kube", "status", "--json"))["nodes"]
    assert [(node["name"], node["state"]) for node in nodes] == [
        ("server", "ready"),
        *((f"hospital-{number}", "registered") for number in (1, 2, 3)),
    ]
    assert len({node["machine"] for node in nodes}) > 1
    assert "registered" in desk.convoy("kube", "logs", "hospital-1")


def test_the_doctor_finds_no_trouble_where_a_federation_stands(desk):
    said = json.loads(desk.convoy("kube", "doctor", "--json"))
    assert said["ok"] is True
    assert {one["state"] for one in said["findings"]} == {"ok", "advice", "not looked at"}


def test_pods_are_what_the_objects_say(desk):
    for pod in desk.pods().values():
        sources = [
            source for volume in pod["spec"]["volumes"] for source in volume.get("projected", {}).get("sources", [])
        ]
        assert not any("serviceAccountToken" in source for source in sources)
        assert pod["spec"]["containers"][0]["securityContext"]["readOnlyRootFilesystem"] is True
    assert desk.kubectl("exec", "hospital-1-0", "--", "id", "-u").strip() == "65532"


@pytest.mark.parametrize("pod", ["server-0", "hospital-2-0"])
def test_a_pod_that_is_killed_in_mid_round_costs_no_round_and_no_bit(desk, undisturbed, pod, record_property):
    job = desk.job(f"killed-{pod}", 1.5)
    kill = ("delete", "pod", pod, "--grace-period=0", "--force", "--wait=false")
    last, seconds = desk.disturbed(job, lambda: desk.kubectl(*kill))
    record_property("seconds_to_the_next_round", seconds)
    assert last == 4
    assert desk.model(job) == undisturbed
    assert seconds < 60


def test_a_machine_that_is_drained_in_mid_round_moves_its_pods_and_costs_no_bit(desk, undisturbed, record_property):
    machine = desk.pods()["hospital-2-0"]["spec"]["nodeName"]
    job = desk.job("drained", 1.5)
    try:
        last, seconds = desk.disturbed(job, lambda: desk.kubectl("drain", machine, "--delete-emptydir-data", "--force"))
    finally:
        desk.kubectl("uncordon", machine)
    record_property("seconds_to_the_next_round", seconds)
    assert last == 4
    assert desk.model(job) == undisturbed
    assert machine not in {pod["spec"]["nodeName"] for pod in desk.pods().values()}


def test_a_new_site_joins_and_leaves_and_nobody_else_is_touched(desk):
    before = {name: pod["metadata"]["uid"] for name, pod in desk.pods().items()}
    project = desk.folder / "project.yml"
    was = project.read_text()
    project.write_text(was + "  - {name: hospital-4, type: client, org: west}\n")
    said = desk.up()
    assert "the server knows of hospital-4" in said
    assert "4 sites have registered" in said
    after = {name: pod["metadata"]["uid"] for name, pod in desk.pods().items()}
    assert after.keys() - before.keys() == {"hospital-4-0"}
    assert {name: after[name] for name in before} == before
    project.write_text(was)
    said = desk.up()
    assert "the server knows of who is who" in said
    assert "removes StatefulSet hospital-4" in said
    desk.kubectl("wait", "--for=delete", "pod/hospital-4-0", "--timeout=60s")
    assert {name: pod["metadata"]["uid"] for name, pod in desk.pods().items()} == before
    assert "hospital-4" not in {site["name"] for site in json.loads(desk.convoy("site", "list", "--json"))}


def test_what_was_down_goes_on_with_its_volumes(desk, undisturbed):
    said = desk.convoy("kube", "down")
    assert "volumes stay" in said
    assert desk.pods() == {}
    assert "3 sites have registered" in desk.up()
    jobs = json.loads(desk.convoy("job", "list", "--json"))
    assert "calm" in {job["name"] for job in jobs}


def test_an_image_that_is_not_there_is_said_in_words(desk):
    out = subprocess.run(
        [sys.executable, "-m", "convoy.cli.main", "kube", "up", "--image", "localhost/none:1", "--patience", "10s"],
        cwd=desk.folder,
        env=desk.env,
        capture_output=True,
        text=True,
        check=False,
    )
    assert out.returncode == 3, out.stderr
    assert "its image cannot be pulled" in out.stderr
    desk.up()
