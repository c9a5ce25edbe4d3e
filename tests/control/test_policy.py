"""The rules of a site: who fits one may run code there, an approved bundle may, and everything else is denied."""

from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from convoy.control.policy import Host, Submitter, fits, refusal
from convoy.spec.job import Job, Resources
from convoy.spec.names import ROLES
from convoy.spec.policy import Limits, Policy, Rule

ORGS = ("a", "b", "c")
PEOPLE = ("ada@a.org", "bo@b.org")
DIGEST = "d" * 64
LEAD_OF_B = Submitter("bo@b.org", "b", "lead")
SITE = Host("site-1", "a")
JOB = Job(name="tumours", trainer="train.py")

submitters = st.builds(
    Submitter, st.sampled_from(PEOPLE), st.sampled_from(ORGS), st.sampled_from(("project_admin", "lead"))
)
rules = st.builds(
    Rule, st.sampled_from(("", *PEOPLE)), st.sampled_from(("", "own", *ORGS)), st.sampled_from(("", *ROLES))
)


def said(policy, job=JOB, who=LEAD_OF_B, host=SITE, digest=DIGEST) -> str:
    found = refusal(policy, job, who, host, digest)
    return "" if found is None else str(found)


@given(who=submitters, listed=st.lists(rules, max_size=4), org=st.sampled_from(ORGS), approved=st.booleans())
def test_code_runs_where_a_rule_lets_its_submitter_or_the_bundle_is_approved_and_nowhere_else(
    who, listed, org, approved
):
    host = Host("site-1", org, {DIGEST} if approved else set())
    lets = any(
        rule != Rule()
        and rule.person in ("", who.name)
        and rule.role in ("", who.role)
        and (rule.org in ("", who.org) or (rule.org == "own" and who.org == org))
        and not (rule.org == "own" and who.org != org)
        for rule in listed
    )
    assert (refusal(Policy(run=tuple(listed)), JOB, who, host, DIGEST) is None) is (lets or approved)


@given(who=submitters, org=st.sampled_from(ORGS))
def test_by_default_the_own_organisation_and_project_admins_may_and_nobody_else(who, org):
    lets = who.org == org or who.role == "project_admin"
    assert (refusal(Policy(), JOB, who, Host("s", org), DIGEST) is None) is lets


@given(who=submitters, rule=rules, more=rules)
def test_a_rule_with_more_parts_lets_nobody_in_whom_the_shorter_one_keeps_out(who, rule, more):
    longer = Rule(rule.person or more.person, rule.org or more.org, rule.role or more.role)
    assert rule == Rule() or not fits(longer, who, "a") or fits(rule, who, "a")


def test_an_empty_rule_fits_nobody_and_own_of_a_site_without_an_organisation_neither():
    assert not fits(Rule(), LEAD_OF_B, "b")
    assert not fits(Rule(org="own", role="lead"), LEAD_OF_B, "")


def test_a_refusal_names_the_rule_with_its_line_and_what_the_owner_may_type():
    assert said(Policy(run=(), places={"run": "policy.yaml:3"})).splitlines() == [
        "bo@b.org may not run code at site-1",
        "policy.yaml:3: no rule of `run` fits a lead of b",
        f"the owner of site-1 may approve this bundle there: convoy site approve {DIGEST} --kit KIT",
    ]
    assert "policy.yaml: there is no `run`, so code of its own organisation" in said(Policy())


def test_a_job_that_is_not_signed_yet_cannot_be_approved():
    assert "once it is submitted" in said(Policy(), host=replace(SITE, approved={DIGEST}), digest="")


@pytest.mark.parametrize(
    ("change", "word"),
    [
        ({"workflows": ("fedprox",)}, "policy.yaml: `workflows` lists fedprox"),
        ({"workflows": ()}, "`workflows` lists none"),
        ({"limits": Limits(cpu=1)}, "the job asks for 2 cores\npolicy.yaml:9: one job may ask site-1 for 1 cores"),
        ({"limits": Limits(memory=1 << 30)}, "the job asks for 2048Mi of memory"),
        ({"limits": Limits(gpu=0)}, "the job asks for 1 GPUs"),
    ],
)
def test_an_approval_lets_code_in_and_lifts_no_other_rule(change, word):
    job = Job(name="x", trainer="train.py", resources=Resources(cpu=2, memory=2 << 30, gpu=1))
    host, policy = Host("site-1", "a", {DIGEST}), Policy(places={"limits.cpu": "policy.yaml:9"})
    assert said(policy, job=job, host=host) == ""
    assert word in said(replace(policy, **change), job=job, host=host)


def test_patterns_name_a_jobs_own_workflow():
    own = Job(name="x", trainer="train.py", workflow="flow.py:run")
    assert said(Policy(workflows=("fedavg", "flow.py:*")), job=own, who=Submitter("a@a.org", "a", "lead")) == ""


def test_who_may_not_submit_and_whom_the_job_does_not_ask_come_first():
    assert said(Policy(run=(Rule(role="member"),)), who=Submitter("m@a.org", "a", "member")).startswith(
        "m@a.org may not submit jobs"
    )
    assert said(Policy(), job=Job(name="x", trainer="t.py", sites=["site-2"])) == (
        "the job is not for site-1\nit names site-2"
    )


@pytest.mark.parametrize(
    ("images", "makes_pods", "why"),
    [
        ((), True, "policy.yaml: `images` lists none"),
        (("other/*",), True, "policy.yaml: `images` lists other/*"),
        (("registry.example.org/*",), False, "jobs run there as the site's own processes"),
        (("registry.example.org/*",), True, ""),
    ],
)
def test_a_job_that_names_an_image_runs_where_jobs_have_pods_and_the_policy_lists_it(images, makes_pods, why):
    job = JOB.model_copy(update={"image": "registry.example.org/torch@sha256:1"})
    host = Host("site-1", "a", {DIGEST}, makes_pods=makes_pods)
    found = said(Policy(images=images), job, host=host)
    assert bool(found) is bool(why)
    assert why in found


def test_a_job_that_names_no_image_needs_no_rule_for_one():
    assert said(Policy(), host=Host("site-1", "a", {DIGEST}, makes_pods=True)) == ""
