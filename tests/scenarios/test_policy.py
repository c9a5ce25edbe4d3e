"""The site's last word in a real federation: who may run code, approval, what stays at the site."""

import asyncio
import json
import subprocess
import sys

import pytest

from convoy.admin.client import connect
from tests.federation import Federation
from tests.scenarios.conftest import adding, left_out, put_job, took_part
from tests.scenarios.test_patience import until_member

pytestmark = pytest.mark.scenario

BO = "bo@clinic-b.org"
SECRET = "patient 17 is 93 years old"


@pytest.fixture(scope="module")
def two(tmp_path_factory):
    """Two organisations with a site each; the second one has a lead and no project_admin."""
    federation = Federation(
        tmp_path_factory.mktemp("two") / "fed",
        sites=2,
        orgs={"site-2": "clinic-b"},
        people={BO: ("clinic-b", "lead")},
    ).up()
    yield federation
    federation.down()


@pytest.fixture
def policy(two):
    """Write a site's policy for the length of a test."""
    before = {}

    def write(site, text):
        file = two.nodes[site].kit / "local" / "policy.yaml"
        before.setdefault(file, file.read_text())
        file.write_text(text)
        return file

    yield write
    for file, text in before.items():
        file.write_text(text)


def typed(*words, code=0):
    """Run a command and return what it printed."""
    command = [sys.executable, "-m", "convoy.cli.main", *map(str, words)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == code, done.stdout + done.stderr
    return done.stdout if code == 0 else done.stderr


def reason_of(session, job, site):
    """Return why a site refused a job."""
    return next(member.reason for member in session.job(job).members if member.site == site)


def test_a_lead_of_another_organisation_is_refused_with_the_rule_and_an_approval_lets_the_running_job_go_on(
    two, tmp_path
):
    job = put_job(tmp_path / "job", {"train.py": adding()}, with_={"rounds": 2, "min_sites": 2}, patience="60s")
    site = two.nodes["site-1"].kit
    with two.session(who=BO) as session:
        sent = session.submit(job)
        until_member(session, sent.id, "site-1", "refused")
        reason = reason_of(session, sent.id, "site-1")
        assert f"{BO} may not run code at site-1: policy.yaml:6: no rule of `run` fits a lead of clinic-b" in reason
        (held,) = json.loads(typed("site", "refused", "--kit", site, "--json"))["refused"]
        assert (held["job"], held["submitter"], held["reason"]) == (sent.id, BO, reason)
        typed("site", "refused", held["digest"][:12], "--kit", site, "-o", tmp_path / "read")
        assert (tmp_path / "read" / "train.py").read_text() == (job / "train.py").read_text()
        assert f"convoy site approve {held['digest']} --kit KIT" in reason
        for seen in session.watch(sent.id):
            if seen.job.cause:  # site-2 has answered
                break
        assert seen.job.cause == f"site-1 refused the job: {reason}"

        said = typed("site", "approve", held["digest"][:12], "--kit", site)
        assert f"site-1 may run job of {BO}" in said
        assert "the site's agent asks for the job again" in said
        detail = session.wait(sent.id)
        assert detail.job.state == "completed", detail.job.cause
        assert [took_part(made) for made in detail.rounds if made.round] == [["site-1", "site-2"]] * 2
        again = session.clone(sent.id)  # signed anew: another bundle
        until_member(session, again.id, "site-1", "refused")
        session.abort(again.id)
    assert "no job waits" in typed("site", "refused", "--kit", site)


def test_a_site_that_refused_is_asked_once_more_when_it_comes_back_and_the_job_waits_for_its_patience(two, tmp_path):
    job = put_job(tmp_path / "job", {"train.py": adding()}, with_={"rounds": 1, "min_sites": 2}, patience="60s")
    node = two.nodes["site-1"]
    with two.session(who=BO) as session:
        sent = session.submit(job)
        until_member(session, sent.id, "site-1", "refused")
        (held,) = json.loads(typed("site", "refused", "--kit", node.kit, "--json"))["refused"]
        node.stop()
        assert "the site's agent is not running" in typed("site", "approve", held["digest"], "--kit", node.kit)
        node.start()
        assert session.wait(sent.id).job.state == "completed"


def test_a_job_that_too_few_sites_take_fails_when_its_patience_is_over_and_says_who_refused(two, tmp_path):
    job = put_job(tmp_path / "job", {"train.py": adding()}, with_={"rounds": 1, "min_sites": 2}, patience="5s")
    with two.session(who=BO) as session:
        detail = session.wait(session.submit(job).id)
    assert (detail.job.state, detail.job.patience_out) == ("failed", True)
    assert "site-1: refused the job: bo@clinic-b.org may not run code at site-1" in detail.job.cause


def test_others_go_on_without_the_site_that_refuses(two, policy, tmp_path):
    policy("site-2", "# clinic-b\nrun: [{org: own}]\nworkflows: [fedavg]\n")
    job = put_job(tmp_path / "job", {"train.py": adding()}, with_={"rounds": 2, "min_sites": 1})
    with two.session() as session:
        detail = session.wait(session.submit(job).id)
    assert detail.job.state == "completed"
    assert all(took_part(made) == ["site-1"] for made in detail.rounds if made.round)
    assert "policy.yaml:2: no rule of `run` fits a project_admin of org" in left_out(detail.rounds[-1])["site-2"]


def test_logs_metrics_and_tracebacks_stay_where_the_policy_says_so(two, policy, tmp_path):
    policy("site-1", "leave: {logs: false, metrics: false}\n")
    body = f"""
    print("{SECRET}", task.site)
    if task.round == 2 and number == 1:
        raise ValueError("{SECRET} at " + task.site)
    """
    job = put_job(tmp_path / "job", {"train.py": adding(body)}, with_={"rounds": 2, "min_sites": 2})
    with two.session() as session:
        detail = session.wait(session.submit(job).id)
        logs = {site: [line.text for line in session.logs(detail.job.id, site=site)] for site in two.nodes}
    assert detail.job.state == "failed"
    assert detail.rounds[1].metrics == {"number": 2.0}  # site-2's alone, whose number is its weight too
    assert [(share.site, share.weight) for share in detail.rounds[1].took_part] == [("site-1", 1.0), ("site-2", 2.0)]
    assert any(SECRET in line for line in logs["site-2"])
    assert [line.split(" ", 1)[1] for line in logs["site-1"]] == ["convoy: the log stays at site-1"]
    assert left_out(detail.rounds[2])["site-1"] == "train: the trainer failed (the rest stays at site-1)"
    assert SECRET not in detail.model_dump_json()


def test_a_policy_that_breaks_while_the_site_runs_refuses_jobs_with_its_line(two, policy, tmp_path):
    policy("site-2", "run: [{orgs: own}]\n")
    job = put_job(tmp_path / "job", {"train.py": adding()}, with_={"rounds": 1, "min_sites": 1})
    with two.session() as session:
        detail = session.wait(session.submit(job).id)
    assert 'policy.yaml:1:8: unknown key "orgs"' in left_out(detail.rounds[-1])["site-2"]


def test_policy_check_tells_in_advance(two, policy, tmp_path):
    job = put_job(tmp_path / "job", {"train.py": adding()}, resources={"cpu": 2})
    site, admin = two.nodes["site-1"].kit, two.prod / "ada@example.org"
    assert "site-1 would take job from ada@example.org, project_admin of org" in typed(
        "policy", "check", job, "--kit", site, "--as", "ada@example.org"
    )
    refused = typed("policy", "check", job, "--kit", site, "--as", BO, code=1)
    assert "policy.yaml:6: no rule of `run` fits a lead of clinic-b" in refused
    assert "the submitter of the job is not known" in typed("policy", "check", job, "--kit", site, code=4)
    assert "eve@x.org is not an admin of bench" in typed(
        "policy", "check", job, "--kit", site, "--as", "eve@x.org", code=2
    )
    assert "contains no site policy" in typed("policy", "check", job, "--kit", admin, code=4)
    other = tmp_path / "other.yaml"
    other.write_text("limits: {cpu: 1}\n")
    assert "other.yaml:1: one job may ask" in typed("policy", "check", job, "--kit", admin, "--policy", other, code=1)


def test_policy_check_knows_a_signed_bundle_and_its_approval(two, tmp_path):
    async def packed():
        async with connect(two.prod / BO, server="localhost") as client:
            return await client.pack(put_job(tmp_path / "job", {"train.py": adding()}))

    file, site = tmp_path / "bundle", two.nodes["site-1"].kit
    file.write_bytes(asyncio.run(packed()))
    refused = typed("policy", "check", file, "--kit", site, code=1)
    digest = refused.split("convoy site approve ")[1].split()[0]
    typed("site", "approve", digest, "--kit", site, "--note", "read by Cem")
    assert f"would take job from {BO}" in typed("policy", "check", file, "--kit", site)
    assert "read by Cem" in (site / "local" / "approved.yaml").read_text()
    file.write_bytes(file.read_bytes()[:-1] + b"#")
    assert "train.py differs from the file that was signed" in typed("policy", "check", file, "--kit", site, code=1)


@pytest.mark.parametrize(
    ("digest", "code", "word"),
    [
        ("abc", 4, "is not a digest"),
        ("g" * 12, 4, "is not a digest"),
        ("0" * 12, 1, "no bundles that this site refused begin with"),
    ],
)
def test_what_is_no_digest_of_a_refused_bundle_is_not_approved(two, digest, code, word):
    assert word in typed("site", "approve", digest, "--kit", two.nodes["site-1"].kit, code=code)
    assert "is the kit of an admin" in typed("site", "approve", digest, "--kit", two.prod / "ada@example.org", code=4)
