"""job.yaml: what it means, and what each mistake gets told."""

import pytest

from convoy.errors import BadInput
from convoy.spec.job import Job, Resources, read_job, read_job_document

WHOLE = """\
name: tumours
workflow: fedavg
with: {rounds: 5, min_sites: 2}
trainer: train.py
config: {lr: 0.1, local_epochs: 1}
model: train.py:initial
patience: 10m
resources: {cpu: 1, memory: 1Gi, gpu: 0}
sites: [site-1, site-2]
"""


def test_a_whole_job_is_read():
    assert read_job(WHOLE, "job.yaml") == Job(
        name="tumours",
        workflow="fedavg",
        with_={"rounds": 5, "min_sites": 2},
        trainer="train.py",
        config={"lr": 0.1, "local_epochs": 1},
        model="train.py:initial",
        patience_s=600,
        resources=Resources(cpu=1, memory=1 << 30, gpu=0),
        sites=("site-1", "site-2"),
    )


def test_name_and_trainer_are_enough():
    job = read_job("name: small\ntrainer: train.py\n", "job.yaml")
    assert (job.workflow, job.patience_s, job.sites, job.model) == ("fedavg", 600.0, None, None)


@pytest.mark.parametrize("text", [WHOLE, "name: small\ntrainer: t.py\npatience: 500ms\n"])
def test_a_job_survives_its_json(text):
    job = read_job(text, "job.yaml")
    assert Job.from_json(job.to_json()) == job


def test_json_that_is_no_job_is_refused():
    with pytest.raises(BadInput, match="not a stored job"):
        Job.from_json('{"trainer": "train.py"}')


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        ("workflow:", "workfow:", 'job.yaml:2:1: unknown key "workfow"'),
        ("10m", "soon", 'job.yaml:7:1: "patience" is "soon"; wanted a duration'),
        ("10m", "0s", 'job.yaml:7:1: "patience" is "0s"; wanted greater than 0'),
        ("1Gi", "lots", 'job.yaml:8:21: "resources.memory" is "lots"; wanted a size'),
        ("cpu: 1", "cpus: 1", 'job.yaml:8:13: unknown key "cpus"'),
        ("cpu: 1", "cpu: -1", 'job.yaml:8:13: "resources.cpu" is -1; wanted greater than or equal to 0'),
        ("{rounds: 5, min_sites: 2}", "5", 'job.yaml:3:1: "with" is 5; wanted a mapping'),
        ("tumours", "7", 'job.yaml:1:1: "name" is 7; wanted text'),
        ("tumours", "a/b", 'job.yaml:1:1: "name" is "a/b"; wanted letters'),
        ("[site-1, site-2]", "[site-1, site-1]", 'job.yaml:9:1: "sites" is the list'),
        ("[site-1, site-2]", "[]", 'job.yaml:9:1: "sites" is the list []; wanted a list of different sites'),
        ("[site-1, site-2]", "site-1", 'job.yaml:9:1: "sites" is "site-1"; wanted a list'),
        ("[site-1, site-2]", "[site-1, ../x]", 'job.yaml:9:17: "sites[1]" is "../x"; wanted letters'),
    ],
)
def test_each_mistake_has_its_own_message_with_the_line(old, new, message):
    with pytest.raises(BadInput) as caught:
        read_job(WHOLE.replace(old, new), "job.yaml")
    assert caught.value.what.startswith(message)


def test_a_typo_is_told_what_was_probably_meant():
    with pytest.raises(BadInput) as caught:
        read_job(WHOLE.replace("trainer:", "trianer:"), "job.yaml")
    assert "trainer" in caught.value.what + caught.value.why + caught.value.fix


def test_a_typo_in_a_mapping_within_is_told_what_was_probably_meant():
    with pytest.raises(BadInput) as caught:
        read_job(WHOLE.replace("cpu: 1", "cpus: 1").replace("workflow:", "wrokflow:"), "job.yaml")
    told = caught.value.what + caught.value.why + caught.value.fix
    assert 'did you mean "cpu"?' in told
    assert 'did you mean "workflow"?' in told


def test_several_mistakes_are_told_at_once():
    with pytest.raises(BadInput) as caught:
        read_job(WHOLE.replace("10m", "soon").replace("1Gi", "lots"), "job.yaml")
    assert "also job.yaml:8:21" in caught.value.why


def test_the_document_points_at_the_workflow_s_parameters_too():
    _, document = read_job_document(WHOLE, "job.yaml")
    assert document.where(("with", "min_sites")) == "job.yaml:3:19"


@pytest.mark.parametrize("name", ["12345678", "deadbeef", "0" * 32])
def test_a_job_is_not_named_like_the_beginning_of_an_id(name):
    with pytest.raises(BadInput, match="beginning of a job's id") as refused:
        read_job(f"name: '{name}'\ntrainer: train.py\n", "job.yaml")
    assert refused.value.where == "job.yaml:1:1"


@pytest.mark.parametrize("name", ["cafe", "c01a", "deadbeef-1", "DEADBEEF", "defaced-s", "0" * 33])
def test_a_name_that_no_id_begins_with_is_taken(name):
    assert read_job(f"name: '{name}'\ntrainer: train.py\n", "job.yaml").name == name
