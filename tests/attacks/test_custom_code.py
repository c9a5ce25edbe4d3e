"""Code of a job against the keys and the policy of whole nodes: real processes, a real submitter with few rights."""

import pytest

from convoy.errors import NotAllowed
from tests.federation import Federation
from tests.scenarios.conftest import adding, put_job

LEE = "lee@example.org"
FLOW = """
import json, os, pathlib
import convoy

def looked(place):
    try:
        return sorted(os.listdir(place))
    except OSError as problem:
        return type(problem).__name__

async def run(fleet):
    kit = os.environ["CONVOY_NODE_FOLDER"].rsplit("/", 1)[0]
    for place in (kit, kit + "/startup", kit + "/local", kit + "/work"):
        fleet.log(f"LOOKED {looked(place)}")
    for name in ("issuing.key", "node.key"):
        try:
            fleet.log("KEY " + pathlib.Path(kit, "startup", name).read_text())
        except OSError as problem:
            fleet.log(f"NO KEY {type(problem).__name__}")
    async for round in fleet.rounds(1):
        await round.commit(round.model)
"""


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    """A federation with a lead, whose server lets leads bring a workflow of their own."""
    settings = "custom_workflows: [project_admin, lead]"
    folder = tmp_path_factory.mktemp("code") / "fed"
    federation = Federation(folder, sites=1, people={LEE: ("org", "lead")}, server_settings=settings).up()
    yield federation
    federation.down()


def test_a_workflow_of_a_lead_runs_where_the_server_allows_it_and_reads_no_key(made, tmp_path):
    job = put_job(tmp_path / "own", {"flow.py": FLOW, "train.py": adding()}, workflow="flow.py:run")
    assert (made.server.kit / "startup" / "issuing.key").exists()
    with made.session(who=LEE) as session:
        detail = session.wait(session.submit(job).id)
        assert detail.job.state == "completed", detail.job.cause
        said = [line.text for line in session.logs(detail.job.id, site="server")]
        assert not [text for text in said if " KEY -----" in text]
        assert sum("NO KEY" in text for text in said) == 2
        for text in said:
            if "LOOKED" in text:
                assert "startup" not in text, text
                assert "policy.yaml" not in text, text
                assert "convoy.sqlite" not in text, text
        assert [site.missing for site in session.sites()] == [{}]


def test_a_trainer_cannot_change_the_policy_of_its_site(made, tmp_path):
    site = made.nodes["site-1"]
    policy = site.kit / "local" / "policy.yaml"
    before = policy.read_bytes()
    train = adding(
        f"""
        try:
            with open({str(policy)!r}, "w") as file:
                file.write("run: [{{role: member}}]")
        except OSError as problem:
            print("REFUSED", type(problem).__name__)
        """
    )
    with made.session(who=LEE) as session:
        job = put_job(tmp_path / "rewrite", {"train.py": train}, with_={"rounds": 1})
        detail = session.wait(session.submit(job).id)
        assert detail.job.state == "completed", detail.job.cause
        assert any("REFUSED" in line.text for line in session.logs(detail.job.id, site="site-1"))
    assert policy.read_bytes() == before


def test_a_server_refuses_a_workflow_of_a_lead_by_default_and_names_the_setting(tmp_path):
    made = Federation(tmp_path / "fed", sites=1, people={LEE: ("org", "lead")}).up()
    try:
        with made.session(who=LEE) as session:
            job = put_job(tmp_path / "own", {"flow.py": FLOW, "train.py": adding()}, workflow="flow.py:run")
            with pytest.raises(NotAllowed, match="may not run a workflow of their own") as refused:
                session.submit(job)
            assert "`custom_workflows` in the server's node.yaml lists project_admin, and you are lead" in str(
                refused.value
            )
            built_in = put_job(tmp_path / "built-in", {"train.py": adding()}, with_={"rounds": 1})
            assert session.wait(session.submit(built_in).id).job.state == "completed"
    finally:
        made.down()


def test_a_site_whose_policy_demands_isolation_takes_a_job_where_it_has_it(tmp_path):
    made = Federation(tmp_path / "fed", sites=1)
    with (made.nodes["site-1"].kit / "local" / "policy.yaml").open("a") as file:
        file.write("\nisolation: [files, processes, network]\n")
    made.up()
    try:
        with made.session() as session:
            job = put_job(tmp_path / "job", {"train.py": adding()}, with_={"rounds": 1}, patience="5s")
            (site,) = session.sites()
            detail = session.wait(session.submit(job).id)
            if site.missing:
                assert "cannot isolate jobs from its" in detail.members[0].reason
            else:
                assert detail.job.state == "completed", detail.job.cause
    finally:
        made.down()
